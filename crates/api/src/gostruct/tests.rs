use serde_json::json;

use super::*;
use crate::field::{Error, Path};
use crate::patch::touched;

#[test]
fn structs_print_in_the_order_and_under_the_names_of_go() {
    let check = |ty: &str, value: Value, want: &str| assert_eq!(print(ty, &value), want, "{ty}");
    check(
        "core/v1.ServicePort",
        json!({"port": 80, "protocol": "TCP"}),
        r#"{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
    );
    check(
        "rbac/v1.RoleRef",
        json!({"apiGroup": "g", "name": "<n>"}),
        r#"{"APIGroup":"g","Kind":"","Name":"\u003cn\u003e"}"#,
    );
    check(
        "meta/v1.LabelSelector",
        json!({"matchExpressions": [{"key": "a", "operator": "Exists"}], "matchLabels": {"b": "c"}}),
        r#"{"matchLabels":{"b":"c"},"matchExpressions":[{"key":"a","operator":"Exists"}]}"#,
    );
    check(
        "storage/v1.VolumeAttachmentSpec",
        json!({"attacher": "d", "nodeName": "m", "source": {"persistentVolumeName": "v"}}),
        r#"{"Attacher":"d","Source":{"PersistentVolumeName":"v","InlineVolumeSpec":null},"NodeName":"m"}"#,
    );
    // metadata is embedded, and a pod keeps its host flags in the security context
    let template = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"hostNetwork": true, "securityContext": {}, "containers": null}});
    let printed = print("core/v1.PodTemplateSpec", &template);
    assert!(printed.starts_with(r#"{"labels":{"a":"b"},"Spec":{"Volumes":null,"#), "{printed}");
    let context = r#""SecurityContext":{"HostNetwork":true,"HostPID":false,"HostIPC":false,"ShareProcessNamespace":null,"HostUsers":null,"SELinuxOptions":null"#;
    assert!(printed.contains(context), "{printed}");
}

#[test]
fn the_names_are_sorted_and_the_orders_name_fields_of_the_schema() {
    for ty in schema::types() {
        let Some(order) = internal::order(ty.name) else { continue };
        let mut known: Vec<String> =
            ty.fields.iter().map(|f| internal::go_name(ty.name, f.json_name)).collect();
        for name in order.split(' ').filter(|name| !name.contains('=')) {
            let at = known.iter().position(|k| k == name);
            known.remove(at.unwrap_or_else(|| panic!("{}: {name}", ty.name)));
        }
        println!("{}: only published: {known:?}", ty.name);
    }
    assert_eq!(internal::go_name("core/v1.FCVolumeSource", "wwids"), "WWIDs");
    assert_eq!(internal::go_name("core/v1.Node", "apiGroup"), "APIGroup");
    assert_eq!(internal::go_name("core/v1.RBDVolumeSource", "pool"), "RBDPool");
    assert_eq!(internal::go_name("resource/v1.DeviceAttribute", "strings"), "StringValues");
}

#[test]
fn errors_print_trees_by_the_type_of_their_field() {
    let spec = Path::new("spec");
    let port = json!({"port": 1});
    let mut errors = vec![
        Error::duplicate(&spec.child("ports").index(1), port),
        Error::invalid(&spec.child("selector").key("a"), "x", "why"),
        Error::invalid(&spec.child("sessionAffinityConfig"), Value::Null, "why"),
        Error::invalid(&spec.child("unheard"), json!({"b": 1}), "why"),
        Error::invalid(&spec.child("clusterIP"), Value::Null, "why"),
        Error::invalid(&spec.child("type"), json!({"port": 1}), "why")
            .as_struct("core/v1.ClientIPConfig"),
    ];
    render("", "v1", "Service", &mut errors);
    let bodies: Vec<&str> = errors.iter().map(|e| e.body.as_str()).collect();
    let want = [
        r#"Duplicate value: {"Name":"","Protocol":"","AppProtocol":null,"Port":1,"TargetPort":0,"NodePort":0}"#,
        r#"Invalid value: "x": why"#,
        "Invalid value: null: why",
        r#"Invalid value: {"b":1}: why"#,
        r#"Invalid value: "": why"#,
        r#"Invalid value: {"TimeoutSeconds":null}: why"#,
    ];
    assert_eq!(bodies, want);
}

#[test]
fn patched_documents_keep_the_order_of_what_was_not_touched() {
    let old = json!({
        "metadata": {"name": "a", "managedFields": [{"manager": "m", "apiVersion": "v1"}]},
        "spec": {"type": "ClusterIP", "ports": [{"port": 1, "name": "p"}, {"port": 2, "name": "q"}]},
    });
    let mut new = old.clone();
    new["spec"]["ports"][1]["port"] = json!("x");
    let service = Gvk::new("", "v1", "Service");
    let managed = r#""managedFields":[{"manager":"m","apiVersion":"v1"}]"#;
    let spec =
        r#""spec":{"ports":[{"name":"p","port":1},{"name":"q","port":"x"}],"type":"ClusterIP"}"#;
    let change = json!({"op": "replace", "path": "/spec/ports/1/port", "value": "x"});
    let alone = touched::by_json_patch(&json!([change]));
    let want = format!(r#"{{"metadata":{{"name":"a",{managed}}},{spec}}}"#);
    assert_eq!(patched(&service, &old, &new, &alone), want);
    // What is only looked into is taken apart, too.
    let test = json!({"op": "test", "path": "/metadata/name", "value": "a"});
    let want = format!(r#"{{"metadata":{{{managed},"name":"a"}},{spec}}}"#);
    assert_eq!(
        patched(&service, &old, &new, &touched::by_json_patch(&json!([test, change]))),
        want
    );
    let merged =
        touched::by_merge_patch(&json!({"metadata": {"name": "a"}, "spec": {"ports": []}}));
    assert_eq!(patched(&service, &old, &new, &merged), want);
    let metric = json!([{"resource": {"name": "cpu"}, "type": "Resource"}]);
    let want = r#"[{"type":"Resource","resource":{"name":"cpu"}}]"#;
    assert_eq!(published("autoscaling/v1.MetricSpec", &metric), want);
}

#[test]
fn differences_are_unified_diffs() {
    let old = json!({"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always"});
    let mut new = old.clone();
    new["containers"][0]["command"] = json!(["x"]);
    new["nodeName"] = json!("n");
    let want = r#"@@ -5,7 +5,9 @@
   {
    "Name": "c",
    "Image": "i",
-   "Command": null,
+   "Command": [
+    "x"
+   ],
    "Args": null,
    "WorkingDir": "",
    "Ports": null,
@@ -42,7 +44,7 @@
  "NodeSelector": null,
  "ServiceAccountName": "",
  "AutomountServiceAccountToken": null,
- "NodeName": "",
+ "NodeName": "n",
  "SecurityContext": null,
  "ImagePullSecrets": null,
  "Hostname": "",
"#;
    assert_eq!(difference("core/v1.PodSpec", &old, &new), want);
    assert_eq!(difference("core/v1.PodSpec", &old, &old), "");
}
