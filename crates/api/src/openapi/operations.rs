//! Operations: parameters, bodies and answers.

use serde_json::{Map, Value, json};

use super::schemas::reference;

/// The media types of a single object.
pub(super) const FORMATS: &[&str] =
    &["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
/// The media types of a single custom object.
pub(super) const CUSTOM_FORMATS: &[&str] = &["application/json", "application/yaml"];
/// The media types of a list or watch.
pub(super) const LIST_FORMATS: &[&str] = &[
    "application/json",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/yaml",
];
/// The media types of a list or watch of custom objects.
pub(super) const CUSTOM_LIST_FORMATS: &[&str] =
    &["application/json", "application/json;stream=watch", "application/yaml"];

/// A parameter: its name and JSON type.
pub(super) type Parameter = (&'static str, &'static str);

pub(super) const PRETTY: &[Parameter] = &[("pretty", "string")];
pub(super) const WRITE: &[Parameter] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
pub(super) const PATCH: &[Parameter] = &[("force", "boolean")];
pub(super) const DELETE: &[Parameter] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
pub(super) const SELECT: &[Parameter] = &[
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("shardSelector", "string"),
    ("timeoutSeconds", "integer"),
];
pub(super) const WATCH: &[Parameter] = &[("allowWatchBookmarks", "boolean"), ("watch", "boolean")];

/// One operation of a path.
pub(super) struct Operation {
    fields: Map<String, Value>,
    parameters: Vec<Value>,
    answers: Map<String, Value>,
}

impl Operation {
    pub(super) fn new(id: &str, tag: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("operationId".into(), id.into());
        fields.insert("tags".into(), json!([tag]));
        let mut answers = Map::new();
        answers.insert("401".into(), json!({"description": "Unauthorized"}));
        Self { fields, parameters: Vec::new(), answers }
    }

    /// Says what it does, and to which kind.
    pub(super) fn action(mut self, action: &str, group: &str, version: &str, kind: &str) -> Self {
        self.fields.insert("x-kubernetes-action".into(), action.into());
        let gvk = json!({"group": group, "kind": kind, "version": version});
        self.fields.insert("x-kubernetes-group-version-kind".into(), gvk);
        self
    }

    pub(super) fn query(mut self, parameters: &[Parameter]) -> Self {
        for (name, ty) in parameters {
            self.parameter("query", name, ty);
        }
        self
    }

    pub(super) fn path(mut self, names: &[&str]) -> Self {
        for name in names {
            self.parameter("path", name, "string");
        }
        self
    }

    pub(super) fn parameter(&mut self, place: &str, name: &str, ty: &str) {
        let mut parameter = json!({
            "in": place, "name": name, "schema": {"type": ty, "uniqueItems": true},
        });
        if place == "path" {
            parameter["required"] = true.into();
        }
        self.parameters.push(parameter);
    }

    /// The body, as one schema for each media type.
    pub(super) fn body(mut self, formats: &[&str], schema: &str, required: bool) -> Self {
        let mut body = json!({"content": content(formats, &json!({"$ref": reference(schema)}))});
        if required {
            body["required"] = true.into();
        }
        self.fields.insert("requestBody".into(), body);
        self
    }

    /// An answer that holds an object of a schema.
    pub(super) fn answer(&mut self, code: &str, schema: &str, formats: &[&str]) {
        self.answer_plain(code, formats, json!({"$ref": reference(schema)}));
    }

    /// An answer of any form.
    pub(super) fn answer_plain(&mut self, code: &str, formats: &[&str], schema: Value) {
        let what = match code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        let answer = json!({"description": what, "content": content(formats, &schema)});
        self.answers.insert(code.to_owned(), answer);
    }
}

fn content(formats: &[&str], schema: &Value) -> Map<String, Value> {
    formats.iter().map(|f| ((*f).to_owned(), json!({"schema": schema}))).collect()
}

/// The object of a path: its operations by method, and the parameters that all of them have.
pub(super) fn path_item(operations: Vec<(&'static str, Operation)>) -> Value {
    let shared: Vec<Value> = operations
        .first()
        .map(|(_, first)| first.parameters.iter())
        .into_iter()
        .flatten()
        .filter(|p| operations.iter().all(|(_, operation)| operation.parameters.contains(p)))
        .cloned()
        .collect();
    let mut item = Map::new();
    for (method, mut operation) in operations {
        operation.parameters.retain(|p| !shared.contains(p));
        if !operation.parameters.is_empty() {
            operation.fields.insert("parameters".into(), sorted(operation.parameters));
        }
        operation.fields.insert("responses".into(), Value::Object(operation.answers));
        item.insert(method.to_owned(), Value::Object(operation.fields));
    }
    if !shared.is_empty() {
        item.insert("parameters".into(), sorted(shared));
    }
    Value::Object(item)
}

fn sorted(mut parameters: Vec<Value>) -> Value {
    let key = |p: &Value, name: &str| p[name].as_str().unwrap_or("").to_owned();
    parameters.sort_by_key(|p| (key(p, "name"), key(p, "in")));
    Value::Array(parameters)
}
