//! Advice on pods that are allowed but hardly meant.
//!
//! upstream: pkg/api/pod/warnings.go

mod volumes;

use std::collections::BTreeMap;

use longshore_api::{Object, names};
use serde_json::Value;

use super::prepare::app_armor_profile;
use super::resources::quantity;
use super::tree::{entries, has, int, list, part, text, texts};
use super::validation::APP_ARMOR;
use super::validation::network::ip_warnings;

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Annotations without effect, and why.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// What to use instead of an old label of nodes.
///
/// upstream: pkg/api/node/util.go
fn old_node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// The warnings of a new pod.
pub(crate) fn pod(object: &Object) -> Vec<String> {
    let null = Value::Null;
    let metadata = object.get(&["metadata"]).unwrap_or(&null);
    let spec = object.get(&["spec"]).unwrap_or(&null);
    spec_and_metadata(spec, metadata, "", true)
}

/// The warnings of a pod template at a path.
pub(crate) fn template(template: Option<&Value>, path: &str) -> Vec<String> {
    let Some(template) = template else { return Vec::new() };
    let null = Value::Null;
    let metadata = part(template, "metadata").unwrap_or(&null);
    let spec = part(template, "spec").unwrap_or(&null);
    spec_and_metadata(spec, metadata, &format!("{path}."), false)
}

fn spec_and_metadata(spec: &Value, metadata: &Value, prefix: &str, is_pod: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let path = format!("{prefix}spec");
    nodes(spec, &path, &mut warnings);
    let annotations = format!("{prefix}metadata.annotations");
    for (key, message) in ANNOTATIONS {
        if annotation(metadata, key).is_some() {
            warnings.push(format!("{annotations}[{key}]: {message}"));
        }
    }
    volumes::volumes(spec, &path, &mut warnings);
    lists(spec, &path, &mut warnings);
    if let Some(overhead) = part(spec, "overhead") {
        fractions(overhead, &format!("{path}.overhead"), &mut warnings);
    }
    seccomp(spec, metadata, SECCOMP_POD, &annotations, &mut warnings);
    for (key, i, container) in all(spec) {
        let name = text(container, "name");
        seccomp(container, metadata, &format!("{SECCOMP}{name}"), &annotations, &mut warnings);
        if !is_pod {
            app_armor(spec, container, metadata, &annotations, &mut warnings);
        }
        self::container(container, &format!("{path}.{key}[{i}]"), &mut warnings);
    }
    ports(spec, &path, &mut warnings);
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    pod_affinity(spec, &path, &mut warnings);
    if let Some(config) = part(spec, "dnsConfig") {
        for (i, server) in texts(config, "nameservers").into_iter().enumerate() {
            warnings.extend(ip_warnings(&format!("{path}.dnsConfig.nameservers[{i}]"), server));
        }
    }
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        warnings.extend(ip_warnings(&format!("{path}.hostAliases[{i}].ip"), text(alias, "ip")));
    }
    warnings
}

/// Every container with the name of its list and its place in it.
fn all(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |key| list(spec, key).iter().enumerate().map(move |(i, c)| (key, i, c)))
}

fn annotation<'a>(metadata: &'a Value, key: &str) -> Option<&'a str> {
    metadata.get("annotations")?.get(key)?.as_str()
}

