//! Whom calls of other servers trust, and who they are for them.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where systems keep the authorities that everybody trusts.
///
/// upstream: Go's crypto/x509/root_linux.go
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Which servers are trusted.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Those with a certificate of these authorities, in PEM; of the system's if there are none.
    Authorities(&'a [u8]),
    /// All of them.
    Anyone,
}

/// A certificate with its key, to show to servers.
#[derive(Debug)]
pub struct Identity {
    /// The certificate and those between it and its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// TLS towards other servers.
///
/// # Errors
/// When the authorities or the identity cannot be used.
pub fn config(trust: Trust<'_>, identity: Option<Identity>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let checks: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anyone => longshore_client::unchecked::verifier(),
        Trust::Authorities(pem) => Arc::new(Checked::new(pem, &provider)?),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(checks);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key }) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("unable to use the client certificate: {error}"))?,
    };
    // Connections are shared out by the pool, one request at a time.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// As rustls checks certificates; besides, a server may use a certificate that is trusted itself,
/// which many small servers do.
#[derive(Debug)]
struct Checked {
    /// None when nobody is trusted.
    chains: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Checked {
    fn new(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let trusted = if pem.iter().all(u8::is_ascii_whitespace) {
            system_roots().to_vec()
        } else {
            parse(pem)
                .ok_or("unable to load root certificates: unable to parse bytes as PEM block")?
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let chains = if roots.is_empty() {
            None
        } else {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            Some(builder.build().map_err(|error| error.to_string())?)
        };
        Ok(Self { chains, trusted, provider: provider.clone() })
    }

    /// What a certificate that is trusted itself has to be.
    fn check_trusted(
        end_entity: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (_, parsed) = X509Certificate::from_der(end_entity)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        if seconds < validity.not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if seconds > validity.not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        let usage = parsed.extended_key_usage().ok().flatten().map(|usage| usage.value);
        if usage.is_some_and(|usage| !usage.any && !usage.server_auth) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        let parsed = rustls::server::ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Checked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trusted.iter().any(|own| own.as_ref() == end_entity.as_ref()) {
            return Self::check_trusted(end_entity, name, now);
        }
        match &self.chains {
            None => Err(CertificateError::UnknownIssuer.into()),
            Some(chains) => chains.verify_server_cert(end_entity, intermediates, name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificates in a text; none when there is not one.
fn parse(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    (!found.is_empty()).then_some(found)
}

fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut files = SYSTEM_ROOTS.iter().filter_map(|path| std::fs::read(path).ok());
        files.find_map(|pem| parse(&pem)).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::pki::{self, Subject, Usage};

    #[test]
    fn a_certificate_that_is_trusted_itself_has_to_be_one_of_a_server() {
        let dir = tempfile::tempdir().expect("a directory");
        let now = jiff::Timestamp::now();
        let authority = pki::ensure(dir.path(), &[], &[], now).expect("an authority").ca;
        let check = |usage, name: &str, at: jiff::Timestamp| {
            let ips = vec![IpAddr::from([192, 0, 2, 1])];
            let (common_name, names) = ("hook", Vec::new());
            let subject = Subject { common_name, organizations: &[], names, ips, usage };
            let pair = authority.issue(&subject, now).expect("a certificate");
            let provider = Arc::new(aws_lc_rs::default_provider());
            let checked = Checked::new(pair.cert_pem.as_bytes(), &provider).expect("it is read");
            let name = ServerName::try_from(name.to_owned()).expect("a name");
            let seconds = u64::try_from(at.as_second()).expect("after 1970");
            let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let leaf = &pair.certificates()[0];
            checked.verify_server_cert(leaf, &[], &name, &[], at).map(drop)
        };
        assert_eq!(check(Usage::Server, "192.0.2.1", now), Ok(()));
        let invalid = |why| Err(rustls::Error::InvalidCertificate(why));
        let purpose = check(Usage::Client, "192.0.2.1", now);
        assert_eq!(purpose, invalid(CertificateError::InvalidPurpose));
        assert!(check(Usage::Server, "192.0.2.2", now).is_err());
        let late = now + Duration::from_secs(100 * 366 * 86_400);
        assert_eq!(check(Usage::Server, "192.0.2.1", late), invalid(CertificateError::Expired));
    }
}
