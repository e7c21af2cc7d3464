//! A proxy in front of the server: with its certificate, headers say who the user is.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/authentication/request/headerrequest/requestheader.go

use http::HeaderMap;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::user::UserInfo;
use super::x509::{Authorities, AuthorityError};
use crate::outbound::tls::Identity;
use crate::pki::Pair;
use crate::request_info::percent_decode;

/// The headers with the user's name, as they are told to other servers.
pub const USER_HEADER: &str = "X-Remote-User";
/// The header with the user's stable identifier. The server sends it, but does not take it: like
/// upstream, nothing is configured for it.
pub const UID_HEADER: &str = "X-Remote-Uid";
/// The headers with the user's groups.
pub const GROUP_HEADER: &str = "X-Remote-Group";
/// What the names of headers with other facts about the user start with.
pub const EXTRA_PREFIX: &str = "X-Remote-Extra-";
/// The names in the certificates of proxies.
pub const NAMES: [&str; 1] = ["front-proxy-client"];

/// Who is trusted to say who a user is.
#[derive(Debug)]
pub struct FrontProxy {
    authorities: Authorities,
    identity: Option<Identity>,
}

impl FrontProxy {
    /// Trusts proxies with a certificate of these authorities and one of [`NAMES`].
    ///
    /// # Errors
    /// When an authority cannot be used.
    pub fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, AuthorityError> {
        Ok(Self { authorities: Authorities::new(authorities)?, identity: None })
    }

    /// This server is such a proxy for others, and shows them a certificate.
    #[must_use]
    pub fn with_identity(self, pair: &Pair) -> Self {
        let identity = Identity { chain: pair.certificates(), key: pair.key() };
        Self { identity: Some(identity), ..self }
    }

    /// What this server shows to others.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The user that a proxy names; `None` when the headers name none. The error says why the proxy
    /// is not trusted.
    pub(super) fn authenticate(
        &self,
        headers: &HeaderMap,
        chain: &[CertificateDer<'static>],
        now: Timestamp,
    ) -> Result<Option<UserInfo>, String> {
        // The headers first: few requests have them, and a signature is dear.
        let name = first(headers, USER_HEADER);
        if name.is_empty() || chain.is_empty() {
            return Ok(None);
        }
        self.authorities.verify(chain, now)?;
        let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(|e| e.to_string())?;
        let common = leaf.subject().iter_common_name().filter_map(|a| a.as_str().ok()).last();
        let common = common.unwrap_or("");
        if !NAMES.contains(&common) {
            return Err(format!("x509: subject with cn={common} is not in the allowed list"));
        }
        let mut user = UserInfo { name: name.to_owned(), ..UserInfo::default() };
        let groups = headers.get_all(GROUP_HEADER).iter().filter_map(|value| value.to_str().ok());
        user.groups = groups.filter(|group| !group.is_empty()).map(str::to_owned).collect();
        let prefix = EXTRA_PREFIX.to_ascii_lowercase();
        for (header, value) in headers {
            if let (Some(key), Ok(value)) = (header.as_str().strip_prefix(&prefix), value.to_str())
            {
                let values = user.extra.entry(percent_decode(key, false)).or_default();
                values.push(value.to_owned());
            }
        }
        Ok(Some(user))
    }
}

fn first<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}
