//! All controllers against a real API server in the same process.

mod cluster;
mod identity;
mod workloads;
