//! How a container is asked: a command in it, an HTTP or gRPC request to it, or a connection.
//!
//! Probes and lifecycle hooks ask in the same ways.
//!
//! upstream: pkg/probe, pkg/kubelet/lifecycle/handlers.go

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::Incoming;
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
/// Requests that redirects may lead to.
const REDIRECTS_MAX: usize = 10;
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
fn place(container: &Value, ip: &str, action: &Value) -> Result<(String, u64), String> {
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
    Ok((host.to_owned(), port))
}

fn joined(host: &str, port: u64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn address(container: &Value, ip: &str, action: &Value) -> Result<String, String> {
    place(container, ip, action).map(|(host, port)| joined(&host, port))
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

/// What a server said.
pub(crate) struct Answer {
    /// Its status code.
    pub(crate) code: u16,
    /// The start of the body of a redirect to another host, which is not followed.
    pub(crate) elsewhere: Option<String>,
}

/// An address on the web.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
    secure: bool,
    host: String,
    port: u64,
    path: String,
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", joined(&self.host, self.port), self.path)
    }
}

impl Url {
    /// Where a redirect leads to.
    fn redirected(&self, location: &str) -> Option<Self> {
        let (secure, rest) = if let Some(rest) = location.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = location.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = location.strip_prefix("//") {
            (self.secure, rest)
        } else {
            let path = if location.starts_with('/') {
                location.to_owned()
            } else {
                let path = self.path.split(['?', '#']).next().unwrap_or("/");
                let folder = path.rfind('/').map_or("", |end| &path[..end]);
                format!("{folder}/{location}")
            };
            return Some(Self { path, ..self.clone() });
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let authority: http::uri::Authority = authority.parse().ok()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Some(Self { secure, host, port: port.into(), path })
    }
}

/// Sends an HTTP request and follows redirects to the same host.
///
/// upstream: pkg/probe/http/http.go RedirectChecker
pub(crate) async fn http(
    container: &Value,
    ip: &str,
    action: &Value,
    agent: &str,
) -> Result<Answer, String> {
    let (host, port) = place(container, ip, action)?;
    let path = action["path"].as_str().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut url = Url { secure: action["scheme"] == "HTTPS", host, port, path };
    let first = url.host.clone();
    for hop in 0..REDIRECTS_MAX {
        let response = get(&url, action, agent, hop == 0).await;
        let response = response.map_err(|error| format!("Get \"{url}\": {error}"))?;
        let code = response.status().as_u16();
        let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
        let next = location.filter(|_| matches!(code, 301 | 302 | 303 | 307 | 308));
        match next.and_then(|location| url.redirected(location)) {
            None => return Ok(Answer { code, elsewhere: None }),
            Some(next) if next.host != first => {
                let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
                let body = body.map(|body| body.to_bytes()).unwrap_or_default();
                let elsewhere = Some(String::from_utf8_lossy(&body).into_owned());
                return Ok(Answer { code, elsewhere });
            }
            Some(next) => url = next,
        }
    }
    Err(format!("Get \"{url}\": stopped after {REDIRECTS_MAX} redirects"))
}

/// Sends one request; only the `first` one goes to the host that its headers name.
async fn get(
    url: &Url,
    action: &Value,
    agent: &str,
    first: bool,
) -> Result<Response<Incoming>, String> {
    let address = joined(&url.host, url.port);
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let stream = dial(&address).await?;
    let mut request = Request::get(&url.path).header(header::CONNECTION, "close");
    let (mut host, mut accept) = (address, "*/*".to_owned());
    let mut agent = agent.to_owned();
    for field in action["httpHeaders"].as_array().into_iter().flatten() {
        let text = |key: &str| field[key].as_str().unwrap_or("");
        match text("name").to_ascii_lowercase().as_str() {
            "host" if !first => {}
            "host" => host = text("value").to_owned(),
            "accept" => accept = text("value").to_owned(),
            "user-agent" => agent = text("value").to_owned(),
            _ => request = request.header(text("name"), text("value")),
        }
    }
    if !accept.is_empty() {
        request = request.header(header::ACCEPT, accept);
    }
    if !agent.is_empty() {
        request = request.header(header::USER_AGENT, agent);
    }
    let request = request.header(header::HOST, host);
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| failed(&e))?;
    if url.secure {
        let name = ServerName::try_from(url.host.clone()).map_err(|e| failed(&e))?;
        let tls = tokio_rustls::TlsConnector::from(longshore_client::unchecked::config());
        let stream = tls.connect(name, stream).await.map_err(|e| failed(&e))?;
        send(stream, request).await.map_err(|e| failed(&e))
    } else {
        send(stream, request).await.map_err(|e| failed(&e))
    }
}

async fn send<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error>
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
    sender.send_request(request).await
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
    }

    #[test]
    fn redirects_lead_where_browsers_go() {
        let url = |secure, host: &str, port, path: &str| Url {
            secure,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        };
        let from = url(false, "10.0.0.1", 8080, "/a/b?c");
        for (location, want) in [
            ("/x", url(false, "10.0.0.1", 8080, "/x")),
            ("x", url(false, "10.0.0.1", 8080, "/a/x")),
            ("http://10.0.0.1:81/y", url(false, "10.0.0.1", 81, "/y")),
            ("https://example.com", url(true, "example.com", 443, "/")),
            ("//[::1]?q", url(false, "::1", 80, "/?q")),
        ] {
            assert_eq!(from.redirected(location), Some(want), "{location}");
        }
        assert_eq!(from.to_string(), "http://10.0.0.1:8080/a/b?c");
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let status = match head.split(' ').nth(1).unwrap_or("") {
                    "/near" => "302 Found\r\nLocation: /fine".to_owned(),
                    "/far" => "302 Found\r\nLocation: http://0.0.0.0/".to_owned(),
                    "/round" => "301 Moved\r\nLocation: round".to_owned(),
                    "/fine" => "200 OK".to_owned(),
                    _ => "500 No".to_owned(),
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nhi");
                stream.write_all(answer.as_bytes()).await.expect("it listens");
            }
        });
        let ask = async |path: &str| {
            http(&Value::Null, "127.0.0.1", &json!({ "port": port, "path": path }), "test").await
        };
        let code = async |path: &str| ask(path).await.map(|a| (a.code, a.elsewhere)).ok();
        assert_eq!(code("/near").await, Some((200, None)));
        assert_eq!(code("/far").await, Some((302, Some("hi".to_owned()))));
        assert_eq!(code("/other").await, Some((500, None)));
        let error = ask("/round").await.err().unwrap_or_default();
        assert!(error.ends_with("stopped after 10 redirects"), "{error}");
    }

    #[test]
    fn a_health_request_is_framed() {
        assert_eq!(health_request("").as_ref(), [0; 5]);
        assert_eq!(health_request("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(health_request(&"a".repeat(200)).len(), 5 + 3 + 200);
    }
}
