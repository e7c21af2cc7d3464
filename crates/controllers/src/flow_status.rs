//! Flow schemas tell whether their priority level is there.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/util/flowcontrol/apf_controller.go
//! presyncFlowSchemaStatus

use longshore_client::resource::{FLOW_SCHEMAS, PRIORITY_LEVELS};
use longshore_client::{Patch, Queue, workers};
use serde_json::json;

use crate::Context;
use crate::common::{Key, gone_is_fine, key_of, rfc3339};

/// Who manages the condition.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (schemas, levels) = (ctx.caches.get(FLOW_SCHEMAS), ctx.caches.get(PRIORITY_LEVELS));
    let changed = queue.clone();
    schemas.on_change(move |change| changed.add(key_of(change.object())));
    let (again, all) = (queue.clone(), schemas.clone());
    levels.on_change(move |change| {
        let level = change.object().name().to_owned();
        let path = ["spec", "priorityLevelConfiguration", "name"];
        for schema in all.list().iter().filter(|schema| schema.str(&path) == level) {
            again.add(key_of(schema));
        }
    });
    let shutdown = ctx.shutdown.clone();
    workers::run("flow schema status", queue, 1, &shutdown, move |key: Key| {
        let (ctx, schemas, levels) = (ctx.clone(), schemas.clone(), levels.clone());
        async move {
            schemas.synced().await;
            levels.synced().await;
            let Some(schema) = schemas.get("", &key.1) else { return Ok(None) };
            let level = schema.str(&["spec", "priorityLevelConfiguration", "name"]);
            let found = levels.get("", level).is_some();
            let (status, reason, how) = if found {
                ("False", "Found", "and it exists")
            } else {
                ("True", "NotFound", "but there is no such object")
            };
            let message = format!(
                "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {how}"
            );
            let conditions = schema.list(&["status", "conditions"]);
            let present = conditions.iter().find(|condition| condition["type"] == "Dangling");
            let mut condition = json!({
                "type": "Dangling", "status": status, "reason": reason, "message": message,
                "lastTransitionTime": rfc3339(ctx.clock.now()),
            });
            if let Some(present) = present {
                if present["status"] == status {
                    condition["lastTransitionTime"] = present["lastTransitionTime"].clone();
                }
                if *present == condition {
                    return Ok(None);
                }
            }
            let fields = json!({
                "apiVersion": FLOW_SCHEMAS.api_version(), "kind": FLOW_SCHEMAS.kind,
                "metadata": {"name": key.1},
                "status": {"conditions": [condition]},
            });
            let patch = Patch::Apply { manager: MANAGER, fields };
            let written = ctx.client.patch(FLOW_SCHEMAS, "", &key.1, "status", &patch).await;
            if let Some(written) = gone_is_fine(written)? {
                schemas.wait_for(&written).await;
            }
            Ok(None)
        }
    });
}
