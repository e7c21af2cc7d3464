//! Real containers in a cluster of the test's own: one node, its own containerd, everything removed at the end.
//!
//! Needs root, containerd, the CNI plugins, nftables and kubectl, which `./x test` installs. One test function, because
//! one cluster serves all of it; each part uses a namespace of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::server::{LONGSHORE, free_port};

/// How long anything in the cluster may take.
const WAIT_MAX: Duration = Duration::from_secs(90);
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A running cluster; taken away when dropped.
struct Cluster {
    dir: tempfile::TempDir,
    port: String,
    kubelet_port: String,
}

impl Cluster {
    fn start() -> Self {
        let cluster = Self {
            // Short, because sockets lie in it.
            dir: tempfile::Builder::new().prefix("ls-").tempdir_in("/tmp").unwrap(),
            port: free_port().to_string(),
            kubelet_port: free_port().to_string(),
        };
        cluster.up();
        cluster
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("c")
    }

    fn xtask(&self, arguments: &[&str]) -> Output {
        let state = self.state();
        Command::new(env!("CARGO"))
            .current_dir(ROOT)
            .args(["run", "--quiet", "--package", "xtask", "--", arguments[0], "--dir"])
            .arg(&state)
            .args(["--binary", LONGSHORE])
            .args(&arguments[1..])
            .output()
            .unwrap()
    }

    /// Starts what does not run.
    #[track_caller]
    fn up(&self) {
        let log = [
            "--no-sample",
            "--secure-port",
            &self.port,
            "--",
            "--kubelet-port",
            &self.kubelet_port,
        ];
        let mut arguments = vec!["up"];
        arguments.extend(log);
        let output = self.xtask(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn kill_server(&self) {
        let pid = std::fs::read_to_string(self.state().join("server.pid")).unwrap();
        assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
    }

    fn try_kubectl(&self, arguments: &[&str]) -> Output {
        Command::new("kubectl")
            .env("KUBECONFIG", self.state().join("admin.kubeconfig"))
            .env("KUBECACHEDIR", self.dir.path().join("kubectl-cache"))
            .args(arguments)
            .output()
            .expect("kubectl runs: ./x test installs it")
    }

    #[track_caller]
    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {error}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Applies manifests.
    #[track_caller]
    fn apply(&self, manifest: &str) {
        let file = self.dir.path().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    }

    /// Asks with kubectl until the answer is right.
    #[track_caller]
    fn eventually(&self, arguments: &[&str], right: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + WAIT_MAX;
        loop {
            let output = self.try_kubectl(arguments);
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if output.status.success() && right(&text) {
                return text;
            }
            assert!(
                Instant::now() < end,
                "kubectl {}: {text} {}\n{}\n{}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr),
                self.kubectl(&["get", "events", "-A"]),
                tail(&self.state().join("server.log")),
            );
        }
    }

    fn node(&self) -> String {
        self.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])
    }

