//! The API error: `metav1.Status` with its reasons and codes.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go

use serde_json::{Map, Value, json};

use crate::field;
use crate::patch::gotext::quote;

/// The machine-readable reason of a failure, with its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are upstream's StatusReason values")]
pub enum Reason {
    AlreadyExists,
    BadRequest,
    Conflict,
    Expired,
    Forbidden,
    Gone,
    InternalError,
    Invalid,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    RequestEntityTooLarge,
    ServerTimeout,
    ServiceUnavailable,
    Timeout,
    TooManyRequests,
    Unauthorized,
    UnsupportedMediaType,
    Unknown,
}

impl Reason {
    /// The HTTP status code that goes with the reason.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired | Self::Gone => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::Unknown => 500,
            Self::ServiceUnavailable => 503,
            Self::ServerTimeout | Self::Timeout => 504,
        }
    }

    /// The reason's name on the wire; empty for [`Reason::Unknown`].
    pub fn name(self) -> &'static str {
        match self {
            Self::AlreadyExists => "AlreadyExists",
            Self::BadRequest => "BadRequest",
            Self::Conflict => "Conflict",
            Self::Expired => "Expired",
            Self::Forbidden => "Forbidden",
            Self::Gone => "Gone",
            Self::InternalError => "InternalError",
            Self::Invalid => "Invalid",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::NotFound => "NotFound",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::ServerTimeout => "ServerTimeout",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::Unauthorized => "Unauthorized",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Unknown => "",
        }
    }

    /// The reason with this wire name; [`Reason::Unknown`] when there is none.
    pub fn from_name(name: &str) -> Self {
        const ALL: [Reason; 18] = [
            Reason::AlreadyExists,
            Reason::BadRequest,
            Reason::Conflict,
            Reason::Expired,
            Reason::Forbidden,
            Reason::Gone,
            Reason::InternalError,
            Reason::Invalid,
            Reason::MethodNotAllowed,
            Reason::NotAcceptable,
            Reason::NotFound,
            Reason::RequestEntityTooLarge,
            Reason::ServerTimeout,
            Reason::ServiceUnavailable,
            Reason::Timeout,
            Reason::TooManyRequests,
            Reason::Unauthorized,
            Reason::UnsupportedMediaType,
        ];
        ALL.into_iter().find(|r| r.name() == name).unwrap_or(Reason::Unknown)
    }
}

/// One cause in `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Wire `reason`, such as `FieldValueInvalid`.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// The field path; empty when the cause has none.
    pub field: String,
}

/// A failed request, ready to be sent as a `Status` object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StatusError {
    /// HTTP status code; mostly `reason.code()`.
    pub code: u16,
    /// Machine-readable reason.
    pub reason: Reason,
    /// What a person reads.
    pub message: String,
    /// `details.name`.
    pub name: String,
    /// `details.group`.
    pub group: String,
    /// `details.kind`: the resource's plural for most errors, the kind for `Invalid`.
    pub kind: String,
    /// `details.uid`.
    pub uid: String,
    /// `details.causes`.
    pub causes: Vec<Cause>,
    /// `details.retryAfterSeconds`; 0 for none. Also sent as the `Retry-After` header.
    pub retry_after_seconds: u32,
    /// `metadata.continue`: where a list can go on although this request failed.
    pub continue_token: String,
}

