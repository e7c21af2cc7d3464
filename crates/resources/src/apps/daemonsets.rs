//! Daemon sets.
//!
//! upstream: pkg/apis/apps/v1/defaults.go, pkg/registry/apps/daemonset/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use serde_json::Value;

use super::{validation, workload};
use crate::core::pods::cells::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers, count, labels, number, text_column,
};
use crate::core::pods::defaults;
use crate::core::pods::tree::{fill, fill_text, has, part_mut, text};
use crate::plain::{begin, separate};
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// Where the number of template changes is kept.
///
/// upstream: pkg/apis/apps/v1/conversion.go
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The rules of daemon sets.
pub(crate) struct DaemonSets;

impl Strategy for DaemonSets {
    fn default(&self, object: &mut Object) {
        let spec = workload::spec(object);
        let strategy = part_mut(spec, "updateStrategy");
        fill_text(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate" {
            let rolling = part_mut(strategy, "rollingUpdate");
            fill(rolling, "maxUnavailable", 1);
            fill(rolling, "maxSurge", 0);
        } else if has(strategy, "rollingUpdate") {
            let rolling = part_mut(strategy, "rollingUpdate");
            fill(rolling, "maxUnavailable", 0);
            fill(rolling, "maxSurge", 0);
        }
        fill(spec, "revisionHistoryLimit", 10);
        defaults::template(part_mut(spec, "template"));
        // The number is part of every set, also of one that does not tell it.
        if object.annotation(TEMPLATE_GENERATION).is_none() {
            set_template_generation(object, 0);
        }
        workload::complete(object, "apps/v1.DaemonSet");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        begin(object);
        set_template_generation(object, template_generation(object).max(1));
        workload::complete(object, "apps/v1.DaemonSet");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::daemon_set(object, None)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
        if ctx.subresource == "status" {
            set_template_generation(new, template_generation(old));
            return;
        }
        let template = |o: &Object| o.get(&["spec", "template"]).cloned();
        let changed = i64::from(template(new) != template(old));
        set_template_generation(new, template_generation(old) + changed);
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        if ctx.subresource == "status" {
            errors.extend(validation::daemon_set_status(new, old));
        } else {
            errors.extend(validation::daemon_set(new, Some(old)));
        }
        errors
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let template = |o: &Object| o.get(&["spec", "template"]).cloned();
        if old.is_some_and(|old| template(old) == template(object)) {
            return Vec::new();
        }
        workload::warnings(object, old, false)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            number("Desired", "Nodes that want a pod."),
            number("Current", "Nodes with a pod that want one."),
            number("Ready", "Nodes with a ready pod."),
            number("Up-to-date", "Nodes with a pod of the current template."),
            number("Available", "Nodes with a pod that has been ready long enough."),
            text_column("Node Selector", "Labels of the nodes that pods may run on."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(object.get(&["spec", "template"]));
        let nodes = object.get(&["spec", "template", "spec", "nodeSelector"]);
        let status = |key: &str| count(object, &["status", key]);
        vec![
            object.name().into(),
            status("desiredNumberScheduled"),
            status("currentNumberScheduled"),
            status("numberReady"),
            status("updatedNumberScheduled"),
            status("numberAvailable"),
            labels(nodes).into(),
            age(object, now),
            names,
            images,
            workload::selector(object),
        ]
    }
}

/// How often the template changed.
pub(super) fn template_generation(object: &Object) -> i64 {
    object.annotation(TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut Object, generation: i64) {
    object.set(&["metadata", "annotations", TEMPLATE_GENERATION], generation.to_string());
}
