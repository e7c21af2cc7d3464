//! All controllers against a real API server in the same process.

mod cluster;
mod garbage;
mod identity;
mod workloads;
