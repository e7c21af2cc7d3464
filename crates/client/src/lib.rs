//! What components know of the API server: a client over any transport, shared caches that follow
//! it, work queues, and the recorder of events.
//!
//! Objects are dynamic ([`longshore_api::Object`]): a component reads the few fields it needs, and
//! caches keep only those ([`informer::Options::keep`]).

pub mod client;
pub mod error;
pub mod https;
pub mod informer;
pub mod kubeconfig;
pub mod queue;
pub mod recorder;
pub mod resource;
pub mod transport;
pub mod unchecked;
pub mod workers;

pub use client::{Client, ListOptions, Patch};
pub use error::Error;
pub use informer::{Factory, Informer};
pub use queue::Queue;
pub use recorder::EventRecorder;
pub use resource::Resource;
pub use transport::{Body, BodyError, Transport};
