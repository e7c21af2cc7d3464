//! Label and field selectors.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/labels/selector.go, pkg/fields/selector.go

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::{Map, Value};

pub use parse::ParseError;

/// How a label requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key`: the label is there.
    Exists,
    /// `!key`: the label is not there.
    DoesNotExist,
    /// `key in (a,b)`, `key=a`, `key==a`.
    In,
    /// `key notin (a,b)`, `key!=a`; also matches when the label is not there.
    NotIn,
    /// `key>1`: the label is an integer greater than the value.
    GreaterThan,
    /// `key<1`: the label is an integer less than the value.
    LessThan,
}

/// One requirement of a label selector; all requirements of a selector must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The comparison.
    pub operator: Operator,
    /// Sorted values; empty for [`Operator::Exists`] and [`Operator::DoesNotExist`].
    pub values: Vec<String>,
    /// Whether the values are written as a set, also a single one.
    set: bool,
}

/// A label selector: a conjunction of requirements. The empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Parses the query syntax, such as `app=web,tier in (a,b),!old`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::labels(text).map(|requirements| Self { requirements })
    }

    /// Reads the `matchLabels` and `matchExpressions` of a `LabelSelector` object.
    ///
    /// upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/helpers.go LabelSelectorAsSelector
    pub fn from_value(value: &Value) -> Result<Self, ParseError> {
        let mut requirements = Vec::new();
        for (key, value) in value["matchLabels"].as_object().into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or("").to_owned()];
            let (key, operator) = (key.clone(), Operator::In);
            requirements.push(Requirement { key, operator, values, set: false });
        }
        for expression in value["matchExpressions"].as_array().into_iter().flatten() {
            let operator = match expression["operator"].as_str().unwrap_or("") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let text = format!("{other:?} is not a valid label selector operator");
                    return Err(ParseError(text));
                }
            };
            let values = expression["values"].as_array().into_iter().flatten();
            let mut values: Vec<String> =
                values.filter_map(Value::as_str).map(str::to_owned).collect();
            values.sort();
            let key = expression["key"].as_str().unwrap_or("").to_owned();
            let set = matches!(operator, Operator::In | Operator::NotIn);
            requirements.push(Requirement { key, operator, values, set });
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether labels, given by a look-up, satisfy all requirements.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }

    /// Whether the labels of an object satisfy all requirements.
    pub fn matches_map(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
    }
}

impl Requirement {
    fn matches(&self, label: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::In => label.is_some_and(listed),
            Operator::NotIn => !label.is_some_and(listed),
            Operator::GreaterThan => self.compare(label).is_some_and(|(a, b)| a > b),
            Operator::LessThan => self.compare(label).is_some_and(|(a, b)| a < b),
        }
    }

    fn compare(&self, label: Option<&str>) -> Option<(i64, i64)> {
        Some((label?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match (self.operator, self.values.as_slice()) {
            (Operator::Exists, _) => write!(f, "{key}"),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
            (Operator::In, [one]) if !self.set => write!(f, "{key}={one}"),
            (Operator::NotIn, [one]) if !self.set => write!(f, "{key}!={one}"),
            (Operator::In, many) => write!(f, "{key} in ({})", many.join(",")),
            (Operator::NotIn, many) => write!(f, "{key} notin ({})", many.join(",")),
            (Operator::GreaterThan, many) => write!(f, "{key}>{}", many.join(",")),
            (Operator::LessThan, many) => write!(f, "{key}<{}", many.join(",")),
        }
    }
}

/// One requirement of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field, such as `spec.nodeName`.
    pub field: String,
    /// Whether the value must be equal, or must not.
    pub equal: bool,
    /// The value.
    pub value: String,
}

/// A field selector: a conjunction of equalities and inequalities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Parses the query syntax, such as `spec.nodeName=a,status.phase!=Running`. In values the
    /// characters `\`, `,` and `=` are escaped with `\`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::fields(text).map(|requirements| Self { requirements })
    }

    /// The requirements in the order given.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// The requirements, to give fields the names they are kept under.
    pub fn requirements_mut(&mut self) -> &mut [FieldRequirement] {
        &mut self.requirements
    }

    /// The value that a field has to have, if it has to have one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let mut own = self.requirements.iter().filter(|r| r.field == field && r.equal);
        own.next().map(|r| r.value.as_str())
    }

    /// Also asks for a field's value.
    pub fn require(&mut self, field: &str, value: &str) {
        let (field, value) = (field.to_owned(), value.to_owned());
        self.requirements.push(FieldRequirement { field, equal: true, value });
    }

    /// Whether fields, given by a look-up, satisfy all requirements. A field without a value is
    /// the empty string.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> &'a str) -> bool {
        self.requirements.iter().all(|r| (field(&r.field) == r.value) == r.equal)
    }
}
