//! Policies that change what is written.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/mutating/dispatcher.go,
//! pkg/admission/plugin/policy/generic/policy_dispatcher.go

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_api::emptied::Emptied;
use longshore_api::status::Cause;
use longshore_api::{Gvk, Model, Object, Reason, StatusError, managed};
use longshore_resources::Resource;
use longshore_resources::rules::admission::Input;
use longshore_resources::rules::conditions::Match;
use longshore_resources::rules::mutating::Policy;
use serde_json::Value;
use tokio::time::Instant;

use super::authorizer::Asker;
use super::source::{Binding, Hook, Source};
use super::{Metrics, Surroundings, converted, is_excluded, request};
use crate::admission::matching::Matched;
use crate::admission::{Attributes, Operation, Plugin, Round, Tools, Verdict};
use crate::registry::{ServedTable, convert};

/// The plugin.
pub struct MutatingPolicies {
    source: Source<Policy>,
    around: Surroundings,
    metrics: Arc<Metrics>,
}

/// A policy, binding and parameters: what is invoked again when something else changed the object.
type Key = (String, String, String, String);

/// What mutating policies remember of a request.
#[derive(Default)]
pub struct Called {
    /// The object as policies left it.
    left: Option<Object>,
    /// What asks to be invoked again, if the object changes after it.
    invoked: BTreeSet<Key>,
    /// What has to be invoked again.
    again: BTreeSet<Key>,
}

impl Called {
    fn require_again(&mut self) {
        self.again.append(&mut self.invoked);
    }
}

/// What goes wrong with a policy.
struct Wrong {
    ignored: bool,
    message: String,
    /// Whether the answer says that the request is invalid.
    invalid: bool,
}

/// One policy that is about a request, with the binding and parameters.
struct Invocation<'h> {
    hook: &'h Hook<Policy>,
    binding: &'h Binding,
    matched: Matched,
    params: Option<Arc<Object>>,
}

impl MutatingPolicies {
    /// The plugin with nothing compiled.
    pub fn new(tools: &Tools) -> Self {
        Self {
            source: Source::new(
                "mutatingadmissionpolicies",
                "mutatingadmissionpolicybindings",
                Policy::compile,
            ),
            around: Surroundings::new(tools),
            metrics: tools.policy_metrics.clone(),
        }
    }

    async fn admit(
        &self,
        hooks: Arc<Vec<Hook<Policy>>>,
        a: &Attributes<'_>,
        object: Option<&mut Object>,
        old: Option<&Object>,
    ) -> Verdict {
        let mut wrong = Vec::new();
        let mut invocations = Vec::new();
        for hook in &*hooks {
            self.select(hook, a, object.as_deref(), old, &mut invocations, &mut wrong);
        }
        if !invocations.is_empty() {
            self.invoke(&invocations, a, object, old, &mut wrong).await?;
        }
        wrong.retain(|wrong| !wrong.ignored);
        let Some(first) = wrong.first() else { return Ok(()) };
        let mut error = a.forbidden(None, "");
        error.message.clone_from(&first.message);
        if first.invalid {
            error.reason = Reason::Invalid;
        }
        error.causes = wrong.into_iter().map(|wrong| told(wrong.message)).collect();
        Err(error)
    }

    /// Finds what a policy is invoked with for a request.
    fn select<'h>(
        &self,
        hook: &'h Hook<Policy>,
        a: &Attributes<'_>,
        object: Option<&Object>,
        old: Option<&Object>,
        invocations: &mut Vec<Invocation<'h>>,
        wrong: &mut Vec<Wrong>,
    ) {
        let mut misconfigured = |why: &str, binding: Option<&Binding>| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            let why = format!("failed to configure {what}: {why}");
            wrong.push(Wrong::new(hook, binding, &why, false));
        };
        let table = self.around.table.load();
        let selected = self.around.select(hook, a, [object, old], &table, &mut misconfigured);
        let Some((matched, selected)) = selected else { return };
        invocations.extend(selected.into_iter().map(|(binding, params)| {
            let matched = matched.clone();
            Invocation { hook, binding, matched, params }
        }));
    }

    async fn invoke(
        &self,
        invocations: &[Invocation<'_>],
        a: &Attributes<'_>,
        object: Option<&mut Object>,
        old: Option<&Object>,
        wrong: &mut Vec<Wrong>,
    ) -> Verdict {
        let second = a.round.is_some_and(Round::is_second);
        // Nothing of it is locked while somebody else converts.
        let remembered = a.round.map(|round| std::mem::take(&mut *round.policies.lock()));
        let mut called = remembered.unwrap_or_default();
        if second && called.left.as_ref() != object.as_deref() {
            called.require_again();
        }
        let namespace = self.around.namespace(a)?;
        let asker = Asker::new(&self.around.authorization, a);
        let Some(object) = object else { return Ok(()) };
        let table = self.around.table.load_full();
        for invocation in invocations {
            let Invocation { hook, binding, matched, params } = invocation;
            let params = params.as_deref();
            let request = request(a, matched);
            let shown = converted(a, matched, &table, Some(object)).await;
            let (mut shown, old) = match (shown, converted(a, matched, &table, old).await) {
                (Ok(Some(shown)), Ok(old)) => (shown, old),
                (Ok(None), Ok(_)) => continue,
                (Err(why), _) | (_, Err(why)) => {
                    let why = format!("failed to configure policy: {}", why.message);
                    wrong.push(Wrong::new(hook, None, &why, false));
                    continue;
                }
            };
            let typing = typing_of(matched, a);
            let before = shown.clone();
            let input = Input {
                object: Some(&before),
                old: old.as_ref(),
                params,
                request: &request,
                in_condition: false,
                namespace: namespace.as_ref(),
                authorizer: &asker,
            };
            match hook.compiled.matches(&input) {
                Match::Yes => {}
                Match::No(_) => continue,
                Match::Failed(why) => {
                    wrong.push(Wrong::new(hook, Some(binding), &why, true));
                    continue;
                }
            }
            let place = params.map_or(("", ""), |params| (params.namespace(), params.name()));
            let key =
                (hook.name.clone(), binding.name.clone(), place.0.to_owned(), place.1.to_owned());
            if second && !called.again.contains(&key) {
                continue;
            }
            for index in 0..hook.compiled.len() {
                let start = Instant::now();
                let changed = {
                    let input = Input { object: Some(&shown), ..input };
                    hook.compiled.mutate(index, &input, typing.as_typing())
                };
                let changed = match changed {
                    Ok(changed) => changed,
                    Err(why) => {
                        let labels = [&*hook.name, &*binding.name, error_type(&why)];
                        self.metrics.mutated(labels, start.elapsed());
                        wrong.push(Wrong::new(hook, Some(binding), &why, true));
                        continue;
                    }
                };
                let labels = [&*hook.name, &*binding.name, "no_error"];
                self.metrics.mutated(labels, start.elapsed());
                if let Some(value) = changed {
                    shown = typing.read(value)?;
                }
            }
            if shown != before {
                called.require_again();
                if let Some(round) = a.round {
                    round.ask_again();
                }
                *object = restored(a, matched, &table, shown).await?;
            }
            if hook.compiled.reinvoked {
                called.invoked.insert(key);
            }
        }
        called.left = Some(object.clone());
        if let Some(round) = a.round {
            *round.policies.lock() = called;
        }
        Ok(())
    }
}

