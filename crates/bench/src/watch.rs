//! Fan-out: many watchers, and how long each event takes to reach each of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::sync::Barrier;

use crate::Bench;
use crate::lists::{fetch, pod};
use crate::load::Meter;
use crate::process::resident_mb;
use crate::report::{Goal, Report, quantile};
use crate::wire::{Ask, Part, Target, Wire};
use crate::writes::must;

/// Watches on one connection: fewer than servers allow.
const STREAMS: usize = 50;
/// Clients that cause events.
const WRITERS: usize = 8;
/// One watcher in this many notes when each event came; the others only count.
const TIMED: usize = 10;
/// How long watchers may wait for all events.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// What stands before an event's number.
const MARK: &[u8] = b"\"name\":\"event-";

/// Watches over one connection, read until each has had all events.
struct Group {
    path: String,
    streams: usize,
    events: usize,
}

/// When events came to the watchers that are timed, by number of the event, and when all had come.
struct Seen {
    times: Vec<(usize, Instant)>,
    last: Instant,
}

impl Group {
    async fn run(self, target: Target, begun: Arc<Barrier>) -> Result<Seen> {
        let mut wire = target.connect().await?;
        for _ in 0..self.streams {
            wire.send(&Ask { method: "GET", path: &self.path, ..Ask::default() }).await?;
        }
        // Streams have the odd numbers.
        let mut counts = vec![0; 2 * self.streams];
        let mut rests: Vec<Vec<u8>> = vec![Vec::new(); 2 * self.streams];
        let (mut answered, mut left) = (0, self.streams);
        let mut times = Vec::new();
        let mut refused = None;
        let mut waited = false;
        while left > 0 {
            let events = self.events;
            wire.read(|stream, part| {
                let index = stream as usize - 1;
                match part {
                    Part::Status(200) => answered += 1,
                    Part::Status(code) => refused = Some(code),
                    Part::End => refused = refused.or(Some(0)),
                    Part::Data(data) => {
                        counts[index] += data.iter().filter(|byte| **byte == b'\n').count();
                        left -= usize::from(counts[index] == events && data.ends_with(b"\n"));
                        if (index / 2).is_multiple_of(TIMED) {
                            note(&mut rests[index], data, &mut times);
                        }
                    }
                }
            })
            .await?;
            ensure!(refused.is_none(), "a watch ended early: {refused:?}");
            if answered == self.streams && !waited {
                waited = true;
                begun.wait().await;
            }
        }
        Ok(Seen { times, last: Instant::now() })
    }
}

/// Notes the events of a timed watcher.
fn note(rest: &mut Vec<u8>, data: &[u8], times: &mut Vec<(usize, Instant)>) {
    let now = Instant::now();
    rest.extend_from_slice(data);
    let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    for line in rest[..whole].split(|byte| *byte == b'\n') {
        // The mark is near the beginning: metadata comes before the data.
        let at = line.windows(MARK.len()).position(|window| window == MARK);
        let digits = at.and_then(|at| line.get(at + MARK.len()..at + MARK.len() + 5));
        let number = digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| d.parse().ok());
        times.extend(number.map(|number| (number, now)));
    }
    rest.drain(..whole);
}

/// Causes events with these numbers, at most so many in a second; when each was asked for.
async fn cause(
    bench: &Bench<'_>,
    round: &str,
    events: usize,
    per_second: f64,
) -> Result<Vec<Instant>> {
    let path = format!("/api/v1/namespaces/{}/configmaps", bench.namespace);
    let mut wires = crate::load::connect(bench, WRITERS).await?;
    let start = Instant::now();
    let sent = futures_util::future::try_join_all(wires.iter_mut().enumerate().map(|(writer, wire)| {
        let path = &path;
        async move {
            let mut sent = Vec::new();
            for number in (writer..events).step_by(WRITERS) {
                let due = start + Duration::from_secs_f64(number as f64 / per_second);
                tokio::time::sleep_until(due.into()).await;
                let metadata = json!({"name": format!("event-{number:05}-{round}")});
                let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}});
                sent.push((number, Instant::now()));
                let body = object.to_string();
                let ask = Ask { method: "POST", path, content_type: "application/json", body: body.as_bytes() };
                must(wire, &ask).await?;
            }
            anyhow::Ok(sent)
        }
    }))
    .await?;
    let mut times = vec![start; events];
    for (number, at) in sent.into_iter().flatten() {
        times[number] = at;
    }
    Ok(times)
}

