//! Throughput: many clients in a closed loop, each with a connection of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::api::{Api, Connection};
use crate::etcd::Etcd;
use crate::report::{Goal, Report, median};

/// Clients at the same time.
pub const CLIENTS: usize = 64;
/// How long a round takes, and how many there are.
const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
/// Size of an object's data, in bytes.
const DATA_BYTES: usize = 1024;
/// Objects of the LIST.
const PODS: usize = 10_000;

/// Counts what the clients do in one round, per second. `work` does one operation, given a number that no other has.
pub async fn rate<C, F, Fut>(clients: &[Arc<C>], next: &AtomicU64, work: F) -> Result<f64>
where
    F: Fn(Arc<C>, u64) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let start = Instant::now();
    let done = AtomicU64::new(0);
    try_join_all(clients.iter().map(|client| async {
        while start.elapsed() < ROUND {
            work(client.clone(), next.fetch_add(1, Ordering::Relaxed)).await?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

/// Opens the connections before they are measured.
async fn connect(api: &Api) -> Result<Vec<Arc<Connection>>> {
    let connections: Vec<_> =
        (0..CLIENTS).map(|_| api.connection().map(Arc::new)).collect::<Result<_>>()?;
    try_join_all(connections.iter().map(|connection| connection.get("/version"))).await?;
    Ok(connections)
}

fn config_map(number: u64) -> Value {
    let metadata = json!({"name": format!("load-{number}")});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": "x".repeat(DATA_BYTES)}})
}

/// Durable creates against the puts of a local etcd, in turns.
pub async fn creates(api: &Api, namespace: &str, dir: &Path, report: &mut Report) -> Result<()> {
    let connections = connect(api).await?;
    let etcd = Etcd::start(dir).await?;
    let rivals = match &etcd {
        Some(etcd) => etcd.clients(CLIENTS).await?,
        None => Vec::new(),
    };
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let next = AtomicU64::new(0);
    for _ in 0..ROUNDS {
        let create = |connection: Arc<Connection>, number| {
            let path = &path;
            async move { connection.create(path, &config_map(number)).await }
        };
        ours.push(rate(&connections, &next, create).await?);
        if !rivals.is_empty() {
            let value = config_map(0).to_string();
            let put = |client: Arc<crate::etcd::Client>, number| {
                let value = &value;
                async move {
                    client.put(&format!("/registry/configmaps/bench/load-{number}"), value).await
                }
            };
            theirs.push(rate(&rivals, &next, put).await?);
        }
    }
    let goal = match etcd {
        Some(etcd) => {
            etcd.stop().await?;
            let rival = median(&mut theirs);
            report.add("puts of 1 KB, etcd beside it, 64 clients", rival, "/s", Goal::None);
            Goal::AtLeast(rival)
        }
        None => Goal::None,
    };
    report.add(
        "durable creates of 1 KB config maps over TLS, 64 clients",
        median(&mut ours),
        "/s",
        goal,
    );
    Ok(())
}

/// Reads of single objects.
pub async fn gets(api: &Api, namespace: &str, report: &mut Report) -> Result<()> {
    const OBJECTS: u64 = 100;
    let connections = connect(api).await?;
    let next = AtomicU64::new(0);
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let get = |connection: Arc<Connection>, number| async move {
            let path =
                format!("/api/v1/namespaces/{namespace}/configmaps/load-{}", number % OBJECTS);
            connection.get(&path).await.map(drop)
        };
        rates.push(rate(&connections, &next, get).await?);
    }
    report.add("GET of 1 KB config maps, 64 clients", median(&mut rates), "/s", Goal::None);
    Ok(())
}

/// A pod as users write them: about 2 KB once it is stored.
fn pod(number: usize) -> Value {
    let container = |name: &str| {
        json!({
            "name": name,
            "image": format!("registry.example/team/{name}:1.2.3"),
            "args": ["--listen=:8080", "--log-level=info"],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"containerPort": 8080, "name": "http"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
        })
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number:05}"),
            "labels": {"app.kubernetes.io/name": "bench", "app.kubernetes.io/part-of": "list", "shard": (number % 16).to_string()},
            "annotations": {"example.com/checksum": "0123456789abcdef0123456789abcdef"},
        },
        // No scheduler answers to this name: the pods stay as they are.
        "spec": {"schedulerName": "nobody", "containers": [container("web"), container("sidecar")]},
    })
}

/// LIST of many pods by one client.
pub async fn list(api: &Api, namespace: &str, report: &mut Report) -> Result<()> {
    let connections = connect(api).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    try_join_all(connections.iter().enumerate().map(|(client, connection)| {
        let path = &path;
        async move {
            for number in (client..PODS).step_by(CLIENTS) {
                connection.create(path, &pod(number)).await?;
            }
            anyhow::Ok(())
        }
    }))
    .await
    .context("create the pods")?;
    let mut rates = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        let answer = connections[0].get(&path).await?;
        rates.push(answer.len() as f64 / 1e6 / start.elapsed().as_secs_f64());
        let names = answer.windows(12).filter(|window| window == b"\"name\":\"pod-").count();
        ensure!(names == PODS, "the list has {names} pods instead of {PODS}");
    }
    report.add("LIST of 10,000 pods, one client over TLS", median(&mut rates), "MB/s", Goal::None);
    Ok(())
}
