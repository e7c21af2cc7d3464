//! The controllers: each brings one kind of object to where it should be.
//!
//! Invariant: a controller looks at keys, not at events: whatever happened, the next look at the
//! caches tells what to do. Ownership is by uid. Nothing polls.

mod apiserver_identity;
mod bootstrap_token;
mod certificates;
mod common;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod ephemeral_volume;
mod flow_status;
mod garbage;
mod go_hash;
mod history;
mod job;
mod kinds;
mod kubernetes_service;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod node_ttl;
mod pod_autoscaler;
mod pod_gc;
mod pods;
mod policy_status;
mod replicaset;
mod resource_claim;
mod resource_quota;
mod role_aggregation;
mod root_ca;
mod service_cidr;
mod serviceaccount;
mod serviceaccount_token;
mod statefulset;
mod storage_protection;
mod taint_eviction;
mod ttl_after_finished;
mod volume_binder;
mod volume_expand;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

pub use apiserver_identity::ApiServerIdentity;
pub use certificates::{Issuer, Wanted};
use longshore_base::rng::Rng;
use longshore_base::{Clock, Shutdown};
use longshore_client::{Client, EventRecorder, Factory, Resource};

/// What controllers need to know of the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Network of pod addresses: address and prefix length.
    pub cluster_network: (Ipv4Addr, u8),
    /// Prefix length of one node's part of it.
    pub node_prefix: u8,
    /// The cluster's certificate authority in PEM.
    pub ca_pem: String,
    /// Makes the tokens of secrets.
    pub sign: Signer,
    /// Makes certificates of that authority.
    pub issuer: Issuer,
    /// Where the API server is reached.
    pub api_address: (Ipv4Addr, u16),
    /// Who the API server is.
    pub api_identity: ApiServerIdentity,
    /// Service address of the API server.
    pub api_service_ip: Ipv4Addr,
    /// Network of service addresses: address and prefix length.
    pub service_network: (Ipv4Addr, u8),
    /// The resources whose objects may own and be owned.
    pub collected: Vec<Resource>,
    /// How long after the last look a pod autoscaler is looked at again.
    pub autoscaler_period: Duration,
    /// Controllers that do not run.
    pub disabled: BTreeSet<String>,
}

type Sign = dyn Fn(&serde_json::Value) -> Result<String, String> + Send + Sync;

/// Signs the claims of a service account's token.
#[derive(Clone)]
pub struct Signer(Arc<Sign>);

