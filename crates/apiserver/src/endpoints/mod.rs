//! What happens to a request once it is known whose it is and what it may do.

pub mod negotiate;
