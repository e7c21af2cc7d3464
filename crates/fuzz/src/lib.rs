//! Random objects of every kind, and fuzzers of everything that reads what a client sends.
//!
//! A target is one line in [`targets::TARGETS`]: where its seeds come from and what is done with
//! an input. It panics when the input breaks a law that holds for all inputs.

pub mod engine;
pub mod generate;
pub mod mutate;
pub mod random;
pub mod targets;