impl Wrong {
    fn new(hook: &Hook<Policy>, binding: Option<&Binding>, why: &str, invalid: bool) -> Self {
        let message = match binding {
            Some(binding) => format!(
                "policy '{}' with binding '{}' denied request: {why}",
                hook.name, binding.name
            ),
            None => format!("policy \"{}\" denied request: {why}", hook.name),
        };
        Self { ignored: hook.ignores_failures, message, invalid }
    }
}

fn told(message: String) -> Cause {
    Cause { reason: String::new(), message, field: String::new() }
}

fn error_type(why: &str) -> &'static str {
    if why.starts_with("compilation") {
        "compile_error"
    } else if why.starts_with("validation failed due to running out of cost budget") {
        "out_of_budget"
    } else {
        "invalid_error"
    }
}

/// What is known of the form of the objects that a policy sees.
struct Form<'a> {
    kind: Gvk,
    model: Option<Model>,
    /// The resource whose objects they are; none for other kinds, such as a scale.
    resource: Option<&'a Resource>,
}

fn typing_of<'a>(matched: &'a Matched, a: &Attributes<'a>) -> Form<'a> {
    let resource: &Resource = match &matched.other {
        Some(other) => &other.resource,
        None => a.resource,
    };
    let kind = matched.kind.clone();
    if kind == resource.gvk() {
        return Form { kind, model: resource.model.clone(), resource: Some(resource) };
    }
    let model = Model::built_in(&kind.group, &kind.version, &kind.kind);
    Form { kind, model, resource: None }
}

impl Form<'_> {
    fn as_typing(&self) -> managed::Typing<'_> {
        self.model.as_ref().map_or(managed::Typing::Deduced, Model::typing)
    }

    /// Reads a changed object, which may be malformed now, and fills its defaults.
    fn read(&self, mut value: Value) -> Result<Object, StatusError> {
        let wrong = |why: String| {
            let mut error = StatusError::internal(&why);
            error.causes = vec![told(why)];
            error
        };
        let custom = self.resource.is_some_and(|resource| resource.custom.is_some());
        let mut emptied = Emptied::default();
        if let Some(model) = &self.model {
            let read = model.normalise(&mut value).map_err(wrong)?;
            if !read.unknown.is_empty() && !custom {
                let fields = read.unknown.iter().map(|path| format!("unknown field \"{path}\""));
                let fields: Vec<String> = fields.collect();
                return Err(wrong(format!("strict decoding error: {}", fields.join(", "))));
            }
            emptied = read.emptied;
        }
        let object = Object::from_value(value);
        let object = object.ok_or_else(|| wrong("the object is no map".to_owned()))?;
        let mut object = object.given(emptied);
        if !custom {
            object.set(&["apiVersion"], self.kind.api_version());
            object.set(&["kind"], self.kind.kind.as_str());
        }
        if let Some(model) = &self.model {
            model.fill(&mut object).map_err(|why| wrong(why.to_string()))?;
            if let Some(resource) = self.resource {
                resource.strategy.default(&mut object);
            }
            model.complete(&mut object);
        }
        Ok(object)
    }
}

/// A changed object in the version of the request.
async fn restored(
    a: &Attributes<'_>,
    matched: &Matched,
    table: &ServedTable,
    object: Object,
) -> Result<Object, StatusError> {
    let Some(other) = &matched.other else { return Ok(object) };
    let own = a.resource;
    let own = table.get(&own.group, &own.version, &own.plural);
    match own.filter(|_| matched.kind != a.kind()) {
        Some(own) => convert(other, &own, object).await,
        None => Ok(object),
    }
}

impl Plugin for MutatingPolicies {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn mutate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a mut Object>,
        old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        if is_excluded(a) || a.operation == Operation::Delete {
            return ready(Ok(())).boxed();
        }
        let hooks = self.source.hooks(&*self.around.reader);
        if hooks.is_empty() {
            return ready(Ok(())).boxed();
        }
        self.admit(hooks, a, object, old).boxed()
    }
}
