//! Match conditions: expressions that decide whether a webhook is called. The one place where
//! webhooks meet the language that they are written in.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions

use std::sync::Arc;

use longshore_api::Object;
use serde_json::Value;

use crate::admission::Attributes;

/// The compiled conditions of one webhook.
pub trait Conditions: Send + Sync {
    /// Whether all of them hold. The objects are in the version that the webhook is to be sent.
    ///
    /// # Errors
    /// When it cannot be said, with what is told of it.
    fn hold(
        &self,
        a: &Attributes<'_>,
        object: Option<&Object>,
        old: Option<&Object>,
    ) -> Result<bool, String>;
}

/// Compiles the `matchConditions` of a webhook; none where it has none.
pub(super) fn compile(hook: &Value) -> Option<Arc<dyn Conditions>> {
    let list = hook["matchConditions"].as_array().filter(|list| !list.is_empty())?;
    Some(Arc::new(Unknown(list.len())))
}

/// Conditions that this server cannot evaluate: such a webhook admits nothing, rather than
/// letting pass what it was to check.
struct Unknown(usize);

impl Conditions for Unknown {
    fn hold(
        &self,
        _: &Attributes<'_>,
        _: Option<&Object>,
        _: Option<&Object>,
    ) -> Result<bool, String> {
        Err(format!("{} match conditions cannot be evaluated by this server", self.0))
    }
}
