//! A client from the text of a kubeconfig file.

use std::sync::Arc;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use crate::client::Client;
use crate::error::Error;
use crate::https::Https;
use crate::unchecked;

/// The client of the current context: HTTPS with a client certificate or a token.
///
/// # Errors
/// When the text is no kubeconfig, or names files or methods that are not supported.
pub fn client(text: &str) -> Result<Client, Error> {
    Ok(Client::new(Arc::new(transport(text)?)))
}

/// The transport of the current context; see [`client`].
pub fn transport(text: &str) -> Result<Https, Error> {
    let target = target(text)?;
    Https::new(&target.host, target.port, target.tls, target.token.as_deref())
}

/// A server and how to prove who we are to it.
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Trusted authorities and the client certificate.
    pub tls: rustls::ClientConfig,
    /// The name that the server's certificate has to be for.
    pub server_name: String,
    /// The path of the server's address; `/` if it has none.
    pub path: String,
    /// Bearer token.
    pub token: Option<String>,
}

/// The server of the current context; see [`client`].
pub fn target(text: &str) -> Result<Target, Error> {
    let config = longshore_api::yaml::decode(text.as_bytes())
        .map_err(|e| Error::Decode(format!("the kubeconfig is not YAML: {e}")))?;
    let context = named(&config, "contexts", "context", config["current-context"].as_str())?;
    let cluster = named(&config, "clusters", "cluster", context["cluster"].as_str())?;
    // Who needs to prove nothing has no user.
    let user = match context["user"].as_str() {
        None | Some("") => &Value::Null,
        name => named(&config, "users", "user", name)?,
    };
    let server = cluster["server"].as_str().unwrap_or("");
    let rest = server.strip_prefix("https://");
    let rest = rest.ok_or_else(|| wrong(&format!("the server {server:?} is not an https URL")))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority: http::uri::Authority =
        authority.parse().map_err(|e| wrong(&format!("the server {server:?}: {e}")))?;
    let host = authority.host().trim_matches(|c| c == '[' || c == ']');
    Ok(Target {
        host: host.to_owned(),
        port: authority.port_u16().unwrap_or(443),
        tls: tls(cluster, user)?,
        server_name: cluster["tls-server-name"].as_str().unwrap_or(host).to_owned(),
        path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        token: user["token"].as_str().map(str::to_owned),
    })
}

fn wrong(why: &str) -> Error {
    Error::Decode(format!("the kubeconfig cannot be used: {why}"))
}

fn named<'a>(
    config: &'a Value,
    list: &str,
    inner: &str,
    name: Option<&str>,
) -> Result<&'a Value, Error> {
    let name = name.unwrap_or("");
    let entries = config[list].as_array().map_or(&[][..], Vec::as_slice);
    let entry = entries.iter().find(|entry| entry["name"] == name);
    entry.map(|entry| &entry[inner]).ok_or_else(|| wrong(&format!("{list} has no {name:?}")))
}

/// The bytes of a setting that stands in the file itself or in a file of its own.
fn data(of: &Value, name: &str) -> Result<Option<Vec<u8>>, Error> {
    if let Some(text) = of[format!("{name}-data")].as_str() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        return bytes.map(Some).map_err(|e| wrong(&format!("{name}-data: {e}")));
    }
    match of[name].as_str() {
        Some(path) => {
            std::fs::read(path).map(Some).map_err(|e| wrong(&format!("{name} {path}: {e}")))
        }
        None => Ok(None),
    }
}

fn tls(cluster: &Value, user: &Value) -> Result<rustls::ClientConfig, Error> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(pem) = data(cluster, "certificate-authority")? {
        roots
            .add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&e.to_string()))?;
    let builder = if cluster["insecure-skip-tls-verify"] == true {
        builder.dangerous().with_custom_certificate_verifier(unchecked::verifier())
    } else {
        builder.with_root_certificates(roots)
    };
    let (cert, key) = (data(user, "client-certificate")?, data(user, "client-key")?);
    let (Some(cert), Some(key)) = (cert, key) else { return Ok(builder.with_no_client_auth()) };
    let certs: Vec<_> = CertificateDer::pem_slice_iter(&cert).filter_map(Result::ok).collect();
    let key =
        PrivateKeyDer::from_pem_slice(&key).map_err(|e| wrong(&format!("client-key: {e}")))?;
    builder.with_client_auth_cert(certs, key).map_err(|e| wrong(&e.to_string()))
}
