use serde_json::json;

use super::*;
use crate::managed::{Filter, OneVersion};

const NOW: &str = "2026-01-01T00:00:01Z";

fn write(kind: &str, manager: &'static str) -> Write<'static> {
    let ty = crate::schema::kind("", "v1", kind).expect("a built-in kind");
    let (api_version, subresource, now) = ("v1", "", NOW);
    let (ty, filter) = (ty.into(), Filter::All);
    Write { ty, api_version, subresource, manager, now, filter, versions: &OneVersion }
}

/// The state of one object that managers write to.
#[derive(Default)]
struct Live(Object);

impl Live {
    fn try_apply(
        &mut self,
        manager: &'static str,
        config: Value,
        force: bool,
    ) -> Result<&mut Self, StatusError> {
        let mut whole = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        for (key, value) in config.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        self.0 = apply(&write("ConfigMap", manager), "ConfigMap", &self.0, &whole, force)?;
        self.0.set(&["metadata", "uid"], "u");
        Ok(self)
    }

    fn apply(&mut self, manager: &'static str, config: Value) -> &mut Self {
        self.try_apply(manager, config, false).expect("no conflict")
    }

    fn refused(&mut self, manager: &'static str, config: Value) -> StatusError {
        let outcome = self.try_apply(manager, config, false).map(drop);
        outcome.expect_err("a refusal")
    }

    fn update(&mut self, manager: &'static str, change: impl Fn(&mut Object)) -> &mut Self {
        let mut new = self.0.clone();
        change(&mut new);
        crate::managed::track(&write("ConfigMap", manager), &self.0, &mut new);
        new.set(&["metadata", "uid"], "u");
        self.0 = new;
        self
    }

    fn data(&self) -> Value {
        self.0.get(&["data"]).cloned().unwrap_or_default()
    }

    /// The field sets by manager and operation.
    fn fields(&self) -> Value {
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or("").to_owned();
        let entries = self.0.list(&["metadata", "managedFields"]).iter();
        let name = |e: &Value| format!("{} {}", text(e, "operation"), text(e, "manager"));
        Value::Object(entries.map(|e| (name(e), e["fieldsV1"].clone())).collect())
    }
}

#[test]
fn an_applier_owns_what_it_names_and_drops_what_it_names_no_more() {
    let mut live = Live::default();
    live.apply("a", json!({"data": {"x": "1", "y": "2"}}));
    assert_eq!(live.fields(), json!({"Apply a": {"f:data": {"f:x": {}, "f:y": {}}}}));
    live.apply("a", json!({"data": {"y": "2"}}));
    assert_eq!(live.data(), json!({"y": "2"}));
    live.apply("a", json!({}));
    assert_eq!((live.data(), live.fields()), (Value::Null, json!({})));
}

#[test]
fn fields_of_others_stay_when_an_applier_drops_them() {
    let mut live = Live::default();
    live.apply("a", json!({"data": {"x": "1", "y": "2"}})).apply("b", json!({"data": {"x": "1"}}));
    live.apply("a", json!({"data": {"y": "2"}}));
    assert_eq!(live.data(), json!({"x": "1", "y": "2"}));
    let want = json!({"Apply a": {"f:data": {"f:y": {}}}, "Apply b": {"f:data": {"f:x": {}}}});
    assert_eq!(live.fields(), want);
}

#[test]
fn others_fields_conflict_unless_forced() {
    let mut live = Live::default();
    live.apply("a", json!({"data": {"x": "1", "y": "2"}}));
    let error = live.refused("b", json!({"data": {"x": "9"}}));
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"a\": .data.x");
    assert_eq!((error.code, error.causes[0].field.as_str()), (409, ".data.x"));
    let error = live.refused("b", json!({"data": {"x": "9", "y": "9"}}));
    let want = "Apply failed with 2 conflicts: conflicts with \"a\":\n- .data.x\n- .data.y";
    assert_eq!(error.message, want);
    live.try_apply("b", json!({"data": {"x": "9"}}), true).expect("forced");
    assert_eq!(live.data(), json!({"x": "9", "y": "2"}));
    let want = json!({"Apply a": {"f:data": {"f:y": {}}}, "Apply b": {"f:data": {"f:x": {}}}});
    assert_eq!(live.fields(), want);
}

