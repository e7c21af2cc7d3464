//! Who manages which fields of an object: `metadata.managedFields` and server-side apply.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6,
//! staging/src/k8s.io/apimachinery/pkg/util/managedfields

mod apply;
pub mod codec;
pub mod compare;
mod conflict;
mod custom;
mod error;
mod fieldset;
pub mod filter;
mod item;
mod last_applied;
pub mod managers;
mod merge;
#[cfg(test)]
mod model;
mod overlay;
pub mod path;
mod prune;
mod reconcile;
mod remove;
pub mod scale;
mod schema;
pub mod set;
mod track;
mod updater;
mod validate;
mod value;

pub use apply::apply;
pub use error::Error;
pub use filter::Filter;
pub use overlay::overlay;
pub use schema::Typing;
pub use set::Set;
pub use track::{Write, track};
pub use updater::{OneVersion, Versions};
