//! The nodes and what is on them, with what was decided and is not yet told by the API server.
//!
//! upstream: pkg/scheduler/backend/cache

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use longshore_api::Object;
use parking_lot::Mutex;

use crate::model::{Node, Pod};

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Arc<Node>>,
    /// The node of each pod by uid, and whether that is only assumed.
    placed: HashMap<String, (String, bool)>,
    /// Pods on nodes that are not known (yet).
    homeless: HashMap<String, Vec<Arc<Pod>>>,
}

/// The cache. A snapshot shares its nodes with it.
#[derive(Default)]
pub(crate) struct Cache(Mutex<State>);

impl State {
    fn add(&mut self, node: &str, pod: Arc<Pod>) {
        match self.nodes.get_mut(node) {
            Some(node) => Arc::make_mut(node).add(pod),
            None => self.homeless.entry(node.to_owned()).or_default().push(pod),
        }
    }

    fn remove(&mut self, uid: &str) -> bool {
        let Some((node, _)) = self.placed.remove(uid) else { return false };
        if let Some(node) = self.nodes.get_mut(&node) {
            Arc::make_mut(node).remove(uid);
        }
        if let Some(pods) = self.homeless.get_mut(&node) {
            pods.retain(|pod| pod.object.uid() != uid);
        }
        true
    }
}

impl Cache {
    /// A node is new or changed.
    pub(crate) fn set_node(&self, object: &Arc<Object>) {
        let mut state = self.0.lock();
        let mut node = Node::new(object);
        let pods = match state.nodes.get(object.name()) {
            Some(old) => old.pods.clone(),
            None => state.homeless.remove(object.name()).unwrap_or_default(),
        };
        pods.into_iter().for_each(|pod| node.add(pod));
        state.nodes.insert(object.name().to_owned(), Arc::new(node));
    }

    /// A node is gone; its pods may outlive it for a while.
    pub(crate) fn remove_node(&self, name: &str) {
        let mut state = self.0.lock();
        if let Some(node) = state.nodes.remove(name) {
            state.homeless.insert(name.to_owned(), node.pods.clone());
        }
    }

    /// A pod has a node. True when that was not known before.
    pub(crate) fn set_pod(&self, object: &Arc<Object>) -> bool {
        let mut state = self.0.lock();
        let node = object.str(&["spec", "nodeName"]).to_owned();
        let known = state.placed.get(object.uid()).is_some_and(|(at, _)| *at == node);
        state.remove(object.uid());
        state.add(&node, Arc::new(Pod::new(object)));
        state.placed.insert(object.uid().to_owned(), (node, false));
        !known
    }

    /// A pod is gone or has ended.
    pub(crate) fn remove_pod(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// Counts a pod on a node before the API server does.
    pub(crate) fn assume(&self, pod: &Arc<Pod>, node: &str) {
        let mut state = self.0.lock();
        state.add(node, pod.clone());
        state.placed.insert(pod.object.uid().to_owned(), (node.to_owned(), true));
    }

    /// Takes an assumption back.
    pub(crate) fn forget(&self, uid: &str) {
        let mut state = self.0.lock();
        if state.placed.get(uid).is_some_and(|(_, assumed)| *assumed) {
            state.remove(uid);
        }
    }

    /// All nodes as of now.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Node>> {
        self.0.lock().nodes.values().cloned().collect()
    }
}
