//! Passes requests on to other servers, in the name of the user that was authenticated here.
//!
//! upstream: staging/src/k8s.io/kube-aggregator/pkg/apiserver/handler_proxy.go,
//! staging/src/k8s.io/apimachinery/pkg/util/proxy/{upgradeaware,transport}.go

use std::net::IpAddr;
use std::time::Duration;

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, LOCATION, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};

use super::{Aggregator, ApiService, Remote};
use crate::auth::UserInfo;
use crate::auth::front_proxy::{EXTRA_PREFIX, GROUP_HEADER, UID_HEADER, USER_HEADER};
use crate::body::Body;
use crate::endpoints::connect;
use crate::endpoints::respond::{self, Passed};
use crate::outbound::CallError;
use crate::request_info::RequestInfo;

/// How long the answer to a question for a group's resources may take: many clients ask all
/// servers, one after the other.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/util/proxy/proxy.go aggregatedDiscoveryTimeout
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Headers that are about one connection.
///
/// upstream: Go's net/http/httputil/reverseproxy.go hopHeaders
const HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// For whom a request is passed on.
pub struct Passing<'a> {
    /// What it asks for.
    pub info: &'a RequestInfo,
    /// The user.
    pub user: &'a UserInfo,
    /// Where the client is, when it is not in this process.
    pub client: Option<IpAddr>,
    /// The identifier of the request in audit logs.
    pub audit_id: &'a str,
}

impl Aggregator {
    /// Answers a request with what the server of an API service answers.
    pub async fn pass_on(
        &self,
        service: &ApiService,
        request: Request<Body>,
        passing: &Passing<'_>,
    ) -> Response<Body> {
        let Some(remote) = &service.remote else { return respond::not_found() };
        if !service.available {
            return unavailable();
        }
        self.forward(remote, request, passing).await
    }

    /// Passes a request on, whatever is known of the server.
    pub(super) async fn forward(
        &self,
        remote: &Remote,
        request: Request<Body>,
        passing: &Passing<'_>,
    ) -> Response<Body> {
        if let Some(why) = remote.broken() {
            return failed(500, why);
        }
        let target = match remote.target(self.reader.as_ref()) {
            Ok(target) => target,
            Err(error) => {
                let (namespace, name) = (&remote.namespace, &remote.service);
                tracing::warn!(%error, namespace, name, "an API service cannot be resolved");
                return unavailable();
            }
        };
        let (mut request, upgrade) = match outgoing(request, passing, &target.authority) {
            Ok(outgoing) => outgoing,
            Err(why) => return unreachable(&why),
        };
        let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
        let sending = self.client.send(&target, request);
        let sent = if is_discovery(passing.info) {
            let late = |_| Err(CallError::Deadline);
            tokio::time::timeout(DISCOVERY_TIMEOUT, sending).await.unwrap_or_else(late)
        } else {
            sending.await
        };
        let mut response = match sent {
            Ok(response) => response,
            // Upstream dials itself for an upgrade, without the words around the error.
            Err(error) if upgrade => return failed(503, &error.to_string()),
            Err(error) => return unreachable(&error.to_string()),
        };
        let status = response.status();
        response.extensions_mut().insert(Passed);
        match client_side {
            Some(client_side) if status == StatusCode::SWITCHING_PROTOCOLS => {
                return connect::switch(response, client_side);
            }
            Some(_) if status.as_u16() < 400 => {
                let code = status.as_u16();
                return failed(503, &format!("invalid upgrade response: status code {code}"));
            }
            _ => {}
        }
        if status.is_redirection() && response.headers().contains_key(LOCATION) {
            let why = "the backend attempted to redirect this request, which is not permitted";
            let mut refused = Response::new(crate::body::full(why));
            *refused.status_mut() = StatusCode::BAD_GATEWAY;
            return refused;
        }
        remove_hop_headers(response.headers_mut());
        response
    }
}

/// An answer as Go's `http.Error` writes it.
fn failed(code: u16, why: &str) -> Response<Body> {
    let mut response = respond::text(code, format!("{why}\n"));
    response.extensions_mut().insert(Passed);
    response
}

fn unavailable() -> Response<Body> {
    failed(503, "service unavailable")
}

fn unreachable(why: &str) -> Response<Body> {
    failed(503, &format!("error trying to reach service: {why}"))
}

/// Whether a request asks which resources a version of a group has.
fn is_discovery(info: &RequestInfo) -> bool {
    !info.is_resource && info.path.trim_matches('/').split('/').count() == 3
}

/// The request as it is sent to the server, and whether it asks for another protocol.
fn outgoing(
    request: Request<Body>,
    passing: &Passing<'_>,
    authority: &str,
) -> Result<(Request<Body>, bool), String> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let headers = &mut parts.headers;
    let upgrade = connection_tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let protocol = headers.get(UPGRADE).cloned();
    let trailers =
        headers.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_hop_headers(headers);
    if upgrade {
        // No more than this: the client could name headers here that it must not have removed.
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        protocol.and_then(|protocol| headers.insert(UPGRADE, protocol));
    } else {
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        headers.insert("x-forwarded-uri", value(path.path())?);
        headers.insert("x-forwarded-host", value(authority)?);
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    }
    forwarded_for(headers, passing.client);
    tell_user(headers, passing.user)?;
    if let Ok(id) = HeaderValue::from_str(passing.audit_id) {
        headers.insert("audit-id", id);
    }
    parts.uri = Uri::from(path);
    Ok((Request::from_parts(parts, body), upgrade))
}

