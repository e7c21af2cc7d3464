//! A short run of every fuzzer, and laws that hold for all objects.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod formats;
mod fuzzers;
mod patches;
mod texts;
