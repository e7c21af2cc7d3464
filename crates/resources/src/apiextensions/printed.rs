//! Parts of definitions as upstream's internal structs print: messages of rules hold such text.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/types.go,
//! types_jsonschema.go

use longshore_api::patch::gotext::json as go_json;
use serde_json::{Map, Value};

use super::internal::Version;
use crate::core::pods::tree::text;

/// What a field holds.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Bool,
    /// A pointer, a list of scalars or any value: null when it is absent.
    Value,
    Schema,
    Schemas,
    SchemaMap,
    SchemaOrBool,
    Items,
    Dependencies,
    Docs,
    Rules,
}

/// The fields of a schema, in order: JSON name, Go name, what it holds.
const SCHEMA: [(&str, &str, Form); 44] = [
    ("id", "ID", Form::Text),
    ("$schema", "Schema", Form::Text),
    ("$ref", "Ref", Form::Value),
    ("description", "Description", Form::Text),
    ("type", "Type", Form::Text),
    ("nullable", "Nullable", Form::Bool),
    ("format", "Format", Form::Text),
    ("title", "Title", Form::Text),
    ("default", "Default", Form::Value),
    ("maximum", "Maximum", Form::Value),
    ("exclusiveMaximum", "ExclusiveMaximum", Form::Bool),
    ("minimum", "Minimum", Form::Value),
    ("exclusiveMinimum", "ExclusiveMinimum", Form::Bool),
    ("maxLength", "MaxLength", Form::Value),
    ("minLength", "MinLength", Form::Value),
    ("pattern", "Pattern", Form::Text),
    ("maxItems", "MaxItems", Form::Value),
    ("minItems", "MinItems", Form::Value),
    ("uniqueItems", "UniqueItems", Form::Bool),
    ("multipleOf", "MultipleOf", Form::Value),
    ("enum", "Enum", Form::Value),
    ("maxProperties", "MaxProperties", Form::Value),
    ("minProperties", "MinProperties", Form::Value),
    ("required", "Required", Form::Value),
    ("items", "Items", Form::Items),
    ("allOf", "AllOf", Form::Schemas),
    ("oneOf", "OneOf", Form::Schemas),
    ("anyOf", "AnyOf", Form::Schemas),
    ("not", "Not", Form::Schema),
    ("properties", "Properties", Form::SchemaMap),
    ("additionalProperties", "AdditionalProperties", Form::SchemaOrBool),
    ("patternProperties", "PatternProperties", Form::SchemaMap),
    ("dependencies", "Dependencies", Form::Dependencies),
    ("additionalItems", "AdditionalItems", Form::SchemaOrBool),
    ("definitions", "Definitions", Form::SchemaMap),
    ("externalDocs", "ExternalDocs", Form::Docs),
    ("example", "Example", Form::Value),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields", Form::Value),
    ("x-kubernetes-embedded-resource", "XEmbeddedResource", Form::Bool),
    ("x-kubernetes-int-or-string", "XIntOrString", Form::Bool),
    ("x-kubernetes-list-map-keys", "XListMapKeys", Form::Value),
    ("x-kubernetes-list-type", "XListType", Form::Value),
    ("x-kubernetes-map-type", "XMapType", Form::Value),
    ("x-kubernetes-validations", "XValidations", Form::Rules),
];

const COLUMN: [(&str, &str, Form); 6] = [
    ("name", "Name", Form::Text),
    ("type", "Type", Form::Text),
    ("format", "Format", Form::Text),
    ("description", "Description", Form::Text),
    ("priority", "Priority", Form::Value),
    ("jsonPath", "JSONPath", Form::Text),
];

const SCALE: [(&str, &str, Form); 3] = [
    ("specReplicasPath", "SpecReplicasPath", Form::Text),
    ("statusReplicasPath", "StatusReplicasPath", Form::Text),
    ("labelSelectorPath", "LabelSelectorPath", Form::Value),
];

const DOCS: [(&str, &str, Form); 2] =
    [("description", "Description", Form::Text), ("url", "URL", Form::Text)];

const RULE: [(&str, &str, Form); 6] = [
    ("rule", "Rule", Form::Text),
    ("message", "Message", Form::Text),
    ("messageExpression", "MessageExpression", Form::Text),
    ("reason", "Reason", Form::Value),
    ("fieldPath", "FieldPath", Form::Text),
    ("optionalOldSelf", "OptionalOldSelf", Form::Value),
];

