//! Requests that are passed on: logs, exec, attach and port-forward to the kubelet, and the proxy
//! subresources.
//!
//! upstream: pkg/registry/core/pod/strategy.go (LogLocation, streamLocation),
//! staging/src/k8s.io/apimachinery/pkg/util/proxy/upgradeaware.go

mod options;
mod rewrite;
mod websocket;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use longshore_api::{Object, Reason, StatusError};
use longshore_base::Shutdown;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::{Call, respond};
use crate::admission::Operation;
use crate::body::{Body, BodyError};
use crate::handler::no_such_resource;
use crate::request_info::RequestInfo;

/// How long a connection to a kubelet or pod may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a refusal that are read.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/registry/generic/rest/response_checker.go maxReadLength
const REFUSAL_MAX: usize = 50_000;
/// The kubelet's port when the node names none.
const KUBELET_PORT: u16 = 10250;

/// How the API server reaches kubelets.
#[derive(Clone)]
pub struct Kubelets {
    /// TLS with the API server's client certificate, trusting the cluster's CA.
    pub tls: Arc<rustls::ClientConfig>,
}

/// How a connection is secured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    No,
    /// As the API server, to a kubelet with a certificate of the cluster.
    Kubelet,
    /// As nobody, to a server with any certificate.
    Unchecked,
}

impl Tls {
    fn of(scheme: &str) -> Self {
        if scheme == "https" { Self::Unchecked } else { Self::No }
    }
}

/// Where a request is passed on to.
struct Target {
    address: SocketAddr,
    tls: Tls,
    path_and_query: String,
}

/// Answers the subresources log, exec, attach, portforward and proxy.
pub async fn connect(
    call: &Call,
    kubelets: Option<&Kubelets>,
    mut request: Request<Body>,
) -> Result<Response<Body>, StatusError> {
    // What was written before is seen.
    call.api.registry.hub().fresh().await.map_err(StatusError::internal)?;
    let log = call.info.subresource == "log";
    if !log {
        admit(call, request.uri()).await?;
    }
    let target = match (call.info.resource.as_str(), call.info.subresource.as_str()) {
        ("pods", "proxy") => pod_proxy(call, request.uri()).await?,
        ("nodes", "proxy") => node_proxy(call, request.uri())?,
        ("services", "proxy") => service_proxy(call, request.uri())?,
        ("pods", _) => match pod_stream(call).await? {
            Some(target) => target,
            // A pod without a node has no logs yet.
            None => return Ok(respond::empty(204)),
        },
        _ => return Err(no_such_resource()),
    };
    let kubelets = kubelets.ok_or_else(|| {
        StatusError::new(Reason::ServiceUnavailable, "this server has no kubelet client")
    })?;
    if call.info.subresource == "proxy" {
        return proxy(call, kubelets, target, request).await;
    }
    // Logs are the only stream that kubelets do not send as a WebSocket themselves.
    let socket = if log && websocket::is_wanted(request.headers()) {
        let client = hyper::upgrade::on(&mut request);
        Some((websocket::agree(request.headers_mut())?, client))
    } else {
        None
    };
    let response = forward(kubelets, target, request).await?;
    let refused = !(200..=206).contains(&response.status().as_u16());
    if refused && log {
        return Err(refusal(call, response).await);
    }
    Ok(match socket {
        Some((agreed, client)) => websocket::send(&agreed, client, response.into_body()),
        None => response,
    })
}

/// Asks admission about a stream; its options are the object.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/rest.go ConnectResource
async fn admit(call: &Call, uri: &Uri) -> Result<(), StatusError> {
    let ctx = call.write_context(false);
    let mut attributes = ctx.admission(Operation::Connect, &call.info.name);
    attributes.extras.options = None;
    let (_, path) = split_path(&call.info, uri.path());
    let mut object = options::as_object(&call.info, &attributes.kind(), path);
    let admission = call.api.registry.admission();
    admission.mutate(&attributes, Some(&mut object), None).await?;
    admission.validate(&attributes, Some(&object), None).await
}

