//! Who may ask the node agent: clients with a certificate of the cluster's authority or with a
//! token that the API server knows, as far as the API server lets them.
//!
//! upstream: pkg/kubelet/server/auth.go

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};
use longshore_client::Client;
use longshore_client::resource::{SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Refused;

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    name: String,
    groups: Vec<String>,
}

impl User {
    /// The holder of a certificate, which TLS has verified.
    pub(super) fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
        let mut groups: Vec<String> = groups.map(str::to_owned).collect();
        groups.push("system:authenticated".to_owned());
        (!name.is_empty()).then_some(Self { name, groups })
    }
}

fn unauthorized() -> Refused {
    Refused::new(StatusCode::UNAUTHORIZED, "Unauthorized")
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The user of a token, if the API server knows it.
async fn user_of_token(client: &Client, token: &str) -> Result<User, Refused> {
    let review = json!({
        "apiVersion": TOKEN_REVIEWS.api_version(), "kind": TOKEN_REVIEWS.kind,
        "spec": { "token": token },
    });
    let answer = client.create(TOKEN_REVIEWS, &review).await.map_err(|error| {
        tracing::warn!(%error, "a token could not be reviewed");
        unauthorized()
    })?;
    if !answer.bool(&["status", "authenticated"]) {
        return Err(unauthorized());
    }
    let groups = answer.list(&["status", "user", "groups"]).iter().filter_map(Value::as_str);
    Ok(User {
        name: answer.str(&["status", "user", "username"]).to_owned(),
        groups: groups.map(str::to_owned).collect(),
    })
}

/// The subresources of nodes of which one is enough for a path.
fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// Lets a request pass, or says why not.
pub(super) async fn check(
    client: &Client,
    node: &str,
    user: Option<&User>,
    request: &http::request::Parts,
) -> Result<(), Refused> {
    let user = match (user, token(&request.headers)) {
        (Some(user), _) => user.clone(),
        (None, Some(token)) => user_of_token(client, token).await?,
        (None, None) => return Err(unauthorized()),
    };
    let (verb, wanted) = (verb(&request.method), subresources(request.uri.path()));
    for subresource in wanted {
        let review = json!({
            "apiVersion": SUBJECT_ACCESS_REVIEWS.api_version(),
            "kind": SUBJECT_ACCESS_REVIEWS.kind,
            "spec": {
                "user": user.name, "groups": user.groups,
                "resourceAttributes": {
                    "verb": verb, "version": "v1", "resource": "nodes",
                    "subresource": subresource, "name": node,
                },
            },
        });
        let answer = client.create(SUBJECT_ACCESS_REVIEWS, &review).await.map_err(|error| {
            tracing::warn!(%error, "nobody says whether a request may pass");
            let text = format!(
                "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                user.name
            );
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, text)
        })?;
        if answer.bool(&["status", "allowed"]) {
            return Ok(());
        }
    }
    let text = format!(
        "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
        user.name,
        wanted.join(" ")
    );
    Err(Refused::new(StatusCode::FORBIDDEN, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources_of_nodes() {
        for (path, want) in [
            ("/stats/summary", &["stats"][..]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/logs/", &["log"]),
            ("/pods", &["pods", "proxy"]),
            ("/containerLogs/a/b/c", &["proxy"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/", &["proxy"]),
        ] {
            assert_eq!(subresources(path), want, "{path}");
        }
    }

    #[test]
    fn tokens_are_bearers() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a value"));
            token(&headers).map(str::to_owned)
        };
        assert_eq!(with("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(with("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(with("Basic abc"), None);
        assert_eq!(with("Bearer "), None);
        assert_eq!(token(&HeaderMap::new()), None);
    }
}
