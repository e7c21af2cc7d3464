//! What can go wrong between a component and the API server.

use longshore_api::StatusError;

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered with a failure.
    #[error(transparent)]
    Status(Box<StatusError>),
    /// The server was not reached, or the connection broke off.
    #[error("the API server cannot be reached: {0}")]
    Transport(String),
    /// The answer makes no sense.
    #[error("the API server's answer cannot be read: {0}")]
    Decode(String),
}

impl Error {
    fn code(&self) -> u16 {
        match self {
            Self::Status(status) => status.code,
            _ => 0,
        }
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// Whether somebody else changed the object meanwhile.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Status(s) if s.reason == longshore_api::Reason::Conflict)
    }

    /// Whether the name is taken.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Status(s) if s.reason == longshore_api::Reason::AlreadyExists)
    }

    /// Whether a watch or list is too old to be continued.
    pub fn is_expired(&self) -> bool {
        self.code() == 410
    }

    /// Whether the namespace of a new object is being deleted.
    pub fn is_namespace_terminating(&self) -> bool {
        matches!(self, Self::Status(s) if s.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
    }

    /// Whether the answer was 422.
    pub fn is_invalid(&self) -> bool {
        self.code() == 422
    }
}

impl From<StatusError> for Error {
    fn from(status: StatusError) -> Self {
        Self::Status(Box::new(status))
    }
}
