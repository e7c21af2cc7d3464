//! The sandbox of a pod: its network, names and limits.
//!
//! upstream: pkg/kubelet/kuberuntime/kuberuntime_sandbox.go

use std::collections::HashMap;

use longshore_api::Object;
use longshore_cri::v1::*;
use serde_json::Value;

use crate::Shared;
use crate::admit::sysctl_name;
use crate::observe::labels;

/// Longest name of a host.
const HOSTNAME_MAX: usize = 63;
/// Longest name that the kernel keeps.
const KERNEL_NAME_MAX: usize = 64;
/// Search domains and servers of a resolver configuration file of the host.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The directory of a pod's logs.
pub(crate) fn logs_dir(shared: &Shared, pod: &Object) -> std::path::PathBuf {
    let name = format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid());
    shared.config.logs_dir.join(name)
}

/// The name that a pod with a network of its own has there, and the domain that it is in, if any.
///
/// upstream: pkg/kubelet/kubelet_pods.go GeneratePodHostNameAndDomain
pub(crate) fn hostname(pod: &Object, cluster_domain: &str) -> (String, String) {
    let cut = |name: &str| {
        let cut = &name[..name.len().min(HOSTNAME_MAX)];
        cut.trim_end_matches(['-', '.']).to_owned()
    };
    let instead = pod.str(&["spec", "hostnameOverride"]);
    if !instead.is_empty() {
        return (cut(instead), String::new());
    }
    let wanted = pod.str(&["spec", "hostname"]);
    let name = cut(if wanted.is_empty() { pod.name() } else { wanted });
    let domain = match pod.str(&["spec", "subdomain"]) {
        "" => String::new(),
        subdomain => format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace()),
    };
    (name, domain)
}

/// The name that the kernel tells in a pod.
///
/// upstream: pkg/kubelet/util/util.go GetNodenameForKernel
fn kernel_name(pod: &Object, cluster_domain: &str) -> Result<String, String> {
    if pod.bool(&["spec", "hostNetwork"]) {
        return Ok(String::new());
    }
    let (name, domain) = hostname(pod, cluster_domain);
    if domain.is_empty() || !pod.bool(&["spec", "setHostnameAsFQDN"]) {
        return Ok(name);
    }
    let whole = format!("{name}.{domain}");
    let length = whole.len();
    if length <= KERNEL_NAME_MAX {
        return Ok(whole);
    }
    Err(format!(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {whole} is too long ({KERNEL_NAME_MAX} characters is the max, {length} characters requested)"
    ))
}

