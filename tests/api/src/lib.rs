//! Behaviour of the API as data: scenarios of requests and the answers that any conforming API server gives.
//!
//! The scenarios are YAML files under `cases`; [`scenario`] tells their form. They run against a
//! server that is started for them, or against the one that [`server::KUBECONFIG`] names.

pub mod pattern;
pub mod run;
pub mod scenario;
pub mod server;
pub mod variables;
pub mod wire;
