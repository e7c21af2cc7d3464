use std::future::ready;
use std::io::Read;

use futures_util::FutureExt as _;
use longshore_api::Reason;
use parking_lot::Mutex;

use super::*;

/// What a reference server holds right after its start; absent outside the development machine.
const RECORDING: &str = "/work/shared/facts/reference/bootstrap-objects.json.gz";

#[test]
fn defaults_equal_the_recording() {
    let Ok(file) = std::fs::File::open(RECORDING) else { return };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("readable");
    let recorded: Value = serde_json::from_str(&text).expect("JSON");
    let mut compared = 0;
    for (gvr, own) in objects() {
        let items = recorded[format!("{}/{}", gvr.prefix(), gvr.resource)].as_array();
        let found = items
            .into_iter()
            .flatten()
            .find(|o| {
                o["metadata"]["name"] == own.name()
                    && o["metadata"]["namespace"].as_str().unwrap_or("") == own.namespace()
            })
            .unwrap_or_else(|| panic!("{gvr} {} is not in the recording", own.name()));
        for key in ["labels", "annotations"] {
            assert_eq!(
                own.get(&["metadata", key]).unwrap_or(&Value::Null),
                &found["metadata"][key],
                "{gvr} {}",
                own.name()
            );
        }
        for key in
            ["rules", "roleRef", "subjects", "aggregationRule", "value", "description", "spec"]
        {
            // A controller fills the rules of aggregated roles, the strategy a namespace's spec.
            let filled = own.get(&["aggregationRule"]).is_some() && key == "rules";
            if filled || gvr.resource == "namespaces" {
                continue;
            }
            assert_eq!(
                own.get(&[key]).unwrap_or(&Value::Null),
                &found[key],
                "{gvr} {} {key}",
                own.name()
            );
        }
        compared += 1;
    }
    for resource in ["clusterroles", "roles", "clusterrolebindings", "rolebindings"] {
        let all = recorded[format!("/apis/rbac.authorization.k8s.io/v1/{resource}")].as_array();
        let own = objects().into_iter().filter(|(gvr, _)| gvr.resource == resource).count();
        assert_eq!(all.map(Vec::len), Some(own), "{resource}");
    }
    assert!(compared > 150, "{compared}");
}

#[test]
fn reconcile_adds_what_is_missing_and_keeps_the_rest() {
    let (_, wanted) = objects()
        .into_iter()
        .find(|(_, o)| o.kind() == "ClusterRole" && o.name() == "system:basic-user")
        .expect("a default role");
    assert_eq!(reconcile(&wanted, &wanted), None);
    let mut found = wanted.clone();
    found.set(&["rules"], json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
    let changed = reconcile(&found, &wanted).expect("a change");
    let rules = PolicyRule::list_from(changed.list(&["rules"]));
    assert_eq!(rules[0].resources, ["pods"]);
    let needed = PolicyRule::list_from(wanted.list(&["rules"]));
    assert!(PolicyRule::uncovered(&rules, &needed).is_empty());
    found.set(&["metadata", "annotations", RBAC_AUTO_UPDATE], "false");
    assert_eq!(reconcile(&found, &wanted), None);
}

/// Holds one object, and refuses the first writes because somebody was faster.
struct Busy {
    found: Mutex<Option<Object>>,
    conflicts: Mutex<usize>,
}

impl Busy {
    fn write(&self, object: Object) -> BoxFuture<'_, Result<(), StatusError>> {
        let mut conflicts = self.conflicts.lock();
        if *conflicts > 0 {
            *conflicts -= 1;
            return ready(Err(StatusError::new(Reason::Conflict, "somebody was faster"))).boxed();
        }
        *self.found.lock() = Some(object);
        ready(Ok(())).boxed()
    }
}

impl Writer for Busy {
    fn get<'a>(
        &'a self,
        _: &'a Gvr,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<Object>, StatusError>> {
        ready(Ok(self.found.lock().clone())).boxed()
    }

    fn create<'a>(&'a self, _: &'a Gvr, object: Object) -> BoxFuture<'a, Result<(), StatusError>> {
        self.write(object)
    }

    fn update<'a>(&'a self, _: &'a Gvr, object: Object) -> BoxFuture<'a, Result<(), StatusError>> {
        self.write(object)
    }
}

#[tokio::test]
async fn objects_that_others_write_at_the_same_time_are_looked_at_again() {
    let (gvr, wanted) = apiservices::objects().swap_remove(0);
    let mut old = wanted.clone();
    old.set(&["spec", "groupPriorityMinimum"], 1);
    for found in [None, Some(old)] {
        let busy = Busy { found: Mutex::new(found.clone()), conflicts: Mutex::new(2) };
        ensure(&busy, &gvr, &wanted).await.expect("no error");
        assert_eq!(busy.found.lock().as_ref(), Some(&wanted));
        // Whoever never comes through leaves it alone.
        let busy = Busy { found: Mutex::new(found.clone()), conflicts: Mutex::new(usize::MAX) };
        ensure(&busy, &gvr, &wanted).await.expect("no error");
        assert_eq!(*busy.found.lock(), found);
    }
}

#[test]
fn node_rules_let_nodes_ask_for_reviews() {
    assert!(node_rules().iter().any(|rule| rule.resources == ["tokenreviews"]));
}

#[test]
fn the_trust_config_map_keeps_what_other_servers_put_there() {
    let pem = |seed: &str| {
        let params = rcgen::CertificateParams::new(vec![seed.to_owned()]).expect("a name");
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").pem()
    };
    let (ours, proxy, other) = (pem("a"), pem("b"), pem("c"));
    let (_, wanted) = trust::config_map(&ours, &proxy);
    assert_eq!(reconcile(&wanted, &wanted), None);
    let mut found = wanted.clone();
    found.set(&["data", "client-ca-file"], other.as_str());
    found.set(&["data", "requestheader-allowed-names"], "[\"their-proxy\"]");
    found.remove(&["data", "requestheader-client-ca-file"]);
    let combined = reconcile(&found, &wanted).expect("something is missing");
    let names = "[\"their-proxy\",\"front-proxy-client\"]";
    assert_eq!(combined.str(&["data", "requestheader-allowed-names"]), names);
    let clients = combined.str(&["data", "client-ca-file"]);
    assert!(clients.contains(ours.trim()) && clients.contains(other.trim()));
    assert_eq!(combined.str(&["data", "requestheader-client-ca-file"]), proxy);
    assert_eq!(reconcile(&combined, &wanted), None);
}
