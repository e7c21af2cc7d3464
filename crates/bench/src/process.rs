//! Processes that are measured.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::Method;

use crate::api::Api;

/// Arguments that make a server an API server alone.
pub const ALONE: &[&str] = &["--disable", "controllers,scheduler,kubelet,proxy,dns"];
/// How long anything may take to become ready or to end.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Ticks of a processor per second in /proc. upstream: proc(5), USER_HZ
const TICKS: f64 = 100.0;

/// A process that ends with the bench.
pub struct Child(tokio::process::Child);

impl Child {
    /// Starts it with a log.
    pub fn spawn(mut command: tokio::process::Command, log: &Path) -> Result<Self> {
        let log = File::create(log).with_context(|| format!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        Ok(Self(
            command
                .spawn()
                .with_context(|| format!("start {:?}", command.as_std().get_program()))?,
        ))
    }

    /// Its process number.
    pub fn pid(&self) -> Result<u32> {
        self.0.id().context("the process has ended")
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait().context("look at a process")?.is_some())
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        let pid = self.pid()?.to_string();
        let kill = tokio::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .context("run kill")?;
        ensure!(kill.success(), "cannot end process {pid}");
        tokio::time::timeout(WAIT_MAX, self.0.wait()).await.context("a process does not end")??;
        Ok(())
    }
}

/// A server with a data directory of its own.
pub struct Server {
    child: Child,
    data: tempfile::TempDir,
    launch: Launch,
    /// The moment before exec.
    pub started: Instant,
    /// From exec to the first `ok` of `/readyz`.
    pub ready_after: Duration,
}

/// How a server is started.
struct Launch {
    binary: PathBuf,
    log: PathBuf,
    port: u16,
    arguments: Vec<String>,
}

impl Server {
    /// Starts a server with nothing in its data directory and waits until `/readyz` says `ok`.
    pub async fn start(binary: &Path, dir: &Path, arguments: &[&str]) -> Result<Self> {
        let launch = Launch {
            binary: binary.to_owned(),
            log: dir.join("server.log"),
            port: free_port()?,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        };
        let data = tempfile::tempdir_in(dir).context("create a data directory")?;
        Self::launch(launch, data).await
    }

    /// Ends it and starts it again with what it has stored.
    pub async fn restart(self) -> Result<Self> {
        self.child.stop().await?;
        Self::launch(self.launch, self.data).await
    }

    async fn launch(launch: Launch, data: tempfile::TempDir) -> Result<Self> {
        let mut command = tokio::process::Command::new(&launch.binary);
        command
            .arg("server")
            .arg("--data-dir")
            .arg(data.path())
            .args(["--secure-port", &launch.port.to_string()]);
        command.args(&launch.arguments);
        let kubeconfig = data.path().join("admin.kubeconfig");
        if kubeconfig.exists() {
            fs::remove_file(&kubeconfig).context("remove the old kubeconfig")?;
        }
        let started = Instant::now();
        let mut child = Child::spawn(command, &launch.log)?;
        let mut connection = None;
        loop {
            ensure!(!child.ended()?, "the server ended: see {}", launch.log.display());
            ensure!(started.elapsed() < WAIT_MAX, "the server is not ready");
            if connection.is_none()
                && let Ok(text) = fs::read_to_string(&kubeconfig)
            {
                connection = Api::new(text).connection().ok();
            }
            if let Some(connection) = &connection
                && connection
                    .call(Method::GET, "/readyz", None)
                    .await
                    .is_ok_and(|(status, _)| status.is_success())
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self { child, data, launch, started, ready_after: started.elapsed() })
    }

    /// Its kubeconfig.
    pub async fn kubeconfig(&self) -> Result<String> {
        tokio::fs::read_to_string(self.data.path().join("admin.kubeconfig"))
            .await
            .context("read the kubeconfig")
    }

    /// Its process number.
    pub fn pid(&self) -> Result<u32> {
        self.child.pid()
    }

    /// Ends it and removes its data.
    pub async fn stop(self) -> Result<()> {
        self.child.stop().await
    }
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))
        .context("find a free port")?
        .local_addr()?
        .port())
}

/// Looks until the condition holds.
pub async fn poll(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !holds().await {
        ensure!(start.elapsed() < WAIT_MAX, "waited {} s in vain until {what}", WAIT_MAX.as_secs());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Resident memory of a process in megabytes.
pub fn resident_mb(pid: u32) -> Result<f64> {
    memory_mb(pid, "VmRSS:")
}

/// The most memory a process has ever had resident, in megabytes.
pub fn peak_mb(pid: u32) -> Result<f64> {
    memory_mb(pid, "VmHWM:")
}

fn memory_mb(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .context("read the status of a process")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("no {name}"))?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("memory")?;
    Ok(kilobytes / 1024.0)
}

/// Seconds of processor time that a process has used.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .context("read the statistics of a process")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| {
        fields.get(index).and_then(|field| field.parse::<f64>().ok()).context("a field of stat")
    };
    // upstream: proc(5): utime and stime are fields 14 and 15; the first two are before the bracket.
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
