//! Admission: the checks and changes of a write that concern more than one resource.
//!
//! One file for each plugin and one line in [`plugins`]. Mutating plugins run in the table's order
//! between the strategy's preparation and validation; validating plugins run in the same order
//! after validation, on the object as it will be stored.
//!
//! upstream: pkg/kubeapiserver/options/plugins.go

mod attributes;
mod certificates;
mod claim_resize;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
mod node_features;
mod node_restriction;
mod node_taint;
mod pod_resize;
mod pod_security;
mod pod_topology_labels;
pub mod policies;
mod priority;
mod resources;
mod runtime_class;
mod service_account;
mod storage_protection;
pub mod webhook;

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_api::{Object, StatusError};
use longshore_base::rng::Rng;

pub use attributes::{Annotations, Attributes, Extras, Facade, Operation, Round};

use crate::auth::Authorization;
use crate::outbound;
use crate::reader::Reader;
use crate::registry::ServedTable;

/// The plugins of a default cluster. The order is upstream's and matters: later plugins see what
/// earlier ones set.
fn plugins(tools: &Tools) -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(namespace_lifecycle::NamespaceLifecycle::new(tools)),
        plain(limit_ranger::LimitRanger::new(tools)),
        Box::new(service_account::ServiceAccount::new(tools)),
        Box::new(node_restriction::NodeRestriction::new(tools)),
        plain(node_taint::TaintNodesByCondition),
        plain(pod_security::PodSecurity::new(tools)),
        plain(priority::Priority::new(tools)),
        plain(default_toleration_seconds::DefaultTolerationSeconds),
        plain(default_storage_class::DefaultStorageClass::new(tools)),
        plain(storage_protection::StorageObjectInUseProtection),
        plain(claim_resize::PersistentVolumeClaimResize::new(tools)),
        plain(runtime_class::RuntimeClass::new(tools)),
        plain(certificates::Approval::new(tools)),
        plain(certificates::Signing::new(tools)),
        plain(certificates::SubjectRestriction),
        plain(default_ingress_class::DefaultIngressClass::new(tools)),
        plain(pod_topology_labels::PodTopologyLabels::new(tools)),
        plain(node_features::NodeDeclaredFeatures::new(tools)),
        plain(pod_resize::PodResize::new(tools)),
        Box::new(policies::mutating::MutatingPolicies::new(tools)),
        Box::new(webhook::Mutating::new(tools)),
        Box::new(policies::validating::ValidatingPolicies::new(tools)),
        Box::new(webhook::Validating::new(tools)),
    ]
}

/// What plugins may use.
#[derive(Clone)]
pub struct Tools {
    /// Present objects.
    pub reader: Arc<dyn Reader>,
    /// Who may do what.
    pub authorization: Arc<Authorization>,
    /// For random suffixes.
    pub rng: Arc<dyn Rng>,
    /// What is served.
    pub table: Arc<ArcSwap<ServedTable>>,
    /// Calls of other servers.
    pub outbound: outbound::Client,
    /// What is counted of webhooks.
    pub webhook_metrics: Arc<webhook::Metrics>,
    /// What is counted of policies.
    pub policy_metrics: Arc<policies::Metrics>,
}

/// The outcome of a plugin.
pub type Verdict = Result<(), StatusError>;

/// One admission plugin. Both steps pass by default.
pub trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// May change the object. `object` is `None` on delete, `old` on create.
    fn mutate<'a>(
        &'a self,
        _a: &'a Attributes<'a>,
        _object: Option<&'a mut Object>,
        _old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        async { Ok(()) }.boxed()
    }

    /// Says whether the request may go on.
    fn validate<'a>(
        &'a self,
        _a: &'a Attributes<'a>,
        _object: Option<&'a Object>,
        _old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        async { Ok(()) }.boxed()
    }
}

/// A plugin that never waits; most of them.
trait Plain: Send + Sync {
    fn name(&self) -> &'static str;

    /// May change the object; not called on delete.
    fn admit(&self, _a: &Attributes<'_>, _object: &mut Object, _old: Option<&Object>) -> Verdict {
        Ok(())
    }

    /// Says whether the request may go on.
    fn check(
        &self,
        _a: &Attributes<'_>,
        _object: Option<&Object>,
        _old: Option<&Object>,
    ) -> Verdict {
        Ok(())
    }
}

struct PlainPlugin<T>(T);

fn plain<T: Plain + 'static>(plugin: T) -> Box<dyn Plugin> {
    Box::new(PlainPlugin(plugin))
}

impl<T: Plain> Plugin for PlainPlugin<T> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn mutate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a mut Object>,
        old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        let verdict = object.map_or(Ok(()), |object| self.0.admit(a, object, old));
        std::future::ready(verdict).boxed()
    }

    fn validate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a Object>,
        old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        std::future::ready(self.0.check(a, object, old)).boxed()
    }
}

/// The plugins in upstream's order.
pub struct Admission {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Admission {
    /// The plugins of a default cluster.
    pub fn new(tools: &Tools) -> Self {
        Self { plugins: plugins(tools) }
    }

    /// Lets every plugin change the object, a second time if one of them asks for it. Stops at the
    /// first refusal.
    pub async fn mutate(
        &self,
        a: &Attributes<'_>,
        mut object: Option<&mut Object>,
        old: Option<&Object>,
    ) -> Verdict {
        let round = Round::default();
        let a = Attributes { round: Some(&round), ..*a };
        self.mutate_once(&a, object.as_deref_mut(), old).await?;
        if round.begin_second() {
            self.mutate_once(&a, object, old).await?;
        }
        Ok(())
    }

    async fn mutate_once(
        &self,
        a: &Attributes<'_>,
        mut object: Option<&mut Object>,
        old: Option<&Object>,
    ) -> Verdict {
        for plugin in &self.plugins {
            plugin.mutate(a, object.as_deref_mut(), old).await?;
        }
        Ok(())
    }

    /// Asks every plugin. Stops at the first refusal.
    pub async fn validate(
        &self,
        a: &Attributes<'_>,
        object: Option<&Object>,
        old: Option<&Object>,
    ) -> Verdict {
        for plugin in &self.plugins {
            plugin.validate(a, object, old).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
