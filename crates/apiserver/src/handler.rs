//! The one request chain: every request, from the network or from inside the process, passes these
//! filters in this order, and only then reaches an endpoint.
//!
//! Order: panic guard, request info, deadline and load limit, authentication, audit, impersonation,
//! authorization, dispatch, metrics.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/server/config.go DefaultBuildHandlerChain

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use longshore_api::{Reason, StatusError};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use crate::admission::{Annotations, policies, webhook};
use crate::aggregate::{Aggregator, Passing};
use crate::audit::{self, Audit, End, Slot, Stage, Trail};
use crate::auth::{self, Attributes, Decision, UserInfo};
use crate::body::Body;
use crate::endpoints::options::{field_manager, given};
use crate::endpoints::{self, Api, Call, body, compress, custom_route, negotiate, respond, route};
use crate::limits::{self, Busy, Held, Limits};
use crate::metrics::Metrics;
use crate::reader::Reader;
use crate::registry::{Conversions, Served};
use crate::request_info::RequestInfo;
use crate::serve::PeerInfo;
use crate::{discovery, nonresource};

/// How long a request may take unless it is a watch or a stream.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/server/config.go RequestTimeout
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Who sends a request.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A connection: the request has to say who it is.
    Peer(PeerInfo),
    /// A component in this process.
    InProcess(Arc<UserInfo>),
}

impl Caller {
    /// Where it is, when it is not in this process.
    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Peer(peer) => Some(peer.remote_addr.ip()),
            Self::InProcess(_) => None,
        }
    }

    /// How many certificates it has shown.
    fn certificates(&self) -> usize {
        match self {
            Self::Peer(peer) => peer.certs.len(),
            Self::InProcess(_) => 0,
        }
    }
}

/// What a request asks for, and for whom.
#[derive(Clone)]
struct Asked<'a> {
    caller: &'a Caller,
    info: Arc<RequestInfo>,
    audit_id: &'a str,
    /// Where its events are made.
    slot: &'a Slot,
}

/// What the chain needs.
pub struct Handler {
    /// What the endpoints share.
    pub api: Arc<Api>,
    /// The servers that requests are passed on to.
    pub aggregator: Arc<Aggregator>,
    /// Tells who a caller is.
    pub authentication: auth::Authentication,
    /// Where requests are written down; `None` when they are not.
    pub audit: Option<Arc<Audit>>,
    /// Tells what a user may do.
    pub authorization: Arc<auth::Authorization>,
    /// Counters.
    pub metrics: Metrics,
    /// Counters of webhooks.
    pub webhook_metrics: Arc<webhook::Metrics>,
    /// Counters of policies.
    pub policy_metrics: Arc<policies::Metrics>,
    /// The way to kubelets; `None` when there are none to reach.
    pub kubelets: Option<endpoints::connect::Kubelets>,
    /// Reads of the caches.
    pub reader: Arc<dyn Reader>,
    /// What is served besides resources.
    pub nonresource: nonresource::NonResource,
    /// How much goes on at the same time.
    pub limits: Limits,
}

impl Handler {
    /// The text that `/metrics` answers with.
    pub fn render_metrics(&self) -> String {
        let mut text = self.metrics.render() + &self.webhook_metrics.render();
        self.policy_metrics.render(&mut text);
        text.push_str(&self.api.conversions.metrics.render());
        text.push_str(&self.aggregator.render_metrics());
        text.extend(self.audit.as_ref().map(|audit| audit.render_metrics()));
        text
    }