    /// A toolbox pod, running. It names its node, because what is tested is the node.
    #[track_caller]
    fn toolbox(&self, name: &str, more: &str) {
        self.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\n\
             spec:\n  nodeName: {}\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: toolbox\n    \
             image: localhost/longshore/toolbox:dev\n{more}",
            self.node()
        ));
        self.eventually(&["get", "pod", name, "-o", "jsonpath={.status.phase}"], |phase| {
            phase == "Running"
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let output = self.xtask(&["down"]);
        let left = self.state().exists();
        if !std::thread::panicking() {
            assert!(
                output.status.success() && !left,
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[test]
fn pods_run_in_real_containers() {
    let images =
        Command::new(env!("CARGO")).current_dir(ROOT).args(["xtask", "image"]).output().unwrap();
    assert!(images.status.success(), "{}", String::from_utf8_lossy(&images.stderr));
    let cluster = Cluster::start();
    streams(&cluster);
    probes(&cluster);
    volumes(&cluster);
    restarts(&cluster);
    workloads(&cluster);
    the_server_dies(&cluster);
}

/// Logs, exec, cp and port-forward reach the container.
fn streams(cluster: &Cluster) {
    cluster.toolbox("streams", "");
    cluster.eventually(&["logs", "streams"], |log| log == "serving");
    assert_eq!(cluster.kubectl(&["exec", "streams", "--", "echo", "said"]), "said");
    let failed = cluster.try_kubectl(&["exec", "streams", "--", "sh", "-c", "exit 7"]);
    assert_eq!(failed.status.code(), Some(7));
    let file = cluster.dir.path().join("sent");
    std::fs::write(&file, "content").unwrap();
    cluster.kubectl(&["cp", file.to_str().unwrap(), "streams:/tmp/sent"]);
    assert_eq!(cluster.kubectl(&["exec", "streams", "--", "cat", "/tmp/sent"]), "content");
    cluster.kubectl(&["delete", "pod", "streams"]);
}

/// A failing readiness probe takes a pod out, a failing liveness probe restarts its container.
fn probes(cluster: &Cluster) {
    cluster.toolbox(
        "probed",
        "    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}\n    \
         livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 5}\n",
    );
    let ready = ["get", "pod", "probed", "-o", "jsonpath={.status.containerStatuses[0].ready}"];
    let count =
        ["get", "pod", "probed", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    cluster.eventually(&ready, |ready| ready == "true");
    cluster.kubectl(&["exec", "probed", "--", "wget", "-qO-", "http://127.0.0.1:8080/fail"]);
    cluster.eventually(&ready, |ready| ready == "false");
    cluster.eventually(&count, |count| count == "1");
    cluster.eventually(&ready, |ready| ready == "true");
    cluster.kubectl(&["delete", "pod", "probed"]);
}

/// Configuration, secrets, the pod's own fields and shared folders are seen inside.
fn volumes(cluster: &Cluster) {
    cluster.kubectl(&["create", "configmap", "settings", "--from-literal=colour=green"]);
    cluster.kubectl(&["create", "secret", "generic", "key", "--from-literal=word=hidden"]);
    cluster.toolbox(
        "mounted",
        "    env:\n    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}\n    \
         - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n    volumeMounts:\n    \
         - {name: settings, mountPath: /settings}\n    - {name: key, mountPath: /key}\n    \
         - {name: scratch, mountPath: /scratch}\n    - {name: self, mountPath: /self}\n  volumes:\n  \
         - {name: settings, configMap: {name: settings}}\n  - {name: key, secret: {secretName: key}}\n  \
         - {name: scratch, emptyDir: {}}\n  \
         - {name: self, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}\n",
    );
    let run = |command: &str| cluster.kubectl(&["exec", "mounted", "--", "sh", "-c", command]);
    assert_eq!(run("cat /settings/colour"), "green");
    assert_eq!(run("cat /key/word"), "hidden");
    assert_eq!(run("cat /self/name"), "mounted");
    assert_eq!(run("echo $COLOUR"), "green");
    assert_eq!(run("echo kept > /scratch/file; cat /scratch/file"), "kept");
    let address = cluster.kubectl(&["get", "pod", "mounted", "-o", "jsonpath={.status.podIP}"]);
    assert_eq!(run("echo $POD_IP"), address);
    let token = run("wc -c < /var/run/secrets/kubernetes.io/serviceaccount/token");
    assert!(token.parse::<u32>().unwrap() > 100, "{token}");
    cluster.kubectl(&["delete", "pod", "mounted"]);
}

/// A container that ends is started again; one that has done its work is not.
fn restarts(cluster: &Cluster) {
    cluster.toolbox("killed", "");
    let count =
        ["get", "pod", "killed", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    assert_eq!(cluster.kubectl(&count), "0");
    cluster.try_kubectl(&["exec", "killed", "--", "wget", "-qO-", "http://127.0.0.1:8080/exit/3"]);
    cluster.eventually(&count, |count| count == "1");
    let code = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}";
    assert_eq!(cluster.kubectl(&["get", "pod", "killed", "-o", code]), "3");
    cluster.kubectl(&["delete", "pod", "killed"]);

    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: done}}\nspec:\n  nodeName: {}\n  restartPolicy: Never\n  \
         containers:\n  - {{name: toolbox, image: 'localhost/longshore/toolbox:dev', command: [toolbox, exit, '0']}}\n",
        cluster.node()
    ));
    cluster.eventually(&["get", "pod", "done", "-o", "jsonpath={.status.phase}"], |phase| {
        phase == "Succeeded"
    });
    cluster.kubectl(&["delete", "pod", "done"]);
}

/// A deployment is scheduled, replaces what is deleted, and is updated and rolled back.
fn workloads(cluster: &Cluster) {
    cluster.kubectl(&[
        "apply",
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello.yaml"),
    ]);
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=90s"]);
    let names = ["get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[*].metadata.name}"];
    let ready = "jsonpath={.status.readyReplicas}";
    let before = cluster.kubectl(&names);
    let first = before.split(' ').next().unwrap();
    cluster.kubectl(&["delete", "pod", first]);
    cluster.eventually(&["get", "deployment", "hello", "-o", ready], |ready| ready == "3");
    assert!(!cluster.kubectl(&names).contains(first));

    cluster.kubectl(&["set", "env", "deployment/hello", "GREETING=hi"]);
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=90s"]);
    cluster.kubectl(&["rollout", "undo", "deployment/hello"]);
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=90s"]);
    cluster.kubectl(&["delete", "deployment,service", "hello"]);
    cluster.eventually(&names, str::is_empty);
}

/// The server's end touches no container, and the next server knows them again.
fn the_server_dies(cluster: &Cluster) {
    cluster.toolbox("survivor", "");
    let container =
        ["get", "pod", "survivor", "-o", "jsonpath={.status.containerStatuses[0].containerID}"];
    let before = cluster.kubectl(&container);
    let started = |cluster: &Cluster| {
        cluster.kubectl(&["exec", "survivor", "--", "stat", "-c", "%Y", "/proc/1"])
    };
    let since = started(cluster);
    cluster.kill_server();
    cluster.up();
    assert_eq!(cluster.kubectl(&container), before);
    assert_eq!(started(cluster), since, "the program is the same");
    let count = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(cluster.kubectl(&["get", "pod", "survivor", "-o", count]), "0");
    cluster.kubectl(&["delete", "pod", "survivor"]);
}
