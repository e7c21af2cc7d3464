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
    /// Pods that wait for others to leave a node, by node.
    nominated: HashMap<String, Vec<Arc<Pod>>>,
}

/// The cache. A snapshot shares its nodes with it.
#[derive(Default)]
pub(crate) struct Cache(Mutex<State>);

/// What one decision looks at.
pub(crate) struct Snapshot {
    /// All nodes by name.
    pub(crate) nodes: Vec<Arc<Node>>,
    /// Pods that are going to run on a node once others have left it.
    pub(crate) nominated: HashMap<String, Vec<Arc<Pod>>>,
}

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
            pods.retain(|pod| pod.uid() != uid);
            if pods.is_empty() {
                self.homeless.remove(&node);
            }
        }
        true
    }

    fn forget_nomination(&mut self, uid: &str) {
        self.nominated.retain(|_, pods| {
            pods.retain(|pod| pod.uid() != uid);
            !pods.is_empty()
        });
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
        if let Some(node) = state.nodes.remove(name)
            && !node.pods.is_empty()
        {
            state.homeless.insert(name.to_owned(), node.pods.clone());
        }
    }

    /// A pod has a node. True when that was not known before.
    pub(crate) fn set_pod(&self, object: &Arc<Object>) -> bool {
        let mut state = self.0.lock();
        let node = object.str(&["spec", "nodeName"]).to_owned();
        let known = state.placed.get(object.uid()).is_some_and(|(at, _)| *at == node);
        state.remove(object.uid());
        state.forget_nomination(object.uid());
        state.add(&node, Arc::new(Pod::new(object)));
        state.placed.insert(object.uid().to_owned(), (node, false));
        !known
    }

    /// A pod is gone or has ended.
    pub(crate) fn remove_pod(&self, uid: &str) {
        let mut state = self.0.lock();
        state.remove(uid);
        state.forget_nomination(uid);
    }

    /// Counts a pod on a node before the API server does.
    pub(crate) fn assume(&self, pod: &Arc<Pod>, node: &str) {
        let mut state = self.0.lock();
        state.forget_nomination(pod.uid());
        state.add(node, pod.clone());
        state.placed.insert(pod.uid().to_owned(), (node.to_owned(), true));
    }

    /// Takes an assumption back.
    pub(crate) fn forget(&self, uid: &str) {
        let mut state = self.0.lock();
        if state.placed.get(uid).is_some_and(|(_, assumed)| *assumed) {
            state.remove(uid);
        }
    }

    /// Whether a pod was given a node that the API server does not tell yet.
    pub(crate) fn is_assumed(&self, uid: &str) -> bool {
        self.0.lock().placed.get(uid).is_some_and(|(_, assumed)| *assumed)
    }

    /// A pod waits for room on a node; an empty name means that it no longer does.
    pub(crate) fn nominate(&self, pod: &Arc<Pod>, node: &str) {
        let mut state = self.0.lock();
        state.forget_nomination(pod.uid());
        if !node.is_empty() {
            state.nominated.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }

    /// Everything as of now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.0.lock();
        Snapshot {
            nodes: state.nodes.values().cloned().collect(),
            nominated: state.nominated.clone(),
        }
    }
}
