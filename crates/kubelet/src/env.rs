//! The environment of a container.
//!
//! upstream: pkg/kubelet/kubelet_pods.go makeEnvironmentVariables, pkg/kubelet/envvars

use std::collections::BTreeMap;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_client::Error;
use longshore_client::resource::{CONFIG_MAPS, Resource, SECRETS};
use serde_json::Value;

use crate::Shared;

/// Why a container's configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Something it names is missing.
    #[error("{0}")]
    Missing(String),
    /// The API server did not answer.
    #[error(transparent)]
    Api(#[from] Error),
}

/// The variables of a container in the order in which they were set.
pub(crate) async fn of(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
    ips: &[String],
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut vars: BTreeMap<String, String> = BTreeMap::new();
    let services = services(shared, pod);
    for source in spec["envFrom"].as_array().into_iter().flatten() {
        let prefix = source["prefix"].as_str().unwrap_or("");
        for (key, value) in whole(shared, pod, source).await? {
            vars.insert(format!("{prefix}{key}"), value);
        }
    }
    for var in spec["env"].as_array().into_iter().flatten() {
        let name = var["name"].as_str().unwrap_or("").to_owned();
        let value = match (&var["value"], &var["valueFrom"]) {
            (Value::String(text), _) => expand(text, &|n| vars.get(n).or(services.get(n)).cloned()),
            (_, Value::Object(_)) => match one(shared, pod, spec, &var["valueFrom"], ips).await? {
                Some(value) => value,
                None => continue,
            },
            _ => String::new(),
        };
        vars.insert(name, value);
    }
    for (name, value) in services {
        vars.entry(name).or_insert(value);
    }
    Ok(vars.into_iter().collect())
}

/// Replaces `$(NAME)` by the variable's value; `$$` stands for a dollar sign, and unknown names
/// stay as they are.
///
/// upstream: third_party/forked/golang/expansion
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = tail.strip_prefix('(')
            && let Some(end) = inner.find(')')
        {
            let name = &inner[..end];
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = &inner[end + 1..];
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

/// As [`expand`], but every name must be known.
///
/// upstream: pkg/kubelet/container/helpers.go ExpandContainerVolumeMounts
pub(crate) fn expand_all(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ConfigError> {
    let missing = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let expanded = expand(text, &|name| {
        let found = lookup(name);
        if found.is_none() {
            missing.borrow_mut().insert(format!("{name:?}"));
        }
        found
    });
    let missing: Vec<String> = missing.into_inner().into_iter().collect();
    if missing.is_empty() {
        return Ok(expanded);
    }
    Err(ConfigError::Missing(format!("missing value for {}", missing.join(", "))))
}

/// The values of a config map or secret as texts.
pub(crate) fn values(object: &Object) -> BTreeMap<String, Vec<u8>> {
    use base64::Engine as _;
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text);
    let mut values = BTreeMap::new();
    let secret = object.kind() == "Secret";
    for (field, encoded) in [("data", secret), ("binaryData", true)] {
        let map = object.get(&[field]).and_then(Value::as_object).into_iter().flatten();
        for (key, value) in map {
            let text = value.as_str().unwrap_or("");
            let bytes = if encoded { decode(text).unwrap_or_default() } else { text.into() };
            values.insert(key.clone(), bytes);
        }
    }
    values
}

/// A config map or secret; `None` when it is missing and optional.
pub(crate) async fn source(
    shared: &Shared,
    namespace: &str,
    of: Resource,
    name: &str,
    optional: bool,
) -> Result<Option<Object>, ConfigError> {
    match shared.client.find(of, namespace, name).await? {
        Some(object) => Ok(Some(object)),
        None if optional => Ok(None),
        None => {
            let kind = if of == SECRETS { "secret" } else { "configmap" };
            Err(ConfigError::Missing(format!("{kind} {name:?} not found")))
        }
    }
}

async fn whole(
    shared: &Shared,
    pod: &Object,
    source_of: &Value,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut all = Vec::new();
    for (field, of) in [("configMapRef", CONFIG_MAPS), ("secretRef", SECRETS)] {
        let reference = &source_of[field];
        let Some(name) = reference["name"].as_str() else { continue };
        let optional = reference["optional"] == true;
        if let Some(object) = source(shared, pod.namespace(), of, name, optional).await? {
            let values = values(&object).into_iter();
            all.extend(values.map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())));
        }
    }
    Ok(all)
}

async fn one(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
    from: &Value,
    ips: &[String],
) -> Result<Option<String>, ConfigError> {
    if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
        return Ok(Some(field(shared, pod, path, ips)));
    }
    if from["resourceFieldRef"].is_object() {
        return Ok(Some(resource(shared, pod, spec, &from["resourceFieldRef"])));
    }
    for (key, of) in [("configMapKeyRef", CONFIG_MAPS), ("secretKeyRef", SECRETS)] {
        let reference = &from[key];
        let Some(name) = reference["name"].as_str() else { continue };
        let optional = reference["optional"] == true;
        let wanted = reference["key"].as_str().unwrap_or("");
        let Some(object) = source(shared, pod.namespace(), of, name, optional).await? else {
            return Ok(None);
        };
        return match values(&object).remove(wanted) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
            None if optional => Ok(None),
            None => {
                let kind = if of == SECRETS { "Secret" } else { "ConfigMap" };
                Err(ConfigError::Missing(format!(
                    "couldn't find key {wanted} in {kind} {}/{name}",
                    pod.namespace()
                )))
            }
        };
    }
    Ok(None)
}

