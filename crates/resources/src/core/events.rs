//! Events, in both groups that serve them. They are stored as those of the core group.
//!
//! upstream: pkg/registry/core/event/strategy.go, pkg/apis/core/validation/events.go,
//! pkg/apis/events/v1/conversion.go

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, names};
use serde_json::{Value, json};

use super::pods::cells::{since, text_column, wide};
use super::pods::tree::{int, or_null, part, text};
use super::pods::validation::common::{IMMUTABLE, qualified_name};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// How long an event is kept.
const TTL_SECONDS: u64 = 3600;
/// Fields that have another name in the newer group: the stored name and the newer one.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];
const FIELDS: [&str; 11] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const NEWER_FIELDS: [&str; 10] = [
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];
/// Fields that never change, as upstream's internal type calls them, and where they are stored.
/// The reason is looked at twice.
const FIXED: [(&str, &str); 14] = [
    ("involvedObject", "involvedObject"),
    ("reason", "reason"),
    ("message", "message"),
    ("source", "source"),
    ("firstTimestamp", "firstTimestamp"),
    ("lastTimestamp", "lastTimestamp"),
    ("count", "count"),
    ("reason", "reason"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingComponent"),
    ("reportingInstance", "reportingInstance"),
];

/// The rules of events; those of the core group are more lenient.
pub(crate) struct Events {
    /// Whether this is the core group.
    pub(crate) core: bool,
}

impl Strategy for Events {
    fn metadata_rules(&self) -> MetadataRules {
        let old = MetadataRules { on_create: false, ..MetadataRules::OWN };
        if self.core { old } else { MetadataRules::CHANGES }
    }

    fn converts(&self) -> bool {
        true
    }

    fn to_storage(&self, object: &mut Object) {
        if self.core {
            return;
        }
        rename(object, |(stored, newer)| (newer, stored));
        object.set(&["apiVersion"], "v1");
        for key in ["eventTime", "firstTimestamp", "lastTimestamp"] {
            fill(object, key, Value::Null);
        }
        for key in ["involvedObject", "source"] {
            fill(object, key, json!({}));
        }
        for key in ["reportingComponent", "reportingInstance"] {
            fill(object, key, "".into());
        }
    }

    fn from_storage(&self, object: &mut Object) {
        if self.core {
            return;
        }
        rename(object, |names| names);
        for key in ["eventTime", "deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
            fill(object, key, Value::Null);
        }
        for key in ["regarding", "deprecatedSource"] {
            fill(object, key, json!({}));
        }
        for key in ["reportingController", "reportingInstance"] {
            if object.str(&[key]).is_empty() {
                object.remove(&[key]);
            }
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let event = self.stored(object);
        let mut errors = self.lenient(&event);
        if !self.core {
            strict(&event, &mut errors);
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let (new, old) = (self.stored(new), self.stored(old));
        let mut errors = self.lenient(&new);
        if self.core {
            return errors;
        }
        if new.get("series") != old.get("series") {
            series(&new, &mut errors);
        }
        for (name, key) in FIXED {
            let zero: Value = match key {
                "involvedObject" | "source" | "related" => Value::Null,
                "firstTimestamp" | "lastTimestamp" | "eventTime" => Value::Null,
                "count" => 0.into(),
                _ => "".into(),
            };
            let of = |event: &Value| event.get(key).unwrap_or(&zero).clone();
            let now = of(&new);
            if now == of(&old) {
                continue;
            }
            let ty =
                if key == "source" { "core/v1.EventSource" } else { "core/v1.ObjectReference" };
            let is_struct = now.is_object();
            let error = Error::invalid(&Path::new(name), now, IMMUTABLE);
            errors.push(if is_struct { error.as_struct(ty) } else { error });
        }
        errors
    }

    fn error_group(&self) -> Option<&'static str> {
        // Upstream has one internal kind for both groups.
        Some("")
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let event = self.stored(object);
        let value = |key: &str| match key.split_once('.') {
            Some((_, key)) => text(event.get("involvedObject").unwrap_or(&Value::Null), key),
            None if key == "source" => component(&event),
            None if key == "reportingController" => text(&event, "reportingComponent"),
            None => text(&event, key),
        };
        // Both groups share one cache, so every event has its fields under both sets of names.
        let newer = NEWER_FIELDS.iter().filter(|name| !FIELDS.contains(name));
        FIELDS.iter().chain(newer).map(|name| (*name, value(name).to_owned())).collect()
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        if self.core { &FIELDS } else { &NEWER_FIELDS }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            text_column("Last Seen", "Time since it was last seen."),
            text_column("Type", "Normal or Warning."),
            text_column("Reason", "Why it happened, in one word."),
            text_column("Object", "What it is about."),
            wide("Subobject", "The part of the object."),
            wide("Source", "Who reported it."),
            text_column("Message", "What happened."),
            wide("First Seen", "Time since it was first seen."),
            wide("Count", "How often it was seen."),
            Column { format: "name", ..wide("Name", "Name of the event.") },
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        row(&self.stored(object), now)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn ttl_seconds(&self) -> Option<u64> {
        Some(TTL_SECONDS)
    }
}

fn rename(
    object: &mut Object,
    order: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    for names in RENAMED {
        let (from, to) = order(names);
        if let Some(value) = object.remove(&[from]) {
            object.set(&[to], value);
        }
    }
}

fn fill(object: &mut Object, key: &str, value: Value) {
    object.root_mut().entry(key).or_insert(value);
}

fn component(event: &Value) -> &str {
    let source = event.get("source").unwrap_or(&Value::Null);
    match text(source, "component") {
        "" => text(event, "reportingComponent"),
        component => component,
    }
}

impl Events {
    /// The event as it is stored.
    fn stored(&self, object: &Object) -> Value {
        let mut object = object.clone();
        self.to_storage(&mut object);
        object.into_value()
    }

    /// The rules of both groups.
    fn lenient(&self, event: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let namespace = event.get("metadata").map_or("", |m| text(m, "namespace"));
        let about = event.get("involvedObject").map_or("", |o| text(o, "namespace"));
        let mismatch = |errors: &mut ErrorList| {
            let path = Path::new("involvedObject").child("namespace");
            errors.push(Error::invalid(&path, about, "does not match event.namespace"));
        };
        if part(event, "eventTime").is_none() {
            let good = if about.is_empty() {
                matches!(namespace, "" | "default")
            } else {
                namespace == about
            };
            if !good {
                mismatch(&mut errors);
            }
        } else {
            if about.is_empty() && !matches!(namespace, "default" | "kube-system") {
                mismatch(&mut errors);
            }
            self.reporter(event, &mut errors);
        }
        for why in names::is_dns1123_subdomain(namespace) {
            errors.push(Error::invalid(&Path::new("namespace"), namespace, &why));
        }
        errors
    }

    fn reporter(&self, event: &Value, errors: &mut ErrorList) {
        let name = if self.core { "reportingComponent" } else { "reportingController" };
        let controller = text(event, "reportingComponent");
        if controller.is_empty() {
            errors.push(Error::required(&Path::new(name), ""));
        }
        qualified_name(controller, &Path::new(name), errors);
        for key in ["reportingInstance", "action", "reason"] {
            if text(event, key).is_empty() {
                errors.push(Error::required(&Path::new(key), ""));
            }
            at_most(event, key, 128, errors);
        }
        at_most(event, "message", 1024, errors);
    }
}

fn at_most(event: &Value, key: &str, max: usize, errors: &mut ErrorList) {
    if text(event, key).len() > max {
        let why = format!("can have at most {max} characters");
        errors.push(Error::invalid(&Path::new(key), "", &why));
    }
}

/// What the newer group asks of new events besides.
fn strict(event: &Value, errors: &mut ErrorList) {
    series(event, errors);
    if part(event, "eventTime").is_none() {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        let why = format!("has invalid value: {kind}");
        errors.push(Error::invalid(&Path::new("type"), "", &why));
    }
    let source = event.get("source").unwrap_or(&Value::Null);
    let set = [
        ("firstTimestamp", part(event, "firstTimestamp").is_some()),
        ("lastTimestamp", part(event, "lastTimestamp").is_some()),
        ("count", int(event, "count").unwrap_or(0) != 0),
        ("source", !text(source, "component").is_empty() || !text(source, "host").is_empty()),
    ];
    for (key, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.push(Error::invalid(&Path::new(key), "", "needs to be unset"));
    }
}

fn series(event: &Value, errors: &mut ErrorList) {
    let Some(series) = part(event, "series") else { return };
    if int(series, "count").unwrap_or(0) < 2 {
        errors.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
    }
    if part(series, "lastObservedTime").is_none() {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
}

fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    let time = |key: &str| part(event, key).and_then(Value::as_str).map(|t| since(t, now));
    let first = time("firstTimestamp").or_else(|| time("eventTime"));
    let first = first.unwrap_or_else(|| "<unknown>".to_owned());
    let mut last = time("lastTimestamp").unwrap_or_else(|| first.clone());
    let mut count = int(event, "count").unwrap_or(0).max(1);
    if let Some(series) = part(event, "series") {
        last = since(text(series, "lastObservedTime"), now);
        count = int(series, "count").unwrap_or(0);
    }
    let about = event.get("involvedObject").unwrap_or(&Value::Null);
    let target = match text(about, "name") {
        "" => text(about, "kind").to_lowercase(),
        name => format!("{}/{name}", text(about, "kind").to_lowercase()),
    };
    let source = or_null(event, "source");
    let host = match text(&source, "host") {
        "" => text(event, "reportingInstance"),
        host => host,
    };
    let source = match host {
        "" => component(event).to_owned(),
        host => format!("{}, {host}", component(event)),
    };
    vec![
        last.into(),
        text(event, "type").into(),
        text(event, "reason").into(),
        target.into(),
        text(about, "fieldPath").into(),
        source.into(),
        text(event, "message").trim().into(),
        first.into(),
        count.into(),
        text(event.get("metadata").unwrap_or(&Value::Null), "name").into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_groups_share_their_storage() {
        let newer = Events { core: false };
        let event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "a", "namespace": "b"},
            "note": "text",
            "regarding": {"kind": "Pod", "namespace": "b"},
            "deprecatedSource": {},
            "deprecatedFirstTimestamp": null,
            "deprecatedLastTimestamp": null,
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "example.com/c",
            "reportingInstance": "c-1",
        });
        let mut object = Object::from_value(event.clone()).expect("an object");
        newer.to_storage(&mut object);
        assert_eq!(object.str(&["message"]), "text");
        assert_eq!(object.str(&["reportingComponent"]), "example.com/c");
        assert_eq!(object.api_version(), "v1");
        object.set(&["apiVersion"], "events.k8s.io/v1");
        newer.from_storage(&mut object);
        assert_eq!(object.into_value(), event);
    }
}
