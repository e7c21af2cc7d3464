//! Taking a cluster away: what it made is found in its directory, in /proc and in the kernel's lists.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount as unmount_point};
use serde_json::Value;
use sha2::{Digest as _, Sha512};

use super::process::{all, command_line, signal};
use super::{Cluster, ask, containerd, netns, say, wait};

/// Tables of nftables that only a cluster makes.
const OUR_TABLES: &[&str] = &["longshore", "kube-proxy", "cni_plugins"];
/// Tables that the CNI plugins use through iptables; they go when they were not there before.
const SHARED_TABLES: &[&str] = &["filter", "mangle", "nat", "raw"];
/// The longest name of a chain of iptables.
///
/// upstream: containernetworking/plugins, pkg/utils/utils.go maxChainLength
const CHAIN_MAX: usize = 28;
/// Where address leases and results of CNI plugins are kept by default.
const CNI_STATE: &str = "/var/lib/cni";

/// Folders that containerd and the CNI plugins make outside the cluster's directory.
const FOLDERS: &[&str] = &["/run/containerd", "/var/lib/cni"];

/// Writes down, once, what was there before the cluster.
pub fn remember(cluster: &Cluster) -> Result<()> {
    let file = cluster.path("before");
    if !file.exists() {
        let mut before: Vec<String> = tables().into_iter().collect();
        before.extend(
            FOLDERS.iter().filter(|path| Path::new(path).exists()).map(|path| (*path).to_owned()),
        );
        fs::write(&file, before.join("\n")).context("write what was there before")?;
    }
    Ok(())
}

/// Stops everything and removes the directory.
pub fn run(cluster: &Cluster) -> Result<()> {
    say("stopping the server");
    cluster.server().stop()?;
    let sockets = shim_sockets(cluster);
    if cluster.path("containerd/root").exists() {
        say("removing the pods");
        // A crash may have ended containerd and left the containers: it finds them again.
        match containerd::start(cluster).and_then(|()| remove_pods(cluster)) {
            Ok(()) => {}
            Err(error) => {
                eprintln!("the runtime could not remove the pods, killing them: {error:#}")
            }
        }
    }
    containerd::daemon(cluster).stop()?;
    say("cleaning up");
    kill_rest(cluster)?;
    // A shim that was killed has left its own.
    for socket in sockets.iter().filter(|socket| socket.exists()) {
        fs::remove_file(socket).with_context(|| format!("remove {}", socket.display()))?;
    }
    unmount(&cluster.dir)?;
    let networks = networks(&cluster.path("cni"));
    let before = fs::read_to_string(cluster.path("before")).unwrap_or_default();
    let before: BTreeSet<&str> = before.lines().collect();
    let pods = remove_results(&cluster.dir)?;
    if cluster.netns.is_some() {
        netns::remove(cluster)?;
    } else {
        remove_rules(&pods);
        let mut alone = true;
        for network in &networks {
            alone &= remove_network(network)?;
        }
        if alone {
            remove_tables(&before);
        }
    }
    for path in cgroups(cluster)? {
        remove_cgroup(&path);
    }
    for folder in FOLDERS.iter().filter(|folder| !before.contains(*folder)) {
        remove_empty(Path::new(folder));
    }
    fs::remove_dir_all(&cluster.dir).with_context(|| format!("remove {}", cluster.dir.display()))
}

/// Lets the runtime stop and remove every pod, so that the CNI plugins give back what they took.
fn remove_pods(cluster: &Cluster) -> Result<()> {
    let output = Command::new(&cluster.binary)
        .args(["reset", "--runtime-endpoint"])
        .arg(format!("unix://{}", cluster.socket().display()))
        .output()
        .with_context(|| format!("run {}", cluster.binary.display()))?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The folder in which containerd keeps something about each task.
fn tasks(cluster: &Cluster) -> PathBuf {
    cluster.path("containerd/state/io.containerd.runtime.v2.task/k8s.io")
}

/// The sockets on which the shims of our containerd listen; they lie outside of the cluster's folder.
///
/// upstream: containerd, runtime/v2/shim (`address`; `bootstrap.json` since 2.0)
fn shim_sockets(cluster: &Cluster) -> BTreeSet<PathBuf> {
    let address = |task: PathBuf| {
        fs::read_to_string(task.join("address")).ok().or_else(|| {
            let text = fs::read(task.join("bootstrap.json")).ok()?;
            let found: Value = serde_json::from_slice(&text).ok()?;
            found["address"].as_str().map(str::to_owned)
        })
    };
    let tasks = fs::read_dir(tasks(cluster)).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| address(task.path()))
        .filter_map(|text| text.trim().strip_prefix("unix://").map(PathBuf::from))
        .collect()
}

