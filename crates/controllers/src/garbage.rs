//! Garbage collection: what lost its owners goes, and what is deleted with its dependents waits for
//! them.
//!
//! Every deletable resource is followed with its metadata only. An owner that the caches do not
//! show is asked for before anything is deleted.
//!
//! upstream: pkg/controller/garbagecollector

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use longshore_api::Object;
use longshore_client::informer::Change;
use longshore_client::resource::Resource;
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Patch, Queue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, gone_is_fine, key_of};
use crate::kinds::{Event, Handler, Kind, Kinds};

/// Workers side by side.
///
/// upstream: --concurrent-gc-syncs
const WORKERS: usize = 20;
/// Objects that went lately are remembered, so many of them.
const GONE_MAX: usize = 16_384;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// A followed object: the place of its kind, and its key.
type Node = (usize, Key);

#[derive(Clone)]
struct Controller {
    ctx: Context,
    kinds: Kinds,
    graph: Arc<Mutex<Graph>>,
}

/// Who depends on whom.
#[derive(Default)]
struct Graph {
    /// Dependents by the uid of an owner.
    owners: HashMap<String, Dependents>,
    /// Custom objects that went lately: a dependent may be told of only after its owner and the
    /// owner's kind are gone.
    ///
    /// upstream: pkg/controller/garbagecollector/uid_cache.go
    gone: Lately,
    /// Objects that went lately and whose dependents were to stay: each kind is told of by a watch of
    /// its own, so a dependent that was made just before may come after its owner has gone.
    let_live: Lately,
}

/// Some uids, the newest ones.
#[derive(Default)]
struct Lately {
    uids: HashSet<String>,
    order: VecDeque<String>,
}

impl Lately {
    fn add(&mut self, uid: &str) {
        if !self.uids.insert(uid.to_owned()) {
            return;
        }
        self.order.push_back(uid.to_owned());
        if self.order.len() > GONE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }

    fn has(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }
}

#[derive(Default)]
struct Dependents {
    nodes: HashSet<Node>,
    /// The owner was seen to go. When its kind goes as well, nobody can be asked for it.
    orphaned: bool,
}

impl Graph {
    fn link(&mut self, node: &Node, object: &Object) {
        for owner in owners(object) {
            self.owners.entry(uid(owner).to_owned()).or_default().nodes.insert(node.clone());
        }
    }

    fn unlink(&mut self, node: &Node, object: &Object) {
        for owner in owners(object) {
            if let Some(dependents) = self.owners.get_mut(uid(owner)) {
                dependents.nodes.remove(node);
                if dependents.nodes.is_empty() {
                    self.owners.remove(uid(owner));
                }
            }
        }
    }

    /// Notes that an owner is gone; gives its dependents.
    fn orphan(&mut self, owner: &Object) -> Vec<Node> {
        let Some(dependents) = self.owners.get_mut(owner.uid()) else { return Vec::new() };
        dependents.orphaned = true;
        dependents.nodes.iter().cloned().collect()
    }

    fn is_gone(&self, owner: &str) -> bool {
        let orphaned = self.owners.get(owner).is_some_and(|dependents| dependents.orphaned);
        orphaned || self.gone.has(owner)
    }

    fn dependents(&self, owner: &str) -> Vec<Node> {
        self.owners.get(owner).map_or_else(Vec::new, |found| found.nodes.iter().cloned().collect())
    }
}

/// What is needed of an object.
fn keep(object: &mut Object) {
    object.root_mut().retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata"));
    object.remove(&["metadata", "annotations"]);
    object.remove(&["metadata", "labels"]);
}

