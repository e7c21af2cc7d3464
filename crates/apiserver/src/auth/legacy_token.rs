//! Service-account tokens that live in secrets: good as long as the secret holds them.
//!
//! upstream: pkg/serviceaccount/legacy.go

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::user::UserInfo;
use crate::reader::Reader;

/// Who issues them.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";
const PREFIX: &str = "kubernetes.io/serviceaccount/";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// The user of a token whose signature is good.
pub(super) fn user(token: &str, claims: &Value, reader: &dyn Reader) -> Result<UserInfo, String> {
    let claim = |key: &str, name: &str| match claims[key].as_str().unwrap_or("") {
        "" => Err(format!("{name} claim is missing")),
        text => Ok(text),
    };
    let own = |key: &str, name: &str| claim(&format!("{PREFIX}{key}"), name);
    let subject = claim("sub", "sub")?;
    let namespace = own("namespace", "namespace")?;
    let secret_name = own("secret.name", "secretName")?;
    let name = own("service-account.name", "serviceAccountName")?;
    let uid = own("service-account.uid", "serviceAccountUID")?;
    if subject != format!("system:serviceaccount:{namespace}:{name}") {
        return Err("sub claim is invalid".into());
    }
    let secret = reader.get("", "secrets", namespace, secret_name);
    let secret = secret.filter(|s| !s.is_deleting()).ok_or("Token has been invalidated")?;
    let held = STANDARD.decode(secret.str(&["data", "token"])).unwrap_or_default();
    if !bool::from(held.ct_eq(token.as_bytes())) {
        return Err("Token does not match server's copy".into());
    }
    let account = reader
        .get("", "serviceaccounts", namespace, name)
        .ok_or_else(|| format!("serviceaccounts {name:?} not found"))?;
    if account.is_deleting() {
        return Err(format!("ServiceAccount {namespace}/{name} has been deleted"));
    }
    if account.uid() != uid {
        return Err(format!("ServiceAccount UID ({}) does not match claim ({uid})", account.uid()));
    }
    if secret.label(INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
        return Err(format!(
            "the token in secret {namespace}/{secret_name} for service account {namespace}/{name} has \
             been marked invalid. Use tokens from the TokenRequest API or manually created \
             secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to \
             temporarily allow use of this token"
        ));
    }
    let mut user = UserInfo::service_account(namespace, name);
    user.uid = uid.to_owned();
    Ok(user)
}
