//! Network policies.
//!
//! upstream: pkg/registry/networking/networkpolicy/strategy.go,
//! pkg/apis/networking/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use crate::core::pods::cells::{AGE, NAME, age, selector, text_column};
use crate::core::pods::tree::{drop_field, fill, int, list, list_mut, part, text, texts};
use crate::core::pods::validation::common::{
    each, has_bad_values, label_selector, port_name, port_number, required,
};
use crate::core::pods::validation::network::{cidr_warnings, legacy_cidr, parse_sloppy};
use crate::plain::count_as_given;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// The directions: rules and their peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// The rules of network policies.
pub(super) struct NetworkPolicies;

/// What an old policy lets a new one keep.
struct Known<'a> {
    bad_values: bool,
    ranges: Vec<&'a str>,
}

impl Strategy for NetworkPolicies {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::CHANGES
    }

    fn default(&self, object: &mut Object) {
        let root = object.root_mut();
        let spec = root.entry("spec").or_insert_with(|| json!({}));
        fill(spec, "podSelector", json!({}));
        for (key, _) in DIRECTIONS {
            for rule in list_mut(spec, key) {
                list_mut(rule, "ports").for_each(|port| fill(port, "protocol", "TCP"));
            }
        }
        if list(spec, "policyTypes").is_empty() {
            drop_field(spec, "policyTypes");
            let egress = !list(spec, "egress").is_empty();
            let kinds = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            fill(spec, "policyTypes", kinds);
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        count_as_given(new, old, "spec");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object, &Known { bad_values: false, ranges: Vec::new() })
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let rules_of = |key: &str| old.list(&["spec", key]).iter();
        let peers = DIRECTIONS
            .iter()
            .flat_map(|(key, peers)| rules_of(key).flat_map(|rule| list(rule, peers)));
        let blocks = peers.filter_map(|peer| part(peer, "ipBlock"));
        let ranges = blocks
            .flat_map(|block| std::iter::once(text(block, "cidr")).chain(texts(block, "except")))
            .collect();
        let bad_values = has_bad_values(old.get(&["spec", "podSelector"]));
        rules(new, &Known { bad_values, ranges })
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (direction, peers) in DIRECTIONS {
            for (i, rule) in object.list(&["spec", direction]).iter().enumerate() {
                for (j, peer) in list(rule, peers).iter().enumerate() {
                    let Some(block) = part(peer, "ipBlock") else { continue };
                    let at = format!("spec.{direction}[{i}].{peers}[{j}].ipBlock");
                    warnings.extend(cidr_warnings(&format!("{at}.cidr"), text(block, "cidr")));
                    for (k, except) in texts(block, "except").into_iter().enumerate() {
                        warnings.extend(cidr_warnings(&format!("{at}.except[{k}]"), except));
                    }
                }
            }
        }
        warnings
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("Pod-Selector", "The pods it is for."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let pods = selector(object.get(&["spec", "podSelector"]));
        vec![object.name().into(), pods.into(), age(object, now)]
    }
}

fn rules(object: &Object, known: &Known<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let null = Value::Null;
    let spec = object.get(&["spec"]).unwrap_or(&null);
    let path = Path::new("spec");
    let at = path.child("podSelector");
    label_selector(spec.get("podSelector"), &at, known.bad_values, &mut errors);
    for (key, peers) in DIRECTIONS {
        for (i, rule) in list(spec, key).iter().enumerate() {
            let at = path.child(key).index(i);
            for (i, item) in list(rule, "ports").iter().enumerate() {
                port(item, &at.child("ports").index(i), &mut errors);
            }
            for (i, item) in list(rule, peers).iter().enumerate() {
                peer(item, known, &at.child(peers).index(i), &mut errors);
            }
        }
    }
    let kinds = texts(spec, "policyTypes");
    let at = path.child("policyTypes");
    if kinds.len() > 2 {
        let why = "may not specify more than two policyTypes";
        errors.push(Error::invalid(&at, kinds, why));
        return errors;
    }
    for (i, kind) in kinds.into_iter().enumerate() {
        if !matches!(kind, "Ingress" | "Egress") {
            errors.push(Error::not_supported(&at.index(i), kind, &["Ingress", "Egress"]));
        }
    }
    errors
}

