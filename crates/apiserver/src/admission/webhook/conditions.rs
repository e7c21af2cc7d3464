//! Match conditions: expressions that decide whether a webhook is called.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions

use std::sync::Arc;

use longshore_api::{Gvk, Object};
use longshore_resources::rules::admission::Input;
use longshore_resources::rules::conditions::{self, Match};
use serde_json::Value;

use crate::admission::Attributes;
use crate::admission::matching::Matched;
use crate::admission::policies::{Asker, request};
use crate::auth::Authorization;

/// The compiled conditions of one webhook.
pub(super) struct Conditions {
    compiled: conditions::Conditions,
    /// Where nobody knows whether they hold, the webhook is not called.
    ignores_failures: bool,
}

impl Conditions {
    /// Compiles the `matchConditions` of a webhook; none where it has none.
    pub(super) fn compile(hook: &Value) -> Option<Self> {
        let list = hook["matchConditions"].as_array().filter(|list| !list.is_empty())?;
        let compiled = conditions::Conditions::of_webhook(list);
        Some(Self { compiled, ignores_failures: hook["failurePolicy"] == "Ignore" })
    }

    /// Whether all of them hold. The objects are of the kind that the webhook is to be sent.
    ///
    /// # Errors
    /// When it cannot be said, with what is told of it.
    pub(super) fn hold(
        &self,
        a: &Attributes<'_>,
        authorization: &Arc<Authorization>,
        kind: &Gvk,
        object: Option<&Object>,
        old: Option<&Object>,
    ) -> Result<bool, String> {
        let matched = Matched { resource: a.resource.gvr(), kind: kind.clone(), other: None };
        let (request, asker) = (request(a, &matched), Asker::new(authorization, a));
        let input = Input {
            object,
            old,
            params: None,
            request: &request,
            in_condition: true,
            namespace: None,
            authorizer: &asker,
        };
        match self.compiled.evaluate(&input, None) {
            Match::Yes => Ok(true),
            Match::No(_) => Ok(false),
            Match::Failed(_) if self.ignores_failures => Ok(false),
            Match::Failed(why) => Err(why),
        }
    }
}
