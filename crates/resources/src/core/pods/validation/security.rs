//! What processes may do.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidateSecurityContext,
//! validatePodSpecSecurityContext

use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::common::one_of;
use super::options::Options;
use super::paths::descending;
use super::windows;
use crate::core::pods::tree::{flag, int, list, opt_text, part, text, texts};

const PROFILE_MAX: usize = 4095;
const SYSCTL_MAX: usize = 253;
const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
/// Sysctls of the namespace of processes' communication, besides those of `fs.mqueue.`.
const IPC_SYSCTLS: [&str; 4] = ["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."];

/// The number of a user or group.
pub(super) fn id(value: Option<i64>, path: &Path, errors: &mut ErrorList) {
    let max = i64::from(i32::MAX);
    if let Some(value) = value.filter(|value| !(0..=max).contains(value)) {
        let detail = format!("must be between 0 and {max}, inclusive");
        errors.push(Error::invalid(path, value, &detail));
    }
}

/// The security context of a container.
pub(super) fn container(container: &Value, host_users: bool, path: &Path, errors: &mut ErrorList) {
    let Some(context) = part(container, "securityContext") else { return };
    for key in ["runAsUser", "runAsGroup"] {
        id(int(context, key), &path.child(key), errors);
    }
    if let Some(mount) = opt_text(context, "procMount") {
        let at = path.child("procMount");
        one_of(mount, &["Default", "Unmasked"], &at, errors);
        if host_users && mount == "Unmasked" {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.push(Error::invalid(&at, mount, detail));
        }
    }
    seccomp(part(context, "seccompProfile"), &path.child("seccompProfile"), errors);
    if context.get("allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(path, context.clone(), detail));
        }
        let added = part(context, "capabilities").map(|c| texts(c, "add")).unwrap_or_default();
        for _ in added.iter().filter(|c| **c == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(path, context.clone(), detail));
        }
    }
    windows::context(part(context, "windowsOptions"), &path.child("windowsOptions"), errors);
    app_armor(part(context, "appArmorProfile"), &path.child("appArmorProfile"), errors);
}

fn seccomp(profile: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let Some(profile) = profile else { return };
    let kind = text(profile, "type");
    if kind.is_empty() {
        let detail = "type is required when seccompProfile is set";
        errors.push(Error::required(&path.child("type"), detail));
    } else {
        one_of(kind, &PROFILES, &path.child("type"), errors);
    }
    let at = path.child("localhostProfile");
    match opt_text(profile, "localhostProfile") {
        None if kind == "Localhost" => {
            errors.push(Error::required(&at, "must be set when seccomp type is Localhost"));
        }
        Some(file) if kind == "Localhost" => descending(file, &at, errors),
        Some(_) => {
            let detail = "can only be set when seccomp type is Localhost";
            let error = Error::invalid(&at, profile.clone(), detail);
            errors.push(error.as_struct("core/v1.SeccompProfile"));
        }
        None => {}
    }
}

fn app_armor(profile: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let Some(profile) = profile else { return };
    let at = path.child("localhostProfile");
    let file = opt_text(profile, "localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match text(profile, "type") {
        "Localhost" => match file {
            None => errors.push(Error::required(&at, missing)),
            Some(file) => {
                if file.trim() != file {
                    let detail = "must not be padded with whitespace";
                    errors.push(Error::invalid(&at, file, detail));
                } else if file.is_empty() {
                    errors.push(Error::required(&at, missing));
                }
                if file.len() > PROFILE_MAX {
                    errors.push(Error::too_long(&at, PROFILE_MAX));
                }
            }
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(file) = file {
                let detail = "can only be set when AppArmor type is Localhost";
                errors.push(Error::invalid(&at, file, detail));
            }
        }
        "" => {
            let detail = "type is required when appArmorProfile is set";
            errors.push(Error::required(&path.child("type"), detail));
        }
        other => errors.push(Error::not_supported(&path.child("type"), other, &PROFILES)),
    }
}

/// The security context of a pod.
pub(super) fn pod(spec: &Value, path: &Path, options: &Options, errors: &mut ErrorList) {
    let empty = Value::Null;
    let context = part(spec, "securityContext").unwrap_or(&empty);
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(int(context, key), &path.child(key), errors);
    }
    for (i, group) in list(context, "supplementalGroups").iter().enumerate() {
        id(group.as_i64(), &path.child("supplementalGroups").index(i), errors);
    }
    if flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    sysctls(spec, context, &path.child("sysctls"), options, errors);
    let selinux: &[&str] =
        if options.any_selinux_change { &["MountOption", "Recursive"] } else { &["Recursive"] };
    for (key, set) in [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"][..]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", selinux),
    ] {
        if let Some(policy) = opt_text(context, key) {
            one_of(policy, set, &path.child(key), errors);
        }
    }
    seccomp(part(context, "seccompProfile"), &path.child("seccompProfile"), errors);
    windows::context(part(context, "windowsOptions"), &path.child("windowsOptions"), errors);
    app_armor(part(context, "appArmorProfile"), &path.child("appArmorProfile"), errors);
}

/// Segments of lower-case letters, digits, dashes and underscores between dots or slashes.
fn is_sysctl(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= SYSCTL_MAX
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(|b| word(*b))
                && bytes.last().is_some_and(|b| word(*b))
                && bytes.iter().all(|b| word(*b) || b"-_".contains(b))
        })
}

/// Why a sysctl would reach into the host.
fn host_sysctl(name: &str, spec: &Value) -> Option<&'static str> {
    // Slashes and dots change places when the first separator is a slash.
    let slash = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/');
    let name = if slash {
        name.chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect()
    } else {
        name.to_owned()
    };
    let ipc = IPC_SYSCTLS.iter().any(|prefix| name.starts_with(prefix));
    if flag(spec, "hostNetwork") && name.starts_with("net.") {
        return Some("may not be specified when 'hostNetwork' is true");
    }
    (flag(spec, "hostIPC") && ipc).then_some("may not be specified when 'hostIPC' is true")
}

/// Whether a pod has sysctls that reach into the host.
pub(super) fn has_host_sysctls(spec: &Value) -> bool {
    let context = part(spec, "securityContext").unwrap_or(&Value::Null);
    list(context, "sysctls").iter().any(|s| host_sysctl(text(s, "name"), spec).is_some())
}

fn sysctls(spec: &Value, context: &Value, path: &Path, options: &Options, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for (i, sysctl) in list(context, "sysctls").iter().enumerate() {
        let at = path.index(i).child("name");
        let name = text(sysctl, "name");
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if !is_sysctl(name) {
            let detail = format!(
                "must have at most {SYSCTL_MAX} characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            );
            errors.push(Error::invalid(&at, name, &detail));
        } else if seen.contains(&name) {
            errors.push(Error::duplicate(&at, name));
        }
        if let (false, Some(detail)) = (options.host_sysctls, host_sysctl(name, spec)) {
            errors.push(Error::invalid(&at, name, detail));
        }
        seen.push(name);
    }
}
