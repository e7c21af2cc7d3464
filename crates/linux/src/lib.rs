//! The parts of Linux that components use, each behind a seam with a fake.

pub mod nft;
