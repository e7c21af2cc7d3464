//! The credentials that a pod has for registries: those of its pull secrets that fit the image.
//!
//! upstream: pkg/credentialprovider/keyring.go

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_api::Object;
use longshore_client::resource::SECRETS;
use longshore_cri::v1::AuthConfig;
use serde_json::Value;

use crate::{Shared, env};

/// The registry of images without one.
const DEFAULT: &str = "docker.io";

/// What fits an image, the closest first.
pub(crate) async fn of(shared: &Shared, pod: &Object, image: &str) -> Vec<AuthConfig> {
    let mut found = Vec::new();
    for reference in pod.list(&["spec", "imagePullSecrets"]) {
        let name = reference["name"].as_str().unwrap_or("");
        match shared.client.find(SECRETS, pod.namespace(), name).await {
            Ok(Some(secret)) => found.extend(entries(&secret)),
            Ok(None) => tracing::warn!(pod = pod.name(), name, "there is no such pull secret"),
            Err(error) => tracing::warn!(pod = pod.name(), name, %error, "no pull secret"),
        }
    }
    choose(found, image)
}

/// The registries of a secret, each with its credentials.
fn entries(secret: &Object) -> BTreeMap<String, AuthConfig> {
    let mut data = env::values(secret);
    let parse = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap_or(Value::Null);
    let all = match data.remove(".dockerconfigjson") {
        Some(bytes) => parse(bytes)["auths"].take(),
        None => data.remove(".dockercfg").map_or(Value::Null, parse),
    };
    let all = all.as_object().cloned().unwrap_or_default();
    all.iter().filter_map(|(url, entry)| Some((registry(url), auth(entry)?))).collect()
}

/// A registry and path without what else a URL has.
fn registry(url: &str) -> String {
    let bare = url.trim_start_matches("https://").trim_start_matches("http://");
    let bare = bare.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    if bare == "index.docker.io" { DEFAULT.to_owned() } else { bare.to_owned() }
}

fn auth(entry: &Value) -> Option<AuthConfig> {
    let text = |key: &str| entry[key].as_str().unwrap_or("").to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if username.is_empty() {
        let decoded = String::from_utf8(STANDARD.decode(text("auth")).ok()?).ok()?;
        let (user, word) = decoded.split_once(':')?;
        (username, password) = (user.to_owned(), word.to_owned());
    }
    Some(AuthConfig { username, password, ..Default::default() })
}

fn choose(entries: impl IntoIterator<Item = (String, AuthConfig)>, image: &str) -> Vec<AuthConfig> {
    let first = image.split('/').next().unwrap_or("");
    let named =
        image.contains('/') && (first.contains('.') || first.contains(':') || first == "localhost");
    let image = if named { image.to_owned() } else { format!("{DEFAULT}/{image}") };
    let mut fitting: Vec<(String, AuthConfig)> =
        entries.into_iter().filter(|(registry, _)| fits(registry, &image)).collect();
    fitting.sort_by_key(|(registry, _)| std::cmp::Reverse(registry.len()));
    fitting.into_iter().map(|(_, auth)| auth).collect()
}

/// Whether an image is in a registry, below its path; parts of the host may be `*`.
fn fits(registry: &str, image: &str) -> bool {
    let (host, path) = registry.split_once('/').unwrap_or((registry, ""));
    let (image_host, image_path) = image.split_once('/').unwrap_or((image, ""));
    let (parts, image_parts) = (host.split('.'), image_host.split('.'));
    let same = parts.clone().count() == image_parts.clone().count()
        && parts.zip(image_parts).all(|(want, part)| want == "*" || want == part);
    same && (path.is_empty() || image_path.starts_with(path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_closest_registry_comes_first() {
        let config = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": STANDARD.encode("hub:a") },
            "127.0.0.1:5000": { "username": "all", "password": "b" },
            "127.0.0.1:5000/team": { "username": "team", "password": "c" },
            "*.example.com": { "username": "star", "password": "d" },
        }});
        let secret = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Secret",
            "data": { ".dockerconfigjson": STANDARD.encode(config.to_string()) },
        }))
        .expect("an object");
        let users = |image: &str| -> Vec<String> {
            choose(entries(&secret), image).into_iter().map(|a| a.username).collect()
        };
        assert_eq!(users("busybox:1"), ["hub"]);
        assert_eq!(users("library/busybox:1"), ["hub"]);
        assert_eq!(users("127.0.0.1:5000/team/a:1"), ["team", "all"]);
        assert_eq!(users("127.0.0.1:5000/other:1"), ["all"]);
        assert_eq!(users("a.example.com/x:1"), ["star"]);
        assert!(users("example.com/x:1").is_empty());
    }
}
