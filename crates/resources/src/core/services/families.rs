//! What a service's addresses, families and policy are before any address is allocated.
//!
//! upstream: pkg/registry/core/service/storage/alloc.go initIPFamilyFields,
//! pkg/registry/core/service/storage/storage.go beginCreate, beginUpdate

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::release;
use super::validation::addresses;
use crate::core::pods::tree::{entries, fill_always, list, opt_text, or_null, text, texts};
use crate::core::pods::validation::network::is_ipv6;

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills what a new or changed service leaves out and tells what cannot be; `served` are the
/// families of the cluster's ranges, the first is the default.
pub fn settle(new: &mut Object, old: Option<&Object>, served: &[&str]) -> ErrorList {
    if let Some(old) = old {
        release::allocated(new, old);
    }
    release::plural(new, old);
    let null = Value::Null;
    let before = old.map(|old| old.get(&["spec"]).unwrap_or(&null));
    let mut spec = new.get(&["spec"]).cloned().unwrap_or_else(|| json!({}));
    let errors = families(&mut spec, before, served);
    new.set(&["spec"], spec);
    errors
}

fn families(spec: &mut Value, before: Option<&Value>, served: &[&str]) -> ErrorList {
    if text(spec, "type") == "ExternalName" || before.is_some_and(|old| is_settled(spec, old)) {
        return ErrorList::new();
    }
    let bare = text(spec, "clusterIP") == "None" && entries(spec, "selector").next().is_none();
    if opt_text(spec, "ipFamilyPolicy").is_none() {
        let kept = before.and_then(|old| opt_text(old, "ipFamilyPolicy"));
        let policy = kept.unwrap_or(if bare { REQUIRE } else { SINGLE });
        fill_always(spec, "ipFamilyPolicy", policy);
    }
    let mut errors = ErrorList::new();
    addresses::cluster(spec, before, &Path::new("spec"), &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    if let Some(before) = before {
        reductions(spec, before, &mut errors);
    }
    if text(spec, "ipFamilyPolicy") == SINGLE {
        let two = |key: &str, what: &str, errors: &mut ErrorList| {
            if list(spec, key).len() == 2 {
                let detail = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                errors.push(policy_error(spec, &detail));
            }
        };
        two("clusterIPs", "cluster IPs", &mut errors);
        two("ipFamilies", "IP families", &mut errors);
    }
    infer(spec, served, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    let dual = text(spec, "ipFamilyPolicy") != SINGLE;
    if !bare {
        if text(spec, "ipFamilyPolicy") == REQUIRE && served.len() < 2 {
            let detail = "this cluster is not configured for dual-stack services";
            errors.push(policy_error(spec, detail));
        }
        for (i, family) in texts(spec, "ipFamilies").into_iter().enumerate() {
            if !served.contains(&family) {
                let at = Path::new("spec").child("ipFamilies").index(i);
                errors.push(Error::invalid(&at, family, "not configured on this cluster"));
            }
        }
        if !errors.is_empty() {
            return errors;
        }
    }
    let mut families: Vec<String> =
        texts(spec, "ipFamilies").into_iter().map(str::to_owned).collect();
    if families.is_empty() {
        families.extend(served.first().map(|family| (*family).to_owned()));
    }
    // A service without addresses may have both families on any cluster.
    if dual && families.len() == 1 && (bare || served.len() == 2) {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    fill_always(spec, "ipFamilies", families);
    errors
}

fn policy_error(spec: &Value, detail: &str) -> Error {
    let at = Path::new("spec").child("ipFamilyPolicy");
    Error::invalid(&at, or_null(spec, "ipFamilyPolicy"), detail)
}

/// A service that prefers two families and changes none of its addresses stays as it is.
fn is_settled(spec: &Value, old: &Value) -> bool {
    let prefers = |spec: &Value| opt_text(spec, "ipFamilyPolicy").is_none_or(|p| p == PREFER);
    opt_text(spec, "ipFamilyPolicy").is_some()
        && text(spec, "type") == text(old, "type")
        && matches!(text(spec, "type"), "ClusterIP" | "NodePort" | "LoadBalancer")
        && prefers(spec)
        && prefers(old)
        && same(spec, old, "clusterIPs")
        && same(spec, old, "ipFamilies")
}

fn same(spec: &Value, old: &Value, key: &str) -> bool {
    texts(spec, key) == texts(old, key)
}

/// A second address or family goes when the policy says single, and only then.
fn reductions(spec: &mut Value, old: &Value, errors: &mut ErrorList) {
    for (key, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (now, before) = (texts(spec, key), texts(old, key));
        if text(spec, "ipFamilyPolicy") == SINGLE {
            if now == before && now.len() > 1 {
                let first = now[0].to_owned();
                fill_always(spec, key, json!([first]));
            }
        } else if !now.is_empty() && now.len() < before.len() {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(policy_error(spec, &detail));
        }
    }
}

/// Families that are not given follow from the addresses.
fn infer(spec: &mut Value, served: &[&str], errors: &mut ErrorList) {
    let ips = texts(spec, "clusterIPs");
    let mut families: Vec<&str> = texts(spec, "ipFamilies");
    let given = families.len();
    for (i, ip) in ips.iter().enumerate() {
        if *ip == "None" {
            break;
        }
        let family = if is_ipv6(ip) { "IPv6" } else { "IPv4" };
        if i < families.len() {
            continue;
        }
        if served.contains(&family) {
            families.push(family);
        } else {
            let at = Path::new("spec").child("clusterIPs").index(i);
            let detail = format!("{family} is not configured on this cluster");
            errors.push(Error::invalid(&at, ips.clone(), &detail));
        }
    }
    if families.len() > given {
        let families = json!(families);
        fill_always(spec, "ipFamilies", families);
    }
}
