//! Rules that are expressions: of custom resources, admission policies, webhooks and devices.

pub mod admission;
pub mod conditions;
pub mod custom;
pub mod declared;
pub mod device;
pub mod evaluate;
pub mod mutating;
pub mod typecheck;
pub mod validating;
