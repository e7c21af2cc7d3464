//! What needs a node: until it is ready, what it uses at rest, how fast pods start.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use longshore_client::transport::Body;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use crate::api::{Api, Connection};
use crate::calls::{Calls, covered};
use crate::process::{Server, cpu_seconds, free_port, poll, resident_mb, root};
use crate::report::{Goal, Report, median};

/// Pods whose start is measured, one after the other.
const PODS: usize = 10;
/// What they run.
const IMAGE: &str = "localhost/longshore/hello:dev";
/// How long a pod may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How long the server may settle before it counts as idle.
const SETTLE: Duration = Duration::from_secs(10);

/// How to measure.
#[derive(Clone, Copy)]
pub struct Settings {
    /// Seconds over which idle use of the processor is measured.
    pub idle: u64,
    /// Whether to show the calls of the runtime.
    pub calls: bool,
}

/// Runs everything in a cluster of its own, in a network namespace of its own, which is taken away at the end.
pub async fn run(binary: &Path, dir: &Path, settings: Settings, report: &mut Report) -> Result<()> {
    let cluster = std::path::absolute(dir.join("cluster"))?;
    let binary = std::path::absolute(binary)?;
    let directory = cluster.to_str().context("the path is not text")?;
    let program = binary.to_str().context("the path is not text")?;
    let namespace = format!("bench-{}", std::process::id());
    // The development task starts containerd with our images; the server that it starts makes way for the measured one.
    let up = ["up", "--dir", directory, "--binary", program, "--netns", &namespace, "--no-sample"];
    let measured = Box::pin(async {
        xtask(&up).await?;
        let pid: String = tokio::fs::read_to_string(cluster.join("server.pid"))
            .await
            .context("read server.pid")?;
        let stopped =
            tokio::process::Command::new("kill").args(["-TERM", pid.trim()]).status().await?;
        ensure!(stopped.success(), "cannot end the server");
        poll("the server has ended", async || {
            !Path::new(&format!("/proc/{}", pid.trim())).exists()
        })
        .await?;
        inside(&namespace, async || Box::pin(measure(&binary, &cluster, settings, report)).await)
    })
    .await;
    xtask(&["down", "--dir", directory, "--binary", program]).await?;
    measured
}

/// Measures on a thread in a network namespace: what it starts and connects to is there too.
fn inside(namespace: &str, work: impl AsyncFnOnce() -> Result<()> + Send) -> Result<()> {
    let namespace = File::open(Path::new("/run/netns").join(namespace))
        .context("open the cluster's network namespace")?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context("enter the cluster's network namespace")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        });
        thread.join().map_err(|_| anyhow!("the measuring thread panicked"))?
    })
}

async fn xtask(arguments: &[&str]) -> Result<()> {
    let mut command = tokio::process::Command::new("cargo");
    command.current_dir(root()).args(["xtask"]).args(arguments);
    ensure!(
        command.status().await.context("run cargo")?.success(),
        "cargo xtask {} failed",
        arguments[0]
    );
    Ok(())
}

async fn measure(
    binary: &Path,
    cluster: &Path,
    settings: Settings,
    report: &mut Report,
) -> Result<()> {
    let runtime = cluster.join("containerd/containerd.sock");
    let front = cluster.join("bench.sock");
    let calls = Calls::between(&front, &runtime)?;
    let socket = format!("unix://{}", front.display());
    let cni = cluster.join("cni").display().to_string();
    let kubelet = free_port()?.to_string();
    let arguments = [
        "--container-runtime-endpoint",
        &socket,
        "--cni-conf-dir",
        &cni,
        "--kubelet-port",
        &kubelet,
        // As `up` does: a disk that is nearly full does not keep the sample from running.
        "--eviction-hard",
        "memory.available<100Mi",
    ];
    let server = Server::start(binary, cluster, &arguments).await?;
    let connection = Api::new(server.kubeconfig().await?).connection()?;
    poll("the node is ready", async || node_ready(&connection).await.unwrap_or(false)).await?;
    let ready = server.started.elapsed().as_secs_f64();
    report.add("exec to node Ready, containerd running", ready, "s", Goal::AtMost(2.0));

    sample(&connection).await?;
    tokio::time::sleep(SETTLE).await;
    let (pid, before) = (server.pid()?, cpu_seconds(server.pid()?)?);
    tokio::time::sleep(Duration::from_secs(settings.idle)).await;
    let share = (cpu_seconds(pid)? - before) / settings.idle as f64 * 100.0;
    report.add(
        "idle: resident memory with the sample",
        resident_mb(pid)?,
        "MB",
        Goal::AtMost(80.0),
    );
    report.add("idle: processor with the sample", share, "% of a core", Goal::AtMost(1.0));

    // In turns, so that both see the same machine.
    let (mut starts, mut raw) = (Vec::new(), Vec::new());
    for number in 0..PODS {
        let start = start_pod(&connection, &calls, number).await?;
        if settings.calls {
            eprint!("{}", start.calls);
        }
        starts.push(start);
        // Taking it away goes on in the runtime when the API has forgotten it.
        poll("the pod's sandbox is gone", async || {
            crate::cri::is_gone(&runtime, &pod_name(number)).await.unwrap_or(false)
        })
        .await?;
        raw.push(Box::pin(crate::cri::start_pod(&runtime, IMAGE, number)).await?);
    }
    let of = |part: fn(&PodStart) -> f64| median(&mut starts.iter().map(part).collect::<Vec<_>>());
    let (whole, raw) = (of(|start| start.whole), median(&mut raw));
    report.add("pod start, create to Running", whole, "ms", Goal::None);
    report.add("  in calls of the runtime", of(|s| s.whole - s.outside), "ms", Goal::None);
    report.add("  outside of them", of(|s| s.outside), "ms", Goal::AtMost(30.0));
    report.add("    before the first call", of(|s| s.before), "ms", Goal::None);
    report.add("    after the last call", of(|s| s.after), "ms", Goal::None);
    report.add("  more than the same pod by the runtime alone", whole - raw, "ms", Goal::None);
    server.stop().await
}