/// Kills shims of our containerd and the processes of containers that they left.
fn kill_rest(cluster: &Cluster) -> Result<()> {
    let socket = cluster.socket().display().to_string();
    let mut left = BTreeSet::new();
    for entry in fs::read_dir(tasks(cluster)).into_iter().flatten() {
        let pid =
            entry.ok().and_then(|entry| fs::read_to_string(entry.path().join("init.pid")).ok());
        left.extend(pid.and_then(|text| text.trim().parse::<u32>().ok()));
    }
    for pid in all()? {
        let line = command_line(pid);
        if line.contains("containerd-shim") && line.contains(&socket) {
            left.insert(pid);
        }
    }
    for pid in &left {
        signal("KILL", *pid);
    }
    wait("the last processes are gone", || Ok(left.iter().all(|pid| command_line(*pid).is_empty())))
}

/// Unmounts everything below the directory, the innermost first.
fn unmount(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let below = format!("{}/", dir.display());
    let points: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.starts_with(&below))
        .collect();
    for point in points.iter().rev() {
        let gone = unmount_point(*point, UnmountFlags::empty())
            .or_else(|_| unmount_point(*point, UnmountFlags::DETACH));
        if let Err(error) = gone {
            eprintln!("cannot unmount {point}: {error}");
        }
    }
    Ok(())
}

/// One pod network of the CNI configuration.
struct Network {
    name: String,
    bridges: Vec<String>,
    leases: Vec<PathBuf>,
}

fn networks(dir: &Path) -> Vec<Network> {
    let mut networks = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let parsed = fs::read(entry.path())
            .ok()
            .and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let Some(config) = parsed else { continue };
        let name = config["name"].as_str().unwrap_or_default().to_owned();
        let plugins = config["plugins"].as_array().cloned().unwrap_or_default();
        let bridges =
            plugins.iter().filter_map(|p| p["bridge"].as_str().map(str::to_owned)).collect();
        let leases = plugins
            .iter()
            .map(|plugin| {
                Path::new(plugin["ipam"]["dataDir"].as_str().unwrap_or("/var/lib/cni/networks"))
                    .join(&name)
            })
            .collect();
        networks.push(Network { name, bridges, leases });
    }
    networks
}

/// Removes a network that no pod uses any more; whether nobody did.
fn remove_network(network: &Network) -> Result<bool> {
    // Asked of the kernel rather than of /sys, which may show another network namespace.
    let used = |bridge: &String| {
        let ports = ask("ip", &["-o", "link", "show", "master", bridge]);
        ports.is_some_and(|ports| !ports.trim().is_empty())
    };
    if network.bridges.iter().any(used) {
        eprintln!("the network {} stays: pods of another cluster use it", network.name);
        return Ok(false);
    }
    for bridge in &network.bridges {
        if ask("ip", &["link", "show", bridge]).is_some()
            && ask("ip", &["link", "delete", bridge]).is_none()
        {
            eprintln!("cannot delete the bridge {bridge}");
        }
    }
    if network.name.is_empty() {
        return Ok(true);
    }
    for leases in network.leases.iter().filter(|path| path.exists()) {
        fs::remove_dir_all(leases).with_context(|| format!("remove {}", leases.display()))?;
    }
    Ok(true)
}

/// Removes what the CNI plugins answered for pods of this cluster: those whose network namespace lay in its directory.
/// Gives what the names of their chains have in them; there are some when the runtime did not remove the pods.
fn remove_results(dir: &Path) -> Result<BTreeSet<String>> {
    let mark = format!("{}/", dir.display());
    let mut pods = BTreeSet::new();
    for folder in ["results", "cache/results"] {
        for entry in fs::read_dir(Path::new(CNI_STATE).join(folder)).into_iter().flatten().flatten()
        {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            if text.contains(&mark) {
                let result: Value = serde_json::from_str(&text).unwrap_or_default();
                let part = |field: &str| result[field].as_str().unwrap_or_default();
                pods.insert(chain_mark(part("networkName"), part("containerId")));
                fs::remove_file(entry.path())
                    .with_context(|| format!("remove {}", entry.path().display()))?;
            }
        }
    }
    Ok(pods)
}

