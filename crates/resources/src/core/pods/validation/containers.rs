//! Containers of all three sorts.
//!
//! upstream: pkg/apis/core/validation/validation.go validateContainers,
//! validateInitContainers, validateEphemeralContainers

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::common::{dns_label, one_of, port_name, port_number, protocol, required_one_of};
use super::handlers::{lifecycle, probes};
use super::options::Options;
use super::spec::pull_policy;
use super::{compute, environment, mounts, security};
use crate::core::pods::tree::{has, int, list, opt_text, part, text};

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

/// What the containers of one pod have in common.
pub(super) struct Scope<'a> {
    /// The pod's spec.
    pub(super) spec: &'a Value,
    /// Its good volumes by name.
    pub(super) volumes: &'a BTreeMap<&'a str, &'a Value>,
    /// The names of its resource claims.
    pub(super) claims: BTreeSet<&'a str>,
    /// Its grace period in seconds.
    pub(super) grace: Option<i64>,
    /// Whether it shares the node's users.
    pub(super) host_users: bool,
    /// What it may keep.
    pub(super) options: &'a Options,
}

/// The main containers.
pub(super) fn main(scope: &Scope<'_>, path: &Path, errors: &mut ErrorList) {
    let containers = list(scope.spec, "containers");
    if containers.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        common(container, scope, &at, errors);
        if !seen.insert(text(container, "name")) {
            errors.push(Error::duplicate(&at.child("name"), text(container, "name")));
        }
        lifecycle(container, scope.spec, scope.grace, &at, errors);
        probes(container, scope.grace, &at, errors);
        restart_policy(container, false, &at, errors);
    }
    host_ports(containers, path, errors);
}

/// The init containers.
pub(super) fn init(scope: &Scope<'_>, path: &Path, errors: &mut ErrorList) {
    let main = list(scope.spec, "containers").iter().map(|c| text(c, "name"));
    let mut seen: BTreeSet<&str> = main.collect();
    for (i, container) in list(scope.spec, "initContainers").iter().enumerate() {
        let at = path.index(i);
        common(container, scope, &at, errors);
        restart_policy(container, true, &at, errors);
        let name = text(container, "name");
        if seen.contains(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        } else if !name.is_empty() {
            seen.insert(name);
        }
        host_ports(std::slice::from_ref(container), path, errors);
        let sidecar = text(container, "restartPolicy") == "Always";
        if sidecar {
            lifecycle(container, scope.spec, scope.grace, &at, errors);
            probes(container, scope.grace, &at, errors);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if has(container, key) {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    errors.push(Error::forbidden(&at.child(key), detail));
                }
            }
        }
        if !sidecar && !scope.options.init_restart_on_resize {
            for (j, policy) in list(container, "resizePolicy").iter().enumerate() {
                if text(policy, "restartPolicy") == "RestartContainer" {
                    let at = at.child("resizePolicy").index(j).child("restartPolicy");
                    let detail =
                        "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    errors.push(Error::invalid(&at, "RestartContainer", detail));
                }
            }
        }
    }
}

/// Fields that containers for debugging may not have.
const NOT_EPHEMERAL: [&str; 8] = [
    "ports",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// The containers for debugging.
pub(super) fn ephemeral(scope: &Scope<'_>, path: &Path, errors: &mut ErrorList) {
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|key| list(scope.spec, key))
        .map(|c| text(c, "name"))
        .collect();
    let mut seen = others.clone();
    let detail = "cannot be set for an Ephemeral Container";
    for (i, container) in list(scope.spec, "ephemeralContainers").iter().enumerate() {
        let at = path.index(i);
        common(container, scope, &at, errors);
        only_for_pod(container, &at, errors);
        if !seen.insert(text(container, "name")) {
            errors.push(Error::duplicate(&at.child("name"), text(container, "name")));
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.push(Error::not_found(&at.child("targetContainerName"), target));
        }
        let resources = part(container, "resources").and_then(Value::as_object);
        if resources.is_some_and(|r| !r.is_empty()) {
            errors.push(Error::forbidden(&at.child("resources"), detail));
        }
        for key in NOT_EPHEMERAL.iter().filter(|key| has(container, key)) {
            errors.push(Error::forbidden(&at.child(key), detail));
        }
        for (j, mount) in list(container, "volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !text(mount, key).is_empty() {
                    let at = at.child("volumeMounts").index(j).child(key);
                    errors.push(Error::forbidden(&at, detail));
                }
            }
        }
    }
}

