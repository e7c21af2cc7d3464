//! The config map with which aggregated servers check the cluster's clients and its front proxy.
//!
//! upstream: pkg/controlplane/controller/clusterauthenticationtrust

use longshore_api::{Gvr, Object};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::auth::front_proxy;

/// Where it is.
pub const NAMESPACE: &str = "kube-system";
/// How it is called.
pub const NAME: &str = "extension-apiserver-authentication";

/// The config map of a cluster with these authorities, both PEM.
pub fn config_map(client_ca: &str, proxy_ca: &str) -> (Gvr, Object) {
    let metadata = json!({ "name": NAME, "namespace": NAMESPACE });
    let (gvr, mut object) = super::object("", "v1", "configmaps", "ConfigMap", metadata);
    let list = |items: &[&str]| json!(items).to_string();
    let data = json!({
        "client-ca-file": client_ca,
        "requestheader-allowed-names": list(&front_proxy::NAMES),
        "requestheader-client-ca-file": proxy_ca,
        "requestheader-extra-headers-prefix": list(&[front_proxy::EXTRA_PREFIX]),
        "requestheader-group-headers": list(&[front_proxy::GROUP_HEADER]),
        "requestheader-username-headers": list(&[front_proxy::USER_HEADER]),
    });
    object.set(&["data"], data);
    (gvr, object)
}

/// What is wanted besides what another server of the cluster has put there.
pub(super) fn combine(found: &Object, wanted: &Object) -> Object {
    let mut combined = found.clone();
    let entries = wanted.get(&["data"]).and_then(Value::as_object);
    for (key, value) in entries.into_iter().flatten() {
        let (old, new) = (found.str(&["data", key]), value.as_str().unwrap_or(""));
        let both = if key.ends_with("-ca-file") { bundles(old, new) } else { lists(old, new) };
        combined.set(&["data", key], both);
    }
    combined
}

/// The strings of two JSON lists. What is no list counts as an empty one.
fn lists(old: &str, new: &str) -> String {
    let mut all: Vec<String> = serde_json::from_str(old).unwrap_or_default();
    for item in serde_json::from_str::<Vec<String>>(new).unwrap_or_default() {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    json!(all).to_string()
}

/// The certificates of two bundles; the first as it is when it has all of the second.
fn bundles(old: &str, new: &str) -> String {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect()
    };
    let known = certificates(old);
    if certificates(new).iter().all(|certificate| known.contains(certificate)) {
        return old.to_owned();
    }
    if known.is_empty() { new.to_owned() } else { format!("{}\n{new}", old.trim_end()) }
}
