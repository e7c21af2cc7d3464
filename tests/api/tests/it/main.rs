//! The API over the wire: behaviour scenarios, and what hostile clients try.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hostile;
mod raw;
mod rows;
mod scenarios;
