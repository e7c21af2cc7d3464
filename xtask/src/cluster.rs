//! `cargo xtask up` and `down`: a cluster on this machine with all its state in one directory.
//!
//! Invariant: everything that `up` makes outside the directory (processes, mounts, links, nftables tables,
//! cgroups, address leases) can be found again from what lies in it, so that `down` works after any crash.

mod containerd;
mod down;
mod netns;
mod process;
mod sample;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use process::Daemon;

use crate::Usage;

/// How long the server may take until it answers, and the node until it is ready.
const READY_MAX: Duration = Duration::from_secs(300);
/// How often a condition that nothing announces is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A cluster's directory and settings.
pub struct Cluster {
    dir: PathBuf,
    binary: PathBuf,
    images: PathBuf,
    secure_port: u16,
    node_port: u16,
    /// The network namespace that it runs in; the machine's own when there is none.
    netns: Option<String>,
    sample: bool,
    server_arguments: Vec<String>,
}

impl Cluster {
    /// Reads `--dir`, `--netns`, `--binary`, `--images`, `--secure-port`, `--no-sample`, `--nodes`, and what follows `--`,
    /// which goes to the server.
    fn parse(arguments: &[String]) -> Result<Self> {
        let here = std::env::current_dir().context("the working directory is gone")?;
        let mut cluster = Self {
            dir: here.join(".cluster"),
            binary: here.join("target/release/longshore"),
            images: here.join("target/images"),
            secure_port: 6443,
            node_port: 30080,
            netns: None,
            sample: true,
            server_arguments: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value =
                || rest.next().ok_or_else(|| Usage(format!("{argument} needs a value")));
            match argument.as_str() {
                "--dir" => cluster.dir = here.join(value()?),
                "--netns" => cluster.netns = Some(netns::name(value()?)?),
                "--binary" => cluster.binary = here.join(value()?),
                "--images" => cluster.images = here.join(value()?),
                "--secure-port" => {
                    let port = value()?;
                    let wrong = |_| Usage(format!("--secure-port: {port:?} is not a port"));
                    cluster.secure_port = port.parse().map_err(wrong)?;
                }
                "--nodes" => {
                    let one = value()? == "1";
                    ensure!(one, Usage("--nodes: only 1 is possible so far".to_owned()));
                }
                "--no-sample" => cluster.sample = false,
                "--" => cluster.server_arguments = rest.by_ref().cloned().collect(),
                other => {
                    let known = "--dir DIR, --netns NAME, --binary FILE, --images DIR, --secure-port PORT, --nodes 1, --no-sample";
                    bail!(Usage(format!("no such argument: {other}; there are {known}")));
                }
            }
        }
        Ok(cluster)
    }

    /// A path in the cluster's directory.
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The runtime's socket.
    fn socket(&self) -> PathBuf {
        self.path("containerd/containerd.sock")
    }

    fn server(&self) -> Daemon {
        Daemon::new(&self.dir, "server", self.path("data").display().to_string())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// The control group that those of the pods are in: of this cluster only.
    fn cgroup(&self) -> String {
        let digest = Sha256::digest(self.dir.as_os_str().as_encoded_bytes());
        let digest: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("longshore-{digest}")
    }

    /// The answer of kubectl against this cluster.
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments)
            .output()
            .context("run kubectl")?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn start_server(&self) -> Result<()> {
        let server = self.server();
        if server.running()? && server.outdated()? {
            say("the binary is new: restarting the server; containers keep running");
            server.stop()?;
        }
        if !server.running()? {
            say(&format!("starting the server on port {}", self.secure_port));
            let mut command = Command::new(&self.binary);
            command
                .arg("server")
                .arg("--data-dir")
                .arg(self.path("data"))
                .arg("--secure-port")
                .arg(self.secure_port.to_string())
                .arg("--container-runtime-endpoint")
                .arg(format!("unix://{}", self.socket().display()))
                .arg("--cni-conf-dir")
                .arg(self.path("cni"))
                .arg("--cgroup-root")
                .arg(format!("/{}", self.cgroup()));
            if !self.server_arguments.iter().any(|a| a.starts_with("--eviction-hard")) {
                // The disk is the developer's: how full it is concerns no pod.
                command.args(["--eviction-hard", "memory.available<100Mi"]);
            }
            command.args(&self.server_arguments);
            server.start(&command)?;
        }
        let written = self.path("data/admin.kubeconfig");
        wait("the API server is ready", || {
            ensure!(
                server.running()?,
                "the server ended; the end of its log:\n{}",
                server.log_tail()
            );
            if !written.exists() {
                return Ok(false);
            }
            std::fs::copy(&written, self.kubeconfig()).context("copy the kubeconfig")?;
            Ok(self.kubectl(&["get", "--raw", "/readyz"]).is_ok_and(|answer| answer == "ok"))
        })?;
        Ok(())
    }

    fn import_images(&self) -> Result<()> {
        let mut archives = Vec::new();
        for entry in std::fs::read_dir(&self.images)
            .with_context(|| format!("read {}", self.images.display()))?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tar") {
                archives.push(path);
            }
        }
        ensure!(
            !archives.is_empty(),
            "no images in {}: run `cargo xtask image`",
            self.images.display()
        );
        archives.sort();
        let output = Command::new(&self.binary)
            .args(["image", "import", "--runtime-endpoint"])
            .arg(format!("unix://{}", self.socket().display()))
            .args(&archives)
            .output()
            .with_context(|| format!("run {}", self.binary.display()))?;
        ensure!(
            output.status.success(),
            "image import: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

/// The `up` task.
pub fn up(arguments: &[String]) -> Result<()> {
    let mut cluster = Cluster::parse(arguments)?;
    ensure!(cluster.binary.exists(), "{} is missing: run ./x build", cluster.binary.display());
    for folder in ["cni", "containerd", "data"] {
        let path = cluster.path(folder);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    netns::enter(&mut cluster)?;
    down::remember(&cluster)?;
    containerd::start(&cluster)?;
    cluster.import_images()?;
    cluster.start_server()?;
    say("waiting for the node");
    let server = cluster.server();
    wait("the node is ready", || {
        ensure!(server.running()?, "the server ended; the end of its log:\n{}", server.log_tail());
        let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        Ok(cluster.kubectl(&["get", "nodes", "-o", path]).is_ok_and(|answer| answer == "True"))
    })?;
    if cluster.sample {
        sample::run(&cluster)?;
    }
    Ok(())
}

/// The `down` task.
pub fn down(arguments: &[String]) -> Result<()> {
    let mut cluster = Cluster::parse(arguments)?;
    if !cluster.dir.exists() {
        say("there is no cluster");
        return Ok(());
    }
    netns::enter(&mut cluster)?;
    down::run(&cluster)
}

/// Looks until the condition holds.
fn wait(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + READY_MAX;
    loop {
        if holds().with_context(|| format!("waiting until {what}"))? {
            return Ok(());
        }
        ensure!(Instant::now() < end, "waited {} s in vain until {what}", READY_MAX.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}

fn say(text: &str) {
    eprintln!("\x1b[1m==>\x1b[0m {text}");
}

/// Runs a program and returns what it prints; `None` when it fails or is not there.
fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether one of the paths exists; the first that does.
fn first_existing(paths: &[&'static str]) -> Option<&'static Path> {
    paths.iter().copied().map(Path::new).find(|path| path.exists())
}
