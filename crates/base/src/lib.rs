//! What every component needs and nothing knows about Kubernetes: clock, randomness, task
//! supervision, shutdown, readiness, and how a command ends.

pub mod clock;
pub mod readiness;
pub mod rng;
pub mod task;
pub mod usage;

pub use clock::{Clock, SystemClock};
pub use task::{Shutdown, TaskKind, spawn};
