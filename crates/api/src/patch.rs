//! Patches of objects. Strategic merge patch and server-side apply will stand beside these two.

pub mod json;
pub mod merge;
#[cfg(test)]
mod tests;
