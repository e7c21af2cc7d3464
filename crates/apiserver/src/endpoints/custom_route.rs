//! Which paths and methods of custom resources there are. They have no router: what it would
//! refuse is refused by the handlers, in other words.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go
//! ServeHTTP

use http::HeaderMap;
use longshore_api::StatusError;
use longshore_resources::Resource;

use super::patch;
use crate::registry::Served;
use crate::request_info::RequestInfo;

/// Whether a path is one of a resource at all.
pub fn exists(resource: &Resource, info: &RequestInfo) -> bool {
    if resource.namespaced() {
        !info.namespace.is_empty() || matches!(info.verb, "list" | "watch")
    } else {
        info.namespace.is_empty()
    }
}

/// Checks subresource, method and name of a request.
///
/// # Errors
/// 404, 405, 415 and 400, in this order.
pub fn check(
    served: &Served,
    info: &RequestInfo,
    headers: &HeaderMap,
    cbor: bool,
) -> Result<(), StatusError> {
    let resource = &served.resource;
    let (group, plural, verb) = (&resource.group, &resource.plural, info.verb);
    let verbs = if info.subresource.is_empty() {
        &resource.verbs
    } else {
        let sub = resource.subresource(&info.subresource);
        &sub.ok_or_else(|| StatusError::not_found(group, plural, &info.name))?.verbs
    };
    if !verbs.iter().any(|known| known == verb) {
        return Err(StatusError::method_not_supported(group, plural, verb));
    }
    if verb == "patch" {
        patch::check_custom_type(headers, cbor)?;
    }
    if matches!(verb, "update" | "patch") && info.name.is_empty() {
        return Err(StatusError::bad_request("name must be provided"));
    }
    Ok(())
}
