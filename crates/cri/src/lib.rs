//! The container runtime interface: a client over the runtime's socket, and the logs that the
//! runtime writes.
//!
//! upstream: staging/src/k8s.io/cri-api/pkg/apis/runtime/v1

pub mod logs;
pub mod runtime;
pub mod v1;

pub use runtime::{Error, Runtime};
