//! What an expression may cost at least and at most, from the declared sizes of its data.
//!
//! upstream: vendor/github.com/google/cel-go/checker/cost.go

mod calls;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Expr, Fold, Id, Kind, Literal};
use crate::checker::Checked;
use crate::cost;
use crate::declared::{Declared, Shape};
use crate::macros::ACCUMULATOR;
use crate::types::Type;

/// From a least to a most: of costs and of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// At least.
    pub min: u64,
    /// At most; the largest number is without limit.
    pub max: u64,
}

impl Estimate {
    const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    const fn fixed(value: u64) -> Self {
        Self { min: value, max: value }
    }

    fn add(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    fn factor(self, factor: f64) -> Self {
        let by = |value: u64| {
            // What does not fit is cut to the largest number.
            (value as f64 * factor).ceil() as u64
        };
        Self { min: by(self.min), max: by(self.max) }
    }

    fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// The sizes of the keys and values of a list or map.
#[derive(Clone, Copy, Debug)]
struct Entries {
    list: bool,
    key: Estimate,
    value: Estimate,
}

impl Entries {
    fn union(one: Option<Self>, two: Option<Self>) -> Option<Self> {
        let (one, two) = (one?, two?);
        Some(Self {
            list: one.list,
            key: one.key.union(two.key),
            value: one.value.union(two.value),
        })
    }
}

type Path = Vec<Arc<str>>;

struct Local {
    path: Path,
    size: Option<Estimate>,
    entries: Option<Entries>,
}

/// A part of an expression as estimates of calls see it.
struct Part<'e> {
    expr: Option<&'e Expr>,
    path: Path,
    t: &'e Type,
    size: Option<Estimate>,
}

/// Estimates a checked expression; `root` declares the data of its variables.
pub fn estimate(checked: &Checked, root: Option<&Declared>) -> Estimate {
    let mut coster = Coster {
        checked,
        root,
        paths: BTreeMap::new(),
        locals: BTreeMap::new(),
        sizes: BTreeMap::new(),
        entries: BTreeMap::new(),
    };
    coster.cost(&checked.ast.root)
}

struct Coster<'e> {
    checked: &'e Checked,
    root: Option<&'e Declared>,
    paths: BTreeMap<Id, Path>,
    locals: BTreeMap<Arc<str>, Vec<Local>>,
    sizes: BTreeMap<Id, Estimate>,
    entries: BTreeMap<Id, Entries>,
}

