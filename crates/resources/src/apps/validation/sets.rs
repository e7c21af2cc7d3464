//! Stateful sets.
//!
//! upstream: pkg/apis/apps/validation/validation.go ValidateStatefulSetSpec

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_labels;
use serde_json::{Value, json};

use super::{
    amount, at_most_all, collisions, counts, int_or_percent, not_more, parsed, runs_always,
    selector, spec_of, template_labels,
};
use crate::core::pods::tree::{drop_field, fill_always, int, list, part, text};
use crate::core::pods::validation::claims::claim_spec;
use crate::core::pods::validation::common::{dns_label, not_negative, one_of};
use crate::core::pods::validation::template;

/// What an update may change.
const UPDATABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

/// A stateful set.
pub(crate) fn stateful_set(new: &Object, old: Option<&Object>) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(old) = old else {
        spec(spec_of(new), None, Rules { create: true, template: true }, &mut errors);
        return errors;
    };
    // What was broken before may stay so.
    let (new, old) = (spec_of(new), spec_of(old));
    let mut before = ErrorList::new();
    spec(old, Some(old), Rules { create: false, template: true }, &mut before);
    spec(new, Some(old), Rules { create: false, template: before.is_empty() }, &mut errors);
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        UPDATABLE.iter().for_each(|key| drop_field(&mut spec, key));
        spec
    };
    if fixed(new) != fixed(old) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(&Path::new("spec"), detail));
    }
    errors
}

/// Which rules hold.
#[derive(Clone, Copy)]
struct Rules {
    /// Those of new objects.
    create: bool,
    /// Those of the template.
    template: bool,
}

fn spec(spec: &Value, old: Option<&Value>, rules: Rules, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let policy = text(spec, "podManagementPolicy");
    if policy != "OrderedReady" && policy != "Parallel" {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errors.push(Error::invalid(&path.child("podManagementPolicy"), policy, detail));
    }
    strategy(spec, &path.child("updateStrategy"), errors);
    let at = path.child("persistentVolumeClaimRetentionPolicy");
    let retention = part(spec, "persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        let value = retention.map_or("", |policy| text(policy, key));
        one_of(value, &["Retain", "Delete"], &at.child(key), errors);
    }
    if rules.create {
        for (i, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
            let at = path.child("volumeClaimTemplates").index(i).child("spec");
            claim_spec(part(claim, "spec").unwrap_or(&Value::Null), None, &at, errors);
        }
    }
    counts(spec, &["replicas", "minReadySeconds"], &path, errors);
    if let Some(ordinals) = part(spec, "ordinals") {
        let at = path.child("ordinals.start");
        not_negative(int(ordinals, "start").unwrap_or(0), &at, errors);
    }
    let service = text(spec, "serviceName");
    if rules.create && !service.is_empty() {
        dns_label(service, &path.child("serviceName"), errors);
    }
    selector(spec, "statefulset", &path, errors);
    match parsed(spec, &path, "") {
        Err(error) => errors.push(error),
        Ok(selector) => {
            if selector.as_ref().is_none_or(|s| !s.is_empty()) {
                template_labels(spec, selector.as_ref(), &path, errors);
            }
            if rules.template {
                let (new, old) = (with_claims(spec), old.map(with_claims));
                errors.extend(template(&new, old.as_ref(), &path.child("template")));
            }
            let null = Value::Null;
            let metadata = part(spec, "template").and_then(|t| part(t, "metadata"));
            let metadata = metadata.unwrap_or(&null);
            let at = path.child("template");
            errors.extend(validate_labels(metadata.get("labels"), &at.child("labels")));
        }
    }
    let template = part(spec, "template").unwrap_or(&Value::Null);
    runs_always(template, "StatefulSet", &path, errors);
}

/// The template as its pods will see it: the claims are volumes, and the names of the host are
/// those of the set.
fn with_claims(spec: &Value) -> Value {
    let mut template = part(spec, "template").cloned().unwrap_or_else(|| json!({}));
    let Some(pod) = template.get_mut("spec") else { return template };
    drop_field(pod, "subdomain");
    drop_field(pod, "hostname");
    let claims = list(spec, "volumeClaimTemplates");
    if claims.is_empty() {
        return template;
    }
    let mut names: Vec<&str> =
        claims.iter().map(|c| part(c, "metadata").map_or("", |m| text(m, "name"))).collect();
    names.sort_unstable();
    names.dedup();
    let made = names
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let own = list(pod, "volumes").iter().filter(|v| !names.contains(&text(v, "name"))).cloned();
    let volumes: Vec<Value> = made.chain(own).collect();
    fill_always(pod, "volumes", volumes);
    template
}

fn strategy(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let strategy = part(spec, "updateStrategy").unwrap_or(&Value::Null);
    let at = path.child("rollingUpdate");
    match (text(strategy, "type"), part(strategy, "rollingUpdate")) {
        ("", _) => errors.push(Error::required(path, "")),
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(Error::invalid(&at, rolling.clone(), detail));
        }
        ("RollingUpdate", Some(rolling)) => {
            counts(rolling, &["partition"], &at, errors);
            let Some(down) = part(rolling, "maxUnavailable") else { return };
            let at = at.child("maxUnavailable");
            int_or_percent(Some(down), &at, errors);
            if amount(Some(down)) == 0 {
                errors.push(Error::invalid(&at, down.clone(), "cannot be 0"));
            }
            at_most_all(Some(down), &at, errors);
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(Error::invalid(path, strategy.clone(), detail));
        }
    }
}

/// The status of a stateful set.
pub(crate) fn stateful_set_status(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let status = new.get(&["status"]).unwrap_or(&Value::Null);
    let path = Path::new("status");
    let keys = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    counts(status, &keys, &path, &mut errors);
    not_more(status, &keys[1..5], ("replicas", "status.replicas"), &path, &mut errors);
    let than = ("readyReplicas", "status.readyReplicas");
    not_more(status, &["availableReplicas"], than, &path, &mut errors);
    collisions(new, old, &mut errors);
    errors
}
