//! `serviceaccounts/NAME/token`: what a client may ask for.
//!
//! upstream: pkg/registry/core/serviceaccount/storage/token.go

use jiff::{SignedDuration, Timestamp};
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::gvk::split_api_version;
use longshore_api::{Object, StatusError};
use serde_json::Value;
use std::sync::Arc;

use super::token::{TokenIssuer, TokenSpec};
use crate::reader::Reader;

/// The API group of token requests.
const GROUP: &str = "authentication.k8s.io";
/// Pods ask for tokens of this length; they get long ones and a note when they outlive it.
const WARN_ONLY_SECONDS: i64 = 3_607;
/// How long those really live.
const EXTENDED_SECONDS: i64 = 365 * 86_400;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
/// Length of a token when none is asked for; also filled by the schema's defaults.
const SECONDS_DEFAULT: i64 = 3_600;

/// Answers a token request: `request` (decoded and defaulted) becomes the response. `name` and
/// `namespace` are those of the path. With `dry_run` nothing differs: tokens are not stored.
pub fn create_token(
    issuer: &TokenIssuer,
    reader: &dyn Reader,
    namespace: &str,
    name: &str,
    request: &mut Object,
    now: Timestamp,
) -> Result<(), StatusError> {
    check_names(namespace, name, request)?;
    let account = reader
        .get("", "serviceaccounts", namespace, name)
        .ok_or_else(|| StatusError::not_found("", "serviceaccounts", name))?;
    let uid = request.uid().to_owned();
    if !uid.is_empty() && uid != account.uid() {
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({})",
            account.uid()
        );
        return Err(StatusError::conflict(GROUP, "TokenRequest", name, &why));
    }
    if request.list(&["spec", "audiences"]).is_empty() {
        request.set(&["spec", "audiences"], issuer.audiences().to_vec());
    }
    if request.get(&["spec", "expirationSeconds"]).is_none() {
        request.set(&["spec", "expirationSeconds"], SECONDS_DEFAULT);
    }
    for (key, value) in [
        ("name", account.name()),
        ("namespace", account.namespace()),
        ("uid", account.uid()),
        ("creationTimestamp", &time_text(now)),
    ] {
        request.set(&["metadata", key], value);
    }
    if request.get(&["spec", "boundObjectRef"]).is_none() {
        request.set(&["spec", "boundObjectRef"], Value::Null);
    }
    let errors = validate(request);
    if !errors.is_empty() {
        return Err(StatusError::invalid(GROUP, "TokenRequest", "", &errors));
    }
    let bound = Bound::find(reader, namespace, name, request)?;
    let requested = request.int(&["spec", "expirationSeconds"]).unwrap_or(SECONDS_DEFAULT);
    let audiences: Vec<String> = request
        .list(&["spec", "audiences"])
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let own = audiences.iter().all(|a| issuer.audiences().contains(a));
    let extended = bound.pod.is_some() && requested == WARN_ONLY_SECONDS && own;
    let spec = TokenSpec {
        account: &account,
        pod: bound.pod.as_deref(),
        secret: bound.secret.as_deref(),
        node: bound.node.as_ref().map(|(name, uid)| (name.as_str(), uid.as_str())),
        audiences: &audiences,
        seconds: if extended { EXTENDED_SECONDS } else { requested },
        warn_after: if extended { requested } else { 0 },
    };
    let token = issuer
        .issue(&spec, now)
        .map_err(|error| StatusError::internal(format!("failed to generate token: {error}")))?;
    let end = now.saturating_add(SignedDuration::from_secs(requested)).unwrap_or(Timestamp::MAX);
    request.root_mut().remove("status");
    request.set(&["status", "token"], token);
    request.set(&["status", "expirationTimestamp"], time_text(end));
    Ok(())
}

/// A time as API objects write it: whole seconds, UTC.
fn time_text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn check_names(namespace: &str, name: &str, request: &Object) -> Result<(), StatusError> {
    for (key, own, wanted) in
        [("name", request.name(), name), ("namespace", request.namespace(), namespace)]
    {
        if !own.is_empty() && own != wanted {
            let error = Error::invalid(
                &Path::new("metadata").child(key),
                own,
                &format!("must match the service account {key} if specified"),
            );
            return Err(StatusError::invalid(GROUP, "TokenRequest", name, &[error]));
        }
    }
    Ok(())
}

// upstream: pkg/apis/authentication/validation/validation.go
fn validate(request: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec").child("expirationSeconds");
    let seconds = request.int(&["spec", "expirationSeconds"]).unwrap_or(0);
    if seconds < SECONDS_MIN {
        let text = "may not specify a duration less than 10 minutes";
        errors.push(Error::invalid(&path, seconds, text));
    }
    if seconds > SECONDS_MAX {
        let text = "may not specify a duration larger than 2^32 seconds";
        errors.push(Error::invalid(&path, seconds, text));
    }
    errors
}

#[derive(Default)]
struct Bound {
    pod: Option<Arc<Object>>,
    secret: Option<Arc<Object>>,
    /// Name and uid; the uid is empty for a pod's node that does not exist.
    node: Option<(String, String)>,
}

impl Bound {
    fn find(
        reader: &dyn Reader,
        namespace: &str,
        account: &str,
        request: &Object,
    ) -> Result<Self, StatusError> {
        let mut bound = Self::default();
        let reference = ["spec", "boundObjectRef"];
        let Some(reference) = request.get(&reference).filter(|r| r.is_object()) else {
            return Ok(bound);
        };
        let text = |key: &str| reference[key].as_str().unwrap_or("");
        let (kind, name) = (text("kind"), text("name"));
        let (group, version) = split_api_version(text("apiVersion")).unwrap_or(("", ""));
        let (resource, scope) = match (group, kind) {
            ("", "Pod") => ("pods", namespace),
            ("", "Node") => ("nodes", ""),
            ("", "Secret") => ("secrets", namespace),
            _ => {
                return Err(StatusError::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        if name.is_empty() {
            return Err(StatusError::bad_request("Name parameter required."));
        }
        let object = reader
            .get("", resource, scope, name)
            .ok_or_else(|| StatusError::not_found("", resource, name))?;
        if kind == "Pod" && object.str(&["spec", "serviceAccountName"]) != account {
            return Err(StatusError::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different \
                 serviceaccount name."
            )));
        }
        if !text("uid").is_empty() && text("uid") != object.uid() {
            let why = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The \
                 object might have been deleted and then recreated",
                text("uid")
            );
            return Err(StatusError::conflict("", kind, name, &why));
        }
        match kind {
            "Pod" => {
                let node = object.str(&["spec", "nodeName"]);
                if !node.is_empty() {
                    let uid = reader.get("", "nodes", "", node);
                    let uid = uid.map_or_else(String::new, |node| node.uid().to_owned());
                    bound.node = Some((node.to_owned(), uid));
                }
                bound.pod = Some(object);
            }
            "Node" => bound.node = Some((name.to_owned(), object.uid().to_owned())),
            _ => bound.secret = Some(object),
        }
        Ok(bound)
    }
}