pub(crate) fn start(ctx: Context) {
    let queue: Queue<Node> = Queue::new();
    let graph: Arc<Mutex<Graph>> = Arc::default();
    let make_handler = |kinds: &Kinds| -> Handler {
        let (kinds, graph) = (kinds.clone(), graph.clone());
        let (noting, queue) = (Controller { ctx: ctx.clone(), kinds, graph }, queue.clone());
        Arc::new(move |at, event| match event {
            Event::Change(change) => noting.note(at, change, &queue),
            Event::Left(object) => noting.graph.lock().unlink(&(at, key_of(object)), object),
        })
    };
    let (client, built_in) = (&ctx.client, &ctx.config.collected);
    let kinds = Kinds::follow(client, built_in, keep, &ctx.shutdown, make_handler);
    let shutdown = ctx.shutdown.clone();
    let controller = Controller { ctx, kinds, graph };
    let name = "garbage-collector-controller";
    workers::run(name, queue.clone(), WORKERS, &shutdown, move |node| {
        let (controller, queue) = (controller.clone(), queue.clone());
        async move { controller.sync(node, &queue).await }
    });
}

fn owners(object: &Object) -> &[Value] {
    object.list(&["metadata", "ownerReferences"])
}

fn uid(reference: &Value) -> &str {
    reference["uid"].as_str().unwrap_or("")
}

fn waits_for_dependents(object: &Object) -> bool {
    object.is_deleting() && object.finalizers().contains(&FOREGROUND)
}

impl Controller {
    /// Keeps the graph, and puts what may have to be done into the queue.
    fn note(&self, at: usize, change: &Change, queue: &Queue<Node>) {
        let object = change.object();
        let node = (at, key_of(object));
        let old = match change {
            Change::Applied { old, .. } => old.as_ref(),
            Change::Deleted(object) => Some(object),
        };
        let deleted = matches!(change, Change::Deleted(_));
        let mut graph = self.graph.lock();
        if let Some(old) = old {
            // Another object may have got the name meanwhile.
            if deleted || old.uid() != object.uid() {
                // Built-in kinds stay, and can be asked.
                if at >= self.ctx.config.collected.len() {
                    graph.gone.add(old.uid());
                }
                graph.orphan(old).into_iter().for_each(|dependent| queue.add(dependent));
            }
            graph.unlink(&node, old);
        }
        if deleted {
            drop(graph);
            self.wake_waiting_owners(object, queue);
            return;
        }
        graph.link(&node, object);
        drop(graph);
        if let Some(old) = old
            && owners(old) != owners(object)
        {
            // It may block one of them no longer.
            self.wake_waiting_owners(old, queue);
            self.wake_waiting_owners(object, queue);
        }
        if !owners(object).is_empty() || object.is_deleting() {
            queue.add(node);
        }
        if waits_for_dependents(object) {
            for dependent in self.dependents_of(object.uid()) {
                queue.add(dependent);
            }
        }
    }

    /// An owner that waits for its dependents looks again when one of them is gone.
    fn wake_waiting_owners(&self, object: &Object, queue: &Queue<Node>) {
        for owner in owners(object) {
            if let Some((at, key, owner)) = self.cached_owner(object.namespace(), owner)
                && waits_for_dependents(&owner)
            {
                queue.add((at, key));
            }
        }
    }

    fn dependents_of(&self, uid: &str) -> Vec<Node> {
        self.graph.lock().dependents(uid)
    }

    fn cached(&self, at: usize, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.kinds.at(at)?.cache.get(namespace, name)
    }

    fn resource_of(&self, reference: &Value) -> Option<usize> {
        let text = |key: &str| reference[key].as_str().unwrap_or("");
        let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
        self.kinds.find(group, text("kind"))
    }

    /// The owner as the caches show it, in the dependent's namespace or the cluster.
    fn cached_owner(&self, namespace: &str, owner: &Value) -> Option<(usize, Key, Arc<Object>)> {
        let at = self.resource_of(owner)?;
        let name = owner["name"].as_str().unwrap_or("");
        [namespace, ""].into_iter().find_map(|namespace| {
            let found = self.kinds.at(at)?.cache.get(namespace, name)?;
            (found.uid() == uid(owner)).then(|| (at, key_of(&found), found))
        })
    }

