//! What every component needs and nothing knows about Kubernetes: clock, randomness, task
//! supervision, shutdown and readiness.

pub mod clock;
pub mod readiness;
pub mod rng;
pub mod task;

pub use clock::{Clock, SystemClock};
pub use task::{Shutdown, TaskKind, spawn};