fn nodes(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for (key, _) in entries(spec, "nodeSelector") {
        if let Some(message) = old_node_label(key) {
            warnings.push(format!("{path}.nodeSelector[{key}]: {message}"));
        }
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some(nodes) = part(spec, "affinity").and_then(|a| part(a, "nodeAffinity")) {
        let at = format!("{path}.affinity.nodeAffinity");
        let terms = part(nodes, required).map_or(&[][..], |s| list(s, "nodeSelectorTerms"));
        for (i, term) in terms.iter().enumerate() {
            node_term(term, false, &format!("{at}.{required}.nodeSelectorTerms[{i}]"), warnings);
        }
        for (i, term) in list(nodes, preferred).iter().enumerate() {
            let preference = part(term, "preference").unwrap_or(&Value::Null);
            node_term(preference, true, &format!("{at}.{preferred}[{i}].preference"), warnings);
        }
    }
    for (i, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = format!("{path}.topologySpreadConstraints[{i}]");
        let key = text(constraint, "topologyKey");
        if let Some(message) = old_node_label(key) {
            warnings.push(format!("{at}.topologyKey: {key} is {message}"));
        }
        null_selector(constraint, &at, warnings);
    }
}

fn null_selector(holder: &Value, path: &str, warnings: &mut Vec<String>) {
    if !has(holder, "labelSelector") {
        warnings
            .push(format!("{path}.labelSelector: a null labelSelector results in matching no pod"));
    }
}

fn node_term(term: &Value, check_values: bool, path: &str, warnings: &mut Vec<String>) {
    for (i, expression) in list(term, "matchExpressions").iter().enumerate() {
        let at = format!("{path}.matchExpressions[{i}]");
        let key = text(expression, "key");
        if let Some(message) = old_node_label(key) {
            warnings.push(format!("{at}.key: {key} is {message}"));
        }
        let values = texts(expression, "values").into_iter().enumerate();
        for (i, value) in values.filter(|_| check_values) {
            for message in names::is_valid_label_value(value) {
                warnings.push(format!("{at}.values[{i}]: {value} is invalid, {message}"));
            }
        }
    }
}

fn pod_affinity(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    let Some(affinity) = part(spec, "affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = part(affinity, kind) else { continue };
        let at = format!("{path}.affinity.{kind}");
        let key = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in list(pods, key).iter().enumerate() {
            null_selector(term, &format!("{at}.{key}[{i}]"), warnings);
        }
        let key = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, weighted) in list(pods, key).iter().enumerate() {
            let term = part(weighted, "podAffinityTerm").unwrap_or(&Value::Null);
            null_selector(term, &format!("{at}.{key}[{i}].podAffinityTerm"), warnings);
        }
    }
}

fn lists(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for (key, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = Vec::new();
        for (i, item) in list(spec, key).iter().enumerate() {
            let value = text(item, field);
            if seen.contains(&value) {
                warnings.push(format!("{path}.{key}[{i}].{field}: duplicate {field} {value:?}"));
            } else {
                seen.push(value);
            }
        }
    }
    for (i, item) in list(spec, "imagePullSecrets").iter().enumerate() {
        if text(item, "name").is_empty() {
            warnings.push(format!("{path}.imagePullSecrets[{i}].name: invalid empty name \"\""));
        }
    }
}

/// Amounts of bytes that are no whole numbers.
fn fractions(amounts: &Value, path: &str, warnings: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        if let Some(message) = part(amounts, name).and_then(fraction) {
            warnings.push(format!("{path}[{name}]: {message}"));
        }
    }
}

fn fraction(amount: &Value) -> Option<String> {
    let amount = quantity(amount);
    (amount.milli_value() % 1000 != 0)
        .then(|| format!("fractional byte value \"{amount}\" is invalid, must be an integer"))
}

/// The warnings of a claim's spec.
///
/// upstream: pkg/api/persistentvolumeclaim/util.go GetWarningsForPersistentVolumeClaimSpec
pub(crate) fn claim(spec: &Value, path: &str) -> Vec<String> {
    let resources = part(spec, "resources").unwrap_or(&Value::Null);
    ["requests", "limits"]
        .into_iter()
        .filter_map(|kind| {
            let message =
                part(resources, kind).and_then(|l| part(l, "storage")).and_then(fraction)?;
            Some(format!("{path}.resources.{kind}[storage]: {message}"))
        })
        .collect()
}

