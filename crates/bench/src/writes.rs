//! Creates, updates, applies and reads of single objects.

use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::etcd::{Client, Etcd};
use crate::load::{ROUNDS, connect, medians, report, round};
use crate::report::{Goal, Report};
use crate::wire::{Ask, Wire};

/// Size of an object's data, in bytes.
const DATA_BYTES: usize = 1024;
/// Clients of everything but creates, which have two numbers of them.
const CLIENTS: usize = 64;
/// Objects that updates and reads go round.
const OBJECTS: u64 = 256;

fn config_map(name: &str, text: &str) -> String {
    format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"{name}\"}},\"data\":{{\"text\":\"{text}\"}}}}"
    )
}

/// One request that has to be answered with a success.
pub async fn must(wire: &mut Wire, ask: &Ask<'_>) -> Result<()> {
    let mut start = Vec::new();
    let code = wire.call(ask, |data| start.extend_from_slice(&data[..data.len().min(300)])).await?;
    ensure!(
        (200..300).contains(&code),
        "{} {}: {code}: {}",
        ask.method,
        ask.path,
        String::from_utf8_lossy(&start).chars().take(300).collect::<String>()
    );
    Ok(())
}

/// Durable creates against the puts of a local etcd, in turns.
pub async fn creates(bench: &Bench<'_>, out: &mut Report) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}/configmaps", bench.namespace);
    let text = "x".repeat(DATA_BYTES);
    let etcd = Etcd::start(bench.dir).await?;
    let next = AtomicU64::new(0);
    let mut rival_of_few = None;
    for clients in [64, 256] {
        let mut wires = connect(bench, clients).await?;
        let mut rivals = Vec::new();
        for _ in 0..if etcd.is_some() { clients } else { 0 } {
            rivals.push(etcd.as_ref().context("etcd runs")?.client().await?);
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let create = async |wire: &mut Wire, number| {
                let body = config_map(&format!("load-{clients}-{number}"), &text);
                let ask = Ask {
                    method: "POST",
                    path: &path,
                    content_type: "application/json",
                    body: body.as_bytes(),
                };
                must(wire, &ask).await
            };
            ours.push(round(bench.pid, &mut wires, &next, create).await?);
            if let Some(etcd) = &etcd {
                let put = async |client: &mut Client, number| {
                    let key = format!("/registry/configmaps/bench/load-{clients}-{number}");
                    client.put(&key, config_map("load", &text).as_bytes()).await
                };
                theirs.push(round(Some(etcd.pid()?), &mut rivals, &next, put).await?);
            }
        }
        let ours = medians(&ours);
        if etcd.is_some() {
            let theirs = medians(&theirs);
            report(
                out,
                &format!("puts of 1 KB, etcd beside it, {clients} clients"),
                theirs,
                Goal::None,
            );
            rival_of_few.get_or_insert(theirs.rate);
        }
        let name = format!("durable creates of 1 KB config maps over TLS, {clients} clients");
        match (clients, rival_of_few) {
            (64, Some(rival)) => {
                report(out, &name, ours, Goal::None);
                out.add(
                    "  of etcd's puts with 64 clients",
                    ours.rate / rival,
                    "x",
                    Goal::AtLeast(1.0),
                );
            }
            (_, Some(rival)) => {
                report(out, &name, ours, Goal::AtLeast(5000.0));
                out.add(
                    "  of etcd's puts with 64 clients",
                    ours.rate / rival,
                    "x",
                    Goal::AtLeast(1.0),
                );
            }
            (64, None) => report(out, &name, ours, Goal::None),
            (_, None) => report(out, &name, ours, Goal::AtLeast(5000.0)),
        }
    }
    match etcd {
        Some(etcd) => etcd.stop().await,
        None => Ok(()),
    }
}

/// Makes the objects that updates and reads go round.
async fn objects(bench: &Bench<'_>, prefix: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}/configmaps", bench.namespace);
    let mut wire = bench.target.connect().await?;
    for number in 0..OBJECTS {
        let body = config_map(&format!("{prefix}-{number}"), &"x".repeat(DATA_BYTES));
        let ask = Ask {
            method: "POST",
            path: &path,
            content_type: "application/json",
            body: body.as_bytes(),
        };
        must(&mut wire, &ask).await?;
    }
    Ok(())
}

/// Reads of single objects.
pub async fn gets(bench: &Bench<'_>, out: &mut Report) -> Result<()> {
    objects(bench, "get").await?;
    let mut wires = connect(bench, CLIENTS).await?;
    let (mut rounds, next) = (Vec::new(), AtomicU64::new(0));
    for _ in 0..ROUNDS {
        let get = async |wire: &mut Wire, number: u64| {
            let path = format!(
                "/api/v1/namespaces/{}/configmaps/get-{}",
                bench.namespace,
                number % OBJECTS
            );
            let code =
                wire.call(&Ask { method: "GET", path: &path, ..Ask::default() }, |_| {}).await?;
            ensure!(code == 200, "GET {path}: {code}");
            Ok(())
        };
        rounds.push(round(bench.pid, &mut wires, &next, get).await?);
    }
    report(out, "GET of 1 KB config maps, 64 clients", medians(&rounds), Goal::AtLeast(20_000.0));
    Ok(())
}

/// Changes of single objects with each kind of write.
pub async fn updates(bench: &Bench<'_>, out: &mut Report) -> Result<()> {
    objects(bench, "update").await?;
    let mut wires = connect(bench, CLIENTS).await?;
    let kinds = [
        ("updates (PUT)", "PUT", "", "application/json"),
        ("merge patches", "PATCH", "", "application/merge-patch+json"),
        (
            "server-side applies",
            "PATCH",
            "?fieldManager=bench&force=true",
            "application/apply-patch+yaml",
        ),
    ];
    for (name, method, query, content_type) in kinds {
        let path = |number: u64| {
            format!(
                "/api/v1/namespaces/{}/configmaps/update-{}{query}",
                bench.namespace,
                number % OBJECTS
            )
        };
        let body = |number: u64| {
            let text = format!("{number:08}{}", "y".repeat(DATA_BYTES - 8));
            config_map(&format!("update-{}", number % OBJECTS), &text)
        };
        let (first, first_path) = (body(0), path(0));
        let ask = Ask { method, path: &first_path, content_type, body: first.as_bytes() };
        let code = wires[0].call(&ask, |_| {}).await?;
        if code == 415 {
            eprintln!("{name}: the server does not know {content_type}");
            continue;
        }
        let (mut rounds, next) = (Vec::new(), AtomicU64::new(0));
        for _ in 0..ROUNDS {
            let write = async |wire: &mut Wire, number: u64| {
                let (path, body) = (path(number), body(number));
                must(wire, &Ask { method, path: &path, content_type, body: body.as_bytes() }).await
            };
            rounds.push(round(bench.pid, &mut wires, &next, write).await?);
        }
        let name = format!("{name} of 1 KB config maps, 64 clients");
        report(out, &name, medians(&rounds), Goal::None);
    }
    Ok(())
}
