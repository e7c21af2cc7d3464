//! One stored object: its canonical bytes, encoded once, and what selectors need of it.
//!
//! Invariant: the bytes of an object are in memory once, shared with the store; the resource
//! version is put in when they are sent.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use longshore_api::Object;
use serde::de::IgnoredAny;

use super::layout::{HEADER_BYTES, Layout, encode, quoted};
use super::view::View;

/// An object as encoded for the store; see [`encode`].
pub fn encode_stored(object: &Object) -> Bytes {
    encode(object).0
}

/// The name of the object under a store key.
pub fn name_in(key: &[u8]) -> &str {
    let at = key.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    std::str::from_utf8(&key[at..]).unwrap_or_default()
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

/// Field-selector values in the order of the view's names.
type Fields = Arc<[Box<str>]>;

/// What is known of a stored value beside its bytes.
#[derive(Clone)]
pub struct Parts {
    layout: Layout,
    view: Arc<dyn View>,
    /// The bytes that are shown, where they are not the stored ones.
    shown: Option<Box<Bytes>>,
    /// Made when somebody asks, for a value that was read back: few ever do.
    fields: OnceLock<Fields>,
}

/// One object at one revision.
#[derive(Clone)]
pub struct Entry {
    /// The store key.
    pub key: Bytes,
    /// The revision of the last write: the resource version.
    pub revision: u64,
    stored: Bytes,
    parts: Parts,
}

/// The longest text of a revision with its name: `"resourceVersion":"18446744073709551615",`.
const VERSION_BYTES_MAX: usize = 41;

impl Parts {
    /// Encodes an object for the store and keeps what is known of it.
    pub fn of(object: &Object, view: &Arc<dyn View>) -> (Bytes, Self) {
        let (stored, layout) = encode(object);
        let parts = Self { layout, view: view.clone(), shown: None, fields: OnceLock::new() };
        if view.restores() {
            return (stored.clone(), parts.restored(&stored, object.clone()));
        }
        let fields = OnceLock::from(fields(object, &**view));
        (stored, Self { fields, ..parts })
    }

    /// The same with the form that the object is shown in.
    fn restored(mut self, stored: &Bytes, mut object: Object) -> Self {
        self.view.restore(&mut object);
        let (shown, layout) = encode(&object);
        if shown != *stored {
            self.shown = Some(Box::new(shown));
        }
        self.layout = layout;
        self.fields = OnceLock::from(fields(&object, &*self.view));
        self
    }
}

fn fields(object: &Object, view: &dyn View) -> Fields {
    view.field_values(object).into_iter().map(String::into_boxed_str).collect()
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, body) =
            (String::from_utf8_lossy(&self.key), String::from_utf8_lossy(self.body()));
        f.debug_tuple("Entry").field(&key).field(&self.revision).field(&body).finish()
    }
}

impl Entry {
    /// A stored value as of a revision, of which everything is known.
    pub fn new(key: &Bytes, stored: &Bytes, revision: u64, parts: Parts) -> Self {
        Self { key: key.clone(), revision, stored: stored.clone(), parts }
    }

    /// Reads a stored value as of a revision.
    pub fn decode(
        key: &Bytes,
        stored: &Bytes,
        revision: u64,
        view: &Arc<dyn View>,
    ) -> Result<Self, Damaged> {
        let damaged = |why: &str| Damaged {
            key: String::from_utf8_lossy(key).into_owned(),
            why: why.to_owned(),
        };
        let body = stored.get(HEADER_BYTES..).ok_or_else(|| damaged("too short"))?;
        let checked: Result<IgnoredAny, _> = serde_json::from_slice(body);
        checked.map_err(|e| damaged(&e.to_string()))?;
        let layout = Layout::find(stored).ok_or_else(|| damaged("not as this server writes it"))?;
        let mut parts = Parts { layout, view: view.clone(), shown: None, fields: OnceLock::new() };
        if view.restores() {
            let value = serde_json::from_slice(body).map_err(|e| damaged(&e.to_string()))?;
            let object = Object::from_value(value).ok_or_else(|| damaged("not an object"))?;
            parts = parts.restored(stored, object);
        }
        Ok(Self::new(key, stored, revision, parts))
    }

