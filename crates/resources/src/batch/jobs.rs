//! Jobs.
//!
//! upstream: pkg/apis/batch/v1/defaults.go, pkg/registry/batch/job/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use serde_json::{Map, Value};

use super::validation;
use crate::apps::workload;
use crate::core::pods::cells::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers, human, text_column,
};
use crate::core::pods::tree::{fill, fill_text, has, int, list_mut, part_mut, text};
use crate::core::pods::{defaults, warnings};
use crate::plain::{begin, separate};
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// The field that jobs can be selected by.
const FIELDS: [&str; 1] = ["status.successful"];

/// The rules of jobs.
pub(crate) struct Jobs;

impl Strategy for Jobs {
    fn default(&self, object: &mut Object) {
        let labels = object.get(&["spec", "template", "metadata", "labels"]).cloned();
        let own = object.get(&["metadata", "labels"]).and_then(Value::as_object);
        if let (Some(labels), true) = (labels, own.is_none_or(Map::is_empty)) {
            object.set(&["metadata", "labels"], labels);
        }
        spec_defaults(workload::spec(object));
        let spec = workload::spec(object);
        if int(spec, "completions").is_none() && int(spec, "parallelism").is_none() {
            fill(spec, "completions", 1);
        }
        fill(spec, "parallelism", 1);
        let limit = if has(spec, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
        fill(spec, "backoffLimit", limit);
        fill(spec, "completionMode", "NonIndexed");
        fill(spec, "suspend", false);
        let failed = has(spec, "podFailurePolicy");
        let policy = if failed { "Failed" } else { "TerminatingOrFailed" };
        fill(spec, "podReplacementPolicy", policy);
        fill(spec, "manualSelector", false);
        workload::complete(object, "batch/v1.Job");
    }

    fn canonicalize(&self, object: &mut Object) {
        // What is stored gets its defaults again when it is read: the labels of the template are
        // known now.
        self.default(object);
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        generate_selector(object);
        begin(object);
        workload::complete(object, "batch/v1.Job");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::job(object, None)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        if ctx.subresource == "status" {
            errors.extend(validation::job_status(new, old));
        } else {
            errors.extend(validation::job(new, Some(old)));
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
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        texts.extend(spec_warnings(spec, "spec"));
        texts
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![(FIELDS[0], object.int(&["status", "succeeded"]).unwrap_or(0).to_string())]
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &FIELDS
    }

    fn unsupported_field(&self, name: &str) -> String {
        format!("field label {name:?} not supported for Job")
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Status", "What the job is doing."),
            text_column("Completions", "Pods that succeeded, of those wanted."),
            text_column("Duration", "Time that the job took or has taken."),
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
            status(object).into(),
            completions(object).into(),
            duration(object, now).into(),
            age(object, now),
            names,
            images,
            workload::selector(object),
        ]
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn orphan_warning(&self) -> Option<&'static str> {
        // upstream: pkg/registry/batch/job/storage/storage.go deleteOptionWarnings
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        )
    }
}

/// The defaults inside a job's spec that also hold in the template of a cron job.
pub(super) fn spec_defaults(spec: &mut Value) {
    defaults::template(part_mut(spec, "template"));
    let Some(policy) = spec.get_mut("podFailurePolicy") else { return };
    for rule in list_mut(policy, "rules") {
        for pattern in list_mut(rule, "onPodConditions") {
            fill_text(pattern, "status", "True");
        }
    }
}

/// Labels that tie pods to their job, in their old and new names.
pub(super) const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
/// See [`NAME_LABELS`].
pub(super) const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

fn generate_selector(object: &mut Object) {
    if object.bool(&["spec", "manualSelector"]) {
        return;
    }
    let (name, uid) = (object.name().to_owned(), object.uid().to_owned());
    // A job without labels of its own shares those of its template, the generated ones too.
    let shared = object.labels().is_some()
        && object.labels()
            == object.get(&["spec", "template", "metadata", "labels"]).and_then(Value::as_object);
    let spec = workload::spec(object);
    let labels = part_mut(part_mut(part_mut(spec, "template"), "metadata"), "labels");
    for key in NAME_LABELS {
        fill(labels, key, name.as_str());
    }
    for key in UID_LABELS {
        fill(labels, key, uid.as_str());
    }
    let labels = labels.clone();
    let selected = part_mut(part_mut(spec, "selector"), "matchLabels");
    fill(selected, UID_LABELS[1], uid);
    if shared {
        object.set(&["metadata", "labels"], labels);
    }
}

/// Advice on a job's spec.
///
/// upstream: pkg/api/job/warnings.go
pub(super) fn spec_warnings(spec: &Value, path: &str) -> Vec<String> {
    /// Indexes above which the status of an indexed job may get too large.
    const COMPLETIONS_SOFT_MAX: i64 = 100_000;
    const PARALLELISM_SOFT_MAX: i64 = 10_000;
    let mut texts = Vec::new();
    if text(spec, "completionMode") == "Indexed" {
        let (completions, parallelism) = (int(spec, "completions"), int(spec, "parallelism"));
        if completions.is_some_and(|n| n > COMPLETIONS_SOFT_MAX)
            && parallelism.is_some_and(|n| n > PARALLELISM_SOFT_MAX)
        {
            texts.push(format!(
                "{path}: In Indexed Jobs with a number of completions higher than {COMPLETIONS_SOFT_MAX} and a parallelism higher than {PARALLELISM_SOFT_MAX}, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
            ));
        }
    }
    texts.extend(warnings::template(spec.get("template"), &format!("{path}.template")));
    texts
}

fn status(object: &Object) -> &'static str {
    let conditions = object.list(&["status", "conditions"]);
    let holds = |kind: &str| {
        conditions.iter().any(|c| text(c, "type") == kind && text(c, "status") == "True")
    };
    for kind in ["Complete", "Failed"] {
        if holds(kind) {
            return kind;
        }
    }
    if object.is_deleting() {
        return "Terminating";
    }
    let rest = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    rest.into_iter().find(|kind| holds(kind)).unwrap_or("Running")
}

fn completions(object: &Object) -> String {
    let succeeded = object.int(&["status", "succeeded"]).unwrap_or(0);
    if let Some(wanted) = object.int(&["spec", "completions"]) {
        return format!("{succeeded}/{wanted}");
    }
    match object.int(&["spec", "parallelism"]).unwrap_or(0) {
        many @ 2.. => format!("{succeeded}/1 of {many}"),
        _ => format!("{succeeded}/1"),
    }
}

fn duration(object: &Object, now: Timestamp) -> String {
    let time = |key: &str| object.str(&["status", key]).parse::<Timestamp>().ok();
    match (time("startTime"), time("completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => human(end.unwrap_or(now).as_second() - start.as_second()),
    }
}