    /// Answers one request.
    pub async fn handle(self: Arc<Self>, request: Request<Body>, caller: Caller) -> Response<Body> {
        let info = Arc::new(RequestInfo::parse(request.method(), request.uri()));
        let started = Instant::now();
        let is_head = *request.method() == Method::HEAD;
        let audit_id = self.audit_id(request.headers());
        let slot = Slot::default();
        let asked = Asked { caller: &caller, info: info.clone(), audit_id: &audit_id, slot: &slot };
        let mut end = if is_long_running(&info) { End::LongAnswer } else { End::Answer };
        let answer = self.guarded(request, asked);
        let mut response = match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                tracing::error!(verb = info.verb, path = info.path, "a request handler panicked");
                end = End::Panic;
                respond::error(&StatusError::internal("the request handler failed unexpectedly"))
            }
        };
        response = slot.finish(response, end).await;
        if is_head {
            *response.body_mut() = crate::body::full("");
        }
        self.metrics.request(&info, response.status().as_u16(), started.elapsed());
        if let Ok(id) = HeaderValue::from_str(&audit_id) {
            response.headers_mut().insert(HeaderName::from_static("audit-id"), id);
        }
        response
    }

    async fn guarded(self: &Arc<Self>, request: Request<Body>, asked: Asked<'_>) -> Response<Body> {
        if is_long_running(&asked.info) {
            return self.answer(request, asked).await;
        }
        let timeout = match request_timeout(&asked.info) {
            Ok(timeout) => timeout,
            Err(error) => return respond::error(&error),
        };
        let answer = async {
            // Writes take their turn when their bodies are there. What is passed on waits for others.
            let reads = limits::reads(request.method());
            let permit = if reads && self.aggregator.services().route(&asked.info.path).is_none() {
                match self.limits.enter(request.method()).await {
                    Ok(permit) => Some(permit),
                    Err(Busy) => return limits::too_many_requests(),
                }
            } else {
                None
            };
            let headers = request.headers().get(ACCEPT_ENCODING).cloned();
            let mut response = self.answer(request, asked).await;
            if response.extensions().get::<respond::Passed>().is_none() {
                response = compress::compress(headers.as_ref(), response);
            }
            drop(permit);
            response
        };
        match tokio::time::timeout(timeout, Box::pin(answer)).await {
            Ok(response) => response,
            Err(_) => respond::error(&StatusError::new(
                Reason::Timeout,
                "Timeout: request did not complete within the allotted timeout",
            )),
        }
    }

    async fn answer(
        self: &Arc<Self>,
        mut request: Request<Body>,
        asked: Asked<'_>,
    ) -> Response<Body> {
        let Asked { caller, info, audit_id, .. } = asked.clone();
        if let Some(broken) = undetermined(&info) {
            return broken;
        }
        let user = match self.identify(request.headers_mut(), caller) {
            Ok(user) => user,
            Err(error) => {
                if let Some(trail) = self.trail(&request, &asked, &UserInfo::default()) {
                    let certificates = asked.caller.certificates();
                    let attempted = audit::attempted(request.headers(), &info, certificates);
                    trail.refused(error.code, &attempted).await;
                }
                return respond::error(&error);
            }
        };
        let trail = self.trail(&request, &asked, &user);
        if let Some(trail) = &trail {
            asked.slot.keep(trail);
            if !trail.stage(Stage::RequestReceived).await {
                return failed(&info.path, "failed to store audit event");
            }
        }
        let user = match self.impersonated(request.headers_mut(), &user, &info) {
            Ok(None) => user,
            Ok(Some(other)) => {
                trail.iter().for_each(|trail| trail.impersonate(&other));
                other
            }
            Err(error) => return respond::error(&error),
        };
        let attributes = attributes(&user, &info);
        let decision = self.authorization.authorize(&attributes);
        if let Some(trail) = &trail {
            note(trail, &decision);
        }
        if let Decision::Deny(reason) | Decision::NoOpinion(reason) = decision {
            let mut response = respond::error(&auth::forbidden(&attributes, &reason));
            let nosniff = HeaderValue::from_static("nosniff");
            let name = HeaderName::from_static("x-content-type-options");
            response.headers_mut().insert(name, nosniff);
            return response;
        }
        if let Some(service) = self.aggregator.holder(&info.path, &self.api.registry.table()) {
            let client = caller.address();
            let passing = Passing { info: &info, user: &user, client, audit_id };
            return Box::pin(self.aggregator.pass_on(&service, request, &passing)).await;
        }
        if info.is_resource {
            self.resource(request, info, user, trail.as_deref()).await
        } else {
            if info.path.starts_with("/apis") || info.path.starts_with("/openapi") {
                self.api.definitions.settled().await;
            }
            let _turn = self.nonresource.openapi.turn(&info.path).await;
            self.nonresource.answer(self, &request, &info)
        }
    }

    /// The identifier of a request in audit logs: the one that it brings, or a new one.
    fn audit_id(&self, headers: &HeaderMap) -> String {
        let given = headers.get("audit-id").and_then(|id| id.to_str().ok());
        given.filter(|id| !id.is_empty()).map_or_else(|| self.api.rng.uuid(), str::to_owned)
    }

    /// The trail of a request; none for one that is not written down.
    fn trail(
        &self,
        request: &Request<Body>,
        asked: &Asked<'_>,
        user: &UserInfo,
    ) -> Option<Arc<Trail>> {
        let audit = self.audit.as_ref()?;
        let uri = request.uri();
        let attributes = attributes(user, &asked.info);
        audit.begin(&audit::Received {
            audit_id: asked.audit_id,
            uri: uri.path_and_query().map_or(uri.path(), |all| all.as_str()),
            headers: request.headers(),
            client: asked.caller.address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            at: self.api.registry.now(),
            attributes: &attributes,
        })
    }

    /// Authentication. Credentials go no further than this.
    fn identify(
        &self,
        headers: &mut HeaderMap,
        caller: &Caller,
    ) -> Result<Arc<UserInfo>, StatusError> {
        let user = match caller {
            Caller::InProcess(user) => return Ok(user.clone()),
            Caller::Peer(peer) => {
                let credentials = auth::Credentials {
                    headers,
                    peer_certificates: &peer.certs,
                    memo: Some(&peer.memo),
                };
                self.authentication.authenticate(&credentials, self.api.registry.now())?
            }
        };
        auth::strip_credentials(headers);
        Ok(user)
    }

    /// Whom a user acts as, if somebody else.
    fn impersonated(
        &self,
        headers: &mut HeaderMap,
        user: &UserInfo,
        info: &RequestInfo,
    ) -> Result<Option<Arc<UserInfo>>, StatusError> {
        if !auth::impersonation_requested(headers) {
            return Ok(None);
        }
        let attributes = attributes(user, info);
        let other = auth::impersonate(&self.authorization, headers, &attributes)?;
        Ok(other.map(Arc::new))
    }

    /// The resource of a request; else whether its group has a router, which only built-in groups
    /// have. What definitions say holds from the moment on in which they can be read.
    async fn find(&self, info: &RequestInfo) -> Result<Arc<Served>, bool> {
        let find = || {
            let table = self.api.registry.table();
            table.get(&info.group, &info.version, &info.resource)
        };
        let found = find();
        if found.as_ref().is_some_and(|served| served.resource.custom.is_none()) {
            return found.ok_or(true);
        }
        self.api.definitions.settled().await;
        find().ok_or_else(|| {
            let built_in = |served: &Arc<Served>| {
                served.resource.group == info.group && served.resource.custom.is_none()
            };
            info.group.is_empty() || self.api.registry.table().iter().any(built_in)
        })
    }

    async fn resource(
        self: &Arc<Self>,
        request: Request<Body>,
        info: Arc<RequestInfo>,
        user: Arc<UserInfo>,
        trail: Option<&Trail>,
    ) -> Response<Body> {
        let (headers, method, cbor) = (request.headers(), request.method(), self.api.cbor);
        let served = match self.find(&info).await {
            Ok(served) => served,
            Err(known) => {
                return if known {
                    respond::unrouted(headers, cbor, &no_such_resource())
                } else {
                    respond::not_found()
                };
            }
        };
        let resource = &served.resource;
        let custom = resource.custom.is_some();
        if custom && !custom_route::exists(resource, &info) {
            return respond::not_found();
        }
        if !custom && let Err(error) = route::check(resource, &info, method, headers, cbor) {
            return respond::unrouted(headers, cbor, &error);
        }
        if let Err(error) = check_name(&info) {
            return respond::unrouted(headers, cbor, &error);
        }
        if custom && let Err(error) = custom_route::check(&served, &info, headers, cbor) {
            return respond::unrouted(headers, cbor, &error);
        }
        let shapes = route::shapes(resource, &info);
        let negotiated = match negotiate::negotiate(headers, &info, shapes, cbor) {
            Ok(negotiated) => negotiated,
            Err(error) => return respond::unrouted(headers, cbor, &error),
        };
        if !cbor && body::media_type(headers) == "application/cbor" {
            return respond::failure(&negotiated, &body::unsupported(cbor));
        }
        let mut info = info;
        if !served.resource.namespaced() {
            // The path of a namespace itself looks like a path below it.
            Arc::make_mut(&mut info).namespace.clear();
        }
        let manager = field_manager(&info, request.headers());
        let options = given(&info);
        let mut call = Call {
            api: self.api.clone(),
            served,
            info,
            negotiated,
            user,
            now: self.api.registry.now(),
            manager,
            warnings: parking_lot::Mutex::default(),
            options,
            annotations: Annotations::default(),
            conversions: Conversions::default(),
        };
        let (request, turn) = match self.turn(&call, request, trail).await {
            Ok(request) => request,
            Err(refused) => return refused,
        };
        let outcome = Box::pin(endpoints::dispatch(self, &mut call, request)).await;
        drop(turn);
        let mut response =
            outcome.unwrap_or_else(|error| respond::failure(&call.negotiated, &error));
        respond::add_warnings(&mut response, &call.warnings.lock());
        if let Some(trail) = trail {
            trail.annotate_all(&call.annotations.lock());
            if !call.served.resource.deprecated.is_empty() {
                trail.annotate("k8s.io/deprecated", "true");
            }
            if !is_long_running(&call.info) {
                let deletes = matches!(call.info.verb, "delete" | "deletecollection");
                let may_be_status = deletes || !call.info.subresource.is_empty();
                response = trail.answered(response, may_be_status).await;
            }
        }
        response
    }
}

