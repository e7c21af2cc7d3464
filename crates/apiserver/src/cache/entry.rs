//! One stored object: its canonical bytes, encoded once, and what selectors need of it.
//!
//! Invariant: the bytes of an entry are shared by every GET, LIST and WATCH and never copied.

use bytes::{BufMut, Bytes, BytesMut};
use longshore_api::Object;
use serde_json::Value;

/// An object as encoded for the store: JSON without a resource version, which is the store's own
/// revision, behind four bytes that say where the resource version belongs.
pub fn encode_stored(object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&[0; 4]);
    let mut offset = 0;
    out.push(b'{');
    for (i, (key, value)) in object.root().iter().enumerate() {
        open_field(&mut out, i, key);
        match (key.as_str(), value) {
            ("metadata", Value::Object(metadata)) => {
                out.push(b'{');
                let fields = metadata.iter().filter(|(k, _)| *k != "resourceVersion");
                for (j, (key, value)) in fields.enumerate() {
                    if j > 0 {
                        out.push(b',');
                    }
                    // Keys are sorted: the version goes in front of the first key after its own.
                    if offset == 0 && key.as_str() > "resourceVersion" {
                        offset = out.len() - 4;
                    }
                    write_json(&mut out, &Value::String(key.clone()));
                    out.push(b':');
                    write_json(&mut out, value);
                }
                out.push(b'}');
            }
            _ => write_json(&mut out, value),
        }
    }
    out.push(b'}');
    assert!(offset > 0, "a stored object has a uid");
    let offset = u32::try_from(offset).expect("objects are limited to a few megabytes");
    out[..4].copy_from_slice(&offset.to_le_bytes());
    out.into()
}

fn open_field(out: &mut Vec<u8>, index: usize, key: &str) {
    if index > 0 {
        out.push(b',');
    }
    write_json(out, &Value::String(key.to_owned()));
    out.push(b':');
}

fn write_json(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("a JSON tree always encodes into memory");
}

/// What is wrong with a stored value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored object {key} is damaged: {why}")]
pub struct Damaged {
    /// The store key.
    pub key: String,
    /// What does not hold.
    pub why: String,
}

/// One object at one revision.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The store key.
    pub key: Bytes,
    /// The revision of the last write: the resource version.
    pub revision: u64,
    /// Namespace; empty for cluster scope.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels in key order.
    pub labels: Vec<(String, String)>,
    /// Field-selector values.
    pub fields: Vec<(&'static str, String)>,
    json: Bytes,
    splice_at: usize,
    splice_len: usize,
}

/// How a resource gets its field-selector values.
pub type FieldsOf = dyn Fn(&Object) -> Vec<(&'static str, String)> + Send + Sync;

impl Entry {
    /// Reads a stored value as of a revision.
    pub fn decode(
        key: &Bytes,
        stored: &Bytes,
        revision: u64,
        fields_of: &FieldsOf,
    ) -> Result<Self, Damaged> {
        let damaged = |why: &str| Damaged {
            key: String::from_utf8_lossy(key).into_owned(),
            why: why.to_owned(),
        };
        let (head, body) = stored.split_at_checked(4).ok_or_else(|| damaged("too short"))?;
        let splice_at = u32::from_le_bytes(head.try_into().expect("split at four")) as usize;
        if splice_at >= body.len() {
            return Err(damaged("the version offset is outside of the object"));
        }
        let object: Value = serde_json::from_slice(body).map_err(|e| damaged(&e.to_string()))?;
        let object = Object::from_value(object).ok_or_else(|| damaged("not an object"))?;
        let version = format!("\"resourceVersion\":\"{revision}\",");
        let mut json = BytesMut::with_capacity(body.len() + version.len());
        json.put_slice(&body[..splice_at]);
        json.put_slice(version.as_bytes());
        json.put_slice(&body[splice_at..]);
        let labels = object.labels().map_or_else(Vec::new, |labels| {
            labels
                .iter()
                .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
                .collect()
        });
        Ok(Self {
            key: key.clone(),
            revision,
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            labels,
            fields: fields_of(&object),
            json: json.freeze(),
            splice_at,
            splice_len: version.len(),
        })
    }

    /// The object's JSON with its resource version.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The same object with another resource version: a deletion is told with the last state and
    /// the revision of the deletion.
    pub fn at_revision(&self, revision: u64) -> Self {
        let version = format!("\"resourceVersion\":\"{revision}\",");
        let mut json = BytesMut::with_capacity(self.json.len() + version.len());
        json.put_slice(&self.json[..self.splice_at]);
        json.put_slice(version.as_bytes());
        json.put_slice(&self.json[self.splice_at + self.splice_len..]);
        let mut entry = self.clone();
        entry.revision = revision;
        entry.json = json.freeze();
        entry.splice_len = version.len();
        entry
    }

    /// The parsed object.
    pub fn object(&self) -> Object {
        let value = serde_json::from_slice(&self.json).expect("the entry was made from valid JSON");
        Object::from_value(value).expect("the entry was made from a JSON object")
    }

    /// One label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A field selector's value; `None` for a field that the resource does not select by.
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => self.fields.iter().find(|(k, _)| *k == name).map(|(_, v)| v.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Object {
        Object::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
            "metadata": {"name": "n", "namespace": "s", "uid": "u", "labels": {"x": "y"},
                "annotations": {"t": "\"resourceVersion\":\"1\",\"uid\":"}},
        }))
        .expect("an object")
    }

    #[test]
    fn the_version_is_spliced_into_metadata() {
        let key = Bytes::from_static(b"/registry/configmaps/s/n");
        let entry = Entry::decode(&key, &encode_stored(&object()), 17, &|_| Vec::new())
            .expect("what was encoded decodes");
        let mut want = object();
        want.set(&["metadata", "resourceVersion"], "17");
        assert_eq!(entry.object(), want);
        assert_eq!(entry.label("x"), Some("y"));
        let later = entry.at_revision(123_456);
        want.set(&["metadata", "resourceVersion"], "123456");
        assert_eq!(later.object(), want);
        want.set(&["metadata", "resourceVersion"], "2");
        assert_eq!(later.at_revision(2).object(), want);
    }

    #[test]
    fn damaged_values_are_errors() {
        let key = Bytes::from_static(b"k");
        for stored in [&b""[..], b"\0\0\0\0", b"\xff\0\0\0{}", b"\x01\0\0\0[]", b"\x01\0\0\0{"] {
            let stored = Bytes::copy_from_slice(stored);
            assert!(Entry::decode(&key, &stored, 1, &|_| Vec::new()).is_err());
        }
    }
}
