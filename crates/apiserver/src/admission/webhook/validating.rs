//! Validating webhooks: all at the same time, on the object as it will be stored.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/validating

use futures_util::future::join_all;
use longshore_api::{Object, StatusError};
use tokio::time::Instant;

use super::matching::{Invocation, Request};
use super::versions::{New, Versions};
use super::{Hooks, Shared};
use crate::admission::{Attributes, Verdict};

impl Shared {
    /// Calls all webhooks that ask for it; the first refusal is told.
    pub(super) async fn validate(
        &self,
        hooks: Hooks,
        a: &Attributes<'_>,
        object: Option<&Object>,
        old: Option<&Object>,
    ) -> Verdict {
        let request = Request::of(a, object);
        let mut versions = Versions::new(a, object.map(New::Read), old);
        let mut invocations = Vec::new();
        for hook in hooks.iter() {
            if let Some(invocation) = self.invocation(&request, hook, &mut versions).await? {
                versions.of(self, &invocation).await?;
                invocations.push(invocation);
            }
        }
        let versions = &versions;
        let calls = invocations
            .iter()
            .enumerate()
            .map(|(index, invocation)| self.ask(a, invocation, versions, index));
        join_all(calls).await.into_iter().collect()
    }

    async fn ask(
        &self,
        a: &Attributes<'_>,
        invocation: &Invocation,
        versions: &Versions<'_>,
        index: usize,
    ) -> Result<(), StatusError> {
        let started = Instant::now();
        let outcome = self.call(a, invocation, versions).await;
        let place = format!("round_0_index_{index}");
        self.judge(a, &invocation.hook, &place, outcome, started.elapsed())
    }
}
