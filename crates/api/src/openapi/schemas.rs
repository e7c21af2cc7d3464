//! Schemas of types, as components of a document.

use serde_json::{Map, Value, json};

use super::{Route, texts};
use crate::Gvk;
use crate::schema::{self, Field, Scalar, Shape, Topology, Type};
use crate::structural::publish;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const JSON_TYPE: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";
/// The type that describes JSON schemas.
const JSON_SCHEMA_PROPS: &str = "apiextensions.k8s.io/v1.JSONSchemaProps";
/// Types of the meta group that are kinds of the core group.
const META_KINDS: [&str; 5] =
    ["APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"];
/// Groups whose full name is longer than their package's.
const FULL_GROUPS: [(&str, &str); 4] = [
    ("apiserverinternal", "internal.apiserver.k8s.io"),
    ("core", ""),
    ("flowcontrol", "flowcontrol.apiserver.k8s.io"),
    ("rbac", "rbac.authorization.k8s.io"),
];
/// Groups whose name has no suffix.
const PLAIN_GROUPS: [&str; 5] = ["apps", "autoscaling", "batch", "extensions", "policy"];

/// The name of a built-in type in OpenAPI, such as `io.k8s.api.core.v1.Pod`.
pub fn name(ty: &Type) -> String {
    let (package, name) = ty.name.rsplit_once('.').unwrap_or(("", ty.name));
    let (group, version) = package.split_once('/').unwrap_or((package, ""));
    let package = match group {
        "meta" => META.to_owned(),
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}")
        }
        "apiregistration.k8s.io" => {
            format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{version}")
        }
        _ => format!("io.k8s.api.{group}.{version}"),
    };
    format!("{package}.{name}")
}

/// A reference to a component.
pub(super) fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// The schemas that a document needs.
pub(super) struct Components {
    /// The group of the document.
    group: String,
    /// The version of the document.
    version: String,
    schemas: Map<String, Value>,
}

impl Components {
    pub(super) fn new(group: &str, version: &str) -> Self {
        let (group, version) = (group.to_owned(), version.to_owned());
        Self { group, version, schemas: Map::new() }
    }

    pub(super) fn finish(self) -> Map<String, Value> {
        self.schemas
    }

    pub(super) fn insert(&mut self, name: &str, schema: Value) {
        self.schemas.insert(name.to_owned(), schema);
    }

    /// Adds a type of the meta group by its name; gives its component's name.
    pub(super) fn meta(&mut self, kind: &str) -> String {
        if kind == "WatchEvent" {
            return self.watch_event();
        }
        match schema::type_named(&format!("meta/v1.{kind}")) {
            Some(ty) if kind != "Patch" => self.add(ty),
            _ => self.special(&format!("{META}.{kind}"), json!({"type": "object"})),
        }
    }

    /// The frame of a watch; its object may be of any kind.
    fn watch_event(&mut self) -> String {
        let object = self.scalar(Scalar::RawExtension);
        let event = json!({
            "type": "object", "required": ["type", "object"], "properties": {
                "object": {"allOf": [object]}, "type": {"default": "", "type": "string"},
            },
            "x-kubernetes-group-version-kind": self.everywhere("WatchEvent"),
        });
        self.special(&format!("{META}.WatchEvent"), event)
    }

    /// A kind of the core group that is also known in the document's group.
    fn everywhere(&self, kind: &str) -> Value {
        let of =
            |group: &str, version: &str| json!({"group": group, "kind": kind, "version": version});
        if self.group.is_empty() {
            return json!([of("", "v1")]);
        }
        json!([of("", "v1"), of(&self.group, &self.version)])
    }

    /// Adds a built-in kind; gives its component's name.
    pub(super) fn built_in(&mut self, kind: &Gvk) -> String {
        match schema::kind(&kind.group, &kind.version, &kind.kind) {
            Some(ty) => {
                let name = self.add(ty);
                self.mark(&name, &kind.group, &kind.version, &kind.kind);
                name
            }
            None => self.special(
                &custom_name(&kind.group, &kind.version, &kind.kind),
                json!({"type": "object"}),
            ),
        }
    }

    /// Adds the kind of a route; gives its component's name.
    pub(super) fn kind(&mut self, route: &Route) -> String {
        let Route { group, version, kind, .. } = route;
        let Some(custom) = &route.schema else {
            return self.built_in(&Gvk::new(group, version, kind));
        };
        let meta = json!({
            "allOf": [{"$ref": reference(&self.meta("ObjectMeta"))}],
            "description": texts::METADATA,
        });
        let custom = publish::definition(custom, &meta);
        let name = custom_name(group, version, kind);
        self.insert(&name, custom);
        self.mark(&name, group, version, kind);
        self.mark_selectable(&name, route);
        name
    }

