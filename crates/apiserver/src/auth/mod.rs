//! Who asks and what they may do: authentication and authorization.

mod attributes;
pub mod user;

pub use attributes::{Attributes, Decision, forbidden};
pub use user::UserInfo;
