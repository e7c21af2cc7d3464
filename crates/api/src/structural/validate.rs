//! Checks values against a schema, in upstream's words and order.
//!
//! upstream: k8s.io/kube-openapi/pkg/validation/validate,
//! staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/validation

mod alternatives;
mod found;
mod numbers;
mod ratchet;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Additional, Kind, Node, Schema, Values, formats};
use crate::field::{Error, ErrorList, Path};

use found::{Found, Rule};
pub use ratchet::Before;

/// Which of upstream's two readings of a schema holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// That of objects: formats that nobody knows do not count, and `x-kubernetes-int-or-string` is a
    /// type.
    Objects,
    /// That of the defaults of a definition.
    Defaults,
}

impl Schema {
    /// The broken rules of a new object. Metadata and lists have methods of their own.
    pub fn validate_create(&self, object: &Value) -> ErrorList {
        self.root().validate(&Path::default(), object, Reading::Objects)
    }

    /// The broken rules of a changed object; those of parts that are as they were do not count.
    pub fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut walk = Walk::new(Reading::Objects);
        walk.node(self.root(), object, Some(&Before::new(old, self.root())));
        walk.told(&Path::default())
    }

    /// All broken rules of an object besides those of its own metadata: what upstream's strategy of
    /// custom resources tells, without expressions.
    ///
    /// upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/registry/customresource/strategy.go
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> ErrorList {
        let mut errors = match old {
            None => self.validate_create(object),
            Some(old) => self.validate_update(object, old),
        };
        errors.extend(self.validate_embedded(object));
        errors.extend(self.validate_changed_lists(object, old));
        errors
    }

    /// All broken rules of an object whose status changed.
    ///
    /// upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/registry/customresource/status_strategy.go
    pub fn validate_status(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if let (Some(status), Some(node)) =
            (object.get("status"), self.root().properties.get("status"))
        {
            let mut walk = Walk::new(Reading::Objects);
            let old = old.get("status").unwrap_or(&Value::Null);
            walk.node(node, status, Some(&Before::new(old, node)));
            errors = walk.told(&Path::new("status"));
        }
        errors.extend(self.validate_changed_lists(object, Some(old)));
        errors
    }

    /// Lists that held something twice before may do so on.
    fn validate_changed_lists(&self, object: &Value, old: Option<&Value>) -> ErrorList {
        let errors = self.validate_lists(object);
        let broken_before = |old| !self.validate_lists(old).is_empty();
        if !errors.is_empty() && old.is_some_and(broken_before) { ErrorList::new() } else { errors }
    }
}

impl Node {
    /// The broken rules of a value at a path.
    pub fn validate(&self, path: &Path, value: &Value, reading: Reading) -> ErrorList {
        let mut walk = Walk::new(reading);
        walk.node(self, value, None);
        walk.told(path)
    }

    /// The types that values may have.
    fn types(&self, reading: Reading) -> Types<'_> {
        match &self.kind {
            _ if self.int_or_string && reading == Reading::Objects => Types::IntOrString,
            Kind::Any => Types::Any,
            kind => Types::One(kind.name()),
        }
    }

    /// The format that counts; empty for none.
    fn format<'a>(&self, values: &'a Values, reading: Reading) -> &'a str {
        let only = match self.types(reading) {
            Types::One(name) => name,
            _ => "",
        };
        let counts = reading == Reading::Defaults || formats::belongs(&values.format, only);
        if counts { &values.format } else { "" }
    }
}

/// Most bytes of the texts that are told of one object; more rules are broken without a text.
const TOLD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most steps of checking an object: a value with a schema, or with one of those that are allowed. An
/// object of the largest size with several alternatives for each of its values takes a tenth of them;
/// what is larger would keep others waiting for seconds.
const STEPS_MAX: usize = 20_000_000;

/// The types that values may have.
#[derive(Clone, Copy, PartialEq)]
enum Types<'a> {
    Any,
    One(&'a str),
    IntOrString,
}

impl Types<'_> {
    fn has(self, name: &str) -> bool {
        match self {
            Self::Any => false,
            Self::One(one) => one == name,
            Self::IntOrString => matches!(name, "integer" | "string"),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Any => String::new(),
            Self::One(name) => name.to_owned(),
            Self::IntOrString => "integer,string".to_owned(),
        }
    }
}

