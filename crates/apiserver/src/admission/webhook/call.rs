//! One call of one webhook.

use longshore_api::StatusError;

use super::Shared;
use super::matching::Invocation;
use super::review::{Answer, Review};
use super::versions::Versions;
use crate::admission::Attributes;
use crate::outbound::webhook::{Failed, Limits};

/// Bytes of an answer at most: a patch of the largest object, and room for more.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Codes above this are counted as this.
pub(super) const CODE_MAX: u16 = 600;

/// Why a webhook does not let a request pass.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It could not be called; the code says what is counted.
    Calling { why: String, code: u16 },
    /// It says no.
    Refused(StatusError),
    /// Something of our own.
    Own(StatusError),
}

impl Trouble {
    /// A failed call of a webhook.
    pub(super) fn calling(why: impl Into<String>, code: u16) -> Self {
        Self::Calling { why: why.into(), code }
    }

    /// The code that is counted.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Calling { code, .. } => *code,
            Self::Refused(status) => status.code,
            Self::Own(_) => 0,
        }
    }

    /// As the metrics name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Calling { .. } => "calling_webhook_error",
            Self::Refused(_) => "no_error",
            Self::Own(_) => "apiserver_internal_error",
        }
    }

    /// What the client is told of it.
    pub(super) fn into_status(self, hook: &str) -> StatusError {
        match self {
            Self::Calling { why, .. } => {
                StatusError::internal(format!("failed calling webhook {hook:?}: {why}"))
            }
            Self::Refused(status) | Self::Own(status) => status,
        }
    }
}

impl Shared {
    /// Sends a review and reads the answer. Its warnings and notes are passed on.
    pub(super) async fn call(
        &self,
        a: &Attributes<'_>,
        invocation: &Invocation,
        versions: &Versions<'_>,
    ) -> Result<Answer, Trouble> {
        let hook = &invocation.hook;
        if a.dry_run {
            if hook.side_effects.is_empty() {
                return Err(Trouble::calling("Webhook SideEffects is nil", 400));
            }
            hook.check_dry_run().map_err(Trouble::Own)?;
        }
        let (object, old) = versions.known(invocation);
        let review = Review::new(self.rng.uuid(), a, invocation, object, old)
            .map_err(|why| Trouble::calling(why, 400))?;
        let endpoint = hook
            .endpoint
            .as_ref()
            .map_err(|why| Trouble::calling(format!("could not get REST client: {why}"), 500))?;
        let document = review.document.clone();
        let limits = Limits { timeout: hook.timeout, bytes_max: ANSWER_BYTES_MAX };
        let called = endpoint.post(&self.outbound, &*self.reader, document, limits).await;
        let body = called.map_err(|failed| {
            let code = match &failed {
                Failed::Status(status) => status.code,
                Failed::Call(_) => 503,
            };
            Trouble::calling(format!("failed to call webhook: {failed}"), code)
        })?;
        let answer = review
            .read(&body, self.step == super::ADMIT)
            .map_err(|why| Trouble::calling(why, 503))?;
        for (key, text) in &answer.annotations {
            a.annotate(format!("{}/{key}", hook.name), text.clone());
        }
        answer.warnings.iter().for_each(|text| a.warn(text.as_str()));
        if answer.allowed { Ok(answer) } else { Err(Trouble::Refused(answer.refusal(&hook.name))) }
    }
}
