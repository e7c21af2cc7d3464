//! What happens to a request once it is known whose it is and what it may do: one function for
//! each verb, the same for every resource.
//!
//! Invariant: an endpoint has no authorizer in scope; who may call it was decided before.

pub mod apply;
pub mod body;
pub mod compress;
pub mod connect;
pub mod continue_token;
pub mod custom_route;
pub mod kind_check;
mod list_body;
pub mod list_options;
pub mod negotiate;
pub mod options;
pub mod patch;
pub mod pods;
pub mod read;
pub mod respond;
pub mod reviews;
pub mod route;
pub mod scale;
pub mod selected;
pub mod table;
pub mod watch;
pub mod wire;
pub mod write;

use std::sync::Arc;

use http::{Request, Response};
use jiff::Timestamp;
use longshore_api::{Object, StatusError};
use longshore_base::rng::Rng;
use serde_json::Value;

use crate::admission::{Annotations, Extras};
use crate::auth::UserInfo;
use crate::body::Body;
use crate::cache::{Entry, Pins};
use crate::custom::{Definitions, convert};
use crate::handler::{Handler, method_not_allowed, no_such_resource};
use crate::limits::Watches;
use crate::registry::{Conversions, Registry, Served, WriteContext, show};
use crate::request_info::RequestInfo;
use negotiate::Negotiated;

/// What all endpoints share.
pub struct Api {
    /// The objects.
    pub registry: Registry,
    /// Tells whether the table is what the definitions of custom resources say.
    pub definitions: Definitions,
    /// Snapshots that lists continue on.
    pub pins: Pins,
    /// The open watches.
    pub watches: Watches,
    /// Randomness, for spreading time-outs.
    pub rng: Arc<dyn Rng>,
    /// Whether CBOR is served. Off in upstream by default.
    ///
    /// upstream: feature gate CBORServingAndStorage
    pub cbor: bool,
    /// What conversion webhooks are called with.
    pub conversions: convert::Tools,
}

/// One request to a resource.
pub struct Call {
    /// What endpoints share.
    pub api: Arc<Api>,
    /// The resource.
    pub served: Arc<Served>,
    /// The request line.
    pub info: Arc<RequestInfo>,
    /// How to answer.
    pub negotiated: Negotiated,
    /// The requester.
    pub user: Arc<UserInfo>,
    /// When the request came.
    pub now: Timestamp,
    /// Whose the changes of this request are.
    pub manager: String,
    /// Texts for `Warning` headers.
    pub warnings: parking_lot::Mutex<Vec<String>>,
    /// Its options as admission is told them; those of deletions are in their bodies.
    pub options: Value,
    /// Texts for the audit log.
    pub annotations: Annotations,
    /// Its objects in other versions.
    pub conversions: Conversions,
}

impl Call {
    /// An entry as this request sees it: in the version of its path.
    ///
    /// # Errors
    /// When a webhook does not convert it.
    pub async fn shown(&self, entry: &Entry) -> Result<Object, StatusError> {
        show(&self.served, entry.object()).await
    }

    /// What the registry is told about this request.
    pub fn write_context(&self, dry_run: bool) -> WriteContext<'_> {
        WriteContext {
            served: &self.served,
            user: &self.user,
            now: self.now,
            namespace: &self.info.namespace,
            subresource: &self.info.subresource,
            manager: Some(&self.manager),
            dry_run,
            warnings: &self.warnings,
            extras: Extras {
                options: Some(&self.options),
                annotations: Some(&self.annotations),
                conversions: Some(&self.conversions),
                facade: None,
            },
        }
    }
}

/// Runs the endpoint of a request.
pub async fn dispatch(
    handler: &Arc<Handler>,
    call: &mut Call,
    request: Request<Body>,
) -> Result<Response<Body>, StatusError> {
    let resource = call.served.resource.clone();
    let verb = call.info.verb;
    let allowed = match resource.subresource(&call.info.subresource) {
        // OPTIONS has no verb, and goes to what is behind a proxy.
        Some(sub) => {
            sub.verbs.iter().any(|v| v == verb) || (sub.name == "proxy" && verb.is_empty())
        }
        None if call.info.subresource.is_empty() => resource.has_verb(verb),
        None => return Err(no_such_resource()),
    };
    if !allowed {
        return Err(method_not_allowed());
    }
    if !resource.deprecated.is_empty() {
        call.warnings.lock().push(resource.deprecated.to_string());
    }
    if connect::is_stream(&call.info.subresource) {
        return connect::connect(call, handler.kubelets.as_ref(), request).await;
    }
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    match (&*call.info.resource, &*call.info.subresource, verb) {
        ("bindings", "", "create") | ("pods", "binding", "create") => {
            return pods::bind(call, headers, body).await;
        }
        ("serviceaccounts", "token", "create") => {
            return reviews::token(handler, call, headers, body).await;
        }
        (_, "scale", "get") => return scale::get(call).await,
        (_, "scale", _) => return scale::write(call, headers, body).await,
        (_, "", "create") if resource.storage.is_empty() => {
            return reviews::create(handler, call, headers, body).await;
        }
        ("pods", "eviction", "create") => return pods::evict(call, headers, body).await,
        _ => {}
    }
    match verb {
        "get" => read::get(call).await,
        "list" => read::list(call).await,
        "watch" => watch::watch(call).await,
        "create" => write::create(call, headers, body).await,
        "update" => write::update(call, headers, body).await,
        "patch" => patch::patch(call, headers, body).await,
        "delete" => write::delete(call, headers, body).await,
        "deletecollection" => write::delete_collection(call, headers, body).await,
        other => Err(StatusError::bad_request(format!("the verb {other:?} is not known"))),
    }
}
