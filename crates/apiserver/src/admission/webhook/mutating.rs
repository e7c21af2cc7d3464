//! Mutating webhooks: one after the other, each sees what those before have changed.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/mutating

use std::collections::BTreeSet;

use longshore_api::{Object, StatusError, json as wire, managed, patch};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::call::Trouble;
use super::matching::{Invocation, Request};
use super::versions::{New, Versions};
use super::{Hooks, Shared};
use crate::admission::{Attributes, Verdict};
use crate::audit::Level;

/// What webhooks have done to the object of a request.
#[derive(Default)]
pub struct Called {
    /// What they made of it.
    last: Option<Object>,
    /// Those that were called and may be called again.
    before: BTreeSet<String>,
    /// Those that have to be called again.
    again: BTreeSet<String>,
}

impl Called {
    fn require_again(&mut self) {
        self.again.append(&mut self.before);
    }
}

/// A note for the audit log.
#[derive(Serialize)]
struct Mutation<'a> {
    configuration: &'a str,
    webhook: &'a str,
    mutated: bool,
}

/// A note for the audit log that is kept where the log has the bodies of requests.
#[derive(Serialize)]
struct Patched<'a> {
    configuration: &'a str,
    webhook: &'a str,
    patch: &'a Value,
    #[serde(rename = "patchType")]
    patch_type: &'a str,
}

impl Shared {
    /// Calls all webhooks that ask for it.
    pub(super) async fn mutate(
        &self,
        hooks: Hooks,
        a: &Attributes<'_>,
        mut object: Option<&mut Object>,
        old: Option<&Object>,
    ) -> Verdict {
        let second = a.round.is_some_and(crate::admission::Round::is_second);
        if let Some(round) = a.round.filter(|_| second) {
            let mut called = round.webhooks.lock();
            if called.last.as_ref() != object.as_deref() {
                called.require_again();
            }
        }
        let before: Option<Vec<Value>> = object.as_deref().map(|o| managers(o).to_vec());
        let request = Request::of(a, object.as_deref());
        let outcome = async {
            let mut versions = Versions::new(a, object.as_deref_mut().map(New::Write), old);
            for (index, hook) in hooks.iter().enumerate() {
                let Some(invocation) = self.invocation(&request, hook, &mut versions).await? else {
                    continue;
                };
                if let Some(round) = a.round.filter(|_| second)
                    && !round.webhooks.lock().again.contains(&hook.uid)
                {
                    continue;
                }
                versions.of(self, &invocation).await?;
                self.one(a, &invocation, &mut versions, index).await?;
            }
            Ok(())
        }
        .await;
        if let (Some(object), Some(before)) = (object.as_deref_mut(), before) {
            keep_managers(a, object, before);
        }
        if let Some(round) = a.round {
            round.webhooks.lock().last = object.as_deref().cloned();
        }
        outcome
    }

    async fn one(
        &self,
        a: &Attributes<'_>,
        invocation: &Invocation,
        versions: &mut Versions<'_>,
        index: usize,
    ) -> Result<(), StatusError> {
        let hook = &invocation.hook;
        let place =
            format!("round_{}_index_{index}", u8::from(a.round.is_some_and(|r| r.is_second())));
        let started = Instant::now();
        let outcome = self.change(a, invocation, versions, &place).await;
        let took = started.elapsed();
        let changed = *outcome.as_ref().unwrap_or(&false);
        let note =
            Mutation { configuration: &hook.configuration, webhook: &hook.name, mutated: changed };
        let key = format!("mutation.webhook.admission.k8s.io/{place}");
        self.note(a, Level::Metadata, key, &note);
        if let Some(round) = a.round {
            let mut called = round.webhooks.lock();
            if changed {
                called.require_again();
                round.ask_again();
            }
            if hook.reinvoked {
                called.before.insert(hook.uid.clone());
            }
        }
        self.judge(a, hook, &place, outcome, took)
    }

    /// Calls a webhook and makes the change that it asks for. True when there was one.
    async fn change(
        &self,
        a: &Attributes<'_>,
        invocation: &Invocation,
        versions: &mut Versions<'_>,
        place: &str,
    ) -> Result<bool, Trouble> {
        let hook = &invocation.hook;
        let answer = self.call(a, invocation, versions).await?;
        if answer.patch.is_empty() {
            return Ok(false);
        }
        let decoded = wire::decode(&answer.patch).map_err(|why| {
            let why = format!("received undecodable patch in webhook response: {why}");
            Trouble::calling(why, 503)
        })?;
        let operations = decoded.value;
        match operations.as_array().map(Vec::len) {
            Some(0) => return Ok(false),
            Some(_) => {}
            None if operations.is_null() => return Ok(false),
            None => {
                let why = "received undecodable patch in webhook response: json: cannot unmarshal object into Go value of type jsonpatch.Patch";
                return Err(Trouble::calling(why, 503));
            }
        }
        let own = |why: String| Trouble::Own(StatusError::internal(why));
        let Some(object) = versions.known(invocation).0 else {
            let name = &hook.name;
            return Err(own(format!(
                "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
            )));
        };
        if answer.patch_type != "JSONPatch" {
            let why = format!("unsupported patch type {:?}", answer.patch_type);
            return Err(Trouble::calling(why, 400));
        }
        let mut document = Value::Object(object.root().clone());
        patch::json::apply(&mut document, &operations).map_err(|why| own(why.to_string()))?;
        let changed = versions.change(self, invocation, document).await.map_err(Trouble::Own)?;
        let note = Patched {
            configuration: &hook.configuration,
            webhook: &hook.name,
            patch: &operations,
            patch_type: "JSONPatch",
        };
        let key = format!("patch.webhook.admission.k8s.io/{place}");
        self.note(a, Level::Request, key, &note);
        Ok(changed)
    }

    fn note(&self, a: &Attributes<'_>, level: Level, key: String, note: &impl Serialize) {
        match serde_json::to_string(note) {
            Ok(text) => a.annotate_from(level, key, text),
            Err(error) => tracing::warn!(%error, key, "a note for the audit log is lost"),
        }
    }
}

fn managers(object: &Object) -> &[Value] {
    object.list(&["metadata", "managedFields"])
}

/// Managed fields that a webhook has spoiled become what they were.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager/admission.go
fn keep_managers(a: &Attributes<'_>, object: &mut Object, before: Vec<Value>) {
    if managers(object) == before {
        return;
    }
    if let Err(why) = managed::managers::decode(managers(object)) {
        a.warn(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {why}"
        ));
        if before.is_empty() {
            object.remove(&["metadata", "managedFields"]);
        } else {
            object.set(&["metadata", "managedFields"], before);
        }
    }
}
