//! Fan-out: many watchers on one namespace, and how long each event takes to reach each of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::api::{Api, Connection};
use crate::report::{Goal, Report, quantile};

/// Watchers, and over how many connections (a server limits the streams of one).
const WATCHERS: usize = 1000;
const CONNECTIONS: usize = 20;
/// Events that each of them gets, and how many clients cause them.
const EVENTS: usize = 1000;
const WRITERS: usize = 8;
/// How long a watcher may wait for all events.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// What stands before an event's number.
const MARK: &[u8] = b"\"name\":\"event-";

/// Starts the watchers, causes the events and adds up.
pub async fn run(api: &Api, namespace: &str, report: &mut Report) -> Result<()> {
    let base = format!("/api/v1/namespaces/{namespace}/configmaps");
    let connections: Vec<_> =
        (0..CONNECTIONS).map(|_| api.connection().map(Arc::new)).collect::<Result<_>>()?;
    let list: Value =
        serde_json::from_slice(&connections[0].get(&format!("{base}?limit=1")).await?)?;
    let revision = list["metadata"]["resourceVersion"]
        .as_str()
        .context("a list has no resourceVersion")?
        .to_owned();
    let path = format!("{base}?watch=1&resourceVersion={revision}");
    let begun = Arc::new(Barrier::new(WATCHERS + 1));
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|number| {
            let (connection, path, begun) =
                (connections[number % CONNECTIONS].clone(), path.clone(), begun.clone());
            tokio::spawn(async move {
                tokio::time::timeout(WAIT_MAX, watch(&connection, &path, &begun)).await?
            })
        })
        .collect();
    tokio::time::timeout(WAIT_MAX, begun.wait()).await.context("not every watch was answered")?;

    let start = Instant::now();
    let writers: Vec<_> = (0..WRITERS).map(|_| api.connection()).collect::<Result<_>>()?;
    let written = try_join_all(writers.iter().enumerate().map(|(writer, connection)| {
        let base = &base;
        async move {
            let mut sent = Vec::new();
            for number in (writer..EVENTS).step_by(WRITERS) {
                let metadata = json!({"name": format!("event-{number:04}")});
                let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}});
                sent.push((number, Instant::now()));
                connection.create(base, &object).await?;
            }
            anyhow::Ok(sent)
        }
    }))
    .await?;
    let mut sent = vec![start; EVENTS];
    for (number, at) in written.into_iter().flatten() {
        sent[number] = at;
    }
    let mut delays = Vec::with_capacity(WATCHERS * EVENTS);
    let mut last = start;
    for watcher in watchers {
        for (number, at) in watcher.await.context("a watcher")?? {
            delays.push((at - sent[number]).as_secs_f64() * 1e3);
            last = last.max(at);
        }
    }
    report.add(
        "1,000 watchers x 1,000 events, total",
        (last - start).as_secs_f64(),
        "s",
        Goal::None,
    );
    report.add(
        "  p99 from request of the write to receipt of the event",
        quantile(&mut delays, 0.99),
        "ms",
        Goal::None,
    );
    Ok(())
}

/// Reads events until all have come; when each came.
async fn watch(
    connection: &Connection,
    path: &str,
    begun: &Barrier,
) -> Result<Vec<(usize, Instant)>> {
    let answer = connection.send(Method::GET, path, None).await?;
    ensure!(answer.status().is_success(), "GET {path}: {}", answer.status());
    begun.wait().await;
    let mut body = answer.into_body();
    let mut seen = Vec::with_capacity(EVENTS);
    let mut rest: Vec<u8> = Vec::new();
    while seen.len() < EVENTS {
        let frame = body.frame().await.context("the watch ended early")?;
        let Ok(data) =
            frame.map_err(|error| anyhow::anyhow!("the watch broke: {error}"))?.into_data()
        else {
            continue;
        };
        let now = Instant::now();
        rest.extend_from_slice(&data);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in rest[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // The mark is near the beginning: metadata comes before the data.
            let at = line
                .windows(MARK.len())
                .position(|window| window == MARK)
                .context("an event without a name")?;
            let digits = line.get(at + MARK.len()..at + MARK.len() + 4).context("a short event")?;
            seen.push((std::str::from_utf8(digits)?.parse()?, now));
        }
        rest.drain(..whole);
    }
    Ok(seen)
}
