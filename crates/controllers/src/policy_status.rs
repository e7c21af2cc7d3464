//! Validating admission policies tell what is odd about their expressions.
//!
//! upstream: pkg/controller/validatingadmissionpolicystatus/controller.go

use http::Method;
use longshore_api::Object;
use longshore_client::resource::VALIDATING_ADMISSION_POLICIES;
use longshore_client::{Error, Patch, Queue, workers};
use longshore_resources::rules::typecheck::{self, Served};
use serde_json::json;

use crate::Context;
use crate::common::{Key, gone_is_fine, key_of};

/// Who manages the status.
const MANAGER: &str = "validatingadmissionpolicy-status";

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let policies = ctx.caches.get(VALIDATING_ADMISSION_POLICIES);
    let changed = queue.clone();
    policies.on_change(move |change| changed.add(key_of(change.object())));
    let shutdown = ctx.shutdown.clone();
    workers::run("policy status", queue, 1, &shutdown, move |key: Key| {
        let (ctx, policies) = (ctx.clone(), policies.clone());
        async move {
            policies.synced().await;
            let Some(policy) = policies.get("", &key.1) else { return Ok(None) };
            let generation = policy.int(&["metadata", "generation"]).unwrap_or(0);
            if generation <= policy.int(&["status", "observedGeneration"]).unwrap_or(0) {
                return Ok(None);
            }
            let warnings = typecheck::check(&policy, &served(&ctx, &policy).await?);
            let checking = match &warnings[..] {
                [] => json!({}),
                warnings => json!({ "expressionWarnings": warnings }),
            };
            let fields = json!({
                "apiVersion": VALIDATING_ADMISSION_POLICIES.api_version(),
                "kind": VALIDATING_ADMISSION_POLICIES.kind,
                "metadata": {"name": key.1},
                "status": {"observedGeneration": generation, "typeChecking": checking},
            });
            let patch = Patch::Apply { manager: MANAGER, fields };
            let written =
                ctx.client.patch(VALIDATING_ADMISSION_POLICIES, "", &key.1, "status", &patch).await;
            if let Some(written) = gone_is_fine(written)? {
                policies.wait_for(&written).await;
            }
            Ok(None)
        }
    });
}

/// What the server tells of the kinds of a policy that are not built in.
async fn served(ctx: &Context, policy: &Object) -> Result<Vec<Served>, Error> {
    let mut served = Vec::new();
    for (group, version) in typecheck::foreign(policy) {
        let place = format!("apis/{group}/{version}");
        let resources = ctx.client.raw(Method::GET, &format!("/{place}"), None).await;
        let Some(resources) = gone_is_fine(resources)? else { continue };
        let document = ctx.client.raw(Method::GET, &format!("/openapi/v3/{place}"), None).await;
        let Some(document) = gone_is_fine(document)? else { continue };
        served.push(Served { group, version, resources, document });
    }
    Ok(served)
}
