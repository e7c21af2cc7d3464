//! Replica sets, and replication controllers, their older form.
//!
//! upstream: pkg/registry/apps/replicaset/strategy.go,
//! pkg/registry/core/replicationcontroller/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use serde_json::Value;

use super::{validation, workload};
use crate::core::pods::cells::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers, count, labels, number,
};
use crate::core::pods::defaults;
use crate::core::pods::tree::{fill, has, part_mut};
use crate::plain::{begin, separate};
use crate::strategy::{Context, Strategy};
use crate::table::{Column, declared_name_rule};

/// The field that both kinds can be selected by.
const FIELDS: [&str; 1] = ["status.replicas"];

/// The rules of replica sets.
pub(crate) struct ReplicaSets;

impl Strategy for ReplicaSets {
    fn default(&self, object: &mut Object) {
        let spec = workload::spec(object);
        fill(spec, "replicas", 1);
        defaults::template(part_mut(spec, "template"));
        workload::complete(object, "apps/v1.ReplicaSet");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        begin(object);
        workload::complete(object, "apps/v1.ReplicaSet");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::replica_set(object, None)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        if ctx.subresource == "status" {
            errors.extend(validation::replica_counts(new));
        } else {
            errors.extend(validation::replica_set(new, Some(old)));
        }
        errors
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        workload::warnings(object, old, true)
    }

    fn columns(&self) -> Vec<Column> {
        columns()
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        row(object, now, workload::selector(object))
    }
}

/// The rules of replication controllers.
pub(crate) struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    fn default(&self, object: &mut Object) {
        let template = object.get(&["spec", "template", "metadata", "labels"]).cloned();
        let empty = |o: &Object, path: &[&str]| {
            o.get(path).and_then(Value::as_object).is_none_or(serde_json::Map::is_empty)
        };
        if let Some(template) = template {
            for path in [["spec", "selector"], ["metadata", "labels"]] {
                if empty(object, &path) {
                    object.set(&path, template.clone());
                }
            }
        }
        let spec = workload::spec(object);
        fill(spec, "replicas", 1);
        if has(spec, "template") {
            defaults::template(part_mut(spec, "template"));
        }
        workload::complete(object, "core/v1.ReplicationController");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        begin(object);
        workload::complete(object, "core/v1.ReplicationController");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::replication_controller(object, None)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        if ctx.subresource == "status" {
            errors.extend(validation::replica_counts(new));
        } else {
            errors.extend(validation::replication_controller(new, Some(old)));
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        declared_name_rule(name, prefix)
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        // Upstream looks at the template before the change.
        match old {
            Some(old) if old.generation() != object.generation() => {
                workload::warnings(old, None, false)
            }
            old => workload::warnings(object, old, true),
        }
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![(FIELDS[0], object.int(&["status", "replicas"]).unwrap_or(0).to_string())]
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &FIELDS
    }

    fn columns(&self) -> Vec<Column> {
        columns()
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        row(object, now, labels(object.get(&["spec", "selector"])).into())
    }

    fn orphans_by_default(&self) -> bool {
        true
    }
}

fn columns() -> Vec<Column> {
    vec![
        NAME,
        number("Desired", "Pods wanted."),
        number("Current", "Pods that exist."),
        number("Ready", "Pods that are ready."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ]
}

fn row(object: &Object, now: Timestamp, selector: Value) -> Vec<Value> {
    let [names, images] = containers(object.get(&["spec", "template"]));
    vec![
        object.name().into(),
        count(object, &["spec", "replicas"]),
        count(object, &["status", "replicas"]),
        count(object, &["status", "readyReplicas"]),
        age(object, now),
        names,
        images,
        selector,
    ]
}