struct Plan {
    watchers: usize,
    events: usize,
    /// Events in a second; infinite for as fast as they go.
    per_second: f64,
}

struct Outcome {
    /// Until every watcher had everything, in seconds.
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_us: f64,
    load_us: f64,
    /// Memory of the server for one open watch, in kilobytes.
    kilobytes: Option<f64>,
}

async fn fan_out(bench: &Bench<'_>, round: &str, plan: Plan) -> Result<Outcome> {
    let Plan { watchers, events, per_second } = plan;
    let base = format!("/api/v1/namespaces/{}/configmaps", bench.namespace);
    let mut wire = bench.target.connect().await?;
    let list = fetch(&mut wire, &format!("{base}?limit=1")).await?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("no resourceVersion")?;
    let groups = watchers.div_ceil(STREAMS);
    let begun = Arc::new(Barrier::new(groups + 1));
    let before = bench.pid.map(resident_mb).transpose()?;
    let path = format!("{base}?watch=1&resourceVersion={revision}");
    let running: Vec<_> = (0..groups)
        .map(|number| {
            let streams = STREAMS.min(watchers - number * STREAMS);
            let group = Group { path: path.clone(), streams, events };
            tokio::spawn(tokio::time::timeout(
                WAIT_MAX,
                group.run(bench.target.clone(), begun.clone()),
            ))
        })
        .collect();
    let all_begun = tokio::time::timeout(WAIT_MAX, begun.wait()).await;
    all_begun.context("not every watch was answered")?;
    let after = bench.pid.map(resident_mb).transpose()?;
    let meter = Meter::start(bench.pid)?;
    let start = Instant::now();
    let sent = cause(bench, round, events, per_second).await?;
    let (mut delays, mut last) = (Vec::new(), start);
    for group in running {
        let seen = group.await.context("a group of watchers")?.context("events are missing")??;
        delays.extend(seen.times.iter().map(|(n, at)| (*at - sent[*n]).as_secs_f64() * 1e3));
        last = last.max(seen.last);
    }
    let cost = meter.stop((watchers * events) as f64)?;
    Ok(Outcome {
        seconds: (last - start).as_secs_f64(),
        p50_ms: quantile(&mut delays, 0.5),
        p99_ms: quantile(&mut delays, 0.99),
        server_us: cost.server_us,
        load_us: cost.load_us,
        kilobytes: before
            .zip(after)
            .map(|(before, after)| (after - before) * 1e3 / watchers as f64),
    })
}

/// Watchers of one namespace, all interested in everything.
pub async fn run(bench: &Bench<'_>, out: &mut Report) -> Result<()> {
    let plan = Plan { watchers: 1000, events: 1000, per_second: f64::INFINITY };
    let full = fan_out(bench, "full", plan).await?;
    out.add("1,000 watchers x 1,000 events, total", full.seconds, "s", Goal::None);
    let rate = 1e6 / full.seconds;
    out.add("  delivered events", rate, "/s", Goal::AtLeast(500_000.0));
    out.add(
        "  p99 from request of the write to receipt of the event",
        full.p99_ms,
        "ms",
        Goal::None,
    );
    cost(out, &full);
    let plan = Plan { watchers: 1000, events: 200, per_second: 50.0 };
    let paced = fan_out(bench, "paced", plan).await?;
    out.add("1,000 watchers, 50 events/s: median delay", paced.p50_ms, "ms", Goal::None);
    out.add("  p99", paced.p99_ms, "ms", Goal::None);
    cost(out, &paced);
    Ok(())
}

