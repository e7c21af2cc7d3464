//! The cluster's own containerd: configured for what the machine allows, with nothing outside the directory.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::process::Daemon;
use super::{Cluster, ask, first_existing, say, wait};

/// Longest path of a socket, in bytes. upstream: unix(7), sun_path
const SOCKET_PATH_MAX: usize = 107;
/// CAP_SYS_RESOURCE in a capability mask. upstream: capabilities(7)
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// The daemon.
pub fn daemon(cluster: &Cluster) -> Daemon {
    Daemon::new(
        &cluster.dir,
        "containerd",
        cluster.path("containerd/config.toml").display().to_string(),
    )
}

/// Starts it unless it runs, and waits until it serves.
pub fn start(cluster: &Cluster) -> Result<()> {
    let containerd = daemon(cluster);
    if !containerd.running()? {
        let socket = cluster.socket();
        let length = socket.as_os_str().len();
        ensure!(
            length <= SOCKET_PATH_MAX,
            "the path {} is too long for a socket: use a shorter directory",
            socket.display()
        );
        say("starting containerd");
        let config = cluster.path("containerd/config.toml");
        std::fs::write(&config, text(cluster)?)
            .with_context(|| format!("write {}", config.display()))?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(&config);
        containerd.start(&command)?;
    }
    let address = cluster.socket().display().to_string();
    wait("containerd serves", || {
        ensure!(
            containerd.running()?,
            "containerd ended; the end of its log:\n{}",
            containerd.log_tail()
        );
        let plugins = ask("ctr", &["--address", &address, "plugins", "ls"]).unwrap_or_default();
        Ok(plugins.lines().any(|line| {
            line.contains("cri") && line.ends_with("ok")
                || line.contains("cri  ") && line.contains(" ok ")
        }))
    })
}

/// The configuration.
fn text(cluster: &Cluster) -> Result<String> {
    let base = cluster.path("containerd");
    let plugins = first_existing(&["/usr/lib/cni", "/opt/cni/bin"])
        .context("no CNI plugins: install containernetworking-plugins")?;
    let runtime = first_existing(&["/usr/sbin/runc", "/usr/bin/runc", "/usr/bin/crun"])
        .context("neither runc nor crun is installed")?;
    let mut text = String::from("# Written by `cargo xtask up`.\nversion = 2\n");
    writeln!(text, "root = \"{0}/root\"\nstate = \"{0}/state\"", base.display())?;
    text.push_str("disabled_plugins = [");
    for snapshotter in ["aufs", "btrfs", "devmapper", "zfs"] {
        write!(text, "\"io.containerd.snapshotter.v1.{snapshotter}\", ")?;
    }
    writeln!(text, "\"io.containerd.tracing.processor.v1.otlp\"]")?;
    writeln!(text, "\n[grpc]\n  address = \"{}\"", cluster.socket().display())?;
    writeln!(
        text,
        "\n[plugins.\"io.containerd.internal.v1.opt\"]\n  path = \"{}/opt\"",
        base.display()
    )?;
    writeln!(text, "\n[plugins.\"io.containerd.grpc.v1.cri\"]")?;
    writeln!(text, "  sandbox_image = \"localhost/longshore/pause:dev\"")?;
    writeln!(text, "  # Lowering oom_score_adj needs CAP_SYS_RESOURCE.")?;
    writeln!(text, "  restrict_oom_score_adj = {}", !may_lower_oom_score()?)?;
    writeln!(text, "  netns_mounts_under_state_dir = true")?;
    writeln!(
        text,
        "  disable_tcp_service = true\n  stream_server_address = \"127.0.0.1\"\n  stream_server_port = \"0\""
    )?;
    writeln!(text, "  [plugins.\"io.containerd.grpc.v1.cri\".cni]")?;
    writeln!(
        text,
        "    bin_dir = \"{}\"\n    conf_dir = \"{}\"",
        plugins.display(),
        cluster.path("cni").display()
    )?;
    writeln!(text, "  [plugins.\"io.containerd.grpc.v1.cri\".containerd]")?;
    writeln!(
        text,
        "    snapshotter = \"{}\"\n    default_runtime_name = \"runc\"",
        snapshotter(&base)?
    )?;
    writeln!(text, "  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]")?;
    writeln!(text, "    runtime_type = \"io.containerd.runc.v2\"")?;
    writeln!(text, "  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]")?;
    writeln!(text, "    BinaryName = \"{}\"\n    SystemdCgroup = false", runtime.display())?;
    writeln!(
        text,
        "  [plugins.\"io.containerd.grpc.v1.cri\".registry]\n    config_path = \"{}/certs.d\"",
        base.display()
    )?;
    Ok(text)
}

fn may_lower_oom_score() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .context("no CapEff in the status")?;
    Ok(u64::from_str_radix(mask.trim(), 16)? & CAP_SYS_RESOURCE != 0)
}

/// An overlay cannot lie on another overlay.
fn snapshotter(base: &Path) -> Result<&'static str> {
    let output =
        Command::new("stat").args(["-f", "-c", "%T"]).arg(base).output().context("run stat")?;
    Ok(if String::from_utf8_lossy(&output.stdout).trim().starts_with("overlay") {
        "native"
    } else {
        "overlayfs"
    })
}