    /// Whether this is what a view shows of the stored value.
    pub fn is_seen_by(&self, view: &Arc<dyn View>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.parts.view), Arc::as_ptr(view))
    }

    /// The same stored value as another view sees it.
    pub fn seen_by(&self, view: &Arc<dyn View>) -> Result<Self, Damaged> {
        Self::decode(&self.key, &self.stored, self.revision, view)
    }

    fn shown(&self) -> &Bytes {
        self.parts.shown.as_deref().unwrap_or(&self.stored)
    }

    fn body(&self) -> &[u8] {
        &self.shown()[HEADER_BYTES..]
    }

    fn part(&self, (start, end): (u32, u32)) -> &[u8] {
        self.body().get(start as usize..end as usize).unwrap_or_default()
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        name_in(&self.key)
    }

    /// The object's namespace; empty for cluster scope.
    pub fn namespace(&self) -> &str {
        if !self.parts.layout.namespaced {
            return "";
        }
        let segments = self.key.rsplit(|byte| *byte == b'/');
        segments.skip(1).map(std::str::from_utf8).next().and_then(Result::ok).unwrap_or_default()
    }

    /// The object's JSON with its resource version.
    pub fn json(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.json_bytes_max());
        self.write_json(&mut out);
        out.into()
    }

    /// As [`Entry::json`], with an end of line behind it: the body of an answer.
    pub fn json_line(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.json_bytes_max() + 1);
        self.write_json(&mut out);
        out.push(b'\n');
        out.into()
    }

    /// How long the JSON is at most.
    pub fn json_bytes_max(&self) -> usize {
        self.shown().len() + VERSION_BYTES_MAX
    }

    /// Appends the object's JSON with its resource version.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let (before, after) = self.body().split_at(self.parts.layout.version as usize);
        out.extend_from_slice(before);
        self.write_version(out);
        out.extend_from_slice(after);
    }

    /// Appends the object as it stands in a list: without `apiVersion` and `kind`.
    pub fn write_item(&self, out: &mut Vec<u8>) {
        let Layout { head, kind, version, .. } = self.parts.layout;
        out.push(b'{');
        out.extend_from_slice(self.part((head.max(1), kind.0.max(head).max(1))));
        out.extend_from_slice(self.part((kind.1.max(head).max(1), version)));
        self.write_version(out);
        out.extend_from_slice(&self.body()[version as usize..]);
    }

    fn write_version(&self, out: &mut Vec<u8>) {
        let mut digits = [b'0'; 20];
        let (mut at, mut rest) = (digits.len(), self.revision);
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(&digits[at..]);
        out.extend_from_slice(b"\",");
    }

    /// Whether the object was stored in a version.
    pub fn is_of_version(&self, api_version: &str) -> bool {
        let field = self.part((1, self.parts.layout.head));
        let text = field.strip_prefix(b"\"apiVersion\":\"".as_slice());
        text.and_then(|text| text.strip_prefix(api_version.as_bytes())) == Some(b"\",")
    }

    /// The same object with another resource version: a deletion is told with the last state and
    /// the revision of the deletion.
    pub fn at_revision(&self, revision: u64) -> Self {
        Self { revision, ..self.clone() }
    }

    /// Whether these are the bytes that are stored.
    pub fn is_stored_as(&self, stored: &[u8]) -> bool {
        self.stored == stored
    }

    /// The parsed object.
    pub fn object(&self) -> Object {
        let value = serde_json::from_slice(self.body()).expect("the entry was made of valid JSON");
        let mut object = Object::from_value(value).expect("the entry was made of a JSON object");
        object.set(&["metadata", "resourceVersion"], self.revision.to_string());
        object
    }

    /// Keys and values of the labels as they stand in JSON, in order of the keys. Texts with characters that JSON escapes
    /// are none that a label may have; they are given escaped.
    fn labels(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.part(self.parts.layout.labels);
        std::iter::from_fn(move || {
            let (key, after) = quoted(rest)?;
            let (value, after) = quoted(after.strip_prefix(b":")?)?;
            rest = after.strip_prefix(b",").unwrap_or_default();
            Some((key, value))
        })
    }

    /// One label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        let (_, value) = self.labels().find(|(k, _)| *k == key.as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    /// A field selector's value; `None` for a field that the resource does not select by.
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => {
                let at = self.parts.view.field_names().iter().position(|field| *field == name)?;
                self.fields().get(at).map(|value| &**value)
            }
        }
    }

    fn fields(&self) -> &Fields {
        self.parts.fields.get_or_init(|| fields(&self.object(), &*self.parts.view))
    }
}

#[cfg(test)]
mod tests {
    use longshore_resources::table::Text;
    use serde_json::json;

    use super::*;

