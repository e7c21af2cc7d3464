//! Requests for certificates: those of nodes are approved, approved ones are signed, old ones are removed.
//!
//! upstream: pkg/controller/certificates, pkg/apis/certificates/helpers.go

mod approving;
mod cleaning;
mod signing;

use std::future::Future;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use longshore_api::Object;
use longshore_client::Queue;
use longshore_client::resource::CERTIFICATE_SIGNING_REQUESTS;
use longshore_client::workers::{self, Outcome};
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::Context;
use crate::common::{Key, follow};

pub(crate) use approving::start as start_approving;
pub(crate) use cleaning::start as start_cleaning;
pub(crate) use signing::start as start_signing;

/// The service account of all three.
///
/// upstream: plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go
pub(crate) const ACCOUNT: &str = "certificate-controller";
/// Workers of each side by side.
///
/// upstream: cmd/kube-controller-manager/app/certificates.go
const WORKERS: usize = 5;
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";

/// What a certificate is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The request, PEM.
    pub request: Vec<u8>,
    /// What it is for, in the words of the API.
    pub usages: Vec<String>,
    /// How long it is good for.
    pub lifetime: SignedDuration,
    /// The time now.
    pub now: Timestamp,
}

type Issue = dyn Fn(&Wanted) -> Result<String, String> + Send + Sync;

/// Makes certificates of the cluster's authority, PEM.
#[derive(Clone)]
pub struct Issuer(Arc<Issue>);

impl Issuer {
    /// An issuer that uses a function.
    pub fn new(issue: impl Fn(&Wanted) -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(issue))
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issuer")
    }
}

/// Looks at each request when it changes, and when `sync` asked to look again.
fn run<F>(ctx: Context, name: &'static str, sync: fn(Context, Arc<Object>) -> F)
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let (queue, requests) = (Queue::new(), ctx.caches.get(CERTIFICATE_SIGNING_REQUESTS));
    follow(&requests, &queue);
    let shutdown = ctx.shutdown.clone();
    workers::run(name, queue, WORKERS, &shutdown, move |(_, name): Key| {
        let syncing = requests.get("", &name).map(|request| sync(ctx.clone(), request));
        async move {
            match syncing {
                Some(syncing) => syncing.await,
                None => Ok(None),
            }
        }
    });
}

/// What a request says of its subject.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    common_name: String,
    organizations: Vec<String>,
    names: usize,
    addresses: usize,
    emails: usize,
    uris: usize,
}

/// The request in PEM.
fn pem(request: &Object) -> Vec<u8> {
    STANDARD.decode(request.str(&["spec", "request"])).unwrap_or_default()
}

fn facts(pem: &[u8]) -> Result<Facts, String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| error.to_string())?;
    let (_, request) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|error| error.to_string())?;
    let subject = &request.certification_request_info.subject;
    let mut facts = Facts::default();
    if let Some(name) = subject.iter_common_name().filter_map(|name| name.as_str().ok()).last() {
        facts.common_name = name.to_owned();
    }
    let organizations = subject.iter_organization().filter_map(|name| name.as_str().ok());
    facts.organizations = organizations.map(str::to_owned).collect();
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(_) => facts.names += 1,
                GeneralName::IPAddress(_) => facts.addresses += 1,
                GeneralName::RFC822Name(_) => facts.emails += 1,
                GeneralName::URI(_) => facts.uris += 1,
                _ => {}
            }
        }
    }
    Ok(facts)
}

fn usages(request: &Object) -> Vec<&str> {
    request.list(&["spec", "usages"]).iter().filter_map(Value::as_str).collect()
}

/// Whether the usages are these, with or without what only keys of RSA need.
fn same_usages(usages: &[&str], wanted: &str) -> bool {
    const SIGNS: &str = "digital signature";
    const WRAPS: &str = "key encipherment";
    let has = |usage: &str| usages.contains(&usage);
    has(SIGNS) && has(wanted) && usages.iter().all(|usage| [SIGNS, WRAPS, wanted].contains(usage))
}

fn check_node(facts: &Facts) -> Result<(), &'static str> {
    match facts.organizations.as_slice() {
        [only] if only == "system:nodes" => Ok(()),
        _ => Err("subject organization is not system:nodes"),
    }
}

fn check_name(facts: &Facts) -> Result<(), &'static str> {
    match facts.common_name.starts_with("system:node:") {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node:"),
    }
}

/// Whether a request is what a node asks for to be known to the API server.
fn check_node_client(facts: &Facts, usages: &[&str]) -> Result<(), &'static str> {
    check_node(facts)?;
    for (count, why) in [
        (facts.names, "DNS subjectAltNames are not allowed"),
        (facts.emails, "Email subjectAltNames are not allowed"),
        (facts.addresses, "IP subjectAltNames are not allowed"),
        (facts.uris, "URI subjectAltNames are not allowed"),
    ] {
        if count > 0 {
            return Err(why);
        }
    }
    check_name(facts)?;
    match same_usages(usages, "client auth") {
        true => Ok(()),
        false => Err("usages did not match [client auth digital signature key encipherment]"),
    }
}

/// Whether a request is what a node asks for to be known to its callers.
fn check_node_serving(facts: &Facts, usages: &[&str]) -> Result<(), &'static str> {
    check_node(facts)?;
    if facts.names == 0 && facts.addresses == 0 {
        return Err("DNS or IP subjectAltName is required");
    }
    if facts.emails > 0 {
        return Err("Email subjectAltNames are not allowed");
    }
    if facts.uris > 0 {
        return Err("URI subjectAltNames are not allowed");
    }
    if !same_usages(usages, "server auth") {
        return Err("usages did not match [digital signature key encipherment server auth]");
    }
    check_name(facts)
}

/// Whether a request has a condition of this type.
fn has(request: &Object, kind: &str) -> bool {
    request.list(&["status", "conditions"]).iter().any(|condition| condition["type"] == kind)
}

/// Adds a condition that is true.
fn add_condition(request: &mut Object, condition: Value) {
    let mut conditions = request.list(&["status", "conditions"]).to_vec();
    conditions.push(condition);
    request.set(&["status", "conditions"], conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Facts {
        Facts {
            common_name: "system:node:a".into(),
            organizations: vec!["system:nodes".into()],
            ..Facts::default()
        }
    }

    #[test]
    fn clients_of_nodes_are_known_by_all_they_say() {
        let good = ["digital signature", "client auth"];
        assert_eq!(check_node_client(&node(), &good), Ok(()));
        let rsa = ["client auth", "key encipherment", "digital signature"];
        assert_eq!(check_node_client(&node(), &rsa), Ok(()));
        for usages in [&["client auth"][..], &["digital signature", "client auth", "any"]] {
            assert!(check_node_client(&node(), usages).is_err());
        }
        let other = Facts { organizations: vec!["a".into(), "system:nodes".into()], ..node() };
        assert!(check_node_client(&other, &good).is_err());
        assert!(check_node_client(&Facts { names: 1, ..node() }, &good).is_err());
        assert!(check_node_client(&Facts { common_name: "a".into(), ..node() }, &good).is_err());
    }

    #[test]
    fn servers_of_nodes_need_a_name_or_an_address() {
        let usages = ["digital signature", "server auth"];
        assert!(check_node_serving(&node(), &usages).is_err());
        assert_eq!(check_node_serving(&Facts { addresses: 1, ..node() }, &usages), Ok(()));
        assert!(check_node_serving(&Facts { names: 1, uris: 1, ..node() }, &usages).is_err());
    }
}
