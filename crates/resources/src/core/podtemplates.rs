//! Pod templates as objects of their own.
//!
//! upstream: pkg/registry/core/podtemplate/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{ErrorList, Path};
use serde_json::{Value, json};

use super::pods::cells::{NAME, containers, labels, text_column};
use super::pods::{defaults, validation, warnings};
use crate::apps::workload;
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// The rules of pod templates.
pub(crate) struct PodTemplates;

impl Strategy for PodTemplates {
    fn default(&self, object: &mut Object) {
        if object.get(&["template"]).is_none() {
            object.set(&["template"], json!({}));
        }
        if let Some(template) = object.get_mut(&["template"]) {
            defaults::template(template);
        }
        workload::complete(object, "core/v1.PodTemplate");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let template = object.get(&["template"]).unwrap_or(&Value::Null);
        validation::template(template, None, &Path::new("template"))
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if new.get(&["template"]) != old.get(&["template"]) {
            new.set(&["metadata", "generation"], old.generation() + 1);
        }
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        let template = new.get(&["template"]).unwrap_or(&Value::Null);
        errors.extend(validation::template(
            template,
            old.get(&["template"]),
            &Path::new("template"),
        ));
        errors
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        if old.is_some_and(|old| old.generation() == object.generation()) {
            return Vec::new();
        }
        warnings::template(object.get(&["template"]), "template")
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Containers", "Names of the template's containers."),
            text_column("Images", "Images of the template's containers."),
            text_column("Pod Labels", "Labels of the template."),
        ]
    }

    fn row(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(object.get(&["template"]));
        let labels = labels(object.get(&["template", "metadata", "labels"]));
        vec![object.name().into(), names, images, labels.into()]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}
