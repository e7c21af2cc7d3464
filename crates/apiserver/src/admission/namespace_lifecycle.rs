//! Nothing is made in a namespace that is missing or ends.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_api::status::Cause;
use longshore_api::{Object, StatusError};

use super::{Attributes, Operation, Plugin, Tools, Verdict};
use crate::reader::{self, Reader};

/// Namespaces that nobody may delete.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle {
    reader: Arc<dyn Reader>,
}

impl NamespaceLifecycle {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }

    async fn check(&self, a: &Attributes<'_>, object: Option<&Object>) -> Verdict {
        if a.is_any("", "namespaces") {
            let deletes = a.operation == Operation::Delete && a.subresource.is_empty();
            if deletes && IMMORTAL.contains(&a.name) {
                return Err(a.forbidden(object, "this namespace may not be deleted"));
            }
            return Ok(());
        }
        if a.namespace.is_empty()
            || a.operation == Operation::Delete
            || a.is_any("authorization.k8s.io", "localsubjectaccessreviews")
        {
            return Ok(());
        }
        let namespace = reader::find(&*self.reader, ("", "namespaces"), "", a.namespace).await?;
        let Some(namespace) = namespace else {
            return Err(StatusError::not_found("", "namespaces", a.namespace));
        };
        if !a.creates() || namespace.str(&["status", "phase"]) != "Terminating" {
            return Ok(());
        }
        let name = a.namespace;
        let mut error = a.forbidden(
            object,
            &format!(
                "unable to create new content in namespace {name} because it is being terminated"
            ),
        );
        error.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
        Err(error)
    }
}

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn mutate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a mut Object>,
        _old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        async move { self.check(a, object.as_deref()).await }.boxed()
    }
}
