//! Evaluates, and counts what it costs.
//!
//! upstream: vendor/github.com/google/cel-go/interpreter/interpretable.go, attributes.go, runtimecost.go

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::pattern::Pattern;

use crate::cost;
use crate::effort;
use crate::equal::equal;
use crate::functions::Context;
use crate::plan::{Attribute, Call, FoldNode, Node, Qualifier, Root};
use crate::value::{EvalError, Items, Key, List, Map, Outcome, Struct, Value};

/// Gives the values of variables.
pub trait Variables<'a> {
    /// The value of a variable, if there is one of this name.
    fn get(&self, name: &str) -> Option<Outcome<'a>>;
}

/// No variables.
impl<'a> Variables<'a> for () {
    fn get(&self, _: &str) -> Option<Outcome<'a>> {
        None
    }
}

impl<'a, const N: usize> Variables<'a> for [(&str, Value<'a>); N] {
    fn get(&self, name: &str) -> Option<Outcome<'a>> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| Ok(value.clone()))
    }
}

/// What came of an evaluation.
#[derive(Debug)]
pub struct Evaluation<'a> {
    /// The value or why there is none.
    pub result: Outcome<'a>,
    /// What it cost.
    pub cost: u64,
}

/// Most patterns of one evaluation that are kept, where they are not constants.
const PATTERNS_MAX: usize = 16;

/// Evaluates a plan; it ends when it costs more than `limit`, or takes the effort of it.
pub fn evaluate<'a>(node: &'a Node, variables: &dyn Variables<'a>, limit: u64) -> Evaluation<'a> {
    let mut machine = Machine {
        variables,
        locals: Vec::new(),
        cost: 0,
        limit,
        effort: 0,
        effort_max: limit.saturating_mul(effort::PER_COST).saturating_add(effort::FREE),
        patterns: Vec::new(),
    };
    let result = machine.eval(node).and_then(|value| machine.finished(value));
    Evaluation { result, cost: machine.cost.max(effort::cost(machine.effort)) }
}

struct Machine<'a, 'v> {
    variables: &'v dyn Variables<'a>,
    locals: Vec<Outcome<'a>>,
    cost: u64,
    limit: u64,
    effort: u64,
    effort_max: u64,
    /// The last patterns that were no constants.
    patterns: Vec<Pattern>,
}

/// What a selection found.
enum Found<'a> {
    Value(Value<'a>),
    Absent,
}