/// `pods` or `deployments.apps`, as messages name a resource.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl StatusError {
    /// An error with a reason and a message and nothing else.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason,
            message: message.into(),
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
            continue_token: String::new(),
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.group = group.to_owned();
        self.kind = kind.to_owned();
        self.name = name.to_owned();
        self
    }

    /// 404: no such object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let what = qualified(group, resource);
        Self::new(Reason::NotFound, format!("{what} {} not found", quote(name)))
            .about(group, resource, name)
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let what = qualified(group, resource);
        Self::new(Reason::AlreadyExists, format!("{what} {} already exists", quote(name)))
            .about(group, resource, name)
    }

    /// 409: the object changed, or a precondition failed.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = format!("Operation cannot be fulfilled on {what} {}: {why}", quote(name));
        Self::new(Reason::Conflict, message).about(group, resource, name)
    }

    /// 403: authorization or admission says no.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{what} is forbidden: {why}"),
            (false, false) => format!("{what} {} is forbidden: {why}", quote(name)),
        };
        Self::new(Reason::Forbidden, message).about(group, resource, name)
    }

    /// 422: the object breaks rules. `kind` is the kind, not the plural.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[field::Error]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for error in errors {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let what = qualified(group, kind);
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error =
            Self::new(Reason::Invalid, format!("{what} {} is invalid: {list}", quote(name)))
                .about(group, kind, name);
        error.causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.kind.reason().to_owned(),
                message: e.body.clone(),
                field: e.field.clone(),
            })
            .collect();
        error
    }

    /// 400 with a message.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// 500 with a cause, as upstream wraps unexpected errors.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        let mut status =
            Self::new(Reason::InternalError, format!("Internal error occurred: {error}"));
        status.causes =
            vec![Cause { reason: String::new(), message: error.to_string(), field: String::new() }];
        status
    }

    /// 410: the resource version is too old, or the continue token expired.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// 405 for a resource.
    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Self {
        let what = qualified(group, resource);
        let message = format!("{verb} is not supported on resources of kind \"{what}\"");
        Self::new(Reason::MethodNotAllowed, message).about(group, resource, "")
    }

    /// The `Status` object of this error.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": self.code,
        });
        if !self.continue_token.is_empty() {
            status["metadata"] = json!({ "continue": self.continue_token });
        }
        let fields = status.as_object_mut().expect("built as an object");
        if !self.message.is_empty() {
            fields.insert("message".into(), self.message.clone().into());
        }
        if !self.reason.name().is_empty() {
            fields.insert("reason".into(), self.reason.name().into());
        }
        let details = self.details();
        if !details.is_empty() {
            fields.insert("details".into(), Value::Object(details));
        }
        status
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        let mut text = |key: &str, value: &str| {
            if !value.is_empty() {
                details.insert(key.to_owned(), value.into());
            }
        };
        text("name", &self.name);
        text("group", &self.group);
        text("kind", &self.kind);
        text("uid", &self.uid);
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut map = Map::new();
                for (key, value) in [
                    ("reason", &cause.reason),
                    ("message", &cause.message),
                    ("field", &cause.field),
                ] {
                    if !value.is_empty() {
                        map.insert(key.to_owned(), value.as_str().into());
                    }
                }
                Value::Object(map)
            });
            details.insert("causes".into(), causes.collect());
        }
        if self.retry_after_seconds > 0 {
            details.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        details
    }

    /// Reads a `Status` object that another server sent; `code` is the HTTP status.
    pub fn from_value(code: u16, value: &Value) -> Self {
        let text = |v: &Value, key: &str| v[key].as_str().unwrap_or("").to_owned();
        let mut error =
            Self::new(Reason::from_name(&text(value, "reason")), text(value, "message"));
        error.code = code;
        let details = &value["details"];
        error =
            error.about(&text(details, "group"), &text(details, "kind"), &text(details, "name"));
        error.uid = text(details, "uid");
        error.causes = details["causes"].as_array().map_or_else(Vec::new, |causes| {
            causes
                .iter()
                .map(|c| Cause {
                    reason: text(c, "reason"),
                    message: text(c, "message"),
                    field: text(c, "field"),
                })
                .collect()
        });
        error.retry_after_seconds = details["retryAfterSeconds"]
            .as_u64()
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(0);
        error
    }
}

impl From<Box<StatusError>> for StatusError {
    fn from(boxed: Box<StatusError>) -> Self {
        *boxed
    }
}