fn cost(out: &mut Report, outcome: &Outcome) {
    if outcome.server_us > 0.0 {
        out.add("  processor of the server for each", outcome.server_us, "us", Goal::None);
    }
    out.add("  processor of the load for each", outcome.load_us, "us", Goal::None);
    crate::load::bound(out, outcome.server_us, outcome.load_us);
}

/// Ten times as many watchers, and what an open watch costs.
pub async fn many(bench: &Bench<'_>, out: &mut Report) -> Result<()> {
    let plan = Plan { watchers: 10_000, events: 200, per_second: f64::INFINITY };
    let many = fan_out(bench, "many", plan).await?;
    out.add("10,000 watchers x 200 events, total", many.seconds, "s", Goal::None);
    out.add("  delivered events", 2e6 / many.seconds, "/s", Goal::AtLeast(500_000.0));
    cost(out, &many);
    if let Some(kilobytes) = many.kilobytes {
        out.add("  memory of the server for each open watch", kilobytes, "KB", Goal::None);
    }
    Ok(())
}

/// Watchers of which each event concerns one: every node watches its pods.
pub async fn nodes(bench: &Bench<'_>, out: &mut Report) -> Result<()> {
    const NODES: usize = 5000;
    const PODS: usize = 3000;
    let base = format!("/api/v1/namespaces/{}/pods", bench.namespace);
    let mut costs = Vec::new();
    let mut idle: Vec<Wire> = Vec::new();
    for with_nodes in [false, true] {
        if with_nodes {
            let mut wires = crate::load::connect(bench, NODES / STREAMS).await?;
            let meter = Meter::start(bench.pid)?;
            for (connection, wire) in wires.iter_mut().enumerate() {
                for stream in 0..STREAMS {
                    let node = connection * STREAMS + stream;
                    let path = format!(
                        "/api/v1/pods?watch=1&resourceVersion=0&fieldSelector=spec.nodeName%3Dwatched-{node}"
                    );
                    wire.send(&Ask { method: "GET", path: &path, ..Ask::default() }).await?;
                }
                let mut answered = 0;
                while answered < STREAMS {
                    wire.read(|_, part| answered += usize::from(matches!(part, Part::Status(200))))
                        .await?;
                }
            }
            let opened = meter.stop(NODES as f64)?;
            idle.extend(wires);
            out.add("5,000 nodes open a watch of their own pods", opened.rate, "/s", Goal::None);
            if opened.server_us > 0.0 {
                let what = "  processor of the server for each";
                out.add(what, opened.server_us, "us", Goal::None);
            }
        }
        let mut wires = crate::load::connect(bench, WRITERS).await?;
        let meter = Meter::start(bench.pid)?;
        futures_util::future::try_join_all(wires.iter_mut().enumerate().map(|(writer, wire)| {
            let base = &base;
            async move {
                for number in (writer..PODS).step_by(WRITERS) {
                    let mut object = pod(number, 2, 0);
                    object["metadata"]["name"] = format!("nodes-{with_nodes}-{number}").into();
                    object["spec"]["nodeName"] = format!("watched-{number}").into();
                    let body = object.to_string();
                    let ask = Ask {
                        method: "POST",
                        path: base,
                        content_type: "application/json",
                        body: body.as_bytes(),
                    };
                    must(wire, &ask).await?;
                }
                anyhow::Ok(())
            }
        }))
        .await?;
        costs.push(meter.stop(PODS as f64)?);
    }
    let (without, with) = (costs[0], costs[1]);
    out.add("creates of pods, no watcher", without.rate, "/s", Goal::None);
    out.add("  with 5,000 nodes that watch their own pods", with.rate, "/s", Goal::None);
    if without.server_us > 0.0 {
        let ratio = with.server_us / without.server_us;
        out.add("  processor of the server, compared", ratio, "x", Goal::AtMost(2.0));
    }
    Ok(())
}