/// What only pods, not templates, are checked for.
pub(super) fn only_for_pod(container: &Value, path: &Path, errors: &mut ErrorList) {
    let image = text(container, "image");
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(Error::invalid(&path.child("image"), image, detail));
    }
}

fn common(container: &Value, scope: &Scope<'_>, path: &Path, errors: &mut ErrorList) {
    match text(container, "name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => dns_label(name, &path.child("name"), errors),
    }
    if text(container, "image").is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    }
    let policy = text(container, "terminationMessagePolicy");
    let at = path.child("terminationMessagePolicy");
    required_one_of(policy, &["File", "FallbackToLogsOnError"], &at, errors);
    ports(container, &path.child("ports"), errors);
    environment::variables(container, &path.child("env"), errors);
    environment::sources(container, &path.child("envFrom"), errors);
    mounts::mounts(container, scope.volumes, &path.child("volumeMounts"), errors);
    mounts::devices(container, scope.volumes, &path.child("volumeDevices"), errors);
    pull_policy(text(container, "imagePullPolicy"), &path.child("imagePullPolicy"), errors);
    if let Some(resources) = part(container, "resources") {
        let at = path.child("resources");
        compute::of_container_at(resources, &scope.claims, &at, scope.options, errors);
    }
    resize_policy(container, scope.spec, &path.child("resizePolicy"), errors);
    security::container(container, scope.host_users, &path.child("securityContext"), errors);
}

fn ports(container: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (i, port) in list(container, "ports").iter().enumerate() {
        let at = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let broken = port_name(name);
            let at = at.child("name");
            if broken.is_empty() && !seen.insert(name) {
                errors.push(Error::duplicate(&at, name));
            }
            errors.extend(broken.iter().map(|m| Error::invalid(&at, name, m)));
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => errors.push(Error::required(&at.child("containerPort"), "")),
            number => port_number(number, &at.child("containerPort"), errors),
        }
        let host = int(port, "hostPort").unwrap_or(0);
        if host != 0 {
            port_number(host, &at.child("hostPort"), errors);
        }
        protocol(text(port, "protocol"), &at.child("protocol"), errors);
    }
}

/// No two of the containers take the same port of the node.
fn host_ports(containers: &[Value], path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in list(container, "ports").iter().enumerate() {
            let number = int(port, "hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if !seen.insert(key.clone()) {
                let at = path.index(i).child("ports").index(j).child("hostPort");
                errors.push(Error::duplicate(&at, key));
            }
        }
    }
}

fn resize_policy(container: &Value, spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (i, policy) in list(container, "resizePolicy").iter().enumerate() {
        let name = text(policy, "resourceName");
        if !seen.insert(name) {
            errors.push(Error::duplicate(&path.index(i), name));
        }
        required_one_of(name, &["cpu", "memory"], path, errors);
        let restart = text(policy, "restartPolicy");
        required_one_of(restart, &["NotRequired", "RestartContainer"], path, errors);
        if text(spec, "restartPolicy") == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, restart, detail));
        }
    }
}

fn restart_policy(container: &Value, init: bool, path: &Path, errors: &mut ErrorList) {
    let rules = list(container, "restartPolicyRules");
    let at = path.child("restartPolicy");
    match opt_text(container, "restartPolicy") {
        None if rules.is_empty() => return,
        None => {
            let detail = "must specify restartPolicy when restart rules are used";
            errors.push(Error::required(&at, detail));
            // Init containers stop here, as they need the policy to know what they are.
            if init {
                return;
            }
        }
        Some(policy) => one_of(policy, &["Always", "Never", "OnFailure"], &at, errors),
    }
    let at = path.child("restartPolicyRules");
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(&at, rules.len(), RULES_MAX));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        let actions = ["Restart", "RestartAllContainers"];
        one_of(text(rule, "action"), &actions, &at.child("action"), errors);
        let at = at.child("exitCodes");
        let Some(codes) = part(rule, "exitCodes") else {
            errors.push(Error::required(&at, "must be specified"));
            continue;
        };
        one_of(text(codes, "operator"), &["In", "NotIn"], &at.child("operator"), errors);
        let count = list(codes, "values").len();
        if count > EXIT_CODES_MAX {
            errors.push(Error::too_many(&at.child("values"), count, EXIT_CODES_MAX));
        }
    }
}
