//! Who a stateful pod is: its name, its number, its volumes.
//!
//! upstream: pkg/controller/statefulset/stateful_set_utils.go

use longshore_api::Object;
use serde_json::{Value, json};

use crate::history::REVISION_LABEL;
use crate::pods;

/// The number at the end of a pod's name; `None` when the pod is not named after the set.
pub(super) fn ordinal(set: &Object, pod: &str) -> Option<i64> {
    let (parent, number) = pod.rsplit_once('-')?;
    (parent == set.name()).then(|| number.parse().ok())?
}

/// Whether a pod carries the labels that its name calls for.
pub(super) fn matches(pod: &Object) -> bool {
    pod.label(NAME_LABEL) == Some(pod.name())
}

/// Gives a pod the labels that its name calls for.
pub(super) fn put_back(pod: &mut Object, ordinal: i64) {
    let name = pod.name().to_owned();
    pod.set(&["metadata", "labels", NAME_LABEL], name);
    pod.set(&["metadata", "labels", INDEX_LABEL], ordinal.to_string());
}

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

fn name(set: &Object, ordinal: i64) -> String {
    format!("{}-{ordinal}", set.name())
}

fn claim_name(claim: &Value, pod: &str) -> String {
    format!("{}-{pod}", claim["metadata"]["name"].as_str().unwrap_or(""))
}

/// The claims for the volumes of one pod.
pub(super) fn claims(set: &Object, ordinal: i64) -> Vec<Value> {
    let pod = name(set, ordinal);
    let selector = set.get(&["spec", "selector", "matchLabels"]).and_then(Value::as_object);
    let templates = set.list(&["spec", "volumeClaimTemplates"]).iter();
    let made = templates.map(|template| {
        let mut claim = template.clone();
        if let Some(fields) = claim.as_object_mut() {
            fields.remove("status");
        }
        claim["apiVersion"] = "v1".into();
        claim["kind"] = "PersistentVolumeClaim".into();
        claim["metadata"]["name"] = claim_name(template, &pod).into();
        claim["metadata"]["namespace"] = set.namespace().into();
        for (key, value) in selector.into_iter().flatten() {
            if !claim["metadata"]["labels"].is_object() {
                claim["metadata"]["labels"] = json!({});
            }
            claim["metadata"]["labels"][key] = value.clone();
        }
        claim
    });
    made.collect()
}

/// The pod with this number, made from a revision's template.
pub(super) fn pod(set: &Object, template: &Value, revision: &str, ordinal: i64) -> Object {
    let mut pod = pods::from_template(set, template);
    let name = name(set, ordinal);
    pod.set(&["metadata", "name"], name.as_str());
    put_back(&mut pod, ordinal);
    pod.set(&["metadata", "labels", REVISION_LABEL], revision);
    pod.set(&["spec", "hostname"], name.as_str());
    let service = set.str(&["spec", "serviceName"]);
    if !service.is_empty() {
        pod.set(&["spec", "subdomain"], service);
    }
    let claims = set.list(&["spec", "volumeClaimTemplates"]);
    let is_claim = |volume: &Value| claims.iter().any(|c| c["metadata"]["name"] == volume["name"]);
    let own = pod.list(&["spec", "volumes"]).iter().filter(|v| !is_claim(v)).cloned();
    let mut volumes: Vec<Value> = claims
        .iter()
        .map(|claim| {
            json!({ "name": claim["metadata"]["name"], "persistentVolumeClaim": {
                "claimName": claim_name(claim, &name),
            }})
        })
        .collect();
    volumes.extend(own);
    if !volumes.is_empty() {
        pod.set(&["spec", "volumes"], volumes);
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Object {
        let set = json!({"metadata": {"name": "web", "namespace": "x", "uid": "u"}, "spec": {
            "serviceName": "nginx",
            "selector": {"matchLabels": {"app": "a"}},
            "volumeClaimTemplates": [{"metadata": {"name": "www"}, "spec": {}}],
        }});
        Object::from_value(set).unwrap()
    }

    #[test]
    fn pods_are_numbered() {
        assert_eq!(ordinal(&set(), "web-3"), Some(3));
        assert_eq!(ordinal(&set(), "web-a"), None);
        assert_eq!(ordinal(&set(), "other-3"), None);
    }

    #[test]
    fn a_pod_has_its_own_name_and_volumes() {
        let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {
            "volumes": [{"name": "www", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        }});
        let pod = pod(&set(), &template, "web-r1", 2);
        assert_eq!(pod.name(), "web-2");
        assert_eq!(pod.str(&["spec", "subdomain"]), "nginx");
        assert_eq!(pod.label("apps.kubernetes.io/pod-index"), Some("2"));
        assert_eq!(pod.list(&["spec", "volumes"]).len(), 2);
        assert_eq!(
            pod.list(&["spec", "volumes"])[0]["persistentVolumeClaim"]["claimName"],
            "www-web-2"
        );
        let claims = claims(&set(), 2);
        assert_eq!(claims[0]["metadata"]["name"], "www-web-2");
        assert_eq!(claims[0]["metadata"]["labels"]["app"], "a");
    }
}