/// Adds the client to those that the request has come through.
fn forwarded_for(headers: &mut HeaderMap, client: Option<IpAddr>) {
    const NAME: &str = "x-forwarded-for";
    let Some(client) = client else { return };
    let before = headers.get_all(NAME).iter().filter_map(|value| value.to_str().ok());
    let all: Vec<String> = before.map(str::to_owned).chain([client.to_string()]).collect();
    if let Ok(all) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(NAME, all);
    }
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn remove_hop_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        connection_tokens(headers).filter_map(|token| token.parse().ok()).collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
}

/// Tells a server who the user is. What the client has said about that is gone.
///
/// upstream: staging/src/k8s.io/client-go/transport/round_trippers.go SetAuthProxyHeaders
pub(super) fn tell_user(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), String> {
    let prefix = EXTRA_PREFIX.to_ascii_lowercase();
    let old: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(&prefix)).cloned().collect();
    let old = old.into_iter().chain([USER_HEADER, UID_HEADER, GROUP_HEADER].map(name_of));
    old.for_each(|name| drop(headers.remove(name)));
    let value = |name: &str, value: &str| {
        HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| format!("net/http: invalid header field value for {name:?}"))
    };
    headers.insert(name_of(USER_HEADER), value(USER_HEADER, &user.name)?);
    if !user.uid.is_empty() {
        headers.insert(name_of(UID_HEADER), value(UID_HEADER, &user.uid)?);
    }
    for group in &user.groups {
        headers.append(name_of(GROUP_HEADER), value(GROUP_HEADER, group)?);
    }
    for (key, values) in &user.extra {
        let header = format!("{EXTRA_PREFIX}{}", escape_key(key));
        let name = HeaderName::from_bytes(header.as_bytes()).map_err(|error| error.to_string())?;
        for one in values {
            headers.append(&name, value(&header, one)?);
        }
    }
    Ok(())
}

fn name_of(name: &'static str) -> HeaderName {
    HeaderName::from_bytes(name.as_bytes()).expect("a valid name")
}

/// A key as a part of the name of a header: what cannot be there is escaped.
fn escape_key(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        let legal = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if legal {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<Body> {
        let mut builder = Request::get("https://client.example/apis/g/v/things?watch=1");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(crate::body::full("")).expect("a request")
    }

    fn passed(headers: &[(&str, &str)]) -> (HeaderMap, String, bool) {
        let request = request(headers);
        let info = RequestInfo::parse(request.method(), request.uri());
        let mut user = UserInfo::new("jane", &["devs", "ops"]);
        user.uid = "7".to_owned();
        user.extra.insert("example.com/a%b".to_owned(), vec!["1".to_owned(), "2".to_owned()]);
        let client = Some(IpAddr::from([192, 0, 2, 9]));
        let passing = Passing { info: &info, user: &user, client, audit_id: "id" };
        let (request, upgrade) = outgoing(request, &passing, "10.0.0.1:443").expect("passed on");
        let (parts, _) = request.into_parts();
        (parts.headers, parts.uri.to_string(), upgrade)
    }

    #[test]
    fn the_server_is_told_who_the_user_is_and_nothing_else_about_that() {
        let (headers, uri, upgrade) = passed(&[
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-scopes", "all"),
            ("x-forwarded-for", "198.51.100.1"),
            ("connection", "keep-alive, x-private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("accept", "application/json"),
        ]);
        assert_eq!((uri.as_str(), upgrade), ("/apis/g/v/things?watch=1", false));
        let all = |name: &str| -> Vec<&str> {
            headers.get_all(name).iter().map(|v| v.to_str().expect("text")).collect()
        };
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-uid"), ["7"]);
        assert_eq!(all("x-remote-group"), ["devs", "ops"]);
        assert_eq!(all("x-remote-extra-example.com%2fa%25b"), ["1", "2"]);
        assert!(all("x-remote-extra-scopes").is_empty());
        assert_eq!(all("x-forwarded-for"), ["198.51.100.1, 192.0.2.9"]);
        assert_eq!(all("x-forwarded-uri"), ["/apis/g/v/things"]);
        assert_eq!(all("x-forwarded-host"), ["10.0.0.1:443"]);
        assert_eq!(all("audit-id"), ["id"]);
        assert_eq!(all("accept"), ["application/json"]);
        assert_eq!(all("te"), ["trailers"]);
        assert!(all("connection").is_empty() && all("x-private").is_empty());
    }

    #[test]
    fn an_upgrade_stays_one() {
        let connection = ("connection", "keep-alive, upgrade, x-remote-user");
        let (headers, _, upgrade) = passed(&[connection, ("upgrade", "websocket")]);
        assert!(upgrade);
        assert_eq!(headers["x-remote-user"], "jane");
        assert_eq!(headers["connection"], "Upgrade");
        assert_eq!(headers["upgrade"], "websocket");
        assert!(!headers.contains_key("x-forwarded-uri"));
    }
}
