//! Integration tests of the API server's parts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod aggregate;
mod audit;
mod cache;
mod conversion;
mod custom;
mod other;
mod outbound;
mod serve;
mod webhooks;
mod wire;
