//! Claims that ask for more than they have: whoever made their volume is to make it larger.
//!
//! upstream: pkg/controller/volume/expand/expand_controller.go

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_client::Queue;
use longshore_client::recorder::Severity;
use longshore_client::resource::PERSISTENT_VOLUME_CLAIMS;
use longshore_client::workers;

use crate::Context;
use crate::common::{Key, key_of};

pub(crate) fn start(ctx: Context) {
    let (queue, claims) = (Queue::new(), ctx.caches.get(PERSISTENT_VOLUME_CLAIMS));
    let again = queue.clone();
    claims.on_change(move |change| {
        if wants_more(change.object()) {
            again.add(key_of(change.object()));
        }
    });
    let shutdown = ctx.shutdown.clone();
    let name = "persistentvolume-expander-controller";
    workers::run(name, queue, 1, &shutdown, move |key: Key| {
        let (ctx, claims) = (ctx.clone(), claims.clone());
        async move {
            let claim = claims.get(&key.0, &key.1).filter(|claim| wants_more(claim));
            if let Some(claim) = claim {
                // All drivers are outside of this process.
                let text = "waiting for an external controller to expand this PVC";
                ctx.recorder.event(&claim, Severity::Normal, "ExternalExpanding", text);
            }
            Ok(None)
        }
    });
}

fn wants_more(claim: &Object) -> bool {
    let size = |path: &[&str]| Quantity::parse(claim.str(path)).map_or(0, |q| q.value());
    let asked = size(&["spec", "resources", "requests", "storage"]);
    claim.str(&["status", "phase"]) == "Bound" && asked > size(&["status", "capacity", "storage"])
}
