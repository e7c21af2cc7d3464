//! The certificates and keys of a cluster: what is missing is made, what is valid is kept.
//!
//! Invariant: an authority or the service-account key is never replaced; leaf certificates are
//! renewed when they end soon, lack a name, or come from another authority.

mod file;
mod leaf;
mod request;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use request::Terms;

/// How long an authority is valid.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long a leaf certificate is valid.
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// Leaf certificates that end within this time are renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// Certificates start a little in the past, so that clocks may differ.
const BACKDATE: Duration = Duration::from_secs(300);

/// The names under which the API server is reached from inside the cluster.
const SERVICE_NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

/// Why the certificates could not be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A file does not hold what its name says.
    #[error(
        "{path} is damaged: restore a copy of it, or remove it with its other half (.crt, .key) to have both made \
         again ({why})"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate exists without its key.
    #[error("{path} is missing, but its certificate exists; restore the key or remove both")]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("make a certificate for {name}: {source}")]
    Make {
        /// Common name.
        name: String,
        /// What went wrong.
        source: rcgen::Error,
    },
    /// A certificate's end lies outside of what can be written.
    #[error("the time {0} is out of range")]
    Time(Timestamp),
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert_pem: String,
    /// The private key (PKCS #8).
    pub key_pem: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Pair {
    /// The certificates in DER, leaf first.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert_pem.as_bytes()).filter_map(Result::ok).collect()
    }

    /// The key in DER.
    ///
    /// # Panics
    /// Never for pairs made by this module: they are parsed before.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("the key was parsed before")
    }
}

/// What a leaf certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Proves a client's identity.
    Client,
    /// Proves a server's identity.
    Server,
}

/// What a leaf certificate says.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Common name: the user.
    pub common_name: &'a str,
    /// Organizations: the groups.
    pub organizations: &'a [&'a str],
    /// DNS names.
    pub names: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// What it is for.
    pub usage: Usage,
}

/// A certificate authority.
#[derive(Clone, Debug)]
pub struct Authority(Pair);

impl Authority {
    /// Its certificate and key.
    pub fn pair(&self) -> &Pair {
        &self.0
    }

