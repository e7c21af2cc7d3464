//! Deployments.
//!
//! upstream: pkg/apis/apps/v1/defaults.go, pkg/registry/apps/deployment/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use longshore_api::managed::Filter;
use serde_json::Value;

use super::{validation, workload};
use crate::core::pods::cells::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers, count, text_column,
};
use crate::core::pods::defaults;
use crate::core::pods::tree::{fill, fill_text, part_mut, text};
use crate::plain::{begin, keep, separate};
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// The rules of deployments.
pub(crate) struct Deployments;

impl Strategy for Deployments {
    fn written_fields(&self, subresource: &str) -> Filter {
        match subresource {
            "status" => Filter::Except(&[&["spec"], &["metadata", "labels"]]),
            _ => Filter::Except(&[&["status"]]),
        }
    }

    fn default(&self, object: &mut Object) {
        let spec = workload::spec(object);
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "progressDeadlineSeconds", 600);
        let strategy = part_mut(spec, "strategy");
        fill_text(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate" {
            let rolling = part_mut(strategy, "rollingUpdate");
            fill(rolling, "maxUnavailable", "25%");
            fill(rolling, "maxSurge", "25%");
        }
        defaults::template(part_mut(spec, "template"));
        workload::complete(object, "apps/v1.Deployment");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        begin(object);
        workload::complete(object, "apps/v1.Deployment");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::deployment(object, None)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
        if ctx.subresource == "status" {
            workload::keep_labels(new, old);
        } else {
            keep(new, old, "status");
            // A rollback asks for a new generation, as a changed spec does.
            let annotations = |o: &Object| o.get(&["metadata", "annotations"]).cloned();
            if annotations(new) != annotations(old) {
                new.set(&["metadata", "generation"], old.generation() + 1);
            }
        }
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        if ctx.subresource == "status" {
            errors.extend(validation::deployment_status(new, old));
        } else {
            errors.extend(validation::deployment(new, Some(old)));
        }
        errors
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        workload::warnings(object, old, true)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Ready", "Ready pods of those wanted."),
            text_column("Up-to-date", "Pods of the current template."),
            text_column("Available", "Pods that have been ready long enough."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(object.get(&["spec", "template"]));
        vec![
            object.name().into(),
            workload::ready(object),
            count(object, &["status", "updatedReplicas"]),
            count(object, &["status", "availableReplicas"]),
            age(object, now),
            names,
            images,
            workload::selector_or_nothing(object).into(),
        ]
    }
}
