//! Cron jobs.
//!
//! upstream: pkg/apis/batch/v1/defaults.go, pkg/registry/batch/cronjob/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use serde_json::Value;

use super::{jobs, validation};
use crate::apps::workload;
use crate::core::pods::cells::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers, number, selector, since, text_column,
};
use crate::core::pods::tree::{fill, fill_text, part_mut};
use crate::plain::{begin, separate};
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// The rules of cron jobs.
pub(crate) struct CronJobs;

impl Strategy for CronJobs {
    fn default(&self, object: &mut Object) {
        let spec = workload::spec(object);
        fill_text(spec, "concurrencyPolicy", "Allow");
        fill(spec, "suspend", false);
        fill(spec, "successfulJobsHistoryLimit", 3);
        fill(spec, "failedJobsHistoryLimit", 1);
        jobs::spec_defaults(part_mut(part_mut(spec, "jobTemplate"), "spec"));
        workload::complete(object, "batch/v1.CronJob");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        begin(object);
        workload::complete(object, "batch/v1.CronJob");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::cron_job(object, None)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        if ctx.subresource != "status" {
            errors.extend(validation::cron_job(new, Some(old)));
        }
        errors
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let mut texts = Vec::new();
        match old {
            None => texts.extend(workload::name_warning(object)),
            Some(old) if old.generation() == object.generation() => return texts,
            Some(_) => {}
        }
        let path = ["spec", "jobTemplate", "spec"];
        let spec = object.get(&path).unwrap_or(&Value::Null);
        texts.extend(jobs::spec_warnings(spec, "spec.jobTemplate.spec"));
        texts
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Schedule", "When jobs are made."),
            text_column("Timezone", "Time zone of the schedule."),
            Column { kind: "boolean", ..text_column("Suspend", "Whether no jobs are made.") },
            number("Active", "Jobs that run."),
            text_column("Last Schedule", "Time since a job was last made."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(object.get(&["spec", "jobTemplate", "spec", "template"]));
        let or_none = |text: &str| if text.is_empty() { "<none>" } else { text }.to_owned();
        let last = match object.str(&["status", "lastScheduleTime"]) {
            "" => "<none>".to_owned(),
            time => since(time, now),
        };
        let suspend = object.get(&["spec", "suspend"]).and_then(Value::as_bool);
        let suspend = match suspend {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        vec![
            object.name().into(),
            object.str(&["spec", "schedule"]).into(),
            or_none(object.str(&["spec", "timeZone"])).into(),
            suspend.into(),
            object.list(&["status", "active"]).len().into(),
            last.into(),
            age(object, now),
            names,
            images,
            selector(object.get(&["spec", "jobTemplate", "spec", "selector"])).into(),
        ]
    }
}