#[test]
fn updates_take_fields_and_conflict_with_appliers() {
    let mut live = Live::default();
    live.apply("a", json!({"data": {"x": "1"}})).update("u", |o| o.set(&["data", "x"], "2"));
    let want = json!({"Update u": {"f:data": {"f:x": {}}}});
    assert_eq!(live.fields(), want);
    let error = live.refused("a", json!({"data": {"x": "1"}}));
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"u\" using v1: .data.x"
    );
    // The same value is shared.
    live.apply("a", json!({"data": {"x": "2"}}));
    let want = json!({
        "Apply a": {"f:data": {"f:x": {}}}, "Update u": {"f:data": {"f:x": {}}},
    });
    assert_eq!(live.fields(), want);
}

#[test]
fn an_apply_that_changes_nothing_keeps_times() {
    let mut live = Live::default();
    live.apply("a", json!({"data": {"x": "1"}}));
    let before = live.0.clone();
    live.apply("a", json!({"data": {"x": "1"}}));
    assert_eq!(live.0, before);
    live.apply("b", json!({"data": {"x": "1"}}));
    let entries = live.0.list(&["metadata", "managedFields"]);
    let times: Vec<&Value> = entries.iter().map(|entry| &entry["time"]).collect();
    assert_eq!(times, [&Value::Null, &json!(NOW)]);
}

#[test]
fn fields_that_nobody_was_recorded_for_belong_to_the_time_before() {
    let mut live = Live::default();
    live.0.set(&["data", "x"], "1");
    live.0.set(&["metadata", "uid"], "u");
    live.apply("a", json!({"data": {"y": "2"}}));
    let want = json!({
        "Apply a": {"f:data": {"f:y": {}}},
        "Update before-first-apply": {"f:data": {".": {}, "f:x": {}}},
    });
    assert_eq!(live.fields(), want);
}

#[test]
fn bad_configurations_are_refused() {
    let mut live = Live::default();
    for (config, code, message) in [
        (json!({"kind": "Secret"}), 400, "invalid object type: /v1, Kind=Secret"),
        (json!({"kind": 5}), 400, "invalid object type: /v1, Kind="),
        (json!({"apiVersion": "a/b/c"}), 400, "invalid object type: /, Kind="),
        (
            json!({"metadata": {"name": "a", "managedFields": []}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            json!({"data": {"a": 1}}),
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .data.a: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            json!({"binaryData": {"a": "%"}}),
            500,
            "failed to convert new object (/a; /v1, Kind=ConfigMap) to proper version: unable to convert unstructured object to /v1, Kind=ConfigMap: error decoding from json: illegal base64 data at input byte 0",
        ),
    ] {
        let error = live.refused("a", config);
        assert_eq!((error.code, error.message.as_str()), (code, message));
    }
}

#[test]
fn client_side_apply_goes_over_to_server_side_apply() {
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let applied = |data: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "annotations": {}}, "data": data}).to_string()
    };
    let mut live = Live::default();
    live.update("kubectl-client-side-apply", |object| {
        object.set(&["metadata", "annotations", annotation], applied(json!({"x": "1", "y": "2"})));
        object.set(&["data", "x"], "1");
        object.set(&["data", "y"], "2");
        object.set(&["data", "z"], "3");
    });
    // What the annotation does not name stays the other manager's.
    let error = live.refused("kubectl", json!({"data": {"x": "9", "z": "9"}}));
    let want = "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.z";
    assert_eq!(error.message, want);
    // No other name than kubectl's gets this.
    assert_eq!(live.refused("other", json!({"data": {"x": "9"}})).code, 409);
    live.apply("kubectl", json!({"data": {"x": "9"}}));
    assert_eq!(live.data(), json!({"x": "9", "y": "2", "z": "3"}));
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "9"}});
    assert_eq!(live.0.annotation(annotation), Some(format!("{config}\n").as_str()));
}