/// The user and group settings of a pod.
fn security(pod: &Object) -> LinuxSandboxSecurityContext {
    let context = pod.get(&["spec", "securityContext"]).cloned().unwrap_or(Value::Null);
    let number = |key: &str| context[key].as_i64().map(|value| Int64Value { value });
    let groups = context["supplementalGroups"].as_array().into_iter().flatten();
    let mut groups: Vec<i64> = groups.filter_map(Value::as_i64).collect();
    groups.extend(context["fsGroup"].as_i64());
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: number("runAsUser"),
        run_as_group: number("runAsGroup").filter(|_| number("runAsUser").is_some()),
        supplemental_groups: groups,
        privileged: is_privileged(pod),
        seccomp: Some(SecurityProfile {
            profile_type: ProfileType::RuntimeDefault as i32,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn is_privileged(pod: &Object) -> bool {
    let containers = ["containers", "initContainers"].iter();
    let mut containers = containers.flat_map(|field| pod.list(&["spec", field]));
    containers.any(|c| c["securityContext"]["privileged"] == true)
}

/// Which namespaces of the host a pod shares.
pub(crate) fn namespaces(pod: &Object) -> NamespaceOption {
    let mode = |host: bool, own: NamespaceMode| {
        if host { NamespaceMode::Node as i32 } else { own as i32 }
    };
    let shared = pod.bool(&["spec", "shareProcessNamespace"]);
    let pid = if shared { NamespaceMode::Pod } else { NamespaceMode::Container };
    NamespaceOption {
        network: mode(pod.bool(&["spec", "hostNetwork"]), NamespaceMode::Pod),
        pid: mode(pod.bool(&["spec", "hostPID"]), pid),
        ipc: mode(pod.bool(&["spec", "hostIPC"]), NamespaceMode::Pod),
        ..Default::default()
    }
}

/// How names are looked up in a pod.
///
/// upstream: pkg/kubelet/network/dns/dns.go GetPodDNS
fn dns(shared: &Shared, pod: &Object) -> DNSConfig {
    let config = &shared.config;
    let policy = pod.str(&["spec", "dnsPolicy"]);
    let host_network = pod.bool(&["spec", "hostNetwork"]);
    let cluster = matches!(policy, "ClusterFirstWithHostNet")
        || (matches!(policy, "ClusterFirst" | "") && !host_network);
    let mut dns = if policy == "None" { DNSConfig::default() } else { host_dns() };
    if cluster {
        let domain = &config.cluster_domain;
        let mut searches = vec![
            format!("{}.svc.{domain}", pod.namespace()),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        searches.append(&mut dns.searches);
        dns = DNSConfig {
            servers: vec![config.cluster_dns.to_string()],
            searches,
            options: vec!["ndots:5".into()],
        };
    }
    let own = pod.get(&["spec", "dnsConfig"]).cloned().unwrap_or(Value::Null);
    let texts = |key: &str| -> Vec<String> {
        let list = own[key].as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    dns.servers.extend(texts("nameservers"));
    dns.searches.extend(texts("searches"));
    for option in own["options"].as_array().into_iter().flatten() {
        let name = option["name"].as_str().unwrap_or("");
        let text = match option["value"].as_str() {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        };
        dns.options.retain(|o| o.split(':').next() != Some(name));
        dns.options.push(text);
    }
    dns
}

fn host_dns() -> DNSConfig {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let mut dns = DNSConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.servers.extend(words.next()),
            Some("search") => dns.searches = words.collect(),
            Some("options") => dns.options = words.collect(),
            _ => {}
        }
    }
    dns
}

fn ports(pod: &Object) -> Vec<PortMapping> {
    if pod.bool(&["spec", "hostNetwork"]) {
        return Vec::new();
    }
    let containers = pod.list(&["spec", "containers"]).iter();
    let ports = containers.filter_map(|c| c["ports"].as_array()).flatten();
    ports
        .filter(|p| p["hostPort"].as_i64().is_some_and(|port| port > 0))
        .map(|p| {
            let number =
                |key: &str| p[key].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
            let protocol = match p["protocol"].as_str() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            PortMapping {
                protocol: protocol as i32,
                container_port: number("containerPort"),
                host_port: number("hostPort"),
                host_ip: p["hostIP"].as_str().unwrap_or("").to_owned(),
            }
        })
        .collect()
}

fn texts(map: Option<&Value>) -> HashMap<String, String> {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned())).collect()
}

/// The cgroup that the pod's containers live in.
pub(crate) fn cgroup_parent(shared: &Shared, pod: &Object) -> String {
    let class = match pod.str(&["status", "qosClass"]) {
        "Guaranteed" => "",
        "Burstable" => "/burstable",
        _ => "/besteffort",
    };
    format!("{}/kubepods{class}/pod{}", shared.config.cgroup_root, pod.uid())
}

/// The configuration of a pod's sandbox.
pub(crate) fn config(
    shared: &Shared,
    pod: &Object,
    attempt: u32,
) -> Result<PodSandboxConfig, String> {
    let mut labels = texts(pod.get(&["metadata", "labels"]));
    for (key, value) in [
        (labels::POD_NAME, pod.name()),
        (labels::POD_NAMESPACE, pod.namespace()),
        (labels::POD_UID, pod.uid()),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let sysctls = pod.list(&["spec", "securityContext", "sysctls"]).iter().map(|s| {
        let text = |key: &str| s[key].as_str().unwrap_or("").to_owned();
        (sysctl_name(&text("name")), text("value"))
    });
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt,
        }),
        hostname: kernel_name(pod, &shared.config.cluster_domain)?,
        log_directory: logs_dir(shared, pod).display().to_string(),
        dns_config: Some(dns(shared, pod)),
        port_mappings: ports(pod),
        labels,
        annotations: texts(pod.get(&["metadata", "annotations"])),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(shared, pod),
            security_context: Some(security(pod)),
            sysctls: sysctls.collect(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_has_the_name_that_its_spec_says() {
        let names = |spec: Value| {
            let meta = json!({ "name": "a".repeat(62) + "-b", "namespace": "n" });
            let pod = Object::from_value(json!({ "metadata": meta, "spec": spec }));
            let pod = pod.expect("an object");
            let (name, domain) = hostname(&pod, "c.l");
            (name, domain, kernel_name(&pod, "c.l").map_err(|error| error.len()))
        };
        let own = |name: &str, domain: &str, kernel: &str| {
            (name.to_owned(), domain.to_owned(), Ok(kernel.to_owned()))
        };
        let cut = "a".repeat(62);
        assert_eq!(names(json!({})), own(&cut, "", &cut));
        let mut spec = json!({ "hostname": "h", "subdomain": "s" });
        assert_eq!(names(spec.clone()), own("h", "s.n.svc.c.l", "h"));
        spec["setHostnameAsFQDN"] = true.into();
        assert_eq!(names(spec.clone()), own("h", "s.n.svc.c.l", "h.s.n.svc.c.l"));
        spec["hostname"] = "h".repeat(60).into();
        assert!(names(spec.clone()).2.is_err());
        spec["hostnameOverride"] = "o.example".into();
        assert_eq!(names(spec), own("o.example", "", "o.example"));
        let host = names(json!({ "hostNetwork": true }));
        assert_eq!(host.2, Ok(String::new()));
    }
}
