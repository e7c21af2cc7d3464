//! What the runtime has of a pod.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use longshore_cri::v1::*;
use longshore_cri::{Error, Runtime};

/// The labels by which the runtime's objects are found again.
pub(crate) mod labels {
    pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
    pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
    pub(crate) const CONTAINER: &str = "io.kubernetes.container.name";
    pub(crate) const HASH: &str = "io.kubernetes.container.hash";
    pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

/// A container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) state: State,
    pub(crate) sandbox: String,
    pub(crate) hash: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) created: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) log_path: String,
}

/// A sandbox.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    pub(crate) created: i64,
    pub(crate) ips: Vec<String>,
}

/// What the runtime has of one pod: newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
}

impl Observed {
    /// The newest container of a name.
    pub(crate) fn newest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The one before the newest.
    pub(crate) fn previous(&self, name: &str) -> Option<&Container> {
        self.containers.iter().filter(|c| c.name == name).nth(1)
    }

    /// The sandbox that is in use.
    pub(crate) fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// Newest first.
    fn sort(&mut self) {
        self.sandboxes.sort_by_key(|s| std::cmp::Reverse(s.created));
        self.containers.sort_by_key(|c| std::cmp::Reverse((c.created, c.attempt)));
    }
}

fn time(nanos: i64) -> Option<Timestamp> {
    if nanos <= 0 { None } else { Timestamp::from_nanosecond(i128::from(nanos)).ok() }
}

/// Ended containers do not change any more: what is known of them.
pub(crate) type Known = HashMap<String, Container>;

/// Looks at everything that the runtime has of a pod.
pub(crate) async fn observe(
    runtime: &Runtime,
    uid: &str,
    known: &mut Known,
) -> Result<Observed, Error> {
    let selector = HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let filter = PodSandboxFilter { label_selector: selector.clone(), ..Default::default() };
    let sandboxes = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) });
    let filter = ContainerFilter { label_selector: selector, ..Default::default() };
    let containers = runtime.list_containers(ListContainersRequest { filter: Some(filter) });
    let (sandboxes, containers) = tokio::try_join!(sandboxes, containers)?;
    let mut observed = Observed::default();
    let looks = sandboxes.items.into_iter().map(|sandbox| look_at_sandbox(runtime, sandbox));
    observed.sandboxes = futures_util::future::try_join_all(looks).await?;
    for found in containers.containers {
        let (id, sandbox) = (&found.id, &found.pod_sandbox_id);
        if let Some(container) = look_at_container(runtime, id, sandbox, known).await? {
            observed.containers.push(container);
        }
    }
    observed.sort();
    known.retain(|id, _| observed.containers.iter().any(|c| c.id == *id));
    Ok(observed)
}

/// Looks at a sandbox that was just made: all there is of its pod.
pub(crate) async fn first_sandbox(runtime: &Runtime, id: &str) -> Result<Observed, Error> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), ..Default::default() };
    let status = runtime.pod_sandbox_status(request).await?.status.unwrap_or_default();
    let network = status.network.unwrap_or_default();
    let sandbox = Sandbox {
        id: status.id,
        attempt: status.metadata.map_or(0, |m| m.attempt),
        ready: status.state == PodSandboxState::SandboxReady as i32,
        created: status.created_at,
        ips: ips(network),
    };
    Ok(Observed { sandboxes: vec![sandbox], containers: Vec::new() })
}

/// Looks at containers that were just made, beside what was seen before.
pub(crate) async fn new_containers(
    runtime: &Runtime,
    mut seen: Observed,
    ids: &[String],
    known: &mut Known,
) -> Result<Observed, Error> {
    let sandbox = seen.sandbox().map(|s| s.id.clone()).unwrap_or_default();
    for id in ids {
        if let Some(container) = look_at_container(runtime, id, &sandbox, known).await? {
            seen.containers.push(container);
        }
    }
    seen.sort();
    Ok(seen)
}

fn ips(network: PodSandboxNetworkStatus) -> Vec<String> {
    let mut ips = vec![network.ip];
    ips.extend(network.additional_ips.into_iter().map(|ip| ip.ip));
    ips.retain(|ip| !ip.is_empty());
    ips
}

async fn look_at_sandbox(runtime: &Runtime, found: PodSandbox) -> Result<Sandbox, Error> {
    let mut sandbox = Sandbox {
        attempt: found.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: found.state == PodSandboxState::SandboxReady as i32,
        created: found.created_at,
        ips: Vec::new(),
        id: found.id,
    };
    if sandbox.ready {
        let request =
            PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), ..Default::default() };
        match runtime.pod_sandbox_status(request).await {
            Ok(answer) => {
                sandbox.ips = ips(answer.status.and_then(|s| s.network).unwrap_or_default());
            }
            Err(error) if error.is_not_found() => sandbox.ready = false,
            Err(error) => return Err(error),
        }
    }
    Ok(sandbox)
}

/// How often the status of a container that was just killed is read again, and the pause before each.
const KILLED_LOOKS: usize = 10;
const KILLED_PAUSE: Duration = Duration::from_millis(50);
/// How long ago that is at most.
const KILLED_FRESH: Duration = Duration::from_secs(10);
/// What a container ends with that is killed.
const KILLED: i32 = 137;
/// Why, when it had used up its memory.
const OUT_OF_MEMORY: &str = "OOMKilled";

