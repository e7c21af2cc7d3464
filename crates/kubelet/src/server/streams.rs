//! Streams into containers: the runtime has a streaming server of its own, to which the upgraded
//! connection is passed on as it is, whatever protocol it speaks.
//!
//! upstream: staging/src/k8s.io/kubelet/pkg/cri/streaming

use std::collections::HashMap;

use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use longshore_base::TaskKind;
use longshore_client::transport::{Body, BodyError, full};
use longshore_cri::v1::*;
use tokio::net::TcpStream;

use super::{Query, Refused};
use crate::Shared;
use crate::observe::labels;

fn failed(why: impl std::fmt::Display) -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, why)
}

/// Where a command or the streams of a container can be reached.
pub(super) async fn container_url(
    shared: &Shared,
    verb: &str,
    id: &str,
    query: &Query,
) -> Result<String, Refused> {
    let tty = query.flag("tty");
    let (stdin, stdout) = (query.flag("input"), query.flag("output"));
    let stderr = query.flag("error") && !tty;
    if verb == "attach" {
        let request = AttachRequest { container_id: id.to_owned(), stdin, tty, stdout, stderr };
        return shared.runtime.attach(request).await.map(|a| a.url).map_err(failed);
    }
    let cmd = query.all("command");
    let request = ExecRequest { container_id: id.to_owned(), cmd, tty, stdin, stdout, stderr };
    shared.runtime.exec(request).await.map(|a| a.url).map_err(failed)
}

/// Where the ports of a pod can be reached.
pub(super) async fn pod_url(shared: &Shared, uid: &str) -> Result<String, Refused> {
    let selector = HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let filter = PodSandboxFilter { label_selector: selector, ..Default::default() };
    let request = ListPodSandboxRequest { filter: Some(filter) };
    let list = shared.runtime.list_pod_sandbox(request).await.map_err(failed)?;
    let newest = list.items.into_iter().max_by_key(|s| s.created_at);
    let newest = newest.ok_or_else(|| failed("the pod has no sandbox"))?;
    let request = PortForwardRequest { pod_sandbox_id: newest.id, port: Vec::new() };
    shared.runtime.port_forward(request).await.map(|a| a.url).map_err(failed)
}

/// Passes a request on to the runtime's streaming server, and joins the connections when it
/// switches protocols.
pub(super) async fn proxy(
    url: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let url: Uri = url.parse().map_err(failed)?;
    let authority = url.authority().ok_or_else(|| failed("the runtime gave no address"))?.clone();
    let stream = TcpStream::connect(authority.as_str()).await.map_err(failed)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    longshore_base::spawn(TaskKind::PerItem, "runtime stream", async {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a stream to the runtime ended");
        }
    });
    let caller = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    parts.uri = path.parse().map_err(failed)?;
    let host = authority.as_str().parse().map_err(failed)?;
    parts.headers.insert(header::HOST, host);
    let mut response =
        sender.send_request(Request::from_parts(parts, body)).await.map_err(failed)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|body| body.map_err(|e| Box::new(e) as BodyError).boxed_unsync()));
    }
    let runtime = hyper::upgrade::on(&mut response);
    longshore_base::spawn(TaskKind::PerItem, "container stream", async {
        let (caller, runtime) = match tokio::try_join!(caller, runtime) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "an upgrade did not happen"),
        };
        let (mut caller, mut runtime) = (TokioIo::new(caller), TokioIo::new(runtime));
        if let Err(error) = tokio::io::copy_bidirectional(&mut caller, &mut runtime).await {
            tracing::debug!(%error, "a stream broke off");
        }
    });
    Ok(response.map(|_| full("")))
}
