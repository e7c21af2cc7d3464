//! Patches of objects. Server-side apply will stand beside these.

pub mod json;
pub mod merge;
pub mod strategic;
#[cfg(test)]
mod tests;
