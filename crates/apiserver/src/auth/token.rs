//! Service-account tokens: issuing and checking them.
//!
//! upstream: pkg/serviceaccount/{jwt,claims,openidmetadata}.go

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use longshore_api::Object;
use longshore_api::patch::gotext;
use longshore_base::rng::Rng;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::legacy_token;
use super::user::{CREDENTIAL_ID, NODE_NAME, NODE_UID, POD_NAME, POD_UID, UserInfo};
use crate::reader::Reader;

/// The issuer of a default cluster, also the API server's audience.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// How far clocks may differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// Longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 1 << 16;

/// The signing key could not be used.
#[derive(Debug, thiserror::Error)]
#[error("use the service-account key: {0}")]
pub struct KeyError(String);

/// What a token is made for.
#[derive(Clone, Copy, Debug)]
pub struct TokenSpec<'a> {
    /// The service account.
    pub account: &'a Object,
    /// The pod it dies with.
    pub pod: Option<&'a Object>,
    /// The secret it dies with.
    pub secret: Option<&'a Object>,
    /// Name and uid of the node: of the pod's node, or the node it dies with.
    pub node: Option<(&'a str, &'a str)>,
    /// For whom it is meant.
    pub audiences: &'a [String],
    /// Seconds it is good for.
    pub seconds: i64,
    /// Seconds after which its use is noted; 0 for never.
    pub warn_after: i64,
}

/// Why a token was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is none of ours.
    Unknown,
    /// It is ours but no good.
    Bad(String),
}

/// Issues and checks service-account tokens.
pub struct TokenIssuer {
    issuer: String,
    audiences: Vec<String>,
    signing: EncodingKey,
    checking: DecodingKey,
    algorithm: Algorithm,
    key_id: String,
    jwks: Value,
    rng: Arc<dyn Rng>,
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenIssuer")
            .field("issuer", &self.issuer)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

fn algorithm_name(algorithm: Algorithm) -> &'static str {
    if algorithm == Algorithm::RS256 { "RS256" } else { "ES256" }
}

impl TokenIssuer {
    /// An issuer with a key pair in PEM: ECDSA P-256 (ES256) or RSA (RS256).
    pub fn new(
        issuer: &str,
        private_pem: &str,
        public_pem: &str,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, KeyError> {
        let bad = |error: jsonwebtoken::errors::Error| KeyError(error.to_string());
        let ec = EncodingKey::from_ec_pem(private_pem.as_bytes()).and_then(|signing| {
            Ok((signing, DecodingKey::from_ec_pem(public_pem.as_bytes())?, Algorithm::ES256))
        });
        let (signing, checking, algorithm) = match ec {
            Ok(keys) => keys,
            Err(_) => (
                EncodingKey::from_rsa_pem(private_pem.as_bytes()).map_err(bad)?,
                DecodingKey::from_rsa_pem(public_pem.as_bytes()).map_err(bad)?,
                Algorithm::RS256,
            ),
        };
        let public = SubjectPublicKeyInfoDer::from_pem_slice(public_pem.as_bytes())
            .map_err(|error| KeyError(error.to_string()))?;
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(&public));
        let key = jsonwebtoken::jwk::Jwk::from_encoding_key(&signing, algorithm).map_err(bad)?;
        let mut key = serde_json::to_value(key).map_err(|error| KeyError(error.to_string()))?;
        key["use"] = "sig".into();
        key["kid"] = key_id.as_str().into();
        key["alg"] = algorithm_name(algorithm).into();
        Ok(Self {
            issuer: issuer.to_owned(),
            audiences: vec![issuer.to_owned()],
            signing,
            checking,
            algorithm,
            key_id,
            jwks: json!({ "keys": [key] }),
            rng,
        })
    }