/// The status of a container. That it was killed and that its memory was used up are two events to the runtime, which
/// may come in any order: a container that was killed a moment ago is looked at again.
///
/// upstream: containerd, pkg/cri/server/events.go (TaskExit, TaskOOM)
async fn settled_status(runtime: &Runtime, id: &str) -> Result<Option<ContainerStatus>, Error> {
    let mut looks = 0;
    loop {
        let request = ContainerStatusRequest { container_id: id.to_owned(), ..Default::default() };
        let status = match runtime.container_status(request).await {
            Ok(answer) => answer.status.unwrap_or_default(),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let age = time(status.finished_at).map(|at| Timestamp::now().duration_since(at));
        let fresh = age.is_some_and(|age| age.unsigned_abs() < KILLED_FRESH);
        let settled = status.exit_code != KILLED || status.reason == OUT_OF_MEMORY;
        if settled || !fresh || looks == KILLED_LOOKS {
            return Ok(Some(status));
        }
        looks += 1;
        tokio::time::sleep(KILLED_PAUSE).await;
    }
}

async fn look_at_container(
    runtime: &Runtime,
    id: &str,
    sandbox: &str,
    known: &mut Known,
) -> Result<Option<Container>, Error> {
    if let Some(container) = known.get(id) {
        return Ok(Some(container.clone()));
    }
    let Some(status) = settled_status(runtime, id).await? else { return Ok(None) };
    let state = match ContainerState::try_from(status.state) {
        Ok(ContainerState::ContainerCreated) => State::Created,
        Ok(ContainerState::ContainerRunning) => State::Running,
        Ok(ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    };
    let metadata = status.metadata.unwrap_or_default();
    let mut container = Container {
        name: metadata.name,
        attempt: metadata.attempt,
        state,
        sandbox: sandbox.to_owned(),
        hash: status.annotations.get(labels::HASH).cloned().unwrap_or_default(),
        image: status.image.map(|i| i.image).unwrap_or_default(),
        image_id: status.image_ref,
        created: time(status.created_at).unwrap_or_default(),
        started: time(status.started_at),
        finished: time(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        log_path: status.log_path,
        id: id.to_owned(),
    };
    if state == State::Exited {
        let mounts = status.mounts;
        container.message = termination_message(&status.annotations, &mounts, &container);
        known.insert(container.id.clone(), container.clone());
    }
    Ok(Some(container))
}

/// Most bytes of a termination message.
///
/// upstream: pkg/kubelet/container/runtime.go MaxContainerTerminationMessageLength
const MESSAGE_MAX: usize = 4096;
/// Most bytes of a log's end that stand for a message.
const LOG_TAIL_MAX: usize = 2048;
/// Most lines of a log's end that stand for a message.
const LOG_LINES_MAX: usize = 80;
/// Bytes of a log file that are read for that: with what stands before each line.
const LOG_READ_MAX: u64 = 128 * 1024;

/// What an ended container left behind for people: its message file, or the end of its log.
fn termination_message(
    annotations: &HashMap<String, String>,
    mounts: &[Mount],
    container: &Container,
) -> String {
    let path = annotations.get(labels::MESSAGE_PATH).map_or("", String::as_str);
    let file = mounts.iter().find(|m| m.container_path == path && !path.is_empty());
    let text = file.and_then(|mount| std::fs::read(&mount.host_path).ok()).unwrap_or_default();
    let from_logs =
        annotations.get(labels::MESSAGE_POLICY).is_some_and(|p| p == "FallbackToLogsOnError");
    if text.is_empty() && from_logs && container.exit_code != 0 {
        return log_end(Path::new(&container.log_path)).unwrap_or_default();
    }
    let text = String::from_utf8_lossy(&text[..text.len().min(MESSAGE_MAX)]).into_owned();
    if text.is_empty() { container.message.clone() } else { text }
}

/// The last lines of a log.
///
/// upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go readLastStringFromContainerLogs
fn log_end(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(LOG_READ_MAX);
    file.seek(SeekFrom::Start(skipped))?;
    let mut log = Vec::new();
    file.take(LOG_READ_MAX).read_to_end(&mut log)?;
    let lines = log.split(|b| *b == b'\n').skip(usize::from(skipped > 0));
    let lines: Vec<_> = lines.filter_map(longshore_cri::logs::parse).collect();
    let mut text = Vec::new();
    for line in &lines[lines.len().saturating_sub(LOG_LINES_MAX)..] {
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let start = text.len().saturating_sub(LOG_TAIL_MAX);
    Ok(String::from_utf8_lossy(&text[start..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_told() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("0.log");
        let end = |lines: &[String]| {
            std::fs::write(&path, lines.concat()).expect("writes");
            log_end(&path).expect("reads")
        };
        let line = |tag: &str, text: &str| format!("2026-01-01T00:00:00Z stdout {tag} {text}\n");
        assert_eq!(end(&[line("F", "a"), line("P", "b"), line("P", "c")]), "a\nbc");
        let many: Vec<String> = (0..100).map(|n| line("F", &n.to_string())).collect();
        assert!(end(&many).starts_with("20\n21\n"));
        let long: Vec<String> = (0..3).map(|_| line("F", &"x".repeat(100_000))).collect();
        let seen = end(&long);
        assert_eq!((seen.len(), seen.ends_with("xx\n")), (LOG_TAIL_MAX, true));
    }
}
