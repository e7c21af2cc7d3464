//! The configuration of one container.
//!
//! upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go generateContainerConfig

use std::collections::HashMap;
use std::path::PathBuf;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_cri::v1::*;
use serde_json::Value;

use crate::Shared;
use crate::env::{self, ConfigError};
use crate::images::Found;
use crate::observe::labels;
use crate::{plan, sandbox, volumes};

/// CPU shares of one CPU.
const SHARES_PER_CPU: i64 = 1024;
/// The fewest shares.
const SHARES_MIN: i64 = 2;
/// Where containers find the hosts file.
const HOSTS: &str = "/etc/hosts";
/// The period of CPU limits in microseconds.
const QUOTA_PERIOD: i64 = 100_000;
/// The smallest limit in one period.
const QUOTA_MIN: i64 = 1000;

/// The configuration of a container, and the path of its log below the pod's.
pub(crate) async fn config(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
    attempt: u32,
    image: &Found,
    ips: &[String],
    target: Option<&str>,
) -> Result<ContainerConfig, ConfigError> {
    let name = spec["name"].as_str().unwrap_or("").to_owned();
    not_root(pod, spec, image)?;
    let envs = env::of(shared, pod, spec, ips).await?;
    let lookup = |n: &str| envs.iter().find(|(k, _)| k == n).map(|(_, v)| v.clone());
    let words = |key: &str| -> Vec<String> {
        let list = spec[key].as_array().into_iter().flatten();
        list.map(|w| env::expand(w.as_str().unwrap_or(""), &lookup)).collect()
    };
    let mut mounts = volumes::mounts(shared, pod, spec, &lookup)?;
    // Whoever brings a hosts file of their own keeps it.
    let known = !ips.is_empty() || pod.bool(&["spec", "hostNetwork"]);
    if known && !mounts.iter().any(|mount| mount.container_path == HOSTS) {
        mounts.push(hosts_mount(shared, pod, ips)?);
    }
    mounts.push(message_mount(shared, pod, spec, &name, attempt)?);
    let text = |key: &str| spec[key].as_str().unwrap_or("").to_owned();
    let mut labels = HashMap::new();
    for (key, value) in [
        (labels::POD_NAME, pod.name()),
        (labels::POD_NAMESPACE, pod.namespace()),
        (labels::POD_UID, pod.uid()),
        (labels::CONTAINER, &name),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let annotations = HashMap::from([
        (labels::HASH.to_owned(), plan::hash(spec)),
        (labels::MESSAGE_PATH.to_owned(), text("terminationMessagePath")),
        (labels::MESSAGE_POLICY.to_owned(), text("terminationMessagePolicy")),
    ]);
    let flag = |key: &str| spec[key] == true;
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.clone(), attempt }),
        image: Some(ImageSpec {
            image: image.reference.clone(),
            user_specified_image: text("image"),
            ..Default::default()
        }),
        command: words("command"),
        args: words("args"),
        working_dir: text("workingDir"),
        envs: envs.into_iter().map(|(key, value)| KeyValue { key, value: value.into() }).collect(),
        mounts,
        labels,
        annotations,
        log_path: format!("{name}/{attempt}.log"),
        stdin: flag("stdin"),
        stdin_once: flag("stdinOnce"),
        tty: flag("tty"),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(shared, pod, spec)),
            security_context: Some(security(pod, spec, image, target)),
        }),
        ..Default::default()
    })
}

