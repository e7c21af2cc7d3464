use serde_json::json;

use super::*;
use crate::managed::OneVersion;
use crate::schema::Type;

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn kind(group: &str, kind: &str) -> &'static Type {
    crate::schema::kind(group, "v1", kind).expect("a built-in kind")
}

fn write<'a>(ty: &'static Type, manager: &'a str, now: &'a str) -> Write<'a> {
    Write {
        ty: ty.into(),
        api_version: "v1",
        subresource: "",
        manager,
        now,
        filter: Filter::All,
        versions: &OneVersion,
    }
}

/// The field sets by manager.
fn fields(object: &Object) -> Value {
    let entries = object.list(&["metadata", "managedFields"]).iter();
    let pairs =
        entries.map(|e| (e["manager"].as_str().unwrap_or("").to_owned(), e["fieldsV1"].clone()));
    Value::Object(pairs.collect())
}

fn times(object: &Object) -> Vec<&str> {
    let entries = object.list(&["metadata", "managedFields"]).iter();
    entries.map(|e| e["time"].as_str().unwrap_or("")).collect()
}

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

#[test]
fn a_new_object_belongs_to_its_maker() {
    let ty = kind("", "Pod");
    let mut pod = object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"x": "y"}, "finalizers": ["a/b"]},
        "spec": {
            "containers": [{
                "name": "c", "image": "i", "command": ["x"],
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
            }],
            "nodeSelector": {"a": "b"},
            "securityContext": {},
        },
    }));
    track(&write(ty, "maker", T1), &nothing(), &mut pod);
    let want = json!({"maker": {
        "f:metadata": {
            "f:labels": {".": {}, "f:x": {}},
            "f:finalizers": {".": {}, "v:\"a/b\"": {}},
        },
        "f:spec": {
            "f:containers": {"k:{\"name\":\"c\"}": {
                ".": {}, "f:name": {}, "f:image": {}, "f:command": {},
                "f:resources": {},
                "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                    ".": {}, "f:containerPort": {}, "f:protocol": {},
                }},
            }},
            "f:nodeSelector": {},
            "f:securityContext": {},
        },
    }});
    assert_eq!(fields(&pod), want);
    assert_eq!(times(&pod), [T1]);
}

fn nothing() -> Object {
    Object::default()
}

/// A config map that `maker` has made.
fn made() -> Object {
    let mut map = object(json!({"metadata": {"name": "a"}, "data": {"a": "1", "b": "2"}}));
    track(&write(kind("", "ConfigMap"), "maker", T1), &nothing(), &mut map);
    map.set(&["metadata", "uid"], "u");
    map
}

#[test]
fn changed_fields_go_to_whom_changed_them() {
    let ty = kind("", "ConfigMap");
    let live = made();
    let mut new = live.clone();
    new.set(&["data", "a"], "9");
    new.remove(&["data", "b"]);
    new.set(&["data", "c"], "3");
    track(&write(ty, "other", T2), &live, &mut new);
    let want = json!({
        "maker": {"f:data": {}},
        "other": {"f:data": {"f:a": {}, "f:c": {}}},
    });
    assert_eq!(fields(&new), want);
    assert_eq!(times(&new), [T1, T2]);
}

#[test]
fn a_write_that_changes_nothing_changes_no_manager() {
    let live = made();
    let mut new = live.clone();
    track(&write(kind("", "ConfigMap"), "other", T2), &live, &mut new);
    assert_eq!(new, live);
}

