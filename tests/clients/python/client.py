"""The Python client against the server that KUBECONFIG names: `client.py typed|watch|informer|dynamic`."""

import queue
import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.dynamic import exceptions
from kubernetes.informer import informer

NAMESPACE = "default"


def code_of(call, *arguments, **named):
    """The status of a call that must fail."""
    try:
        call(*arguments, **named)
    except client.ApiException as error:
        return error.status
    raise AssertionError("it did not fail")


def config_map(name, **data):
    return {"metadata": {"name": name, "labels": {"own": "x"}}, "data": data}


def typed():
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    for name in "abcde":
        core.create_namespaced_config_map(NAMESPACE, config_map(name, word="one"))
    assert code_of(core.create_namespaced_config_map, NAMESPACE, config_map("a")) == 409
    assert code_of(core.read_namespaced_config_map, "none", NAMESPACE) == 404
    assert code_of(core.create_namespaced_config_map, NAMESPACE, config_map("Bad_Name")) == 422

    one = core.read_namespaced_config_map("a", NAMESPACE)
    one.data["word"] = "two"
    assert core.replace_namespaced_config_map("a", NAMESPACE, one).data == {"word": "two"}
    assert code_of(core.replace_namespaced_config_map, "a", NAMESPACE, one) == 409
    changed = core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"more": "x"}})
    assert changed.data == {"word": "two", "more": "x"}, changed.data
    operations = [{"op": "remove", "path": "/data/more"}]
    changed = core.patch_namespaced_config_map("a", NAMESPACE, operations)
    assert changed.data == {"word": "two"}, changed.data

    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="own=x", limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == list("abcde"), names

    container = {"name": "main", "image": "example/none:1"}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    apps.create_namespaced_deployment(NAMESPACE, {"metadata": {"name": "web"}, "spec": spec})
    scale = apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 3}})
    assert scale.spec.replicas == 3
    assert apps.read_namespaced_deployment("web", NAMESPACE).spec.strategy.rolling_update.max_surge == "25%"

    attributes = {"namespace": NAMESPACE, "verb": "create", "resource": "pods"}
    review = client.AuthorizationV1Api().create_self_subject_access_review(
        {"spec": {"resourceAttributes": attributes}}
    )
    assert review.status.allowed
    assert client.VersionApi().get_code().minor.isdigit()
    assert any(group.name == "apps" for group in client.ApisApi().get_api_versions().groups)

    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="own=x")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="own=x").items


def watches():
    core = client.CoreV1Api()
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version

    def write():
        core.create_namespaced_config_map(NAMESPACE, config_map("a", n="1"))
        for n in "234":
            core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"n": n}})
        core.delete_namespaced_config_map("a", NAMESPACE)

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    watcher = watch.Watch()
    options = {"label_selector": "own=x", "timeout_seconds": 60}
    for event in watcher.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=start, **options):
        seen.append((event["type"], event["object"].data["n"]))
        if len(seen) == 2:
            watcher.stop()
    # The watch goes on where it stopped.
    second = watch.Watch()
    version = watcher.resource_version
    for event in second.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=version, **options):
        seen.append((event["type"], event["object"].data["n"]))
        if event["type"] == "DELETED":
            second.stop()
    writer.join()
    wanted = [("ADDED", "1"), ("MODIFIED", "2"), ("MODIFIED", "3"), ("MODIFIED", "4"), ("DELETED", "4")]
    assert seen == wanted, seen
    # A watch that ends by itself is begun again by the client, until it is told to end.
    core.create_namespaced_config_map(NAMESPACE, config_map("b", n="1"))
    types = [
        event["type"]
        for event in watch.Watch().stream(
            core.list_namespaced_config_map, NAMESPACE, label_selector="own=x", timeout_seconds=1
        )
    ]
    assert types == ["ADDED"], types


def informers():
    core = client.CoreV1Api()
    for name in "ab":
        core.create_namespaced_config_map(NAMESPACE, config_map(name, n="1"))
    events = queue.Queue()
    own = informer.SharedInformer(core.list_namespaced_config_map, NAMESPACE, label_selector="own=x")
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        own.add_event_handler(kind, lambda seen, kind=kind: events.put((kind, seen.metadata.name)))
    own.start()

    def next_events(count):
        return [events.get(timeout=30) for _ in range(count)]

    assert sorted(next_events(2)) == [("ADDED", "a"), ("ADDED", "b")]
    core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"n": "2"}})
    core.create_namespaced_config_map(NAMESPACE, config_map("c", n="1"))
    core.delete_namespaced_config_map("b", NAMESPACE)
    assert next_events(3) == [("MODIFIED", "a"), ("ADDED", "c"), ("DELETED", "b")]
    assert sorted(own.cache.list_keys()) == [f"{NAMESPACE}/a", f"{NAMESPACE}/c"]
    assert own.cache.get_by_key(f"{NAMESPACE}/a").data == {"n": "2"}
    own.stop()


def dynamics():
    api = dynamic.DynamicClient(client.ApiClient())
    maps = api.resources.get(api_version="v1", kind="ConfigMap")
    assert maps.name == "configmaps" and maps.namespaced
    body = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("a", word="x")}
    made = maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="one")
    assert made.metadata.managedFields[0].manager == "one"
    body["data"] = {"word": "y"}
    try:
        maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="two")
        raise AssertionError("there is no conflict")
    except exceptions.ConflictError as error:
        assert b'"one"' in error.body.encode() or '\\"one\\"' in str(error.body), error.body
    forced = maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="two", force_conflicts=True)
    assert forced.data.word == "y"
    patched = maps.patch(
        body={"data": {"more": "z"}},
        name="a",
        namespace=NAMESPACE,
        content_type="application/merge-patch+json",
    )
    assert patched.data.more == "z"
    assert maps.get(namespace=NAMESPACE, label_selector="own=x").items[0].metadata.name == "a"
    events = [event["type"] for event in maps.watch(namespace=NAMESPACE, name="a", timeout=1)]
    assert events[0] == "ADDED", events
    maps.delete(name="a", namespace=NAMESPACE)
    try:
        maps.get(name="a", namespace=NAMESPACE)
        raise AssertionError("it is still there")
    except exceptions.NotFoundError:
        pass
    deployments = api.resources.get(api_version="apps/v1", kind="Deployment")
    assert "scale" in deployments.subresources, deployments.subresources
    nodes = api.resources.get(api_version="v1", kind="Node")
    assert not nodes.namespaced and nodes.get().items == []


if __name__ == "__main__":
    config.load_kube_config()
    {"typed": typed, "watch": watches, "informer": informers, "dynamic": dynamics}[sys.argv[1]]()
