use std::sync::Arc;

use longshore_api::{Object, StatusError};
use longshore_base::rng::SeededRng;
use longshore_resources::Resource;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::auth::UserInfo;
use crate::auth::fake::FakeReader;

pub(super) fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

pub(super) struct Setup {
    pub(super) reader: Arc<FakeReader>,
    admission: Admission,
    resources: Vec<Resource>,
}

/// One request against the plugins.
pub(super) struct Ask<'a> {
    pub(super) what: (&'a str, &'a str, &'a str),
    pub(super) operation: Operation,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) user: UserInfo,
}

impl<'a> Ask<'a> {
    pub(super) fn create(group: &'a str, resource: &'a str) -> Self {
        Self {
            what: (group, resource, ""),
            operation: Operation::Create,
            namespace: "a",
            name: "",
            user: UserInfo::new("jane", &[]),
        }
    }

    pub(super) fn update(group: &'a str, resource: &'a str, subresource: &'a str) -> Self {
        Self {
            what: (group, resource, subresource),
            operation: Operation::Update,
            ..Self::create("", "")
        }
    }
}

impl Setup {
    pub(super) fn new() -> Self {
        let reader = Arc::new(FakeReader::default());
        reader.put(
            "",
            "namespaces",
            json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}}),
        );
        reader.put(
            "",
            "serviceaccounts",
            json!({"metadata": {"name": "default", "namespace": "a"},
                "imagePullSecrets": [{"name": "pull"}]}),
        );
        let tools = Tools {
            reader: reader.clone(),
            authorization: Arc::new(Authorization::new(reader.clone(), Vec::new())),
            rng: Arc::new(SeededRng::new(1)),
            table: Arc::default(),
            outbound: outbound::Client::default(),
            webhook_metrics: Arc::default(),
            policy_metrics: Arc::default(),
        };
        let admission = Admission::new(&tools);
        Self { reader, admission, resources: longshore_resources::all() }
    }

    pub(super) async fn run(
        &self,
        ask: &Ask<'_>,
        object: Option<&mut Object>,
        old: Option<&Object>,
    ) -> Result<(), StatusError> {
        let (group, resource, subresource) = ask.what;
        let resource = self
            .resources
            .iter()
            .find(|r| r.group == group && r.plural == resource)
            .expect("a built-in resource");
        let warnings = Mutex::new(Vec::new());
        let a = Attributes {
            resource,
            subresource,
            operation: ask.operation,
            namespace: if resource.namespaced() { ask.namespace } else { "" },
            name: ask.name,
            user: &ask.user,
            dry_run: false,
            now: "2026-06-01T00:00:00Z".parse().expect("a valid time"),
            warnings: &warnings,
            extras: Extras::default(),
            round: None,
        };
        match object {
            Some(object) => {
                self.admission.mutate(&a, Some(&mut *object), old).await?;
                self.admission.validate(&a, Some(&*object), old).await
            }
            None => {
                self.admission.mutate(&a, None, old).await?;
                self.admission.validate(&a, None, old).await
            }
        }
    }

    pub(super) async fn message(&self, ask: &Ask<'_>, value: Value) -> String {
        let mut object = object(value);
        self.run(ask, Some(&mut object), None).await.expect_err("refused").message
    }
}

pub(super) fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec})
}

fn one_container(resources: Value) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": resources}]})
}

#[tokio::test]
async fn pods_get_account_token_priority_and_tolerations() {
    let setup = Setup::new();
    let mut pod = object(pod(one_container(json!({}))));
    setup.run(&Ask::create("", "pods"), Some(&mut pod), None).await.expect("admitted");
    assert_eq!(pod.str(&["spec", "serviceAccountName"]), "default");
    assert_eq!(pod.int(&["spec", "priority"]), Some(0));
    assert_eq!(pod.str(&["spec", "preemptionPolicy"]), "PreemptLowerPriority");
    assert_eq!(pod.list(&["spec", "tolerations"]).len(), 2);
    assert_eq!(pod.list(&["spec", "imagePullSecrets"]), [json!({"name": "pull"})]);
    let volume = &pod.list(&["spec", "volumes"])[0];
    let name = volume["name"].as_str().expect("a name");
    assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
    let mount = &pod.list(&["spec", "containers"])[0]["volumeMounts"][0];
    assert_eq!(mount["name"], name);
    assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["path"], "token");
}