/// What the names of the chains of one pod end in, as far as the longest prefix leaves room for it.
///
/// upstream: containernetworking/plugins, pkg/utils/utils.go FormatChainName
fn chain_mark(network: &str, container: &str) -> String {
    let digest = Sha512::digest(format!("{network}{container}"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digest[..CHAIN_MAX - "CNI-DN-".len()].to_owned()
}

/// Removes the chains of pods and the rules that lead to them from the tables that iptables keeps.
fn remove_rules(pods: &BTreeSet<String>) {
    let is_ours = |text: &str| pods.iter().any(|mark| text.contains(mark));
    for table in tables() {
        let Some((family, name)) = table.split_once(' ') else { continue };
        if !SHARED_TABLES.contains(&name) {
            continue;
        }
        let text = ask("nft", &["-a", "list", "table", family, name]).unwrap_or_default();
        let (mut chain, mut chains, mut commands) = ("", Vec::new(), Vec::new());
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("chain ") {
                chain = rest.split(' ').next().unwrap_or("");
                chains.extend(Some(chain).filter(|chain| is_ours(chain)));
            } else if is_ours(line)
                && !is_ours(chain)
                && let Some((_, handle)) = line.rsplit_once("# handle ")
            {
                commands.push(format!("delete rule {table} {chain} handle {handle}"));
            }
        }
        commands.extend(chains.iter().map(|chain| format!("flush chain {table} {chain}")));
        commands.extend(chains.iter().map(|chain| format!("delete chain {table} {chain}")));
        if !commands.is_empty() && ask("nft", &[&commands.join("; ")]).is_none() {
            eprintln!("cannot remove the rules of pods from the nftables table {table}");
        }
    }
}

/// The tables of nftables as `family name`.
fn tables() -> BTreeSet<String> {
    let text = ask("nft", &["list", "tables"]).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("table "))
        .map(|table| table.trim().to_owned())
        .collect()
}

fn remove_tables(before: &BTreeSet<&str>) {
    for table in tables() {
        let (family, name) = table.split_once(' ').unwrap_or(("ip", &table));
        let ours =
            OUR_TABLES.iter().any(|our| name == *our || name.starts_with(&format!("{our}-")));
        let new = !before.contains(table.as_str());
        if (ours || new && SHARED_TABLES.contains(&name) && only_cni(family, name))
            && ask("nft", &["delete", "table", family, name]).is_none()
        {
            eprintln!("cannot delete the nftables table {table}");
        }
    }
}

/// Whether a table has no rules but those that the CNI plugins leave when the last pod is gone.
fn only_cni(family: &str, name: &str) -> bool {
    let text = ask("nft", &["list", "table", family, name]).unwrap_or_default();
    text.lines().map(str::trim).all(|line| {
        let frame =
            ["table ", "chain ", "type ", "}", "#"].iter().any(|start| line.starts_with(start));
        frame
            || line.is_empty()
            || line.contains("CNI-HOSTPORT")
            || line.contains("0x2000")
            || line.contains("0x00002000")
    })
}

/// The group of the cluster in every hierarchy.
fn cgroups(cluster: &Cluster) -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found = Vec::new();
    let mut hierarchies = vec![root.to_owned()];
    for entry in fs::read_dir(root).context("read /sys/fs/cgroup")? {
        hierarchies.push(entry?.path());
    }
    for hierarchy in hierarchies {
        found.extend(Some(hierarchy.join(cluster.cgroup())).filter(|path| path.is_dir()));
    }
    Ok(found)
}

/// Removes a group and those in it; one with processes is somebody else's and stays.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(path)
        && error.kind() != ErrorKind::ResourceBusy
    {
        eprintln!("cannot remove the cgroup {}: {error}", path.display());
    }
}

/// Removes a directory and those in it as far as they are empty.
fn remove_empty(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    match fs::remove_dir(path) {
        Err(error)
            if ![ErrorKind::NotFound, ErrorKind::DirectoryNotEmpty].contains(&error.kind()) =>
        {
            eprintln!("cannot remove {}: {error}", path.display());
        }
        _ => {}
    }
}
