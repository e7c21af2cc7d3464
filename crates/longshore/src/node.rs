//! The node agent inside the server.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use longshore_apiserver::auth::UserInfo;
use longshore_base::rng::{Rng, SystemRng};
use longshore_base::{Clock, SystemClock, TaskKind};
use longshore_client::EventRecorder;
use rustls::server::WebPkiClientVerifier;

use crate::config::{API_LEVEL, ServerConfig};
use crate::control_plane::ControlPlane;
use crate::server::Stop;

/// Pods that a node takes. upstream: pkg/kubelet/apis/config/v1beta1/defaults.go MaxPods
const PODS_MAX: u32 = 110;

/// Whether what the node agent needs is there, asked before anything is started: the port that it
/// listens on.
///
/// # Errors
/// When the container runtime does not answer, or the port is in use.
pub fn check(config: &ServerConfig) -> Result<Option<TcpListener>> {
    if !config.runs("kubelet") {
        return Ok(None);
    }
    std::os::unix::net::UnixStream::connect(&config.runtime_socket).map(drop).with_context(
        || {
            format!(
                "no container runtime answers at {}: start containerd, name its socket with \
             --container-runtime-endpoint, or run without a node with --disable kubelet,proxy,dns",
                config.runtime_socket.display()
            )
        },
    )?;
    let address = (Ipv4Addr::UNSPECIFIED, config.kubelet_port);
    let listener = TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    let listener = listener.with_context(|| {
        format!("cannot listen on port {}: choose another --kubelet-port", config.kubelet_port)
    })?;
    Ok(Some(listener))
}

/// Starts the node agent; when it fails the whole server stops.
///
/// # Errors
/// When its certificate cannot be used.
pub fn start(
    config: &ServerConfig,
    plane: &ControlPlane,
    listener: TcpListener,
    stop: &Stop,
) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let user = format!("system:node:{}", config.node_name);
    let client =
        plane.server().client(UserInfo::new(&user, &["system:nodes", "system:authenticated"]));
    let client = client.named("kubelet");
    let (host, stop) = (&config.node_name, stop.clone());
    let recorder = EventRecorder::new(
        client.clone(),
        "kubelet",
        host,
        clock.clone(),
        rng.clone(),
        stop.shutdown.clone(),
    );
    let settings = longshore_kubelet::Config {
        node_name: config.node_name.clone(),
        node_ip: config.advertise,
        root_dir: config.data_dir.join("kubelet"),
        logs_dir: config.data_dir.join("logs"),
        runtime_socket: config.runtime_socket.clone(),
        cni_conf_dir: Some(config.cni_conf_dir.clone()),
        cgroup_root: config.cgroup_root.clone(),
        cluster_dns: config.cluster_dns,
        cluster_domain: config.cluster_domain.clone(),
        listener: Arc::new(listener),
        port: config.kubelet_port,
        tls: tls(plane)?,
        eviction: config.eviction_hard.clone(),
        max_pods: PODS_MAX,
        version: API_LEVEL.to_owned(),
    };
    longshore_base::spawn(TaskKind::Critical, "kubelet", async move {
        let agent =
            longshore_kubelet::run(settings, client, recorder, clock, rng, stop.shutdown.clone());
        if let Err(error) = Box::pin(agent).await {
            stop.failed(error);
        }
    });
    Ok(())
}

/// The agent's own server looks at certificates of the cluster's authority; whoever shows none
/// needs a token.
fn tls(plane: &ControlPlane) -> Result<Arc<rustls::ServerConfig>> {
    let pki = plane.pki();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(pki.ca.pair().certificates());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_client_cert_verifier(
            verifier.allow_unauthenticated().build().context("the cluster's authority")?,
        )
        .with_single_cert(pki.kubelet.certificates(), pki.kubelet.key())
        .context("the certificate of the node agent cannot be used")?;
    Ok(Arc::new(config))
}
