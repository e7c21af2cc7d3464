//! Storage drivers, the nodes they run on, and the capacity they report.
//!
//! upstream: pkg/registry/storage/{csidriver,csinode,csistoragecapacity}/strategy.go,
//! pkg/apis/storage/validation/validation.go

use std::collections::BTreeSet;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use crate::core::persistentvolumes::validation::driver_name;
use crate::core::pods::cells::{AGE, NAME, age, number, text_column};
use crate::core::pods::resources::quantity;
use crate::core::pods::tree::{drop_field, fill, int, list, part, text, texts};
use crate::core::pods::validation::common::{
    dns_subdomain, has_bad_values, immutable, label_selector, not_negative, one_of, qualified_name,
};
use crate::plain::count;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const NODE_ID_MAX: usize = 256;

/// The rules of storage drivers.
pub(super) struct CsiDrivers;

impl Strategy for CsiDrivers {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::CHANGES
    }

    fn default(&self, object: &mut Object) {
        let root = object.root_mut();
        let spec = root.entry("spec").or_insert_with(|| json!({}));
        fill(spec, "attachRequired", true);
        fill(spec, "podInfoOnMount", false);
        fill(spec, "storageCapacity", false);
        fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if list(spec, "volumeLifecycleModes").is_empty() {
            drop_field(spec, "volumeLifecycleModes");
        }
        fill(spec, "volumeLifecycleModes", json!(["Persistent"]));
        fill(spec, "requiresRepublish", false);
        fill(spec, "seLinuxMount", false);
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.remove(&["spec", "preventPodSchedulingIfMissing"]);
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        let path = ["spec", "preventPodSchedulingIfMissing"];
        if old.get(&path).is_none() {
            new.remove(&path);
        }
        count(new, old);
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        driver(object)
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let requests = |object: &Object| object.list(&["spec", "tokenRequests"]).to_vec();
        let (now, before) = (requests(object), old.map(requests).unwrap_or_default());
        let told =
            object.get(&["spec", "serviceAccountTokenInSecrets"]).is_some_and(|v| !v.is_null());
        if now.is_empty() || now == before || told {
            return Vec::new();
        }
        vec![
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".to_owned(),
        ]
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = driver(new);
        for (key, name) in [
            ("attachRequired", "attachedRequired"),
            ("volumeLifecycleModes", "volumeLifecycleModes"),
        ] {
            let path = Path::new("spec").child(name);
            immutable(new.get(&["spec", key]), old.get(&["spec", key]), &path, &mut errors);
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let flag = |name, text| Column { kind: "boolean", ..text_column(name, text) };
        vec![
            NAME,
            flag("AttachRequired", "Whether volumes are attached to nodes first."),
            flag("PodInfoOnMount", "Whether the driver is told about the pod."),
            flag("StorageCapacity", "Whether the scheduler looks at free capacity."),
            text_column("TokenRequests", "Audiences of the tokens it gets."),
            flag("RequiresRepublish", "Whether it is called again and again."),
            text_column("Modes", "Kinds of volumes it makes."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let flag = |key: &str, absent: bool| {
            Value::from(spec.get(key).and_then(Value::as_bool).unwrap_or(absent))
        };
        let tokens = part(spec, "tokenRequests").map(|_| {
            let all: Vec<&str> =
                list(spec, "tokenRequests").iter().map(|t| text(t, "audience")).collect();
            all.join(",")
        });
        let modes = texts(spec, "volumeLifecycleModes").join(",");
        vec![
            object.name().into(),
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            tokens.unwrap_or_else(|| "<unset>".into()).into(),
            flag("requiresRepublish", false),
            if modes.is_empty() { "<none>".into() } else { modes.into() },
            age(object, now),
        ]
    }
}

fn driver(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let path = Path::new("spec");
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    if let Some(policy) = spec.get("fsGroupPolicy").and_then(Value::as_str) {
        one_of(policy, &policies, &path.child("fsGroupPolicy"), &mut errors);
    }
    let tokens = list(spec, "tokenRequests");
    let mut audiences = BTreeSet::new();
    for (i, token) in tokens.iter().enumerate() {
        let at = path.child("tokenRequests").index(i);
        let audience = text(token, "audience");
        if !audiences.insert(audience) {
            errors.push(Error::duplicate(&at.child("audience"), audience));
            continue;
        }
        let Some(seconds) = int(token, "expirationSeconds") else { continue };
        let at = at.child("expirationSeconds");
        if seconds < 600 {
            let why = "may not specify a duration less than 10 minutes";
            errors.push(Error::invalid(&at, seconds, why));
        }
        if seconds > 1 << 32 {
            let why = "may not specify a duration larger than 2^32 seconds";
            errors.push(Error::invalid(&at, seconds, why));
        }
    }
    for mode in texts(spec, "volumeLifecycleModes") {
        let at = path.child("volumeLifecycleModes");
        one_of(mode, &["Persistent", "Ephemeral"], &at, &mut errors);
    }
    let period = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(seconds) = int(spec, period).filter(|s| *s < 10) {
        let why = "must be greater than or equal to 10 seconds";
        errors.push(Error::invalid(&path.child(period), seconds, why));
    }
    let in_secrets = "serviceAccountTokenInSecrets";
    if let (Some(value), true) = (part(spec, in_secrets), tokens.is_empty()) {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(Error::invalid(&path.child(in_secrets), value.clone(), why));
    }
    errors
}

/// The rules of nodes as storage drivers see them.
pub(super) struct CsiNodes;

impl Strategy for CsiNodes {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::WHOLE
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec").child("drivers");
        let mut seen = BTreeSet::new();
        for (i, driver) in object.list(&["spec", "drivers"]).iter().enumerate() {
            node_driver(driver, &mut seen, &path.index(i), &mut errors);
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = self.validate_create(new);
        let path = Path::new("spec").child("drivers");
        let rest = |driver: &Value| {
            let mut driver = driver.clone();
            drop_field(&mut driver, "allocatable");
            driver
        };
        for before in old.list(&["spec", "drivers"]) {
            for driver in new.list(&["spec", "drivers"]) {
                if text(before, "name") == text(driver, "name") {
                    let mut changed = ErrorList::new();
                    immutable(Some(&rest(driver)), Some(&rest(before)), &path, &mut changed);
                    let changed = changed.into_iter();
                    errors.extend(changed.map(|e| e.as_struct("storage/v1.CSINodeDriver")));
                }
            }
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, number("Drivers", "How many drivers are registered."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let drivers = object.list(&["spec", "drivers"]).len();
        vec![object.name().into(), drivers.into(), age(object, now)]
    }
}

fn node_driver<'a>(
    driver: &'a Value,
    seen: &mut BTreeSet<&'a str>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let name = text(driver, "name");
    driver_name(name, &path.child("name"), errors);
    let id = text(driver, "nodeID");
    if id.is_empty() {
        errors.push(Error::required(&path.child("nodeID"), ""));
    }
    if id.len() > NODE_ID_MAX {
        let why = format!("must be {NODE_ID_MAX} characters or less");
        errors.push(Error::invalid(&path.child("nodeID"), id, &why));
    }
    if let Some(count) = part(driver, "allocatable").and_then(|a| int(a, "count")) {
        not_negative(count, &path.child("allocatable").child("count"), errors);
    }
    if !seen.insert(name) {
        errors.push(Error::duplicate(&path.child("name"), name));
    }
    let mut keys = BTreeSet::new();
    for key in texts(driver, "topologyKeys") {
        if key.is_empty() {
            errors.push(Error::required(path, ""));
        }
        if !keys.insert(key) {
            errors.push(Error::duplicate(path, key));
        }
        qualified_name(key, path, errors);
    }
}

/// The rules of reported capacity.
pub(super) struct CsiStorageCapacities;

impl Strategy for CsiStorageCapacities {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        capacity(object, false)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = capacity(new, has_bad_values(old.get(&["nodeTopology"])));
        for key in ["nodeTopology", "storageClassName"] {
            immutable(new.get(&[key]), old.get(&[key]), &Path::new(key), &mut errors);
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn capacity(object: &Object, bad_values: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let topology = object.get(&["nodeTopology"]);
    label_selector(topology, &Path::new("nodeTopology"), bad_values, &mut errors);
    let class = object.str(&["storageClassName"]);
    dns_subdomain(class, &Path::new("storageClassName"), &mut errors);
    if let Some(amount) = object.get(&["capacity"]).map(quantity).filter(|q| q.sign() < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(Error::invalid(&Path::new("capacity"), amount.to_string(), why));
    }
    errors
}
