//! Stateful sets.
//!
//! upstream: pkg/apis/apps/v1/defaults.go, pkg/registry/apps/statefulset/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use longshore_api::meta_validation::mask_trailing_dash;
use longshore_api::names;
use serde_json::{Value, json};

use super::{validation, workload};
use crate::core::pods::cells::{AGE, CONTAINERS, IMAGES, NAME, age, containers, text_column};
use crate::core::pods::tree::{fill, fill_always, fill_text, has, int, list_mut, part_mut, text};
use crate::core::pods::{defaults, warnings};
use crate::plain::{begin, separate};
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// The rules of stateful sets.
pub(crate) struct StatefulSets;

impl Strategy for StatefulSets {
    fn default(&self, object: &mut Object) {
        let spec = workload::spec(object);
        fill_text(spec, "podManagementPolicy", "OrderedReady");
        let strategy = part_mut(spec, "updateStrategy");
        if text(strategy, "type").is_empty() {
            fill_always(strategy, "type", "RollingUpdate");
            fill(strategy, "rollingUpdate", json!({}));
        }
        if text(strategy, "type") == "RollingUpdate" && has(strategy, "rollingUpdate") {
            let rolling = part_mut(strategy, "rollingUpdate");
            fill(rolling, "partition", 0);
        }
        let retention = part_mut(spec, "persistentVolumeClaimRetentionPolicy");
        fill_text(retention, "whenDeleted", "Retain");
        fill_text(retention, "whenScaled", "Retain");
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        defaults::template(part_mut(spec, "template"));
        for claim in list_mut(spec, "volumeClaimTemplates") {
            let claim_spec = part_mut(claim, "spec");
            fill(claim_spec, "volumeMode", "Filesystem");
            part_mut(claim_spec, "resources");
            defaults::round_resources(claim_spec);
            fill_text(part_mut(claim, "status"), "phase", "Pending");
            fill_always(claim, "apiVersion", "v1");
            fill_always(claim, "kind", "PersistentVolumeClaim");
        }
        workload::complete(object, "apps/v1.StatefulSet");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        begin(object);
        drop_max_unavailable(object, None);
        workload::complete(object, "apps/v1.StatefulSet");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::stateful_set(object, None)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        drop_max_unavailable(new, Some(old));
        separate(ctx, new, old);
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        if ctx.subresource == "status" {
            errors.extend(validation::stateful_set_status(new, old));
        } else {
            errors.extend(validation::stateful_set(new, Some(old)));
        }
        errors
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let mut texts = workload::warnings(object, old, false);
        // The path of an update's warnings is spelled as upstream spells it.
        for (i, claim) in object.list(&["spec", "volumeClaimTemplates"]).iter().enumerate() {
            let mut at = format!("spec.volumeClaimTemplates[{i}]");
            if old.is_some() {
                at.push_str(".Spec");
            }
            texts.extend(warnings::claim(claim.get("spec").unwrap_or(&Value::Null), &at));
        }
        let limit = object.get(&["spec"]).and_then(|spec| int(spec, "revisionHistoryLimit"));
        if limit.is_some_and(|limit| limit < 0) {
            texts.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
        }
        texts
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        if prefix {
            return names::is_dns1123_label(&mask_trailing_dash(name));
        }
        names::is_dns1123_label(name)
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("Ready", "Ready pods of those wanted."), AGE, CONTAINERS, IMAGES]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(object.get(&["spec", "template"]));
        vec![object.name().into(), workload::ready(object), age(object, now), names, images]
    }
}

/// The limit on unavailable pods is off by default in this release, unless it is in use.
///
/// upstream: features.MaxUnavailableStatefulSet
fn drop_max_unavailable(object: &mut Object, old: Option<&Object>) {
    let path = ["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];
    if old.and_then(|old| old.get(&path)).is_none() {
        object.remove(&path);
    }
}