    async fn sync(&self, (at, (namespace, name)): Node, queue: &Queue<Node>) -> Outcome {
        self.kinds.synced().await;
        let Some(Kind { of, cache, .. }) = self.kinds.at(at) else { return Ok(None) };
        let Some(object) = cache.get(&namespace, &name) else { return Ok(None) };
        if object.is_deleting() {
            if object.finalizers().contains(&ORPHAN) {
                self.orphan(of, &object).await?;
            } else if object.finalizers().contains(&FOREGROUND) {
                self.await_dependents(of, &object, queue).await?;
            }
            return Ok(None);
        }
        self.check_owners(of, &object).await?;
        Ok(None)
    }

    async fn check_owners(&self, of: Resource, object: &Object) -> Result<(), Error> {
        let (mut solid, mut waiting, mut gone) = (0, Vec::new(), Vec::new());
        for owner in owners(object) {
            let found = match self.cached_owner(object.namespace(), owner) {
                Some((_, _, found)) => Some(found),
                None if self.graph.lock().is_gone(uid(owner)) => None,
                None => self.live_owner(object.namespace(), owner).await?.map(Arc::new),
            };
            match found {
                None => gone.push(uid(owner)),
                Some(found) if waits_for_dependents(&found) => waiting.push(uid(owner)),
                Some(_) => solid += 1,
            }
        }
        if solid > 0 {
            gone.extend(waiting);
            return if gone.is_empty() { Ok(()) } else { self.disown(of, object, &gone).await };
        }
        if gone.is_empty() && waiting.is_empty() {
            return Ok(());
        }
        let left: Vec<&str> = {
            let graph = self.graph.lock();
            gone.iter().copied().filter(|owner| graph.let_live.has(owner)).collect()
        };
        if !left.is_empty() {
            return self.disown(of, object, &left).await;
        }
        let dependents = self.dependents_of(object.uid());
        let chained = !waiting.is_empty() && !dependents.is_empty();
        let policy = if chained {
            "Foreground"
        } else if object.finalizers().contains(&ORPHAN) {
            "Orphan"
        } else if object.finalizers().contains(&FOREGROUND) {
            "Foreground"
        } else {
            "Background"
        };
        // What was decided holds for this state only: meanwhile the object may have been orphaned.
        let options = json!({
            "preconditions": { "uid": object.uid(), "resourceVersion": object.resource_version() },
            "propagationPolicy": policy,
        });
        let (namespace, name) = (object.namespace(), object.name());
        if policy == "Foreground" && self.is_in_circle(object) {
            self.unblock(of, object).await?;
        }
        gone_is_fine(self.ctx.client.delete(of, namespace, name, options).await).map(drop)
    }

    /// Whether one of the dependents already waits for its own dependents: it may be the owner.
    ///
    /// upstream: pkg/controller/garbagecollector/garbagecollector.go attemptToDeleteItem
    fn is_in_circle(&self, object: &Object) -> bool {
        self.dependents_of(object.uid()).iter().any(|(at, (namespace, name))| {
            let dependent = self.cached(*at, namespace, name);
            dependent.is_some_and(|dependent| waits_for_dependents(&dependent))
        })
    }

    /// Lets the owners of an object go before it does.
    async fn unblock(&self, of: Resource, object: &Object) -> Result<(), Error> {
        let mut references = owners(object).to_vec();
        for reference in &mut references {
            reference["blockOwnerDeletion"] = false.into();
        }
        let patch = Patch::Merge(json!({ "metadata": {
            "uid": object.uid(), "resourceVersion": object.resource_version(),
            "ownerReferences": references,
        }}));
        let (namespace, name) = (object.namespace(), object.name());
        gone_is_fine(self.ctx.client.patch(of, namespace, name, "", &patch).await).map(drop)
    }

    /// The owner as the server shows it; `None` when it is gone or another object has its name. An
    /// owner of a kind that is not followed counts as there.
    async fn live_owner(&self, namespace: &str, owner: &Value) -> Result<Option<Object>, Error> {
        let kind = self.resource_of(owner).and_then(|at| self.kinds.at(at));
        let Some(Kind { of, .. }) = kind else { return Ok(Some(Object::default())) };
        let name = owner["name"].as_str().unwrap_or("");
        for namespace in [namespace, ""] {
            let found = self.ctx.client.find(of, namespace, name).await;
            match found {
                Ok(Some(found)) if found.uid() == uid(owner) => return Ok(Some(found)),
                Ok(_) => {}
                // A namespaced kind cannot be read at cluster scope, nor the other way round.
                Err(error) if matches!(&error, Error::Status(s) if s.code == 405) => {}
                Err(error) => return Err(error),
            }
            if namespace.is_empty() {
                break;
            }
        }
        Ok(None)
    }

