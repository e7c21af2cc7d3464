//! Tokens of service accounts for pods: each is used for most of the time that it is good for.
//!
//! upstream: pkg/kubelet/token/token_manager.go

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use longshore_api::Object;
use longshore_client::resource::SERVICE_ACCOUNTS;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::Shared;
use crate::env::ConfigError;

/// How long a token is good for when the volume says nothing, in seconds.
const SECONDS_DEFAULT: i64 = 3600;
/// The part of that time, in percent, after which a new one is asked for.
const USED_PERCENT: i64 = 80;
/// The longest time that a token is used for, in seconds.
const USED_MAX: i64 = 24 * 3600;

/// The tokens in use, by pod, audience and lifetime. Those of a pod go with it.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, (Vec<u8>, Timestamp)>>);

impl Tokens {
    /// Forgets the tokens of a pod.
    pub(crate) fn forget(&self, uid: &str) {
        let start = format!("{uid}/");
        self.0.lock().retain(|key, _| !key.starts_with(&start));
    }

    fn fresh(&self, key: &str, now: Timestamp) -> Option<Vec<u8>> {
        let all = self.0.lock();
        all.get(key).filter(|(_, until)| now < *until).map(|(token, _)| token.clone())
    }
}

/// A token of the pod's service account, good as long as the pod lives.
pub(crate) async fn get(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
) -> Result<Vec<u8>, ConfigError> {
    let audience = spec["audience"].as_str().filter(|a| !a.is_empty());
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(SECONDS_DEFAULT);
    let key = format!("{}/{}/{seconds}", pod.uid(), audience.unwrap_or(""));
    let now = shared.clock.now();
    if let Some(token) = shared.tokens.fresh(&key, now) {
        return Ok(token);
    }
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {
            "audiences": audience.map(|a| vec![a]).unwrap_or_default(),
            "expirationSeconds": seconds,
            "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid(),
            },
        },
    });
    let account = match pod.str(&["spec", "serviceAccountName"]) {
        "" => "default",
        name => name,
    };
    let answer = shared
        .client
        .create_subresource(SERVICE_ACCOUNTS, pod.namespace(), account, "token", &request)
        .await?;
    let token: Vec<u8> = answer["status"]["token"].as_str().unwrap_or("").into();
    // The server may give another time than asked for.
    let end = answer["status"]["expirationTimestamp"].as_str().and_then(|t| t.parse().ok());
    let good = end.map_or(seconds, |end: Timestamp| end.as_second() - now.as_second());
    let used = (good * USED_PERCENT / 100).min(USED_MAX);
    let until = now + SignedDuration::from_secs(used.max(0));
    shared.tokens.0.lock().insert(key, (token.clone(), until));
    Ok(token)
}
