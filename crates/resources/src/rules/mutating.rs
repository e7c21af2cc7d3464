//! Policies that change what is written: compiled, and evaluated for a request.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/mutating/{compilation,patch}

use longshore_api::patch::{gotext, json};
use longshore_api::{Object, managed};
use longshore_cel::{Map, Value as Cel};
use serde_json::{Map as Fields, Value, json};

use super::admission::{
    BUDGET, Compiled, Compiler, Composed, Gives, Input, OUT_OF_BUDGET, Run, Sees, Spent,
};
use super::conditions::{Conditions, Match};
use crate::core::pods::tree::{list, part, text};

/// A compiled policy.
pub struct Policy {
    composed: Composed,
    conditions: Conditions,
    mutations: Vec<Mutation>,
    /// Whether it is invoked again when something else changes the object afterwards.
    pub reinvoked: bool,
}

/// One change.
struct Mutation {
    compiled: Compiled,
    /// Whether it is a part of an object; else a JSON patch.
    applies: bool,
}

impl Policy {
    /// Compiles a policy. What is broken shows when it is evaluated.
    pub fn compile(policy: &Object) -> Self {
        let none = Value::Null;
        let spec = policy.get(&["spec"]).unwrap_or(&none);
        let params = spec.get("paramKind").is_some_and(|kind| !kind.is_null());
        let sees = Sees { params, authorizer: true, patches: false };
        let compiler = Compiler::new(sees, true);
        let composed = Composed::new(&compiler, list(spec, "variables"));
        let conditions = Conditions::of_policy(list(spec, "matchConditions"), &compiler, sees);
        let sees = Sees { patches: true, ..sees };
        let mutations = list(spec, "mutations").iter().filter_map(|mutation| {
            let (key, gives, applies) = match text(mutation, "patchType") {
                "JSONPatch" => ("jsonPatch", Gives::Operations, false),
                "ApplyConfiguration" => ("applyConfiguration", Gives::Configuration, true),
                _ => return None,
            };
            let expression = text(part(mutation, key)?, "expression");
            let compiled = Compiled::new(&compiler, expression, gives, sees);
            Some(Mutation { compiled, applies })
        });
        Self {
            mutations: mutations.collect(),
            composed,
            conditions,
            reinvoked: text(spec, "reinvocationPolicy") == "IfNeeded",
        }
    }

    /// Whether the policy's conditions hold for a request.
    pub fn matches<'a>(&'a self, input: &Input<'a>) -> Match<'a> {
        self.conditions.evaluate(input, Some(&self.composed))
    }

    /// How many changes it makes.
    pub fn len(&self) -> usize {
        self.mutations.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.mutations.is_empty()
    }

    /// What one of its changes makes of the object of a request; none when it leaves it as it is.
    ///
    /// # Errors
    /// Why it cannot be made, in upstream's words.
    pub fn mutate(
        &self,
        index: usize,
        input: &Input<'_>,
        typing: managed::Typing<'_>,
    ) -> Result<Option<Value>, String> {
        let (Some(mutation), Some(object)) = (self.mutations.get(index), input.object) else {
            return Ok(None);
        };
        if let Some(why) = mutation.compiled.error() {
            return Err(why.to_owned());
        }
        let mut run = Run::new(*input, Some(&self.composed), BUDGET);
        let result = run.evaluate(&mutation.compiled).map_err(|Spent| OUT_OF_BUDGET.to_owned())?;
        let value = result?;
        if mutation.applies {
            let mut mistakes = Vec::new();
            check_names(&value, "Object", &mut mistakes);
            if !mistakes.is_empty() {
                return Err(format!("type mismatch: {}", mistakes.join("\n")));
            }
            let mut applied = value.to_json().map_err(|why| why.to_string())?;
            applied["apiVersion"] = object.api_version().into();
            applied["kind"] = object.kind().into();
            let object = managed::overlay(typing, object, &applied)
                .map_err(|why| format!("error applying patch: {why}"))?;
            return Ok(Some(object.into_value()));
        }
        let patch = operations(&value)?;
        let mut document = Value::Object(object.root().clone());
        match json::apply(&mut document, &patch) {
            Ok(()) => Ok(Some(document)),
            // A test that fails only means that nothing is to be done.
            Err(json::Error::TestFailed { .. }) => Ok(None),
            Err(why) => Err(format!("JSON Patch: {}", told(&why, &patch, object))),
        }
    }
}