/// What a request keeps while it runs.
type Turn<'a> = Option<(Held, SemaphorePermit<'a>)>;

impl Handler {
    /// Receives the body of a write and waits for its turn. Reads have had theirs, and streams
    /// wait for nobody.
    async fn turn(
        &self,
        call: &Call,
        request: Request<Body>,
        trail: Option<&Trail>,
    ) -> Result<(Request<Body>, Turn<'_>), Response<Body>> {
        if limits::reads(request.method()) || is_long_running(&call.info) {
            return Ok((request, None));
        }
        let (parts, body) = request.into_parts();
        let busy = |_: Busy| limits::too_many_requests();
        let received = self.limits.receive(body).await.map_err(busy)?;
        let held = received.map_err(|error| respond::failure(&call.negotiated, &error))?;
        trail.iter().for_each(|trail| trail.sent(&parts.headers, &held.bytes));
        let permit = self.limits.enter(&parts.method).await.map_err(busy)?;
        let body = crate::body::full(held.bytes.clone());
        Ok((Request::from_parts(parts, body), Some((held, permit))))
    }
}

/// 500 for a path that asks for a watch or proxy of nothing.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/requestinfo.go
fn undetermined(info: &RequestInfo) -> Option<Response<Body>> {
    let prefix = matches!(info.resource.as_str(), "watch" | "proxy") && info.name.is_empty();
    (prefix && info.is_resource).then(|| {
        let path = &info.path;
        let why = format!("unable to determine kind and namespace from url, {path}");
        failed(path, &format!("failed to create RequestInfo: {why}"))
    })
}

