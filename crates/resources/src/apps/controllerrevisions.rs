//! Controller revisions: the history of templates.
//!
//! upstream: pkg/registry/apps/controllerrevision, pkg/apis/apps/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_object_meta;
use serde_json::Value;

use super::workload;
use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::text;
use crate::strategy::{Context, Strategy};
use crate::table::{Column, default_name_rule};

/// The rules of controller revisions.
pub(crate) struct ControllerRevisions;

impl Strategy for ControllerRevisions {
    fn default(&self, object: &mut Object) {
        workload::complete(object, "apps/v1.ControllerRevision");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = rules(object);
        let data = object.get(&["data"]).unwrap_or(&Value::Null);
        if data.is_null() {
            errors.push(Error::required(&Path::new("data"), "data is mandatory"));
        } else if !data.is_object() {
            errors.push(Error::required(&Path::new("data"), "data must be a valid JSON object"));
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors =
            validate_object_meta(new, true, &default_name_rule, &Path::new("metadata"));
        errors.extend(workload::changed_metadata(new, old));
        errors.extend(rules(new));
        if new.get(&["data"]) != old.get(&["data"]) {
            let value = new.get(&["data"]).cloned().unwrap_or(Value::Null);
            errors.push(Error::invalid(&Path::new("data"), value, "field is immutable"));
        }
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Controller", "What the revision belongs to."),
            text_column("Revision", "Number of the revision."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let owners = object.list(&["metadata", "ownerReferences"]);
        let owner = owners.iter().find(|o| o["controller"] == true);
        let controller = owner.map_or("<none>".to_owned(), |owner| {
            let kind = text(owner, "kind").to_lowercase();
            let group = text(owner, "apiVersion").split_once('/').map_or("", |(group, _)| group);
            let name = text(owner, "name");
            if group.is_empty() {
                format!("{kind}/{name}")
            } else {
                format!("{kind}.{group}/{name}")
            }
        });
        vec![
            object.name().into(),
            controller.into(),
            object.int(&["revision"]).unwrap_or(0).into(),
            age(object, now),
        ]
    }
}

fn rules(object: &Object) -> ErrorList {
    let revision = object.int(&["revision"]).unwrap_or(0);
    if revision >= 0 {
        return ErrorList::new();
    }
    let detail = "must be greater than or equal to 0";
    vec![Error::invalid(&Path::new("revision"), revision, detail)]
}
