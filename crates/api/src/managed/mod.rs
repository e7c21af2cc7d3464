//! Who manages which fields of an object: `metadata.managedFields` and server-side apply.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6,
//! staging/src/k8s.io/apimachinery/pkg/util/managedfields

pub mod codec;
pub mod compare;
mod error;
pub mod filter;
mod item;
pub mod managers;
pub mod path;
mod reconcile;
mod schema;
pub mod set;
mod track;
mod updater;
mod value;

pub use error::Error;
pub use filter::Filter;
pub use set::Set;
pub use track::{Write, track};
pub use updater::Versions;
