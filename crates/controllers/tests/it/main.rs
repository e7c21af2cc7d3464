//! All controllers against a real API server in the same process.

mod autoscaling;
mod cluster;
mod garbage;
mod identity;
mod networks;
mod storage;
mod workloads;
