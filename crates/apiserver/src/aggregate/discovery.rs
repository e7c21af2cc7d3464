//! What other servers serve: their discovery documents, asked for again and again.
//!
//! upstream: staging/src/k8s.io/kube-aggregator/pkg/apiserver/handler_discovery.go

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Aggregator, ApiService, Remote, Table};
use crate::auth::UserInfo;
use crate::outbound::CallError;

/// API services that are asked about side by side.
pub(super) const WORKERS: usize = 2;
/// How often a server is asked, and the longest pause after failures.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// The first pause after a failure; each further one doubles it.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The forms of the document that are understood.
const FORMS: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// The documents of one server.
#[derive(Clone, Default)]
struct Fetched {
    etag: String,
    /// By group and version.
    versions: Arc<HashMap<(String, String), Value>>,
}

/// Which Service a server is behind.
type Place = (String, String, u16);

/// What an API service has, and whether that was asked just now.
#[derive(Default)]
struct Known {
    version: Value,
    stale: bool,
    failures: u32,
}

/// What other servers serve.
#[derive(Default)]
pub(super) struct Documents {
    servers: Mutex<HashMap<Place, Fetched>>,
    known: Mutex<BTreeMap<String, Known>>,
}

/// An API service as discovery tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The name of the API service.
    pub name: String,
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// How the group stands among others.
    pub group_priority: i64,
    /// How the version stands among those of the group.
    pub version_priority: i64,
    /// Whether it comes and goes with what is served here.
    pub managed: bool,
    /// The entry of the aggregated document, when it is served elsewhere.
    pub elsewhere: Option<Value>,
}

impl Documents {
    /// The API services with what is known of them.
    pub(super) fn told(&self, services: &Table) -> Vec<Told> {
        let known = self.known.lock();
        let entry = |service: &ApiService| {
            let unknown = Known { stale: true, ..Known::default() };
            let known = known.get(service.name()).unwrap_or(&unknown);
            let mut version = known.version.clone();
            if !version.is_object() {
                version = json!({});
            }
            version["version"] = service.version.as_str().into();
            version["freshness"] = if known.stale { "Stale" } else { "Current" }.into();
            version
        };
        let one = |service: &Arc<ApiService>| Told {
            name: service.name().to_owned(),
            group: service.group.clone(),
            version: service.version.clone(),
            group_priority: service.group_priority,
            version_priority: service.version_priority,
            managed: service.label(crate::bootstrap::AUTO_MANAGED).is_some(),
            elsewhere: service.remote.is_some().then(|| entry(service)),
        };
        services.iter().map(one).collect()
    }

    /// Lets go of the documents of servers that no API service is at any more.
    fn forget_unused(&self, services: &Table) {
        let used: Vec<Place> =
            services.remote().filter_map(|s| s.remote.as_ref()).map(place).collect();
        self.servers.lock().retain(|place, _| used.contains(place));
    }
}

fn place(remote: &Remote) -> Place {
    (remote.namespace.clone(), remote.service.clone(), remote.port)
}

impl Aggregator {
    /// Asks the server of an API service what it has, and gives the time until the next question.
    pub(super) async fn discover(&self, name: &str) -> Option<Duration> {
        let services = self.services();
        self.discovery.forget_unused(&services);
        let found = services.get(name).and_then(|s| s.remote.as_ref().map(|remote| (s, remote)));
        let Some((service, remote)) = found else {
            self.discovery.known.lock().remove(name);
            return None;
        };
        let outcome = self.versions_of(service, remote).await;
        let mut known = self.discovery.known.lock();
        let known = known.entry(name.to_owned()).or_default();
        match outcome {
            Ok(fetched) => {
                let key = (service.group.clone(), service.version.clone());
                let version = fetched.versions.get(&key).cloned().unwrap_or_default();
                *known = Known { version, ..Known::default() };
                Some(REFRESH_INTERVAL)
            }
            Err(error) => {
                tracing::debug!(name, %error, "a server does not tell what it serves");
                known.stale = true;
                let pause = RETRY_MIN.saturating_mul(1 << known.failures.min(10));
                known.failures = known.failures.saturating_add(1);
                Some(pause.min(REFRESH_INTERVAL))
            }
        }
    }

    async fn versions_of(
        &self,
        service: &ApiService,
        remote: &Remote,
    ) -> Result<Fetched, CallError> {
        let place = place(remote);
        let before = self.discovery.servers.lock().get(&place).cloned().unwrap_or_default();
        let user = UserInfo::new("system:kube-aggregator", &["system:masters"]);
        let mut headers = vec![(ACCEPT, FORMS)];
        if !before.etag.is_empty() {
            headers.push((IF_NONE_MATCH, before.etag.as_str()));
        }
        let answer = self.ask(remote, "/apis", &user, &headers, ANSWER_TIMEOUT).await?;
        let is_list = answer.header(CONTENT_TYPE).contains("as=APIGroupDiscoveryList");
        match answer.status {
            StatusCode::NOT_MODIFIED => Ok(before),
            StatusCode::SERVICE_UNAVAILABLE => {
                Err(CallError::Other("the server is unavailable".to_owned()))
            }
            StatusCode::OK if is_list => {
                let list: Value = serde_json::from_slice(&answer.body).map_err(super::other)?;
                let etag = answer.header(ETAG).to_owned();
                let fetched = Fetched { etag, versions: Arc::new(versions_in(&list)) };
                self.discovery.servers.lock().insert(place, fetched.clone());
                Ok(fetched)
            }
            _ => self.old_versions_of(service, remote).await,
        }
    }

