//! A stock kubectl: output forms, apply on the server, and verbs that need no node.

use std::process::{Command, Output};

use longshore_test_api::server::Server;
use serde_json::Value;

/// A server and where files of a test lie.
struct Cluster {
    server: Server,
    files: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        Self { server: crate::start().await, files: tempfile::tempdir().unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", self.server.kubeconfig()).args(arguments);
        command.env("KUBECACHEDIR", self.files.path().join("cache"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("kubectl runs: ./x test installs it")
    }

    /// It must succeed; what it prints.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {error}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// It must fail and say this.
    #[track_caller]
    fn fails(&self, arguments: &[&str], says: &str) {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "kubectl {} succeeds", arguments.join(" "));
        assert!(error.contains(says), "kubectl {}: {error}", arguments.join(" "));
    }

    /// A file with a text; its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_has_every_form() {
    let cluster = Cluster::start().await;
    for (name, value) in [("b", "2"), ("a", "3"), ("c", "1")] {
        cluster.ok(&["create", "configmap", name, &format!("--from-literal=word={value}")]);
        cluster.ok(&["label", "configmap", name, "own=x", &format!("word=v{value}")]);
    }
    let get = |more: &[&str]| cluster.ok(&[&["get", "configmaps", "-l", "own=x"], more].concat());
    let yaml = get(&["-o", "yaml"]);
    assert!(yaml.contains("kind: List") && yaml.contains("word: \"3\""), "{yaml}");
    let json: Value = serde_json::from_str(&get(&["-o", "json"])).unwrap();
    assert_eq!(json["items"].as_array().unwrap().len(), 3);
    assert_eq!(get(&["-o", "name"]), "configmap/a\nconfigmap/b\nconfigmap/c");
    assert_eq!(get(&["-o", "jsonpath={range .items[*]}{.data.word}{end}"]), "321");
    assert_eq!(get(&["-o", "go-template={{range .items}}{{.metadata.name}}{{end}}"]), "abc");
    let columns = get(&["-o", "custom-columns=A:.metadata.name,B:.data.word", "--no-headers"]);
    assert_eq!(columns.split_whitespace().collect::<Vec<_>>(), ["a", "3", "b", "2", "c", "1"]);
    let sorted = get(&["--sort-by=.data.word", "-o", "name"]);
    assert_eq!(sorted, "configmap/c\nconfigmap/b\nconfigmap/a");
    assert!(get(&["--show-labels"]).contains("own=x,word=v3"));
    assert!(get(&["-L", "word"]).lines().next().unwrap().ends_with("WORD"));
    assert_eq!(get(&["--chunk-size=1", "-o", "name"]).lines().count(), 3);
    let wide = get(&["-o", "wide"]);
    assert!(wide.starts_with("NAME") && wide.contains("DATA") && wide.contains("AGE"), "{wide}");
    let field = ["get", "configmaps", "-A", "--field-selector=metadata.name=b", "-o", "name"];
    assert_eq!(cluster.ok(&field), "configmap/b");
    assert!(cluster.ok(&["describe", "configmap", "a"]).contains("Data\n===="));
    cluster.fails(&["get", "nothings"], "the server doesn't have a resource type");
    cluster.fails(&["get", "configmap", "none"], "(NotFound)");
    let pods = cluster.ok(&["explain", "pods.spec", "--recursive"]);
    assert!(pods.contains("containers") && pods.contains("hostPort"), "{pods}");
    assert!(cluster.ok(&["explain", "cronjob.spec.schedule"]).contains("FIELD: schedule <string>"));
    let namespaced = cluster.ok(&["api-resources", "--namespaced=false", "-o", "name"]);
    assert!(namespaced.contains("nodes") && !namespaced.contains("pods\n"), "{namespaced}");
    assert!(
        cluster
            .ok(&["api-resources", "--categories=all", "-o", "name"])
            .contains("deployments.apps")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_on_the_server() {
    let cluster = Cluster::start().await;
    let text = |word: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{word: {word}}}\n")
    };
    let (one, two) =
        (cluster.file("one.yaml", &text("one")), cluster.file("two.yaml", &text("two")));
    let applied = cluster.ok(&["apply", "--server-side", "-f", &one]);
    assert!(applied.contains("configmap/a serverside-applied"), "{applied}");
    let managers = "jsonpath={.metadata.managedFields[*].manager}";
    assert_eq!(
        cluster.ok(&["get", "configmap", "a", "-o", managers, "--show-managed-fields"]),
        "kubectl"
    );
    let other = ["apply", "--server-side", "--field-manager=other", "-f", &two];
    cluster.fails(&other, "conflict with \"kubectl\": .data.word");
    let difference = cluster.run(&["diff", "--server-side", "-f", &two]);
    let shown = String::from_utf8_lossy(&difference.stdout);
    assert!(difference.status.code() == Some(1) && shown.contains("+  word: two"), "{shown}");
    cluster.ok(&[&other[..], &["--force-conflicts"]].concat());
    assert_eq!(cluster.ok(&["get", "configmap", "a", "-o", "jsonpath={.data.word}"]), "two");
    cluster.ok(&["apply", "--dry-run=server", "-f", &one]);
    assert_eq!(cluster.ok(&["get", "configmap", "a", "-o", "jsonpath={.data.word}"]), "two");
    // Client-side apply takes over, and back.
    cluster.ok(&["apply", "-f", &one]);
    assert!(cluster.ok(&["apply", "view-last-applied", "configmap/a"]).contains("word: one"));
    cluster.ok(&["apply", "--server-side", "--force-conflicts", "-f", &two]);
    assert_eq!(cluster.ok(&["get", "configmap", "a", "-o", "jsonpath={.data.word}"]), "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_of_objects_is_pruned() {
    let cluster = Cluster::start().await;
    let map = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: x}}}}\n---\n"
        )
    };
    let both = cluster.file("both.yaml", &(map("a") + &map("b")));
    let only = cluster.file("only.yaml", &map("a"));
    let prune = |file: &str| {
        let arguments = ["apply", "-f", file, "--prune", "--applyset=parent", "-n", "default"];
        cluster.command(&arguments).env("KUBECTL_APPLYSET", "true").output().unwrap()
    };
    for (file, left) in [(&both, "configmap/a configmap/b"), (&only, "configmap/a")] {
        let output = prune(file);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let names = cluster.ok(&["get", "configmaps", "-l", "set=x", "-o", "name"]);
        assert_eq!(names.split_whitespace().collect::<Vec<_>>().join(" "), left);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_changed_in_every_way() {
    let cluster = Cluster::start().await;
    cluster.ok(&[
        "create",
        "deployment",
        "web",
        "--image=example/web:1",
        "--replicas=2",
        "--port=80",
    ]);
    let get = |path: &str| {
        cluster.ok(&["get", "deployment", "web", "-o", &format!("jsonpath={{{path}}}")])
    };
    cluster.ok(&["set", "image", "deployment/web", "web=example/web:2"]);
    assert_eq!(get(".spec.template.spec.containers[0].image"), "example/web:2");
    cluster.ok(&["set", "resources", "deployment/web", "--limits=cpu=200m,memory=64Mi"]);
    assert_eq!(get(".spec.template.spec.containers[0].resources.limits.cpu"), "200m");
    cluster.ok(&["set", "env", "deployment/web", "A=b", "C=d"]);
    cluster.ok(&["set", "env", "deployment/web", "A-"]);
    assert_eq!(get(".spec.template.spec.containers[0].env[*].name"), "C");
    cluster.ok(&["annotate", "deployment/web", "kubernetes.io/change-cause=tested"]);
    let condition =
        format!("--for=jsonpath={{.status.observedGeneration}}={}", get(".metadata.generation"));
    cluster.ok(&["wait", "deployment/web", &condition, "--timeout=120s"]);
    let history = cluster.ok(&["rollout", "history", "deployment/web"]);
    assert!(history.contains("tested"), "{history}");
    assert!(
        cluster
            .ok(&["rollout", "history", "deployment/web", "--revision=1"])
            .contains("example/web:1")
    );
    cluster.ok(&["rollout", "undo", "deployment/web", "--to-revision=1"]);
    assert_eq!(get(".spec.template.spec.containers[0].image"), "example/web:1");
    cluster.ok(&["autoscale", "deployment", "web", "--min=1", "--max=3"]);
    cluster.ok(&["expose", "deployment", "web", "--type=NodePort", "--name=front"]);
    assert_eq!(
        cluster.ok(&["get", "service", "front", "-o", "jsonpath={.spec.ports[0].port}"]),
        "80"
    );
    cluster.ok(&["label", "deployment", "web", "tier=a"]);
    cluster.fails(&["label", "deployment", "web", "tier=b"], "--overwrite is false");
    cluster.ok(&["label", "--overwrite", "deployment", "web", "tier=b"]);
    cluster.ok(&["label", "deployment", "web", "tier-"]);
    assert_eq!(get(".metadata.labels.tier"), "");
    cluster.ok(&["scale", "deployment", "web", "--current-replicas=2", "--replicas=0"]);
    cluster.fails(
        &["scale", "deployment", "web", "--current-replicas=9", "--replicas=1"],
        "Expected replicas to be 9",
    );
    let patch = r#"[{"op":"remove","path":"/spec/nothing"}]"#;
    cluster.fails(
        &["patch", "deployment", "web", "--type=json", "-p", patch],
        "the server rejected our request",
    );
    cluster.ok(&[
        "patch",
        "deployment",
        "web",
        "--type=merge",
        "-p",
        r#"{"spec":{"paused":true}}"#,
    ]);
    cluster.ok(&[
        "patch",
        "deployment",
        "web",
        "--subresource=scale",
        "--type=merge",
        "-p",
        r#"{"spec":{"replicas":1}}"#,
    ]);
    assert_eq!(get(".spec.replicas"), "1");
    let file = cluster.file(
        "web.yaml",
        &cluster.ok(&["get", "deployment", "web", "-o", "yaml"]).replace("web:1", "web:9"),
    );
    let replaced = cluster.run(&["replace", "-f", &file]);
    // A controller may have been quicker; then the version in the file is old.
    let error = String::from_utf8_lossy(&replaced.stderr);
    assert!(replaced.status.success() || error.contains("the object has been modified"), "{error}");
    let delete = ["delete", "deployment", "web", "--cascade=foreground", "--timeout=120s"];
    cluster.ok(&delete);
    assert_eq!(cluster.ok(&["get", "pods", "-l", "app=web", "-o", "name"]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_accounts_and_requests() {
    let cluster = Cluster::start().await;
    let node = cluster.file("node.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: one}\n");
    cluster.ok(&["create", "-f", &node]);
    cluster.ok(&["cordon", "one"]);
    cluster.ok(&["taint", "node", "one", "a=b:NoSchedule"]);
    assert!(cluster.ok(&["describe", "node", "one"]).contains("a=b:NoSchedule"));
    cluster.ok(&["taint", "node", "one", "a-"]);
    cluster.ok(&["uncordon", "one"]);
    assert!(cluster.ok(&["get", "nodes"]).contains("one"));

    cluster.ok(&["create", "serviceaccount", "robot"]);
    let token = cluster.ok(&["create", "token", "robot", "--duration=20m"]);
    assert_eq!(token.split('.').count(), 3);
    cluster.ok(&["create", "clusterrole", "peek", "--verb=get,list", "--resource=pods"]);
    cluster.ok(&[
        "create",
        "rolebinding",
        "peek",
        "--clusterrole=peek",
        "--serviceaccount=default:robot",
    ]);
    let account = "system:serviceaccount:default:robot";
    assert_eq!(cluster.ok(&["auth", "can-i", "list", "pods", "--as", account]), "yes");
    let rights = cluster.ok(&["auth", "can-i", "--list", "--as", account]);
    assert!(
        rights.lines().any(|line| line.starts_with("pods ") && line.contains("[get list]")),
        "{rights}"
    );
    cluster.fails(&["get", "secrets", "--as", account], "(Forbidden)");
    let rules = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: peek}\nrules:\n- {apiGroups: [\"\"], resources: [pods], verbs: [watch]}\n";
    let file = cluster.file("role.yaml", rules);
    assert!(cluster.ok(&["auth", "reconcile", "-f", &file]).contains("reconciled"));
    let verbs = "jsonpath={.rules[*].verbs[*]}";
    assert!(cluster.ok(&["get", "clusterrole", "peek", "-o", verbs]).contains("watch"));

    cluster.ok(&["create", "quota", "q", "--hard=pods=5"]);
    cluster.ok(&["create", "priorityclass", "high", "--value=7"]);
    cluster.ok(&["create", "poddisruptionbudget", "p", "--selector=app=x", "--min-available=1"]);
    cluster.ok(&["create", "ingress", "i", "--rule=a.example.com/=x:80"]);
    cluster.ok(&["create", "cronjob", "c", "--image=example/x:1", "--schedule=0 0 1 1 *"]);
    cluster.ok(&["create", "job", "j", "--from=cronjob/c"]);
    assert!(cluster.ok(&["get", "quota,pc,pdb,ing,cj,job"]).contains("job.batch/j"));
    let events = ["get", "events", "--field-selector=involvedObject.kind=Job", "-o", "name"];
    cluster.ok(&["wait", "--for=create", "pod", "-l", "job-name=j", "--timeout=120s"]);
    assert!(!cluster.ok(&events).is_empty());
    assert!(cluster.ok(&["events", "--for", "job/j"]).contains("SuccessfulCreate"));
    cluster.ok(&["cluster-info"]);
    // The system's own classes stay.
    cluster.fails(&["delete", "pc", "--all"], "this is a system priority class");
    cluster.fails(&["get", "pc", "high"], "NotFound");
    cluster.ok(&["delete", "quota,pdb,ing,cj,job", "--all"]);
}
