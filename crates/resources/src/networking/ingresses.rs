//! Ingresses.
//!
//! upstream: pkg/registry/networking/ingress/strategy.go,
//! pkg/apis/networking/validation/validation.go

use std::collections::BTreeSet;

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, names};
use serde_json::{Value, json};

use super::reference;
use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{has, int, list, opt_text, part, text, texts};
use crate::core::pods::validation::common::{
    dns_label, dns_subdomain, each, port_name, port_number, required,
};
use crate::core::pods::validation::network::{balancer_warnings, legacy_ip, parse_sloppy};
use crate::plain::separate;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const CLASS: &str = "kubernetes.io/ingress.class";
/// What paths may not contain or end with.
const SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const SUFFIXES: [&str; 2] = ["/..", "/."];
const HOSTS_MAX: usize = 3;
const WILDCARD_RULE: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// The rules of ingresses.
pub(super) struct Ingresses;

impl Strategy for Ingresses {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({"loadBalancer": {}}));
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = rules(object, None);
        let class = object.get(&["spec", "ingressClassName"]).and_then(Value::as_str);
        if let (Some(old), Some(class)) = (object.annotation(CLASS), class)
            && old != class
        {
            let path = Path::new("annotations").child(CLASS);
            let why = "must match `ingressClassName` when both are specified";
            errors.push(Error::invalid(&path, old, why));
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        if ctx.subresource == "status" { status(new, old) } else { rules(new, Some(old)) }
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        if old.is_none() && object.annotation(CLASS).is_some() {
            return vec![format!(
                "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Class", "The ingress class."),
            text_column("Hosts", "The hosts of the rules."),
            text_column("Address", "Where it is reached."),
            text_column("Ports", "The ports that are open."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let class = object.get(&["spec", "ingressClassName"]).and_then(Value::as_str);
        let addresses: BTreeSet<&str> = object
            .list(&["status", "loadBalancer", "ingress"])
            .iter()
            .map(|at| if text(at, "ip").is_empty() { text(at, "hostname") } else { text(at, "ip") })
            .filter(|at| !at.is_empty())
            .collect();
        let tls = !object.list(&["spec", "tls"]).is_empty();
        vec![
            object.name().into(),
            class.unwrap_or("<none>").into(),
            hosts(object.list(&["spec", "rules"])).into(),
            addresses.into_iter().collect::<Vec<_>>().join(",").into(),
            if tls { "80, 443" } else { "80" }.into(),
            age(object, now),
        ]
    }

    fn status_warnings(&self, object: &Object) -> Vec<String> {
        balancer_warnings(object)
    }
}

fn hosts(rules: &[Value]) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == HOSTS_MAX;
        if !more && !text(rule, "host").is_empty() {
            shown.push(text(rule, "host"));
        }
    }
    if shown.is_empty() {
        return "*".to_owned();
    }
    let shown = shown.join(",");
    if more { format!("{shown} + {} more...", rules.len() - HOSTS_MAX) } else { shown }
}

fn status(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let of = |object: &'_ Object| object.list(&["status", "loadBalancer", "ingress"]).to_vec();
    let before = of(old);
    let known: Vec<&str> = before.iter().map(|at| text(at, "ip")).collect();
    for (i, at) in of(new).iter().enumerate() {
        let path = Path::new("status").child("loadBalancer").child("ingress").index(i);
        if !text(at, "ip").is_empty() {
            legacy_ip(text(at, "ip"), &path.child("ip"), &known, &mut errors);
        }
        let host = text(at, "hostname");
        if !host.is_empty() {
            dns_subdomain(host, &path.child("hostname"), &mut errors);
            not_an_address(host, &path.child("hostname"), &mut errors);
        }
    }
    errors
}

fn not_an_address(host: &str, path: &Path, errors: &mut ErrorList) {
    if parse_sloppy(host).is_some() {
        errors.push(Error::invalid(path, host, "must be a DNS name, not an IP address"));
    }
}

/// A host name, which may start with a wildcard.
fn host_name(host: &str, path: &Path, errors: &mut ErrorList) {
    if !host.contains('*') {
        dns_subdomain(host, path, errors);
        return;
    }
    if host.len() > names::SUBDOMAIN_MAX {
        let why = format!("must be no more than {} characters", names::SUBDOMAIN_MAX);
        errors.push(Error::invalid(path, host, &why));
    }
    let good = host.strip_prefix("*.").is_some_and(|rest| {
        let cut: String = rest.chars().take(names::SUBDOMAIN_MAX).collect();
        names::is_dns1123_subdomain(&cut).is_empty()
    });
    if !good {
        errors.push(Error::invalid(path, host, WILDCARD_RULE));
    }
}

