//! An API server on a store in memory, all controllers, and a stand-in for the kubelets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_apiserver::auth::{ClientCertificates, TokenIssuer, UserInfo};
use longshore_apiserver::limits::WatchLimits;
use longshore_apiserver::server::{Config, Server};
use longshore_apiserver::{bootstrap, pki};
use longshore_base::rng::{Rng, SystemRng};
use longshore_base::{Clock, Shutdown, SystemClock};
use longshore_client::resource::{PODS, SERVICE_ACCOUNTS};
use longshore_client::{Client, Factory, Patch, Resource};
use longshore_store::MemoryStore;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

/// Longer than anything here takes, so that a broken test ends.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running cluster without nodes' software.
pub struct Cluster {
    /// The administrator's client.
    pub client: Client,
    caches: Factory,
    shutdown: Shutdown,
}

impl Cluster {
    /// Starts the server and the controllers. Pods run as soon as they exist, and those of jobs
    /// come to a good end.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`Self::start`], with objects that are there before the controllers.
    pub async fn start_with(objects: &[(Resource, Value)]) -> Self {
        let shutdown = Shutdown::new();
        let server = serve(shutdown.clone()).await;
        let admin = UserInfo::new("admin", &["system:masters"]);
        let client = server.client(admin);
        for (of, object) in objects {
            client.create(*of, object).await.expect("a good object");
        }
        let caches = Factory::new(client.clone(), shutdown.clone());
        let config = longshore_controllers::Config {
            cluster_network: (Ipv4Addr::new(10, 244, 0, 0), 16),
            service_network: (Ipv4Addr::new(10, 96, 0, 0), 16),
            node_prefix: 24,
            ca_pem: String::new(),
            issuer: longshore_controllers::Issuer::new(|wanted| {
                String::from_utf8(wanted.request.clone()).map_err(|error| error.to_string())
            }),
            sign: longshore_controllers::Signer::new(|claims| Ok(claims.to_string())),
            api_address: (Ipv4Addr::new(192, 0, 2, 1), 6443),
            api_identity: longshore_controllers::ApiServerIdentity {
                host_name: "host".to_owned(),
                instance: "1".to_owned(),
            },
            api_service_ip: Ipv4Addr::new(10, 96, 0, 1),
            collected: collected(),
            autoscaler_period: Duration::from_millis(50),
            disabled: BTreeSet::new(),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let rng: Arc<dyn Rng> = Arc::new(SystemRng);
        let client_for = |account: &str| match account {
            "tokens-controller" => {
                server.client(UserInfo::new("system:kube-controller-manager", &[]))
            }
            "kube-apiserver-identity-lease-controller"
            | "kubernetes-service-cidr-controller"
            | "kubernetes-service-controller"
            | "api-priority-and-fairness-config-consumer-v1" => {
                server.client(UserInfo::new("system:apiserver", &["system:masters"]))
            }
            account => server.client(UserInfo::service_account("kube-system", account)),
        };
        longshore_controllers::start(config, client_for, &caches, &clock, &rng, &shutdown);
        run_pods(&client, &caches);
        let cluster = Self { client, caches, shutdown };
        // No pod can be made without it.
        cluster.until(SERVICE_ACCOUNTS, |all| all.iter().any(|a| a.namespace() == "default")).await;
        cluster
    }

    /// Creates an object.
    pub async fn create(&self, of: Resource, object: Value) -> Object {
        self.client.create(of, &object).await.expect("a good object")
    }

    /// Waits until the objects of a resource are as wanted.
    pub async fn until(&self, of: Resource, wanted: impl Fn(&[Arc<Object>]) -> bool) {
        let cache = self.caches.get(of);
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        cache.on_change(move |_| notify.notify_one());
        let waiting = async {
            while !wanted(&cache.list()) {
                changed.notified().await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(outcome.is_ok(), "never: {:#?}", cache.list());
    }

    /// Waits until the server shows an object as wanted. The caches may be behind it.
    pub async fn until_shown(
        &self,
        of: Resource,
        namespace: &str,
        name: &str,
        wanted: impl Fn(Option<&Object>) -> bool,
    ) {
        let waiting = async {
            while !wanted(self.client.find(of, namespace, name).await.expect("an answer").as_ref())
            {
                tokio::task::yield_now().await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(outcome.is_ok(), "{name:?} is never as wanted");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn serve(shutdown: Shutdown) -> Server {
    let dir = tempfile::tempdir().expect("a directory");
    let now = SystemClock.now();
    let pki = pki::ensure(dir.path(), &[], &[], now).expect("certificates");
    let (private, public) = (&pki.service_account_key, &pki.service_account_public);
    let tokens = TokenIssuer::new("https://test", private, public, Arc::new(SystemRng));
    let authorities = pki.ca.pair().certificates();
    let config = Config {
        store: Arc::new(MemoryStore::new()),
        resources: longshore_resources::all(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng),
        service_range: (Ipv4Addr::new(10, 96, 0, 0), 16),
        node_ports: 30000..=32767,
        client_certificates: ClientCertificates::new(&authorities).expect("an authority"),
        tokens: Arc::new(tokens.expect("a key")),
        kubelets: None,
        address: "192.0.2.1:6443".into(),
        version: json!({}),
        cbor: false,
        watches: WatchLimits::default(),
        audit: None,
    };
    let server = Server::start(config, shutdown).await.expect("an empty store");
    server.bootstrap(bootstrap::objects()).await.expect("the default objects");
    server
}

fn collected() -> Vec<Resource> {
    use longshore_client::resource as r;
    vec![r::DEPLOYMENTS, r::REPLICA_SETS, r::STATEFUL_SETS, r::JOBS, r::CRON_JOBS, PODS]
}

/// Plays the kubelets.
fn run_pods(client: &Client, caches: &Factory) {
    let (sender, mut pods) = mpsc::unbounded_channel();
    caches.get(PODS).on_change(move |change| drop(sender.send(change.object().clone())));
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(pod) = pods.recv().await {
            if pod.is_deleting() || pod.str(&["status", "phase"]) != "Pending" {
                continue;
            }
            let is_job = pod.label("job-name").is_some();
            let status = json!({
                "phase": if is_job { "Succeeded" } else { "Running" },
                "conditions": [{
                    "type": "Ready", "status": if is_job { "False" } else { "True" },
                    "lastTransitionTime": SystemClock.now().strftime("%FT%TZ").to_string(),
                }],
            });
            let patch = Patch::Strategic(json!({ "status": status }));
            let outcome = client.patch(PODS, pod.namespace(), pod.name(), "status", &patch).await;
            if let Err(error) = outcome {
                assert!(error.is_not_found() || error.is_conflict(), "{error}");
            }
        }
    });
}
