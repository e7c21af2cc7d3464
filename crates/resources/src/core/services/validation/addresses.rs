//! A service's addresses and their families.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidateServiceClusterIPsRelatedFields,
//! validateUpgradeDowngradeClusterIPs, validateUpgradeDowngradeIPFamilies

use std::collections::BTreeSet;

use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::is_headless;
use crate::core::pods::tree::{opt_text, text, texts};
use crate::core::pods::validation::common::one_of;
use crate::core::pods::validation::network::{is_dual_stack, is_ipv6, legacy_ip};

/// Address, list of addresses, families and policy go together.
pub(in crate::core::services) fn cluster(
    spec: &Value,
    old: Option<&Value>,
    path: &Path,
    errors: &mut ErrorList,
) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let (ip, ips) = (text(spec, "clusterIP"), texts(spec, "clusterIPs"));
    let at = path.child("clusterIPs");
    let bad = |detail: &str| Error::invalid(&at, ips.clone(), detail);
    match (ip, ips.first()) {
        ("", None) => {}
        ("", Some(_)) => errors.push(bad("must be empty when `clusterIP` is not specified")),
        (_, None) => errors.push(Error::required(&at, "")),
        (ip, Some(first)) => {
            if *first != ip {
                errors.push(bad("first value must match `clusterIP`"));
            }
        }
    }
    families(spec, path, errors);
    let known = old.map(|old| texts(old, "clusterIPs")).unwrap_or_default();
    let mut broken = false;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && *ip == "None" {
            if ips.len() > 1 {
                broken = true;
                errors.push(bad("'None' must be the first and only value"));
            }
            continue;
        }
        let before = errors.len();
        legacy_ip(ip, &at.index(i), &known, errors);
        broken |= errors.len() > before;
    }
    if ips.len() > 2 {
        errors.push(bad("may only hold up to 2 values"));
    }
    if broken {
        return;
    }
    if ips.len() > 1 && !is_dual_stack(&ips) {
        errors.push(bad("may specify no more than one IP for each IP family"));
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(texts(spec, "ipFamilies")).enumerate() {
        let wrong = match family {
            "IPv4" => is_ipv6(ip),
            "IPv6" => !is_ipv6(ip),
            _ => false,
        };
        if wrong {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.push(Error::invalid(&at.index(i), *ip, &detail));
        }
    }
}

fn families(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (i, family) in texts(spec, "ipFamilies").into_iter().enumerate() {
        let at = path.child("ipFamilies").index(i);
        one_of(family, &["IPv4", "IPv6"], &at, errors);
        if !seen.insert(family) {
            errors.push(Error::duplicate(&at, family));
        }
    }
    if let Some(policy) = opt_text(spec, "ipFamilyPolicy") {
        let set = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        one_of(policy, &set, &path.child("ipFamilyPolicy"), errors);
    }
}

/// What may change in addresses and families: a second one may come and go.
pub(super) fn changed(new: &Value, old: &Value, errors: &mut ErrorList) {
    if [new, old].iter().any(|spec| text(spec, "type") == "ExternalName") {
        return;
    }
    let (headless, was_headless) = (is_headless(new), is_headless(old));
    if !(headless && was_headless) {
        list(new, old, ("clusterIPs", "clusterIP"), errors);
    }
    if !headless && !was_headless {
        list(new, old, ("ipFamilies", "ipFamily"), errors);
    }
}

fn list(new: &Value, old: &Value, (key, singular): (&str, &str), errors: &mut ErrorList) {
    let (now, before) = (texts(new, key), texts(old, key));
    let path = Path::new("spec").child(key);
    let fixed = "may not change once set";
    if now.len() == before.len() {
        for (i, _) in now.iter().zip(&before).enumerate().filter(|(_, (a, b))| a != b) {
            let at = path.index(if key == "clusterIPs" { i } else { 0 });
            errors.push(Error::invalid(&at, now.clone(), fixed));
        }
        return;
    }
    let at = path.index(0);
    // Upstream looks at the addresses in both places.
    if now.len() < before.len() && texts(new, "clusterIPs").is_empty() {
        let detail = format!("primary {singular} can not be unset");
        errors.push(Error::invalid(&at, now.clone(), &detail));
    }
    if let (Some(a), Some(b)) = (now.first(), before.first())
        && a != b
    {
        errors.push(Error::invalid(&at, texts(new, "clusterIPs"), fixed));
    }
    if now.len() < before.len()
        && now.len() == 1
        && opt_text(new, "ipFamilyPolicy") != Some("SingleStack")
    {
        let at = Path::new("spec").child("ipFamilyPolicy");
        let value = opt_text(new, "ipFamilyPolicy").map_or(Value::Null, Value::from);
        let detail =
            format!("must be set to 'SingleStack' when releasing the secondary {singular}");
        errors.push(Error::invalid(&at, value, &detail));
    }
}
