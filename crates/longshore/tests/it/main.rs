//! The binary as people use it: started as a process, driven by a stock kubectl.
//!
//! Every test starts what it needs on ports and in directories of its own. Those of `cluster` run real containers:
//! they need root, containerd, the CNI plugins and kubectl, which `./x test` installs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit;
mod cluster;
mod command_line;
mod full_disk;
mod image;
mod kubectl;
mod kubectl_apply;
mod restart;
mod server;
