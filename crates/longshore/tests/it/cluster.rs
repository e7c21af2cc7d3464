//! Real containers in a cluster of the test's own: one node, its own containerd and network namespace, everything
//! removed at the end.
//!
//! Needs root, containerd, the CNI plugins, nftables and kubectl, which `./x test` installs. One test function, because
//! one cluster serves all of it; each part is a thread and uses a namespace of its own.

mod details;
mod leftovers;
mod lifecycle;
mod machine;
mod network;
mod probes;
mod registry;
mod restarts;
mod streams;
mod volumes;
mod workloads;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::server::LONGSHORE;
use machine::Machine;

/// How long anything in the cluster may take.
const WAIT_MAX: Duration = Duration::from_secs(300);
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// The image of most test pods.
pub const TOOLBOX: &str = "localhost/longshore/toolbox:dev";

/// A running cluster; taken away when dropped.
pub struct Cluster {
    dir: tempfile::TempDir,
    /// The network that it takes for the machine's, dropped after the cluster is taken away; without one the cluster
    /// makes a namespace of its own.
    machine: Option<Machine>,
}

impl Cluster {
    /// One in a network namespace of its own that does not run yet.
    pub fn new() -> Self {
        // Short, because sockets lie in it.
        let dir = tempfile::Builder::new().prefix("ls-").tempdir_in("/tmp").unwrap();
        Self { dir, machine: None }
    }

    /// One in the network of the machine, or of what looks like one to it.
    pub fn on_machine() -> Self {
        let mut cluster = Self::new();
        cluster.machine = Some(Machine::new(cluster.netns()));
        cluster
    }

    /// The folder of the cluster and of the test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The name of its network namespace.
    pub fn netns(&self) -> String {
        self.dir.path().file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// What `up` keeps of it.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("c")
    }

    fn xtask(&self, arguments: &[&str]) -> Output {
        let mut command = match self.machine {
            None => Command::new(env!("CARGO")),
            Some(_) => self.command(env!("CARGO")),
        };
        command
            .current_dir(ROOT)
            .args(["run", "--quiet", "--package", "xtask", "--", arguments[0], "--dir"])
            .arg(self.state())
            .args(["--binary", LONGSHORE])
            .args(&arguments[1..])
            .output()
            .unwrap()
    }

