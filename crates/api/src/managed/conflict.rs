//! What an apply answers when others manage the fields that it would change.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/conflict.go

use super::managers::{ManagerId, Operation};
use super::path::{PathElement, show};
use crate::patch::gotext::quote;
use crate::status::{Cause, Reason, StatusError};

/// A field that somebody else manages.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    pub manager: ManagerId,
    pub path: Vec<PathElement>,
}

/// A manager as messages name it.
fn named(manager: &ManagerId) -> String {
    let mut text = quote(&manager.name);
    if !manager.subresource.is_empty() {
        text.push_str(" with subresource ");
        text.push_str(&quote(&manager.subresource));
    }
    if manager.operation == Operation::Update {
        text.push_str(" using ");
        text.push_str(&manager.api_version);
    }
    text
}

/// 409 with one cause for each field. The conflicts of one manager stand together.
pub(super) fn conflict_error(conflicts: &[Conflict]) -> StatusError {
    let message = match conflicts {
        [only] => {
            format!("1 conflict: conflict with {}: {}", named(&only.manager), show(&only.path))
        }
        many => {
            let mut lines = Vec::new();
            let mut before = None;
            for conflict in many {
                if before != Some(&conflict.manager) {
                    lines.push(format!("conflicts with {}:", named(&conflict.manager)));
                }
                before = Some(&conflict.manager);
                lines.push(format!("- {}", show(&conflict.path)));
            }
            format!("{} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let mut error = StatusError::new(Reason::Conflict, format!("Apply failed with {message}"));
    error.causes = conflicts
        .iter()
        .map(|conflict| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {}", named(&conflict.manager)),
            field: show(&conflict.path),
        })
        .collect();
    error
}