async fn node_ready(connection: &Connection) -> Result<bool> {
    let nodes: Value = serde_json::from_slice(&connection.get("/api/v1/nodes").await?)?;
    let conditions =
        nodes["items"][0]["status"]["conditions"].as_array().cloned().unwrap_or_default();
    Ok(conditions
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

/// Applies the sample as kubectl would and waits until its pods are ready.
async fn sample(connection: &Connection) -> Result<()> {
    let manifest = tokio::fs::read_to_string(root().join("examples/hello.yaml"))
        .await
        .context("read the sample")?;
    for document in manifest.split("\n---\n") {
        let path = match document.contains("kind: Deployment") {
            true => "/apis/apps/v1/namespaces/default/deployments",
            false => "/api/v1/namespaces/default/services",
        };
        connection.create_yaml(path, document).await?;
    }
    poll("the sample is ready", async || {
        let answer = connection
            .get("/apis/apps/v1/namespaces/default/deployments/hello")
            .await
            .unwrap_or_default();
        serde_json::from_slice::<Value>(&answer)
            .is_ok_and(|object| object["status"]["readyReplicas"] == 3)
    })
    .await
}

/// How long the start of a pod took, in milliseconds, from the request that creates it until a watch tells that
/// its phase is Running.
struct PodStart {
    whole: f64,
    /// While no call of the runtime was on its way.
    outside: f64,
    before: f64,
    after: f64,
    /// The calls, a line each.
    calls: String,
}

fn pod_name(number: usize) -> String {
    format!("start-{number}")
}

async fn start_pod(connection: &Connection, calls: &Calls, number: usize) -> Result<PodStart> {
    let base = "/api/v1/namespaces/default/pods";
    let name = pod_name(number);
    let container = json!({"name": "hello", "image": IMAGE});
    let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    let path = format!("{base}?watch=true&fieldSelector=metadata.name={name}");
    let mut events = connection.send(Method::GET, &path, None).await?.into_body();
    let from = Instant::now();
    connection.create(base, &pod).await?;
    let running = tokio::time::timeout(START_MAX, runs(&mut events));
    running.await.context("the pod does not run")??;
    let to = Instant::now();
    let calls = calls.during(from, to);
    let milliseconds = |span: Duration| span.as_secs_f64() * 1e3;
    let first = calls.iter().map(|call| call.start).min().unwrap_or(to);
    let last = calls.iter().map(|call| call.end.min(to)).max().unwrap_or(from);
    let whole = milliseconds(to - from);
    let lines = calls.iter().map(|call| {
        let (at, took) = (milliseconds(call.start - from), milliseconds(call.end - call.start));
        format!("  at {at:6.1} ms, {took:6.1} ms: {}\n", call.name)
    });
    let path = format!("{base}/{name}");
    connection.get_any(Method::DELETE, &path).await?;
    poll("the pod is gone", async || connection.get(&path).await.is_err()).await?;
    Ok(PodStart {
        whole,
        outside: whole - covered(&calls, from, to),
        calls: lines.collect(),
        before: milliseconds(first - from),
        after: milliseconds(to - last),
    })
}

/// Reads the events of a watch until one tells of a pod that runs.
async fn runs(events: &mut Body) -> Result<()> {
    let mut text = Vec::new();
    while let Some(frame) = events.frame().await {
        let frame = frame.map_err(|error| anyhow!("the watch: {error}"))?;
        text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).context("an event")?;
            if event["object"]["status"]["phase"] == "Running" {
                return Ok(());
            }
        }
    }
    Err(anyhow!("the watch ended"))
}