/// 500 for a request that the chain itself cannot take further.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go
/// InternalError
fn failed(path: &str, why: &str) -> Response<Body> {
    respond::text(500, format!("Internal Server Error: {path:?}: {why}\n"))
}

/// Writes down what was decided about a request.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/authorization.go
fn note(trail: &Trail, decision: &Decision) {
    let (decided, reason) = match decision {
        Decision::Allow(reason) => ("allow", reason),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => ("forbid", reason),
    };
    trail.annotate("authorization.k8s.io/decision", decided);
    trail.annotate("authorization.k8s.io/reason", reason);
}

/// The attributes that decide about a request.
fn attributes<'a>(user: &'a UserInfo, info: &'a RequestInfo) -> Attributes<'a> {
    // A namespace itself is also an object "in" that namespace.
    let namespace = if info.resource == "namespaces" && info.group.is_empty() {
        &info.name
    } else {
        &info.namespace
    };
    Attributes {
        user,
        verb: info.verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace,
        name: if info.name.is_empty() { selected_name(info) } else { &info.name },
        field_selector: info.param("fieldSelector"),
        path: &info.path,
        resource_request: info.is_resource,
    }
}

/// The name that a list or watch is restricted to by its field selector: with
/// it, a right to one named object is enough.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go
fn selected_name(info: &RequestInfo) -> &str {
    if !matches!(info.verb, "list" | "watch") {
        return "";
    }
    let mut parts = info.param("fieldSelector").split(',');
    parts
        .find_map(|part| part.strip_prefix("metadata.name="))
        .map_or("", |n| n.trim_start_matches('='))
}