fn port(item: &Value, path: &Path, errors: &mut ErrorList) {
    let protocol = text(item, "protocol");
    if part(item, "protocol").is_some() && !matches!(protocol, "TCP" | "UDP" | "SCTP") {
        let set = ["TCP", "UDP", "SCTP"];
        errors.push(Error::not_supported(&path.child("protocol"), protocol, &set));
    }
    let (at, at_end) = (path.child("port"), path.child("endPort"));
    let end = int(item, "endPort");
    match part(item, "port") {
        None => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is not specified";
                errors.push(Error::invalid(&at_end, end, why));
            }
        }
        Some(Value::String(name)) => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(Error::invalid(&at_end, end, why));
            }
            each(name, &at, &port_name(name), errors);
        }
        Some(number) => {
            let number = number.as_i64().unwrap_or(0);
            port_number(number, &at, errors);
            let Some(end) = end else { return };
            if end < number {
                let why = "must be greater than or equal to `port`";
                errors.push(Error::invalid(&at_end, number, why));
            }
            port_number(end, &at_end, errors);
        }
    }
}

fn peer(item: &Value, known: &Known<'_>, path: &Path, errors: &mut ErrorList) {
    let mut count = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(found) = part(item, key) {
            count += 1;
            label_selector(Some(found), &path.child(key), known.bad_values, errors);
        }
    }
    if let Some(found) = part(item, "ipBlock") {
        count += 1;
        block(found, known, &path.child("ipBlock"), errors);
        if count > 1 {
            let why = "may not specify both ipBlock and another peer";
            errors.push(Error::forbidden(path, why));
        }
    }
    if count == 0 {
        errors.push(Error::required(path, "must specify a peer"));
    }
}

/// The network address of a range, as a number with its bits counted from the top, and its length.
fn range(text: &str) -> Option<(bool, u128, u32)> {
    let (address, length) = text.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    let (v4, bits) = match parse_sloppy(address)? {
        std::net::IpAddr::V4(ip) => (true, u128::from(u32::from(ip)) << 96),
        std::net::IpAddr::V6(ip) => (false, u128::from(ip)),
    };
    let widest = if v4 { 32 } else { 128 };
    if length > widest {
        return None;
    }
    let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
    Some((v4, bits & mask, length))
}

fn block(block: &Value, known: &Known<'_>, path: &Path, errors: &mut ErrorList) {
    let cidr = text(block, "cidr");
    let at = path.child("cidr");
    required(cidr, &at, errors);
    if cidr.is_empty() {
        return;
    }
    legacy_cidr(cidr, &at, &known.ranges, errors);
    let Some((v4, bits, length)) = range(cidr) else { return };
    for (i, except) in texts(block, "except").into_iter().enumerate() {
        let at = path.child("except").index(i);
        legacy_cidr(except, &at, &known.ranges, errors);
        let Some((other_v4, other, other_length)) = range(except) else { continue };
        let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
        let inside = v4 == other_v4 && other & mask == bits && other_length > length;
        if !inside {
            errors.push(Error::invalid(&at, except, "must be a strict subset of `cidr`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &Value) -> Vec<String> {
        let mut object = Object::default();
        object.set(&["spec"], spec.clone());
        let strategy = NetworkPolicies;
        strategy.default(&mut object);
        strategy.validate_create(&object).into_iter().map(|e| e.to_string()).collect()
    }

    #[test]
    fn excepted_ranges_lie_inside() {
        let spec = |except: &str| json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": [except]}}]}]});
        assert!(check(&spec("10.1.0.0/16")).is_empty());
        for outside in ["11.0.0.0/16", "10.0.0.0/8", "fd00::/64"] {
            let errors = check(&spec(outside));
            assert_eq!(errors.len(), 1, "{outside}: {errors:?}");
            assert!(errors[0].ends_with("must be a strict subset of `cidr`"));
        }
    }

    #[test]
    fn kinds_follow_from_the_rules() {
        let mut object = Object::default();
        object.set(&["spec"], json!({"egress": [{}]}));
        NetworkPolicies.default(&mut object);
        assert_eq!(object.list(&["spec", "policyTypes"]), [json!("Ingress"), json!("Egress")]);
        assert_eq!(object.get(&["spec", "podSelector"]), Some(&json!({})));
    }
}
