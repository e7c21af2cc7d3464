//! `longshore-bench`: measures a server that it starts itself, or any API server through a kubeconfig.
//!
//! Every number of a run is measured in that run, on that machine; a number that has a rival (etcd) is measured
//! in turns with it, and the median of the rounds counts.

mod api;
mod cri;
mod etcd;
mod load;
mod node;
mod process;
mod report;
mod watch;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use api::Api;
use process::Server;
use report::{Goal, Report};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Longshore, or another API server.
#[derive(Parser)]
struct Arguments {
    /// Run what a client can measure against this API server instead of starting one
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The longshore binary
    #[arg(long, value_name = "FILE", default_value = "target/release/longshore")]
    binary: PathBuf,
    /// Where the servers keep their data; etcd writes to the same disk
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
    /// Leave out what needs root and a container runtime
    #[arg(long)]
    no_node: bool,
    /// Seconds over which idle use of the processor is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    idle: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report::default();
    std::fs::create_dir_all(&arguments.dir).context("create the directory for data")?;
    let outcome = Box::pin(run(&arguments, &mut report)).await;
    print!("{report}");
    outcome
}

async fn run(arguments: &Arguments, report: &mut Report) -> Result<()> {
    if let Some(kubeconfig) = &arguments.kubeconfig {
        let text = std::fs::read_to_string(kubeconfig)
            .with_context(|| format!("read {}", kubeconfig.display()))?;
        return client_side(&Api::new(text), &arguments.dir, report).await;
    }
    start_up(arguments, report).await?;
    let server = Server::start(&arguments.binary, &arguments.dir, process::ALONE).await?;
    let measured = client_side(&Api::new(server.kubeconfig().await?), &arguments.dir, report).await;
    server.stop().await?;
    measured?;
    if !arguments.no_node {
        Box::pin(node::run(&arguments.binary, &arguments.dir, arguments.idle, report)).await?;
    }
    Ok(())
}

/// From exec to the first `ok` of `/readyz`, each time on an empty data directory.
async fn start_up(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let server = Server::start(&arguments.binary, &arguments.dir, process::ALONE).await?;
        times.push(server.ready_after.as_secs_f64() * 1e3);
        server.stop().await?;
    }
    report.add(
        "exec to /readyz, empty data directory",
        report::median(&mut times),
        "ms",
        Goal::AtMost(300.0),
    );
    Ok(())
}

/// Everything that a client of the API can measure.
async fn client_side(api: &Api, dir: &std::path::Path, report: &mut Report) -> Result<()> {
    let namespace = format!("bench-{}", std::process::id());
    api.prepare(&namespace).await.context("prepare a namespace")?;
    let measured = async {
        load::creates(api, &namespace, dir, report).await.context("creates")?;
        load::gets(api, &namespace, report).await.context("gets")?;
        load::list(api, &namespace, report).await.context("list")?;
        watch::run(api, &namespace, report).await.context("watch")
    }
    .await;
    api.clean(&namespace).await.context("clean up")?;
    measured
}
