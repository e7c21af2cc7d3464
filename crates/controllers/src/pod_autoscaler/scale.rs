//! The target of an autoscaler: which resource its kind is, and how many replicas it has.
//!
//! upstream: staging/src/k8s.io/client-go/scale/client.go

use http::Method;
use longshore_client::{Client, Error};
use serde_json::Value;

use super::metrics::told;

/// How often a change is tried when somebody else changes the target, too.
const TRIES_MAX: u32 = 5;

/// A resource that serves a kind.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The path of its version.
    path: String,
    /// Lower-case plural.
    pub plural: String,
}

/// The scale of a target, and where it was found.
#[derive(Debug)]
pub(super) struct Scale {
    path: String,
    object: Value,
}

/// The resources that serve a kind, one of each version, the preferred one first.
pub(super) async fn resources_of(
    client: &Client,
    group: &str,
    kind: &str,
) -> Result<Vec<Found>, String> {
    let paths = match group {
        "" => vec!["/api/v1".to_owned()],
        group => versions(client, group).await?,
    };
    let mut found = Vec::new();
    for path in paths {
        let list = match client.raw(Method::GET, &path, None).await {
            Ok(list) => list,
            // A version that goes or whose server is away is as good as none.
            Err(Error::Status(_)) => continue,
            Err(error) => return Err(error.to_string()),
        };
        let resources = list["resources"].as_array().into_iter().flatten();
        let mut names = resources
            .filter(|resource| resource["kind"] == kind)
            .filter_map(|resource| resource["name"].as_str())
            .filter(|name| !name.contains('/'));
        if let Some(plural) = names.next() {
            found.push(Found { path, plural: plural.to_owned() });
        }
    }
    if found.is_empty() {
        return Err(format!("no matches for kind \"{kind}\" in group \"{group}\""));
    }
    Ok(found)
}

async fn versions(client: &Client, group: &str) -> Result<Vec<String>, String> {
    let answer = match client.raw(Method::GET, &format!("/apis/{group}"), None).await {
        Ok(answer) => answer,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(told(&error, "")),
    };
    let preferred = answer["preferredVersion"]["version"].as_str().unwrap_or("");
    let versions = answer["versions"].as_array().into_iter().flatten();
    let versions = versions.filter_map(|version| version["version"].as_str());
    let mut versions: Vec<&str> = versions.collect();
    versions.sort_by_key(|version| *version != preferred);
    Ok(versions.into_iter().map(|version| format!("/apis/{group}/{version}")).collect())
}

impl Scale {
    /// Finds the scale of an object in one of the resources of its kind.
    pub async fn find(
        client: &Client,
        resources: &[Found],
        namespace: &str,
        name: &str,
    ) -> Result<Self, String> {
        let mut first = None;
        for Found { path, plural } in resources {
            let path = format!("{path}/namespaces/{namespace}/{plural}/{name}/scale");
            match client.raw(Method::GET, &path, None).await {
                Ok(object) => return Ok(Self { path, object }),
                Err(error) => {
                    first.get_or_insert_with(|| told(&error, ""));
                }
            }
        }
        Err(first.unwrap_or_else(|| "unrecognized resource".to_owned()))
    }

    /// Replicas that are wanted.
    pub fn wanted(&self) -> i64 {
        self.object["spec"]["replicas"].as_i64().unwrap_or(0)
    }

    /// Replicas that there are.
    pub fn present(&self) -> i64 {
        self.object["status"]["replicas"].as_i64().unwrap_or(0)
    }

    /// The selector of the pods, as a text.
    pub fn selector(&self) -> &str {
        self.object["status"]["selector"].as_str().unwrap_or("")
    }

    /// Says how many replicas are wanted.
    pub async fn change(mut self, client: &Client, replicas: i64) -> Result<(), String> {
        let mut tries = 1;
        loop {
            self.object["spec"]["replicas"] = replicas.into();
            let body = Some(("application/json", &self.object));
            match client.raw(Method::PUT, &self.path, body).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() && tries < TRIES_MAX => {
                    if let Ok(newer) = client.raw(Method::GET, &self.path, None).await {
                        self.object = newer;
                    }
                    tries += 1;
                }
                Err(error) => return Err(told(&error, "")),
            }
        }
    }
}