    /// The audiences of the API server itself.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The body of `/openid/v1/jwks` (`application/jwk-set+json`).
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// The body of `/.well-known/openid-configuration`; `address` is the API server's host and
    /// port.
    pub fn openid_configuration(&self, address: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("https://{address}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [algorithm_name(self.algorithm)],
        })
    }

    /// Makes a token.
    pub fn issue(&self, spec: &TokenSpec<'_>, now: Timestamp) -> Result<String, KeyError> {
        let seconds = now.as_second();
        let reference = |object: &Object| json!({"name": object.name(), "uid": object.uid()});
        let mut bound = json!({
            "namespace": spec.account.namespace(),
            "serviceaccount": reference(spec.account),
        });
        if let Some(pod) = spec.pod {
            bound["pod"] = reference(pod);
        }
        if let Some(secret) = spec.secret {
            bound["secret"] = reference(secret);
        }
        if let Some((name, uid)) = spec.node {
            bound["node"] = json!({ "name": name });
            if !uid.is_empty() {
                bound["node"]["uid"] = uid.into();
            }
        }
        if spec.warn_after != 0 {
            bound["warnafter"] = (seconds + spec.warn_after).into();
        }
        let account = spec.account;
        let claims = json!({
            "aud": spec.audiences,
            "exp": seconds.saturating_add(spec.seconds),
            "iat": seconds,
            "iss": self.issuer,
            "jti": self.rng.uuid(),
            "kubernetes.io": bound,
            "nbf": seconds,
            "sub": format!("system:serviceaccount:{}:{}", account.namespace(), account.name()),
        });
        self.sign(&claims)
    }

    /// Makes a token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({"alg": algorithm_name(self.algorithm), "kid": self.key_id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.signing, self.algorithm)
                .map_err(|error| KeyError(error.to_string()))?;
        Ok(format!("{message}.{signature}"))
    }

    /// Checks a token for one of `audiences` (the API server's own when empty); gives the user and
    /// the audiences that match.
    pub(super) fn check(
        &self,
        token: &str,
        audiences: &[String],
        reader: &dyn Reader,
        now: Timestamp,
    ) -> Result<(UserInfo, Vec<String>), Refused> {
        let bad = |text: &str| Err(Refused::Bad(text.to_owned()));
        let parts = split(token).ok_or(Refused::Unknown)?;
        let legacy = parts.claims["iss"] == legacy_token::ISSUER;
        if !legacy && parts.claims["iss"].as_str() != Some(&self.issuer) {
            return Err(Refused::Unknown);
        }
        let key_id = parts.header["kid"].as_str().unwrap_or("");
        if !key_id.is_empty() && key_id != self.key_id {
            return bad("invalid signature, no keys found");
        }
        // Invariant: the algorithm is ours, never the one the token asks for.
        let good = parts.header["alg"].as_str() == Some(algorithm_name(self.algorithm))
            && jsonwebtoken::crypto::verify(
                parts.signature,
                parts.message.as_bytes(),
                &self.checking,
                self.algorithm,
            )
            .unwrap_or(false);
        if !good {
            return bad("go-jose/go-jose: error in cryptographic primitive");
        }
        let mut meant_for = audience_claim(&parts.claims["aud"]);
        if meant_for.is_empty() {
            meant_for.clone_from(&self.audiences);
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let matching: Vec<String> =
            wanted.iter().filter(|a| meant_for.contains(a)).cloned().collect();
        if matching.is_empty() {
            return Err(Refused::Bad(format!(
                "token audiences {} is invalid for the target audiences {}",
                quoted_list(&meant_for),
                quoted_list(wanted)
            )));
        }
        check_times(&parts.claims, now).map_err(Refused::Bad)?;
        let user = if legacy {
            legacy_token::user(token, &parts.claims, reader)
        } else {
            bound_user(&parts.claims, reader, now)
        };
        Ok((user.map_err(Refused::Bad)?, matching))
    }
}

struct Parts<'a> {
    header: Value,
    claims: Value,
    message: &'a str,
    signature: &'a str,
}

fn split(token: &str) -> Option<Parts<'_>> {
    if token.len() > TOKEN_MAX {
        return None;
    }
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    if claims.contains('.') {
        return None;
    }
    let decode = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    Some(Parts { header: decode(header)?, claims: decode(claims)?, message, signature })
}