    /// Starts what does not run.
    #[track_caller]
    pub fn up(&self) {
        let name = self.netns();
        let mut arguments = vec!["up", "--no-sample"];
        if self.machine.is_none() {
            arguments.extend(["--netns", &name]);
        }
        let output = self.xtask(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Takes it away.
    #[track_caller]
    pub fn down(&self) {
        let output = self.xtask(&["down"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !self.state().exists(), "{error}");
        // It says there what it could not do in the best way.
        eprintln!("{error}");
    }

    /// Sends a signal to the server or to containerd.
    pub fn signal(&self, program: &str, signal: &str) {
        let file = self.state().join(format!("{program}.pid"));
        let pid = std::fs::read_to_string(file).unwrap();
        assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
    }

    /// A program to be run in the cluster's network, with a kubeconfig of the administrator.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.netns()))
            .arg(program)
            .env("KUBECONFIG", self.state().join("admin.kubeconfig"))
            .env("KUBECACHEDIR", self.dir.path().join("kubectl-cache"));
        command
    }

    /// Runs something on a thread in the cluster's network.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(Path::new("/run/netns").join(self.netns())).unwrap();
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    /// A new namespace, for one part of the test.
    #[track_caller]
    pub fn space(&self, name: &'static str) -> Space<'_> {
        let space = Space { cluster: self, name };
        space.kubectl(&["create", "namespace", name]);
        // Pods need it, and it comes a moment later.
        space.wait("serviceaccount/default", "create");
        space
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.state().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.state().exists() {
            let output = self.xtask(&["down"]);
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// One namespace of the cluster.
pub struct Space<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The namespace.
    pub name: &'static str,
}

impl Space<'_> {
    /// kubectl as the administrator, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // What hangs is ended, so that the test says where.
        let limit = (2 * WAIT_MAX.as_secs()).to_string();
        let mut command = self.cluster.command("timeout");
        command.args(["--foreground", &limit, "kubectl", "--namespace", self.name]).args(arguments);
        command
    }

    /// kubectl, whatever comes of it.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("kubectl runs: ./x test installs it")
    }

    /// kubectl: it must succeed; what it prints.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {error}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        let file = self.cluster.dir.path().join(format!("{}.yaml", self.name));
        std::fs::write(&file, manifest).unwrap();
        self.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    }

    /// Waits for what `kubectl wait --for` describes.
    #[track_caller]
    pub fn wait(&self, object: &str, what: &str) {
        let limit = format!("--timeout={}s", WAIT_MAX.as_secs());
        let output = self.try_kubectl(&["wait", object, &format!("--for={what}"), &limit]);
        assert!(output.status.success(), "{object} {what}: {}", self.story(&output));
    }

    /// Asks with kubectl until the answer is right.
    #[track_caller]
    pub fn eventually(&self, arguments: &[&str], right: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + WAIT_MAX;
        loop {
            let output = self.try_kubectl(arguments);
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if output.status.success() && right(&text) {
                return text;
            }
            assert!(
                Instant::now() < end,
                "kubectl {}: {text} {}",
                arguments.join(" "),
                self.story(&output)
            );
        }
    }

    /// Waits until the events of a pod tell something: they come beside what they tell of.
    #[track_caller]
    pub fn told(&self, pod: &str, text: &str) {
        let selector = format!("involvedObject.name={pod}");
        self.eventually(&["get", "events", "--field-selector", &selector], |all| {
            all.contains(text)
        });
    }

    /// Waits until a deployment is as its template says.
    #[track_caller]
    pub fn rolled_out(&self, deployment: &str) {
        let limit = format!("--timeout={}s", WAIT_MAX.as_secs());
        self.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), &limit]);
    }

    /// What is known when something did not happen.
    fn story(&self, output: &Output) -> String {
        let pods = self.try_kubectl(&["get", "pods", "-o", "yaml"]);
        let events = self.try_kubectl(&["get", "events"]);
        format!(
            "{}\n{}\n{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&pods.stdout),
            String::from_utf8_lossy(&events.stdout),
            self.cluster.log_tail()
        )
    }

    /// A field of an object.
    #[track_caller]
    pub fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")])
    }

    /// Runs a shell command in a pod; what it prints.
    #[track_caller]
    pub fn shell(&self, pod: &str, command: &str) -> String {
        self.kubectl(&["exec", pod, "--", "sh", "-c", command])
    }

    /// Makes a pod with one container of the toolbox; `more` are lines of its container and spec.
    #[track_caller]
    pub fn make_toolbox(&self, name: &str, more: &str) {
        self.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\n\
             spec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: toolbox\n    image: {TOOLBOX}\n{more}",
        ));
    }

    /// As [`Self::make_toolbox`], and waits until it is ready.
    #[track_caller]
    pub fn toolbox(&self, name: &str, more: &str) {
        self.make_toolbox(name, more);
        self.wait(&format!("pod/{name}"), "condition=Ready");
    }
}

/// Builds what clusters are made of.
fn build() {
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO")).current_dir(ROOT).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["build", "--quiet", "--package", "xtask"]);
    run(&["xtask", "image"]);
}

#[test]
fn pods_run_in_real_containers() {
    build();
    let cluster = Cluster::new();
    cluster.up();
    let parts: &[fn(&Cluster)] = &[
        details::run,
        lifecycle::run,
        network::run,
        probes::run,
        registry::run,
        restarts::run,
        streams::run,
        volumes::run,
        workloads::run,
    ];
    std::thread::scope(|scope| {
        for part in parts {
            scope.spawn(|| part(&cluster));
        }
    });
    restarts::the_server_ends(&cluster);
    let traces = leftovers::Traces::of(&cluster);
    cluster.down();
    traces.are_gone();
}
