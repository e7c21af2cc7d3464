//! Pods for Windows, and what other pods may not have.
//!
//! upstream: pkg/apis/core/validation/validation.go validateWindows, validateLinux,
//! validateWindowsSecurityContextOptions, validateWindowsHostProcessPod

use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::common::dns_subdomain;
use super::options::containers_at;
use crate::core::pods::tree::{flag, has, list, opt_text, part, text};

const CREDENTIAL_MAX: usize = 64 * 1024;
const DOMAIN_MAX: usize = 256;
const USER_MAX: usize = 104;
/// Settings of a pod's spec that Windows has no use for; the empty ones may stand there.
const SPEC: [(&str, bool); 4] =
    [("hostUsers", true), ("hostPID", false), ("hostIPC", false), ("shareProcessNamespace", true)];
/// The same of a pod's security context.
const POD_CONTEXT: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
/// The same of a container's.
const CONTEXT: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// The operating system, and what does not go with it.
pub(super) fn os(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(os) = part(spec, "os") else { return };
    let at = path.child("os");
    match text(os, "name") {
        "" => errors.push(Error::required(&at.child("name"), "")),
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        other => errors.push(Error::not_supported(&at, other, &["linux", "windows"])),
    }
}

fn context_of(holder: &Value) -> &Value {
    part(holder, "securityContext").unwrap_or(&Value::Null)
}

fn linux(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let detail = "windows options cannot be set for a linux pod";
    if has(context_of(spec), "windowsOptions") {
        let at = path.child("securityContext").child("windowsOptions");
        errors.push(Error::forbidden(&at, detail));
    }
    for (container, at) in containers_at(spec, path) {
        if has(context_of(container), "windowsOptions") {
            let at = at.child("securityContext").child("windowsOptions");
            errors.push(Error::forbidden(&at, detail));
        }
    }
}

fn windows(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let detail = "cannot be set for a windows pod";
    let context = context_of(spec);
    let at = path.child("securityContext");
    for key in POD_CONTEXT.iter().filter(|key| has(context, key)) {
        errors.push(Error::forbidden(&at.child(key), detail));
    }
    if !list(context, "sysctls").is_empty() {
        errors.push(Error::forbidden(&at.child("sysctls"), detail));
    }
    for (key, any) in SPEC {
        if if any { has(spec, key) } else { flag(spec, key) } {
            errors.push(Error::forbidden(&path.child(key), detail));
        }
    }
    for (container, at) in containers_at(spec, path) {
        let at = at.child("securityContext");
        for key in CONTEXT.iter().filter(|key| has(context_of(container), key)) {
            errors.push(Error::forbidden(&at.child(key), detail));
        }
    }
}

/// The Windows part of a security context.
pub(super) fn context(options: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let Some(options) = options else { return };
    if let Some(name) = opt_text(options, "gmsaCredentialSpecName") {
        dns_subdomain(name, &path.child("gmsaCredentialSpecName"), errors);
    }
    if let Some(credential) = opt_text(options, "gmsaCredentialSpec") {
        let at = path.child("gmsaCredentialSpec");
        let detail = match credential.len() {
            0 => "gmsaCredentialSpec cannot be an empty string",
            1..=CREDENTIAL_MAX => "",
            _ => "gmsaCredentialSpec size must be under 64 KiB",
        };
        if !detail.is_empty() {
            errors.push(Error::invalid(&at, credential, detail));
        }
    }
    if let Some(name) = opt_text(options, "runAsUserName") {
        let at = path.child("runAsUserName");
        for detail in user_name(name) {
            errors.push(Error::invalid(&at, name, &format!("runAsUserName{detail}")));
        }
    }
}

fn user_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec![" cannot be an empty string".to_owned()];
    }
    if name.bytes().any(|b| b.is_ascii_control()) {
        return vec![" cannot contain control characters".to_owned()];
    }
    if name.matches('\\').count() > 1 {
        return vec![" cannot contain more than one backslash".to_owned()];
    }
    let (domain, user) = match name.split_once('\\') {
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut broken = Vec::new();
    if domain.is_some_and(|d| d.len() >= DOMAIN_MAX) {
        broken.push(format!("'s Domain length must be under {DOMAIN_MAX} characters"));
    }
    if domain.is_some_and(|d| !is_net_bios(d) && !is_dns(d)) {
        broken.push("'s Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        broken.push("'s User cannot be empty".to_owned());
    } else if user.len() > USER_MAX {
        broken.push(format!("'s User length must not be longer than {USER_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        broken.push("'s User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|c: char| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        broken
            .push("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".to_owned());
    }
    broken
}

fn is_net_bios(domain: &str) -> bool {
    !domain.starts_with('.')
        && (1..=15).contains(&domain.chars().count())
        && !domain.contains(|c: char| "\\/:*?\"<>|".contains(c))
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let bytes = label.as_bytes();
        label.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    })
}

/// Containers that run right on the host come all together, and on its network.
pub(super) fn host_process(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let of = |holder: &Value| {
        let options = part(context_of(holder), "windowsOptions")?;
        options.get("hostProcess")?.as_bool()
    };
    let whole = of(spec);
    let (mut all, mut on_host) = (0, 0);
    for (container, at) in containers_at(spec, path) {
        all += 1;
        let own = of(container);
        if let (Some(whole), Some(own)) = (whole, own)
            && whole != own
        {
            let at = at.child("securityContext").child("windowsOptions").child("hostProcess");
            let detail = format!(
                "pod hostProcess value must be identical if both are specified, was {whole}"
            );
            errors.push(Error::invalid(&at, own, &detail));
        }
        on_host += usize::from(own.or(whole).unwrap_or(false));
    }
    if on_host == 0 {
        return;
    }
    if on_host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Error::invalid(path, "", detail));
    }
    if !flag(spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(&path.child("hostNetwork"), false, detail));
    }
}
