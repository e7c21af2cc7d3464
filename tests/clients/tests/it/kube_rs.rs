//! kube-rs: typed and dynamic objects, apply, and the reflector.

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::{Discovery, Scope};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, Config, ResourceExt as _};
use longshore_test_api::server::Server;
use serde_json::json;

async fn client(server: &Server) -> Client {
    let text = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

fn config_map(name: &str, word: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::from([("own".into(), "x".into())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("word".into(), word.into())])),
        ..ConfigMap::default()
    }
}

fn word(object: &ConfigMap) -> &str {
    &object.data.as_ref().unwrap()["word"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_objects() {
    let server = crate::start().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server).await, "default");
    for name in ["a", "b", "c", "d", "e"] {
        api.create(&PostParams::default(), &config_map(name, "one")).await.unwrap();
    }
    let again = api.create(&PostParams::default(), &config_map("a", "one")).await.unwrap_err();
    assert!(matches!(&again, kube::Error::Api(status) if status.code == 409), "{again}");

    let mut object = api.get("a").await.unwrap();
    let old = object.clone();
    object.data = Some(BTreeMap::from([("word".into(), "two".into())]));
    assert_eq!(word(&api.replace("a", &PostParams::default(), &object).await.unwrap()), "two");
    let stale = api.replace("a", &PostParams::default(), &old).await.unwrap_err();
    assert!(matches!(&stale, kube::Error::Api(status) if status.reason == "Conflict"), "{stale}");

    let change = json!({"data": {"word": "three"}});
    let parameters = PatchParams::default();
    let patched = api.patch("a", &parameters, &Patch::Merge(&change)).await.unwrap();
    assert_eq!(word(&patched), "three");
    let change = json!({"data": {"word": "four"}});
    let patched = api.patch("a", &parameters, &Patch::Strategic(&change)).await.unwrap();
    assert_eq!(word(&patched), "four");

    let mut page = ListParams::default().labels("own=x").limit(2);
    let mut names = Vec::new();
    loop {
        let list = api.list(&page).await.unwrap();
        names.extend(list.items.iter().map(|object| object.name_any()));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let metadata = api.list_metadata(&ListParams::default().labels("own=x")).await.unwrap();
    assert_eq!(metadata.items.len(), 5);

    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
    let rest = ListParams::default().labels("own=x");
    api.delete_collection(&DeleteParams::default(), &rest).await.unwrap();
    assert!(api.list(&rest).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_has_owners() {
    let server = crate::start().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server).await, "default");
    let config = |word: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"word": word}});
    let one = PatchParams::apply("one");
    let two = PatchParams::apply("two");
    let made = api.patch("a", &one, &Patch::Apply(config("x"))).await.unwrap();
    assert_eq!(word(&made), "x");
    let managers = made.metadata.managed_fields.unwrap();
    assert_eq!(managers[0].manager.as_deref(), Some("one"));
    let conflict = api.patch("a", &two, &Patch::Apply(config("y"))).await.unwrap_err();
    assert!(
        matches!(&conflict, kube::Error::Api(status) if status.code == 409 && status.message.contains("\"one\"")),
        "{conflict}"
    );
    let forced = api.patch("a", &two.clone().force(), &Patch::Apply(config("y"))).await.unwrap();
    assert_eq!(word(&forced), "y");
    // What nobody applies any more is gone.
    let empty = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let rest = api.patch("a", &two, &Patch::Apply(empty)).await.unwrap();
    assert_eq!(rest.data, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reflector_follows() {
    let server = crate::start().await;
    let api: Api<ConfigMap> = Api::namespaced(client(&server).await, "default");
    for (settings, prefix) in [
        (watcher::Config::default(), "listed"),
        (watcher::Config::default().streaming_lists(), "streamed"),
        (watcher::Config::default().page_size(2), "paged"),
    ] {
        for i in 0..5 {
            let object = config_map(&format!("{prefix}-{i}"), "one");
            api.create(&PostParams::default(), &object).await.unwrap();
        }
        let (reader, writer) = reflector::store();
        let stream = watcher(api.clone(), settings.labels("own=x"));
        let mut stream = pin!(reflector(writer, stream));
        while reader.len() < 5 {
            stream.try_next().await.unwrap().unwrap();
        }
        let change = json!({"data": {"word": "two"}});
        let name = format!("{prefix}-3");
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
        let seen = |wanted: &str| {
            reader
                .find(|object| object.name_any() == name)
                .is_some_and(|object| word(&object) == wanted)
        };
        while !seen("two") {
            stream.try_next().await.unwrap().unwrap();
        }
        let rest = ListParams::default().labels("own=x");
        api.delete_collection(&DeleteParams::default(), &rest).await.unwrap();
        while !reader.is_empty() {
            stream.try_next().await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamic_objects_of_what_is_discovered() {
    let server = crate::start().await;
    let client = client(&server).await;
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    assert!(discovery.groups().count() > 15);
    let found = discovery.resolve_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"));
    let (resource, capabilities) = found.unwrap();
    assert_eq!(resource.plural, "deployments");
    assert!(matches!(capabilities.scope, Scope::Namespaced));
    assert!(capabilities.subresources.iter().any(|(sub, _)| sub.plural == "scale"));

    let dynamic: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let object = DynamicObject::new("web", &resource).data(json!({"spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": "example/none:1"}]},
        },
    }}));
    let made = dynamic.create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(made.data["spec"]["strategy"]["type"], "RollingUpdate");

    let typed: Api<Deployment> = Api::namespaced(client, "default");
    let stream = watcher(typed.clone(), watcher::Config::default()).applied_objects();
    let mut stream = pin!(stream);
    let replicas = |object: &Deployment| object.status.as_ref().and_then(|status| status.replicas);
    while stream.try_next().await.unwrap().is_some_and(|object| replicas(&object) != Some(2)) {}
    let change = json!({"spec": {"replicas": 1}});
    typed.patch_scale("web", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    while stream.try_next().await.unwrap().is_some_and(|object| replicas(&object) != Some(1)) {}
    assert_eq!(typed.get_scale("web").await.unwrap().spec.unwrap().replicas, Some(1));
}