#[tokio::test]
async fn missing_account_and_namespace_refuse() {
    let setup = Setup::new();
    let spec = json!({"serviceAccountName": "none", "containers": []});
    assert_eq!(
        setup.message(&Ask::create("", "pods"), pod(spec)).await,
        "pods \"p\" is forbidden: error looking up service account a/none: serviceaccount \
         \"none\" not found"
    );
    let elsewhere = Ask { namespace: "b", ..Ask::create("", "configmaps") };
    let map = json!({"metadata": {"name": "m"}});
    assert_eq!(setup.message(&elsewhere, map.clone()).await, "namespaces \"b\" not found");
    setup.reader.put(
        "",
        "namespaces",
        json!({"metadata": {"name": "b"}, "status": {"phase": "Terminating"}}),
    );
    let mut map = object(map);
    let error = setup.run(&elsewhere, Some(&mut map), None).await.expect_err("ending");
    assert_eq!(
        error.message,
        "configmaps \"m\" is forbidden: unable to create new content in namespace b because it is \
         being terminated"
    );
    assert_eq!(error.causes[0].reason, "NamespaceTerminating");
    let delete =
        Ask { operation: Operation::Delete, name: "kube-system", ..Ask::create("", "namespaces") };
    assert_eq!(
        setup.run(&delete, None, None).await.expect_err("immortal").message,
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn what_was_stored_just_before_is_found() {
    let setup = Setup::new();
    let namespace = json!({"metadata": {"name": "b"}, "status": {"phase": "Active"}});
    setup.reader.put_unread("", "namespaces", namespace);
    let elsewhere = Ask { namespace: "b", ..Ask::create("", "configmaps") };
    let mut map = object(json!({"metadata": {"name": "m"}}));
    setup.run(&elsewhere, Some(&mut map), None).await.expect("its namespace is there");
    let account = json!({"metadata": {"name": "new", "namespace": "a"}});
    setup.reader.put_unread("", "serviceaccounts", account);
    let mut pod = object(pod(json!({"serviceAccountName": "new", "containers": []})));
    setup.run(&Ask::create("", "pods"), Some(&mut pod), None).await.expect("its account is there");
}

#[tokio::test]
async fn limit_ranges_fill_and_bound() {
    let setup = Setup::new();
    setup.reader.put(
        "",
        "limitranges",
        json!({"metadata": {"name": "l", "namespace": "a"}, "spec": {"limits": [
            {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "200m"},
             "max": {"cpu": "1"}, "min": {"cpu": "100m"}}]}}),
    );
    let create = Ask::create("", "pods");
    let mut filled = object(pod(one_container(json!({}))));
    setup.run(&create, Some(&mut filled), None).await.expect("admitted");
    assert_eq!(
        filled.list(&["spec", "containers"])[0]["resources"],
        json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "500m"}})
    );
    assert_eq!(
        filled.annotation("kubernetes.io/limit-ranger"),
        Some("LimitRanger plugin set: cpu request for container c; cpu limit for container c")
    );
    let big = one_container(json!({"limits": {"cpu": "1001m"}}));
    assert_eq!(
        setup.message(&create, pod(big)).await,
        "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 1001m"
    );
}

#[tokio::test]
async fn priority_comes_from_the_class_only() {
    let setup = Setup::new();
    let create = Ask::create("", "pods");
    assert_eq!(
        setup.message(&create, pod(json!({"priorityClassName": "x", "containers": []}))).await,
        "pods \"p\" is forbidden: no PriorityClass with name x was found"
    );
    assert_eq!(
        setup.message(&create, pod(json!({"priority": 5, "containers": []}))).await,
        "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod \
         spec; priority admission controller computed 0 from the given PriorityClass name"
    );
}

#[tokio::test]
async fn claims_get_class_and_finalizer_and_grow_by_permission() {
    let setup = Setup::new();
    for (name, day) in [("old", "01"), ("new", "02")] {
        setup.reader.put(
            "storage.k8s.io",
            "storageclasses",
            json!({"metadata": {"name": name,
                "creationTimestamp": format!("2026-01-{day}T00:00:00Z"),
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}),
        );
    }
    let claim = |size: &str| {
        object(json!({"metadata": {"name": "c", "namespace": "a"},
            "spec": {"resources": {"requests": {"storage": size}}}}))
    };
    let mut made = claim("1Gi");
    setup
        .run(&Ask::create("", "persistentvolumeclaims"), Some(&mut made), None)
        .await
        .expect("admitted");
    assert_eq!(made.str(&["spec", "storageClassName"]), "new");
    assert_eq!(made.finalizers(), ["kubernetes.io/pvc-protection"]);
    made.set(&["status", "phase"], "Bound");
    let mut bigger = made.clone();
    bigger.set(&["spec", "resources", "requests", "storage"], "2Gi");
    let update = Ask::update("", "persistentvolumeclaims", "");
    let error = setup.run(&update, Some(&mut bigger), Some(&made)).await.expect_err("refused");
    assert!(error.message.contains("must support resize"), "{}", error.message);
}

#[tokio::test]
async fn runtime_classes_set_overhead_and_scheduling() {
    let setup = Setup::new();
    setup.reader.put(
        "node.k8s.io",
        "runtimeclasses",
        json!({"metadata": {"name": "rc"}, "handler": "h", "overhead": {"podFixed": {"cpu": "1"}},
            "scheduling": {"nodeSelector": {"a": "b"}}}),
    );
    let create = Ask::create("", "pods");
    let mut good = object(pod(json!({"runtimeClassName": "rc", "containers": []})));
    setup.run(&create, Some(&mut good), None).await.expect("admitted");
    assert_eq!(good.str(&["spec", "overhead", "cpu"]), "1");
    assert_eq!(good.str(&["spec", "nodeSelector", "a"]), "b");
    let conflict = json!({"runtimeClassName": "rc", "nodeSelector": {"a": "x"}, "containers": []});
    assert_eq!(
        setup.message(&create, pod(conflict)).await,
        "pods \"p\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[a] = b; \
         pod.spec.nodeSelector[a] = x"
    );
}
