//! Whether the servers of API services can be used: looks at their Services and asks them, and
//! writes what it finds into the conditions.
//!
//! upstream: staging/src/k8s.io/kube-aggregator/pkg/controllers/status/{local,remote}

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use longshore_api::Object;
use longshore_base::Shutdown;
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Queue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::follow::follow;
use super::{Aggregator, ApiService, GROUP, PLURAL, Remote};
use crate::auth::UserInfo;
use crate::cache::Interest;
use crate::endpoints::Api;
use crate::outbound::CallError;
use crate::outbound::services::SERVICE_LABEL;
use crate::registry::rfc3339;

/// API services that are looked at side by side.
const WORKERS: usize = 5;
/// How often a server is asked that nothing has happened to.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// The first pause after a server did not answer; each further failure doubles it.
const RETRY_MIN: Duration = Duration::from_millis(5);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Questions at the same time: one good answer is enough.
const ATTEMPTS: usize = 5;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What was found out about an API service.
struct Finding {
    status: &'static str,
    reason: &'static str,
    message: String,
    /// Whether it may be different soon, without any object telling so.
    again: bool,
}

impl Finding {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message, again: false }
    }
}

struct Checker {
    api: Arc<Api>,
    aggregator: Arc<Aggregator>,
    failures: Mutex<HashMap<String, u32>>,
}

/// Looks at the API services from now on.
pub(super) fn start(api: Arc<Api>, aggregator: Arc<Aggregator>, shutdown: &Shutdown) {
    let queue = Queue::new();
    let cache_of = |group: &str, plural: &str| {
        let table = api.registry.table();
        table.any_version(group, plural).map(|served| served.cache.clone())
    };
    if let Some(cache) = cache_of(GROUP, PLURAL) {
        let queue = queue.clone();
        follow(cache, Interest::default(), shutdown, move |entry| {
            queue.add(entry.name().to_owned())
        });
    }
    // Those that a Service is for.
    let of_service = |aggregator: Arc<Aggregator>, queue: Queue<String>| {
        move |namespace: &str, name: &str| {
            for service in aggregator.services().remote() {
                let remote = service.remote.as_ref();
                if remote.is_some_and(|r| r.namespace == namespace && r.service == name) {
                    queue.add(service.name().to_owned());
                }
            }
        }
    };
    if let Some(cache) = cache_of("", "services") {
        let changed = of_service(aggregator.clone(), queue.clone());
        follow(cache, Interest::default(), shutdown, move |entry| {
            changed(entry.namespace(), entry.name())
        });
    }
    if let Some(cache) = cache_of("discovery.k8s.io", "endpointslices") {
        let changed = of_service(aggregator.clone(), queue.clone());
        follow(cache, Interest::default(), shutdown, move |entry| {
            changed(entry.namespace(), entry.label(SERVICE_LABEL).unwrap_or(""));
        });
    }
    let checker = Arc::new(Checker { api, aggregator, failures: Mutex::default() });
    workers::run("api-service-availability", queue, WORKERS, shutdown, move |name: String| {
        let checker = checker.clone();
        async move { checker.sync(&name).await }
    });
}

impl Checker {
    async fn sync(&self, name: &str) -> Outcome {
        let services = self.aggregator.services();
        let Some(service) = services.get(name) else {
            self.aggregator.metrics.forget(name);
            self.failures.lock().remove(name);
            return Ok(None);
        };
        let finding = match &service.remote {
            None => Finding {
                status: "True",
                reason: "Local",
                message: "Local APIServices are always available".to_owned(),
                again: false,
            },
            Some(remote) => self.look(service, remote).await,
        };
        self.write(service, &finding).await?;
        if service.remote.is_none() {
            return Ok(None);
        }
        let mut failures = self.failures.lock();
        if !finding.again {
            failures.remove(name);
            return Ok(Some(CHECK_INTERVAL));
        }
        let count = failures.entry(name.to_owned()).or_default();
        let pause = RETRY_MIN.saturating_mul(1 << (*count).min(20)).min(RETRY_MAX);
        *count = count.saturating_add(1);
        Ok(Some(pause))
    }

    /// Whether a server can be used.
    async fn look(&self, service: &ApiService, remote: &Remote) -> Finding {
        if let Some(finding) = self.without_asking(remote) {
            return finding;
        }
        if let Some(why) = remote.broken() {
            // Upstream has no words for this one: it says nothing and tries again.
            return Finding { again: true, ..Finding::no("FailedDiscoveryCheck", why.to_owned()) };
        }
        let mut questions: FuturesUnordered<_> =
            (0..ATTEMPTS).map(|_| self.ask(service, remote)).collect();
        let mut last = String::new();
        while let Some(answer) = questions.next().await {
            match answer {
                Ok(()) => {
                    return Finding {
                        status: "True",
                        reason: "Passed",
                        message: "all checks passed".to_owned(),
                        again: false,
                    };
                }
                Err(why) => last = why,
            }
        }
        Finding { again: true, ..Finding::no("FailedDiscoveryCheck", last) }
    }

