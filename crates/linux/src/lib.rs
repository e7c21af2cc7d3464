//! The parts of Linux that components use, each behind a seam with a fake.

pub mod memory;
pub mod nft;
