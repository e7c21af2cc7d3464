//! Asks the APIs of metrics, which other servers provide.
//!
//! upstream: pkg/controller/podautoscaler/metrics/client.go

use http::Method;
use jiff::{SignedDuration, Timestamp};
use longshore_api::Reason;
use longshore_api::quantity::Quantity;
use longshore_client::client::escape;
use longshore_client::{Client, Error};
use serde_json::Value;

use super::replicas::{Sample, Samples};
use super::scale;

/// The window of a custom metric that states none, in seconds.
const WINDOW_SECONDS: i64 = 60;

const RESOURCES: &str = "/apis/metrics.k8s.io/v1beta1";
const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// What the pods of a selector use of a resource, as a whole or in one container.
pub(super) async fn of_resource(
    client: &Client,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: &str,
) -> Result<Samples, String> {
    let path =
        format!("{RESOURCES}/namespaces/{namespace}/pods{}", query(&[("labelSelector", selector)]));
    let failed = |error| {
        let error = told(&error, "get pods.metrics.k8s.io");
        format!("unable to fetch metrics from resource metrics API: {error}")
    };
    let list = client.raw(Method::GET, &path, None).await.map_err(failed)?;
    let items = items(&list);
    if items.is_empty() {
        return Err("no metrics returned from resource metrics API".into());
    }
    Ok(items.iter().filter_map(|item| pod_sample(item, resource, container)).collect())
}

