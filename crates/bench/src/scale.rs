//! A large cluster: what 150,000 pods cost in memory, lists of 100,000, and what happens when
//! everybody lists at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::Barrier;

use crate::Bench;
use crate::lists::{make_pods, read_all, report, selections, throughput};
use crate::load::Meter;
use crate::process::{Server, peak_mb, resident_mb};
use crate::report::{Goal, Report};
use crate::wire::{Ask, Part};

/// The namespaces and their pods.
const LARGE: usize = 100_000;
const STORM: usize = 25_000;
const REST: usize = 25_000;
/// Clients that list and watch at the same time.
const INFORMERS: usize = 256;
/// How long the storm may take.
const STORM_MAX: Duration = Duration::from_secs(240);
/// One container, and what fills an annotation so that a stored pod has 4 KB.
const POD: (usize, usize) = (1, 700);

/// Fills a server with pods and measures it.
pub async fn run(bench: &Bench<'_>, out: &mut Report) -> Result<()> {
    let before = bench.pid.map(resident_mb).transpose()?;
    let namespaces = [("large", LARGE), ("storm", STORM), ("rest", REST)];
    let total = LARGE + STORM + REST;
    let start = Instant::now();
    let mut made = Vec::new();
    for (name, count) in namespaces {
        let namespace = format!("{}-{name}", bench.namespace);
        bench.api.prepare(&namespace).await?;
        made.push(make_pods(bench, &namespace, count, POD).await?);
    }
    let seconds = start.elapsed().as_secs_f64();
    out.add(
        "creates of 4 KB pods until there are 150,000, 64 clients",
        total as f64 / seconds,
        "/s",
        Goal::None,
    );
    let cpu = made.iter().map(|r| r.server_us).sum::<f64>() / made.len() as f64;
    if cpu > 0.0 {
        out.add("  processor of the server for each", cpu, "us", Goal::None);
    }
    let mut wire = bench.target.connect().await?;
    let path = |name: &str| format!("/api/v1/namespaces/{}-{name}/pods", bench.namespace);
    let mut megabytes = 0.0;
    for (name, _) in namespaces {
        megabytes += read_all(&mut wire, &path(name)).await? as f64 / 1e6;
    }
    out.add("  JSON of a pod", megabytes * 1e3 / total as f64, "KB", Goal::None);
    if let (Some(pid), Some(before)) = (bench.pid, before) {
        let now = resident_mb(pid)?;
        out.add("  memory of the server", now, "MB", Goal::None);
        let ratio = (now - before) / megabytes * 1e6 / f64::from(1 << 20);
        out.add("  memory compared to their JSON", ratio, "x", Goal::AtMost(3.0));
    }
    let large = path("large");
    let (round, _) = throughput(bench, &mut wire, &large).await?;
    report(out, "LIST of 100,000 pods of 4 KB, one client over TLS", round, Goal::AtLeast(500.0));
    selections(bench, &mut wire, &large, LARGE, out).await?;
    if let Some(pid) = bench.pid {
        out.add("  memory of the server at most so far", peak_mb(pid)?, "MB", Goal::None);
    }
    storm(bench, &path("storm"), out).await
}

/// Many informers start at the same moment: each lists 100 MB and watches from there.
async fn storm(bench: &Bench<'_>, path: &str, out: &mut Report) -> Result<()> {
    let begin = Arc::new(Barrier::new(INFORMERS + 1));
    let before = bench.pid.map(resident_mb).transpose()?;
    let clients: Vec<_> = (0..INFORMERS)
        .map(|_| {
            let (target, begin, path) = (bench.target.clone(), begin.clone(), path.to_owned());
            tokio::spawn(async move {
                let mut wire = target.connect().await?;
                begin.wait().await;
                let mut head = Vec::new();
                let mut length = 0;
                let ask = Ask { method: "GET", path: &path, ..Ask::default() };
                let code = wire
                    .call(&ask, |data| {
                        length += data.len();
                        head.extend_from_slice(&data[..data.len().min(512 - head.len().min(512))]);
                    })
                    .await?;
                ensure!(code == 200, "GET {path}: {code}");
                let head = String::from_utf8_lossy(&head).into_owned();
                let mark = "\"resourceVersion\":\"";
                let at = head.find(mark).context("a list has no resourceVersion")? + mark.len();
                let revision = head[at..].split('"').next().unwrap_or_default();
                let path = format!("{path}?watch=1&resourceVersion={revision}");
                wire.send(&Ask { method: "GET", path: &path, ..Ask::default() }).await?;
                let mut watching = false;
                while !watching {
                    wire.read(|_, part| watching |= matches!(part, Part::Status(200))).await?;
                }
                anyhow::Ok(length)
            })
        })
        .collect();
    begin.wait().await;
    let (meter, start) = (Meter::start(bench.pid)?, Instant::now());
    let mut peak = before.unwrap_or(0.0);
    let mut megabytes = 0.0;
    for client in clients {
        let mut client = client;
        loop {
            tokio::select! {
                length = &mut client => {
                    megabytes += length.context("an informer")?? as f64 / 1e6;
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(200)) => {
                    ensure!(start.elapsed() < STORM_MAX, "the informers take too long");
                    if let Some(pid) = bench.pid {
                        peak = peak.max(resident_mb(pid)?);
                    }
                }
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let round = meter.stop(megabytes)?;
    out.add("256 informers list 100 MB each at once and watch", seconds, "s", Goal::None);
    report(out, "  together", round, Goal::AtLeast(500.0));
    if let Some(before) = before {
        out.add(
            "  memory of the server on top of its objects",
            peak - before,
            "MB",
            Goal::AtMost(512.0),
        );
    }
    Ok(())
}

/// How long a server takes to start again with everything that is in its data directory.
pub async fn restart(server: Server, out: &mut Report) -> Result<Server> {
    let server = server.restart().await?;
    let milliseconds = server.ready_after.as_secs_f64() * 1e3;
    out.add("exec to /readyz with 150,000 pods of 4 KB", milliseconds, "ms", Goal::None);
    out.add("  memory of the server then", resident_mb(server.pid()?)?, "MB", Goal::None);
    Ok(server)
}