    /// Adds the list kind of a route; gives its component's name.
    pub(super) fn list(&mut self, route: &Route) -> String {
        let Route { group, version, kind, .. } = route;
        let list = &route.list_kind;
        if !route.verbs.iter().any(|verb| verb == "list") {
            return String::new();
        }
        if route.schema.is_none() {
            return self.built_in(&Gvk::new(group, version, list));
        }
        let meta = self.meta("ListMeta");
        let item = reference(&custom_name(group, version, kind));
        let schema = json!({
            "type": "object", "required": ["items"], "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                "metadata": {"allOf": [{"$ref": reference(&meta)}]},
                "items": {"type": "array", "items": {"$ref": item}},
            },
        });
        let name = custom_name(group, version, list);
        self.insert(&name, schema);
        self.mark(&name, group, version, list);
        self.mark_selectable(&name, route);
        name
    }

    /// Says of which kind a component is.
    fn mark(&mut self, name: &str, group: &str, version: &str, kind: &str) {
        if let Some(schema) = self.schemas.get_mut(name) {
            let gvk = json!([{"group": group, "kind": kind, "version": version}]);
            schema["x-kubernetes-group-version-kind"] = gvk;
        }
    }

    /// Says by which fields objects can be selected.
    fn mark_selectable(&mut self, name: &str, route: &Route) {
        if let Some(schema) = self.schemas.get_mut(name)
            && !route.selectable_fields.is_empty()
        {
            let fields = route.selectable_fields.iter();
            schema["x-kubernetes-selectable-fields"] =
                fields.map(|path| json!({"fieldPath": path.trim_start_matches('.')})).collect();
        }
    }

    fn special(&mut self, name: &str, schema: Value) -> String {
        self.schemas.entry(name.to_owned()).or_insert(schema);
        name.to_owned()
    }

    /// Adds a type and all that it needs; gives its component's name.
    fn add(&mut self, ty: &'static Type) -> String {
        let name = name(ty);
        if self.schemas.contains_key(&name) {
            return name;
        }
        // The entry comes first: types may hold themselves.
        self.schemas.insert(name.clone(), Value::Null);
        let mut schema = Map::new();
        schema.insert("type".into(), "object".into());
        let mut properties = Map::new();
        let mut required = Vec::new();
        self.fields(ty, &mut properties, &mut required);
        if !properties.is_empty() {
            schema.insert("properties".into(), Value::Object(properties));
        }
        if !required.is_empty() {
            schema.insert("required".into(), json!(required));
        }
        if ty.atomic {
            schema.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        if let Some(kinds) = self.kinds(ty) {
            schema.insert("x-kubernetes-group-version-kind".into(), kinds);
        }
        self.schemas.insert(name.clone(), Value::Object(schema));
        name
    }

    /// The kinds that a type is known as.
    fn kinds(&self, ty: &Type) -> Option<Value> {
        let (package, kind) = ty.name.rsplit_once('.')?;
        if package == "meta/v1" {
            let core = || json!([{"group": "", "kind": kind, "version": "v1"}]);
            return match kind {
                "DeleteOptions" => Some(self.everywhere(kind)),
                _ => META_KINDS.contains(&kind).then(core),
            };
        }
        // Objects and lists say what they are; options and embedded templates do not.
        let typed =
            ty.fields.iter().any(|f| f.inline && f.shape.as_struct().is_some_and(is_type_meta));
        let (short, version) = package.split_once('/')?;
        let group = full_group(short);
        typed.then(|| json!([{"group": group, "kind": kind, "version": version}]))
    }

    fn fields(
        &mut self,
        ty: &'static Type,
        properties: &mut Map<String, Value>,
        required: &mut Vec<&'static str>,
    ) {
        for field in &ty.fields {
            if field.inline {
                if let Some(inlined) = field.shape.as_struct() {
                    self.fields(inlined, properties, required);
                }
                continue;
            }
            if field.required || !(field.omitempty || field.omitzero || field.optional) {
                required.push(field.json_name);
            }
            let mut schema = self.field(field);
            if ty.name == JSON_SCHEMA_PROPS {
                self.json_union(field.json_name, &mut schema);
            }
            if let Some(text) = texts::of(ty, field) {
                schema["description"] = text.into();
            }
            properties.insert(field.json_name.to_owned(), schema);
        }
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut schema = self.shape(field.shape);
        // What stands beside a reference would be ignored.
        if schema.get("$ref").is_some() {
            schema = json!({"allOf": [schema]});
        }
        if !field.values.is_empty() {
            let of = match field.shape {
                Shape::List(_) => &mut schema["items"],
                Shape::Map(_) => &mut schema["additionalProperties"],
                _ => &mut schema,
            };
            of["enum"] = json!(field.values);
        }
        let fields = schema.as_object_mut().expect("a schema is an object");
        if let Some(default) = default_of(field) {
            fields.insert("default".into(), default);
        }
        let mut mark = |key: &str, value: Value| {
            fields.insert(format!("x-kubernetes-{key}"), value);
        };
        let container = match field.shape {
            Shape::List(_) | Shape::Scalar(Scalar::Bytes) => "list-type",
            _ => "map-type",
        };
        match field.topology {
            Some(Topology::Atomic) => mark(container, "atomic".into()),
            Some(Topology::Granular) => mark(container, "granular".into()),
            Some(Topology::Set) => mark(container, "set".into()),
            Some(Topology::Map) => mark(container, "map".into()),
            None => {}
        }
        if !field.keys.is_empty() {
            mark("list-map-keys", json!(field.keys));
        }
        if !field.patch.merge_key.is_empty() {
            mark("patch-merge-key", field.patch.merge_key.into());
        }
        let strategies = [
            (field.patch.merge, "merge"),
            (field.patch.replace, "replace"),
            (field.patch.retain_keys, "retainKeys"),
        ];
        let strategies: Vec<&str> =
            strategies.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        if !strategies.is_empty() {
            mark("patch-strategy", strategies.join(",").into());
        }
        schema
    }

    /// Fields of JSON schemas that are schemas or something else have types of their own.
    fn json_union(&mut self, field: &str, schema: &mut Value) {
        let union = match field {
            "items" => "Array",
            "additionalItems" | "additionalProperties" => "Bool",
            "dependencies" => "StringArray",
            _ => return,
        };
        let name = self.special(&format!("{JSON_TYPE}SchemaPropsOr{union}"), json!({}));
        let target = json!({"$ref": reference(&name)});
        if field == "dependencies" {
            schema["additionalProperties"] = target;
        } else {
            *schema = target;
        }
    }

    fn shape(&mut self, shape: Shape) -> Value {
        match shape {
            Shape::Struct(_) => {
                let name = self.add(shape.as_struct().expect("a struct"));
                json!({"$ref": reference(&name)})
            }
            Shape::List(_) => {
                let items = self.shape(shape.item().expect("a list"));
                json!({"type": "array", "items": items})
            }
            Shape::Map(_) => {
                let values = self.shape(shape.item().expect("a map"));
                json!({"type": "object", "additionalProperties": values})
            }
            Shape::Scalar(scalar) => self.scalar(scalar),
        }
    }

    fn scalar(&mut self, scalar: Scalar) -> Value {
        let time = || json!({"type": "string", "format": "date-time"});
        let (name, schema) = match scalar {
            Scalar::String => return json!({"type": "string"}),
            Scalar::Bool => return json!({"type": "boolean"}),
            Scalar::Int32 => return json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => return json!({"type": "integer", "format": "int64"}),
            Scalar::Float64 => return json!({"type": "number", "format": "double"}),
            Scalar::Bytes => return json!({"type": "string", "format": "byte"}),
            Scalar::Time => (format!("{META}.Time"), time()),
            Scalar::MicroTime => (format!("{META}.MicroTime"), time()),
            Scalar::Duration => (format!("{META}.Duration"), json!({"type": "string"})),
            Scalar::FieldsV1 => (format!("{META}.FieldsV1"), json!({"type": "object"})),
            Scalar::Quantity => (
                "io.k8s.apimachinery.pkg.api.resource.Quantity".into(),
                json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            ),
            Scalar::IntOrString => (
                "io.k8s.apimachinery.pkg.util.intstr.IntOrString".into(),
                json!({
                    "format": "int-or-string",
                    "oneOf": [{"type": "integer"}, {"type": "string"}],
                }),
            ),
            Scalar::RawExtension => {
                ("io.k8s.apimachinery.pkg.runtime.RawExtension".into(), json!({"type": "object"}))
            }
            Scalar::Json => (JSON_TYPE.into(), json!({})),
        };
        let name = self.special(&name, schema);
        json!({"$ref": reference(&name)})
    }
}

