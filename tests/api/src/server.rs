//! The server under test: one of our own, started as a process, or any other.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use longshore_client::kubeconfig;

use crate::wire::Wire;

/// Names a kubeconfig whose server is tested instead of our own. Its user must be an administrator.
pub const KUBECONFIG: &str = "LONGSHORE_TEST_KUBECONFIG";
/// How long a server may take to be ready.
const READY_MAX: Duration = Duration::from_secs(120);
/// How often it is asked meanwhile.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// A server process of our own; killed when dropped.
pub struct Server {
    child: Child,
    data: tempfile::TempDir,
    port: u16,
}

impl Server {
    /// Starts the binary with a data directory of its own, without what needs a node.
    pub async fn start(disable: &str) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = File::create(data.path().join("log"))?;
        let mut command = Command::new(binary()?);
        command.args(["server", "--bind-address", "127.0.0.1", "--disable", disable]);
        command.args(["--secure-port", &port.to_string(), "--data-dir"]).arg(data.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut server = Self { child, data, port };
        let ready = tokio::time::timeout(READY_MAX, server.ready()).await;
        ready.with_context(|| format!("the server is not ready:\n{}", server.log()))??;
        Ok(server)
    }

    async fn ready(&mut self) -> Result<()> {
        let mut tick = tokio::time::interval(ASK_INTERVAL);
        loop {
            tick.tick().await;
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.log());
            }
            let Ok(text) = std::fs::read_to_string(self.kubeconfig()) else { continue };
            let Ok(wire) = Wire::new(&text) else { continue };
            if matches!(wire.get("/readyz").await, Ok(answer) if answer.code == 200) {
                return Ok(());
            }
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.path().join("admin.kubeconfig")
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The port it listens on at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default()
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when the server has ended already, which is what is wanted.
        if self.child.kill().is_ok() {
            self.child.wait().expect("a killed child can be waited for");
        }
    }
}

/// What scenarios run against.
pub struct Target {
    /// The way to it.
    pub wire: Arc<Wire>,
    /// Our own process, when it is ours.
    pub server: Option<Server>,
}

impl Target {
    /// The server that [`KUBECONFIG`] names, or one of our own with controllers and scheduler.
    pub async fn find() -> Result<Self> {
        if let Some(path) = std::env::var_os(KUBECONFIG) {
            let text = std::fs::read_to_string(&path).with_context(|| format!("{path:?}"))?;
            return Ok(Self { wire: Arc::new(Wire::new(&text)?), server: None });
        }
        let server = Server::start("kubelet,proxy,dns").await?;
        let text = std::fs::read_to_string(server.kubeconfig())?;
        Ok(Self { wire: Arc::new(Wire::new(&text)?), server: Some(server) })
    }
}

/// A kubeconfig's text without the user's credentials.
pub fn without_credentials(kubeconfig: &str) -> Result<String> {
    let mut config = longshore_api::yaml::decode(kubeconfig.as_bytes())?;
    for user in config["users"].as_array_mut().context("a kubeconfig has users")? {
        user["user"] = serde_json::json!({});
    }
    Ok(config.to_string())
}

/// A transport for a kubeconfig's text.
pub fn transport(text: &str) -> Result<longshore_client::https::Https> {
    Ok(kubeconfig::transport(text)?)
}

/// The binary, beside this test program. Cargo does not build the programs of other packages for a
/// test, so that an old one is refused rather than tested.
pub fn binary() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let profile = exe.ancestors().nth(2).context("a test program lies in target/PROFILE/deps")?;
    let binary = profile.join("longshore");
    let what_to_do = "run `cargo build -p longshore` first, or the tests of the whole workspace";
    let made = std::fs::metadata(&binary).and_then(|m| m.modified());
    let made = made.with_context(|| format!("{} is missing: {what_to_do}", binary.display()))?;
    let crates = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates"));
    for entry in std::fs::read_dir(crates)? {
        // A crate that the binary is not made of changes nothing.
        if ["bench", "fuzz"].iter().any(|name| entry.as_ref().is_ok_and(|e| e.file_name() == *name))
        {
            continue;
        }
        if let Some(newer) = newer_than(&entry?.path().join("src"), made)? {
            bail!("{} is older than {}: {what_to_do}", binary.display(), newer.display());
        }
    }
    Ok(binary)
}

fn newer_than(path: &Path, time: SystemTime) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            if let Some(found) = newer_than(&entry.path(), time)? {
                return Ok(Some(found));
            }
            continue;
        }
        // What only tests use does not come into the binary.
        let name = entry.file_name();
        if metadata.modified()? > time && !name.to_string_lossy().contains("tests") {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// A limit on open files that allows many connections: the hard one.
pub fn check_open_files(wanted: u64) -> Result<()> {
    let text = std::fs::read_to_string("/proc/self/limits")?;
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)).context("no limit")?;
    ensure!(
        soft == "unlimited" || soft.parse::<u64>()? >= wanted,
        "the limit of open files is {soft}, {wanted} are needed: raise it with ulimit -n"
    );
    Ok(())
}