    /// The resources of an API service of a server that knows only the older documents. They are
    /// of one version, and not kept for others.
    async fn old_versions_of(
        &self,
        service: &ApiService,
        remote: &Remote,
    ) -> Result<Fetched, CallError> {
        let user = UserInfo::new("system:kube-aggregator", &[]);
        let path = match service.group.as_str() {
            "" => format!("/api/{}", service.version),
            group => format!("/apis/{group}/{}", service.version),
        };
        let answer = self.ask(remote, &path, &user, &[], ANSWER_TIMEOUT).await?;
        if answer.status != StatusCode::OK {
            return Err(CallError::Other(format!("{path} is answered with {}", answer.status)));
        }
        let list: Value = serde_json::from_slice(&answer.body).map_err(super::other)?;
        let resources = resources_in(&list).map_err(CallError::Other)?;
        let key = (service.group.clone(), service.version.clone());
        let version = json!({ "version": service.version, "resources": resources });
        Ok(Fetched { etag: String::new(), versions: Arc::new(HashMap::from([(key, version)])) })
    }
}

/// The versions in a document. Kinds that it does not tell are empty ones: old clients cannot do
/// without.
fn versions_in(list: &Value) -> HashMap<(String, String), Value> {
    let items = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut found = HashMap::new();
    for group in items(list, "items") {
        let name = group["metadata"]["name"].as_str().unwrap_or("").to_owned();
        for mut version in items(&group, "versions") {
            for resource in version["resources"].as_array_mut().into_iter().flatten() {
                fill_kind(resource);
                let subresources = resource.get_mut("subresources").and_then(Value::as_array_mut);
                subresources.into_iter().flatten().for_each(fill_kind);
            }
            let own = version["version"].as_str().unwrap_or("").to_owned();
            found.insert((name.clone(), own), version);
        }
    }
    found
}

fn fill_kind(resource: &mut Value) {
    if resource.is_object() && resource["responseKind"].is_null() {
        resource["responseKind"] = kind(&Value::Null);
    }
}

fn kind(of: &Value) -> Value {
    let text = |key: &str| of[key].as_str().unwrap_or("").to_owned();
    json!({ "group": text("group"), "version": text("version"), "kind": text("kind") })
}

/// The resources of an `APIResourceList`, as the newer document tells them.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/installer.go
/// ConvertGroupVersionIntoToDiscovery
fn resources_in(list: &Value) -> Result<Vec<Value>, String> {
    let empty = Vec::new();
    let all = list["resources"].as_array().unwrap_or(&empty);
    let name = |resource: &Value| resource["name"].as_str().unwrap_or("").to_owned();
    let scope = |resource: &Value| {
        if resource["namespaced"] == true { "Namespaced" } else { "Cluster" }
    };
    let mut resources: Vec<Value> = Vec::new();
    for resource in all.iter().filter(|resource| !name(resource).contains('/')) {
        let mut found = json!({
            "resource": name(resource), "scope": scope(resource), "verbs": resource["verbs"],
            "responseKind": kind(resource), "singularResource": resource["singularName"],
        });
        for key in ["shortNames", "categories"] {
            if let Some(list) = resource.get(key) {
                found[key] = list.clone();
            }
        }
        resources.push(found);
    }
    for resource in all {
        let full = name(resource);
        let Some((parent, sub)) = full.split_once('/') else { continue };
        let scope = scope(resource);
        let at = resources.iter().position(|r| r["resource"] == parent).unwrap_or_else(|| {
            let responds = kind(&Value::Null);
            resources.push(json!({"resource": parent, "scope": scope, "responseKind": responds}));
            resources.len() - 1
        });
        if resources[at]["scope"] != scope {
            return Err(format!("the scopes of {parent} and {full} do not match"));
        }
        let found = json!({
            "subresource": sub, "verbs": resource["verbs"], "responseKind": kind(resource),
        });
        match resources[at]["subresources"].as_array_mut() {
            Some(subresources) => subresources.push(found),
            None => resources[at]["subresources"] = json!([found]),
        }
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_documents_are_told_in_the_newer_form() {
        let list = json!({"resources": [
            {"name": "things/status", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
                "verbs": ["get", "list"], "shortNames": ["th"]},
            {"name": "alone/proxy", "namespaced": false, "kind": "", "verbs": ["create"]},
        ]});
        let want = json!([
            {"resource": "things", "scope": "Namespaced", "singularResource": "thing",
                "verbs": ["get", "list"], "shortNames": ["th"],
                "responseKind": {"group": "", "version": "", "kind": "Thing"},
                "subresources": [{"subresource": "status", "verbs": ["get"],
                    "responseKind": {"group": "", "version": "", "kind": "Thing"}}]},
            {"resource": "alone", "scope": "Cluster",
                "responseKind": {"group": "", "version": "", "kind": ""},
                "subresources": [{"subresource": "proxy", "verbs": ["create"],
                    "responseKind": {"group": "", "version": "", "kind": ""}}]},
        ]);
        assert_eq!(resources_in(&list), Ok(want.as_array().expect("a list").clone()));
        let mixed = json!({"resources": [
            {"name": "a", "namespaced": true}, {"name": "a/b", "namespaced": false},
        ]});
        assert!(resources_in(&mixed).is_err());
    }
}
