//! Tells of every object of a resource that is there, and of every change after.

use std::sync::Arc;
use std::time::Duration;

use longshore_base::{Shutdown, TaskKind};

use crate::cache::{Entry, Interest, ResourceCache};

/// How long until a resource is followed again that could not be.
const AGAIN: Duration = Duration::from_millis(100);

/// Calls `changed` for every object that is of interest, and again when it changes or goes.
pub(crate) fn follow(
    cache: Arc<ResourceCache>,
    interest: Interest,
    shutdown: &Shutdown,
    changed: impl Fn(&Entry) + Send + Sync + 'static,
) {
    let stop = shutdown.clone();
    let following = async move {
        loop {
            if let Ok((mut changes, present, _)) = cache.watch(None, interest.clone()) {
                present.select(&interest).iter().for_each(|entry| changed(entry));
                while let Some((_, change)) = changes.next().await {
                    changed(&change.entry);
                }
            }
            // The changes came too fast; all of them are in what is there then.
            tokio::time::sleep(AGAIN).await;
        }
    };
    longshore_base::spawn(TaskKind::Critical, "api services", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = following => {}
        }
    });
}