impl<'a> Machine<'a, '_> {
    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    fn exert(&mut self, effort: u64) -> Result<(), EvalError> {
        self.effort = self.effort.saturating_add(effort);
        if self.effort > self.effort_max { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    fn left(&self) -> u64 {
        self.effort_max.saturating_sub(self.effort)
    }

    /// A value that leaves the evaluation is as large as it looks: what is in it many times is not kept as such.
    fn finished(&mut self, value: Value<'a>) -> Outcome<'a> {
        let of_data = matches!(
            &value,
            Value::List(List { items: Items::Json(..), .. }) | Value::Map(Map::Json(..))
        );
        if effort::is_deep(&value) && !of_data {
            let weight = effort::weight(&value, self.left())?;
            self.exert(weight)?;
        }
        Ok(value)
    }

    fn eval(&mut self, node: &'a Node) -> Outcome<'a> {
        self.exert(1)?;
        match node {
            Node::Constant(value) => Ok(value.shrink()),
            Node::Attribute(attribute) => self.attribute(attribute),
            Node::Call(call) => self.call(call),
            Node::Equal(parts, negate) => self.equal(parts, *negate),
            Node::Logic(parts, or) => self.logic(parts, *or),
            Node::OptionalOr(parts, value) => self.optional_or(parts, *value),
            Node::List(elements) => self.list(elements),
            Node::Map(entries) => self.map(entries),
            Node::Struct(name, fields) => self.create(name, fields),
            Node::Fold(fold) => self.fold(fold),
            Node::InSet(element, set) => {
                let value = self.eval(element)?;
                Ok(Value::Bool(Key::of(&value).is_some_and(|key| set.contains(&key))))
            }
        }
    }

    /// An attribute where its value is wanted: it costs one, unless it is a choice.
    fn attribute(&mut self, attribute: &'a Attribute) -> Outcome<'a> {
        let outcome = self.resolve(attribute);
        if matches!(outcome, Err(EvalError::CostExceeded)) {
            return outcome;
        }
        match (&attribute.root, attribute.test) {
            // Whether something is there costs nothing by itself.
            (Root::Choice(_), true) => self.cost = self.cost.saturating_sub(1),
            (Root::Choice(_), false) | (_, true) => {}
            (_, false) => self.charge(1)?,
        }
        outcome
    }

    /// An attribute of which the parts alone cost.
    fn resolve(&mut self, attribute: &'a Attribute) -> Outcome<'a> {
        let mut value = match &attribute.root {
            Root::Local(index, true) => match self.locals.get_mut(*index) {
                Some(local) => std::mem::replace(local, Ok(Value::Null))?,
                None => return Err(EvalError::new("no such attribute(s)")),
            },
            Root::Local(index, false) => match self.locals.get(*index) {
                Some(local) => local.clone()?,
                None => return Err(EvalError::new("no such attribute(s)")),
            },
            Root::Variable(name) => match self.variables.get(name) {
                Some(value) => value?,
                None => return Err(EvalError::new(format!("no such attribute(s): {name}"))),
            },
            Root::Value(node) => self.eval(node)?,
            Root::Choice(parts) => self.choice(parts)?,
        };
        if attribute.qualifiers.is_empty() {
            return self.read(value);
        }
        let mut optional = false;
        if let Value::Optional(inner) = &value {
            match inner {
                None => return if attribute.test { Ok(Value::Bool(false)) } else { Ok(value) },
                Some(inner) => {
                    optional = true;
                    value = (**inner).clone();
                }
            }
        }
        let last = attribute.qualifiers.len() - 1;
        for (index, qualifier) in attribute.qualifiers.iter().enumerate() {
            optional |= qualifier.optional;
            if attribute.test && index == last {
                return self.present(&value, qualifier, optional).map(Value::Bool);
            }
            match self.qualify(&value, qualifier, optional)? {
                Found::Value(found) => value = found,
                Found::Absent if attribute.test => return Ok(Value::Bool(false)),
                Found::Absent => return Ok(Value::Optional(None)),
            }
        }
        let value = self.read(value)?;
        Ok(if optional { Value::some(value) } else { value })
    }

    /// Bytes are made of their text each time.
    fn read(&mut self, value: Value<'a>) -> Outcome<'a> {
        if matches!(value, Value::Bytes(_)) {
            self.exert(effort::made(&value))?;
        }
        Ok(value)
    }

    fn choice(&mut self, parts: &'a [Node; 3]) -> Outcome<'a> {
        let Value::Bool(truth) = self.eval(&parts[0])? else {
            return Err(EvalError::no_such_overload());
        };
        self.inner(&parts[if truth { 1 } else { 2 }])
    }

    /// A part of an attribute that is an attribute itself is not charged again.
    fn inner(&mut self, node: &'a Node) -> Outcome<'a> {
        match node {
            Node::Attribute(attribute) if !attribute.test => self.resolve(attribute),
            other => self.eval(other),
        }
    }

    /// Whether a selection is there. After an optional one only what is there is charged.
    fn present(
        &mut self,
        value: &Value<'a>,
        qualifier: &'a Qualifier,
        optional: bool,
    ) -> Result<bool, EvalError> {
        let key = self.inner(&qualifier.key)?;
        let found = match (value, key.as_str()) {
            (Value::Map(Map::Lazy(fields)), Some(name)) => Ok(fields.has(name)),
            (Value::Map(map), Some(name)) => match map.field(name) {
                Some(Err(error)) => Err(error),
                found => Ok(found.is_some()),
            },
            _ => Ok(false),
        };
        if !optional || matches!(found, Ok(true)) {
            self.charge(1)?;
        }
        found
    }

    fn qualify(
        &mut self,
        value: &Value<'a>,
        qualifier: &'a Qualifier,
        optional: bool,
    ) -> Result<Found<'a>, EvalError> {
        let key = self.inner(&qualifier.key)?;
        let found = pick(value, &key, optional);
        if !matches!(found, Ok(Found::Absent)) {
            self.charge(1)?;
        }
        found
    }

    fn call(&mut self, call: &'a Call) -> Outcome<'a> {
        let mut args = Vec::with_capacity(call.args.len());
        let mut failed = None;
        for arg in &call.args {
            match self.eval(arg) {
                Ok(value) => args.push(value),
                Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
                // Of more than two arguments the rest is left out.
                Err(error) if call.args.len() > 2 && &*call.name != "@not_strictly_false" => {
                    return Err(error);
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    args.push(Value::Null);
                }
            }
        }
        if &*call.name == "@not_strictly_false" {
            self.charge(1)?;
            return Ok(match args.first() {
                Some(Value::Bool(truth)) if failed.is_none() => Value::Bool(*truth),
                _ => Value::Bool(true),
            });
        }
        // Both before the call is made, so that it is never made when it is too much.
        let effort = effort::call(&call.name, &args, self.left())?;
        self.exert(effort)?;
        self.charge(cost::call(&call.name, call.overload.as_deref(), &args))?;
        if let Some(error) = failed {
            return Err(error);
        }
        // What is added to may be changed in place if nobody else has it.
        let value = match &*call.name {
            "_+_" if matches!(args[..], [Value::List(_), _]) => return crate::ops::add(args),
            "cel.@mapInsert" => return crate::ops::map_insert(args),
            _ => {
                let read = self.pattern(call, &args)?;
                let read = read.and_then(|read| self.patterns.get(read));
                let pattern = call.pattern.as_ref().or(read);
                let context = Context { pattern, overload: call.overload.as_deref() };
                (call.function)(&context, &args)?
            }
        };
        self.exert(effort::made(&value))?;
        Ok(value)
    }

    /// Where the pattern of a call is kept that is no constant.
    fn pattern(&mut self, call: &Call, args: &[Value<'a>]) -> Result<Option<usize>, EvalError> {
        let (None, "matches" | "find" | "findAll", Some(Value::String(text))) =
            (&call.pattern, &*call.name, args.get(1))
        else {
            return Ok(None);
        };
        let text = text.as_str();
        if let Some(known) = self.patterns.iter().position(|known| known.as_str() == text) {
            return Ok(Some(known));
        }
        let pattern = Pattern::new(text);
        self.exert(effort::pattern(pattern.is_large()))?;
        if self.patterns.len() == PATTERNS_MAX {
            self.patterns.remove(0);
        }
        self.patterns.push(pattern);
        Ok(Some(self.patterns.len() - 1))
    }

    fn equal(&mut self, parts: &'a [Node; 2], negate: bool) -> Outcome<'a> {
        let (one, two) = (self.eval(&parts[0]), self.eval(&parts[1]));
        let (one, two) = match (one, two) {
            (Err(EvalError::CostExceeded), _) | (_, Err(EvalError::CostExceeded)) => {
                return Err(EvalError::CostExceeded);
            }
            (Err(error), other) | (other, Err(error)) => {
                let size = other.map_or(1, |value| value.size()).min(1);
                self.charge(cost::traversal(size))?;
                return Err(error);
            }
            (Ok(one), Ok(two)) => (one, two),
        };
        self.charge(cost::equality(&one, &two))?;
        if effort::is_deep(&one) && effort::is_deep(&two) {
            let weight = effort::weight(&one, self.left())?;
            self.exert(weight)?;
        }
        let same = equal(&one, &two)?;
        Ok(Value::Bool(same != negate))
    }

    /// The first part may be left open by a mistake if the second one decides.
    fn logic(&mut self, parts: &'a [Node; 2], or: bool) -> Outcome<'a> {
        let mut failed = None;
        for part in parts {
            match self.eval(part) {
                Ok(Value::Bool(truth)) if truth == or => return Ok(Value::Bool(or)),
                Ok(Value::Bool(_)) => {}
                Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
                Ok(_) => {
                    failed.get_or_insert_with(EvalError::no_such_overload);
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Value::Bool(!or)),
        }
    }

    fn optional_or(&mut self, parts: &'a [Node; 2], value: bool) -> Outcome<'a> {
        match self.eval(&parts[0])? {
            Value::Optional(Some(inner)) if value => Ok((*inner).clone()),
            found @ Value::Optional(Some(_)) => Ok(found),
            Value::Optional(None) => self.eval(&parts[1]),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn list(&mut self, elements: &'a [(Node, bool)]) -> Outcome<'a> {
        let mut items = Vec::with_capacity(elements.len());
        let mut made = || -> Result<(), EvalError> {
            for (element, optional) in elements {
                match (self.eval(element)?, optional) {
                    (Value::Optional(Some(inner)), true) => items.push((*inner).clone()),
                    (Value::Optional(None), true) => {}
                    (other, true) => {
                        let message = format!(
                            "cannot initialize optional list element from non-optional value {}",
                            other.shown()
                        );
                        return Err(EvalError::new(message));
                    }
                    (value, false) => items.push(value),
                }
            }
            Ok(())
        };
        let made = made();
        self.created(cost::LIST, made)?;
        Ok(Value::list(items))
    }

    /// Charges what was built, also when a part of it went wrong.
    fn created(&mut self, cost: u64, made: Result<(), EvalError>) -> Result<(), EvalError> {
        if matches!(made, Err(EvalError::CostExceeded)) {
            return made;
        }
        self.charge(cost)?;
        made
    }

    fn map(&mut self, entries: &'a [(Node, Node, bool)]) -> Outcome<'a> {
        let mut out = BTreeMap::new();
        let mut made = || -> Result<(), EvalError> {
            for (key, value, optional) in entries {
                let key = self.eval(key)?;
                let value = self.eval(value)?;
                let own = Key::of(&key).ok_or_else(|| {
                    EvalError::new(format!("unsupported key type: {}", key.type_of()))
                })?;
                match unwrap(value, *optional, &key)? {
                    Some(value) => out.insert(own, value),
                    None => out.remove(&own),
                };
            }
            Ok(())
        };
        let made = made();
        self.created(cost::MAP, made)?;
        Ok(Value::map(out))
    }

    fn create(&mut self, name: &Arc<str>, fields: &'a [(Arc<str>, Node, bool)]) -> Outcome<'a> {
        let mut out = BTreeMap::new();
        let mut made = || -> Result<(), EvalError> {
            for (field, value, optional) in fields {
                let value = self.eval(value)?;
                match unwrap(value, *optional, &Value::text(field.clone()))? {
                    Some(value) => out.insert(field.clone(), value),
                    None => out.remove(field),
                };
            }
            Ok(())
        };
        let made = made();
        self.created(cost::STRUCT, made)?;
        Ok(Value::Map(Map::Struct(Arc::new(Struct { name: name.clone(), fields: out }))))
    }

    fn fold(&mut self, fold: &'a FoldNode) -> Outcome<'a> {
        let range = self.eval(&fold.range)?;
        let base = self.locals.len();
        let init = self.eval(&fold.init);
        if matches!(init, Err(EvalError::CostExceeded)) {
            return init;
        }
        self.locals.push(init);
        let looped = match &range {
            Value::List(list) => self.each(fold, base, list.len(), |index| {
                let value = list.get(index).unwrap_or(Ok(Value::Null));
                if fold.two { (Ok(Value::Int(index as i64)), Some(value)) } else { (value, None) }
            }),
            Value::Map(map) => {
                self.exert(map.len().unwrap_or(0) as u64)?;
                let keys = map.keys();
                self.each(fold, base, keys.len(), |index| {
                    let key = keys[index].clone();
                    let value = fold.two.then(|| map.get(&key).unwrap_or(Ok(Value::Null)));
                    (Ok(key), value)
                })
            }
            other => {
                Err(EvalError::new(format!("got '{}', expected iterable type", other.type_of())))
            }
        };
        let outcome = looped.and_then(|()| self.eval(&fold.result));
        self.locals.truncate(base);
        outcome
    }

    fn each(
        &mut self,
        fold: &'a FoldNode,
        base: usize,
        count: usize,
        mut element: impl FnMut(usize) -> (Outcome<'a>, Option<Outcome<'a>>),
    ) -> Result<(), EvalError> {
        for index in 0..count {
            let (first, second) = element(index);
            self.locals.push(first);
            self.locals.extend(second);
            let go_on = match self.eval(&fold.condition) {
                Ok(Value::Bool(truth)) => truth,
                Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
                _ => true,
            };
            if go_on {
                let step = self.eval(&fold.step);
                if matches!(step, Err(EvalError::CostExceeded)) {
                    return step.map(|_| ());
                }
                self.locals[base] = step;
            }
            self.locals.truncate(base + 1);
            if !go_on {
                break;
            }
        }
        Ok(())
    }
}

fn unwrap<'a>(
    value: Value<'a>,
    optional: bool,
    key: &Value<'a>,
) -> Result<Option<Value<'a>>, EvalError> {
    match (value, optional) {
        (value, false) => Ok(Some(value)),
        (Value::Optional(inner), true) => Ok(inner.map(|inner| (*inner).clone())),
        (other, true) => Err(EvalError::new(format!(
            "cannot initialize optional entry '{}' from non-optional value {}",
            shown(key),
            other.shown()
        ))),
    }
}

/// A key as messages show it.
fn shown(key: &Value<'_>) -> String {
    match key {
        Value::String(text) => text.as_str().to_owned(),
        Value::Uint(number) => number.to_string(),
        other => other.shown(),
    }
}

fn pick<'a>(value: &Value<'a>, key: &Value<'a>, optional: bool) -> Result<Found<'a>, EvalError> {
    let missing = |what: &str| {
        if optional {
            Ok(Found::Absent)
        } else {
            Err(EvalError::new(format!("{what}: {}", shown(key))))
        }
    };
    match value {
        Value::Map(map) => match map.get(key) {
            Some(found) => found.map(Found::Value),
            None => missing("no such key"),
        },
        Value::List(list) => {
            let index = index(key)?;
            match usize::try_from(index).ok().and_then(|index| list.get(index)) {
                Some(found) => found.map(Found::Value),
                None => missing("index out of bounds"),
            }
        }
        _ => missing("no such key"),
    }
}

/// The position that a key means in a list.
fn index(key: &Value<'_>) -> Result<i64, EvalError> {
    match key {
        Value::Int(index) => Ok(*index),
        Value::Uint(index) => i64::try_from(*index)
            .map_err(|_| EvalError::new(format!("unsupported index value {index} in list"))),
        Value::Double(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
            Ok(*number as i64)
        }
        Value::Double(number) => {
            let number = crate::functions::convert::double_text(*number);
            Err(EvalError::new(format!("unsupported index value {number} in list")))
        }
        other => Err(EvalError::new(format!(
            "unsupported index type '{}' in list",
            other.type_of().name()
        ))),
    }
}
