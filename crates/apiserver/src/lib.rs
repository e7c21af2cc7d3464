//! The generic API server. It knows no particular resource: what differs comes from the table in
//! `resources`.

pub mod admission;
pub mod aggregate;
pub mod audit;
pub mod auth;
pub mod body;
pub mod bootstrap;
pub mod cache;
pub mod custom;
pub mod discovery;
pub mod endpoints;
mod gather;
pub mod handler;
pub mod limits;
pub mod metrics;
pub mod nonresource;
pub mod openapi;
pub mod outbound;
pub mod pki;
pub mod reader;
pub mod registry;
pub mod request_info;
pub mod serve;
pub mod server;
