//! Continue tokens: where a list goes on, and in which state.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/storage/continue.go

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_api::StatusError;
use serde_json::{Value, json};

const FORMAT: &str = "meta.k8s.io/v1";

/// A decoded token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinueToken {
    /// The revision of the state that is listed; `None` for the newest one.
    pub revision: Option<u64>,
    /// The first path that may come next.
    pub start: Vec<u8>,
}

impl ContinueToken {
    /// The token that goes on after `last` in a list of a namespace (empty for all). Paths in
    /// tokens are relative to the namespace.
    pub fn after(last: &[u8], namespace: &str, revision: u64) -> String {
        let last = String::from_utf8_lossy(last);
        let below = last.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/'));
        let below = if namespace.is_empty() { &last } else { below.unwrap_or(&last) };
        Self::encode(json!(revision), &format!("{below}\0"))
    }

    /// The same place in the newest state.
    pub fn in_newest_state(token: &str) -> Option<String> {
        let value = read(token).ok()?;
        Some(Self::encode(json!(-1), value["start"].as_str()?))
    }

    fn encode(revision: Value, start: &str) -> String {
        let token = json!({ "v": FORMAT, "rv": revision, "start": start });
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    /// Reads a token of a list of a namespace.
    ///
    /// # Errors
    /// 400 with upstream's words for what is no token.
    pub fn decode(token: &str, namespace: &str) -> Result<Self, StatusError> {
        let decoded = read(token).and_then(|value| checked(&value, namespace));
        decoded.map_err(|why| {
            StatusError::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        })
    }
}

fn read(token: &str) -> Result<Value, String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|error| {
        format!("illegal base64 data at input byte {}", bad_position(token, &error))
    })?;
    let value = longshore_api::json::decode(&bytes).map_err(|error| error.to_string())?.value;
    let kind = match &value {
        Value::Object(_) | Value::Null => return Ok(value),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
    };
    Err(format!("json: cannot unmarshal {kind} into Go value of type storage.continueToken"))
}

/// Where Go's decoder stops.
fn bad_position(token: &str, error: &base64::DecodeError) -> usize {
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    let bad = token.bytes().position(|c| !good(c));
    match (bad, error) {
        (Some(at), _) => at,
        (None, base64::DecodeError::InvalidByte(at, _)) => *at,
        (None, _) => token.len(),
    }
}

fn checked(value: &Value, namespace: &str) -> Result<ContinueToken, String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    if text("v") != FORMAT {
        return Err(format!("server does not recognize this encoded version {}", text("v")));
    }
    let revision = value.get("rv").and_then(Value::as_i64).unwrap_or(0);
    if revision == 0 {
        return Err(format!("incorrect encoded start resourceVersion (version {FORMAT})"));
    }
    let start = text("start");
    if start.is_empty() {
        return Err(format!("encoded start key empty (version {FORMAT})"));
    }
    // A token never leads out of what is listed.
    let below = start.strip_prefix('/').unwrap_or(start);
    let steps: Vec<&str> = below.split('/').collect();
    if steps.iter().any(|step| matches!(*step, "" | "." | "..")) && start != "/" {
        return Err(start.to_owned());
    }
    let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let start = format!("{prefix}{below}").into_bytes();
    Ok(ContinueToken { revision: u64::try_from(revision).ok(), start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_below_their_namespace() {
        let token = ContinueToken::after(b"default/a", "default", 42);
        let decoded = ContinueToken::decode(&token, "default").expect("its own token");
        assert_eq!(decoded, ContinueToken { revision: Some(42), start: b"default/a\0".to_vec() });
        let newest = ContinueToken::in_newest_state(&token).expect("a token");
        let decoded = ContinueToken::decode(&newest, "default").expect("its own token");
        assert_eq!(decoded, ContinueToken { revision: None, start: b"default/a\0".to_vec() });
        let token = ContinueToken::after(b"default/a", "", 42);
        let decoded = ContinueToken::decode(&token, "").expect("its own token");
        assert_eq!(decoded.start, b"default/a\0");
    }

    #[test]
    fn noise_is_refused_in_upstreams_words() {
        let token = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let start = |start: &str| token(json!({ "v": FORMAT, "rv": 7, "start": start }));
        for (text, want) in [
            ("!!!".to_owned(), "illegal base64 data at input byte 0"),
            ("e30=".to_owned(), "illegal base64 data at input byte 3"),
            ("e30".to_owned(), "server does not recognize this encoded version "),
            (
                token(json!([])),
                "json: cannot unmarshal array into Go value of type storage.continueToken",
            ),
            (
                token(json!({ "v": FORMAT })),
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (start(""), "encoded start key empty (version meta.k8s.io/v1)"),
            (start("../x"), "../x"),
            (start("b/../c"), "b/../c"),
            (start("//b"), "//b"),
        ] {
            let error = ContinueToken::decode(&text, "ns").expect_err("noise");
            let want = format!("invalid continue token: continue key is not valid: {want}");
            assert_eq!((error.code, error.message), (400, want));
        }
    }
}