/// Refuses a container that would run as root though it must not.
///
/// upstream: pkg/kubelet/kuberuntime/security_context.go verifyRunAsNonRoot
fn not_root(pod: &Object, spec: &Value, image: &Found) -> Result<(), ConfigError> {
    let field = |key: &str| {
        let own = spec["securityContext"].get(key);
        own.or(pod.get(&["spec", "securityContext", key])).cloned().unwrap_or(Value::Null)
    };
    if field("runAsNonRoot") != true {
        return Ok(());
    }
    let name = spec["name"].as_str().unwrap_or("");
    let shown = format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid());
    let place = format!("(pod: {shown:?}, container: {name})");
    let why = match (field("runAsUser").as_i64(), image.uid) {
        (Some(0), _) => format!("container's runAsUser breaks non-root policy {place}"),
        (Some(_), _) => return Ok(()),
        (None, Some(0)) => {
            format!("container has runAsNonRoot and image will run as root {place}")
        }
        (None, None) if !image.user.is_empty() => format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {place}",
            image.user
        ),
        _ => return Ok(()),
    };
    Err(ConfigError::Missing(why))
}

fn io(path: &std::path::Path, error: &std::io::Error) -> ConfigError {
    ConfigError::Missing(format!("cannot write {}: {error}", path.display()))
}

/// The hosts file of a pod, the same for all its containers.
fn hosts_mount(shared: &Shared, pod: &Object, ips: &[String]) -> Result<Mount, ConfigError> {
    let path = volumes::pod_dir(shared, pod).join("etc-hosts");
    let mut text = if pod.bool(&["spec", "hostNetwork"]) {
        let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        format!("# Kubernetes-managed hosts file (host network).\n{own}")
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let (hostname, domain) = sandbox::hostname(pod, &shared.config.cluster_domain);
        let names =
            if domain.is_empty() { hostname } else { format!("{hostname}.{domain}\t{hostname}") };
        for ip in ips {
            text.push_str(&format!("{ip}\t{names}\n"));
        }
        text
    };
    let aliases = pod.list(&["spec", "hostAliases"]);
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias["hostnames"].as_array().into_iter().flatten();
            let names: Vec<&str> = names.filter_map(Value::as_str).collect();
            let ip = alias["ip"].as_str().unwrap_or("");
            text.push_str(&format!("{ip}\t{}\n", names.join("\t")));
        }
    }
    std::fs::write(&path, text).map_err(|e| io(&path, &e))?;
    Ok(Mount {
        container_path: HOSTS.into(),
        host_path: path.display().to_string(),
        ..Default::default()
    })
}

/// The file in which a container leaves its last words.
fn message_mount(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
    name: &str,
    attempt: u32,
) -> Result<Mount, ConfigError> {
    let dir = volumes::pod_dir(shared, pod).join("containers").join(name);
    std::fs::create_dir_all(&dir).map_err(|e| io(&dir, &e))?;
    let path: PathBuf = dir.join(format!("message-{attempt}"));
    std::fs::write(&path, "").map_err(|e| io(&path, &e))?;
    let everyone = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
    std::fs::set_permissions(&path, everyone).map_err(|e| io(&path, &e))?;
    Ok(Mount {
        container_path: spec["terminationMessagePath"]
            .as_str()
            .unwrap_or("/dev/termination-log")
            .to_owned(),
        host_path: path.display().to_string(),
        ..Default::default()
    })
}

fn quantity(spec: &Value, kind: &str, name: &str) -> Option<Quantity> {
    Quantity::parse(spec["resources"][kind][name].as_str()?).ok()
}

/// What a container may use.
///
/// upstream: pkg/kubelet/kuberuntime/kuberuntime_container_linux.go
pub(crate) fn resources(shared: &Shared, pod: &Object, spec: &Value) -> LinuxContainerResources {
    let request = quantity(spec, "requests", "cpu").or(quantity(spec, "limits", "cpu"));
    let shares =
        request.map_or(SHARES_MIN, |q| (q.milli_value() * SHARES_PER_CPU / 1000).max(SHARES_MIN));
    let mut resources = LinuxContainerResources {
        cpu_shares: shares,
        oom_score_adj: oom_score(shared, pod, spec),
        ..Default::default()
    };
    if let Some(limit) = quantity(spec, "limits", "cpu") {
        resources.cpu_period = QUOTA_PERIOD;
        resources.cpu_quota = (limit.milli_value() * QUOTA_PERIOD / 1000).max(QUOTA_MIN);
    }
    if let Some(limit) = quantity(spec, "limits", "memory") {
        resources.memory_limit_in_bytes = limit.value();
    }
    resources
}

