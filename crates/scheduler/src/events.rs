//! What happens in the cluster that may make room for a pod that found none.
//!
//! upstream: pkg/scheduler/framework/events.go

use std::sync::Arc;

use longshore_api::Object;

/// A change.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A node is new.
    NodeAdded(Arc<Object>),
    /// A node changed: before and after.
    NodeChanged(Arc<Object>, Arc<Object>),
    /// A pod got a node.
    PodPlaced(Arc<Object>),
    /// A pod with a node changed: before and after.
    PodChanged(Arc<Object>, Arc<Object>),
    /// A pod left its node.
    PodGone(Arc<Object>),
    /// A claim, volume, class or the storage of a node is new or changed.
    Storage,
    /// Something about the waiting pod itself changed, or a try is due anyway.
    Own,
}

impl Event {
    /// The node that is new, or changed in one of these places.
    pub(crate) fn node(&self, places: &[&[&str]]) -> Option<&Arc<Object>> {
        match self {
            Self::NodeAdded(node) => Some(node),
            Self::NodeChanged(old, new) => {
                places.iter().any(|place| old.get(place) != new.get(place)).then_some(new)
            }
            _ => None,
        }
    }
}
