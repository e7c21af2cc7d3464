//! Removes what a schema does not know.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning/algorithm.go

use serde_json::Value;

use super::Node;

/// Most bytes of the paths that are told; more are only dropped.
pub const PATH_BYTES_MAX: usize = 1024 * 1024;

/// Whether a field is one that every object has.
pub(super) fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// Where the walk is, and the unknown fields that it came by.
#[derive(Default)]
pub(super) struct Unknown {
    path: String,
    bytes: usize,
    pub found: Vec<String>,
}

impl Unknown {
    /// Adds the path of a field of the current place.
    fn tell(&mut self, name: &str) {
        self.bytes += self.path.len() + name.len() + 1;
        if self.bytes <= PATH_BYTES_MAX {
            let dot = if self.path.is_empty() { "" } else { "." };
            self.found.push(format!("{}{dot}{name}", self.path));
        }
    }

    /// Adds a path that is known already.
    pub fn add(&mut self, path: String) {
        self.bytes += path.len();
        if self.bytes <= PATH_BYTES_MAX {
            self.found.push(path);
        }
    }

    /// Goes to a field, does something there and comes back.
    pub fn at_field<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let out = work(self);
        self.path.truncate(length);
        out
    }

    /// Goes to an item, does something there and comes back.
    pub fn at_item<T>(&mut self, index: usize, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let out = work(self);
        self.path.truncate(length);
        out
    }

    pub fn sorted(mut self) -> Vec<String> {
        self.found.sort_unstable();
        self.found
    }
}

impl Node {
    /// Removes unknown fields of a value; gives their paths, sorted. `whole`: the value is an object
    /// with `apiVersion`, `kind` and `metadata`, which stay.
    pub fn prune(&self, value: &mut Value, whole: bool) -> Vec<String> {
        let mut unknown = Unknown::default();
        prune(value, Some(self), whole, &mut unknown);
        unknown.sorted()
    }
}

fn prune(value: &mut Value, node: Option<&Node>, whole: bool, unknown: &mut Unknown) {
    let embedded = whole || node.is_some_and(|node| node.embedded_resource);
    let preserve = node.is_some_and(|node| node.preserve_unknown_fields);
    match value {
        Value::Object(fields) => {
            let top = unknown.path.is_empty();
            fields.retain(|name, value| {
                if embedded && is_meta(name) {
                    return true;
                }
                if let Some(below) = node.and_then(|node| node.field(name)) {
                    unknown.at_field(name, |unknown| prune(value, below, false, unknown));
                    return true;
                }
                // The top's own are told by whoever reads them.
                if !preserve && (node.is_none() || !is_meta(name) || !top) {
                    unknown.tell(name);
                }
                preserve
            });
        }
        Value::Array(items) => {
            let item = node.and_then(|node| node.items.as_deref());
            for (index, value) in items.iter_mut().enumerate() {
                unknown.at_item(index, |unknown| {
                    if preserve {
                        keep(value, item, unknown);
                    } else {
                        prune(value, item, false, unknown);
                    }
                });
            }
        }
        _ => {}
    }
}

/// As [`prune`] where the list around says that unknown fields stay.
fn keep(value: &mut Value, node: Option<&Node>, unknown: &mut Unknown) {
    let Some(node) = node else { return };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if node.embedded_resource && is_meta(name) {
                    continue;
                }
                if let Some(below) = node.field(name) {
                    unknown.at_field(name, |unknown| prune(value, below, false, unknown));
                }
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                unknown.at_item(index, |unknown| keep(value, node.items.as_deref(), unknown));
            }
        }
        _ => {}
    }
}
