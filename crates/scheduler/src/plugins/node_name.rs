//! A pod that names its node runs only there.

use super::{Ask, Check, Plugin, Refusal, Start};
use crate::events::Event;
use crate::model::{Node, Pod};

pub(super) struct NodeName;

#[derive(Clone)]
struct Named(String);

impl Plugin for NodeName {
    fn start(&self, ask: &Ask<'_>) -> Start {
        match ask.pod.object.str(&["spec", "nodeName"]) {
            "" => Start::Skip,
            name => Start::Check(Box::new(Named(name.to_owned()))),
        }
    }

    fn helps(&self, _pod: &Pod, event: &Event) -> bool {
        matches!(event, Event::NodeAdded(_))
    }
}

impl Check for Named {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        if self.0 == node.name() {
            return Ok(());
        }
        Err(Refusal::always("node(s) didn't match the requested node name"))
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}
