//! Workers on a queue: the loop that every controller shares.

use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use longshore_base::{Shutdown, TaskKind};

use crate::queue::Queue;

/// What a controller says after it looked at a key.
pub type Outcome = Result<Option<Duration>, crate::error::Error>;

/// Runs `count` workers until shutdown. `sync` brings the world behind a key to where it should be;
/// it gives the time after which to look again, if there is one. A failure is logged and tried
/// again, later each time.
pub fn run<T, F, S>(name: &'static str, queue: Queue<T>, count: usize, shutdown: &Shutdown, sync: S)
where
    T: Clone + Eq + Hash + Send + Sync + std::fmt::Debug + 'static,
    F: Future<Output = Outcome> + Send,
    S: Fn(T) -> F + Clone + Send + Sync + 'static,
{
    for _ in 0..count {
        let (queue, sync, shutdown) = (queue.clone(), sync.clone(), shutdown.clone());
        longshore_base::spawn(TaskKind::Critical, name, async move {
            loop {
                let key = tokio::select! {
                    () = shutdown.cancelled() => return,
                    key = queue.next() => key,
                };
                let Some(key) = key else { return };
                match sync(key.clone()).await {
                    Ok(again) => {
                        queue.forget(&key);
                        if let Some(after) = again {
                            queue.add_after(key.clone(), after);
                        }
                    }
                    Err(error) if error.is_conflict() => {
                        tracing::debug!(controller = name, ?key, %error, "lost a race, again");
                        queue.add_rate_limited(key.clone());
                    }
                    Err(error) => {
                        tracing::warn!(controller = name, ?key, %error, "not yet, again later");
                        queue.add_rate_limited(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }
}
