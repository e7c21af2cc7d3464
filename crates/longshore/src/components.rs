//! The components beside the API server: what runs, and as whom.
//!
//! Each reaches the API only through a client with an identity of its own.

use std::sync::Arc;
use std::time::Duration;

use longshore_apiserver::auth::UserInfo;
use longshore_apiserver::pki::Terms;
use longshore_base::rng::{Rng, SystemRng};
use longshore_base::{Clock, Shutdown, SystemClock, TaskKind};
use longshore_client::{Client, EventRecorder, Factory, Resource};
use longshore_controllers::{Issuer, Signer};
use longshore_resources::table::Text;

use crate::config::ServerConfig;
use crate::control_plane::ControlPlane;
use crate::server::Stop;

/// How long after the last look a pod autoscaler is looked at again.
///
/// upstream: pkg/controller/podautoscaler/config HorizontalPodAutoscalerSyncPeriod
const AUTOSCALER_PERIOD: Duration = Duration::from_secs(15);

/// What upstream's API server does itself: its service, the first range of service addresses, the
/// status of flow schemas, and the sign that it lives. These run also when there are no controllers.
const OWN_CONTROLLERS: [&str; 4] = [
    "kube-apiserver-identity-lease-controller",
    "kubernetes-service-controller",
    "kubernetes-service-cidr-controller",
    "api-priority-and-fairness-config-consumer-v1",
];
/// How the controllers call themselves.
const MANAGER: &str = "kube-controller-manager";

/// Starts every component that is not disabled.
pub fn start(config: &ServerConfig, plane: &ControlPlane, stop: &Stop) {
    let shutdown = &stop.shutdown;
    controllers(config, plane, shutdown);
    if config.runs("scheduler") {
        scheduler(plane, shutdown);
    }
    if config.runs("proxy") {
        proxy(config, plane, shutdown);
    }
    if config.runs("dns") {
        dns(config, plane, stop);
    }
}

fn recorder(client: &Client, component: &str, host: &str, shutdown: &Shutdown) -> EventRecorder {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    EventRecorder::new(client.clone(), component, host, clock, rng, shutdown.clone())
}

fn scheduler(plane: &ControlPlane, shutdown: &Shutdown) {
    let client = plane.server().client(user("system:kube-scheduler")).named("kube-scheduler");
    let caches = Factory::new(client.clone(), shutdown.clone());
    let recorder = recorder(&client, "default-scheduler", "", shutdown);
    let config = longshore_scheduler::Config::default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    longshore_scheduler::start(config, client, &caches, recorder, clock, rng, shutdown);
}

fn user(name: &str) -> UserInfo {
    UserInfo::new(name, &["system:authenticated"])
}

fn proxy(config: &ServerConfig, plane: &ControlPlane, shutdown: &Shutdown) {
    let client = plane.server().client(user("system:kube-proxy")).named("kube-proxy");
    let caches = Factory::new(client, shutdown.clone());
    let settings = longshore_proxy::Config {
        node_name: config.node_name.clone(),
        node_ip: config.advertise,
        cluster_network: (config.cluster_network.address, config.cluster_network.prefix),
        node_ports: config.node_ports.clone(),
    };
    longshore_proxy::start(settings, &caches, shutdown);
}

fn dns(config: &ServerConfig, plane: &ControlPlane, stop: &Stop) {
    // It writes its own service besides reading services.
    let client = plane.server().client(UserInfo::new("system:apiserver", &["system:masters"]));
    let caches = Factory::new(client.clone(), stop.shutdown.clone());
    let settings = longshore_dns::Config {
        listen: (config.advertise, 0).into(),
        cluster_domain: config.cluster_domain.clone(),
        cluster_dns: config.cluster_dns,
        node_ip: config.advertise,
    };
    let stop = stop.clone();
    longshore_base::spawn(TaskKind::Critical, "dns", async move {
        match longshore_dns::start(settings, client, &caches, &stop.shutdown).await {
            Ok(address) => tracing::info!(%address, "the cluster DNS listens"),
            Err(error) => {
                let why = format!("there is no cluster DNS (--disable dns runs without): {error}");
                stop.failed(anyhow::Error::msg(why));
            }
        }
    });
}

fn controllers(config: &ServerConfig, plane: &ControlPlane, shutdown: &Shutdown) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let server = plane.server();
    let manager = server.client(user("system:kube-controller-manager")).named(MANAGER);
    let caches = Factory::new(manager, shutdown.clone());
    let client_for = |account: &str| -> Client {
        if OWN_CONTROLLERS.contains(&account) {
            let user = UserInfo::new("system:apiserver", &["system:masters"]);
            return server.client(user).named("kube-apiserver");
        }
        if account == "tokens-controller" {
            // It makes what service accounts log in with, so it has no account itself.
            return server.client(user("system:kube-controller-manager")).named(MANAGER);
        }
        server.client(UserInfo::service_account("kube-system", account)).named(MANAGER)
    };
    let tokens = plane.tokens().clone();
    let mut disabled = config.disable.clone();
    if !config.runs("controllers") {
        disabled.extend(longshore_controllers::names().map(str::to_owned));
        for own in OWN_CONTROLLERS.into_iter().filter(|own| config.runs(own)) {
            disabled.remove(own);
        }
    }
    let settings = longshore_controllers::Config {
        cluster_network: (config.cluster_network.address, config.cluster_network.prefix),
        node_prefix: config.cluster_network.prefix.max(24),
        ca_pem: plane.pki().ca.cert_pem().to_owned(),
        sign: Signer::new(move |claims| tokens.sign(claims).map_err(|e| e.to_string())),
        issuer: issuer(plane, rng.clone()),
        api_address: (config.advertise, plane.address().port()),
        api_identity: longshore_controllers::ApiServerIdentity {
            host_name: config.host_name.clone(),
            instance: rng.uuid(),
        },
        api_service_ip: config.service_network.nth(1),
        autoscaler_period: AUTOSCALER_PERIOD,
        service_network: (config.service_network.address, config.service_network.prefix),
        collected: collected(),
        disabled,
    };
    longshore_controllers::start(settings, client_for, &caches, &clock, &rng, shutdown);
}

/// Signs with the cluster's authority.
fn issuer(plane: &ControlPlane, rng: Arc<dyn Rng>) -> Issuer {
    let authority = plane.pki().ca.clone();
    Issuer::new(move |wanted| {
        let mut serial = [0; 16];
        rng.fill(&mut serial);
        let (usages, lifetime, now) = (&wanted.usages, wanted.lifetime, wanted.now);
        authority.sign(&wanted.request, &Terms { usages, lifetime, now, serial })
    })
}

/// The resources that garbage collection follows: all that can be listed, watched and deleted.
fn collected() -> Vec<Resource> {
    let name = |text: Text| match text {
        Text::Borrowed(text) => Some(text),
        // Only resources that are defined at run time have names of their own.
        Text::Owned(_) => None,
    };
    let all = longshore_resources::all().into_iter();
    let all = all.filter(|r| ["list", "watch", "delete"].iter().all(|verb| r.has_verb(verb)));
    let mut storages = std::collections::BTreeSet::new();
    all.filter(|r| !matches!(&*r.plural, "events") && storages.insert(r.storage.to_string()))
        .filter_map(|r| {
            Some(Resource {
                group: name(r.group)?,
                version: name(r.version)?,
                plural: name(r.plural)?,
                kind: name(r.kind)?,
            })
        })
        .collect()
}
