//! The generic API server. It knows no particular resource: what differs comes from the table in
//! `resources`.

pub mod admission;
pub mod auth;
pub mod bootstrap;
pub mod cache;
pub mod endpoints;
pub mod pki;
pub mod reader;
pub mod request_info;
pub mod serve;