fn is_type_meta(ty: &Type) -> bool {
    ty.name == "meta/v1.TypeMeta"
}

/// The group that a package's name stands for.
fn full_group(short: &str) -> String {
    if let Some((_, full)) = FULL_GROUPS.iter().find(|(name, _)| *name == short) {
        return (*full).to_owned();
    }
    if PLAIN_GROUPS.contains(&short) || short.contains('.') {
        return short.to_owned();
    }
    format!("{short}.k8s.io")
}

/// The name of a custom kind: the group reversed, the version and the kind.
fn custom_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// The default that a field's schema tells: the declared one, or the zero value of what is always
/// written.
fn default_of(field: &Field) -> Option<Value> {
    if let Some(text) = field.default {
        return match field.shape {
            Shape::Scalar(Scalar::String) if !text.starts_with("ref(") => Some(text.into()),
            Shape::Scalar(Scalar::String) => None,
            _ => serde_json::from_str(text).ok(),
        };
    }
    if field.pointer {
        return None;
    }
    let always = !field.omitempty && !field.omitzero;
    match field.shape {
        Shape::Struct(_) => Some(json!({})),
        Shape::Scalar(Scalar::String) if always => Some("".into()),
        Shape::Scalar(Scalar::Bool) if always => Some(false.into()),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Float64) if always => Some(0.into()),
        _ => None,
    }
}
