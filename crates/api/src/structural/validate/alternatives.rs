//! `allOf`, `anyOf`, `oneOf`, `not` and `enum`.
//!
//! upstream: k8s.io/kube-openapi/pkg/validation/validate/schema_props.go, validator.go
//! basicCommonValidator

use serde_json::Value;

use super::found::{Found, Rule};
use super::{Values, Walk};
use crate::patch::gotext;
use crate::structural::Node;

/// How a value did with one of several schemas.
struct Trial {
    found: Vec<Found>,
    bytes: usize,
    matched: usize,
}

impl Walk {
    fn trial(&mut self, node: &Node, value: &Value) -> Trial {
        let (start, before, bytes) = (self.found.len(), self.matched, self.bytes);
        let floor = std::mem::replace(&mut self.floor, start);
        self.node(node, value, None);
        self.floor = floor;
        let trial = Trial {
            found: self.found.split_off(start),
            bytes: self.bytes - bytes,
            matched: self.matched - before,
        };
        (self.matched, self.bytes) = (before, bytes);
        trial
    }

    fn keep(&mut self, trial: Trial) {
        let said = self.ends_unsaid();
        self.found.extend(trial.found.into_iter().skip_while(|found| said && found.is_unsaid()));
        self.bytes += trial.bytes;
        self.matched += trial.matched;
    }

    /// Tells something of the whole object.
    fn whole(&mut self, what: &str) {
        let message = format!("{} {what}", gotext::quote(&self.path));
        self.tell(Rule::Whole, message);
    }

    pub(super) fn alternatives(&mut self, values: &Values, value: &Value) {
        self.any_of(&values.any_of, value);
        self.one_of(&values.one_of, value);
        self.all_of(&values.all_of, value);
        if let Some(node) = &values.not
            && self.trial(node, value).found.is_empty()
        {
            self.whole("must not validate the schema (not)");
        }
        self.matched += 1;
    }

    fn any_of(&mut self, nodes: &[Node], value: &Value) {
        if nodes.is_empty() {
            return;
        }
        let mut best: Option<Trial> = None;
        for node in nodes {
            let trial = self.trial(node, value);
            if trial.found.is_empty() {
                self.keep(trial);
                return;
            }
            if best.as_ref().is_none_or(|best| trial.matched > best.matched) {
                best = Some(trial);
            }
        }
        self.whole("must validate at least one schema (anyOf)");
        if let Some(best) = best {
            self.keep(best);
        }
    }

    fn one_of(&mut self, nodes: &[Node], value: &Value) {
        if nodes.is_empty() {
            return;
        }
        let (mut best, mut good) = (None::<Trial>, None);
        let mut count = 0;
        for node in nodes {
            let trial = self.trial(node, value);
            if trial.found.is_empty() {
                count += 1;
                good = good.or(Some(trial));
            } else if count == 0 && best.as_ref().is_none_or(|best| trial.matched > best.matched) {
                best = Some(trial);
            }
        }
        let kept = match count {
            0 => {
                self.whole("must validate one and only one schema (oneOf). Found none valid");
                best
            }
            1 => good,
            _ => {
                self.whole(&format!(
                    "must validate one and only one schema (oneOf). Found {count} valid alternatives"
                ));
                None
            }
        };
        if let Some(kept) = kept {
            self.keep(kept);
        }
    }

    fn all_of(&mut self, nodes: &[Node], value: &Value) {
        let mut good = 0;
        for node in nodes {
            let trial = self.trial(node, value);
            good += usize::from(trial.found.is_empty());
            self.keep(trial);
        }
        if good < nodes.len() {
            let none = if good == 0 { ". None validated" } else { "" };
            self.whole(&format!("must validate all the schemas (allOf){none}"));
        }
    }

    /// Checks a value against those that are allowed.
    pub(super) fn allowed(&mut self, values: &Values, value: &Value) {
        let allowed = &values.allowed;
        self.steps += allowed.len();
        if allowed.is_empty() || allowed.iter().any(|other| converts_to(value, other)) {
            return;
        }
        if self.is_full() {
            self.unsaid();
            return;
        }
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => gotext::json(other),
        };
        let list = gotext::plain(&Value::Array(allowed.clone()));
        let message = format!("{} in body should be one of {list}", self.path);
        let allowed: Vec<String> = allowed.iter().map(shown).collect();
        // These texts are told on their own as well.
        self.bytes += message.len();
        self.tell(Rule::Enum { value: value.clone(), allowed }, message);
    }
}

/// Whether a value is another one after Go's conversion to its type: floats lose their fraction, and
/// integers become letters. Null never is.
fn converts_to(value: &Value, other: &Value) -> bool {
    match (value, other) {
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Number(number), Value::String(text)) => number.as_i64().is_some_and(|number| {
            let letter = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            text.chars().eq([letter])
        }),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a == b,
            (None, Some(b)) => a.as_f64().is_some_and(|a| a as i64 == b),
            _ => a.as_f64() == b.as_f64(),
        },
        _ => value == other,
    }
}