fn audience_claim(claim: &Value) -> Vec<String> {
    match claim {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| gotext::quote(item)).collect();
    format!("[{}]", quoted.join(" "))
}

fn check_times(claims: &Value, now: Timestamp) -> Result<(), String> {
    let now = now.as_second();
    let leeway = LEEWAY.as_secs();
    let at = |name: &str| claims[name].as_f64().map(|seconds| seconds as i64);
    if at("nbf").is_some_and(|from| now + leeway < from) {
        return Err("service account token is not valid yet".to_owned());
    }
    if at("exp").is_some_and(|until| now - leeway > until) {
        return Err("service account token has expired".to_owned());
    }
    if at("iat").is_some_and(|issued| now + leeway < issued) {
        return Err("service account token is issued in the future".to_owned());
    }
    Ok(())
}

/// Whether an object was told to end longer ago than clocks may differ.
fn is_gone(object: &Object, now: Timestamp) -> bool {
    let Ok(deleted) = object.str(&["metadata", "deletionTimestamp"]).parse::<Timestamp>() else {
        return object.is_deleting();
    };
    now.checked_sub(LEEWAY).is_ok_and(|limit| deleted < limit)
}

/// The object a token is bound to must still be the same.
fn check_bound(
    what: &str,
    object: Option<Arc<Object>>,
    claim: &Value,
    now: Timestamp,
) -> Result<(), String> {
    let invalidated = || "service account token has been invalidated".to_owned();
    let object = object.ok_or_else(invalidated)?;
    let uid = claim["uid"].as_str().unwrap_or("");
    if uid != object.uid() {
        return Err(format!(
            "{what} UID ({}) does not match service account {what} ref claim ({uid})",
            object.uid()
        ));
    }
    if is_gone(&object, now) { Err(invalidated()) } else { Ok(()) }
}

fn bound_user(claims: &Value, reader: &dyn Reader, now: Timestamp) -> Result<UserInfo, String> {
    let bound = &claims["kubernetes.io"];
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    let namespace = text(bound, "namespace");
    let (name, uid) =
        (text(&bound["serviceaccount"], "name"), text(&bound["serviceaccount"], "uid"));
    let account = reader
        .get("", "serviceaccounts", &namespace, &name)
        .ok_or_else(|| format!("serviceaccounts {} not found", gotext::quote(&name)))?;
    if account.uid() != uid {
        return Err(format!(
            "service account UID ({}) does not match claim ({uid})",
            account.uid()
        ));
    }
    if is_gone(&account, now) {
        return Err(format!("service account {namespace}/{name} has been deleted"));
    }
    let mut user = UserInfo::service_account(&namespace, &name);
    user.uid = uid;
    let mut extra = |key: &str, value: String| {
        if !value.is_empty() {
            user.extra.insert(key.to_owned(), vec![value]);
        }
    };
    if let Some(secret) = bound.get("secret") {
        let found = reader.get("", "secrets", &namespace, &text(secret, "name"));
        check_bound("secret", found, secret, now)?;
    }
    let pod = bound.get("pod");
    if let Some(pod) = pod {
        let found = reader.get("", "pods", &namespace, &text(pod, "name"));
        check_bound("pod", found, pod, now)?;
        extra(POD_NAME, text(pod, "name"));
        extra(POD_UID, text(pod, "uid"));
    }
    if let Some(node) = bound.get("node") {
        // The node of a pod is only told; a token bound to the node itself dies with it.
        if pod.is_none() {
            check_bound("node", reader.get("", "nodes", "", &text(node, "name")), node, now)?;
        }
        extra(NODE_NAME, text(node, "name"));
        extra(NODE_UID, text(node, "uid"));
    }
    let id = text(claims, "jti");
    if !id.is_empty() {
        extra(CREDENTIAL_ID, format!("JTI={id}"));
    }
    Ok(user)
}