impl Signer {
    /// A signer that uses a function.
    pub fn new(
        sign: impl Fn(&serde_json::Value) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(sign))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// What every controller is given.
#[derive(Clone)]
pub(crate) struct Context {
    config: Arc<Config>,
    caches: Factory,
    client: Client,
    recorder: EventRecorder,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
}

/// A controller: its name and what starts it.
type Entry = (&'static str, fn(Context));

/// All controllers. The names are upstream's.
///
/// upstream: cmd/kube-controller-manager/names/controller_names.go
const TABLE: [Entry; 43] = [
    ("deployment-controller", deployment::start),
    ("replicaset-controller", replicaset::start),
    ("replicationcontroller-controller", replicaset::start_replication),
    ("daemonset-controller", daemonset::start),
    ("statefulset-controller", statefulset::start),
    ("job-controller", job::start),
    ("cronjob-controller", cronjob::start),
    ("ttl-after-finished-controller", ttl_after_finished::start),
    ("disruption-controller", disruption::start),
    ("horizontal-pod-autoscaler-controller", pod_autoscaler::start),
    ("resourceclaim-controller", resource_claim::start),
    ("resourcequota-controller", resource_quota::start),
    ("persistentvolume-binder-controller", volume_binder::start),
    ("ephemeral-volume-controller", ephemeral_volume::start),
    ("persistentvolume-expander-controller", volume_expand::start),
    ("persistentvolumeclaim-protection-controller", storage_protection::start_claims),
    ("persistentvolume-protection-controller", storage_protection::start_volumes),
    ("volumeattributesclass-protection-controller", storage_protection::start_classes),
    ("clusterrole-aggregation-controller", role_aggregation::start),
    ("endpoints-controller", endpoints::start),
    ("endpointslice-controller", endpointslice::start),
    ("endpointslice-mirroring-controller", endpointslice_mirroring::start),
    ("namespace-controller", namespace::start),
    ("serviceaccount-controller", serviceaccount::start),
    ("serviceaccount-token-controller", serviceaccount_token::start),
    ("bootstrap-signer-controller", bootstrap_token::start_signer),
    ("token-cleaner-controller", bootstrap_token::start_cleaner),
    ("certificatesigningrequest-approving-controller", certificates::start_approving),
    ("certificatesigningrequest-signing-controller", certificates::start_signing),
    ("certificatesigningrequest-cleaner-controller", certificates::start_cleaning),
    ("root-ca-certificate-publisher-controller", root_ca::start),
    ("garbage-collector-controller", garbage::start),
    ("node-ipam-controller", node_ipam::start),
    ("node-lifecycle-controller", node_lifecycle::start),
    ("taint-eviction-controller", taint_eviction::start),
    ("ttl-controller", node_ttl::start),
    ("pod-garbage-collector-controller", pod_gc::start),
    ("service-cidr-controller", service_cidr::start),
    ("kubernetes-service-controller", kubernetes_service::start),
    ("kubernetes-service-cidr-controller", service_cidr::start_default),
    ("validatingadmissionpolicy-status-controller", policy_status::start),
    ("api-priority-and-fairness-config-consumer-v1", flow_status::start),
    ("kube-apiserver-identity-lease-controller", apiserver_identity::start),
];

/// The names of all controllers.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// The service account that a controller acts as.
///
/// upstream: plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go
fn account(name: &str) -> &str {
    match name {
        "garbage-collector-controller" => "generic-garbage-collector",
        "horizontal-pod-autoscaler-controller" => "horizontal-pod-autoscaler",
        "persistentvolume-binder-controller" => "persistent-volume-binder",
        "persistentvolume-expander-controller" => "expand-controller",
        "bootstrap-signer-controller" => "bootstrap-signer",
        "token-cleaner-controller" => "token-cleaner",
        "persistentvolumeclaim-protection-controller" => "pvc-protection-controller",
        "persistentvolume-protection-controller" => "pv-protection-controller",
        "pod-garbage-collector-controller" => "pod-garbage-collector",
        "node-lifecycle-controller" | "node-ipam-controller" | "taint-eviction-controller" => {
            "node-controller"
        }
        "daemonset-controller" => "daemon-set-controller",
        "resourceclaim-controller" => "resource-claim-controller",
        "endpointslice-mirroring-controller" => "endpointslicemirroring-controller",
        "endpoints-controller" => "endpoint-controller",
        "replicationcontroller-controller" => "replication-controller",
        "serviceaccount-controller" => "service-account-controller",
        "root-ca-certificate-publisher-controller" => "root-ca-cert-publisher",
        "serviceaccount-token-controller" => "tokens-controller",
        "service-cidr-controller" => "service-cidrs-controller",
        "certificatesigningrequest-approving-controller"
        | "certificatesigningrequest-signing-controller"
        | "certificatesigningrequest-cleaner-controller" => certificates::ACCOUNT,
        other => other,
    }
}

/// The name under which a controller's events are told.
fn component(name: &str) -> &str {
    match name {
        "node-lifecycle-controller" | "node-ipam-controller" => "node-controller",
        "horizontal-pod-autoscaler-controller" => "horizontal-pod-autoscaler",
        "replicationcontroller-controller" => "replication-controller",
        "endpoints-controller" => "endpoint-controller",
        "endpointslice-controller" => "endpoint-slice-controller",
        "endpointslice-mirroring-controller" => "endpoint-slice-mirroring-controller",
        "disruption-controller" => "controllermanager",
        "persistentvolume-binder-controller" => "persistentvolume-controller",
        "persistentvolume-expander-controller" => "volume_expand",
        "ephemeral-volume-controller" => "ephemeral_volume",
        "resourceclaim-controller" => "resource_claim",
        other => other,
    }
}

/// Starts every controller that is not disabled. `client_for` gives a client that acts as a service
/// account of `kube-system`; `caches` is shared by all.
pub fn start(
    config: Config,
    client_for: impl Fn(&str) -> Client,
    caches: &Factory,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
    shutdown: &Shutdown,
) {
    let config = Arc::new(config);
    for (name, start) in TABLE {
        if config.disabled.contains(name) {
            continue;
        }
        let client = client_for(account(name));
        let recorder = EventRecorder::new(
            client.clone(),
            component(name),
            "",
            clock.clone(),
            rng.clone(),
            shutdown.clone(),
        );
        start(Context {
            config: config.clone(),
            caches: caches.clone(),
            client,
            recorder,
            clock: clock.clone(),
            shutdown: shutdown.clone(),
        });
    }
}
