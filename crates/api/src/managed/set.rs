//! Sets of field paths, as trees whose branches are sorted.
//!
//! Invariant: a branch is a member or has members below it.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/fieldpath/set.go

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use super::path::PathElement;
use super::schema::Ref;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    branches: Vec<Branch>,
}

/// One step from a node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub element: PathElement,
    /// Whether the path that ends here is in the set.
    pub member: bool,
    /// What of it is in the set.
    pub children: Set,
}

impl Set {
    /// The empty set.
    pub const fn new() -> Self {
        Self { branches: Vec::new() }
    }

    /// A set of paths of fields.
    pub fn of_fields(paths: &[&[&'static str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|name| PathElement::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    pub(super) fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// Takes branches in any order; equal ones become one.
    pub(super) fn from_branches(mut branches: Vec<Branch>) -> Self {
        branches.retain(|branch| branch.member || !branch.children.is_empty());
        if !branches.is_sorted_by(|a, b| a.element < b.element) {
            branches.sort_by(|a, b| a.element.cmp(&b.element));
            branches.dedup_by(|next, kept| {
                let same = next.element == kept.element;
                if same {
                    kept.member |= next.member;
                    kept.children = kept.children.union(&next.children);
                }
                same
            });
        }
        Self { branches }
    }

    fn find(&self, element: &PathElement) -> Result<usize, usize> {
        self.branches.binary_search_by(|branch| branch.element.cmp(element))
    }

    pub(super) fn get(&self, element: &PathElement) -> Option<&Branch> {
        self.find(element).ok().map(|at| &self.branches[at])
    }

    /// Adds a path. The empty path names the whole object, which nobody owns.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else { return };
        let at = match self.find(first) {
            Ok(at) => at,
            Err(at) => {
                let children = Self::new();
                let branch = Branch { element: first.clone(), member: false, children };
                self.branches.insert(at, branch);
                at
            }
        };
        let branch = &mut self.branches[at];
        if rest.is_empty() {
            branch.member = true;
        } else {
            branch.children.insert(rest);
        }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    /// How many paths are in the set.
    pub fn len(&self) -> usize {
        self.branches.iter().map(|b| usize::from(b.member) + b.children.len()).sum()
    }

    /// Whether a path is in the set.
    pub fn has(&self, path: &[PathElement]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let Some(branch) = self.get(first) else { return false };
        if rest.is_empty() { branch.member } else { branch.children.has(rest) }
    }

    /// Merges two sets branch by branch. `both` decides about branches that both have; `left` and
    /// `right` say whether branches of one side alone are kept.
    fn zip(
        &self,
        other: &Self,
        (left, right): (bool, bool),
        both: &mut dyn FnMut(&Branch, &Branch) -> Option<Branch>,
    ) -> Self {
        let (mut i, mut j) = (0, 0);
        let (a, b) = (&self.branches, &other.branches);
        let mut branches = Vec::new();
        while i < a.len() && j < b.len() {
            match a[i].element.cmp(&b[j].element) {
                Ordering::Less => {
                    if left {
                        branches.push(a[i].clone());
                    }
                    i += 1;
                }
                Ordering::Greater => {
                    if right {
                        branches.push(b[j].clone());
                    }
                    j += 1;
                }
                Ordering::Equal => {
                    branches.extend(both(&a[i], &b[j]));
                    i += 1;
                    j += 1;
                }
            }
        }
        if left {
            branches.extend_from_slice(&a[i..]);
        }
        if right {
            branches.extend_from_slice(&b[j..]);
        }
        Self { branches }
    }

    /// What is in either set.
    pub fn union(&self, other: &Self) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        self.zip(other, (true, true), &mut |a, b| {
            branch(&a.element, a.member || b.member, a.children.union(&b.children))
        })
    }

    /// What is in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, (false, false), &mut |a, b| {
            branch(&a.element, a.member && b.member, a.children.intersection(&b.children))
        })
    }

    /// What is in this set and not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        self.zip(other, (true, false), &mut |a, b| {
            branch(&a.element, a.member && !b.member, a.children.difference(&b.children))
        })
    }

    /// What is in this set and neither in the other nor below one of its paths.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        self.zip(other, (true, false), &mut |a, b| {
            if b.member {
                return None;
            }
            branch(&a.element, a.member, a.children.recursive_difference(&b.children))
        })
    }

    /// The paths below which no other path of the set lies.
    pub fn leaves(&self) -> Self {
        let branches = self.branches.iter().map(|b| Branch {
            element: b.element.clone(),
            member: b.member && b.children.is_empty(),
            children: b.children.leaves(),
        });
        Self { branches: branches.collect() }
    }

    /// The set together with the fields of structs on the way to its members.
    pub(super) fn with_named_fields(&self, at: Ref) -> Self {
        let map = at.atom().map;
        let list = at.atom().list;
        let branches = self.branches.iter().map(|b| {
            let field = match (&b.element, map) {
                (PathElement::Field(name), Some(map)) => map.field(name),
                _ => None,
            };
            let below = match (&b.element, map, list) {
                (PathElement::Field(_), Some(map), _) => field.or(map.element),
                (PathElement::Key(_), _, Some(list)) => Some(list.item),
                _ => None,
            };
            Branch {
                element: b.element.clone(),
                member: b.member || field.is_some(),
                children: b.children.with_named_fields(below.unwrap_or(Ref::Nothing)),
            }
        });
        Self { branches: branches.collect() }
    }

    /// All paths, members of a node before what lies deeper.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, out: &mut Vec<Vec<PathElement>>) {
        for branch in self.branches.iter().filter(|b| b.member) {
            let mut path = prefix.clone();
            path.push(branch.element.clone());
            out.push(path);
        }
        for branch in self.branches.iter().filter(|b| !b.children.is_empty()) {
            prefix.push(branch.element.clone());
            branch.children.collect(prefix, out);
            prefix.pop();
        }
    }
}

fn branch(element: &PathElement, member: bool, children: Set) -> Option<Branch> {
    (member || !children.is_empty()).then(|| Branch { element: element.clone(), member, children })
}
