//! The generic API server. It knows no particular resource: what differs comes from the table in
//! `resources`.
//!
//! Here now: the request line ([`request_info`]), content negotiation ([`endpoints::negotiate`]) and
//! the watch cache ([`cache`]).

pub mod cache;
pub mod endpoints;
pub mod request_info;
