//! From credentials to a user.
//!
//! upstream: pkg/kubeapiserver/authenticator/config.go

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use jiff::Timestamp;
use longshore_api::{Object, StatusError};
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};

use super::token::{Refused, TokenIssuer};
use super::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, UserInfo};
use super::x509::{ClientCertificates, Memo};
use crate::reader::Reader;

/// The WebSocket subprotocol that carries a token for clients that cannot set headers.
const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
const INVALID_TOKEN: &str = "invalid bearer token";

/// What a request brings to prove who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The client's certificates, leaf first; empty when it presented none.
    pub peer_certificates: &'a [CertificateDer<'static>],
    /// What is known about these certificates already.
    pub memo: Option<&'a Memo>,
}

/// The authenticators, asked in order: front proxy, client certificate, bearer token, WebSocket
/// token, anonymous.
pub struct Authentication {
    certificates: ClientCertificates,
    tokens: Arc<TokenIssuer>,
    reader: Arc<dyn Reader>,
}

impl Authentication {
    /// The authenticators of a cluster.
    pub fn new(
        certificates: ClientCertificates,
        tokens: Arc<TokenIssuer>,
        reader: Arc<dyn Reader>,
    ) -> Self {
        Self { certificates, tokens, reader }
    }

    /// The issuer of tokens.
    pub fn tokens(&self) -> &Arc<TokenIssuer> {
        &self.tokens
    }

    /// Who sends a request. Bad credentials are 401; none at all are the anonymous user.
    pub fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Arc<UserInfo>, StatusError> {
        let mut failed = Vec::new();
        let chain = credentials.peer_certificates;
        if let Some(proxy) = &self.certificates.front_proxy {
            match proxy.authenticate(credentials.headers, chain, now) {
                Ok(Some(user)) => return Ok(Arc::new(with_authenticated(user))),
                Ok(None) => {}
                Err(text) => failed.push(text),
            }
        }
        match self.certificates.authenticate(chain, credentials.memo, now) {
            Ok(Some(user)) => return Ok(user),
            Ok(None) => {}
            Err(text) => failed.push(text),
        }
        let websocket = websocket_token(credentials.headers).map_err(|text| {
            tracing::debug!(error = text, "request not authenticated");
            StatusError::unauthorized()
        })?;
        for token in [bearer_token(credentials.headers), websocket].into_iter().flatten() {
            match self.tokens.check(&token, &[], self.reader.as_ref(), now) {
                Ok((user, _)) => return Ok(Arc::new(with_authenticated(user))),
                Err(refused) => failed.push(refusal_text(refused)),
            }
        }
        if failed.is_empty() {
            return Ok(Arc::new(UserInfo::anonymous()));
        }
        tracing::info!(error = failed.join(", "), "request not authenticated");
        Err(StatusError::unauthorized())
    }

    /// Fills a TokenReview's status.
    ///
    /// upstream: pkg/registry/authentication/tokenreview/storage.go
    pub fn review_token(&self, review: &mut Object, now: Timestamp) -> Result<(), StatusError> {
        let token = review.str(&["spec", "token"]).to_owned();
        if token.is_empty() {
            let text = "token is required for TokenReview in authentication";
            return Err(StatusError::bad_request(text));
        }
        let audiences: Vec<String> = review
            .list(&["spec", "audiences"])
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        review.remove(&["status", "authenticated"]);
        if review.get(&["status", "user"]).is_none() {
            review.set(&["status", "user"], Map::new());
        }
        // The token travels as a header upstream: a space ends it, and who brings none is anonymous.
        let checked = match token_of(&format!("Bearer {token}")) {
            Some(token) => self.tokens.check(&token, &audiences, self.reader.as_ref(), now),
            None if audiences.is_empty() => {
                Ok((UserInfo::anonymous(), self.tokens.audiences().to_vec()))
            }
            None => Ok((UserInfo::anonymous(), audiences)),
        };
        match checked {
            Ok((user, matching)) => {
                review.set(&["status", "authenticated"], true);
                review.set(&["status", "user"], user_value(&with_authenticated(user)));
                review.set(&["status", "audiences"], matching);
            }
            Err(refused) => review.set(&["status", "error"], refusal_text(refused)),
        }
        Ok(())
    }
}

fn refusal_text(refused: Refused) -> String {
    match refused {
        Refused::Unknown => INVALID_TOKEN.to_owned(),
        Refused::Bad(text) => format!("[{INVALID_TOKEN}, {text}]"),
    }
}

/// `authentication.k8s.io/v1 UserInfo`.
pub fn user_value(user: &UserInfo) -> Value {
    let mut value = Map::new();
    value.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        value.insert("uid".into(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        value.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        let extra = user.extra.iter().map(|(k, v)| (k.clone(), Value::from(v.clone())));
        value.insert("extra".into(), Value::Object(extra.collect()));
    }
    Value::Object(value)
}

/// Fills a SelfSubjectReview.
///
/// upstream: pkg/registry/authentication/selfsubjectreview/rest.go
pub fn review_self(review: &mut Object, user: &UserInfo, now: Timestamp) {
    let created = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut metadata = Map::new();
    metadata.insert("creationTimestamp".into(), created.into());
    review.set(&["metadata"], metadata);
    review.root_mut().remove("status");
    review.set(&["status", "userInfo"], user_value(user));
}

/// Adds the group of all authenticated users.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/authentication/group/authenticated_group_adder.go
pub fn with_authenticated(mut user: UserInfo) -> UserInfo {
    let known = user.in_group(AUTHENTICATED) || user.in_group(UNAUTHENTICATED);
    if user.name != ANONYMOUS && !known {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

fn bearer_token(headers: &HeaderMap) -> Option<String> {
    token_of(headers.get(AUTHORIZATION)?.to_str().ok()?)
}

/// The token in an `Authorization` header.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/authentication/request/bearertoken/bearertoken.go
fn token_of(header: &str) -> Option<String> {
    let mut parts = header.trim().splitn(3, ' ');
    let scheme = parts.next()?;
    let token = parts.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

// upstream: staging/src/k8s.io/apiserver/pkg/authentication/request/websocket/protocol.go
fn websocket_token(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return Ok(None);
    }
    let (mut token, mut others) = (None, false);
    for protocol in protocols(headers) {
        let Some(encoded) = protocol.strip_prefix(BEARER_PROTOCOL) else {
            others = true;
            continue;
        };
        if token.is_some() {
            return Err("multiple base64.bearer.authorization tokens specified");
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| "invalid base64.bearer.authorization token encoding")?;
        let text =
            String::from_utf8(bytes).map_err(|_| "invalid base64.bearer.authorization token")?;
        token = Some(text);
    }
    let token = token.filter(|token| !token.is_empty());
    if token.is_some() && !others {
        return Err("missing additional subprotocol");
    }
    Ok(token)
}

/// Removes credentials from a request that was authenticated, so that nothing behind sees them.
pub fn strip_credentials(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    if protocols(headers).any(|p| p.starts_with(BEARER_PROTOCOL)) {
        let rest: Vec<&str> =
            protocols(headers).filter(|p| !p.starts_with(BEARER_PROTOCOL)).collect();
        let rest = http::HeaderValue::from_str(&rest.join(","))
            .expect("parts of a valid header value are valid");
        headers.insert(SEC_WEBSOCKET_PROTOCOL, rest);
    }
    let proxied: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in proxied {
        headers.remove(name);
    }
}
