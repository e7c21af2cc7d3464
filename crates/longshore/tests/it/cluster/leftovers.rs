//! `down` leaves nothing of a cluster on the machine, also after a crash.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Cluster;

/// What a cluster has on the machine, by which it would be found afterwards.
pub struct Traces {
    dir: PathBuf,
    namespace: Option<PathBuf>,
    cgroups: Vec<PathBuf>,
    sockets: Vec<PathBuf>,
}

impl Traces {
    /// Of a cluster that runs.
    pub fn of(cluster: &Cluster) -> Self {
        let pid = std::fs::read_to_string(cluster.state().join("server.pid")).unwrap();
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap();
        let line = String::from_utf8(line).unwrap();
        let mut words = line.split('\0').skip_while(|word| *word != "--cgroup-root");
        let group = words.nth(1).unwrap().trim_start_matches('/');
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|e| e.unwrap().path());
        let groups = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|h| h.join(group));
        let shims = cluster.state().join("containerd/state/io.containerd.runtime.v2.task/k8s.io");
        let sockets = std::fs::read_dir(shims).unwrap().filter_map(|shim| {
            let address = std::fs::read_to_string(shim.unwrap().path().join("address")).ok()?;
            Some(PathBuf::from(address.trim_start_matches("unix://")))
        });
        let traces = Self {
            dir: cluster.state(),
            namespace: cluster
                .machine
                .is_none()
                .then(|| Path::new("/run/netns").join(cluster.netns())),
            cgroups: groups.collect(),
            sockets: sockets.collect(),
        };
        let found = traces.found();
        let kinds = ["process", "mount", "file", "cgroup", "socket"];
        let unseen = kinds.iter().find(|kind| !found.iter().any(|f| f.starts_with(**kind)));
        assert!(unseen.is_none(), "a running cluster has a {unseen:?}, among {found:?}");
        traces
    }

    /// Those that are there.
    fn found(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let dir = self.dir.display().to_string();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&dir) {
                found.insert(format!("process {line}"));
            }
        }
        for line in std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            if line.contains(&dir) {
                found.insert(format!("mount {line}"));
            }
        }
        let mut exists = |kind: &str, path: &Path| {
            if path.symlink_metadata().is_ok() {
                found.insert(format!("{kind} {}", path.display()));
            }
        };
        exists("file", &self.dir);
        self.cgroups.iter().for_each(|path| exists("cgroup", path));
        self.sockets.iter().for_each(|path| exists("socket", path));
        self.namespace.iter().for_each(|path| exists("namespace", path));
        for entry in std::fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten() {
            if std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(&dir)) {
                found.insert(format!("file {}", entry.path().display()));
            }
        }
        found
    }

    /// Fails when anything is there.
    pub fn are_gone(&self) {
        assert_eq!(self.found(), BTreeSet::new());
    }
}

/// What the network of a cluster looks like.
fn network(cluster: &Cluster) -> String {
    let ask = |program: &'static str, arguments: &'static [&str]| {
        let ask = move || Command::new(program).args(arguments).output().unwrap();
        String::from_utf8(cluster.inside(ask).stdout).unwrap()
    };
    [
        ask("ip", &["-o", "link"]),
        ask("ip", &["-o", "-4", "addr"]),
        ask("ip", &["route", "show", "table", "all", "type", "unicast"]),
        ask("ip", &["rule"]),
        ask("nft", &["list", "ruleset"]),
    ]
    .join("\n")
}

/// Ends the shims of a cluster in a way that leaves them no time to tidy up.
fn kill_shims(cluster: &Cluster) {
    let socket = cluster.state().join("containerd").display().to_string();
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.contains("containerd-shim") && line.contains(&socket) {
            let pid = entry.file_name();
            assert!(Command::new("kill").arg("-KILL").arg(pid).status().unwrap().success());
            killed += 1;
        }
    }
    assert!(killed > 0, "a running pod has a shim");
}

/// What happens to a cluster before it is taken away.
#[derive(Debug, PartialEq)]
enum End {
    /// Nothing: everything runs and can be told to end.
    Told,
    /// All of its processes are killed.
    Crash,
    /// The runtime knows nothing of its pods any more, either.
    Loss,
}

#[test]
fn down_leaves_nothing() {
    super::build();
    let cluster = Cluster::on_machine();
    let before = network(&cluster);
    for end in [End::Told, End::Crash, End::Loss] {
        cluster.up();
        let space = cluster.space("left");
        space.toolbox("one", "    ports: [{containerPort: 8080, hostPort: 18090}]\n");
        space.kubectl(&["expose", "pod", "one", "--type=NodePort", "--port=8080"]);
        space.eventually(
            &["exec", "one", "--", "wget", "-qO-", "http://one.left:8080/hostname"],
            |name| name == "one",
        );
        assert_ne!(network(&cluster), before);
        let traces = Traces::of(&cluster);
        if end != End::Told {
            cluster.signal("containerd", "-KILL");
            cluster.signal("server", "-KILL");
            kill_shims(&cluster);
        }
        if end == End::Loss {
            let root = cluster.state().join("containerd/root");
            std::fs::rename(&root, root.with_extension("lost")).unwrap();
        }
        cluster.down();
        traces.are_gone();
        assert_eq!(network(&cluster), before, "after {end:?}");
    }
}