impl<'e> Coster<'e> {
    fn cost(&mut self, expr: &'e Expr) -> Estimate {
        match &expr.kind {
            Kind::Wrong | Kind::Literal(_) => Estimate::fixed(0),
            Kind::Ident(name) => {
                let path =
                    self.local(name).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(expr.id, path);
                Estimate::fixed(1)
            }
            // Whether something is there costs what it is of.
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => {
                let mut sum = self.cost(operand);
                if matches!(
                    self.checked.type_of(operand),
                    Type::Map(..) | Type::Struct(_) | Type::Param(_)
                ) {
                    sum = sum.add(Estimate::fixed(1));
                }
                let mut path = self.path(operand);
                path.push(field.clone());
                self.paths.insert(expr.id, path);
                sum
            }
            Kind::Call { .. } => self.call(expr),
            Kind::List(elements) => {
                let mut sum = Estimate::fixed(cost::LIST);
                let mut value = self.unfilled(elements.is_empty());
                for (element, _) in elements {
                    sum = sum.add(self.cost(element));
                    value = value.union(self.size_or_unknown(element));
                }
                self.entries
                    .insert(expr.id, Entries { list: true, key: Estimate::fixed(1), value });
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Estimate::fixed(cost::MAP);
                let (mut key, mut value) =
                    (self.unfilled(entries.is_empty()), self.unfilled(entries.is_empty()));
                for entry in entries {
                    sum = sum.add(self.cost(&entry.key)).add(self.cost(&entry.value));
                    key = key.union(self.size_or_unknown(&entry.key));
                    value = value.union(self.size_or_unknown(&entry.value));
                }
                self.entries.insert(expr.id, Entries { list: false, key, value });
                sum
            }
            Kind::Struct(_, fields) => fields
                .iter()
                .fold(Estimate::fixed(cost::STRUCT), |sum, field| sum.add(self.cost(&field.value))),
            Kind::Fold(fold) if is_bind(fold) => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn unfilled(&self, empty: bool) -> Estimate {
        Estimate { min: if empty { 0 } else { u64::MAX }, max: 0 }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.get(name)?.last()
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn push(&mut self, name: &Arc<str>, local: Local) {
        self.locals.entry(name.clone()).or_default().push(local);
    }

    fn pop(&mut self, name: &str) {
        if let Some(locals) = self.locals.get_mut(name) {
            locals.pop();
        }
    }

    fn part(&mut self, expr: &'e Expr) -> Part<'e> {
        let mut path = self.path(expr);
        if path.first().is_some_and(|first| &**first == ACCUMULATOR) {
            path.clear();
        }
        Part { expr: Some(expr), path, t: self.checked.type_of(expr), size: self.size(expr) }
    }

    /// The size that is declared for a path.
    fn declared(&self, path: &[Arc<str>]) -> Option<Estimate> {
        let (_, rest) = path.split_first()?;
        let mut at = self.root?;
        for step in rest {
            at = match (&**step, &at.shape) {
                ("@items" | "@values", Shape::List(inner, _) | Shape::Map(inner)) => inner,
                // Keys are texts without a size of their own.
                ("@keys", Shape::Map(_)) => {
                    return (rest.last() == Some(step)).then_some(Estimate::fixed(0));
                }
                (name, Shape::Object(object)) => object.field(name)?,
                _ => return None,
            };
        }
        Some(Estimate { min: 0, max: u64::try_from(at.max).unwrap_or(0) })
    }

    fn size(&mut self, expr: &Expr) -> Option<Estimate> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        let own = match &expr.kind {
            Kind::Literal(Literal::String(text)) => Some(text.chars().count()),
            Kind::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Kind::Literal(_) => Some(1),
            Kind::List(elements) => Some(elements.len()),
            Kind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(own) = own {
            return Some(Estimate::fixed(own as u64));
        }
        if let Some(size) = self.declared(&self.path(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if is_scalar(self.checked.type_of(expr)) {
            return Some(Estimate::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Estimate {
        self.size(expr).unwrap_or(Estimate::UNKNOWN)
    }

    fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        }
    }

    fn set_size(&mut self, expr: &Expr, size: Option<Estimate>) {
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
    }

    fn set_entries(&mut self, expr: &Expr, entries: Option<Entries>) {
        if let Some(entries) = entries {
            self.entries.insert(expr.id, entries);
        }
    }

    fn push_accumulator(&mut self, fold: &'e Fold) {
        let local = Local {
            path: self.path(&fold.init),
            size: self.size(&fold.init),
            entries: self.entries_of(&fold.init),
        };
        self.push(&fold.accu, local);
    }

    fn bind(&mut self, expr: &'e Expr, fold: &'e Fold) -> Estimate {
        let mut sum = self.cost(&fold.range).add(self.cost(&fold.init));
        self.push_accumulator(fold);
        sum = sum.add(self.cost(&fold.result));
        let (size, entries) = (self.size(&fold.result), self.entries_of(&fold.result));
        self.pop(&fold.accu);
        self.set_size(expr, size);
        self.set_entries(expr, entries);
        sum
    }

    fn fold(&mut self, expr: &'e Expr, fold: &'e Fold) -> Estimate {
        let mut sum = self.cost(&fold.range).add(self.cost(&fold.init));
        self.push_accumulator(fold);
        let entries = self.entries_of(&fold.range);
        let list = entries.map_or_else(
            || matches!(self.checked.type_of(&fold.range), Type::List(_)),
            |entries| entries.list,
        );
        let mut looped = |name: &Arc<str>, step: &str, size: Option<Estimate>| {
            let mut path = self.path(&fold.range);
            path.push(step.into());
            self.push(name, Local { path, size, entries: None });
        };
        let (key, value) =
            (entries.map(|entries| entries.key), entries.map(|entries| entries.value));
        match &fold.var2 {
            Some(var2) => {
                looped(&fold.var, if list { "@indices" } else { "@keys" }, key);
                looped(var2, if list { "@items" } else { "@values" }, value);
            }
            None if list => looped(&fold.var, "@items", value),
            None => looped(&fold.var, "@keys", key),
        }
        let each = self.cost(&fold.condition).add(self.cost(&fold.step));
        self.pop(&fold.var);
        if let Some(var2) = &fold.var2 {
            self.pop(var2);
        }
        sum = sum.add(self.cost(&fold.result));
        self.pop(&fold.accu);
        let count = self.size_or_unknown(&fold.range);
        sum = sum.add(count.times(each));
        match &fold.init.kind {
            Kind::Literal(_) => {
                let size = self.size(&fold.init);
                self.set_size(expr, size);
            }
            Kind::List(_) | Kind::Map(_) => {
                self.set_size(expr, Some(count));
                let entries = self.entries_of(&fold.step);
                self.set_entries(expr, entries);
            }
            _ => {}
        }
        sum
    }

    fn call(&mut self, expr: &'e Expr) -> Estimate {
        let Kind::Call { target, function, args } = &expr.kind else { return Estimate::fixed(0) };
        if let ("dyn", [arg]) = (&**function, args.as_slice()) {
            let sum = self.cost(arg).add(Estimate::fixed(1));
            let (size, entries) = (self.size(arg), self.entries_of(arg));
            self.set_size(expr, size);
            self.set_entries(expr, entries);
            return sum;
        }
        let costs: Vec<Estimate> = args.iter().map(|arg| self.cost(arg)).collect();
        let parts: Vec<Part<'e>> = args.iter().map(|arg| self.part(arg)).collect();
        let checked = self.checked;
        let overloads = checked.overloads.get(expr.id).map_or(&[][..], Vec::as_slice);
        if overloads.is_empty() {
            return Estimate::fixed(0);
        }
        let mut sum = Estimate::fixed(0);
        let mut of = None;
        if let Some(target) = target {
            sum = self.cost(target);
            of = Some(self.part(target));
        }
        let mut most = Estimate { min: u64::MAX, max: 0 };
        let mut result: Option<Estimate> = None;
        for overload in overloads {
            let (cost, size) = self.overload(expr, function, overload, of.as_ref(), &parts, &costs);
            most = most.union(cost);
            result = match (result, size) {
                (Some(before), Some(size)) => Some(before.union(size)),
                (before, size) => before.or(size),
            };
            let step = match &**overload {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), Some(first)) = (step, args.first()) {
                result = self.entries_of(first).map(|entries| entries.value);
                let mut path = self.path(first);
                path.push(step.into());
                self.paths.insert(expr.id, path);
            }
            if result.is_none() {
                result = self.size(expr);
            }
        }
        self.set_size(expr, result);
        sum.add(most)
    }
}

fn is_bind(fold: &Fold) -> bool {
    matches!(&fold.range.kind, Kind::List(elements) if elements.is_empty())
        && matches!(fold.condition.kind, Kind::Literal(Literal::Bool(false)))
}

fn is_scalar(t: &Type) -> bool {
    match t {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            true
        }
        _ => t.unwrap_optional().is_some_and(is_scalar),
    }
}
