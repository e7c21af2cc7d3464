//! LIST: whole, in pages, by label and by field.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::Bench;
use crate::load::{Meter, Round, connect, medians};
use crate::report::{Goal, Report};
use crate::wire::{Ask, Wire};
use crate::writes::must;

/// Clients that make the pods.
const MAKERS: usize = 64;
/// Lists of which the median counts.
const TIMES: usize = 7;
/// Pods are spread over this many values of a label and over this many nodes.
const SHARDS: usize = 16;

/// A pod as users write them; `fill` bytes of an annotation make it as large as wanted.
pub fn pod(number: usize, containers: usize, fill: usize) -> Value {
    let container = |name: &str, port: u16| {
        json!({
            "name": name,
            "image": format!("registry.example/team/{name}:1.2.3"),
            "args": ["--listen=:8080", "--log-level=info"],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"containerPort": port, "name": name}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": port}},
        })
    };
    let all = [container("web", 8080), container("sidecar", 9090)];
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number:06}"),
            "labels": {
                "app.kubernetes.io/name": "bench",
                "app.kubernetes.io/part-of": "list",
                "shard": (number % SHARDS).to_string(),
            },
            "annotations": {"example.com/checksum": "0123456789abcdef".repeat(2), "example.com/fill": "f".repeat(fill)},
        },
        // No scheduler answers to the name and no kubelet is the node: the pods stay as they are.
        "spec": {
            "schedulerName": "nobody",
            "nodeName": format!("no-node-{}", number % SHARDS),
            "containers": all[..containers],
        },
    })
}

/// Makes pods with these numbers in a namespace; what each cost.
pub async fn make_pods(
    bench: &Bench<'_>,
    namespace: &str,
    count: usize,
    (containers, fill): (usize, usize),
) -> Result<Round> {
    let mut wires = connect(bench, MAKERS).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let meter = Meter::start(bench.pid)?;
    try_join_all(wires.iter_mut().enumerate().map(|(maker, wire)| {
        let path = &path;
        async move {
            for number in (maker..count).step_by(MAKERS) {
                let body = pod(number, containers, fill).to_string();
                let ask = Ask {
                    method: "POST",
                    path,
                    content_type: "application/json",
                    body: body.as_bytes(),
                };
                must(wire, &ask).await?;
            }
            anyhow::Ok(())
        }
    }))
    .await
    .context("create the pods")?;
    meter.stop(count as f64)
}

/// A whole answer, counted only; its length.
pub async fn read_all(wire: &mut Wire, path: &str) -> Result<usize> {
    let mut length = 0;
    let ask = Ask { method: "GET", path, ..Ask::default() };
    let code = wire.call(&ask, |data| length += data.len()).await?;
    ensure!(code == 200, "GET {path}: {code}");
    Ok(length)
}

/// A whole answer.
pub async fn fetch(wire: &mut Wire, path: &str) -> Result<Value> {
    let mut body = Vec::new();
    let ask = Ask { method: "GET", path, ..Ask::default() };
    let code = wire.call(&ask, |data| body.extend_from_slice(data)).await?;
    ensure!(code == 200, "GET {path}: {code}");
    serde_json::from_slice(&body).with_context(|| format!("the answer of GET {path}"))
}

/// Reads a list again and again; the median of megabytes in a second, and its length.
pub async fn throughput(bench: &Bench<'_>, wire: &mut Wire, path: &str) -> Result<(Round, f64)> {
    let (mut rounds, mut megabytes) = (Vec::new(), 0.0);
    for _ in 0..TIMES {
        let meter = Meter::start(bench.pid)?;
        megabytes = read_all(wire, path).await? as f64 / 1e6;
        rounds.push(meter.stop(megabytes)?);
    }
    Ok((medians(&rounds), megabytes))
}

/// Reports the throughput of a list with what a megabyte costs.
pub fn report(out: &mut Report, name: &str, round: Round, goal: Goal) {
    out.add(name, round.rate, "MB/s", goal);
    if round.server_us > 0.0 {
        out.add("  processor of the server for each MB", round.server_us, "us", Goal::None);
    }
    out.add("  processor of the load for each MB", round.load_us, "us", Goal::None);
}

/// Lists of 10,000 pods with two containers.
pub async fn run(bench: &Bench<'_>, out: &mut Report) -> Result<()> {
    const PODS: usize = 10_000;
    let made = make_pods(bench, &bench.namespace, PODS, (2, 0)).await?;
    crate::load::report(out, "creates of pods with two containers, 64 clients", made, Goal::None);
    let mut wire = bench.target.connect().await?;
    let path = format!("/api/v1/namespaces/{}/pods", bench.namespace);
    let list = fetch(&mut wire, &path).await?;
    let items = list["items"].as_array().map_or(0, Vec::len);
    ensure!(items == PODS, "the list has {items} pods instead of {PODS}");
    let (round, megabytes) = throughput(bench, &mut wire, &path).await?;
    report(out, "LIST of 10,000 pods, one client over TLS", round, Goal::AtLeast(500.0));
    out.add("  JSON of a pod", megabytes * 1e3 / PODS as f64, "KB", Goal::None);
    selections(bench, &mut wire, &path, PODS, out).await
}

/// The same objects in pages and by selectors.
pub async fn selections(
    bench: &Bench<'_>,
    wire: &mut Wire,
    path: &str,
    pods: usize,
    out: &mut Report,
) -> Result<()> {
    let start = Instant::now();
    let (mut pages, mut token) = (0, String::new());
    loop {
        let page = fetch(wire, &format!("{path}?limit=500&continue={token}")).await?;
        pages += 1;
        match page["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => break,
        }
    }
    ensure!(pages == pods.div_ceil(500), "{pages} pages of {pods} pods");
    let name = format!("LIST of {pods} pods in pages of 500, parsed");
    out.add(&name, start.elapsed().as_secs_f64() * 1e3, "ms", Goal::None);
    for (what, query) in
        [("label", "labelSelector=shard%3D3"), ("field", "fieldSelector=spec.nodeName%3Dno-node-3")]
    {
        let path = format!("{path}?{query}");
        let list = fetch(wire, &path).await?;
        let items = list["items"].as_array().map_or(0, Vec::len);
        let want = pods.div_ceil(SHARDS);
        ensure!(items.abs_diff(want) <= 1, "{items} pods instead of {want} by {what}");
        let (mut rounds, mut times) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            let (meter, start) = (Meter::start(bench.pid)?, Instant::now());
            read_all(wire, &path).await?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            rounds.push(meter.stop(1.0)?);
        }
        let name = format!("LIST of 1/{SHARDS} of {pods} pods by {what}");
        out.add(&name, crate::report::median(&mut times), "ms", Goal::None);
    }
    Ok(())
}
