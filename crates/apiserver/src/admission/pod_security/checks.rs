//! The checks of the Pod Security Standards, each with the versions at which its rule changed.
//!
//! upstream: staging/src/k8s.io/pod-security-admission/policy

use std::collections::BTreeSet;

use longshore_api::patch::gotext;
use serde_json::Value;

use super::level::{Level, Policy};

/// The newest version at which a rule changed; later ones are the same.
const NEWEST: u32 = 35;

/// A rule that a pod breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// The rule in a few words.
    pub reason: &'static str,
    /// What of the pod breaks it.
    pub detail: String,
}

/// What the checks see of a pod or a template.
pub(super) struct Pod<'a> {
    annotations: &'a Value,
    spec: &'a Value,
    containers: Vec<&'a Value>,
}

impl<'a> Pod<'a> {
    pub(super) fn new(metadata: &'a Value, spec: &'a Value) -> Self {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let containers =
            lists.iter().flat_map(|list| spec[list].as_array().into_iter().flatten()).collect();
        Self { annotations: &metadata["annotations"], spec, containers }
    }

    fn security(&self) -> &'a Value {
        &self.spec["securityContext"]
    }

    fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Root in a user namespace is nobody outside of it.
    fn has_user_namespace(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    /// The names of the containers for which something holds.
    fn named(&self, mut holds: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        let bad = self.containers.iter().filter(|container| holds(container));
        bad.map(|container| text(&container["name"])).collect()
    }
}

type Rule = fn(&Pod<'_>) -> Option<Violation>;

struct Check {
    level: Level,
    /// From which minor version on which rule holds, oldest first.
    rules: &'static [(u32, Rule)],
    /// Where the check of the baseline stands that this one replaces.
    replaces: Option<Rule>,
}

const fn baseline(rules: &'static [(u32, Rule)]) -> Check {
    Check { level: Level::Baseline, rules, replaces: None }
}

const fn restricted(rules: &'static [(u32, Rule)], replaces: Option<Rule>) -> Check {
    Check { level: Level::Restricted, rules, replaces }
}

/// All checks in the order in which they are told: upstream sorts their names within a level.
const CHECKS: &[Check] = &[
    baseline(&[(0, app_armor)]),
    baseline(&[(0, capabilities_baseline)]),
    baseline(&[(0, host_namespaces)]),
    baseline(&[(0, host_paths)]),
    baseline(&[(0, host_ports)]),
    baseline(&[(34, host_probes)]),
    baseline(&[(0, privileged)]),
    baseline(&[(0, proc_mount), (35, |pod| outside_user_namespace(pod, proc_mount))]),
    baseline(&[(0, |pod| selinux(pod, false)), (31, |pod| selinux(pod, true))]),
    baseline(&[(0, seccomp_annotations), (19, seccomp_baseline)]),
    baseline(&[
        (0, |pod| sysctls(pod, 0)),
        (27, |pod| sysctls(pod, 27)),
        (29, |pod| sysctls(pod, 29)),
        (32, |pod| sysctls(pod, 32)),
    ]),
    baseline(&[(0, windows_host_process)]),
    restricted(&[(8, escalation), (25, |pod| unless_windows(pod, escalation))], None),
    restricted(
        &[(22, capabilities_restricted), (25, |pod| unless_windows(pod, capabilities_restricted))],
        Some(capabilities_baseline),
    ),
    restricted(&[(35, proc_mount)], Some(proc_mount)),
    restricted(&[(0, volume_types)], Some(host_paths)),
    restricted(&[(0, non_root), (35, |pod| outside_user_namespace(pod, non_root))], None),
    restricted(&[(23, root_user), (35, |pod| outside_user_namespace(pod, root_user))], None),
    restricted(
        &[(19, seccomp_restricted), (25, |pod| unless_windows(pod, seccomp_restricted))],
        Some(seccomp_annotations),
    ),
];

impl Check {
    fn rule(&self, minor: u32) -> Option<Rule> {
        self.rules.iter().rev().find(|(from, _)| *from <= minor).map(|(_, rule)| *rule)
    }

    /// Whether this is the check whose first rule is `rule`.
    fn starts_with(&self, rule: Rule) -> bool {
        std::ptr::fn_addr_eq(self.rules[0].1, rule)
    }
}

/// The rules of a policy that a pod breaks.
pub(super) fn evaluate(policy: Policy, pod: &Pod<'_>) -> Vec<Violation> {
    if policy.level == Level::Privileged {
        return Vec::new();
    }
    let minor = policy.version.map_or(NEWEST, |minor| minor.min(NEWEST));
    let applies = |check: &&Check| check.level <= policy.level && check.rule(minor).is_some();
    let replaced: Vec<Rule> =
        CHECKS.iter().filter(applies).filter_map(|check| check.replaces).collect();
    let kept = CHECKS.iter().filter(applies).filter(|check| {
        check.level == Level::Restricted || !replaced.iter().any(|rule| check.starts_with(*rule))
    });
    kept.filter_map(|check| check.rule(minor)?(pod)).collect()
}

fn unless_windows(pod: &Pod<'_>, rule: Rule) -> Option<Violation> {
    if pod.is_windows() { None } else { rule(pod) }
}

fn outside_user_namespace(pod: &Pod<'_>, rule: Rule) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { rule(pod) }
}

// === what several checks say ===

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// Strings in byte order, each once.
type Names = BTreeSet<String>;

fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> =
        names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect();
    names.join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

fn violation(reason: &'static str, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason, detail: detail.into() })
}

/// `pod and containers "a"`: who sets something; `None` when nobody does.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let own = pod.then(|| "pod".to_owned());
    let named = (!names.is_empty()).then(|| containers(names));
    let all: Vec<String> = own.into_iter().chain(named).collect();
    if all.is_empty() { None } else { Some(all.join(" and ")) }
}

