//! The built-in resources: one file each, one line each in its group's table.
//!
//! Invariant: everything here is pure. A resource states only what differs from the generic
//! behaviour in `apiserver`; it never stores, authorizes or answers a request.

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod authentication;
mod authorization;
pub mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod events;
mod flowcontrol;
mod networking;
mod node;
pub mod plain;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod storage;
pub mod strategy;
pub mod table;

pub use strategy::{Context, DeleteContext, Strategy};
pub use table::{Column, Resource, Scope, Subresource};

/// Every built-in resource, in the order of discovery.
pub fn all() -> Vec<Resource> {
    let groups: [fn() -> Vec<Resource>; 21] = [
        core::table,
        apiregistration::table,
        apps::table,
        events::table,
        authentication::table,
        authorization::table,
        autoscaling::table,
        batch::table,
        certificates::table,
        networking::table,
        policy::table,
        rbac::table,
        storage::table,
        admissionregistration::table,
        apiextensions::table,
        scheduling::table,
        coordination::table,
        node::table,
        discovery::table,
        resource::table,
        flowcontrol::table,
    ];
    groups.into_iter().flat_map(|table| table()).collect()
}
