//! Brings field sets in line with the schema: what has become atomic is managed as a whole.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/typed/reconcile_schema.go

use super::schema::{Atom, Ref};
use super::set::{Branch, Set};

/// The set as the schema has it; none when nothing changes.
pub(super) fn reconcile(set: &Set, at: Ref) -> Option<Set> {
    let atom = at.atom();
    let mut changed = false;
    let branches = set.branches().iter().map(|branch| match below(branch, &atom) {
        Some(new) => {
            changed = true;
            new
        }
        None => branch.clone(),
    });
    let branches: Vec<Branch> = branches.collect();
    changed.then(|| Set::from_branches(branches))
}

/// The branch as the schema has it; none when nothing changes.
fn below(branch: &Branch, parent: &Atom) -> Option<Branch> {
    if branch.children.is_empty() {
        return None;
    }
    let at = match (parent.map, parent.list) {
        (Some(map), _) => match branch.element.field_name() {
            Some(name) => map.at(name)?,
            None => map.element?,
        },
        (None, Some(list)) => list.item,
        (None, None) => return None,
    };
    if matches!(at, Ref::Deduced) {
        return None;
    }
    let atom = at.atom();
    let atomic = match (atom.map, atom.scalar, atom.list) {
        // Free-form values are left as they are.
        (Some(map), ..) if matches!(map.element, Some(Ref::Deduced)) => return None,
        (Some(map), ..) => map.atomic,
        (None, Some(_), _) => return None,
        (None, None, list) => !list?.associative,
    };
    let element = branch.element.clone();
    if atomic {
        return Some(Branch { element, member: true, children: Set::new() });
    }
    let children = reconcile(&branch.children, at)?;
    Some(Branch { element, member: branch.member, children })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::codec;
    use super::*;

    #[test]
    fn what_is_atomic_is_managed_as_a_whole() {
        let pod = crate::schema::kind("", "v1", "Pod").expect("a built-in kind");
        let reconciled = |fields| {
            let set = codec::decode(&fields).expect("a set");
            reconcile(&set, Ref::object(pod)).map(|set| codec::encode(&set))
        };
        let fields = json!({"f:spec": {
            "f:nodeSelector": {".": {}, "f:a": {}},
            "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:command": {"i:0": {}}}},
        }});
        let want = json!({"f:spec": {
            "f:nodeSelector": {},
            "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:command": {}}},
        }});
        assert_eq!(reconciled(fields), Some(want.clone()));
        assert_eq!(reconciled(want), None);
        assert_eq!(reconciled(json!({"f:nothing": {"f:a": {}}})), None);
    }
}