fn seccomp(
    holder: &Value,
    metadata: &Value,
    key: &str,
    annotations: &str,
    warnings: &mut Vec<String>,
) {
    let profile = part(holder, "securityContext").is_some_and(|c| has(c, "seccompProfile"));
    if !profile && annotation(metadata, key).is_some() {
        warnings.push(format!(
            "{annotations}[{key}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }
}

/// A profile in the annotation of a template that is not the pod's. Pods tell theirs earlier.
fn app_armor(
    spec: &Value,
    container: &Value,
    metadata: &Value,
    annotations: &str,
    warnings: &mut Vec<String>,
) {
    let of = |holder: &Value| {
        part(holder, "securityContext").and_then(|c| part(c, "appArmorProfile")).cloned()
    };
    let key = format!("{APP_ARMOR}{}", text(container, "name"));
    let Some(value) = annotation(metadata, &key) else { return };
    let (wanted, whole, own) = (app_armor_profile(value), of(spec), of(container));
    if own.is_none() && (whole.is_none() || whole != wanted) {
        warnings.push(format!(
            "{annotations}[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
        ));
    }
}

fn container(container: &Value, path: &str, warnings: &mut Vec<String>) {
    let resources = part(container, "resources").unwrap_or(&Value::Null);
    for name in ["memory", "ephemeral-storage"] {
        for kind in ["limits", "requests"] {
            let amount = part(resources, kind).and_then(|l| part(l, name));
            if let Some(message) = amount.and_then(fraction) {
                warnings.push(format!("{path}.resources.{kind}[{name}]: {message}"));
            }
        }
    }
    let mut seen = Vec::new();
    for (i, variable) in list(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        let (reference, value) = (format!("$({name})"), text(variable, "value"));
        let extends = value != reference && value.contains(&reference);
        if has(variable, "valueFrom") || !extends {
            warnings.push(format!(
                "{path}.env[{i}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

fn ports(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    type Seen = (String, String, i64);
    let mut seen: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut twice = Vec::new();
    for (key, i, container) in all(spec) {
        for (j, port) in list(container, "ports").iter().enumerate() {
            let at = format!("{path}.{key}[{i}].ports[{j}]");
            let number = int(port, "containerPort").unwrap_or(0);
            let host = int(port, "hostPort").unwrap_or(0);
            let (ip, protocol) = (text(port, "hostIP"), text(port, "protocol"));
            let name = text(port, "name");
            if !ip.is_empty() && host == 0 {
                warnings.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{name} HostPort:{host} ContainerPort:{number} Protocol:{protocol} HostIP:{ip}}}"
                ));
            }
            let others = seen.entry(format!("{number}/{protocol}")).or_default();
            for (other, other_ip, other_host) in others.iter() {
                let what = if ip == other_ip && host == *other_host {
                    "duplicate"
                } else if host == 0 || *other_host == 0 {
                    "overlapping"
                } else if host == *other_host && (ip.is_empty() != other_ip.is_empty()) {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{at}: {what} port definition with {other}"));
            }
            others.push((at.clone(), ip.to_owned(), host));
            if name.is_empty() {
                continue;
            }
            match names.get(name) {
                Some(other) => twice.push(format!(
                    "{at}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
                )),
                None => {
                    names.insert(name, at);
                }
            }
        }
    }
    warnings.append(&mut twice);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_hardly_meant_is_told() {
        let cases = [
            (
                json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            ),
            (
                json!({"containers": [{"name": "a", "env": [{"name": "X"}, {"name": "X"}]}]}),
                "spec.containers[0].env[1]: hides previous definition of \"X\", which may be dropped when using apply",
            ),
            (
                json!({"containers": [{"name": "a", "ports": [
                    {"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1, "protocol": "TCP"},
                ]}]}),
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            ),
            (
                json!({"containers": [{"name": "a", "resources": {"limits": {"memory": "100m"}}}]}),
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            ),
        ];
        for (spec, want) in cases {
            let object = Object::from_value(json!({"spec": spec})).expect("an object");
            assert_eq!(pod(&object), [want]);
        }
    }
}
