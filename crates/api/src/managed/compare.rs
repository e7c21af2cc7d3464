//! What changed between two states of an object, as sets of paths.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/typed/compare.go

use std::collections::BTreeMap;

use serde_json::{Map as Fields, Value};

use super::item::identify;
use super::path::PathElement;
use super::schema::{Declared, Form, List, Map, Ref, Typing, of_field};
use super::set::{Branch, Set};
use super::{Error, value};
use crate::complete::{complete_part, implied};
use crate::schema::{Field, Type};

/// The difference of two states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What only the new state has.
    pub added: Set,
    /// What both have with different values.
    pub modified: Set,
    /// What only the old state has.
    pub removed: Set,
}

/// How absent fields of structs are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As written: what is absent is absent.
    Literal,
    /// As Go holds it: fields that Go always writes have their zero value.
    Native,
}

/// Compares two states of an object of a type; both are read in the same way.
///
/// # Errors
/// When items of a list cannot be told apart.
pub fn compare(
    typing: Typing<'_>,
    old: &Fields<String, Value>,
    new: &Fields<String, Value>,
    reading: Reading,
) -> Result<Comparison, Error> {
    // Only built-in kinds are Go structs.
    let native = reading == Reading::Native && typing.known().is_some();
    let walk = Walk { native };
    match typing {
        Typing::Known(ty) => Ok(walk.fields(ty, Some(old), Some(new))?.below),
        _ => match Ref::object(typing).atom().map {
            Some(map) => Ok(walk.entries(map, Some(old), Some(new))?.below),
            None => Err(Error::new("schema error: invalid atom")),
        },
    }
}

/// What a walk finds at one place: about the place itself, and below it.
#[derive(Default)]
struct Found {
    added: bool,
    modified: bool,
    removed: bool,
    below: Comparison,
}

/// The branches of three sets under construction.
#[derive(Default)]
struct Branches {
    added: Vec<Branch>,
    modified: Vec<Branch>,
    removed: Vec<Branch>,
}

impl Branches {
    fn push(&mut self, element: impl Fn() -> PathElement, found: Found) {
        let add = |to: &mut Vec<Branch>, member: bool, children: Set| {
            if member || !children.is_empty() {
                to.push(Branch { element: element(), member, children });
            }
        };
        add(&mut self.added, found.added, found.below.added);
        add(&mut self.modified, found.modified, found.below.modified);
        add(&mut self.removed, found.removed, found.below.removed);
    }

    fn finish(self) -> Comparison {
        Comparison {
            added: Set::from_branches(self.added),
            modified: Set::from_branches(self.modified),
            removed: Set::from_branches(self.removed),
        }
    }
}

#[derive(Clone, Copy)]
struct Walk {
    native: bool,
}

impl Walk {
    fn compare(self, at: Ref, old: Option<&Value>, new: Option<&Value>) -> Result<Found, Error> {
        let form = |value| at.form(value).ok_or_else(|| Error::new("schema error: invalid atom"));
        let mut found = match (old, new) {
            (Some(old), Some(new)) if old == new => return Ok(Found::default()),
            (_, None) => self.one(at, form(old)?, old, new)?,
            (None, _) => self.one(at, form(new)?, old, new)?,
            (Some(_), Some(_)) => {
                let (before, after) = (form(old)?, form(new)?);
                if std::mem::discriminant(&before) == std::mem::discriminant(&after) {
                    self.one(at, after, old, new)?
                } else {
                    self.changed_form(at, [before, after], old, new)?
                }
            }
        };
        // A place that came or went counts, whatever is below it.
        found.added |= old.is_none();
        found.removed |= new.is_none();
        Ok(found)
    }