/// The namespaces of a container: one for debugging may look at the processes of another.
fn namespaces(pod: &Object, target: Option<&str>) -> NamespaceOption {
    let mut namespaces = sandbox::namespaces(pod);
    if let Some(target) = target
        && namespaces.pid == NamespaceMode::Container as i32
    {
        namespaces.pid = NamespaceMode::Target as i32;
        namespaces.target_id = target.to_owned();
    }
    namespaces
}

/// How early the kernel ends a container when memory runs out.
///
/// upstream: pkg/kubelet/qos/policy.go
fn oom_score(shared: &Shared, pod: &Object, spec: &Value) -> i64 {
    match pod.str(&["status", "qosClass"]) {
        "Guaranteed" => -997,
        "Burstable" => {
            let node = shared.nodes.get("", &shared.config.node_name);
            let capacity =
                node.as_ref().map(|n| n.str(&["status", "capacity", "memory"]).to_owned());
            let capacity =
                capacity.and_then(|c| Quantity::parse(&c).ok()).map_or(0, Quantity::value);
            let request = quantity(spec, "requests", "memory").map_or(0, Quantity::value);
            if capacity == 0 {
                return 999;
            }
            (1000 - 1000 * request / capacity).clamp(3, 999)
        }
        _ => 1000,
    }
}

fn security(
    pod: &Object,
    spec: &Value,
    image: &Found,
    target: Option<&str>,
) -> LinuxContainerSecurityContext {
    let pod_context = pod.get(&["spec", "securityContext"]).cloned().unwrap_or(Value::Null);
    let own = &spec["securityContext"];
    let number = |key: &str| {
        let value = own[key].as_i64().or(pod_context[key].as_i64());
        value.map(|value| Int64Value { value })
    };
    let names = |key: &str| -> Vec<String> {
        let list = own["capabilities"][key].as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let run_as_user = number("runAsUser").or(image.uid.map(|value| Int64Value { value }));
    let run_as_username = match run_as_user {
        Some(_) => String::new(),
        None => image.user.clone(),
    };
    let groups = pod_context["supplementalGroups"].as_array().into_iter().flatten();
    let mut groups: Vec<i64> = groups.filter_map(Value::as_i64).collect();
    groups.extend(pod_context["fsGroup"].as_i64());
    let privileged = own["privileged"] == true;
    let profile = own["seccompProfile"]["type"]
        .as_str()
        .or(pod_context["seccompProfile"]["type"].as_str())
        .unwrap_or("");
    let seccomp = SecurityProfile {
        profile_type: match profile {
            "RuntimeDefault" => ProfileType::RuntimeDefault,
            "Localhost" => ProfileType::Localhost,
            _ => ProfileType::Unconfined,
        } as i32,
        ..Default::default()
    };
    let hidden = if privileged || own["procMount"] == "Unmasked" { None } else { Some(()) };
    let list = |paths: &[&str]| -> Vec<String> {
        hidden.map_or_else(Vec::new, |()| paths.iter().map(|p| (*p).to_owned()).collect())
    };
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: names("add"),
            drop_capabilities: names("drop"),
            ..Default::default()
        }),
        privileged,
        namespace_options: Some(namespaces(pod, target)),
        run_as_user,
        run_as_username,
        run_as_group: number("runAsGroup"),
        readonly_rootfs: own["readOnlyRootFilesystem"] == true,
        supplemental_groups: groups,
        no_new_privs: own["allowPrivilegeEscalation"] == false,
        seccomp: Some(seccomp),
        // upstream: pkg/securitycontext/util.go
        masked_paths: list(&[
            "/proc/asound",
            "/proc/acpi",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
        ]),
        readonly_paths: list(&[
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger",
        ]),
        ..Default::default()
    }
}
