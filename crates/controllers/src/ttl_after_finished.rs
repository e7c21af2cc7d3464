//! Finished jobs are deleted when their time to live is over.
//!
//! upstream: pkg/controller/ttlafterfinished

use std::time::Duration;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_client::Queue;
use longshore_client::resource::JOBS;
use longshore_client::workers;
use serde_json::json;

use crate::Context;
use crate::common::{Key, follow, gone_is_fine};

pub(crate) fn start(ctx: Context) {
    let (queue, jobs) = (Queue::new(), ctx.caches.get(JOBS));
    follow(&jobs, &queue);
    let shutdown = ctx.shutdown.clone();
    workers::run("ttl-after-finished-controller", queue, 2, &shutdown, move |key: Key| {
        let (ctx, jobs) = (ctx.clone(), jobs.clone());
        async move {
            let Some(job) = jobs.get(&key.0, &key.1) else { return Ok(None) };
            let Some(end) = end_of_life(&job) else { return Ok(None) };
            let left = end - ctx.clock.now().as_second();
            if left > 0 {
                return Ok(Some(Duration::from_secs(left.unsigned_abs())));
            }
            let options = json!({
                "propagationPolicy": "Foreground", "preconditions": { "uid": job.uid() },
            });
            gone_is_fine(ctx.client.delete(JOBS, &key.0, &key.1, options).await)?;
            Ok(None)
        }
    });
}

/// The second in which a finished job is to be deleted.
fn end_of_life(job: &Object) -> Option<i64> {
    let ttl = job.int(&["spec", "ttlSecondsAfterFinished"])?;
    if job.is_deleting() || !crate::job::is_finished(job) {
        return None;
    }
    let ends = job
        .list(&["status", "conditions"])
        .iter()
        .filter(|c| c["status"] == "True" && (c["type"] == "Complete" || c["type"] == "Failed"));
    let last = ends.filter_map(|c| c["lastTransitionTime"].as_str()?.parse::<Timestamp>().ok());
    Some(last.max()?.as_second() + ttl)
}