    /// What the objects say against a server.
    fn without_asking(&self, remote: &Remote) -> Option<Finding> {
        let Remote { namespace, service: name, port, .. } = remote;
        let reader = &self.aggregator.reader;
        let Some(service) = reader.get("", "services", namespace, name) else {
            let message = format!("service/{name} in {namespace:?} is not present");
            return Some(Finding::no("ServiceNotFound", message));
        };
        if service.str(&["spec", "type"]) != "ClusterIP" {
            return None;
        }
        let ports = service.list(&["spec", "ports"]);
        let Some(found) = ports.iter().find(|own| own["port"] == *port) else {
            let message =
                format!("service/{name} in {namespace:?} is not listening on port {port}");
            return Some(Finding::no("ServicePortError", message));
        };
        let port_name = found["name"].as_str().unwrap_or("");
        let resource = ("discovery.k8s.io", "endpointslices");
        let slices = reader.labelled(resource, namespace, (SERVICE_LABEL, name));
        if slices.is_empty() {
            let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
            return Some(Finding::no("EndpointsNotFound", message));
        }
        if !slices.iter().any(|slice| has_endpoint(slice, port_name)) {
            let message = format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            );
            return Some(Finding::no("MissingEndpoints", message));
        }
        None
    }

    /// Asks a server what it has to answer.
    async fn ask(&self, service: &ApiService, remote: &Remote) -> Result<(), String> {
        let target = remote.target(self.aggregator.reader.as_ref()).map_err(|e| e.to_string())?;
        let core = service.path() == "/api";
        let path =
            if core { format!("/api/{}", service.version) } else { service.path().to_owned() };
        let url = format!("https://{}{path}", target.authority);
        let user = UserInfo::new("system:kube-aggregator", &["system:masters"]);
        let failing = |why: String| format!("failing or missing response from {url}: {why}");
        let answer = self.aggregator.ask(remote, &path, &user, &[], ANSWER_TIMEOUT).await;
        match answer {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => {
                let code = answer.status.as_u16();
                Err(failing(format!("bad status from {url}: {code}")))
            }
            Err(CallError::Deadline) => Err(failing(format!(
                "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            ))),
            Err(error) => Err(failing(format!("Get {url:?}: {error}"))),
        }
    }

    async fn write(&self, service: &ApiService, finding: &Finding) -> Result<(), Error> {
        let name = service.name();
        let available = finding.status == "True";
        self.aggregator.metrics.set(name, available);
        let registry = &self.api.registry;
        let before = service.object();
        let now = rfc3339(registry.now());
        let Some(next) = with_condition(&before, finding, &now) else { return Ok(()) };
        let table = registry.table();
        let Some(served) = table.any_version(GROUP, PLURAL).cloned() else { return Ok(()) };
        // One that has changed meanwhile comes again with the change.
        if registry.write_status(&served, &before, &next).await? {
            tracing::info!(name, finding.status, finding.reason, "an API service changed");
            if service.available && !available {
                self.aggregator.metrics.lost(name, finding.reason);
            }
        }
        Ok(())
    }
}

/// Whether a slice has an endpoint that is ready, and the port.
fn has_endpoint(slice: &Object, port_name: &str) -> bool {
    let ready = |endpoint: &Value| endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
    let named = |port: &Value| port["name"].as_str() == Some(port_name) && !port["port"].is_null();
    slice.list(&["endpoints"]).iter().any(ready) && slice.list(&["ports"]).iter().any(named)
}

/// The object with a condition; `None` when it has it already. The time is that of the last change
/// between yes and no.
///
/// upstream: staging/src/k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper/helpers.go
/// SetAPIServiceCondition
fn with_condition(object: &Object, finding: &Finding, now: &str) -> Option<Object> {
    let mut conditions = object.list(&["status", "conditions"]).to_vec();
    let new = json!({
        "type": "Available", "status": finding.status, "lastTransitionTime": now,
        "reason": finding.reason, "message": finding.message,
    });
    match conditions.iter_mut().find(|condition| condition["type"] == "Available") {
        None => conditions.push(new),
        Some(old) => {
            let before = old.clone();
            let same_status = old["status"] == new["status"];
            *old = new;
            if same_status {
                old["lastTransitionTime"] = before["lastTransitionTime"].clone();
            }
            if *old == before {
                return None;
            }
        }
    }
    let mut next = object.clone();
    next.set(&["status", "conditions"], conditions);
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let finding =
            |status, reason| Finding { status, reason, message: String::new(), again: false };
        let bare = object(json!({"metadata": {"name": "v1.g"}}));
        let first = with_condition(&bare, &finding("False", "A"), "t1").expect("new");
        assert!(with_condition(&first, &finding("False", "A"), "t2").is_none());
        let second = with_condition(&first, &finding("False", "B"), "t2").expect("changed");
        let condition = &second.list(&["status", "conditions"])[0];
        assert_eq!(
            (&condition["reason"], &condition["lastTransitionTime"]),
            (&json!("B"), &json!("t1"))
        );
        let third = with_condition(&second, &finding("True", "B"), "t3").expect("changed");
        assert_eq!(third.list(&["status", "conditions"])[0]["lastTransitionTime"], "t3");
        assert_eq!(third.list(&["status", "conditions"]).len(), 1);
    }

    #[test]
    fn an_endpoint_counts_when_it_is_ready_and_has_the_port() {
        let slice = |ready: Value, name: &str| {
            object(json!({
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": ready}],
                "ports": [{"name": name, "port": 443}],
            }))
        };
        assert!(has_endpoint(&slice(json!({}), ""), ""));
        assert!(has_endpoint(&slice(json!({"ready": true}), "https"), "https"));
        assert!(!has_endpoint(&slice(json!({"ready": false}), ""), ""));
        assert!(!has_endpoint(&slice(json!({}), "https"), "http"));
        assert!(!has_endpoint(&object(json!({"ports": [{"name": "", "port": 1}]})), ""));
    }
}
