//! Whether a pod may run on this node at all. Pure.
//!
//! upstream: pkg/kubelet/lifecycle/predicate.go, pkg/kubelet/sysctl

use longshore_api::{Object, placement};
use serde_json::Value;

/// The reason of a pod that asks for another node. Labels may have changed just now.
pub(crate) const NODE_AFFINITY: &str = "NodeAffinity";

/// Why a pod is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// The kernel settings that a pod may change: they are its own, and do no harm to others.
///
/// upstream: pkg/kubelet/sysctl/safe_sysctls.go
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Checks a new pod.
pub(crate) fn check(pod: &Object) -> Result<(), Refusal> {
    let refuse =
        |reason: &str, message: String| Err(Refusal { reason: reason.to_owned(), message });
    let os = pod.str(&["spec", "os", "name"]);
    if !matches!(os, "" | "linux") {
        let text = "Failed to admit pod as the OS field doesn't match node OS";
        return refuse("PodOSNotSupported", text.to_owned());
    }
    for sysctl in pod.list(&["spec", "securityContext", "sysctls"]) {
        let name = sysctl_name(sysctl["name"].as_str().unwrap_or(""));
        let host = |what: &str| {
            let text = format!("forbidden sysctl: {name:?} not allowed with host {what} enabled");
            refuse("SysctlForbidden", text)
        };
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            let text = format!("forbidden sysctl: {name:?} not allowlisted");
            return refuse("SysctlForbidden", text);
        } else if name.starts_with("net.") && pod.bool(&["spec", "hostNetwork"]) {
            return host("Net");
        } else if name.starts_with("kernel.") && pod.bool(&["spec", "hostIPC"]) {
            return host("IPC");
        }
    }
    Ok(())
}

/// Checks a new pod against the node as it is now: somebody may have bound it without looking, or
/// the node has changed since.
///
/// upstream: pkg/kubelet/lifecycle/predicate.go generalFilter
pub(crate) fn check_node(pod: &Object, node: &Object) -> Result<(), Refusal> {
    let refuse = |name: &str, what: &str| {
        let message = format!("Predicate {name} failed: {what}");
        Err(Refusal { reason: name.to_owned(), message })
    };
    if !placement::affinity_fits(pod.get(&["spec"]).unwrap_or(&Value::Null), node) {
        return refuse(NODE_AFFINITY, "node(s) didn't match Pod's node affinity/selector");
    }
    let tolerations = pod.list(&["spec", "tolerations"]);
    let mut taints = node.list(&["spec", "taints"]).iter();
    if taints.any(|t| t["effect"] == "NoExecute" && !placement::tolerated(tolerations, t)) {
        return refuse("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

/// The name of a kernel setting with dots between its parts: slashes are possible as well, and stand
/// for each other then.
///
/// upstream: staging/src/k8s.io/component-helpers/node/util/sysctl/sysctl.go NormalizeName
pub(crate) fn sysctl_name(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name[at..].starts_with('.')) {
        return name.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_node_has_to_be_the_right_one() {
        let object = |value: Value| Object::from_value(value).expect("an object");
        let node = object(json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "spec": {"taints": [
                {"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoSchedule"},
            ]},
        }));
        let tolerations = json!([{"key": "a", "operator": "Exists"}]);
        let check = |spec: Value| {
            let pod = object(json!({ "spec": spec }));
            check_node(&pod, &node).map_err(|refusal| (refusal.reason, refusal.message))
        };
        assert_eq!(check(json!({"tolerations": tolerations})), Ok(()));
        let text =
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        assert_eq!(check(json!({})), Err(("TaintToleration".into(), text.into())));
        let text =
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        let wanted = json!({"tolerations": tolerations, "nodeSelector": {"disk": "hdd"}});
        assert_eq!(check(wanted), Err(("NodeAffinity".into(), text.into())));
    }

    #[test]
    fn only_safe_settings_are_taken() {
        let refusal = |spec: Value| {
            let pod = Object::from_value(json!({ "spec": spec })).expect("an object");
            check(&pod).err().map(|refusal| refusal.message)
        };
        let with = |name: &str| json!({ "securityContext": { "sysctls": [{ "name": name }] } });
        assert_eq!(refusal(json!({})), None);
        assert_eq!(refusal(with("kernel.shm_rmid_forced")), None);
        assert_eq!(refusal(with("net/ipv4/tcp_rmem")), None);
        let text = "forbidden sysctl: \"kernel.msgmax\" not allowlisted";
        assert_eq!(refusal(with("kernel.msgmax")).as_deref(), Some(text));
        let mut host = with("net.ipv4.tcp_rmem");
        host["hostNetwork"] = true.into();
        let text = "forbidden sysctl: \"net.ipv4.tcp_rmem\" not allowed with host Net enabled";
        assert_eq!(refusal(host).as_deref(), Some(text));
        let os = json!({ "os": { "name": "windows" } });
        assert!(refusal(os).is_some());
    }

    #[test]
    fn slashes_and_dots_are_exchanged() {
        for (name, want) in [
            ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("kernel/shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("", ""),
        ] {
            assert_eq!(sysctl_name(name), want);
        }
    }
}
