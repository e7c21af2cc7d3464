//! Tokens with which nodes join: the signatures of `cluster-info`, and the end of old tokens.
//!
//! upstream: pkg/controller/bootstrap/{bootstrapsigner.go,tokencleaner.go}

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use longshore_api::Object;
use longshore_client::resource::{CONFIG_MAPS, SECRETS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Informer, Queue};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Context;
use crate::common::{Key, gone_is_fine, key_of, token_secrets};

const KIND: &str = "bootstrap.kubernetes.io/token";
const SECRET_NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const INFO_NAMESPACE: &str = "kube-public";
const INFO_NAME: &str = "cluster-info";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";
/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;

/// Starts the controller that signs `cluster-info` with every token that may sign.
pub(crate) fn start_signer(ctx: Context) {
    let queue = Queue::new();
    let (maps, secrets) = (ctx.caches.get(CONFIG_MAPS), token_secrets(&ctx));
    let again = queue.clone();
    maps.on_change(move |change| {
        let map = change.object();
        if map.namespace() == INFO_NAMESPACE && map.name() == INFO_NAME {
            again.add(());
        }
    });
    let again = queue.clone();
    secrets.on_change(move |change| {
        if is_token(change.object()) {
            again.add(());
        }
    });
    let shutdown = ctx.shutdown.clone();
    workers::run("bootstrap-signer-controller", queue, 1, &shutdown, move |()| {
        let (ctx, maps, secrets) = (ctx.clone(), maps.clone(), secrets.clone());
        async move { sign(&ctx, &maps, &secrets).await }
    });
}

/// Starts the controller that deletes tokens that have expired.
pub(crate) fn start_cleaner(ctx: Context) {
    let queue = Queue::new();
    let secrets = token_secrets(&ctx);
    let again = queue.clone();
    secrets.on_change(move |change| {
        if is_token(change.object()) {
            again.add(key_of(change.object()));
        }
    });
    let shutdown = ctx.shutdown.clone();
    workers::run("token-cleaner-controller", queue, 1, &shutdown, move |key: Key| {
        let (ctx, secrets) = (ctx.clone(), secrets.clone());
        async move {
            let Some(secret) = secrets.get(&key.0, &key.1) else { return Ok(None) };
            let Some(left) = seconds_left(&secret, ctx.clock.now()) else { return Ok(None) };
            if left > 0 {
                return Ok(u64::try_from(left).ok().map(Duration::from_secs));
            }
            let options = json!({ "preconditions": { "uid": secret.uid() } });
            gone_is_fine(ctx.client.delete(SECRETS, &key.0, &key.1, options).await)?;
            Ok(None)
        }
    });
}

fn is_token(secret: &Object) -> bool {
    secret.namespace() == SECRET_NAMESPACE && secret.str(&["type"]) == KIND
}

fn field(secret: &Object, key: &str) -> String {
    let bytes = STANDARD.decode(secret.str(&["data", key])).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Seconds until a token expires; `None` for one that does not. What cannot be read has expired.
fn seconds_left(secret: &Object, now: Timestamp) -> Option<i64> {
    let text = field(secret, "expiration");
    if text.is_empty() {
        return None;
    }
    Some(text.parse::<Timestamp>().map_or(0, |at| at.as_second() - now.as_second()))
}

/// The id and the secret of a token that may sign.
fn signing(secret: &Object, now: Timestamp) -> Option<(String, String)> {
    let (id, key) = (field(secret, "token-id"), field(secret, "token-secret"));
    let good = is_token(secret)
        && !id.is_empty()
        && !key.is_empty()
        && secret.name() == format!("{PREFIX}{id}")
        && field(secret, "usage-bootstrap-signing") == "true"
        && seconds_left(secret, now).is_none_or(|left| left > 0);
    good.then_some((id, key))
}

async fn sign(ctx: &Context, maps: &Informer, secrets: &Informer) -> Outcome {
    maps.synced().await;
    secrets.synced().await;
    let Some(map) = maps.get(INFO_NAMESPACE, INFO_NAME) else { return Ok(None) };
    let Some(content) = map.get(&["data", "kubeconfig"]).and_then(Value::as_str) else {
        return Ok(None);
    };
    let tokens = secrets.list_namespace(SECRET_NAMESPACE);
    let now = ctx.clock.now();
    let wanted: BTreeMap<String, String> = tokens
        .iter()
        .filter_map(|secret| signing(secret, now))
        .map(|(id, key)| (format!("{SIGNATURE_PREFIX}{id}"), signature(content, &id, &key)))
        .collect();
    let mut changed = (*map).clone();
    if let Some(Value::Object(data)) = changed.get_mut(&["data"]) {
        data.retain(|key, _| !key.starts_with(SIGNATURE_PREFIX));
        data.extend(wanted.into_iter().map(|(key, value)| (key, Value::from(value))));
    }
    if changed != *map {
        let written = ctx.client.update(CONFIG_MAPS, &changed).await?;
        maps.wait_for(&written).await;
    }
    Ok(None)
}

/// A JSON web signature without the content.
///
/// upstream: staging/src/k8s.io/cluster-bootstrap/token/jws/jws.go
fn signature(content: &str, id: &str, key: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(hmac(key.as_bytes(), message.as_bytes())))
}

/// RFC 2104 with SHA-256.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        let short = Sha256::digest(key);
        block[..short.len()].copy_from_slice(&short);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        // Test case 2.
        let mac = hmac(b"Jefe", b"what do ya want for nothing?");
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn only_good_tokens_sign() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let secret = |name: &str, usage: &str, expiration: &str| {
            let encode = |text: &str| STANDARD.encode(text);
            Object::from_value(json!({
                "metadata": { "name": name, "namespace": "kube-system" }, "type": KIND,
                "data": {
                    "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
                    "usage-bootstrap-signing": encode(usage), "expiration": encode(expiration),
                },
            }))
            .unwrap()
        };
        for (name, usage, expiration, good) in [
            ("bootstrap-token-abcdef", "true", "", true),
            ("bootstrap-token-abcdef", "true", "2027-01-01T00:00:00Z", true),
            ("bootstrap-token-abcdef", "true", "2025-01-01T00:00:00Z", false),
            ("bootstrap-token-abcdef", "", "", false),
            ("bootstrap-token-other", "true", "", false),
        ] {
            let secret = secret(name, usage, expiration);
            assert_eq!(signing(&secret, now).is_some(), good, "{name} {usage} {expiration}");
        }
    }
}
