//! A pod that names its node runs only there.

use super::{Cycle, Plugin};
use crate::model::Node;

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn filter(&self, cycle: &Cycle<'_>, node: &Node) -> Result<(), Vec<String>> {
        let wanted = cycle.pod.object.str(&["spec", "nodeName"]);
        if wanted.is_empty() || wanted == node.object.name() {
            return Ok(());
        }
        Err(vec!["node(s) didn't match the requested node name".into()])
    }
}
