//! The built-in resources: one file each, one line each in its group's table.
//!
//! Invariant: everything here is pure. A resource states only what differs from the generic
//! behaviour in `apiserver`; it never stores, authorizes or answers a request.

pub mod strategy;
pub mod table;

pub use strategy::{Context, DeleteContext, Strategy};
pub use table::{Column, Resource, Scope, Subresource};
