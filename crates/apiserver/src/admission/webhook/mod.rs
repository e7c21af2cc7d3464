//! Admission webhooks: other servers that change requests or refuse them.
//!
//! Configurations are read from the watch cache and prepared when they change. Mutating webhooks
//! are called one after the other in the order of the names of their configurations, validating
//! ones at the same time.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook

mod call;
mod conditions;
mod hook;
mod matching;
mod metrics;
mod mutating;
mod review;
pub(super) mod rules;
mod validating;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use longshore_api::Object;
use longshore_base::rng::Rng;

use super::{Attributes, Plugin, Tools, Verdict};
use crate::auth::Authorization;
use crate::outbound::Client;
use crate::reader::Reader;
use crate::registry::ServedTable;
use call::Trouble;
use hook::{Hook, Hooks, Source};
pub use metrics::Metrics;
pub use mutating::Called;

/// The steps as metrics name them.
const ADMIT: &str = "admit";
const VALIDATE: &str = "validating";

/// What both kinds of webhooks need.
struct Shared {
    step: &'static str,
    source: Source,
    reader: Arc<dyn Reader>,
    table: Arc<ArcSwap<ServedTable>>,
    outbound: Client,
    rng: Arc<dyn Rng>,
    metrics: Arc<Metrics>,
    authorization: Arc<Authorization>,
}

impl Shared {
    fn new(tools: &Tools, step: &'static str, plural: &'static str) -> Self {
        Self {
            step,
            source: Source::new(tools.reader.clone(), plural),
            reader: tools.reader.clone(),
            table: tools.table.clone(),
            outbound: tools.outbound.clone(),
            rng: tools.rng.clone(),
            metrics: tools.webhook_metrics.clone(),
            authorization: tools.authorization.clone(),
        }
    }

    /// Counts a call and says whether the request may go on: it may when a call has failed that does
    /// not matter. `place` is where in the order of calls it was.
    fn judge<T>(
        &self,
        a: &Attributes<'_>,
        hook: &Hook,
        place: &str,
        outcome: Result<T, Trouble>,
        took: Duration,
    ) -> Verdict {
        let (name, operation) = (hook.name.as_str(), a.operation.name());
        let code = outcome.as_ref().map_or_else(Trouble::code, |_| 200).min(call::CODE_MAX);
        let Err(trouble) = outcome else {
            self.metrics.request(name, self.step, operation, code, false, took);
            return Ok(());
        };
        match trouble {
            Trouble::Calling { why, .. } if hook.ignores_failures => {
                self.metrics.request(name, self.step, operation, code, false, took);
                tracing::warn!(webhook = name, why, "a webhook failed and is passed over");
                self.metrics.fail_open(name, self.step);
                let kind = if self.step == ADMIT { "mutation" } else { "validating" };
                let key = format!("failed-open.{kind}.webhook.admission.k8s.io/{place}");
                a.annotate(key, name.to_owned());
                Ok(())
            }
            trouble => {
                self.metrics.rejection(name, self.step, operation, trouble.kind(), code);
                self.metrics.request(name, self.step, operation, code, true, took);
                Err(trouble.into_status(name))
            }
        }
    }
}

/// The plugin of mutating webhooks.
pub(super) struct Mutating(Shared);

impl Mutating {
    pub(super) fn new(tools: &Tools) -> Self {
        Self(Shared::new(tools, ADMIT, "mutatingwebhookconfigurations"))
    }
}

impl Plugin for Mutating {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn mutate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a mut Object>,
        old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        let hooks = self.0.source.hooks();
        // Most requests concern no webhook at all, and what asks them is large.
        if hooks.is_empty() || matching::is_exempt(a) {
            return std::future::ready(Ok(())).boxed();
        }
        self.0.mutate(hooks, a, object, old).boxed()
    }
}

/// The plugin of validating webhooks.
pub(super) struct Validating(Shared);

impl Validating {
    pub(super) fn new(tools: &Tools) -> Self {
        Self(Shared::new(tools, VALIDATE, "validatingwebhookconfigurations"))
    }
}

impl Plugin for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn validate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a Object>,
        old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        let hooks = self.0.source.hooks();
        if hooks.is_empty() || matching::is_exempt(a) {
            return std::future::ready(Ok(())).boxed();
        }
        self.0.validate(hooks, a, object, old).boxed()
    }
}