/// Versions, without what stands at the top.
pub(super) fn versions(versions: &[Version<'_>]) -> String {
    let one = |version: &Version<'_>| {
        let empty = Map::new();
        let fields = version.value.as_object().unwrap_or(&empty);
        let flag = |key: &str| fields.get(key) == Some(&Value::Bool(true));
        let warning = fields.get("deprecationWarning").map_or("null".into(), go_json);
        let validation = version.own.validation.map_or("null".into(), |validation| {
            let schema = field(validation.get("openAPIV3Schema"), Form::Schema);
            format!("{{\"OpenAPIV3Schema\":{schema}}}")
        });
        let subresources = version.own.subresources.map_or("null".into(), |subresources| {
            let status = subresources.get("status").map_or("null", |_| "{}");
            let scale = subresources.get("scale").map_or("null".into(), |s| fields_of(s, &SCALE));
            format!("{{\"Status\":{status},\"Scale\":{scale}}}")
        });
        let columns = array(version.own.columns, |column| {
            // The priority is a number, never null.
            fields_of(column, &COLUMN).replace("\"Priority\":null", "\"Priority\":0")
        });
        let selectable = array(version.own.selectable, |field| {
            format!("{{\"JSONPath\":{}}}", go_json(&text(field, "jsonPath").into()))
        });
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{warning},\"Schema\":{validation},\"Subresources\":{subresources},\"AdditionalPrinterColumns\":{columns},\"SelectableFields\":{selectable}}}",
            go_json(&version.name.into()),
            flag("served"),
            flag("storage"),
            flag("deprecated"),
        )
    };
    array(versions, one)
}

/// A schema.
pub(super) fn schema(schema: &Value) -> String {
    fields_of(schema, &SCHEMA)
}

/// A rule.
pub(super) fn rule(rule: &Value) -> String {
    fields_of(rule, &RULE)
}

/// What stands under `items`.
pub(super) fn items(items: &Value) -> String {
    field(Some(items), Form::Items)
}

/// A list; null when it is empty.
fn array<T>(items: &[T], one: impl Fn(&T) -> String) -> String {
    if items.is_empty() {
        return "null".into();
    }
    let items: Vec<String> = items.iter().map(one).collect();
    format!("[{}]", items.join(","))
}

fn fields_of(value: &Value, fields: &[(&str, &str, Form)]) -> String {
    let fields = fields
        .iter()
        .map(|(name, go_name, form)| format!("\"{go_name}\":{}", field(value.get(*name), *form)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn field(value: Option<&Value>, form: Form) -> String {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return match form {
            Form::Text => "\"\"",
            Form::Bool => "false",
            _ => "null",
        }
        .into();
    };
    let map = |one: &dyn Fn(&Value) -> String| {
        let entries = value.as_object().into_iter().flatten();
        let entries =
            entries.map(|(key, value)| format!("{}:{}", go_json(&key.as_str().into()), one(value)));
        format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
    };
    match form {
        Form::Text | Form::Bool | Form::Value => go_json(value),
        Form::Schema => schema(value),
        Form::Schemas => array(value.as_array().map_or(&[], Vec::as_slice), schema),
        Form::SchemaMap => map(&schema),
        Form::SchemaOrBool => match value {
            Value::Bool(allowed) => format!("{{\"Allows\":{allowed},\"Schema\":null}}"),
            other => format!("{{\"Allows\":true,\"Schema\":{}}}", schema(other)),
        },
        Form::Items => match value {
            Value::Array(schemas) => {
                let schemas: Vec<String> = schemas.iter().map(schema).collect();
                format!("{{\"Schema\":null,\"JSONSchemas\":[{}]}}", schemas.join(","))
            }
            other => format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema(other)),
        },
        Form::Dependencies => map(&|value| match value {
            Value::Array(_) => format!("{{\"Schema\":null,\"Property\":{}}}", go_json(value)),
            other => format!("{{\"Schema\":{},\"Property\":null}}", schema(other)),
        }),
        Form::Docs => fields_of(value, &DOCS),
        Form::Rules => array(value.as_array().map_or(&[], Vec::as_slice), |r| fields_of(r, &RULE)),
    }
}
