//! Table and PartialObjectMetadata: the shapes that printing clients and metadata caches ask for.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/response.go

use jiff::Timestamp;
use longshore_api::field::{Error, Path};
use longshore_api::{Object, Reason, StatusError};
use longshore_resources::autoscaling::scale;
use longshore_resources::{Heading, Resource};
use serde_json::{Map, Value, json};

use crate::registry::Served;

/// The metadata of an object as a `PartialObjectMetadata`.
pub fn metadata_of(object: &Object, version: &str) -> Value {
    let metadata = object.get(&["metadata"]).cloned().unwrap_or_else(|| json!({}));
    json!({
        "apiVersion": format!("meta.k8s.io/{version}"),
        "kind": "PartialObjectMetadata",
        "metadata": metadata,
    })
}

/// 406 for one object where a list of metadata is asked for.
pub fn not_a_list(served: &Served, object: &Object) -> StatusError {
    let group = longshore_api::gvk::split_api_version(object.api_version());
    let group = group.map_or(&*served.resource.group, |(group, _)| group);
    let ty = go_type(group, object.kind());
    StatusError::new(
        Reason::NotAcceptable,
        format!(
            "you requested PartialObjectMetadataList, but the requested object is not a list ({ty})"
        ),
    )
}

/// 406 for a list where the metadata of one object is asked for.
pub fn is_a_list(served: &Served) -> StatusError {
    let ty = match &served.resource.custom {
        Some(_) => "*unstructured.UnstructuredList".to_owned(),
        None => go_type(&served.resource.group, &served.resource.list_kind()),
    };
    StatusError::new(
        Reason::NotAcceptable,
        format!("you requested PartialObjectMetadata, but the requested object is a list ({ty})"),
    )
}

/// How Go prints the type of an internal object.
fn go_type(group: &str, kind: &str) -> String {
    format!("*{}.{kind}", go_package(group))
}

/// The package of a group's internal types.
pub fn go_package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        other => other.split('.').next().unwrap_or(other),
    }
}

/// What a row holds besides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// The object's metadata.
    Metadata,
    /// The object.
    Object,
}

impl Include {
    /// Reads the parameter `includeObject`.
    ///
    /// # Errors
    /// 400 for another value.
    pub fn parse(text: &str) -> Result<Self, StatusError> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => {
                let detail = "must be 'Metadata', 'Object', 'None', or empty";
                let error = Error::invalid(&Path::new("includeObject"), other, detail);
                let text = format!("Unable to convert to Table as requested: {error}");
                Err(StatusError::bad_request(text))
            }
        }
    }
}

/// Whose columns a table has.
#[derive(Clone, Copy)]
pub enum Columns<'a> {
    /// The resource's own.
    Resource(&'a Resource),
    /// Those of the `scale` subresource.
    Scale,
}

impl<'a> Columns<'a> {
    /// The columns of one object that a resource or one of its subresources answers with.
    pub fn of(resource: &'a Resource, object: &Object) -> Self {
        let scale = object.kind() == "Scale" && resource.kind != "Scale";
        if scale { Self::Scale } else { Self::Resource(resource) }
    }

    fn columns(self) -> Vec<Heading<'a>> {
        match self {
            Self::Resource(resource) => resource.strategy.columns(),
            Self::Scale => scale::columns(),
        }
    }

    fn are_default(self) -> bool {
        self.columns().iter().map(|column| column.name).eq(["Name", "Created At"])
    }

    /// What is told of the state of an object besides its cells.
    fn conditions(self, object: &Object) -> Option<Value> {
        match self {
            Self::Resource(resource) => resource.strategy.row_condition(object),
            Self::Scale => None,
        }
    }

    fn cells(self, object: &Object, now: Timestamp) -> Vec<Value> {
        match self {
            Self::Resource(resource) => resource.strategy.row(object, now),
            Self::Scale => scale::row(object, now),
        }
    }
}

fn heading(column: &Heading<'_>) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format,
        "description": column.description, "priority": column.priority,
    })
}

/// How a table is made.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The version of the table's kind.
    pub version: &'a str,
    /// What rows hold besides cells.
    pub include: Include,
    /// Whether the columns are told; in later events of a watch they are not.
    pub headings: bool,
    /// The time that ages are told at.
    pub now: Timestamp,
}

/// A `Table` of objects.
pub fn of(
    columns: Columns<'_>,
    objects: impl Iterator<Item = Object>,
    meta: Value,
    options: &Options<'_>,
) -> Value {
    let rows: Vec<Value> = objects.map(|object| row(columns, object, options)).collect();
    // upstream: registry/rest/table.go begins with no list at all
    let rows = if rows.is_empty() && columns.are_default() { Value::Null } else { rows.into() };
    let headings: Option<Vec<Value>> =
        options.headings.then(|| columns.columns().iter().map(heading).collect());
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{}", options.version),
        "metadata": meta, "columnDefinitions": headings, "rows": rows,
    })
}

/// The list metadata of a table of one object.
pub fn meta_of(object: &Object) -> Value {
    match object.resource_version() {
        "" => json!({}),
        version => json!({ "resourceVersion": version }),
    }
}

fn row(columns: Columns<'_>, object: Object, options: &Options<'_>) -> Value {
    let mut row = Map::new();
    row.insert("cells".into(), columns.cells(&object, options.now).into());
    if let Some(condition) = columns.conditions(&object) {
        row.insert("conditions".into(), vec![condition].into());
    }
    // The mark of the end of the initial events is told even to those who want no objects.
    let ends = object.get(&["metadata", "annotations", super::watch::INITIAL_END]).is_some();
    let object = match options.include {
        Include::None if !ends => Value::Null,
        Include::Object => object.into_value(),
        _ => metadata_of(&object, options.version),
    };
    row.insert("object".into(), object);
    Value::Object(row)
}
