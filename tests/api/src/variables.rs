//! Variables of a scenario: `$(name)` in any text, replaced before a step runs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// The key whose value, an object, gives its fields to the object it stands in.
const SPREAD: &str = "...";

/// The names known in a scenario and what they stand for.
#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, Value>);

impl Variables {
    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// The value with every variable replaced. A text that is one variable and nothing else becomes
    /// its value, whatever its type; `$(pad:N)` is N letters. The value of the key `...` gives its
    /// fields to the object it stands in.
    pub fn fill(&self, value: &Value) -> Result<Value> {
        Ok(match value {
            Value::String(text) => {
                match text.strip_prefix("$(").and_then(|t| t.strip_suffix(')')) {
                    Some(name) if !name.contains("$(") && !name.contains(')') => {
                        self.look_up(name)?
                    }
                    _ => Value::String(self.text(text)?),
                }
            }
            Value::Array(list) => {
                Value::Array(list.iter().map(|item| self.fill(item)).collect::<Result<_>>()?)
            }
            Value::Object(map) => {
                let mut filled = Map::new();
                // The copied fields come first, so that the others change them.
                if let Some(Value::Object(fields)) =
                    map.get(SPREAD).map(|fields| self.fill(fields)).transpose()?
                {
                    filled = fields;
                }
                for (key, value) in map.iter().filter(|(key, _)| *key != SPREAD) {
                    filled.insert(self.text(key)?, self.fill(value)?);
                }
                Value::Object(filled)
            }
            other => other.clone(),
        })
    }

    /// A text with every variable replaced.
    pub fn text(&self, text: &str) -> Result<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("$(") {
            let (before, inner) = (&rest[..start], &rest[start + 2..]);
            let end = inner.find(')').with_context(|| format!("{text:?} has no closing )"))?;
            out.push_str(before);
            match self.look_up(&inner[..end])? {
                Value::String(value) => out.push_str(&value),
                other => out.push_str(&other.to_string()),
            }
            rest = &inner[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn look_up(&self, name: &str) -> Result<Value> {
        if let Some(length) = name.strip_prefix("pad:") {
            return Ok(Value::String("x".repeat(length.parse()?)));
        }
        self.0.get(name).cloned().with_context(|| format!("no variable is named {name:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_variable_keeps_its_type_when_it_stands_alone() {
        let mut variables = Variables::default();
        variables.set("n", 3);
        variables.set("ns", "a");
        let filled = variables.fill(&json!({"k-$(ns)": ["$(n)", "x$(n)y$(ns)", "$(pad:2)"]}));
        assert_eq!(filled.expect("all are known"), json!({"k-a": [3, "x3ya", "xx"]}));
        variables.set("o", json!({"a": 1, "b": 2}));
        let filled = variables.fill(&json!({"...": "$(o)", "b": 3}));
        assert_eq!(filled.expect("all are known"), json!({"a": 1, "b": 3}));
        assert!(variables.fill(&json!("$(unknown)")).is_err());
        assert!(variables.fill(&json!("a $(n")).is_err());
    }
}