#[test]
fn the_request_may_set_or_forget_managers() {
    let ty = kind("", "ConfigMap");
    let live = made();
    for reset in [json!([]), json!([{}])] {
        let mut new = live.clone();
        new.set(&["metadata", "managedFields"], reset);
        track(&write(ty, "other", T2), &live, &mut new);
        assert_eq!(fields(&new), json!({}));
        // Nobody tracks it again until somebody applies.
        let mut later = new.clone();
        later.set(&["data", "z"], "1");
        track(&write(ty, "other", T2), &new, &mut later);
        assert_eq!(fields(&later), json!({}));
    }
    let mut new = live.clone();
    let bad = json!([{"manager": "m", "operation": "Update", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"data": {}}}]);
    new.set(&["metadata", "managedFields"], bad);
    track(&write(ty, "other", T2), &live, &mut new);
    assert_eq!(new, live);
    let mut new = live.clone();
    let gone = json!([{"manager": "m", "operation": "Update", "apiVersion": "v9",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}]);
    new.set(&["metadata", "managedFields"], gone);
    track(&write(ty, "other", T2), &live, &mut new);
    assert_eq!(fields(&new), json!({}));
}

#[test]
fn a_subresource_does_not_read_managers_from_the_request() {
    let live = made();
    let mut new = live.clone();
    new.set(&["metadata", "managedFields"], json!([]));
    let mut through = write(kind("", "ConfigMap"), "other", T2);
    through.subresource = "status";
    track(&through, &live, &mut new);
    assert_eq!(new, live);
}

#[test]
fn fields_that_are_reset_belong_to_nobody() {
    let mut pod = object(json!({
        "metadata": {"name": "a"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"},
    }));
    let mut of_spec = write(kind("", "Pod"), "maker", T1);
    of_spec.filter = Filter::Except(&[&["status"]]);
    track(&of_spec, &nothing(), &mut pod);
    assert_eq!(fields(&pod), json!({"maker": {"f:spec": {"f:nodeName": {}}}}));
}

#[test]
fn the_oldest_updaters_become_one() {
    let ty = kind("", "ConfigMap");
    let mut live = made();
    for index in 0..12 {
        let mut new = live.clone();
        new.set(&["data", &format!("k{index}")], "v");
        let (name, now) = (format!("m{index:02}"), format!("2026-01-02T00:00:{index:02}Z"));
        track(&write(ty, &name, &now), &live, &mut new);
        live = new;
    }
    let fields = fields(&live);
    let names: Vec<&String> = fields.as_object().expect("an object").keys().collect();
    assert_eq!(names.len(), UPDATERS_MAX);
    assert_eq!(names[0], BUCKET);
    let want = json!({"f:data": {
        ".": {}, "f:a": {}, "f:b": {}, "f:k0": {}, "f:k1": {}, "f:k2": {},
    }});
    assert_eq!(fields[BUCKET], want);
    assert_eq!(times(&live)[0], "2026-01-02T00:00:02Z");
}

#[test]
fn duplicate_items_count_as_one_value() {
    let ty = kind("", "Pod");
    let env = |list: Value| {
        object(
            json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "env": list}]}}),
        )
    };
    let one = json!({"name": "A", "value": "1"});
    let two = json!({"name": "A", "value": "2"});
    let mut live = env(json!([one]));
    track(&write(ty, "maker", T1), &nothing(), &mut live);
    live.set(&["metadata", "uid"], "u");
    let mut new = live.clone();
    new.set(&["spec", "containers"], json!([{"name": "c", "env": [one, two]}]));
    track(&write(ty, "other", T2), &live, &mut new);
    let fields = fields(&new);
    let env = |manager: &str| {
        fields[manager]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:env"].clone()
    };
    assert_eq!(env("maker"), json!({}));
    assert_eq!(env("other"), json!({"k:{\"name\":\"A\"}": {}}));
}

#[test]
fn what_go_always_writes_is_no_change() {
    let ty = kind("", "PersistentVolumeClaim");
    let claim = |source: Value| {
        object(json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"dataSource": source}}))
    };
    let mut live = claim(json!({"apiGroup": null, "kind": "P", "name": "x"}));
    live.remove(&["metadata", "uid"]);
    track(&write(ty, "maker", T1), &Object::default(), &mut live);
    live.set(&["metadata", "uid"], "u");
    let mut new = claim(json!({"kind": "P", "name": "x"}));
    track(&write(ty, "other", T2), &live, &mut new);
    assert_eq!(fields(&new), json!({"maker": {"f:spec": {"f:dataSource": {}}}}));
}
