//! Everything about the Kubernetes API that needs no I/O: the dynamic object model, Status errors,
//! quantities, selectors, codecs, patches and the schema facts.
//!
//! Invariant: nothing here blocks, reads a clock or draws a random number; time and randomness are
//! arguments.

pub mod cbor;
pub mod complete;
pub mod defaults;
pub mod duration;
pub mod emptied;
pub mod field;
pub mod gostruct;
pub mod gvk;
pub mod json;
pub mod jsonpath;
pub mod managed;
pub mod meta_validation;
pub mod model;
pub mod names;
pub mod netip;
pub mod normalize;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod pattern;
pub mod placement;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
pub mod structural;
pub mod url;
pub mod yaml;

pub use gvk::{Gvk, Gvr};
pub use model::Model;
pub use object::Object;
pub use status::{Reason, StatusError};
