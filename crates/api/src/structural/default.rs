//! Fills the defaults of a schema.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting

use serde_json::Value;

use super::{Additional, Node};

/// Most parts (values and fields) that the defaults of one object fill. An object that has to be stored
/// has far fewer.
const PARTS_MAX: usize = 1_000_000;

/// The defaults of an object are too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the defaults of the object are too large")]
pub struct TooLarge;

/// Puts copies of defaults into objects, not too many.
struct Filler {
    left: usize,
}

impl Filler {
    fn copy(&mut self, default: &Value) -> Result<Value, TooLarge> {
        self.left = self.left.checked_sub(parts(default)).ok_or(TooLarge)?;
        Ok(default.clone())
    }

    fn below(&mut self, node: &Node, value: &mut Value) -> Result<(), TooLarge> {
        match value {
            Value::Object(fields) => {
                for (name, node) in &node.properties {
                    let Some(default) = &node.default else { continue };
                    let absent = fields.get(name).is_none_or(|at| at.is_null() && !node.nullable);
                    if absent {
                        fields.insert(name.clone(), self.copy(default)?);
                    }
                }
                for (name, value) in fields.iter_mut() {
                    if let Some(node) = node.properties.get(name) {
                        self.below(node, value)?;
                    } else if let Some(node) = node.additional_schema() {
                        self.one(node, value)?;
                    }
                }
                Ok(())
            }
            Value::Array(items) => {
                let Some(node) = &node.items else { return Ok(()) };
                items.iter_mut().try_for_each(|item| self.one(node, item))
            }
            _ => Ok(()),
        }
    }

    /// Fills an entry or item: its own default only when null stands there.
    fn one(&mut self, node: &Node, value: &mut Value) -> Result<(), TooLarge> {
        if value.is_null()
            && !node.nullable
            && let Some(default) = &node.default
        {
            *value = self.copy(default)?;
        }
        self.below(node, value)
    }
}

/// How much a copy of a value costs.
fn parts(value: &Value) -> usize {
    /// Bytes of text that count as a part.
    const PART: usize = 64;
    match value {
        Value::String(text) => 1 + text.len() / PART,
        Value::Array(items) => 1 + items.iter().map(parts).sum::<usize>(),
        Value::Object(fields) => {
            let entries = fields.iter().map(|(key, value)| 1 + key.len() / PART + parts(value));
            1 + entries.sum::<usize>()
        }
        _ => 1,
    }
}

impl Node {
    /// Fills the defaults of absent fields below a value, and of nulls that may not stand there.
    ///
    /// # Errors
    /// When the defaults are larger than any object may be; some are filled then.
    pub fn fill_defaults(&self, value: &mut Value) -> Result<(), TooLarge> {
        Filler { left: PARTS_MAX }.below(self, value)
    }

    /// Removes the fields that are null although they may not be, when no default takes their place.
    pub fn prune_nulls(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => fields.retain(|name, value| {
                let Some(Some(node)) = self.field(name) else { return true };
                if value.is_null() && !node.nullable && node.default.is_none() {
                    return false;
                }
                node.prune_nulls(value);
                true
            }),
            Value::Array(items) => {
                let Some(node) = &self.items else { return };
                items.iter_mut().for_each(|item| node.prune_nulls(item));
            }
            _ => {}
        }
    }
}

/// Where a default stands, seen from the object.
#[derive(Clone)]
enum Step {
    Field(String),
    Item,
}

/// Removes from the defaults what the schema does not know.
pub(super) fn prune_defaults(root: &mut Node) {
    let mut pruned = Vec::new();
    collect(root, root, &mut Vec::new(), &mut pruned);
    for (steps, default) in pruned {
        if let Some(node) = node_at(root, &steps) {
            node.default = default;
        }
    }
}

/// Finds the defaults that pruning changes.
fn collect(
    root: &Node,
    at: &Node,
    steps: &mut Vec<Step>,
    pruned: &mut Vec<(Vec<Step>, Option<Value>)>,
) {
    if let Some(default) = &at.default {
        let mut object = wrap(steps, default.clone());
        // A default of the root that is no object is refused elsewhere.
        if object.is_object() && root.coerce(&mut object, true, true).is_ok() {
            root.prune(&mut object, true);
            let after = unwrap(steps, object);
            if after.as_ref() != Some(default) {
                pruned.push((steps.clone(), after));
            }
        }
    }
    let mut below = |step: Step, node: &Node, steps: &mut Vec<Step>| {
        steps.push(step);
        collect(root, node, steps, pruned);
        steps.pop();
    };
    if let Additional::Schema(node) = &at.additional {
        below(Step::Field("*".into()), node, steps);
    }
    if let Some(node) = &at.items {
        below(Step::Item, node, steps);
    }
    for (name, node) in &at.properties {
        below(Step::Field(name.clone()), node, steps);
    }
}

fn wrap(steps: &[Step], value: Value) -> Value {
    steps.iter().rev().fold(value, |value, step| match step {
        Step::Field(name) => Value::Object([(name.clone(), value)].into_iter().collect()),
        Step::Item => Value::Array(vec![value]),
    })
}

fn unwrap(steps: &[Step], object: Value) -> Option<Value> {
    steps.iter().try_fold(object, |mut at, step| match step {
        Step::Field(name) => at.as_object_mut()?.remove(name),
        Step::Item => at.as_array_mut()?.pop(),
    })
}

fn node_at<'a>(root: &'a mut Node, steps: &[Step]) -> Option<&'a mut Node> {
    steps.iter().try_fold(root, |at, step| match step {
        Step::Item => at.items.as_deref_mut(),
        Step::Field(name) => match at.properties.contains_key(name) {
            true => at.properties.get_mut(name),
            false => match &mut at.additional {
                Additional::Schema(node) => Some(node.as_mut()),
                _ => None,
            },
        },
    })
}