    /// Its certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.0.cert_pem
    }

    fn issuer(&self, name: &str) -> Result<Issuer<'static, KeyPair>, Error> {
        let make = |source| Error::Make { name: name.to_owned(), source };
        let key = KeyPair::from_pem(&self.0.key_pem).map_err(make)?;
        Issuer::from_ca_cert_pem(&self.0.cert_pem, key).map_err(make)
    }

    /// Makes a leaf certificate with a new key, valid for a year.
    pub fn issue(&self, subject: &Subject<'_>, now: Timestamp) -> Result<Pair, Error> {
        let make = |source| Error::Make { name: subject.common_name.to_owned(), source };
        let mut all: Vec<String> = subject.names.clone();
        all.extend(subject.ips.iter().map(ToString::to_string));
        let mut params = CertificateParams::new(all).map_err(make)?;
        params.distinguished_name = distinguished(subject.common_name, subject.organizations);
        leaf::set_validity(&mut params, now, LEAF_LIFETIME)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match subject.usage {
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let key = KeyPair::generate().map_err(make)?;
        let cert = params.signed_by(&key, &self.issuer(subject.common_name)?).map_err(make)?;
        Ok(Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

fn distinguished(common_name: &str, organizations: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, *organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// Everything under `pki/`.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The cluster's authority: servers and clients.
    pub ca: Authority,
    /// The authority of the aggregation proxy.
    pub front_proxy_ca: Authority,
    /// The API server's serving certificate.
    pub apiserver: Pair,
    /// The certificate with which the API server calls kubelets.
    pub apiserver_kubelet_client: Pair,
    /// The kubelet's serving certificate.
    pub kubelet: Pair,
    /// The certificate with which the API server calls aggregated servers.
    pub front_proxy_client: Pair,
    /// The key that signs service-account tokens, PEM.
    pub service_account_key: String,
    /// Its public half, PEM.
    pub service_account_public: String,
}

impl Pki {
    /// Makes a client certificate: `(certificate, key)`, both PEM.
    pub fn client_certificate(
        &self,
        common_name: &str,
        organizations: &[&str],
        now: Timestamp,
    ) -> Result<(String, String), Error> {
        let subject = Subject {
            common_name,
            organizations,
            names: Vec::new(),
            ips: Vec::new(),
            usage: Usage::Client,
        };
        let pair = self.ca.issue(&subject, now)?;
        Ok((pair.cert_pem, pair.key_pem))
    }
}

/// Prepares all files under `dir`. `names` are the host's names, the node's name first; `ips` are
/// the node's addresses and the first service address (127.0.0.1 and ::1 are added).
pub fn ensure(dir: &Path, names: &[String], ips: &[IpAddr], now: Timestamp) -> Result<Pki, Error> {
    file::create_dir(dir)?;
    let ca = authority(dir, "ca", "kubernetes", now)?;
    let front_proxy_ca = authority(dir, "front-proxy-ca", "front-proxy-ca", now)?;
    let (service_account_key, service_account_public) = service_account(dir)?;
    let mut all_ips: Vec<IpAddr> = ips.to_vec();
    all_ips.push(IpAddr::from([127, 0, 0, 1]));
    all_ips.push(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
    all_ips.sort_unstable();
    all_ips.dedup();
    let host = names.first().map_or("localhost", String::as_str);
    let own: Vec<String> = names.iter().filter(|n| !n.is_empty()).cloned().collect();
    let mut serving: Vec<String> = SERVICE_NAMES.iter().map(|n| (*n).to_owned()).collect();
    serving.extend(own.iter().filter(|n| !SERVICE_NAMES.contains(&n.as_str())).cloned());
    let mut node_names = own;
    if !node_names.iter().any(|n| n == "localhost") {
        node_names.push("localhost".to_owned());
    }
    let server = |common_name, organizations, names| Subject {
        common_name,
        organizations,
        names,
        ips: all_ips.clone(),
        usage: Usage::Server,
    };
    let client = |common_name, organizations| Subject {
        common_name,
        organizations,
        names: Vec::new(),
        ips: Vec::new(),
        usage: Usage::Client,
    };
    let node = format!("system:node:{host}");
    let leaf =
        |name, authority, subject: Subject<'_>| leaf::ensure(dir, name, authority, &subject, now);
    Ok(Pki {
        apiserver: leaf("apiserver", &ca, server("kube-apiserver", &[], serving))?,
        apiserver_kubelet_client: leaf(
            "apiserver-kubelet-client",
            &ca,
            client("kube-apiserver-kubelet-client", &["system:masters"]),
        )?,
        kubelet: leaf("kubelet", &ca, server(&node, &["system:nodes"], node_names))?,
        front_proxy_client: leaf(
            "front-proxy-client",
            &front_proxy_ca,
            client("front-proxy-client", &[]),
        )?,
        ca,
        front_proxy_ca,
        service_account_key,
        service_account_public,
    })
}

/// Reads or makes an authority. A key without its certificate gets a new certificate; a
/// certificate without its key cannot be helped.
fn authority(
    dir: &Path,
    name: &str,
    common_name: &str,
    now: Timestamp,
) -> Result<Authority, Error> {
    let (cert_path, key_path) = (file::cert(dir, name), file::key(dir, name));
    let (cert, key) = (file::read(&cert_path)?, file::read(&key_path)?);
    let make = |source| Error::Make { name: common_name.to_owned(), source };
    let key = match (key, &cert) {
        (Some(pem), _) => leaf::parse_key(&key_path, &pem)?,
        (None, Some(_)) => return Err(Error::KeyMissing { path: key_path }),
        (None, None) => {
            let key = KeyPair::generate().map_err(make)?;
            file::write(&key_path, &key.serialize_pem(), file::PRIVATE)?;
            key
        }
    };
    let cert_pem = match cert {
        Some(pem) => {
            let facts = leaf::parse_cert(&cert_path, &pem)?;
            if facts.public_key != key.subject_public_key_info() {
                return Err(Error::Damaged {
                    path: cert_path,
                    why: "it does not belong to the key beside it".to_owned(),
                });
            }
            pem
        }
        None => {
            let mut params = CertificateParams::default();
            params.distinguished_name = distinguished(common_name, &[]);
            leaf::set_validity(&mut params, now, AUTHORITY_LIFETIME)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
            ];
            let pem = params.self_signed(&key).map_err(make)?.pem();
            file::write(&cert_path, &pem, file::PUBLIC)?;
            pem
        }
    };
    Ok(Authority(Pair { cert_pem, key_pem: key.serialize_pem() }))
}

/// Reads or makes the service-account key; the public half follows from it.
fn service_account(dir: &Path) -> Result<(String, String), Error> {
    let (key_path, public_path) = (dir.join("sa.key"), dir.join("sa.pub"));
    let key = match file::read(&key_path)? {
        Some(pem) => leaf::parse_key(&key_path, &pem)?,
        None => {
            let key = KeyPair::generate()
                .map_err(|source| Error::Make { name: "sa".to_owned(), source })?;
            file::write(&key_path, &key.serialize_pem(), file::PRIVATE)?;
            key
        }
    };
    let public = key.public_key_pem();
    if file::read(&public_path)?.is_none_or(|old| old != public) {
        file::write(&public_path, &public, file::PUBLIC)?;
    }
    Ok((key.serialize_pem(), public))
}

#[cfg(test)]
mod tests;
