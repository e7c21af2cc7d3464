//! Who asks and what they may do: authentication and authorization.
//!
//! Invariant: nothing here waits. Objects are read from the watch caches through
//! [`crate::reader::Reader`].

mod attributes;
mod authenticate;
mod authorize;
pub mod front_proxy;
mod impersonation;
mod legacy_token;
mod node;
mod rbac;
mod review;
mod rule;
mod token;
mod token_request;
pub mod user;
mod x509;

pub use attributes::{Attributes, Decision, forbidden};
pub use authenticate::{
    Authentication, Credentials, review_self, strip_credentials, user_value, with_authenticated,
};
pub use authorize::{Authorization, RulesFor};
pub use front_proxy::FrontProxy;
pub use impersonation::{impersonate, is_requested as impersonation_requested};
pub use rule::PolicyRule;
pub use token::{DEFAULT_ISSUER, KeyError, TokenIssuer, TokenSpec};
pub use token_request::create_token;
pub use user::UserInfo;
pub use x509::{AuthorityError, ClientCertificates, Memo};

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