/// A walk over a value: where it is, and what it found.
struct Walk {
    reading: Reading,
    path: String,
    found: Vec<Found>,
    /// How large their texts are.
    bytes: usize,
    /// What was found before here is of others: alternatives, or what stood there before the update.
    floor: usize,
    steps: usize,
    /// How many checks went well: of alternatives that all fail the best is told.
    matched: usize,
}

/// The name of a value's type, and of Go's format of numbers.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

impl Walk {
    fn new(reading: Reading) -> Self {
        let (path, found) = (String::new(), Vec::new());
        Self { reading, path, found, bytes: 0, floor: 0, steps: 0, matched: 0 }
    }

    /// What was found in a value at a path.
    fn told(self, path: &Path) -> ErrorList {
        let too_long = self.steps > STEPS_MAX;
        let mut errors = found::tell(self.found, path);
        if too_long {
            errors.push(Error::invalid(path, "", "it takes too many steps to check by its schema"));
        }
        errors
    }

    /// Adds a broken rule of the current place.
    fn tell(&mut self, rule: Rule, message: String) {
        if self.is_full() {
            self.unsaid();
            return;
        }
        self.bytes += self.path.len() + message.len();
        self.found.push(Found { name: self.path.clone(), message, rule });
    }

    /// Notes a broken rule that there is no room for; one of them stands for all that follow.
    fn unsaid(&mut self) {
        if !self.ends_unsaid() {
            self.found.push(Found::unsaid());
        }
    }

    fn ends_unsaid(&self) -> bool {
        self.found[self.floor..].last().is_some_and(Found::is_unsaid)
    }

    /// Whether there is no room for more texts.
    fn is_full(&self) -> bool {
        self.bytes > TOLD_BYTES_MAX
    }

    fn at<T>(&mut self, step: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(step);
        let out = work(self);
        self.path.truncate(length);
        out
    }

