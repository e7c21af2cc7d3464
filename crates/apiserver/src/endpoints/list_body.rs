//! The body of a list of canonical JSON, made while it is sent: a list costs the server one chunk
//! of memory for each reader, however long it is.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use serde_json::Value;

use super::read;
use crate::body::{Body, full, stream as body_of};
use crate::cache::Entry;
use crate::registry::{Served, shown};

/// Bytes that are made at once. A list that is not longer has a length in its answer.
const CHUNK_BYTES: usize = 256 << 10;

/// What of a list is still to be sent.
struct Rest {
    served: Arc<Served>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    /// What stands in front of the next item.
    before: &'static [u8],
    ended: bool,
}

/// The body of a list with these items.
pub fn body(served: &Arc<Served>, meta: &Value, entries: Vec<Arc<Entry>>) -> Body {
    let open = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
        served.resource.list_kind(),
        served.api_version
    );
    let mut rest =
        Rest { served: served.clone(), entries: entries.into_iter(), before: b"", ended: false };
    let first = rest.chunk(open.into_bytes());
    if rest.ended {
        return full(first);
    }
    body_of(stream::unfold((Some(first), rest), |(first, mut rest)| async move {
        let chunk = match first {
            Some(first) => first,
            None if rest.ended => return None,
            None => rest.chunk(Vec::new()),
        };
        Some((Ok(Frame::data(chunk)), (None, rest)))
    }))
}

impl Rest {
    /// The next part, behind what is in `out`.
    fn chunk(&mut self, mut out: Vec<u8>) -> Bytes {
        // A short list is not worth a large buffer.
        let items = self.entries.as_slice().iter().take(1 + CHUNK_BYTES / 1024);
        let size: usize = items.map(|entry| entry.json_bytes_max() + 1).sum();
        out.reserve_exact(size.min(CHUNK_BYTES) + 8);
        while out.len() < CHUNK_BYTES || self.entries.as_slice().is_empty() {
            let Some(entry) = self.entries.next() else {
                out.extend_from_slice(b"]}\n");
                self.ended = true;
                break;
            };
            out.extend_from_slice(self.before);
            self.before = b",";
            let custom = self.served.resource.custom.is_some();
            if read::is_native(&self.served, &entry) {
                if custom { entry.write_json(&mut out) } else { entry.write_item(&mut out) }
            } else {
                let object = shown(&self.served, entry.object());
                let item = read::list_item(&self.served, object);
                longshore_api::json::write(&mut out, &item);
            }
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use longshore_api::Object;
    use serde_json::json;

    use super::*;
    use crate::cache::entry::encode_stored;
    use crate::registry::ServedTable;

    #[tokio::test]
    async fn long_and_short_lists_are_whole() {
        let table = ServedTable::new(longshore_resources::all());
        let served = table.get("", "v1", "configmaps").expect("served");
        let mut entries = Vec::new();
        let mut items = Vec::new();
        let entry = |number: usize| {
            let mut object = Object::from_value(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": {"text": "x".repeat(5000)},
                "metadata": {"name": format!("n{number:03}"), "namespace": "s", "uid": "u"},
            }))
            .expect("an object");
            let key = served.cache.key("s", object.name());
            let entry = served.cache.decode(&key, &encode_stored(&object), 7).expect("it decodes");
            object.set(&["metadata", "resourceVersion"], "7");
            (Arc::new(entry), read::list_item(&served, object))
        };
        for count in [0, 1, 52, 53, 200] {
            while entries.len() < count {
                let (entry, item) = entry(entries.len());
                entries.push(entry);
                items.push(item);
            }
            let body = body(&served, &json!({"resourceVersion": "9"}), entries.clone());
            let exact = http_body::Body::size_hint(&body).exact().is_some();
            assert_eq!(exact, count <= 52, "{count}");
            let bytes = body.collect().await.expect("a body").to_bytes();
            let list: Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(list["kind"], "ConfigMapList");
            assert_eq!(list["metadata"]["resourceVersion"], "9");
            assert_eq!(list["items"], Value::from(items.clone()), "{count}");
        }
    }
}
