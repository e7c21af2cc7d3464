//! Requests of nodes are approved when who asks for them may have them.
//!
//! upstream: pkg/controller/certificates/approver/sarapprove.go

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_api::Object;
use longshore_client::Error;
use longshore_client::resource::{CERTIFICATE_SIGNING_REQUESTS, SUBJECT_ACCESS_REVIEWS};
use longshore_client::workers::Outcome;
use serde_json::{Value, json};

use super::{NODE_CLIENT, add_condition, check_node_client, facts, has, pem, usages};
use crate::Context;
use crate::common::gone_is_fine;

/// When to ask again whether somebody may have a certificate: after as long as the request is old, within these.
///
/// upstream: pkg/controller/certificates/certificate_controller.go
const AGAIN_MIN: SignedDuration = SignedDuration::from_secs(1);
const AGAIN_MAX: SignedDuration = SignedDuration::from_secs(1000);

pub(crate) fn start(ctx: Context) {
    super::run(ctx, "certificatesigningrequest-approving-controller", sync);
}

async fn sync(ctx: Context, request: Arc<Object>) -> Outcome {
    let done = !request.str(&["status", "certificate"]).is_empty();
    if done || has(&request, "Approved") || has(&request, "Denied") {
        return Ok(None);
    }
    if request.str(&["spec", "signerName"]) != NODE_CLIENT {
        return Ok(None);
    }
    let Ok(facts) = facts(&pem(&request)) else { return Ok(None) };
    if check_node_client(&facts, &usages(&request)).is_err() {
        return Ok(None);
    }
    let own = facts.common_name == request.str(&["spec", "username"]);
    let tries = [
        (own, "selfnodeclient", "Auto approving self kubelet client certificate"),
        (true, "nodeclient", "Auto approving kubelet client certificate"),
    ];
    for (.., subresource, message) in tries.into_iter().filter(|(fits, ..)| *fits) {
        if may(&ctx, &request, subresource).await? {
            let message = format!("{message} after SubjectAccessReview.");
            return approve(&ctx, &request, &message).await;
        }
    }
    // Who asks may be given the right later on.
    let made: Option<Timestamp> = request.str(&["metadata", "creationTimestamp"]).parse().ok();
    let age = made.map_or(AGAIN_MAX, |made| ctx.clock.now().duration_since(made));
    Ok(Some(Duration::try_from(age.clamp(AGAIN_MIN, AGAIN_MAX)).unwrap_or_default()))
}

/// Whether who asks may have such a certificate.
async fn may(ctx: &Context, request: &Object, subresource: &str) -> Result<bool, Error> {
    let spec = |key: &str| request.get(&["spec", key]).cloned().unwrap_or(Value::Null);
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": spec("username"), "uid": spec("uid"), "groups": spec("groups"),
            "extra": spec("extra"),
            "resourceAttributes": {
                "group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                "subresource": subresource, "verb": "create", "version": "*",
            },
        },
    });
    let answer = ctx.client.create(SUBJECT_ACCESS_REVIEWS, &review).await?;
    Ok(answer.bool(&["status", "allowed"]))
}

async fn approve(ctx: &Context, request: &Object, message: &str) -> Outcome {
    let mut approved = request.clone();
    add_condition(
        &mut approved,
        json!({
            "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message,
        }),
    );
    let of = CERTIFICATE_SIGNING_REQUESTS;
    let written = ctx.client.update_subresource(of, "approval", &approved).await;
    gone_is_fine(written)?;
    Ok(None)
}