    fn object() -> Object {
        Object::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b", "k": "\"kind\":"},
            "metadata": {"name": "n", "namespace": "s", "uid": "u", "labels": {"w": "", "x": "y"},
                "annotations": {"t": "\"resourceVersion\":\"1\",\"uid\":"}},
        }))
        .expect("an object")
    }

    struct Kinds(Vec<Text>);

    impl View for Kinds {
        fn field_names(&self) -> &[Text] {
            &self.0
        }

        fn field_values(&self, object: &Object) -> Vec<String> {
            self.0.iter().map(|_| object.kind().to_owned()).collect()
        }
    }

    /// Shows every object with a label more.
    struct Labels;

    impl View for Labels {
        fn field_names(&self) -> &[Text] {
            &[]
        }

        fn field_values(&self, _: &Object) -> Vec<String> {
            Vec::new()
        }

        fn restores(&self) -> bool {
            true
        }

        fn restore(&self, object: &mut Object) {
            object.set(&["metadata", "labels", "more"], "1");
        }
    }

    fn no_fields() -> Arc<dyn View> {
        Arc::new(Kinds(Vec::new()))
    }

    #[test]
    fn the_version_is_put_into_metadata() {
        let key = Bytes::from_static(b"/registry/configmaps/s/n");
        let entry = Entry::decode(&key, &encode_stored(&object()), 17, &no_fields())
            .expect("what was encoded decodes");
        let mut want = object();
        for revision in [17, 123_456, 2, u64::MAX] {
            want.set(&["metadata", "resourceVersion"], revision.to_string());
            let entry = entry.at_revision(revision);
            assert_eq!(entry.object(), want);
            assert_eq!(entry.json(), want.clone().into_value().to_string());
            assert!(entry.json().len() <= entry.json_bytes_max());
        }
        assert_eq!(
            (entry.label("x"), entry.label("w"), entry.label("v")),
            (Some("y"), Some(""), None)
        );
        assert_eq!((entry.namespace(), entry.name()), ("s", "n"));
        let of = |version| entry.is_of_version(version);
        assert_eq!([of("v1"), of("v"), of("v11"), of("")], [true, false, false, false]);
    }

    #[test]
    fn what_is_handed_over_is_what_would_be_read() {
        let key = Bytes::from_static(b"/registry/configmaps/s/n");
        let of: Arc<dyn View> = Arc::new(Kinds(vec!["kind".into()]));
        let (stored, parts) = Parts::of(&object(), &of);
        let new = Entry::new(&key, &stored, 3, parts);
        let read = Entry::decode(&key, &stored, 3, &of).expect("what was encoded decodes");
        assert_eq!(format!("{new:?}"), format!("{read:?}"));
        assert_eq!(new.parts.layout, read.parts.layout);
        assert_eq!(new.fields(), read.fields());
        assert_eq!(new.field("kind"), Some("ConfigMap"));
        assert!(new.is_stored_as(&encode_stored(&new.object())));
    }

    #[test]
    fn what_is_shown_may_differ_from_what_is_stored() {
        let key = Bytes::from_static(b"/registry/configmaps/s/n");
        let view: Arc<dyn View> = Arc::new(Labels);
        let stored = encode_stored(&object());
        let read = Entry::decode(&key, &stored, 3, &view).expect("what was encoded decodes");
        let (written, parts) = Parts::of(&object(), &view);
        assert_eq!(written, stored);
        for entry in [&read, &Entry::new(&key, &stored, 3, parts)] {
            assert_eq!((entry.label("more"), entry.label("x")), (Some("1"), Some("y")));
            assert_eq!(entry.object().label("more"), Some("1"));
            assert!(entry.is_stored_as(&stored));
        }
        let plain = read.seen_by(&no_fields()).expect("the same value");
        assert_eq!(plain.label("more"), None);
    }

    #[test]
    fn items_lose_their_kind() {
        let key = Bytes::from_static(b"/registry/configmaps/s/n");
        let entry = Entry::decode(&key, &encode_stored(&object()), 5, &no_fields())
            .expect("what was encoded decodes");
        let mut want = object();
        want.set(&["metadata", "resourceVersion"], "5");
        want.remove(&["apiVersion"]);
        want.remove(&["kind"]);
        let mut item = Vec::new();
        entry.write_item(&mut item);
        assert_eq!(String::from_utf8(item).expect("text"), want.into_value().to_string());
    }

    #[test]
    fn damaged_values_are_errors() {
        let key = Bytes::from_static(b"k");
        for stored in [&b""[..], b"\0\0\0\0", b"\xff\0\0\0{}", b"\x01\0\0\0[]", b"\x01\0\0\0{"] {
            let stored = Bytes::copy_from_slice(stored);
            assert!(Entry::decode(&key, &stored, 1, &no_fields()).is_err());
        }
    }
}