/// What the kubelet says against a request for logs, as a Status.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/registry/generic/rest/response_checker.go
async fn refusal(call: &Call, response: Response<Body>) -> StatusError {
    let code = response.status();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if text.len() > REFUSAL_MAX {
            text.truncate(REFUSAL_MAX);
            break;
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    match code {
        StatusCode::BAD_REQUEST => bad(text),
        StatusCode::NOT_FOUND => {
            let mut error = StatusError::not_found("", "pods/log", &call.info.name);
            error.message = format!("the server could not find the requested resource ({text})");
            error
        }
        _ => StatusError::internal(&text),
    }
}

fn bad(message: String) -> StatusError {
    StatusError::bad_request(message)
}

/// Where a pod's kubelet is to be asked; none for the logs of a pod that has no node.
async fn pod_stream(call: &Call) -> Result<Option<Target>, StatusError> {
    let info = &call.info;
    match info.subresource.as_str() {
        "log" => options::check_log(info)?,
        "portforward" => options::check_ports(info)?,
        _ => {}
    }
    let pod = call.api.registry.get(&call.served, &info.namespace, &info.name).await?.object();
    let container = container_of(&pod, info.param("container"), &info.subresource)?;
    let node = pod.str(&["spec", "nodeName"]);
    if node.is_empty() {
        if info.subresource == "log" {
            return Ok(None);
        }
        return Err(bad(format!("pod {} does not have a host assigned", info.name)));
    }
    let address = kubelet_address(call, node, "pods")?;
    let base = format!("{}/{}", info.namespace, info.name);
    let path = match info.subresource.as_str() {
        "log" => format!("/containerLogs/{base}/{container}"),
        "portforward" => format!("/portForward/{base}"),
        verb => format!("/{verb}/{base}/{container}"),
    };
    let path_and_query = with_query(path, &stream_query(call));
    Ok(Some(Target { address, tls: Tls::Kubelet, path_and_query }))
}

/// The query for the kubelet: it names the streams differently.
fn stream_query(call: &Call) -> Vec<(String, String)> {
    let mut query = Vec::new();
    for (key, values) in &call.info.query {
        let renamed = match key.as_str() {
            "stdin" => "input",
            "stdout" => "output",
            "stderr" => "error",
            "container" => continue,
            other => other,
        };
        let is_stream = matches!(key.as_str(), "stdin" | "stdout" | "stderr" | "tty");
        if is_stream {
            if call.info.flag(key) {
                query.push((renamed.to_owned(), "1".to_owned()));
            }
            continue;
        }
        query.extend(values.iter().map(|value| (renamed.to_owned(), value.clone())));
    }
    query
}

fn with_query(path: String, query: &[(String, String)]) -> String {
    if query.is_empty() {
        return path;
    }
    let pairs: Vec<String> =
        query.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
    format!("{path}?{}", pairs.join("&"))
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(b).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The container of a stream: the named one, or the only one.
///
/// upstream: pkg/registry/core/pod/strategy.go validateContainer
fn container_of(pod: &Object, wanted: &str, subresource: &str) -> Result<String, StatusError> {
    if subresource == "portforward" {
        return Ok(String::new());
    }
    let names = |field: &str| -> Vec<String> {
        let list = pod.list(&["spec", field]).iter();
        list.filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
    };
    let (own, init, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if !wanted.is_empty() {
        let known = [&own, &init, &ephemeral].iter().any(|list| list.iter().any(|n| n == wanted));
        if !known {
            return Err(bad(format!("container {wanted} is not valid for pod {}", pod.name())));
        }
        return Ok(wanted.to_owned());
    }
    if let [only] = own.as_slice() {
        return Ok(only.clone());
    }
    let all = [init, own, ephemeral].concat().join(" ");
    let name = pod.name();
    Err(bad(format!("a container name must be specified for pod {name}, choose one of: [{all}]")))
}

/// The address of a node's kubelet. Of a missing node upstream says what was asked for instead.
fn kubelet_address(call: &Call, node: &str, told: &str) -> Result<SocketAddr, StatusError> {
    let table = call.api.registry.table();
    let nodes = table.get("", "v1", "nodes").ok_or_else(no_such_resource)?;
    let entry = nodes.cache.get("", node).ok_or_else(|| StatusError::not_found("", told, node))?;
    let node_object = entry.object();
    let addresses = node_object.list(&["status", "addresses"]);
    let ip = ["InternalIP", "ExternalIP"]
        .iter()
        .find_map(|kind| addresses.iter().find(|a| a["type"] == *kind))
        .and_then(|a| a["address"].as_str()?.parse().ok());
    let ip = ip.ok_or_else(|| {
        StatusError::internal(format!(
            "no preferred addresses found; known addresses: {addresses:?}"
        ))
    })?;
    let port = node_object.int(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(KUBELET_PORT);
    Ok(SocketAddr::new(ip, port))
}

/// Splits `[scheme:]name[:port]`; `kind` is what the name is of.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/net/port_split.go
fn split_name(id: &str, kind: &str) -> Result<(String, String, String), StatusError> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => ("", "", ""),
    };
    if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
        return Err(bad(format!("invalid {kind} request {id:?}")));
    }
    Ok((scheme.to_owned(), name.to_owned(), port.to_owned()))
}

/// The path and query behind a proxy, as they were written.
fn rest_of(call: &Call, uri: &Uri) -> String {
    let (_, path) = split_path(&call.info, uri.path());
    let path = if path.is_empty() { "/" } else { path };
    match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// The path of a proxy, and what follows it.
fn split_path<'a>(info: &RequestInfo, path: &'a str) -> (&'a str, &'a str) {
    // Such as api, v1, namespaces, a, pods, b, proxy.
    let segments = if info.namespace.is_empty() { 5 } else { 7 };
    let end = path.match_indices('/').nth(segments).map_or(path.len(), |(at, _)| at);
    path.split_at(end)
}

/// Passes a request on to a server behind a proxy, and changes what its answer says of itself.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/proxy/upgradeaware.go
async fn proxy(
    call: &Call,
    kubelets: &Kubelets,
    target: Target,
    mut request: Request<Body>,
) -> Result<Response<Body>, StatusError> {
    let uri = request.uri().clone();
    let (prefix, path) = split_path(&call.info, uri.path());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if path.is_empty() && reads && !request.headers().contains_key(header::UPGRADE) {
        // Relative addresses in an answer would be wrong.
        let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
        let location = format!("{}/{query}", uri.path());
        let mut response = respond::empty(301);
        let location = location.parse().map_err(|_| bad("the path is no address".to_owned()))?;
        response.headers_mut().insert(header::LOCATION, location);
        return Ok(response);
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or(uri.authority().map(|authority| authority.as_str()));
    let place = rewrite::Place {
        prefix: prefix.to_owned(),
        path: path.to_owned(),
        server: target.address.to_string(),
        asked: host.unwrap_or("").to_owned(),
    };
    place.tell(request.headers_mut());
    let response = forward(kubelets, target, request).await?;
    Ok(place.rewrite(response).await)
}

async fn pod_proxy(call: &Call, uri: &Uri) -> Result<Target, StatusError> {
    let (scheme, name, port) = split_name(&call.info.name, "pod")?;
    let pod = call.api.registry.get(&call.served, &call.info.namespace, &name).await?.object();
    let ip = pod.str(&["status", "podIP"]).parse().ok().filter(|ip| is_global_unicast(*ip));
    let ip = ip.ok_or_else(address_not_allowed)?;
    let first = || {
        let containers = pod.list(&["spec", "containers"]);
        containers.iter().find_map(|c| c["ports"][0]["containerPort"].as_u64()).unwrap_or(80)
    };
    let port = if port.is_empty() { first().to_string() } else { port };
    let port: u16 = port.parse().map_err(|_| bad(format!("invalid port {port:?}")))?;
    let address = SocketAddr::new(ip, port);
    Ok(Target { address, tls: Tls::of(&scheme), path_and_query: rest_of(call, uri) })
}

fn address_not_allowed() -> StatusError {
    bad("address not allowed".to_owned())
}

/// Whether an address is that of one other machine. Who may write the status of a pod must not
/// reach what listens on the server's own loopback.
///
/// upstream: pkg/registry/core/pod/strategy.go ResourceLocation; Go's net.IP.IsGlobalUnicast
fn is_global_unicast(ip: IpAddr) -> bool {
    let special = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(special || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
}

/// upstream: pkg/registry/core/node/strategy.go ResourceLocation
fn node_proxy(call: &Call, uri: &Uri) -> Result<Target, StatusError> {
    let (scheme, name, port) = split_name(&call.info.name, "node")?;
    let kubelet = kubelet_address(call, &name, "nodes")?;
    if !is_global_unicast(kubelet.ip()) {
        return Err(address_not_allowed());
    }
    let path_and_query = rest_of(call, uri);
    if port.is_empty() || port == kubelet.port().to_string() {
        return Ok(Target { address: kubelet, tls: Tls::Kubelet, path_and_query });
    }
    let port: u16 = port.parse().map_err(|_| bad(format!("invalid port {port:?}")))?;
    let address = SocketAddr::new(kubelet.ip(), port);
    Ok(Target { address, tls: Tls::of(&scheme), path_and_query })
}

/// upstream: pkg/registry/core/service/storage/storage.go ResourceLocation
fn service_proxy(call: &Call, uri: &Uri) -> Result<Target, StatusError> {
    let id = &call.info.name;
    let (scheme, name, mut port) = split_name(id, "service")?;
    let namespace = &call.info.namespace;
    let unavailable = |why: String| StatusError::new(Reason::ServiceUnavailable, why);
    let none_for = |of: &str| unavailable(format!("no endpoints available for service {of:?}"));
    let not_found = || StatusError::not_found("", "services", &name);
    let table = call.api.registry.table();
    if let Ok(number) = port.parse::<i64>() {
        let service = call.served.cache.get(namespace, &name).ok_or_else(not_found)?.object();
        let mut ports = service.list(&["spec", "ports"]).iter();
        let found = ports.find(|p| p["port"].as_i64() == Some(number)).ok_or_else(|| {
            unavailable(format!("no service port {number} found for service {name:?}"))
        })?;
        port = found["name"].as_str().unwrap_or("").to_owned();
    }
    let endpoints = table.get("", "v1", "endpoints").ok_or_else(no_such_resource)?;
    let endpoints = endpoints.cache.get(namespace, &name).ok_or_else(not_found)?.object();
    let subsets = endpoints.list(&["subsets"]);
    if subsets.is_empty() {
        return Err(none_for(&name));
    }
    let pods = table.get("", "v1", "pods").ok_or_else(no_such_resource)?;
    let found = subsets.iter().find_map(|subset| {
        let mut ports = subset["ports"].as_array()?.iter();
        let found = ports.find(|p| p["name"].as_str().unwrap_or("") == port)?;
        let number = u16::try_from(found["port"].as_u64()?).ok()?;
        let ip = subset["addresses"].as_array()?.iter().find_map(|address| {
            let pod = address["targetRef"]["name"].as_str()?;
            let own = address["targetRef"]["namespace"] == namespace.as_str();
            let pod = pods.cache.get(namespace, pod).filter(|_| own)?.object();
            pod_address(&pod, address["ip"].as_str()?)
        })?;
        Some(SocketAddr::new(ip, number))
    });
    let address = found.ok_or_else(|| none_for(id))?;
    Ok(Target { address, tls: Tls::of(&scheme), path_and_query: rest_of(call, uri) })
}

/// An address of an endpoint if it is really that of its pod: whoever writes endpoints must not
/// reach other places through the server.
///
/// upstream: pkg/registry/core/service/storage/storage.go isValidAddress
fn pod_address(pod: &Object, ip: &str) -> Option<IpAddr> {
    let own = pod.list(&["status", "podIPs"]).iter().any(|own| own["ip"] == ip);
    ip.parse().ok().filter(|ip| own && is_global_unicast(*ip))
}

fn unreachable(address: SocketAddr, error: &dyn std::fmt::Display) -> StatusError {
    let message = format!("error trying to reach service: dial tcp {address}: {error}");
    StatusError::new(Reason::ServiceUnavailable, message)
}

async fn forward(
    kubelets: &Kubelets,
    target: Target,
    mut request: Request<Body>,
) -> Result<Response<Body>, StatusError> {
    let failed = |e: &dyn std::fmt::Display| unreachable(target.address, e);
    let dial = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target.address)).await;
    let tcp = dial.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    let tls = match target.tls {
        Tls::No => None,
        Tls::Kubelet => Some(kubelets.tls.clone()),
        Tls::Unchecked => Some(longshore_client::unchecked::config()),
    };
    let stream: Box<dyn Stream> = if let Some(tls) = tls {
        let connector = tokio_rustls::TlsConnector::from(tls);
        let name = ServerName::IpAddress(target.address.ip().into());
        let tls = tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(name, tcp)).await;
        Box::new(tls.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?)
    } else {
        Box::new(tcp)
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| failed(&e))?;
    longshore_base::task::spawn(longshore_base::TaskKind::PerItem, "proxied connection", async {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
    let outgoing = outgoing(&target, request)?;
    let mut response = sender.send_request(outgoing).await.map_err(|e| failed(&e))?;
    response.extensions_mut().insert(respond::Passed);
    match client_side {
        Some(client_side) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Ok(switch(response, client_side))
        }
        _ => Ok(response.map(|body| body.map_err(|e| -> BodyError { e.into() }).boxed_unsync())),
    }
}

fn outgoing(target: &Target, request: Request<Body>) -> Result<Request<Body>, StatusError> {
    let (mut parts, body) = request.into_parts();
    parts.uri = target
        .path_and_query
        .parse::<Uri>()
        .map_err(|e| bad(format!("the path cannot be passed on: {e}")))?;
    parts.version = http::Version::HTTP_11;
    // The caller's credentials are for this server only.
    parts.headers.remove(header::AUTHORIZATION);
    let host = target.address.to_string();
    let host = host.parse().expect("an address is a header value");
    parts.headers.insert(header::HOST, host);
    Ok(Request::from_parts(parts, body))
}

/// Joins the two upgraded connections.
pub(crate) fn switch<B>(
    mut response: Response<B>,
    client_side: hyper::upgrade::OnUpgrade,
) -> Response<Body> {
    let server_side = hyper::upgrade::on(&mut response);
    let ended = Shutdown::new();
    let end = ended.clone().drop_guard();
    response.extensions_mut().insert(respond::Switched(ended));
    longshore_base::task::spawn(longshore_base::TaskKind::PerItem, "upgraded stream", async {
        let _end = end;
        let (client, server) = match tokio::try_join!(client_side, server_side) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "an upgrade did not happen");
                return;
            }
        };
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
            tracing::debug!(%error, "an upgraded stream broke off");
        }
    });
    response.map(|_| crate::body::full(""))
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

/// Whether a subresource is passed on.
pub fn is_stream(subresource: &str) -> bool {
    matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_machines_are_reached() {
        for ip in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.169.254", "::1", "fe80::1"] {
            assert!(!is_global_unicast(ip.parse().expect("an address")), "{ip}");
        }
        for ip in ["10.244.0.5", "192.0.2.1", "2001:db8::1", "fd00::1"] {
            assert!(is_global_unicast(ip.parse().expect("an address")), "{ip}");
        }
    }
}
