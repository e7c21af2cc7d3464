//! Client certificates: the subject is the user.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/authentication/request/x509/x509.go

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authenticate::with_authenticated;
use super::front_proxy::FrontProxy;
use super::user::{CREDENTIAL_ID, UserInfo};

/// The object identifier of the subject attribute that holds a user's uid.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/authentication/request/x509 (asn1util.X509UID)
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// How long a judgement about a connection's certificates holds, in seconds.
const JUDGED_SECONDS: i64 = 60;

/// What was found out about the certificates of one connection: checking a signature costs more
/// than all the rest of a small request.
#[derive(Debug, Default)]
pub struct Memo(Mutex<Option<Judged>>);

#[derive(Debug)]
struct Judged {
    from: i64,
    until: i64,
    user: Arc<UserInfo>,
}

impl Memo {
    fn get(&self, now: Timestamp) -> Option<Arc<UserInfo>> {
        let judged = self.0.lock();
        let judged = judged.as_ref()?;
        let holds = judged.from <= now.as_second() && now.as_second() < judged.until;
        holds.then(|| judged.user.clone())
    }
}

/// Who clients' certificates may come from.
#[derive(Debug)]
pub(super) struct Authorities(Arc<dyn ClientCertVerifier>);

/// Judges client certificates: those of users, and those of proxies that speak for users.
#[derive(Debug)]
pub struct ClientCertificates {
    authorities: Authorities,
    pub(super) front_proxy: Option<FrontProxy>,
}

/// The authorities of client certificates could not be used.
#[derive(Debug, thiserror::Error)]
#[error("prepare the client certificate check: {0}")]
pub struct AuthorityError(String);

impl Authorities {
    pub(super) fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, AuthorityError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone()).map_err(|e| AuthorityError(e.to_string()))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| AuthorityError(e.to_string()))?;
        Ok(Self(verifier))
    }

    /// Whether a chain, leaf first, comes from one of the authorities; the error says why not.
    pub(super) fn verify(
        &self,
        chain: &[CertificateDer<'static>],
        now: Timestamp,
    ) -> Result<(), String> {
        let (leaf, intermediates) = chain.split_first().ok_or("there is no certificate")?;
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let verified = self.0.verify_client_cert(leaf, intermediates, time);
        let failed = |error| format!("verifying a client certificate failed: {error}");
        verified.map(drop).map_err(failed)
    }
}

impl ClientCertificates {
    /// Trusts certificates issued by these authorities.
    ///
    /// # Errors
    /// When an authority cannot be used.
    pub fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, AuthorityError> {
        Ok(Self { authorities: Authorities::new(authorities)?, front_proxy: None })
    }

    /// Besides, proxies may say who a user is.
    #[must_use]
    pub fn with_front_proxy(self, proxy: FrontProxy) -> Self {
        Self { front_proxy: Some(proxy), ..self }
    }

    /// The proxies that may say who a user is.
    pub fn front_proxy(&self) -> Option<&FrontProxy> {
        self.front_proxy.as_ref()
    }

    /// The user of a certificate chain; `None` when it names none; the error says why it is not
    /// trusted. `memo` belongs to this chain.
    pub(super) fn authenticate(
        &self,
        chain: &[CertificateDer<'static>],
        memo: Option<&Memo>,
        now: Timestamp,
    ) -> Result<Option<Arc<UserInfo>>, String> {
        let Some(leaf) = chain.first() else { return Ok(None) };
        if let Some(user) = memo.and_then(|memo| memo.get(now)) {
            return Ok(Some(user));
        }
        self.authorities.verify(chain, now)?;
        let (_, cert) = X509Certificate::from_der(leaf).map_err(|e| e.to_string())?;
        let user = user(leaf, &cert)?.map(|user| Arc::new(with_authenticated(user)));
        if let (Some(memo), Some(user)) = (memo, &user) {
            let end = cert.validity().not_after.timestamp();
            let until = end.min(now.as_second() + JUDGED_SECONDS);
            *memo.0.lock() = Some(Judged { from: now.as_second(), until, user: user.clone() });
        }
        Ok(user)
    }
}

fn user(leaf: &CertificateDer<'_>, cert: &X509Certificate<'_>) -> Result<Option<UserInfo>, String> {
    let subject = cert.subject();
    // The last common name counts, as Go's pkix.Name takes it.
    let name = subject.iter_common_name().filter_map(|a| a.as_str().ok()).last();
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    let groups: Vec<&str> = subject.iter_organization().filter_map(|a| a.as_str().ok()).collect();
    let mut user = UserInfo::new(name, &groups);
    let mut uids = subject
        .iter_attributes()
        .filter(|a| a.attr_type().to_id_string() == UID_ATTRIBUTE)
        .map(|a| a.as_str().map_err(|_| "unable to parse UID into a string".to_owned()));
    if let Some(uid) = uids.next() {
        user.uid = uid?.to_owned();
        if uids.next().is_some() {
            return Err("expected 1 UID, but found multiple".to_owned());
        }
        if user.uid.is_empty() {
            return Err("UID cannot be an empty string".to_owned());
        }
    }
    let hash: String = Sha256::digest(leaf).iter().map(|b| format!("{b:02x}")).collect();
    user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={hash}")]);
    Ok(Some(user))
}
