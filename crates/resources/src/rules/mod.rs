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

use longshore_cel::Program;

/// Most that evaluating a program may cost, by estimate. Programs do not tell yet; what they may cost is
/// limited when they are evaluated.
fn cost_max(_program: &Program) -> u64 {
    0
}
