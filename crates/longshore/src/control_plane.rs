//! The control plane: store, certificates, API server, listener.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use longshore_apiserver::audit::Audit;
use longshore_apiserver::auth::{ClientCertificates, FrontProxy, TokenIssuer};
use longshore_apiserver::bootstrap;
use longshore_apiserver::limits::WatchLimits;
use longshore_apiserver::pki::{self, Pki};
use longshore_apiserver::serve;
use longshore_apiserver::server::{self, Network, Server};
use longshore_base::rng::SystemRng;
use longshore_base::{Shutdown, SystemClock};
use longshore_store::{EmbeddedStore, Options};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::config::{API_LEVEL, ServerConfig};
use crate::kubeconfig;

/// The names of all controllers, as `--disable` knows them.
pub fn controller_names() -> Vec<String> {
    longshore_controllers::names().map(str::to_owned).collect()
}

/// How long the events that still wait for the audit log may take.
const AUDIT_DRAIN_MAX: Duration = Duration::from_secs(30);

/// A running control plane.
pub struct ControlPlane {
    address: SocketAddr,
    listener: tokio::task::JoinHandle<()>,
    server: Server,
    pki: Pki,
    tokens: Arc<TokenIssuer>,
    audit: Option<Arc<Audit>>,
}

impl ControlPlane {
    /// Starts everything; the API answers when this returns.
    pub async fn start(
        config: Arc<ServerConfig>,
        now: Timestamp,
        shutdown: Shutdown,
    ) -> Result<Self> {
        let listener = TcpListener::bind(config.listen).await.with_context(|| {
            format!(
                "cannot listen on {}: choose another --secure-port or --bind-address",
                config.listen
            )
        })?;
        let address = listener.local_addr().context("the listener has no address")?;
        let dir = &config.data_dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let audit = config.audit.open()?;
        let store = open_store(dir)?;
        let pki = certificates(&config, now)?;
        write_admin(&config, &pki, address, now)?;
        let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
        let (private, public) = (&pki.service_account_key, &pki.service_account_public);
        let tokens = TokenIssuer::new(&issuer, private, public, Arc::new(SystemRng))?;
        let tokens = Arc::new(tokens);
        let tls = serve::tls_config(&pki.apiserver, &pki.ca.pair().certificates())
            .context("the serving certificate cannot be used")?;
        let server = Server::start(
            server::Config {
                store,
                resources: longshore_resources::all(),
                clock: Arc::new(SystemClock),
                rng: Arc::new(SystemRng),
                service_range: (config.service_network.address, config.service_network.prefix),
                node_ports: config.node_ports.clone(),
                client_certificates: client_certificates(&pki)?,
                tokens: tokens.clone(),
                kubelets: Some(kubelets(&pki)?),
                address: format!("{}:{}", config.advertise, address.port()),
                version: version(),
                cbor: config.cbor,
                watches: WatchLimits::default(),
                audit: audit.clone(),
            },
            shutdown.clone(),
        )
        .await
        .context("the stored objects cannot be loaded")?;
        let mut objects = bootstrap::objects();
        let trust = bootstrap::trust::config_map(pki.ca.cert_pem(), pki.front_proxy_ca.cert_pem());
        objects.push(trust.clone());
        server.bootstrap(objects).await.context("the default objects cannot be written")?;
        server.keep(trust.0, trust.1, &shutdown);
        let network = Arc::new(Network(server.handler().clone()));
        let listener = tokio::spawn(serve::serve(listener, tls, network, shutdown));
        Ok(Self { address, listener, server, pki, tokens, audit })
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Who issues the tokens of service accounts.
    pub fn tokens(&self) -> &Arc<TokenIssuer> {
        &self.tokens
    }

    /// The certificates.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Waits until the listener has let go of its connections.
    pub async fn stopped(self) {
        if let Err(error) = self.listener.await {
            tracing::error!(%error, "the listener did not end well");
        }
        if let Some(audit) = self.audit
            && tokio::time::timeout(AUDIT_DRAIN_MAX, audit.stopped()).await.is_err()
        {
            tracing::warn!("audit events are left that nobody took");
        }
    }
}

fn open_store(dir: &Path) -> Result<Arc<EmbeddedStore>> {
    let history = Some(std::time::Duration::from_secs(300));
    let options = Options { history, ..Options::default() };
    let store = EmbeddedStore::open(&dir.join("db"), options)?;
    Ok(Arc::new(store))
}

fn certificates(config: &ServerConfig, now: Timestamp) -> Result<Pki> {
    let names = [config.node_name.clone()];
    let mut ips = vec![IpAddr::V4(config.service_network.nth(1)), IpAddr::V4(config.advertise)];
    if !config.listen.ip().is_unspecified() {
        ips.push(config.listen.ip());
    }
    Ok(pki::ensure(&config.data_dir.join("pki"), &names, &ips, now)?)
}

fn write_admin(
    config: &ServerConfig,
    pki: &Pki,
    address: SocketAddr,
    now: Timestamp,
) -> Result<()> {
    let user = "admin";
    let (cert, key) = pki.client_certificate(user, &["system:masters"], now)?;
    let host = if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port())
    } else {
        address
    };
    let text = kubeconfig::text(&format!("https://{host}"), pki.ca.cert_pem(), user, &cert, &key);
    let path = config.data_dir.join("admin.kubeconfig");
    match kubeconfig::write(&path, &text) {
        // Reads and deletions go on when the disk is full, so the server starts.
        Err(error) if error.kind() == ErrorKind::StorageFull && path.exists() => {
            tracing::warn!(%error, path = %path.display(), "the file stays as it was");
            Ok(())
        }
        done => done.with_context(|| format!("cannot write {}", path.display())),
    }
}

/// The server trusts front proxies, and is one for aggregated servers.
fn client_certificates(pki: &Pki) -> Result<ClientCertificates> {
    let proxy = FrontProxy::new(&pki.front_proxy_ca.pair().certificates())?;
    let proxy = proxy.with_identity(&pki.front_proxy_client);
    Ok(ClientCertificates::new(&pki.ca.pair().certificates())?.with_front_proxy(proxy))
}

fn kubelets(pki: &Pki) -> Result<longshore_apiserver::endpoints::connect::Kubelets> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(pki.ca.pair().certificates());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = &pki.apiserver_kubelet_client;
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(client.certificates(), client.key())
        .context("the kubelet client certificate cannot be used")?;
    Ok(longshore_apiserver::endpoints::connect::Kubelets { tls: Arc::new(tls) })
}

fn version() -> Value {
    let level = API_LEVEL.trim_start_matches('v');
    let mut parts = level.split('.');
    let (major, minor) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    json!({
        "major": major, "minor": minor,
        "gitVersion": format!("{API_LEVEL}+longshore{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64",
        "emulationMajor": major, "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": minor.parse::<u32>().map_or(0, |minor| minor - 1).to_string(),
    })
}
