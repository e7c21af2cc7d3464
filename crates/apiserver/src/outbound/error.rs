//! Why a call of another server failed, in the words that Go has for it.

use std::error::Error as _;
use std::io;

use super::Address;

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The service that is named cannot be called.
    #[error("{0}")]
    Service(String),
    /// The name has no address.
    #[error("dial tcp: lookup {0}: no such host")]
    NoSuchHost(String),
    /// There is no connection to the server.
    #[error("dial tcp {address}: {why}")]
    Dial {
        /// Where it should be.
        address: Address,
        /// What the system says.
        why: String,
    },
    /// The server is not the one it should be, or does not take us.
    #[error("{0}")]
    Tls(String),
    /// The deadline has passed.
    #[error("context deadline exceeded")]
    Deadline,
    /// Too many calls of the server are under way.
    #[error("dial tcp {0}: too many calls are under way")]
    Busy(Address),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl CallError {
    pub(super) fn dial(address: &Address, error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            _ => format!("connect: {error}"),
        };
        Self::Dial { address: address.clone(), why }
    }

    pub(super) fn tls(error: &io::Error, server_name: &str) -> Self {
        if matches!(error.kind(), io::ErrorKind::UnexpectedEof) {
            return Self::Other("EOF".to_owned());
        }
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        Self::Tls(match inner {
            Some(rustls::Error::InvalidCertificate(why)) => {
                format!(
                    "tls: failed to verify certificate: x509: {}",
                    certificate(why, server_name)
                )
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                format!("remote error: tls: {}", spaced(&format!("{alert:?}")))
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                "http: server gave HTTP response to HTTPS client".to_owned()
            }
            _ => format!("tls: {error}"),
        })
    }

    pub(super) fn http(error: &hyper::Error) -> Self {
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            return Self::Other("EOF".to_owned());
        }
        if let Some(io) = io_error(error) {
            // In TLS 1.3 a server refuses a client's certificate after the handshake.
            if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                return Self::tls(io, "");
            }
            return Self::Other(match io.kind() {
                io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
                io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
                _ => io.to_string(),
            });
        }
        if error.is_parse() {
            return Self::Other(format!("net/http: HTTP/1.x transport connection broken: {error}"));
        }
        Self::Other(error.to_string())
    }
}

fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    error.source().and_then(|source| source.downcast_ref::<io::Error>())
}

/// Whether the server has closed the connection.
pub(super) fn is_closed(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let io = io_error(error).map(io::Error::kind);
    error.is_incomplete_message()
        || error.is_closed()
        || matches!(io, Some(BrokenPipe | ConnectionReset | UnexpectedEof))
}

fn certificate(why: &rustls::CertificateError, server_name: &str) -> String {
    use rustls::CertificateError as Why;
    match why {
        Why::UnknownIssuer | Why::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        Why::NotValidForName => format!("certificate is not valid for {server_name}"),
        Why::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().filter_map(|name| san(name)).collect();
            if names.is_empty() {
                format!("certificate is not valid for any names, but wanted to match {server_name}")
            } else {
                format!("certificate is valid for {}, not {server_name}", names.join(", "))
            }
        }
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".to_owned()
        }
        Why::Expired | Why::NotValidYet => "certificate has expired or is not yet valid".to_owned(),
        Why::ExpiredContext { time, not_after } => format!(
            "certificate has expired or is not yet valid: current time {} is after {}",
            instant(*time),
            instant(*not_after)
        ),
        Why::NotValidYetContext { time, not_before } => format!(
            "certificate has expired or is not yet valid: current time {} is before {}",
            instant(*time),
            instant(*not_before)
        ),
        other => other.to_string(),
    }
}

/// `DnsName("a.b")` and `IpAddress(1.2.3.4)` without what is around.
fn san(name: &str) -> Option<String> {
    let (_, inner) = name.split_once('(')?;
    Some(inner.strip_suffix(')')?.trim_matches('"').to_owned())
}

fn instant(time: rustls::pki_types::UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    crate::registry::rfc3339(time)
}

/// `BadCertificate` as `bad certificate`.
fn spaced(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
