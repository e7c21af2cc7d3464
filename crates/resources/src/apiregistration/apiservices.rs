//! API services.
//!
//! upstream: staging/src/k8s.io/kube-aggregator/pkg/registry/apiservice and
//! pkg/apis/apiregistration/validation

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::managed::Filter;
use longshore_api::{Object, names};
use serde_json::{Value, json};

use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{fill, int, part, text};
use crate::core::pods::validation::common::{dns_subdomain, each, required};
use crate::plain::{keep, status_alone};
use crate::rbac::segment_name;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// The rules of API services.
pub(super) struct ApiServices;

impl Strategy for ApiServices {
    fn written_fields(&self, subresource: &str) -> Filter {
        status_alone(subresource)
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        if let Some(service) = object.get_mut(&["spec", "service"]) {
            fill(service, "port", 443);
        }
    }

    fn prepare_create(&self, ctx: &Context<'_>, object: &mut Object) {
        let local = object.get(&["spec", "service"]).is_none_or(Value::is_null);
        let status = if local {
            json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "lastTransitionTime": ctx.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "reason": "Local",
                "message": "Local APIServices are always available",
            }]})
        } else {
            json!({})
        };
        object.set(&["status"], status);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if ctx.subresource != "status" {
            keep(new, old, "status");
            return;
        }
        keep(new, old, "spec");
        for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
            match old.get(&["metadata", key]) {
                Some(value) => new.set(&["metadata", key], value.clone()),
                None => {
                    new.remove(&["metadata", key]);
                }
            }
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        if ctx.subresource != "status" {
            return rules(new);
        }
        let mut errors = ErrorList::new();
        for (i, condition) in new.list(&["status", "conditions"]).iter().enumerate() {
            let status = text(condition, "status");
            let set = ["True", "False", "Unknown"];
            if !set.contains(&status) {
                let path = Path::new("status").child("conditions").index(i).child("status");
                errors.push(Error::not_supported(&path, status, &set));
            }
        }
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        segment_name(name)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Service", "The service that serves it."),
            text_column("Available", "Whether it is served now."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let service = object.get(&["spec", "service"]).filter(|s| !s.is_null());
        let service = service.map_or_else(
            || "Local".to_owned(),
            |s| format!("{}/{}", text(s, "namespace"), text(s, "name")),
        );
        let conditions = object.list(&["status", "conditions"]);
        let found = conditions.iter().find(|c| text(c, "type") == "Available");
        let available = match found.map(|c| (text(c, "status"), text(c, "reason"))) {
            None => "Unknown".to_owned(),
            Some((status, reason)) if status == "True" || reason.is_empty() => status.to_owned(),
            Some((status, reason)) => format!("{status} ({reason})"),
        };
        vec![object.name().into(), service.into(), available.into(), age(object, now)]
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn rules(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let path = Path::new("spec");
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let wanted = format!("{version}.{group}");
    let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
    for key in ["generateName", "name"] {
        let name = object.str(&["metadata", key]);
        if !name.is_empty() && name != wanted && segment_name(name).is_empty() {
            errors.push(Error::invalid(&Path::new("metadata").child(key), name, &why));
        }
    }
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.push(Error::required(&path.child("group"), why));
    }
    if !group.is_empty() {
        dns_subdomain(group, &path.child("group"), &mut errors);
    }
    each(version, &path.child("version"), &names::is_dns1035_label(version), &mut errors);
    for (key, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = int(spec, key).unwrap_or(0);
        if !(1..=max).contains(&priority) {
            let why = format!("must be positive and less than {max}");
            errors.push(Error::invalid(&path.child(key), priority, &why));
        }
    }
    service(spec, &path, &mut errors);
    errors
}

fn service(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let bundle = text(spec, "caBundle");
    let insecure = spec.get("insecureSkipTLSVerify").and_then(Value::as_bool).unwrap_or(false);
    let at = path.child("insecureSkipTLSVerify");
    let Some(service) = part(spec, "service") else {
        if !bundle.is_empty() {
            let padding = bundle.bytes().rev().take_while(|b| *b == b'=').count();
            let size = format!("{} bytes", (bundle.len() / 4 * 3).saturating_sub(padding));
            let why = "local APIServices may not have a caBundle";
            errors.push(Error::invalid(&path.child("caBundle"), size, why));
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(Error::invalid(&at, true, why));
        }
        return;
    };
    let at_service = path.child("service");
    for key in ["namespace", "name"] {
        required(text(service, key), &at_service.child(key), errors);
    }
    let port = int(service, "port").unwrap_or(0);
    let broken = names::is_valid_port_num(port);
    if !broken.is_empty() {
        let why = format!("port is not valid: {}", broken.join(", "));
        errors.push(Error::invalid(&at_service.child("port"), port, &why));
    }
    if insecure && !bundle.is_empty() {
        errors.push(Error::invalid(&at, true, "may not be true if caBundle is present"));
    }
}