    /// Checks a value against a node. `before`: what stood there, for rules that were broken already.
    fn node(&mut self, node: &Node, value: &Value, before: Option<&Before<'_>>) {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return;
        }
        let Some(before) = before else {
            self.checks(node, value, None);
            return;
        };
        let (start, bytes) = (self.found.len(), self.bytes);
        let floor = std::mem::replace(&mut self.floor, start);
        self.checks(node, value, Some(before));
        self.floor = floor;
        if self.found.len() > start && before.equals(value) {
            self.found.truncate(start);
            self.bytes = bytes;
        }
    }

    fn checks(&mut self, node: &Node, value: &Value, before: Option<&Before<'_>>) {
        static NONE: LazyLock<Values> = LazyLock::new(Values::default);
        let values = node.values.as_deref().unwrap_or(&NONE);
        if value.is_null() {
            self.kind(node, values, value);
            self.allowed(values, value);
            return;
        }
        if node.types(self.reading) != Types::Any || !node.format(values, self.reading).is_empty() {
            self.kind(node, values, value);
            self.matched += 1;
        }
        self.alternatives(values, value);
        self.matched += 1;
        match value {
            Value::String(text) => {
                self.text(values, text);
                self.matched += 1;
                let format = node.format(values, self.reading);
                if formats::is_known(format) {
                    self.format(format, text);
                    self.matched += 1;
                }
            }
            Value::Number(number) => {
                self.number(node, values, number);
                self.matched += 1;
            }
            Value::Array(items) => {
                self.items(node, values, items, before);
                self.matched += 1;
            }
            _ => {}
        }
        self.allowed(values, value);
        self.matched += 1;
        if let Value::Object(fields) = value {
            self.fields(node, values, fields, before);
            self.matched += 1;
        }
        self.matched += 1;
    }

    /// upstream: k8s.io/kube-openapi/pkg/validation/validate/type.go
    fn kind(&mut self, node: &Node, values: &Values, value: &Value) {
        let types = node.types(self.reading);
        let format = node.format(values, self.reading);
        if value.is_null() {
            if types == Types::Any || node.nullable {
                self.matched += 1;
            } else {
                self.wrong_type(&types.text(), "null");
            }
            return;
        }
        let (kind, shown) = type_of(value);
        let whole = value.as_f64().is_some_and(numbers::is_whole);
        let fits = types.has(kind)
            || (kind == "number" && whole && types.has("integer"))
            || (kind == "integer" && types.has("number"));
        let loose = matches!(value, Value::String(_) | Value::Array(_));
        let numeric = types.has("number") || types.has("integer");
        if !loose && !format.is_empty() && !fits && format != shown {
            let format = format.to_owned();
            self.wrong_type(&format, shown);
        } else if fits || (loose && !format.is_empty() && !numeric) {
            self.matched += 1;
        } else {
            self.wrong_type(&types.text(), kind);
        }
    }

    fn wrong_type(&mut self, wanted: &str, shown: &str) {
        let quoted = crate::patch::gotext::quote(shown);
        let message = format!("{} in body must be of type {wanted}: {quoted}", self.path);
        self.tell(Rule::Type(shown.into()), message);
    }

    /// upstream: k8s.io/kube-openapi/pkg/validation/validate/slice_validator.go
    fn items(
        &mut self,
        node: &Node,
        values: &Values,
        items: &[Value],
        before: Option<&Before<'_>>,
    ) {
        if let Some(node) = &node.items {
            for (index, item) in items.iter().enumerate() {
                let old = before.and_then(|before| before.item(item));
                self.at(&format!("[{index}]"), |walk| walk.node(node, item, old.as_ref()));
            }
        }
        let size = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(min) = values.min_items.filter(|min| size < *min) {
            let message = format!("{} in body should have at least {min} items", self.path);
            self.tell(Rule::Other(size.into()), message);
        }
        if let Some(max) = values.max_items.filter(|max| size > *max) {
            let message = format!("{} in body should have at most {max} items", self.path);
            self.tell(Rule::TooMany { actual: size, max }, message);
        }
        if values.unique_items && super::lists::first_duplicate(items).is_some() {
            let message = format!("{} in body shouldn't contain duplicates", self.path);
            self.tell(Rule::Other("".into()), message);
        }
        self.matched += 1;
    }

    /// upstream: k8s.io/kube-openapi/pkg/validation/validate/object_validator.go
    fn fields(
        &mut self,
        node: &Node,
        values: &Values,
        fields: &Map<String, Value>,
        before: Option<&Before<'_>>,
    ) {
        let size = i64::try_from(fields.len()).unwrap_or(i64::MAX);
        if let Some(min) = values.min_properties.filter(|min| size < *min) {
            let message = format!("{} in body should have at least {min} properties", self.path);
            self.tell(Rule::Other(size.into()), message);
        }
        if let Some(max) = values.max_properties.filter(|max| size > *max) {
            let message = format!("{} in body should have at most {max} properties", self.path);
            self.tell(Rule::TooMany { actual: size, max }, message);
        }
        let top = self.path.is_empty();
        let old = |name: &str| {
            let hidden = top && matches!(name, "kind" | "apiVersion");
            before.filter(|_| !hidden).and_then(|before| before.field(name))
        };
        let unlisted = fields.iter().filter(|(name, _)| !node.properties.contains_key(*name));
        match &node.additional {
            Additional::Allowed(false) => {
                for (name, _) in unlisted {
                    let message = format!("{}.{name} in body is a forbidden property", self.path);
                    self.tell(Rule::Other(name.as_str().into()), message);
                }
            }
            Additional::Schema(node) => {
                for (name, value) in unlisted {
                    let old = old(name);
                    self.at(&format!(".{name}"), |walk| walk.node(node, value, old.as_ref()));
                }
            }
            Additional::Allowed(true) | Additional::Untold => {}
        }
        for (name, value) in fields {
            let Some(node) = node.properties.get(name) else { continue };
            let old = old(name);
            let dot = if top { "" } else { "." };
            self.at(&format!("{dot}{name}"), |walk| walk.node(node, value, old.as_ref()));
        }
        for name in values.required.iter().filter(|name| !fields.contains_key(*name)) {
            self.at(&format!(".{name}"), |walk| {
                let message = format!("{} in body is required", walk.path);
                walk.tell(Rule::Required, message);
            });
        }
    }
}

/// The items of a list by their keys.
type ByKey<'a> = BTreeMap<String, &'a Value>;