// === baseline ===

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = Names::new();
    let mut bad = |security: &Value| {
        let profile = &security["appArmorProfile"];
        let kind = text(&profile["type"]);
        let bad = profile.is_object() && !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    };
    let own = bad(pod.security());
    let names = pod.named(|container| bad(&container["securityContext"]));
    let mut annotations = Names::new();
    for (key, value) in pod.annotations.as_object().into_iter().flatten() {
        let value = text(value);
        let allowed =
            value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        if key.starts_with(ANNOTATION) && !allowed {
            annotations.insert(format!("{key}={}", gotext::quote(value)));
        }
    }
    let mut who: Vec<String> = setters(own, &names).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let all: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len());
    let detail =
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(all));
    violation(reason, detail)
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (names, added) = adding(pod, &ALLOWED);
    if names.is_empty() {
        return None;
    }
    violation("non-default capabilities", not_included(&names, &added))
}

/// The containers that add other capabilities than the allowed ones, and these capabilities.
fn adding<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, Names) {
    let mut added = Names::new();
    let names = pod.named(|container| {
        let list = container["securityContext"]["capabilities"]["add"].as_array();
        let before = list.into_iter().flatten().map(text).filter(|c| !allowed.contains(c));
        let bad: Vec<&str> = before.collect();
        added.extend(bad.iter().map(|c| (*c).to_owned()));
        !bad.is_empty()
    });
    (names, added)
}

fn not_included(names: &[&str], added: &Names) -> String {
    format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(names),
        quoted(added)
    )
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"];
    let set: Vec<String> = fields
        .iter()
        .filter(|field| pod.spec[**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if set.is_empty() { None } else { violation("host namespaces", set.join(", ")) }
}

fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let volumes = pod.spec["volumes"].as_array().into_iter().flatten();
    let names: Vec<&str> =
        volumes.filter(|v| v["hostPath"].is_object()).map(|v| text(&v["name"])).collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names));
    violation("hostPath volumes", detail)
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = Names::new();
    let names = pod.named(|container| {
        let list = container["ports"].as_array().into_iter().flatten();
        let used: Vec<i64> =
            list.filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0).collect();
        ports.extend(used.iter().map(i64::to_string));
        !used.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let ports: Vec<String> = ports.into_iter().collect();
    let uses = plural("uses", "use", names.len());
    let word = plural("hostPort", "hostPorts", ports.len());
    violation("hostPort", format!("{} {uses} {word} {}", containers(&names), ports.join(", ")))
}

fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    let mut hosts = Names::new();
    let names = pod.named(|container| {
        let lifecycle = &container["lifecycle"];
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &lifecycle["postStart"],
            &lifecycle["preStop"],
        ];
        let actions = handlers.iter().flat_map(|h| [&h["httpGet"], &h["tcpSocket"]]);
        let bad: Vec<&str> =
            actions.map(|action| text(&action["host"])).filter(|host| !host.is_empty()).collect();
        hosts.extend(bad.iter().map(|host| (*host).to_owned()));
        !bad.is_empty()
    });
    let names: Vec<&str> = names.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    if names.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", names.len());
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let detail = format!("{} {uses} {word} {}", containers(&names), quoted(hosts));
    violation("probe or lifecycle host", detail)
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.named(|container| container["securityContext"]["privileged"] == true);
    let who = setters(false, &names)?;
    violation("privileged", format!("{who} must not set securityContext.privileged=true"))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = Names::new();
    let names = pod.named(|container| {
        let kind = container["securityContext"]["procMount"].as_str();
        let bad = kind.filter(|kind| *kind != "Default");
        kinds.extend(bad.map(str::to_owned));
        bad.is_some()
    });
    let who = setters(false, &names)?;
    let detail = format!("{who} must not set securityContext.procMount to {}", quoted(kinds));
    violation("procMount", detail)
}

fn selinux(pod: &Pod<'_>, engine: bool) -> Option<Violation> {
    let (mut types, mut user, mut role) = (Names::new(), false, false);
    let mut bad = |security: &Value| {
        let options = &security["seLinuxOptions"];
        let kind = text(&options["type"]);
        let known = matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || engine && kind == "container_engine_t";
        if !known {
            types.insert(kind.to_owned());
        }
        let (has_user, has_role) =
            (!text(&options["user"]).is_empty(), !text(&options["role"]).is_empty());
        user |= has_user;
        role |= has_role;
        !known || has_user || has_role
    };
    let own = bad(pod.security());
    let names = pod.named(|container| bad(&container["securityContext"]));
    let who = setters(own, &names)?;
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    what.extend(user.then(|| "user may not be set".to_owned()));
    what.extend(role.then(|| "role may not be set".to_owned()));
    let what = what.join("; ");
    violation(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {what}"),
    )
}

fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let names = pod.containers.iter().map(|c| format!("{CONTAINER}{}", text(&c["name"])));
    let mut forbidden = Names::new();
    for key in std::iter::once(POD.to_owned()).chain(names) {
        let Some(value) = pod.annotations[&key].as_str() else { continue };
        let allowed = matches!(value, "runtime/default" | "docker/default")
            || value.starts_with("localhost/");
        if !allowed {
            forbidden.insert(format!("{key}={}", gotext::quote(value)));
        }
    }
    if forbidden.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", forbidden.len());
    let list: Vec<String> = forbidden.into_iter().collect();
    violation("seccompProfile", format!("forbidden {word} {}", list.join(", ")))
}

/// Whether a profile is set, and if so whether it is an allowed one.
fn seccomp(security: &Value) -> Option<(bool, &str)> {
    let profile = &security["seccompProfile"];
    let kind = text(&profile["type"]);
    profile.is_object().then_some((matches!(kind, "Localhost" | "RuntimeDefault"), kind))
}

fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = Names::new();
    let mut bad = |security: &Value| {
        let bad = seccomp(security).filter(|(allowed, _)| !allowed);
        values.extend(bad.map(|(_, kind)| kind.to_owned()));
        bad.is_some()
    };
    let own = bad(pod.security());
    let names = pod.named(|container| bad(&container["securityContext"]));
    let who = setters(own, &names)?;
    let values = quoted(values);
    violation(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {values}"),
    )
}

