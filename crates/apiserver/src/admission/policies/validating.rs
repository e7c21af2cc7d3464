//! Policies that say what may be written.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/validating

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_api::status::Cause;
use longshore_api::{Object, Reason, StatusError};
use longshore_resources::rules::admission::Input;
use longshore_resources::rules::validating::{Annotation, Decision, Policy, Result as Outcome};
use serde_json::json;
use tokio::time::Instant;

use super::authorizer::Asker;
use super::source::{Binding, Hook, Source};
use super::{Metrics, Surroundings, converted, is_excluded, request};
use crate::admission::{Attributes, Plugin, Tools, Verdict};

/// The longest text of an annotation in the audit log, in bytes.
const ANNOTATION_BYTES_MAX: usize = 10 * 1024;
/// Under which the audit log tells what broke a policy that only reports.
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// The plugin.
pub struct ValidatingPolicies {
    source: Source<Policy>,
    around: Surroundings,
    metrics: Arc<Metrics>,
}

/// Why a request is denied, and by which policy and binding.
struct Denied {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: String,
}

impl ValidatingPolicies {
    /// The plugin with nothing compiled.
    pub fn new(tools: &Tools) -> Self {
        Self {
            source: Source::new(
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                Policy::compile,
            ),
            around: Surroundings::new(tools),
            metrics: tools.policy_metrics.clone(),
        }
    }

    async fn check(
        &self,
        hooks: Arc<Vec<Hook<Policy>>>,
        a: &Attributes<'_>,
        object: Option<&Object>,
        old: Option<&Object>,
    ) -> Verdict {
        let mut denied = Vec::new();
        for hook in &*hooks {
            self.policy(hook, a, object, old, &mut denied).await?;
        }
        match denied.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(refusal(a, object, &first)),
        }
    }

    async fn policy(
        &self,
        hook: &Hook<Policy>,
        a: &Attributes<'_>,
        object: Option<&Object>,
        old: Option<&Object>,
        denied: &mut Vec<Denied>,
    ) -> Verdict {
        let mut misconfigured = |why: &str, binding: Option<&Binding>| {
            if hook.ignores_failures {
                return;
            }
            let what = if binding.is_some() { "binding" } else { "policy" };
            denied.push(Denied {
                policy: hook.name.clone(),
                binding: binding.map(|binding| binding.name.clone()),
                message: format!("failed to configure {what}: {why}"),
                reason: String::new(),
            });
        };
        let table = self.around.table.load_full();
        let selected = self.around.select(hook, a, [object, old], &table, &mut misconfigured);
        let Some((matched, selected)) = selected else { return Ok(()) };
        if selected.is_empty() {
            return Ok(());
        }
        let shown = async |object| converted(a, &matched, &table, object).await;
        let (object, old) = match (shown(object).await, shown(old).await) {
            (Ok(object), Ok(old)) => (object, old),
            (Err(why), _) | (_, Err(why)) => {
                let why = format!("failed to convert object version: {}", why.message);
                misconfigured(&why, Some(selected[0].0));
                return Ok(());
            }
        };
        let namespace = self.around.namespace(a)?;
        let request = request(a, &matched);
        let asker = Asker::new(&self.around.authorization, a);
        let results = selected.iter().map(|(binding, params)| {
            let input = Input {
                object: object.as_ref(),
                old: old.as_ref(),
                params: params.as_deref(),
                request: &request,
                in_condition: false,
                namespace: namespace.as_ref(),
                authorizer: &asker,
            };
            let start = Instant::now();
            let clock = || start.elapsed();
            (*binding, hook.compiled.evaluate(&input, &clock))
        });
        let results: Vec<(&Binding, Outcome<'_>)> = results.collect();
        let mut annotations: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (binding, result) in results {
            for (index, decision) in result.decisions.iter().enumerate() {
                self.decided(hook, binding, index, decision, a, denied);
            }
            for annotation in result.annotations {
                self.annotated(hook, binding, annotation, &mut annotations, denied);
            }
        }
        for (key, values) in annotations {
            a.annotate(format!("{}/{key}", hook.name), values.join(", "));
        }
        Ok(())
    }

    fn decided(
        &self,
        hook: &Hook<Policy>,
        binding: &Binding,
        index: usize,
        decision: &Decision,
        a: &Attributes<'_>,
        denied: &mut Vec<Denied>,
    ) {
        let count = |action: &'static str| {
            let labels = [&hook.name, &binding.name, decision.error_type(), action];
            self.metrics.validated(labels, decision.elapsed);
        };
        if decision.admits {
            if decision.failed {
                count("allow");
            }
            return;
        }
        for action in &binding.actions {
            match action.as_str() {
                "Deny" => {
                    denied.push(Denied {
                        policy: hook.name.clone(),
                        binding: Some(binding.name.clone()),
                        message: decision.message.clone(),
                        reason: decision.reason.clone(),
                    });
                    count("deny");
                }
                "Audit" => {
                    let told = json!([{
                        "message": decision.message, "policy": hook.name, "binding": binding.name,
                        "expressionIndex": index, "validationActions": binding.actions,
                    }]);
                    a.annotate(FAILURE.to_owned(), told.to_string());
                    count("audit");
                }
                "Warn" => {
                    a.warn(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                        hook.name, binding.name, decision.message
                    ));
                    count("warn");
                }
                _ => {}
            }
        }
    }

    fn annotated<'h>(
        &self,
        hook: &'h Hook<Policy>,
        binding: &Binding,
        annotation: Annotation<'h>,
        annotations: &mut BTreeMap<&'h str, Vec<String>>,
        denied: &mut Vec<Denied>,
    ) {
        match annotation {
            Annotation::Publish(key, mut text) => {
                let mut end = text.len().min(ANNOTATION_BYTES_MAX);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.truncate(end);
                let values = annotations.entry(key).or_default();
                if !values.contains(&text) {
                    values.push(text);
                }
            }
            Annotation::Failed(message) => {
                let labels = [&hook.name, &binding.name, "invalid_error", "deny"];
                self.metrics.validated(labels, Duration::ZERO);
                denied.push(Denied {
                    policy: hook.name.clone(),
                    binding: Some(binding.name.clone()),
                    message,
                    reason: String::new(),
                });
            }
        }
    }
}

/// The answer to a request that a policy denies.
fn refusal(a: &Attributes<'_>, object: Option<&Object>, denied: &Denied) -> StatusError {
    let Denied { policy, message, .. } = denied;
    let message = match &denied.binding {
        Some(binding) => format!(
            "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}"
        ),
        None => format!("ValidatingAdmissionPolicy '{policy}' denied request: {message}"),
    };
    let mut error = a.forbidden(object, &message);
    (error.reason, error.code) = match denied.reason.as_str() {
        "Forbidden" => (Reason::Forbidden, 403),
        "Unauthorized" => (Reason::Unauthorized, 401),
        "RequestEntityTooLarge" => (Reason::RequestEntityTooLarge, 413),
        _ => (Reason::Invalid, 422),
    };
    error.causes.push(Cause { reason: String::new(), message, field: String::new() });
    error
}

impl Plugin for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn validate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a Object>,
        old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        if is_excluded(a) {
            return ready(Ok(())).boxed();
        }
        let hooks = self.source.hooks(&*self.around.reader);
        if hooks.is_empty() {
            return ready(Ok(())).boxed();
        }
        self.check(hooks, a, object, old).boxed()
    }
}
