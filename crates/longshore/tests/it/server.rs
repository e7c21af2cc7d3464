//! A server process for a test.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub const LONGSHORE: &str = env!("CARGO_BIN_EXE_longshore");
/// How long anything may take.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    data: PathBuf,
}

impl Server {
    /// Starts a server without a node on a data directory and waits until it is ready.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &["--disable", "kubelet,proxy,dns"])
    }

    /// Starts a server with arguments and waits until it is ready.
    pub fn start_with(data: &Path, arguments: &[&str]) -> Self {
        std::fs::create_dir_all(data).unwrap();
        let log = File::options().create(true).append(true).open(data.join("log")).unwrap();
        let child = Command::new(LONGSHORE)
            .args(["server", "--bind-address", "127.0.0.1", "--data-dir"])
            .arg(data)
            .args(["--secure-port", &free_port().to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { child, data: data.to_owned() };
        let end = Instant::now() + WAIT_MAX;
        while server.try_kubectl(&["get", "--raw", "/readyz"]).stdout != b"ok" {
            assert!(
                server.child.try_wait().unwrap().is_none(),
                "the server ended:\n{}",
                server.log()
            );
            assert!(Instant::now() < end, "the server is not ready:\n{}", server.log());
        }
        server
    }

    /// What the server said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("log")).unwrap_or_default()
    }

    /// kubectl as the administrator, whatever comes of it.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("kubectl runs: ./x test installs it")
    }

    /// kubectl as the administrator, to be run. Its caches go to the data directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .env("KUBECONFIG", self.data.join("admin.kubeconfig"))
            .env("KUBECACHEDIR", self.data.join("kubectl-cache"))
            .args(arguments);
        command
    }

    /// kubectl as the administrator: it must succeed; what it prints.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {error}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Asks with kubectl until it prints the text.
    #[track_caller]
    pub fn eventually(&self, arguments: &[&str], wanted: &str) {
        let end = Instant::now() + WAIT_MAX;
        loop {
            let output = self.try_kubectl(arguments);
            let text = String::from_utf8_lossy(&output.stdout);
            if output.status.success() && text.trim() == wanted {
                return;
            }
            assert!(
                Instant::now() < end,
                "kubectl {} prints {text:?}, not {wanted:?}",
                arguments.join(" ")
            );
        }
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the server as an operator would; it must end well.
    pub fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
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

/// A port that nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
