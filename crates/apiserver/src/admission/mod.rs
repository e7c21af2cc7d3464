//! Admission: the checks and changes of a write that concern more than one resource.
//!
//! One file for each plugin and one line in [`Admission::new`]. Mutating plugins run in the table's
//! order between the strategy's preparation and validation; validating plugins run in the same order
//! after validation, on the object as it will be stored.
//!
//! upstream: pkg/kubeapiserver/options/plugins.go

mod attributes;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_api::{Object, StatusError};

pub use attributes::{Attributes, Operation};

use crate::reader::Reader;

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
    ) -> BoxFuture<'a, Result<(), StatusError>> {
        async { Ok(()) }.boxed()
    }

    /// Says whether the request may go on.
    fn validate<'a>(
        &'a self,
        _a: &'a Attributes<'a>,
        _object: Option<&'a Object>,
        _old: Option<&'a Object>,
    ) -> BoxFuture<'a, Result<(), StatusError>> {
        async { Ok(()) }.boxed()
    }
}

/// The plugins in upstream's order.
pub struct Admission {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Admission {
    /// The plugins of a default cluster.
    pub fn new(_reader: Arc<dyn Reader>) -> Self {
        Self { plugins: Vec::new() }
    }

    /// Lets every plugin change the object. Stops at the first refusal.
    pub async fn mutate(
        &self,
        a: &Attributes<'_>,
        mut object: Option<&mut Object>,
        old: Option<&Object>,
    ) -> Result<(), StatusError> {
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
    ) -> Result<(), StatusError> {
        for plugin in &self.plugins {
            plugin.validate(a, object, old).await?;
        }
        Ok(())
    }
}
