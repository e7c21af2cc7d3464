//! The kubeconfig file of the administrator.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};

/// A kubeconfig with a client certificate.
pub fn text(server: &str, ca_pem: &str, user: &str, cert_pem: &str, key_pem: &str) -> String {
    let base64 = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let config: Value = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "longshore",
        "clusters": [{ "name": "longshore", "cluster": {
            "server": server, "certificate-authority-data": base64(ca_pem),
        }}],
        "users": [{ "name": user, "user": {
            "client-certificate-data": base64(cert_pem), "client-key-data": base64(key_pem),
        }}],
        "contexts": [{ "name": "longshore", "context": { "cluster": "longshore", "user": user }}],
    });
    // JSON is YAML; indented so that people can read it.
    format!("{config:#}\n")
}

/// Writes a file that only its owner may read, in one step.
pub fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}
