//! Pods.
//!
//! upstream: pkg/registry/core/pod/strategy.go

pub(crate) mod cells;
mod columns;
pub(crate) mod defaults;
mod image;
mod prepare;
pub(crate) mod resources;
pub(crate) mod tree;
pub(crate) mod validation;
pub(crate) mod warnings;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use longshore_api::managed::Filter;
use longshore_api::names;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::strategy::{Context, DeleteContext, Strategy};
use crate::table::Column;
use tree::text;

/// The fields that select pods.
const FIELDS: [&str; 9] = [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

/// The rules of pods.
pub(crate) struct Pods;

impl Strategy for Pods {
    fn written_fields(&self, subresource: &str) -> Filter {
        match subresource {
            "status" => Filter::Except(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ]),
            // Upstream declares what these reset, but does not use it.
            "ephemeralcontainers" | "resize" => Filter::All,
            _ => Filter::Except(&[&["status"]]),
        }
    }

    fn default(&self, object: &mut Object) {
        defaults::pod(object);
        // upstream: pkg/apis/core/v1/conversion.go Convert_v1_Pod_To_core_Pod
        let grace = ["spec", "terminationGracePeriodSeconds"];
        if object.int(&grace).is_some_and(|seconds| seconds < 0) {
            object.set(&grace, 1);
        }
        addresses(object);
        workload::complete(object, "core/v1.Pod");
    }

    fn prepare_create(&self, ctx: &Context<'_>, object: &mut Object) {
        prepare::create(object, ctx.now);
        workload::complete(object, "core/v1.Pod");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::pod_create(object)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        prepare::update(ctx.subresource, new, old);
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        validation::pod_update(ctx.subresource, new, old)
    }

    fn early_warnings(&self, object: &Object) -> Vec<String> {
        let annotations = object.get(&["metadata", "annotations"]).and_then(Value::as_object);
        let old_profiles =
            annotations.is_some_and(|a| a.keys().any(|k| k.starts_with(validation::APP_ARMOR)));
        if old_profiles { prepare::app_armor(&mut object.clone()) } else { Vec::new() }
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let mut texts = Vec::new();
        let broken = names::is_dns1123_label(object.name());
        if !broken.is_empty() {
            texts.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                broken.join(" ")
            ));
        }
        texts.extend(warnings::pod(object));
        texts
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let spec = |key: &str| object.str(&["spec", key]).to_owned();
        let ips: Vec<&str> =
            object.list(&["status", "podIPs"]).iter().map(|ip| text(ip, "ip")).collect();
        let values = [
            spec("nodeName"),
            spec("restartPolicy"),
            spec("schedulerName"),
            spec("serviceAccountName"),
            object.bool(&["spec", "hostNetwork"]).to_string(),
            object.str(&["status", "phase"]).to_owned(),
            ips.first().copied().unwrap_or("").to_owned(),
            ips.join(","),
            object.str(&["status", "nominatedNodeName"]).to_owned(),
        ];
        FIELDS.into_iter().zip(values).collect()
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &FIELDS
    }

    fn indexed_field(&self) -> Option<&'static str> {
        Some("spec.nodeName")
    }

    fn canonical_field<'a>(&self, name: &'a str) -> &'a str {
        // The name of a field of long ago.
        if name == "spec.host" { "spec.nodeName" } else { name }
    }

    fn columns(&self) -> Vec<Column> {
        columns::columns()
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        columns::row(object, now)
    }

    fn grace_period(&self, object: &Object, ctx: &DeleteContext) -> Option<i64> {
        let phase = object.str(&["status", "phase"]);
        if object.str(&["spec", "nodeName"]).is_empty() || matches!(phase, "Failed" | "Succeeded") {
            return Some(0);
        }
        let own = object.int(&["spec", "terminationGracePeriodSeconds"]);
        let period = ctx.grace_period_seconds.or(own).unwrap_or(0);
        Some(if period < 0 { 1 } else { period })
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn row_condition(&self, object: &Object) -> Option<Value> {
        columns::completed(object)
    }

    fn status_warnings(&self, object: &Object) -> Vec<String> {
        let lists = ["podIPs", "hostIPs"].into_iter();
        let told = lists.flat_map(|list| {
            object.list(&["status", list]).iter().enumerate().filter_map(move |(i, item)| {
                validation::network::ip_warnings(
                    &format!("status.{list}[{i}].ip"),
                    text(item, "ip"),
                )
            })
        });
        told.collect()
    }
}

/// The address of old is the first of the addresses; it wins when it differs.
///
/// upstream: pkg/apis/core/v1/conversion.go Convert_v1_PodStatus_To_core_PodStatus
fn addresses(object: &mut Object) {
    let single = object.str(&["status", "podIP"]).to_owned();
    let first = object.list(&["status", "podIPs"]).first().map(|ip| text(ip, "ip").to_owned());
    match first {
        Some(first) if single.is_empty() => object.set(&["status", "podIP"], first),
        first if !single.is_empty() && first.as_ref() != Some(&single) => {
            object.set(&["status", "podIPs"], vec![json!({ "ip": single })]);
        }
        _ => {}
    }
}
