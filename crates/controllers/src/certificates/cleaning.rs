//! Requests that are answered, or that nobody answers, are removed after a while.
//!
//! upstream: pkg/controller/certificates/cleaner/cleaner.go

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use longshore_api::Object;
use longshore_client::resource::CERTIFICATE_SIGNING_REQUESTS;
use longshore_client::workers::Outcome;
use serde_json::json;

use crate::Context;
use crate::common::gone_is_fine;

/// How long answered requests stay.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
/// How long others stay.
const OPEN: SignedDuration = SignedDuration::from_hours(24);

pub(crate) fn start(ctx: Context) {
    super::run(ctx, "certificatesigningrequest-cleaner-controller", sync);
}

async fn sync(ctx: Context, request: Arc<Object>) -> Outcome {
    let Some(end) = end_of_life(&request) else { return Ok(None) };
    let left = end.duration_since(ctx.clock.now());
    if left.is_positive() {
        return Ok(Some(Duration::try_from(left).unwrap_or_default()));
    }
    let options = json!({ "preconditions": { "uid": request.uid() } });
    let of = CERTIFICATE_SIGNING_REQUESTS;
    gone_is_fine(ctx.client.delete(of, "", request.name(), options).await)?;
    Ok(None)
}

/// When a request is to be removed: the first of its reasons counts.
fn end_of_life(request: &Object) -> Option<Timestamp> {
    let conditions = request.list(&["status", "conditions"]);
    let issued = !request.str(&["status", "certificate"]).is_empty();
    let mut ends = Vec::new();
    if conditions.is_empty() {
        let made: Option<Timestamp> = request.str(&["metadata", "creationTimestamp"]).parse().ok();
        ends.extend(made.and_then(|made| made.checked_add(OPEN).ok()));
    }
    for condition in conditions {
        let at: Option<Timestamp> =
            condition["lastUpdateTime"].as_str().and_then(|t| t.parse().ok());
        let stays = match condition["type"].as_str() {
            Some("Denied" | "Failed") => ANSWERED,
            Some("Approved") if issued => ANSWERED,
            Some("Approved") => OPEN,
            _ => continue,
        };
        ends.extend(at.and_then(|at| at.checked_add(stays).ok()));
        if issued && condition["type"] == "Approved" {
            ends.extend(expires(request.str(&["status", "certificate"])));
        }
    }
    ends.into_iter().min()
}

/// When a certificate in PEM and base64 ends.
fn expires(certificate: &str) -> Option<Timestamp> {
    let pem = STANDARD.decode(certificate).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_end() {
        let at = "2026-01-01T00:00:00Z";
        let end = |status: serde_json::Value| {
            let request = json!({
                "metadata": { "creationTimestamp": at }, "status": status,
            });
            let end = end_of_life(&Object::from_value(request).unwrap());
            end.map(|end| end.duration_since(at.parse().unwrap()).as_hours())
        };
        let condition = |kind: &str| json!([{ "type": kind, "lastUpdateTime": at }]);
        assert_eq!(end(json!({})), Some(24));
        assert_eq!(end(json!({ "conditions": condition("Denied") })), Some(1));
        assert_eq!(end(json!({ "conditions": condition("Failed") })), Some(1));
        assert_eq!(end(json!({ "conditions": condition("Approved") })), Some(24));
        let issued = json!({ "conditions": condition("Approved"), "certificate": "eA==" });
        assert_eq!(end(issued), Some(1));
        assert_eq!(end(json!({ "conditions": condition("Else") })), None);
    }
}
