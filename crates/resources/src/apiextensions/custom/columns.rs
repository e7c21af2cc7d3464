//! The columns that a definition gives to the tables of its objects.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::jsonpath::JsonPath;
use longshore_api::patch::gotext;
use serde_json::Value;

use crate::core::pods::cells::{NAME, human};
use crate::core::pods::tree::{int, text};
use crate::table::Heading;

/// The columns behind the name.
#[derive(Debug)]
pub(super) struct Columns(Vec<Column>);

#[derive(Debug)]
struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i32,
    path: JsonPath,
}

impl Columns {
    /// The columns of a version; its objects' age when it tells none. What follows a column whose path cannot be
    /// read is left out.
    pub(super) fn of(columns: &[Value]) -> Self {
        let age = serde_json::json!({
            "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "Time since the object was created.",
        });
        let columns = if columns.is_empty() { std::slice::from_ref(&age) } else { columns };
        let column = |column: &Value| {
            let path = text(column, "jsonPath");
            let description = match text(column, "description") {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                told => told.to_owned(),
            };
            Some(Column {
                name: text(column, "name").to_owned(),
                kind: text(column, "type").to_owned(),
                format: text(column, "format").to_owned(),
                description,
                priority: int(column, "priority").and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
                path: JsonPath::parse(path).ok()?,
            })
        };
        Self(columns.iter().map_while(column).collect())
    }

    pub(super) fn headings(&self) -> Vec<Heading<'_>> {
        let rest = self.0.iter().map(|column| Heading {
            name: &column.name,
            kind: &column.kind,
            format: &column.format,
            description: &column.description,
            priority: column.priority,
        });
        std::iter::once(NAME).chain(rest).collect()
    }

    pub(super) fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let whole = Value::Object(object.root().clone());
        let cells = self.0.iter().map(|column| column.cell(&whole, now));
        std::iter::once(object.name().into()).chain(cells).collect()
    }
}

impl Column {
    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.find(object);
        let Some(value) = found.ok().and_then(|found| found.first().copied()) else {
            return Value::Null;
        };
        match self.kind.as_str() {
            "string" => shown(value).into(),
            "integer" => match value.as_i64() {
                Some(number) => number.into(),
                None => value.as_f64().map_or(Value::Null, |float| (float as i64).into()),
            },
            "number" => value.as_f64().map_or(Value::Null, Value::from),
            "boolean" if value.is_boolean() => value.clone(),
            "date" => value.as_str().map_or(Value::Null, |time| age(time, now).into()),
            _ => Value::Null,
        }
    }
}

/// A value as text.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::Array(_) | Value::Object(_) => {
            // Go writes these letters so that they can stand in HTML.
            let text = value.to_string();
            text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
        other => gotext::plain(other),
    }
}

/// The time since a timestamp.
fn age(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => human(now.as_second() - time.as_second()),
        Err(_) if matches!(time, "" | "null") => "<unknown>".into(),
        Err(_) => "<invalid>".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_have_the_type_of_their_column() {
        let column = |kind: &str| json!({"name": "V", "type": kind, "jsonPath": ".spec.v"});
        for (kind, value, want) in [
            ("string", json!([1, "<"]), json!("[1,\"\\u003c\"]")),
            ("string", json!(null), json!("<no value>")),
            ("string", json!(1.5), json!("1.5")),
            ("integer", json!(1.5), json!(1)),
            ("integer", json!("1"), json!(null)),
            ("number", json!(2), json!(2.0)),
            ("boolean", json!("true"), json!(null)),
            ("date", json!("1970-01-01T00:00:00Z"), json!("100s")),
            ("date", json!("soon"), json!("<invalid>")),
            ("date", json!(""), json!("<unknown>")),
            ("date", json!(5), json!(null)),
        ] {
            let columns = Columns::of(&[column(kind)]);
            let value = json!({"metadata": {"name": "a"}, "spec": {"v": value}});
            let object = Object::from_value(value).expect("an object");
            let now = Timestamp::from_second(100).expect("a time");
            assert_eq!(columns.cells(&object, now), [json!("a"), want], "{kind}");
        }
    }

    #[test]
    fn a_definition_without_columns_shows_the_age() {
        let columns = Columns::of(&[]);
        let names: Vec<&str> = columns.headings().iter().map(|heading| heading.name).collect();
        assert_eq!(names, ["Name", "Age"]);
        let broken = json!({"name": "B", "type": "string", "jsonPath": ".a["});
        let good = json!({"name": "A", "type": "string", "jsonPath": ".a"});
        assert_eq!(Columns::of(&[good.clone(), broken, good]).headings().len(), 2);
    }
}
