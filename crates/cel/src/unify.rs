//! Which types fit which, and what parameters stand for.
//!
//! upstream: vendor/github.com/google/cel-go/checker/types.go

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::Type;

/// Most types that are looked at for one expression: those of maps of maps double each time.
const STEPS_MAX: u64 = 5_000_000;
/// Most parts of one type.
const PARTS_MAX: usize = 10_000;

/// What is known of parameters.
#[derive(Debug, Default)]
pub struct Mapping {
    known: BTreeMap<Arc<str>, Type>,
    /// What was known before what is being tried.
    before: Vec<(Arc<str>, Option<Type>)>,
    steps: Cell<u64>,
}

impl Mapping {
    /// Whether so many types were looked at that nothing is known for sure.
    pub fn is_exhausted(&self) -> bool {
        self.steps.get() > STEPS_MAX
    }

    fn step(&self) -> bool {
        self.steps.set(self.steps.get().saturating_add(1));
        !self.is_exhausted()
    }

    fn find(&self, t: &Type) -> Option<&Type> {
        match t {
            Type::Param(name) => self.known.get(name),
            _ => None,
        }
    }

    fn add(&mut self, parameter: &Type, t: &Type) {
        if let Type::Param(name) = parameter {
            let before = self.known.insert(name.clone(), t.clone());
            self.before.push((name.clone(), before));
        }
    }

    /// Lets a parameter of a declaration stand for a type.
    pub fn bind(&mut self, name: &Arc<str>, t: Type) {
        self.known.insert(name.clone(), t);
    }

    /// Whether a list of types fits another; what is learnt on the way is kept only if it does.
    pub fn fits_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        self.before.clear();
        let fits = from.len() == to.len()
            && from.iter().zip(to).all(|(from, to)| self.assignable(from, to));
        if !fits {
            while let Some((name, before)) = self.before.pop() {
                match before {
                    Some(before) => self.known.insert(name, before),
                    None => self.known.remove(&name),
                };
            }
        }
        fits
    }

    /// Whether a type fits another.
    pub fn fits(&mut self, from: &Type, to: &Type) -> bool {
        self.fits_all(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    fn assignable(&mut self, one: &Type, two: &Type) -> bool {
        if !self.step() {
            return false;
        }
        if matches!(two, Type::Param(_)) {
            let (valid, known) = self.substitutes(one, two);
            if valid {
                return true;
            }
            if known {
                return false;
            }
        }
        if matches!(one, Type::Param(_)) {
            return self.substitutes(two, one).0;
        }
        if one.is_dyn_or_error() || two.is_dyn_or_error() {
            return true;
        }
        match (one, two) {
            (Type::Null, other) | (other, Type::Null) => nullable(other),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) => self.assignable(a, b),
            (Type::Map(a, b), Type::Map(c, d)) => self.assignable(a, c) && self.assignable(b, d),
            (Type::Opaque(a, of), Type::Opaque(b, other)) => {
                a == b
                    && of.len() == other.len()
                    && of.iter().zip(other.iter()).all(|(a, b)| self.assignable(a, b))
            }
            _ => one == two,
        }
    }

    /// Whether a parameter may stand for a type, and whether it stood for something already.
    fn substitutes(&mut self, t: &Type, parameter: &Type) -> (bool, bool) {
        if t == parameter {
            return (true, true);
        }
        if let Some(known) = self.find(parameter).cloned() {
            if *t == known {
                return (true, true);
            }
            if self.assignable(t, &known) {
                let general = most_general(t, &known).clone();
                if self.free_of(parameter, &general) {
                    self.add(parameter, &general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.free_of(parameter, t) {
            self.add(parameter, t);
            return (true, false);
        }
        (false, false)
    }

    /// Whether a parameter does not occur within a type.
    fn free_of(&self, parameter: &Type, within: &Type) -> bool {
        if !self.step() || parameter == within {
            return false;
        }
        match within {
            Type::Param(_) => self.find(within).is_none_or(|inner| self.free_of(parameter, inner)),
            _ => within.parameters().into_iter().all(|inner| self.free_of(parameter, inner)),
        }
    }

    /// The type with what is known of its parameters; `to_dyn` tells to put dyn for the unknown ones.
    pub fn substitute(&self, t: &Type, to_dyn: bool) -> Type {
        let mut parts = 0;
        let substituted = self.part(t, to_dyn, &mut parts);
        if parts > PARTS_MAX {
            self.steps.set(u64::MAX);
        }
        substituted
    }

    fn part(&self, t: &Type, to_dyn: bool, parts: &mut usize) -> Type {
        *parts += 1;
        if *parts > PARTS_MAX || !self.step() {
            return Type::Error;
        }
        if let Some(known) = self.find(t) {
            return self.part(known, to_dyn, parts);
        }
        let mut inner = |t: &Type| self.part(t, to_dyn, parts);
        match t {
            Type::Param(_) if to_dyn => Type::Dyn,
            Type::List(of) => Type::list(inner(of)),
            Type::Map(key, value) => Type::map(inner(key), inner(value)),
            Type::Opaque(name, of) => Type::Opaque(name.clone(), of.iter().map(inner).collect()),
            Type::Type(Some(of)) => Type::Type(Some(Arc::new(inner(of)))),
            _ => t.clone(),
        }
    }
}

fn nullable(t: &Type) -> bool {
    matches!(t, Type::Null | Type::Opaque(..) | Type::Struct(_) | Type::Duration | Type::Timestamp)
}

/// The less specific of two types that fit.
pub fn most_general<'t>(one: &'t Type, two: &'t Type) -> &'t Type {
    if equal_or_less_specific(one, two) { one } else { two }
}

fn equal_or_less_specific(one: &Type, two: &Type) -> bool {
    if matches!(one, Type::Dyn | Type::Param(_)) {
        return true;
    }
    if matches!(two, Type::Dyn | Type::Param(_)) {
        return false;
    }
    match (one, two) {
        (Type::Opaque(a, of), Type::Opaque(b, other)) => {
            a == b
                && of.len() == other.len()
                && of.iter().zip(other.iter()).all(|(a, b)| equal_or_less_specific(a, b))
        }
        (Type::List(a), Type::List(b)) => equal_or_less_specific(a, b),
        (Type::Map(a, b), Type::Map(c, d)) => {
            equal_or_less_specific(a, c) && equal_or_less_specific(b, d)
        }
        (Type::Type(_), Type::Type(_)) => true,
        _ => one == two,
    }
}
