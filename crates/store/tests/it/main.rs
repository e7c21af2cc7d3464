//! Integration tests of the stores.

mod contract;
mod crash;
mod embedded;
mod full;
mod log;
