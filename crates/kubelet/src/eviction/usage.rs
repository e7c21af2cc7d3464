//! What pods use of the node.
//!
//! upstream: pkg/kubelet/stats/cri_stats_provider.go, pkg/kubelet/eviction/helpers.go

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use longshore_api::Object;
use longshore_cri::v1::ListContainerStatsRequest;
use serde_json::Value;

use super::rank::{Usage, disk_limit, over_limit};
use super::{limit_of, volumes};
use crate::observe::labels;
use crate::{Shared, sandbox};

/// Files that one count looks at, at most.
const FILES_MAX: i64 = 1_000_000;

/// What lies in a folder.
#[derive(Clone, Copy, Debug, Default)]
struct Files {
    bytes: i64,
    count: i64,
}

/// All files below a folder, on its own file system.
fn below(dir: &Path) -> Files {
    let mut files = Files::default();
    let Ok(top) = std::fs::symlink_metadata(dir) else { return files };
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            let Ok(data) = entry.metadata() else { continue };
            if files.count == FILES_MAX {
                return files;
            }
            if data.dev() != top.dev() {
                continue;
            }
            files.count += 1;
            let blocks = i64::try_from(data.blocks()).unwrap_or(i64::MAX);
            files.bytes = files.bytes.saturating_add(blocks.saturating_mul(512));
            if data.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    files
}

/// Does what may take long where it holds up nobody.
async fn aside<T: Send + Default + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// What each pod uses, by uid.
pub(super) async fn of_pods(shared: &Shared, pods: &[Arc<Object>]) -> HashMap<String, Usage> {
    let mut all: HashMap<String, Usage> = HashMap::new();
    for pod in pods {
        let (volumes, logs) = (volumes::pod_dir(shared, pod), sandbox::logs_dir(shared, pod));
        let of = pod.clone();
        let usage = aside(move || {
            let files = below(&volumes);
            let (mut written, mut inodes) = (BTreeMap::new(), files.count);
            let lists = [["spec", "containers"], ["spec", "initContainers"]];
            for spec in lists.iter().flat_map(|path| of.list(path)) {
                let name = spec["name"].as_str().unwrap_or("");
                let log = below(&logs.join(name));
                written.insert(name.to_owned(), log.bytes);
                inodes += log.count;
            }
            Usage { written, files: files.bytes, inodes, ..Usage::default() }
        });
        all.insert(pod.uid().to_owned(), usage.await);
    }
    let stats =
        match shared.runtime.list_container_stats(ListContainerStatsRequest::default()).await {
            Ok(answer) => answer.stats,
            Err(error) => {
                tracing::warn!(%error, "the runtime does not tell what containers use");
                return all;
            }
        };
    for container in stats {
        let Some(attributes) = container.attributes else { continue };
        let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
        let Some(usage) = all.get_mut(&label(labels::POD_UID)) else { continue };
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let name = label(labels::CONTAINER);
        if let Some(memory) = container.memory.and_then(|memory| memory.working_set_bytes) {
            usage.memory.insert(name.clone(), number(memory.value));
        }
        let Some(layer) = container.writable_layer else { continue };
        let written = usage.written.entry(name).or_default();
        *written = written.saturating_add(layer.used_bytes.map_or(0, |used| number(used.value)));
        let inodes = layer.inodes_used.map_or(0, |used| number(used.value));
        usage.inodes = usage.inodes.saturating_add(inodes);
    }
    all
}

/// Counts the processes of pods: only asked for when there are too many.
pub(super) async fn count_processes(all: &mut HashMap<String, Usage>) {
    let uids: Vec<String> = all.keys().cloned().collect();
    let counts = aside(move || {
        let marks: Vec<String> = uids.iter().map(|uid| format!("pod{uid}")).collect();
        let counts = processes(&marks);
        uids.into_iter().zip(counts).collect::<Vec<_>>()
    });
    for (uid, count) in counts.await {
        all.entry(uid).or_default().processes = count;
    }
}

/// The processes in control groups whose names have each of these in them.
fn processes(marks: &[String]) -> Vec<i64> {
    let mut counts = vec![0; marks.len()];
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(is_process) {
            continue;
        }
        // A process may end meanwhile.
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        for (mark, count) in marks.iter().zip(&mut counts) {
            *count += i64::from(groups.contains(mark.as_str()));
        }
    }
    counts
}

/// A pod that keeps more on the node's disk than it may, and what to say about it.
pub(super) async fn overfull(
    shared: &Shared,
    pods: &[Arc<Object>],
) -> Option<(Arc<Object>, String)> {
    for pod in pods {
        for volume in pod.list(&["spec", "volumes"]) {
            let Some(limit) = limit_of(volume) else { continue };
            let dir = volumes::volume_dir(shared, pod, volume);
            if aside(move || below(&dir)).await.bytes > limit {
                return Some((pod.clone(), told(volume)));
            }
        }
    }
    let limited: Vec<_> = pods.iter().filter(|pod| disk_limit(pod).is_some()).cloned().collect();
    if limited.is_empty() {
        return None;
    }
    let used = of_pods(shared, &limited).await;
    limited.into_iter().find_map(|pod| {
        let why = over_limit(&pod, used.get(pod.uid())?)?;
        Some((pod, why))
    })
}

fn told(volume: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (name, limit) = (text(&volume["name"]), text(&volume["emptyDir"]["sizeLimit"]));
    format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{limit}\". ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_wherever_they_lie() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(below(&dir.path().join("none")).bytes, 0);
        let deep = dir.path().join("a/b");
        std::fs::create_dir_all(&deep).expect("folders");
        std::fs::write(deep.join("file"), vec![1_u8; 200_000]).expect("a file");
        std::os::unix::fs::symlink("/", deep.join("all")).expect("a link");
        let files = below(dir.path());
        assert!((200_000..400_000).contains(&files.bytes) && files.count == 4, "{files:?}");
    }

    #[test]
    fn own_processes_are_found() {
        let group = std::fs::read_to_string("/proc/self/cgroup").expect("a group");
        let path = group.lines().next().and_then(|line| line.rsplit(':').next());
        let marks = ["no group has this name", path.expect("a path")].map(str::to_owned);
        let [none, own] = processes(&marks)[..] else { panic!("two counts") };
        assert!(none == 0 && own > 0);
    }
}