/// The types of structs have to be named after the fields they stand in.
fn check_names(value: &Cel<'_>, path: &str, mistakes: &mut Vec<String>) {
    match value {
        Cel::Map(Map::Struct(made)) => {
            if *made.name != *path {
                mistakes.push(format!(
                    "unexpected type name {}, expected {}, which matches field name path from root Object type",
                    gotext::quote(&made.name),
                    gotext::quote(path)
                ));
            }
            for (name, field) in &made.fields {
                check_names(field, &format!("{path}.{name}"), mistakes);
            }
        }
        Cel::Map(Map::Made(entries)) => {
            entries.values().for_each(|value| check_names(value, path, mistakes));
        }
        Cel::List(list) => {
            for item in list.iter().flatten() {
                check_names(&item, path, mistakes);
            }
        }
        _ => {}
    }
}

/// A list of operations as the patch that it means.
fn operations(value: &Cel<'_>) -> Result<Value, String> {
    let Cel::List(list) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let mut patch = Vec::new();
    for item in list.iter() {
        let item = item.map_err(|why| why.to_string())?;
        let Cel::Map(Map::Struct(made)) = &item else {
            return Err(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch"
                    .to_owned(),
            );
        };
        let mut operation = Fields::new();
        for (name, field) in &made.fields {
            if let Cel::Map(Map::Struct(inner)) = field {
                let mut mistakes = Vec::new();
                // A part may begin anywhere in the object.
                check_names(field, &inner.name, &mut mistakes);
                if !inner.name.starts_with("Object") || !mistakes.is_empty() {
                    return Err(format!("type mismatch: {}", mistakes.join("\n")));
                }
            }
            let json = field.to_json().map_err(|why| {
                format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
            })?;
            if **name != *"from" || json != "" {
                operation.insert(name.to_string(), json);
            }
        }
        for key in ["op", "path"] {
            operation.entry(key).or_insert_with(|| json!(""));
        }
        patch.push(Value::Object(operation));
    }
    Ok(Value::Array(patch))
}

/// Why a patch does not fit, in upstream's words.
///
/// upstream: vendor/gopkg.in/evanphx/json-patch.v4/patch.go
fn told(why: &json::Error, patch: &Value, object: &Object) -> String {
    let operation = |index: usize| {
        let operation = &patch[index];
        (operation["op"].as_str().unwrap_or(""), operation)
    };
    match why {
        json::Error::Malformed { index, .. } => {
            let (op, _) = operation(*index);
            if ["add", "remove", "replace", "move", "copy", "test"].contains(&op) {
                return why.to_string();
            }
            format!("Unexpected kind: {op}")
        }
        json::Error::Missing { index, path } => {
            let (op, operation) = operation(*index);
            let (parent, key) = path.rsplit_once('/').unwrap_or(("", path));
            let document = Value::Object(object.root().clone());
            let container = document.pointer(parent).filter(|_| path.starts_with('/'));
            let key = key.replace("~1", "/").replace("~0", "~");
            match (op, container) {
                ("remove", Some(Value::Object(_))) => format!(
                    "error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value"
                ),
                ("replace", Some(_)) => format!(
                    "replace operation does not apply: doc is missing key: {path}: missing value"
                ),
                ("add" | "remove", _) => format!(
                    "{op} operation does not apply: doc is missing path: \"{path}\": missing value"
                ),
                ("move" | "copy", _) if operation["from"] == path.as_str() => format!(
                    "{op} operation does not apply: doc is missing from path: {path}: missing value"
                ),
                ("move" | "copy", _) => format!(
                    "{op} operation does not apply: doc is missing destination path: {path}: missing value"
                ),
                ("test", _) => {
                    format!("test operation does not apply: is missing path: {path}: missing value")
                }
                _ => format!(
                    "{op} operation does not apply: doc is missing path: {path}: missing value"
                ),
            }
        }
        other => other.to_string(),
    }
}