fn rules(object: &Object, old: Option<&Object>) -> ErrorList {
    let mut errors = ErrorList::new();
    let null = Value::Null;
    let spec = object.get(&["spec"]).unwrap_or(&null);
    let path = Path::new("spec");
    let rules = list(spec, "rules");
    let backend = part(spec, "defaultBackend");
    if rules.is_empty() && backend.is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        let shown = if has(spec, "rules") { "[]" } else { "null" };
        errors.push(Error::invalid_text(&path, shown, why));
    }
    if let Some(target) = backend {
        self::backend(target, &path.child("defaultBackend"), &mut errors);
    }
    let lenient = old.is_some_and(|old| {
        old.list(&["spec", "rules"]).iter().any(|rule| {
            let mut errors = ErrorList::new();
            rule_value(rule, &Path::default(), &mut errors);
            text(rule, "host").contains('*') && !errors.is_empty()
        })
    });
    for (i, rule) in rules.iter().enumerate() {
        let at = path.child("rules").index(i);
        let host = text(rule, "host");
        if !host.is_empty() {
            not_an_address(host, &at.child("host"), &mut errors);
            host_name(host, &at.child("host"), &mut errors);
        }
        if !(lenient && host.contains('*')) {
            rule_value(rule, &at, &mut errors);
        }
    }
    let bad_secret = |tls: &Value| {
        !names::is_dns1123_subdomain(text(tls, "secretName")).is_empty()
            && !text(tls, "secretName").is_empty()
    };
    let lenient = old.is_some_and(|old| old.list(&["spec", "tls"]).iter().any(bad_secret));
    for (i, tls) in list(spec, "tls").iter().enumerate() {
        let at = path.child("tls").index(i);
        for (i, host) in texts(tls, "hosts").into_iter().enumerate() {
            host_name(host, &at.child("hosts").index(i), &mut errors);
        }
        if !lenient && bad_secret(tls) {
            dns_subdomain(text(tls, "secretName"), &at.child("secretName"), &mut errors);
        }
    }
    if let Some(class) = opt_text(spec, "ingressClassName") {
        dns_subdomain(class, &path.child("ingressClassName"), &mut errors);
    }
    errors
}

fn rule_value(rule: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(http) = part(rule, "http") else { return };
    let path = path.child("http").child("paths");
    let paths = list(http, "paths");
    if paths.is_empty() {
        errors.push(Error::required(&path, ""));
    }
    for (i, item) in paths.iter().enumerate() {
        http_path(item, &path.index(i), errors);
    }
}

fn http_path(item: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(kind) = opt_text(item, "pathType") else {
        errors.push(Error::required(&path.child("pathType"), "pathType must be specified"));
        return;
    };
    let (target, at) = (text(item, "path"), path.child("path"));
    let absolute = target.starts_with('/');
    match kind {
        "Exact" | "Prefix" => {
            if !absolute {
                errors.push(Error::invalid(&at, target, "must be an absolute path"));
            }
            for sequence in SEQUENCES.iter().filter(|s| target.contains(**s)) {
                let why = format!("must not contain '{sequence}'");
                errors.push(Error::invalid(&at, target, &why));
            }
            for suffix in SUFFIXES.iter().filter(|s| target.ends_with(**s)) {
                let why = format!("cannot end with '{suffix}'");
                errors.push(Error::invalid(&at, target, &why));
            }
        }
        "ImplementationSpecific" => {
            if !target.is_empty() && !absolute {
                errors.push(Error::invalid(&at, target, "must be an absolute path"));
            }
        }
        _ => {
            let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(Error::not_supported(&path.child("pathType"), kind, &kinds));
        }
    }
    backend(item.get("backend").unwrap_or(&Value::Null), &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &Path, errors: &mut ErrorList) {
    let service = match (part(backend, "resource"), part(backend, "service")) {
        (Some(_), Some(_)) => {
            let why = "cannot set both resource and service backends";
            errors.push(Error::invalid(path, "", why));
            return;
        }
        (Some(resource), None) => {
            reference(resource, &path.child("resource"), errors);
            return;
        }
        (None, None) => {
            let why = "resource or service backend is required";
            errors.push(Error::invalid(path, "", why));
            return;
        }
        (None, Some(service)) => service,
    };
    let at = path.child("service");
    required(text(service, "name"), &at.child("name"), errors);
    if !text(service, "name").is_empty() {
        dns_label(text(service, "name"), &at.child("name"), errors);
    }
    let port = part(service, "port").unwrap_or(&Value::Null);
    let (name, number) = (text(port, "name"), int(port, "number").unwrap_or(0));
    match (name.is_empty(), number) {
        (true, 0) => errors.push(Error::required(path, "port name or number is required")),
        (true, number) => port_number(number, &at.child("port").child("number"), errors),
        (false, 0) => each(name, &at.child("port").child("name"), &port_name(name), errors),
        (false, _) => {
            errors.push(Error::invalid(path, "", "cannot set both port name & port number"));
        }
    }
}
