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