/// A field of the pod as a text.
///
/// upstream: pkg/fieldpath/fieldpath.go
pub(crate) fn field(shared: &Shared, pod: &Object, path: &str, ips: &[String]) -> String {
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = map.trim_start_matches("metadata.");
        let value = pod.get(&["metadata", map]).and_then(|m| m.get(key));
        return value.and_then(Value::as_str).unwrap_or("").to_owned();
    }
    let host_network = pod.bool(&["spec", "hostNetwork"]);
    let node_ip = shared.config.node_ip.to_string();
    match path {
        "metadata.labels" | "metadata.annotations" => {
            let map = pod.get(&["metadata", &path[9..]]).and_then(Value::as_object);
            let lines = map
                .into_iter()
                .flatten()
                .map(|(k, v)| format!("{k}={:?}", v.as_str().unwrap_or("")));
            lines.collect::<Vec<_>>().join("\n")
        }
        "status.hostIP" | "status.hostIPs" => node_ip,
        "status.podIP" if host_network => node_ip,
        "status.podIP" => ips.first().cloned().unwrap_or_default(),
        "status.podIPs" if host_network => node_ip,
        "status.podIPs" => ips.join(","),
        "spec.nodeName" => shared.config.node_name.clone(),
        other => {
            let parts: Vec<&str> = other.split('.').collect();
            pod.str(&parts).to_owned()
        }
    }
}

/// A limit or request of a container as a number in the wanted unit.
pub(crate) fn resource(shared: &Shared, pod: &Object, own: &Value, reference: &Value) -> String {
    let named = reference["containerName"].as_str();
    let containers = pod.list(&["spec", "containers"]).iter();
    let other = containers.clone().find(|c| c["name"].as_str() == named && named.is_some());
    let spec = other.unwrap_or(own);
    let path = reference["resource"].as_str().unwrap_or("");
    let (kind, name) = path.split_once('.').unwrap_or((path, ""));
    let given = spec["resources"][kind][name].as_str();
    let node = shared.nodes.get("", &shared.config.node_name);
    let whole = node.as_ref().map(|n| n.str(&["status", "allocatable", name]).to_owned());
    let text = given.map(str::to_owned).or(whole.filter(|_| kind == "limits"));
    let quantity = Quantity::parse(&text.unwrap_or_default()).unwrap_or(Quantity::from_integer(0));
    let divisor = Quantity::parse(reference["divisor"].as_str().unwrap_or("1"));
    // Zero is the API's default and stands for one.
    let one = Quantity::from_integer(1);
    let divisor = divisor.ok().filter(|d| d.milli_value() > 0).unwrap_or(one);
    let (value, unit) = if name == "cpu" {
        (quantity.milli_value(), divisor.milli_value())
    } else {
        (quantity.value(), divisor.value())
    };
    let unit = unit.max(1);
    ((value + unit - 1) / unit).to_string()
}

/// The variables that tell the addresses of services.
fn services(shared: &Shared, pod: &Object) -> BTreeMap<String, String> {
    let links = pod.get(&["spec", "enableServiceLinks"]) != Some(&Value::Bool(false));
    let mut vars = BTreeMap::new();
    for service in shared.services.list() {
        let own = links && service.namespace() == pod.namespace();
        let master = service.namespace() == "default" && service.name() == "kubernetes";
        let ip = service.str(&["spec", "clusterIP"]);
        if (own || master) && !matches!(ip, "" | "None") {
            service_vars(&service, ip, &mut vars);
        }
    }
    vars
}

fn service_vars(service: &Object, ip: &str, vars: &mut BTreeMap<String, String>) {
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = upper(service.name());
    let ports = service.list(&["spec", "ports"]);
    let Some(first) = ports.first() else { return };
    vars.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    vars.insert(format!("{prefix}_SERVICE_PORT"), first["port"].to_string());
    for (i, port) in ports.iter().enumerate() {
        let number = port["port"].to_string();
        if let Some(name) = port["name"].as_str().filter(|n| !n.is_empty()) {
            vars.insert(format!("{prefix}_SERVICE_PORT_{}", upper(name)), number.clone());
        }
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let url = format!("{}://{ip}:{number}", protocol.to_lowercase());
        let base = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        if i == 0 {
            vars.insert(format!("{prefix}_PORT"), url.clone());
        }
        vars.insert(base.clone(), url);
        vars.insert(format!("{base}_PROTO"), protocol.to_lowercase());
        vars.insert(format!("{base}_PORT"), number);
        vars.insert(format!("{base}_ADDR"), ip.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded() {
        let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
        for (text, want) in
            [("$(A)-$(B)", "x-$(B)"), ("$$(A)", "$(A)"), ("$A $", "$A $"), ("$(A", "$(A"), ("", "")]
        {
            assert_eq!(expand(text, &lookup), want);
        }
        assert_eq!(expand_all("$$(B)/$(A)", &lookup).ok().as_deref(), Some("$(B)/x"));
        let error = expand_all("$(C)/$(A)/$(B)", &lookup).map_err(|error| error.to_string());
        assert_eq!(error, Err("missing value for \"B\", \"C\"".to_owned()));
    }
}
