//! A stock kubectl against the control plane: every verb that needs no node.

use std::path::Path;

use crate::server::Server;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello.yaml");

fn start() -> (tempfile::TempDir, Server) {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    (data, server)
}

#[test]
fn a_deployment_is_managed() {
    let (_data, server) = start();
    assert!(server.kubectl(&["apply", "-f", SAMPLE]).contains("deployment.apps/hello created"));
    assert!(server.kubectl(&["apply", "-f", SAMPLE]).contains("deployment.apps/hello unchanged"));
    server.eventually(&["get", "deployment", "hello", "-o", "jsonpath={.status.replicas}"], "3");
    assert!(
        server
            .kubectl(&["get", "all", "-A", "-o", "wide"])
            .contains("localhost/longshore/hello:dev")
    );
    assert!(
        server.kubectl(&["describe", "deployment", "hello"]).contains("RollingUpdateStrategy:")
    );
    assert!(server.kubectl(&["describe", "service", "hello"]).contains("NodePort:"));

    server.kubectl(&["scale", "deployment", "hello", "--replicas=5"]);
    server.eventually(&["get", "deployment", "hello", "-o", "jsonpath={.status.replicas}"], "5");
    server.kubectl(&["label", "deployment", "hello", "tier=web"]);
    assert!(
        server.kubectl(&["get", "deployments", "-l", "tier=web", "-o", "name"]).contains("hello")
    );
    server.kubectl(&["annotate", "deployment", "hello", "note=x"]);

    server.kubectl(&["set", "env", "deployment/hello", "GREETING=hi"]);
    let sets = ["get", "replicasets", "-l", "app=hello", "-o", "jsonpath={.items[*].kind}"];
    server.eventually(&sets, "ReplicaSet ReplicaSet");
    let history = server.kubectl(&["rollout", "history", "deployment/hello"]);
    assert_eq!(
        history.lines().filter(|line| line.starts_with(char::is_numeric)).count(),
        2,
        "{history}"
    );
    server.kubectl(&["rollout", "undo", "deployment/hello"]);
    let environment = "jsonpath={.spec.template.spec.containers[0].env[*].name}";
    assert!(
        !server.kubectl(&["get", "deployment", "hello", "-o", environment]).contains("GREETING")
    );
    server.kubectl(&["rollout", "restart", "deployment/hello"]);
    server.kubectl(&["rollout", "pause", "deployment/hello"]);
    server.kubectl(&["rollout", "resume", "deployment/hello"]);

    server.kubectl(&["delete", "-f", SAMPLE]);
    server.eventually(&["get", "replicasets,pods", "-o", "name"], "");
}

#[test]
fn objects_are_edited_compared_and_awaited() {
    let (data, server) = start();
    server.kubectl(&["create", "configmap", "text", "--from-literal=word=one"]);
    let edited = server
        .command(&["edit", "configmap", "text"])
        .env("EDITOR", "sed -i s/one/two/")
        .output()
        .unwrap();
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    assert_eq!(server.kubectl(&["get", "configmap", "text", "-o", "jsonpath={.data.word}"]), "two");

    let file = data.path().join("text.yaml");
    write(&file, "three");
    let difference = server.try_kubectl(&["diff", "-f", file.to_str().unwrap()]);
    assert_eq!(
        difference.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&difference.stderr)
    );
    assert!(String::from_utf8(difference.stdout).unwrap().contains("+  word: three"));

    server.kubectl(&["patch", "configmap", "text", "-p", r#"{"data":{"more":"x"}}"#]);
    server.kubectl(&["wait", "--for=jsonpath={.data.more}=x", "configmap/text", "--timeout=300s"]);
    server.kubectl(&["delete", "configmap", "text"]);
    let gone = server.try_kubectl(&["get", "configmap", "text"]);
    assert!(String::from_utf8(gone.stderr).unwrap().contains("configmaps \"text\" not found"));
}

fn write(path: &Path, word: &str) {
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: text}}\ndata: {{word: {word}}}\n"
    );
    std::fs::write(path, text).unwrap();
}

#[test]
fn the_api_is_explained() {
    let (_data, server) = start();
    assert!(
        server.kubectl(&["explain", "pod.spec.containers"]).contains("containers <[]Container>")
    );
    assert!(server.kubectl(&["explain", "deployment.spec"]).contains("replicas"));
    let resources = server.kubectl(&["api-resources", "--no-headers"]);
    assert!(resources.lines().count() > 50, "{resources}");
    assert!(server.kubectl(&["api-versions"]).contains("apps/v1"));
    assert!(server.kubectl(&["version"]).contains("v1.36"));
    assert_eq!(server.kubectl(&["auth", "can-i", "create", "pods"]), "yes");
    let user = server.try_kubectl(&["auth", "can-i", "create", "pods", "--as", "nobody"]);
    assert_eq!(String::from_utf8(user.stdout).unwrap().trim(), "no");
    let whoami = server.kubectl(&["auth", "whoami"]);
    assert!(whoami.split_whitespace().any(|word| word == "admin"), "{whoami}");
}

#[test]
fn single_objects_are_made_by_commands() {
    let (_data, server) = start();
    server.kubectl(&["create", "namespace", "team"]);
    server.kubectl(&[
        "create",
        "deployment",
        "web",
        "-n",
        "team",
        "--image=example/web:1",
        "--replicas=2",
    ]);
    server.kubectl(&["expose", "deployment", "web", "-n", "team", "--port=80"]);
    // No pod can be made without it.
    let account = ["wait", "serviceaccount/default", "-n", "team", "--for=create"];
    server.kubectl(&[&account[..], &["--timeout=300s"]].concat());
    server.kubectl(&["run", "one", "-n", "team", "--image=example/one:1"]);
    server.kubectl(&["create", "secret", "generic", "key", "-n", "team", "--from-literal=a=b"]);
    server.kubectl(&["create", "role", "reader", "-n", "team", "--verb=get", "--resource=pods"]);
    server.kubectl(&[
        "create",
        "rolebinding",
        "reader",
        "-n",
        "team",
        "--role=reader",
        "--user=eve",
    ]);
    assert_eq!(
        server.kubectl(&["auth", "can-i", "get", "pods", "-n", "team", "--as", "eve"]),
        "yes"
    );
    server.eventually(
        &["get", "pods", "-n", "team", "-l", "app=web", "-o", "jsonpath={.items[*].kind}"],
        "Pod Pod",
    );
    let reasons = "jsonpath={.items[*].reason}";
    let made = ["get", "events", "-n", "team", "--field-selector", "reason=SuccessfulCreate"];
    server.eventually(&[&made[..], &["-o", reasons]].concat(), "SuccessfulCreate SuccessfulCreate");
    assert!(server.kubectl(&["events", "-n", "team"]).contains("SuccessfulCreate"));
    server.kubectl(&["delete", "namespace", "team", "--timeout=300s"]);
    let left = server.try_kubectl(&["get", "namespace", "team"]);
    assert!(String::from_utf8(left.stderr).unwrap().contains("not found"));
}

#[test]
fn bad_input_is_refused_with_the_field() {
    let (data, server) = start();
    let file = data.path().join("bad.yaml");
    let refused = |text: &str, says: &str| {
        std::fs::write(&file, text).unwrap();
        let output = server.try_kubectl(&["create", "-f", file.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(says), "{error}");
    };
    refused(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n",
        "metadata.name: Invalid value: \"Bad_Name\"",
    );
    refused(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nsata: {}\n",
        "unknown field \"sata\"",
    );
    refused(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 99999}]}\n",
        "spec.ports[0].port",
    );
}
