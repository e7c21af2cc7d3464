//! The client against a server that answers as it was told to.

mod failures;
mod informer;
mod server;
