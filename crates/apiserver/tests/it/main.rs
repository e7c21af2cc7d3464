//! Integration tests of the API server's parts.

mod cache;
mod serve;
