//! How a container is asked: a command in it, an HTTP or gRPC request to it, or a connection.
//!
//! Probes and lifecycle hooks ask in the same ways.
//!
//! upstream: pkg/probe, pkg/kubelet/lifecycle/handlers.go

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_base::TaskKind;
use longshore_cri::Runtime;
use longshore_cri::v1::ExecSyncRequest;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 10 << 10;
/// Length of what stands before a gRPC message.
///
/// upstream: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
const GRPC_PREFIX: usize = 5;
/// The names of the states that a gRPC health service can be in, by number.
const GRPC_STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// The number of the good one.
const GRPC_SERVING: u8 = 1;
/// The gRPC status of a server without a health service.
const GRPC_UNIMPLEMENTED: &str = "12";

/// Runs a command in a container: what it printed, if it failed.
pub(crate) async fn exec(
    runtime: &Runtime,
    id: &str,
    action: &Value,
    timeout: i64,
) -> Result<(), String> {
    let words = action["command"].as_array().into_iter().flatten();
    let request = ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: words.filter_map(|w| w.as_str().map(str::to_owned)).collect(),
        timeout,
    };
    let answer = runtime.exec_sync(request).await.map_err(|e| e.to_string())?;
    if answer.exit_code == 0 {
        return Ok(());
    }
    let mut said = [answer.stdout, answer.stderr].concat();
    said.truncate(ANSWER_MAX);
    Err(String::from_utf8_lossy(&said).into_owned())
}

/// Host and port of an action; a named port is one of the container's.
fn address(container: &Value, ip: &str, action: &Value) -> Result<String, String> {
    let host = action["host"].as_str().filter(|h| !h.is_empty()).unwrap_or(ip);
    let port = match &action["port"] {
        Value::String(name) => {
            let mut ports = container["ports"].as_array().into_iter().flatten();
            let port = ports.find(|p| p["name"] == name.as_str());
            match port.and_then(|p| p["containerPort"].as_u64()).or(name.parse().ok()) {
                Some(port) => port,
                None => return Err(format!("couldn't find port: {name:?}")),
            }
        }
        number => number.as_u64().unwrap_or(0),
    };
    Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

async fn dial(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            format!("dial tcp {address}: connect: connection refused")
        }
        _ => format!("dial tcp {address}: connect: {error}"),
    })
}

/// Connects.
pub(crate) async fn tcp(container: &Value, ip: &str, action: &Value) -> Result<(), String> {
    dial(&address(container, ip, action)?).await.map(drop)
}

/// Sends an HTTP request; what is wrong with the answer, if something is.
pub(crate) async fn http(
    container: &Value,
    ip: &str,
    action: &Value,
    agent: &str,
) -> Result<(), String> {
    let address = address(container, ip, action)?;
    let path = action["path"].as_str().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let secure = action["scheme"] == "HTTPS";
    let url = format!("{}://{address}{path}", if secure { "https" } else { "http" });
    let failed = |e: &dyn std::fmt::Display| format!("Get {url:?}: {e}");
    let stream = dial(&address).await.map_err(|e| failed(&e))?;
    let mut request =
        Request::get(&path).header(header::USER_AGENT, agent).header(header::CONNECTION, "close");
    let (mut host, mut accept) = (address.clone(), "*/*".to_owned());
    for field in action["httpHeaders"].as_array().into_iter().flatten() {
        let text = |key: &str| field[key].as_str().unwrap_or("");
        match text("name").to_ascii_lowercase().as_str() {
            "host" => host = text("value").to_owned(),
            "accept" => accept = text("value").to_owned(),
            _ => request = request.header(text("name"), text("value")),
        }
    }
    if !accept.is_empty() {
        request = request.header(header::ACCEPT, accept);
    }
    let request = request.header(header::HOST, host);
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| failed(&e))?;
    let code = if secure {
        let name = ServerName::try_from(host_of(&address).to_owned()).map_err(|e| failed(&e))?;
        let tls = tokio_rustls::TlsConnector::from(longshore_client::unchecked::config())
            .connect(name, stream)
            .await;
        send(tls.map_err(|e| failed(&e))?, request).await
    } else {
        send(stream, request).await
    };
    match code.map_err(|e| failed(&e))? {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<u16, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await?;
    longshore_base::spawn(TaskKind::PerItem, "probe connection", async {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a probe's connection ended");
        }
    });
    Ok(sender.send_request(request).await?.status().as_u16())
}

/// Asks a gRPC health service.
///
/// upstream: pkg/probe/grpc/grpc.go
pub(crate) async fn grpc(container: &Value, ip: &str, action: &Value) -> Result<(), String> {
    let address = address(container, ip, action)?;
    let failed = |e: String| format!("error: failed to connect service at {address:?}: {e}");
    let stream = dial(&address).await.map_err(failed)?;
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|e| failed(e.to_string()))?;
    longshore_base::spawn(TaskKind::PerItem, "probe connection", async {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a probe's connection ended");
        }
    });
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.36")
        .body(Full::new(health_request(action["service"].as_str().unwrap_or(""))))
        .map_err(|e| failed(e.to_string()))?;
    let broken = |e: String| format!("error: health rpc probe failed: {e}");
    let answer = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
    let head = answer.headers().clone();
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|e| broken(e.to_string()))?;
    // A failure without a message has its status in the head.
    let trailers = body.trailers().cloned().unwrap_or(head);
    let text = |key: &str| trailers.get(key).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    match text("grpc-status").as_str() {
        "0" => {}
        GRPC_UNIMPLEMENTED => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                text("grpc-message")
            ));
        }
        code => return Err(broken(format!("code = {code} desc = {}", text("grpc-message")))),
    }
    // A message with the only field 1 as a varint; zero is left out.
    let state = match body.to_bytes().get(GRPC_PREFIX..) {
        Some([0x08, state, ..]) => *state,
        _ => 0,
    };
    if state == GRPC_SERVING {
        return Ok(());
    }
    let name = GRPC_STATES.get(usize::from(state)).unwrap_or(&"UNKNOWN");
    Err(format!("service unhealthy (responded with {name:?})"))
}

/// A message with the service's name as its field 1, in a gRPC frame.
fn health_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or(0));
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_found_by_name() {
        let container = json!({ "ports": [{ "name": "web", "containerPort": 8080 }] });
        let ask = |action: Value| address(&container, "10.0.0.1", &action);
        assert_eq!(ask(json!({ "port": "web" })).as_deref(), Ok("10.0.0.1:8080"));
        assert_eq!(ask(json!({ "port": "81" })).as_deref(), Ok("10.0.0.1:81"));
        assert_eq!(ask(json!({ "port": 82, "host": "::1" })).as_deref(), Ok("[::1]:82"));
        assert!(ask(json!({ "port": "none" })).is_err());
        assert_eq!(host_of("[::1]:82"), "::1");
    }

    #[test]
    fn a_health_request_is_framed() {
        assert_eq!(health_request("").as_ref(), [0; 5]);
        assert_eq!(health_request("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(health_request(&"a".repeat(200)).len(), 5 + 3 + 200);
    }
}
