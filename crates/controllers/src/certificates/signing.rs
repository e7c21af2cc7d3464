//! Approved requests for the cluster's own signers are signed, or refused when they ask for too much.
//!
//! upstream: pkg/controller/certificates/signer/signer.go

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use longshore_api::{Object, StatusError};
use longshore_client::Error;
use longshore_client::resource::CERTIFICATE_SIGNING_REQUESTS;
use longshore_client::workers::Outcome;
use serde_json::json;

use super::{
    CLIENT, NODE_CLIENT, NODE_SERVING, Wanted, add_condition, check_node_client,
    check_node_serving, facts, has, pem, usages,
};
use crate::Context;
use crate::common::{gone_is_fine, rfc3339};

/// The longest that a certificate is good for.
///
/// upstream: pkg/controller/certificates/signer/config/v1alpha1 ClusterSigningDuration
const LIFETIME_MAX: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The shortest.
const LIFETIME_MIN: SignedDuration = SignedDuration::from_mins(10);

pub(crate) fn start(ctx: Context) {
    super::run(ctx, "certificatesigningrequest-signing-controller", sync);
}

async fn sync(ctx: Context, request: Arc<Object>) -> Outcome {
    let done = !request.str(&["status", "certificate"]).is_empty();
    let approved = has(&request, "Approved") && !has(&request, "Denied");
    if done || !approved || has(&request, "Failed") {
        return Ok(None);
    }
    let Some(check) = check_of(request.str(&["spec", "signerName"])) else { return Ok(None) };
    let pem = pem(&request);
    let facts = facts(&pem).map_err(|why| failed(request.name(), &why))?;
    let usages = usages(&request);
    let mut changed = Object::clone(&request);
    match check(&facts, &usages) {
        Err(why) => add_condition(
            &mut changed,
            json!({
                "type": "Failed", "status": "True", "reason": "SignerValidationFailure",
                "message": why, "lastUpdateTime": rfc3339(ctx.clock.now()),
            }),
        ),
        Ok(()) => {
            let wanted = Wanted {
                request: pem,
                usages: usages.into_iter().map(str::to_owned).collect(),
                lifetime: lifetime(request.int(&["spec", "expirationSeconds"])),
                now: ctx.clock.now(),
            };
            let issued = (ctx.config.issuer.0)(&wanted);
            let issued = issued.map_err(|why| failed(request.name(), &why))?;
            changed.set(&["status", "certificate"], STANDARD.encode(issued));
        }
    }
    let written = ctx.client.update_status(CERTIFICATE_SIGNING_REQUESTS, &changed).await;
    gone_is_fine(written)?;
    Ok(None)
}

fn failed(name: &str, why: &str) -> Error {
    let why = format!("cannot sign the request {name:?}: {why}");
    StatusError::internal(why).into()
}

type Check = fn(&super::Facts, &[&str]) -> Result<(), String>;

/// What a signer asks of its requests; `None` for signers of others.
fn check_of(signer: &str) -> Option<Check> {
    match signer {
        CLIENT => Some(|_, usages| check_client(usages)),
        NODE_CLIENT => {
            Some(|facts, usages| check_node_client(facts, usages).map_err(str::to_owned))
        }
        NODE_SERVING => {
            Some(|facts, usages| check_node_serving(facts, usages).map_err(str::to_owned))
        }
        _ => None,
    }
}

fn check_client(usages: &[&str]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(usage)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.contains(&"client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

/// How long a certificate is good for, of what was asked for.
fn lifetime(asked: Option<i64>) -> SignedDuration {
    let asked = asked.map_or(LIFETIME_MAX, SignedDuration::from_secs);
    asked.clamp(LIFETIME_MIN, LIFETIME_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_limits() {
        assert_eq!(lifetime(None), LIFETIME_MAX);
        assert_eq!(lifetime(Some(1)), LIFETIME_MIN);
        assert_eq!(lifetime(Some(7200)), SignedDuration::from_hours(2));
        assert_eq!(lifetime(Some(i64::from(i32::MAX))), LIFETIME_MAX);
    }

    #[test]
    fn clients_are_clients_only() {
        assert_eq!(check_client(&["client auth", "digital signature"]), Ok(()));
        assert!(check_client(&["digital signature"]).is_err());
        assert!(check_client(&["client auth", "server auth"]).is_err());
    }
}
