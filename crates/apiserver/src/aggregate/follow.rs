//! Tells of every object of a resource that is there, and of every change after.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longshore_base::{Shutdown, TaskKind};

use crate::cache::{ChangeKind, Entry, Interest, ResourceCache};

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
        // What was told to be there: it may go while nobody looks.
        let mut known: HashMap<Bytes, Arc<Entry>> = HashMap::new();
        loop {
            if let Ok((mut changes, present, _)) = cache.watch(None, interest.clone()) {
                let mut before = std::mem::take(&mut known);
                for entry in present.select(&interest) {
                    changed(&entry);
                    before.remove(&entry.key);
                    known.insert(entry.key.clone(), entry);
                }
                before.values().for_each(|gone| changed(gone));
                while let Some((kind, change)) = changes.next().await {
                    let entry = change.entry.clone();
                    changed(&entry);
                    if kind == ChangeKind::Deleted {
                        known.remove(&entry.key);
                    } else {
                        known.insert(entry.key.clone(), entry);
                    }
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

#[cfg(test)]
mod tests {
    use longshore_api::Object;
    use longshore_resources::table::Text;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::cache::{Parts, View};

    struct Names;

    impl View for Names {
        fn field_names(&self) -> &[Text] {
            &[]
        }

        fn field_values(&self, _object: &Object) -> Vec<String> {
            Vec::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_while_changes_come_too_fast_is_told_of() {
        let view: Arc<dyn View> = Arc::new(Names);
        let prefix = Bytes::from_static(b"/registry/things/");
        let cache = Arc::new(ResourceCache::new(prefix, view.clone()));
        let put = |name: &str, revision: u64| {
            let key = cache.key("", name);
            let object = json!({"metadata": {"name": name, "uid": name}});
            let object = Object::from_value(object).expect("an object");
            let (stored, parts) = Parts::of(&object, &view);
            let entry = Entry::new(&key, &stored, revision, parts);
            cache.apply(&key, revision, Some(entry)).expect("it is read");
        };
        put("gone", 1);
        let (told, mut names) = mpsc::unbounded_channel();
        let shutdown = Shutdown::new();
        follow(cache.clone(), Interest::default(), &shutdown, move |entry| {
            told.send(entry.name().to_owned()).expect("the test listens");
        });
        assert_eq!(names.recv().await.as_deref(), Some("gone"));
        // So many at once that the end of them is not told.
        let many = 10_000;
        (2..many).for_each(|revision| put("busy", revision));
        cache.apply(&cache.key("", "gone"), many, None).expect("it goes");
        let again = async { while names.recv().await.expect("it follows") != "gone" {} };
        tokio::time::timeout(Duration::from_secs(60), again).await.expect("it is told");
        shutdown.cancel();
    }
}