    /// Takes owners out of an object's references.
    async fn disown(&self, of: Resource, object: &Object, gone: &[&str]) -> Result<(), Error> {
        let rest: Vec<Value> =
            owners(object).iter().filter(|o| !gone.contains(&uid(o))).cloned().collect();
        let patch = Patch::Merge(json!({ "metadata": {
            "uid": object.uid(), "resourceVersion": object.resource_version(),
            "ownerReferences": rest,
        }}));
        let (namespace, name) = (object.namespace(), object.name());
        gone_is_fine(self.ctx.client.patch(of, namespace, name, "", &patch).await).map(drop)
    }

    /// Lets the dependents of a deleted object live on without it.
    async fn orphan(&self, of: Resource, object: &Object) -> Result<(), Error> {
        self.graph.lock().let_live.add(object.uid());
        for (at, (namespace, name)) in self.dependents_of(object.uid()) {
            let Some(Kind { of, cache, .. }) = self.kinds.at(at) else { continue };
            if let Some(dependent) = cache.get(&namespace, &name) {
                self.disown(of, &dependent, &[object.uid()]).await?;
            }
        }
        self.remove_finalizer(of, object, ORPHAN).await
    }

    /// Deletes the dependents of an object that waits for them, and lets it go when those that
    /// block it are gone.
    async fn await_dependents(
        &self,
        of: Resource,
        object: &Object,
        queue: &Queue<Node>,
    ) -> Result<(), Error> {
        let mut blocked = false;
        for (at, (namespace, name)) in self.dependents_of(object.uid()) {
            let Some(dependent) = self.cached(at, &namespace, &name) else { continue };
            let own = owners(&dependent).iter().find(|o| uid(o) == object.uid());
            blocked |= own.is_some_and(|o| o["blockOwnerDeletion"] == true);
            if !dependent.is_deleting() {
                queue.add((at, (namespace, name)));
            }
        }
        if blocked { Ok(()) } else { self.remove_finalizer(of, object, FOREGROUND).await }
    }

    async fn remove_finalizer(
        &self,
        of: Resource,
        object: &Object,
        finalizer: &str,
    ) -> Result<(), Error> {
        let rest: Vec<&str> = object.finalizers().into_iter().filter(|f| *f != finalizer).collect();
        let patch = Patch::Merge(json!({ "metadata": {
            "resourceVersion": object.resource_version(), "finalizers": rest,
        }}));
        let (namespace, name) = (object.namespace(), object.name());
        gone_is_fine(self.ctx.client.patch(of, namespace, name, "", &patch).await).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(uid: &str, owner: &str) -> Object {
        Object::from_value(json!({ "metadata": {
            "name": uid, "namespace": "default", "uid": uid, "ownerReferences": [{ "uid": owner }],
        }}))
        .expect("an object")
    }

    #[test]
    fn dependents_that_come_late_find_their_owner_gone() {
        let mut graph = Graph::default();
        let (owner, one, two) =
            (object("owner", "none"), object("one", "owner"), object("two", "owner"));
        let node = |object: &Object| (0, key_of(object));
        graph.link(&node(&one), &one);
        graph.gone.add(owner.uid());
        assert_eq!(graph.orphan(&owner), [node(&one)]);
        // The first is gone before anybody hears of the second.
        graph.unlink(&node(&one), &one);
        graph.link(&node(&two), &two);
        assert!(graph.is_gone("owner"));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut lately = Lately::default();
        for uid in 0..=GONE_MAX {
            lately.add(&uid.to_string());
        }
        assert!(!lately.has("0") && lately.has("1") && lately.has(&GONE_MAX.to_string()));
        assert_eq!((lately.uids.len(), lately.order.len()), (GONE_MAX, GONE_MAX));
    }
}