    /// A value that became one of another form is read in both.
    fn changed_form(
        self,
        at: Ref,
        [before, after]: [Form; 2],
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<Found, Error> {
        let (a, b) = (self.one(at, before, old, new)?, self.one(at, after, old, new)?);
        let below = Comparison {
            added: a.below.added.union(&b.below.added),
            modified: a.below.modified.union(&b.below.modified),
            removed: a.below.removed.union(&b.below.removed),
        };
        Ok(Found {
            added: a.added || b.added,
            modified: a.modified || b.modified,
            removed: a.removed || b.removed,
            below,
        })
    }

    fn one(
        self,
        at: Ref,
        form: Form,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<Found, Error> {
        match form {
            Form::Scalar(_) => Ok(self.leaf(at, old, new)),
            Form::List(list) => {
                let items = |value: Option<&Value>| {
                    value.and_then(Value::as_array).is_some_and(|v| !v.is_empty())
                };
                if !list.associative || !(items(old) || items(new)) {
                    return Ok(self.leaf(at, old, new));
                }
                self.list(list, old, new)
            }
            Form::Map(map) => {
                let (a, b) = (fields(old), fields(new));
                if map.atomic || (self.is_empty(map, a) && self.is_empty(map, b)) {
                    return Ok(self.leaf(at, old, new));
                }
                match map.fields {
                    Declared::Known(ty) => self.fields(ty, a, b),
                    _ => self.entries(map, a, b),
                }
            }
        }
    }

    /// Whether a map has nothing in it, also no implied field.
    fn is_empty(self, map: Map, fields: Option<&Fields<String, Value>>) -> bool {
        match fields {
            None => true,
            Some(fields) if !fields.is_empty() => false,
            Some(_) => match map.fields {
                Declared::Known(ty) => !self.native || !implies(ty),
                _ => true,
            },
        }
    }

    /// The difference of two values that count as a whole.
    fn leaf(self, at: Ref, old: Option<&Value>, new: Option<&Value>) -> Found {
        let same = |(old, new): (&Value, &Value)| {
            value::equal(old, new) || (self.native && native_equal(at, old, new))
        };
        let modified = old.zip(new).is_some_and(|both| !same(both));
        Found { added: old.is_none(), removed: new.is_none(), modified, ..Found::default() }
    }

    fn fields(
        self,
        ty: &'static Type,
        old: Option<&Fields<String, Value>>,
        new: Option<&Fields<String, Value>>,
    ) -> Result<Found, Error> {
        let mut branches = Branches::default();
        self.each_field(ty, old, new, &mut branches)?;
        Ok(Found { below: branches.finish(), ..Found::default() })
    }

    fn each_field(
        self,
        ty: &'static Type,
        old: Option<&Fields<String, Value>>,
        new: Option<&Fields<String, Value>>,
        branches: &mut Branches,
    ) -> Result<(), Error> {
        for field in &ty.fields {
            if field.inline {
                if let Some(inlined) = field.shape.as_struct() {
                    self.each_field(inlined, old, new, branches)?;
                }
                continue;
            }
            let (a, b) = (self.field(old, field), self.field(new, field));
            if a.is_none() && b.is_none() {
                continue;
            }
            let element = || PathElement::field(field.json_name);
            let found = self.compare(of_field(ty, field), a, b);
            branches.push(element, found.map_err(|error| error.below(&element()))?);
        }
        Ok(())
    }

    /// The value of a field of a struct.
    fn field<'a>(
        self,
        fields: Option<&'a Fields<String, Value>>,
        field: &Field,
    ) -> Option<&'a Value> {
        let fields = fields?;
        let absent = || if self.native { implied(field) } else { None };
        fields.get(field.json_name).or_else(absent)
    }

    fn entries(
        self,
        map: Map,
        old: Option<&Fields<String, Value>>,
        new: Option<&Fields<String, Value>>,
    ) -> Result<Found, Error> {
        let mut branches = Branches::default();
        let mut push = |name: &str, a: Option<&Value>, b: Option<&Value>| {
            let element = || PathElement::named(name);
            let at = map.at(name).unwrap_or(Ref::Nothing);
            let found = self.compare(at, a, b).map_err(|error| error.below(&element()))?;
            branches.push(element, found);
            Ok(())
        };
        for (name, value) in old.into_iter().flatten() {
            push(name, Some(value), new.and_then(|fields| fields.get(name)))?;
        }
        for (name, value) in new.into_iter().flatten() {
            if old.is_none_or(|fields| !fields.contains_key(name)) {
                push(name, None, Some(value))?;
            }
        }
        Ok(Found { below: branches.finish(), ..Found::default() })
    }

    fn list(self, list: List, old: Option<&Value>, new: Option<&Value>) -> Result<Found, Error> {
        let mut items: BTreeMap<PathElement, [Vec<&Value>; 2]> = BTreeMap::new();
        for (side, value) in [old, new].into_iter().enumerate() {
            let values = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            for (index, value) in values.iter().enumerate() {
                let element = identify(list, value).map_err(|why| Error::of_item(index, &why))?;
                items.entry(element).or_default()[side].push(value);
            }
        }
        let mut branches = Branches::default();
        for (element, [old, new]) in items {
            let found = self.item(list, &old, &new).map_err(|error| error.below(&element))?;
            branches.push(|| element.clone(), found);
        }
        Ok(Found { below: branches.finish(), ..Found::default() })
    }

    /// Compares the items of one identity. Several of them count as one value.
    fn item(self, list: List, old: &[&Value], new: &[&Value]) -> Result<Found, Error> {
        match (old, new) {
            ([_, _, ..], [_, _, ..]) => {
                let same =
                    old.len() == new.len() && old.iter().zip(new).all(|(a, b)| value::equal(a, b));
                Ok(Found { modified: !same, ..Found::default() })
            }
            ([_, _, ..], _) => {
                let mut found = match new.first() {
                    Some(new) => self.compare(list.item, None, Some(new))?,
                    None => Found::default(),
                };
                found.removed = true;
                Ok(found)
            }
            (_, [_, _, ..]) => {
                let mut found = match old.first() {
                    Some(old) => self.compare(list.item, Some(old), None)?,
                    None => Found::default(),
                };
                found.added = true;
                Ok(found)
            }
            _ => self.compare(list.item, old.first().copied(), new.first().copied()),
        }
    }
}

/// Whether Go writes fields of an empty struct of this type.
fn implies(ty: &'static Type) -> bool {
    ty.fields.iter().any(|field| match field.shape.as_struct() {
        Some(inlined) if field.inline => implies(inlined),
        _ => implied(field).is_some(),
    })
}

/// Whether two containers are the same when their structs have all that Go always writes.
fn native_equal(at: Ref, old: &Value, new: &Value) -> bool {
    let Ref::Known(shape, _) = at else { return false };
    if !(old.is_object() && new.is_object() || old.is_array() && new.is_array()) {
        return false;
    }
    let (mut old, mut new) = (old.clone(), new.clone());
    complete_part(shape, &mut old);
    complete_part(shape, &mut new);
    value::equal(&old, &new)
}

fn fields(value: Option<&Value>) -> Option<&Fields<String, Value>> {
    value.and_then(Value::as_object)
}