/// The sample of one pod; none when a container that counts has no value.
fn pod_sample(item: &Value, resource: &str, container: &str) -> Option<(String, Sample)> {
    let containers = item["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let counted: Vec<&Value> = containers
        .iter()
        .filter(|c| container.is_empty() || c["name"].as_str() == Some(container))
        .collect();
    if counted.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for container in counted {
        value = value.saturating_add(milli(&container["usage"][resource])?);
    }
    let window = item["window"].as_str().and_then(|text| text.parse().ok());
    let sample = Sample { at: timestamp(item), window: window.unwrap_or_default(), value };
    Some((item["metadata"]["name"].as_str()?.to_owned(), sample))
}

/// What a custom metric says of each pod of a selector.
pub(super) async fn of_pods(
    client: &Client,
    namespace: &str,
    selector: &str,
    metric: (&str, &str),
) -> Result<Samples, String> {
    let (name, metric_selector) = metric;
    let pairs = [("labelSelector", selector), ("metricLabelSelector", metric_selector)];
    let place = format!("namespaces/{namespace}/pods/*/{name}{}", query(&pairs));
    let what = format!("get pods.{CUSTOM} *");
    let list = custom(client, &place, &what).await.map_err(from_custom)?;
    let items = items(&list);
    if items.is_empty() {
        return Err("no metrics returned from custom metrics API".into());
    }
    let samples = items.iter().filter_map(|item| {
        let name = item["describedObject"]["name"].as_str()?.to_owned();
        // The field has another name in the first version.
        let window = item["windowSeconds"].as_i64().or_else(|| item["window"].as_i64());
        let window = SignedDuration::from_secs(window.unwrap_or(WINDOW_SECONDS));
        Some((name, Sample { at: timestamp(item), window, value: milli(&item["value"])? }))
    });
    Ok(samples.collect())
}

/// What a custom metric says of one object.
pub(super) async fn of_object(
    client: &Client,
    namespace: &str,
    object: &Value,
    metric: (&str, &str),
) -> Result<i64, String> {
    let text = |field: &str| object[field].as_str().unwrap_or("");
    let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let query = query(&[("metricLabelSelector", metric.1)]);
    let place = if kind == "Namespace" && group.is_empty() {
        format!("namespaces/{namespace}/metrics/{}{query}", metric.0)
    } else {
        let found = scale::resources_of(client, group, kind).await.map_err(|error| {
            let kind = if group.is_empty() { kind.into() } else { format!("{kind}.{group}") };
            from_custom(format!("unable to map kind {kind} to resource: {error}"))
        })?;
        let plural = found.first().map_or("", |resource| resource.plural.as_str());
        let dot = if group.is_empty() { "" } else { "." };
        format!("namespaces/{namespace}/{plural}{dot}{group}/{name}/{}{query}", metric.0)
    };
    let what = format!("get {}", place.split('?').next().unwrap_or(""));
    let list = custom(client, &place, &what).await.map_err(from_custom)?;
    match items(&list) {
        [one] => milli(&one["value"]).ok_or_else(|| from_custom("the metric has no value".into())),
        other => Err(from_custom(format!(
            "the custom metrics API server returned {} results when we asked for exactly one",
            other.len()
        ))),
    }
}

/// The values of an external metric.
pub(super) async fn external(
    client: &Client,
    namespace: &str,
    metric: &str,
    selector: &str,
) -> Result<Vec<i64>, String> {
    let query = query(&[("labelSelector", selector)]);
    let path = format!("{EXTERNAL}/namespaces/{namespace}/{metric}{query}");
    let failed = |error| {
        let error = told(&error, &format!("get {metric}.external.metrics.k8s.io"));
        format!("unable to fetch metrics from external metrics API: {error}")
    };
    let list = client.raw(Method::GET, &path, None).await.map_err(failed)?;
    let items = items(&list);
    if items.is_empty() {
        return Err("no metrics returned from external metrics API".into());
    }
    Ok(items.iter().filter_map(|item| milli(&item["value"])).collect())
}

/// Asks for custom metrics in the version that the server prefers of those that are known.
async fn custom(client: &Client, place: &str, what: &str) -> Result<Value, String> {
    let group = match client.raw(Method::GET, &format!("/apis/{CUSTOM}"), None).await {
        Ok(group) => group,
        Err(error) if error.is_not_found() => {
            return Err(format!("no custom metrics API ({CUSTOM}) registered"));
        }
        Err(error) => return Err(told(&error, "")),
    };
    let others = group["versions"].as_array().into_iter().flatten();
    let mut versions = std::iter::once(&group["preferredVersion"])
        .chain(others)
        .filter_map(|version| version["version"].as_str());
    let known = versions.find(|version| matches!(*version, "v1beta1" | "v1beta2"));
    let version = known.ok_or("no known available metric versions found")?;
    let path = format!("/apis/{CUSTOM}/{version}/{place}");
    client.raw(Method::GET, &path, None).await.map_err(|error| told(&error, what))
}

fn from_custom(error: String) -> String {
    format!("unable to fetch metrics from custom metrics API: {error}")
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

fn timestamp(item: &Value) -> Option<Timestamp> {
    item["timestamp"].as_str()?.parse().ok()
}

fn milli(value: &Value) -> Option<i64> {
    Quantity::parse(value.as_str()?).ok().map(Quantity::milli_value)
}

fn query(pairs: &[(&str, &str)]) -> String {
    let given = pairs.iter().filter(|(_, value)| !value.is_empty());
    let text: Vec<String> = given.map(|(key, value)| format!("{key}={}", escape(value))).collect();
    if text.is_empty() { String::new() } else { format!("?{}", text.join("&")) }
}

/// A failure in the words of upstream's client, which has its own for answers that say nothing.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go NewGenericServerResponse
pub(super) fn told(error: &Error, what: &str) -> String {
    let Error::Status(status) = error else { return error.to_string() };
    if status.reason != Reason::Unknown {
        return status.message.clone();
    }
    let text = match status.code {
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be \
             processing the request"
        }
        _ => return status.message.clone(),
    };
    if what.is_empty() { text.to_owned() } else { format!("{text} ({what})") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_counts_when_all_of_its_containers_were_measured() {
        let item = json!({
            "metadata": {"name": "a"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s",
            "containers": [
                {"name": "x", "usage": {"cpu": "100m", "memory": "1Ki"}},
                {"name": "y", "usage": {"cpu": "1500u"}},
            ],
        });
        let (name, sample) = pod_sample(&item, "cpu", "").expect("a sample");
        assert_eq!((name.as_str(), sample.value), ("a", 102));
        assert_eq!(sample.window, SignedDuration::from_secs(30));
        assert!(sample.at.is_some());
        assert!(pod_sample(&item, "memory", "").is_none());
        assert_eq!(pod_sample(&item, "memory", "x").expect("a sample").1.value, 1_024_000);
        assert!(pod_sample(&item, "memory", "z").is_none());
    }
}
