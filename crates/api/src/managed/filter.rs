//! Which fields a write through a resource or subresource can change at all.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/fieldpath/set.go Filter

use super::compare::Comparison;
use super::path::PathElement;
use super::set::{Branch, Set};

/// The fields that a write through a resource or subresource changes. The others are reset
/// whatever the request says, so nobody gets to manage them by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// All but these fields and what is below them.
    Except(&'static [&'static [&'static str]]),
}

impl Filter {
    /// What of a set can be changed.
    pub fn apply(self, set: Set) -> Set {
        if set.is_empty() {
            return set;
        }
        match self {
            Self::All => set,
            Self::Except(paths) => except(set, paths),
        }
    }

    /// What of a difference can be changed.
    pub fn apply_to(self, comparison: Comparison) -> Comparison {
        Comparison {
            added: self.apply(comparison.added),
            modified: self.apply(comparison.modified),
            removed: self.apply(comparison.removed),
        }
    }
}

fn except(set: Set, paths: &[&[&str]]) -> Set {
    let concerned = |branch: &Branch| {
        let name = branch.element.field_name();
        name.is_some_and(|name| paths.iter().any(|path| path.first() == Some(&name)))
    };
    if !set.branches().iter().any(concerned) {
        return set;
    }
    let mut out = set;
    for path in paths {
        let path: Vec<PathElement> = path.iter().map(|name| PathElement::named(name)).collect();
        let mut one = Set::new();
        one.insert(&path);
        out = out.recursive_difference(&one);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::codec;
    use super::*;

    #[test]
    fn reset_fields_go_with_all_below_them() {
        let set = codec::decode(&json!({
            "f:metadata": {"f:labels": {"f:a": {}}},
            "f:spec": {".": {}, "f:x": {}},
            "f:status": {"f:a": {}},
        }))
        .expect("a set");
        let filter = Filter::Except(&[&["status"], &["metadata", "labels"]]);
        assert_eq!(
            codec::encode(&filter.apply(set.clone())),
            json!({"f:spec": {".": {}, "f:x": {}}})
        );
        assert_eq!(Filter::All.apply(set.clone()), set);
        assert_eq!(Filter::Except(&[&["other"]]).apply(set.clone()), set);
    }
}