/// Whether the name in the path can be one.
fn check_name(info: &RequestInfo) -> Result<(), StatusError> {
    match crate::registry::segment_rule(&info.name, false).first() {
        Some(why) => {
            let message = format!("Name parameter invalid: {:?}: {why}", info.name);
            Err(StatusError::bad_request(message))
        }
        None => Ok(()),
    }
}

/// 405 for a method that a path does not take.
pub fn method_not_allowed() -> StatusError {
    StatusError::new(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
}

/// 404 for a path that is no served resource.
pub fn no_such_resource() -> StatusError {
    StatusError::new(Reason::NotFound, "the server could not find the requested resource")
}

fn is_long_running(info: &RequestInfo) -> bool {
    info.verb == "watch"
        || matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// How long a request may take: clients may ask for less than the limit; 0 asks for nothing.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/request_deadline.go
fn request_timeout(info: &RequestInfo) -> Result<Duration, StatusError> {
    let text = info.param("timeout");
    if text.is_empty() {
        return Ok(REQUEST_TIMEOUT);
    }
    let wanted = longshore_api::duration::parse(text).map_err(|error| {
        let text = format!("invalid timeout specified in the request URL - {error}");
        StatusError::bad_request(text)
    })?;
    let wanted = u64::try_from(wanted).map_or(Duration::ZERO, Duration::from_nanos);
    Ok(if wanted.is_zero() { REQUEST_TIMEOUT } else { wanted.min(REQUEST_TIMEOUT) })
}

/// What discovery answers for a path, if it is a discovery path.
pub(crate) fn discovery_answer(handler: &Handler, path: &str) -> Option<serde_json::Value> {
    let table = handler.api.registry.table();
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    match segments.as_slice() {
        ["api"] => Some(discovery::core_versions(&handler.nonresource.address)),
        ["api", "v1"] => discovery::resource_list(&table, "", "v1"),
        ["apis"] => Some(discovery::group_list(&table, &handler.aggregator.told())),
        ["apis", group] => discovery::group(&table, &handler.aggregator.told(), group),
        ["apis", group, version] => discovery::resource_list(&table, group, version),
        _ => None,
    }
}