fn sysctls(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    const ALLOWED: [(u32, &str); 12] = [
        (0, "kernel.shm_rmid_forced"),
        (0, "net.ipv4.ip_local_port_range"),
        (0, "net.ipv4.tcp_syncookies"),
        (0, "net.ipv4.ping_group_range"),
        (0, "net.ipv4.ip_unprivileged_port_start"),
        (27, "net.ipv4.ip_local_reserved_ports"),
        (29, "net.ipv4.tcp_keepalive_time"),
        (29, "net.ipv4.tcp_fin_timeout"),
        (29, "net.ipv4.tcp_keepalive_intvl"),
        (29, "net.ipv4.tcp_keepalive_probes"),
        (32, "net.ipv4.tcp_rmem"),
        (32, "net.ipv4.tcp_wmem"),
    ];
    let set = pod.security()["sysctls"].as_array().into_iter().flatten();
    let allowed = |name: &str| ALLOWED.iter().any(|(from, own)| *from <= minor && *own == name);
    let bad: Vec<&str> =
        set.map(|sysctl| text(&sysctl["name"])).filter(|name| !allowed(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let bad = |security: &Value| security["windowsOptions"]["hostProcess"] == true;
    let names = pod.named(|container| bad(&container["securityContext"]));
    let who = setters(bad(pod.security()), &names)?;
    violation(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}

// === restricted ===

fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let names =
        pod.named(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    let who = setters(false, &names)?;
    violation(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    let keeping = pod.named(|container| {
        let drop = container["securityContext"]["capabilities"]["drop"].as_array();
        !drop.into_iter().flatten().any(|c| c == "ALL")
    });
    let (names, added) = adding(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = containers(&keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !names.is_empty() {
        details.push(not_included(&names, &added));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

fn volume_types(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    const KNOWN: [&str; 21] = [
        "hostPath",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "gitRepo",
        "nfs",
        "iscsi",
        "glusterfs",
        "rbd",
        "flexVolume",
        "cinder",
        "cephfs",
        "flocker",
        "fc",
        "azureFile",
        "vsphereVolume",
        "quobyte",
        "azureDisk",
        "photonPersistentDisk",
        "portworxVolume",
        "scaleIO",
        "storageos",
    ];
    let (mut names, mut kinds) = (Vec::new(), Names::new());
    for volume in pod.spec["volumes"].as_array().into_iter().flatten() {
        if ALLOWED.iter().any(|kind| volume[*kind].is_object()) {
            continue;
        }
        names.push(text(&volume["name"]));
        let kind = KNOWN.iter().find(|kind| volume[**kind].is_object());
        kinds.insert(kind.map_or("unknown", |kind| kind).to_owned());
    }
    if names.is_empty() {
        return None;
    }
    let word = plural("restricted volume type", "restricted volume types", kinds.len());
    let detail = format!(
        "{} {} {} {word} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        quoted(kinds)
    );
    violation("restricted volume types", detail)
}

fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let own = &pod.security()["runAsNonRoot"];
    let set = |container: &Value| container["securityContext"]["runAsNonRoot"].as_bool();
    let wrong = pod.named(|container| set(container) == Some(false));
    if let Some(who) = setters(*own == false, &wrong) {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return violation(REASON, detail);
    }
    let missing = pod.named(|container| set(container).is_none() && *own != true);
    let who = setters(false, &missing)?;
    violation(REASON, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

fn root_user(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.named(|container| container["securityContext"]["runAsUser"] == 0);
    let who = setters(pod.security()["runAsUser"] == 0, &names)?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(found) = seccomp_baseline(pod) {
        return Some(found);
    }
    if seccomp(pod.security()).is_some() {
        return None;
    }
    let missing = pod.named(|container| seccomp(&container["securityContext"]).is_none());
    let who = setters(false, &missing)?;
    violation(
        "seccompProfile",
        format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        ),
    )
}
