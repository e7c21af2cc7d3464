//! Reading certificates and deciding whether a leaf certificate may be kept.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authority, BACKDATE, Error, Pair, RENEW_BEFORE, Subject, file};

/// What matters about a certificate.
pub(super) struct Facts {
    pub(super) public_key: Vec<u8>,
    common_name: String,
    organizations: Vec<String>,
    names: Vec<String>,
    ips: Vec<IpAddr>,
    /// Unix seconds.
    not_after: i64,
    key_id: Vec<u8>,
    authority_key_id: Vec<u8>,
}

/// Sets a certificate's validity: from a little before `now` for `lifetime`.
pub(super) fn set_validity(
    params: &mut CertificateParams,
    now: Timestamp,
    lifetime: Duration,
) -> Result<(), Error> {
    let seconds = u64::try_from(now.as_second()).map_err(|_| Error::Time(now))?;
    let now = Duration::from_secs(seconds);
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + (now + lifetime);
    Ok(())
}

pub(super) fn parse_key(path: &Path, pem: &str) -> Result<KeyPair, Error> {
    KeyPair::from_pem(pem)
        .map_err(|error| Error::Damaged { path: path.to_owned(), why: error.to_string() })
}

pub(super) fn parse_cert(path: &Path, pem: &str) -> Result<Facts, Error> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| damaged(e.to_string()))?;
    let (_, cert) = X509Certificate::from_der(&der).map_err(|e| damaged(e.to_string()))?;
    let mut facts = Facts {
        public_key: cert.public_key().raw.to_vec(),
        common_name: texts(cert.subject().iter_common_name()).pop().unwrap_or_default(),
        organizations: texts(cert.subject().iter_organization()),
        names: Vec::new(),
        ips: Vec::new(),
        not_after: cert.validity().not_after.timestamp(),
        key_id: Vec::new(),
        authority_key_id: Vec::new(),
    };
    for extension in cert.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => facts.key_id = id.0.to_vec(),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                facts.authority_key_id =
                    id.key_identifier.as_ref().map_or_else(Vec::new, |id| id.0.to_vec());
            }
            ParsedExtension::SubjectAlternativeName(san) => {
                for name in &san.general_names {
                    match name {
                        GeneralName::DNSName(name) => facts.names.push((*name).to_owned()),
                        GeneralName::IPAddress(bytes) => facts.ips.extend(address(bytes)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(facts)
}

fn texts<'a>(
    attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Vec<String> {
    attributes.filter_map(|a| a.as_str().ok()).map(str::to_owned).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// Keeps the certificate NAME.crt when it is still good, makes a new one otherwise.
pub(super) fn ensure(
    dir: &Path,
    name: &str,
    authority: &Authority,
    subject: &Subject<'_>,
    now: Timestamp,
) -> Result<Pair, Error> {
    let (cert_path, key_path) = (file::cert(dir, name), file::key(dir, name));
    if let (Some(cert_pem), Some(key_pem)) = (file::read(&cert_path)?, file::read(&key_path)?) {
        let facts = parse_cert(&cert_path, &cert_pem)?;
        let key = parse_key(&key_path, &key_pem)?;
        let ca = parse_cert(&file::cert(dir, "ca"), authority.cert_pem())?;
        match reason_to_renew(&facts, &key, &ca, subject, now) {
            None => return Ok(Pair { cert_pem, key_pem }),
            Some(reason) => tracing::info!(certificate = name, reason, "renewing a certificate"),
        }
    }
    let pair = authority.issue(subject, now)?;
    file::write(&key_path, &pair.key_pem, file::PRIVATE)?;
    file::write(&cert_path, &pair.cert_pem, file::PUBLIC)?;
    Ok(pair)
}

fn reason_to_renew(
    facts: &Facts,
    key: &KeyPair,
    ca: &Facts,
    subject: &Subject<'_>,
    now: Timestamp,
) -> Option<&'static str> {
    let left = facts.not_after.saturating_sub(now.as_second());
    let least = i64::try_from(RENEW_BEFORE.as_secs()).expect("30 days fit");
    if left < least {
        return Some("it ends soon");
    }
    // A crash between the two writes leaves a new key beside the old certificate.
    if facts.public_key != key.subject_public_key_info() {
        return Some("it does not belong to its key");
    }
    if facts.authority_key_id != ca.key_id {
        return Some("it comes from another authority");
    }
    if facts.common_name != subject.common_name
        || facts.organizations.iter().ne(subject.organizations.iter())
    {
        return Some("it names another subject");
    }
    let names = subject.names.iter().all(|name| facts.names.contains(name));
    let ips = subject.ips.iter().all(|ip| facts.ips.contains(ip));
    (!names || !ips).then_some("it lacks a name or address")
}
