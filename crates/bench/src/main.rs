//! `longshore-bench`: measures a server that it starts itself, or any API server through a kubeconfig.
//!
//! Every number of a run is measured in that run, on that machine; a number that has a rival (etcd) is measured
//! in turns with it, and the median of the rounds counts.

mod api;
mod calls;
mod cri;
mod etcd;
mod lists;
mod load;
mod node;
mod process;
mod report;
mod scale;
mod watch;
mod wire;
mod writes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use longshore_base::usage::{EXIT_USAGE, wrong};

use api::Api;
use process::Server;
use report::{Goal, Report};
use wire::Target;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Longshore, or another API server.
#[derive(Parser)]
struct Arguments {
    /// Run what a client can measure against this API server instead of starting one
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The process of that server when it runs on this machine: its memory and use of the processor
    #[arg(long, value_name = "PID", requires = "kubeconfig")]
    pid: Option<u32>,
    /// Run these benches only; see --list
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Show the names of the benches
    #[arg(long)]
    list: bool,
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
    /// Show the calls of the runtime while each pod starts: when after its creation, how long, and what
    #[arg(long)]
    calls: bool,
}

/// A bench of `./x bench`.
struct Entry {
    name: &'static str,
    about: &'static str,
    kind: Kind,
}

/// What a bench needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The binary.
    Binary,
    /// Any API server.
    Client,
    /// Any API server that may be filled and thrown away: only ours unless it is named.
    Filling,
    /// Root and a container runtime.
    Node,
}

const fn entry(name: &'static str, kind: Kind, about: &'static str) -> Entry {
    Entry { name, about, kind }
}

/// All benches in the order in which they run.
const BENCHES: &[Entry] = &[
    entry("startup", Kind::Binary, "exec to /readyz on an empty data directory; memory at rest"),
    entry("creates", Kind::Client, "durable creates beside etcd's puts, 64 and 256 clients"),
    entry("gets", Kind::Client, "reads of single objects"),
    entry("updates", Kind::Client, "updates, merge patches and applies"),
    entry("lists", Kind::Client, "LIST of 10,000 pods: whole, paged, by label, by field"),
    entry("watch", Kind::Client, "1,000 watchers of one namespace"),
    entry("watch-many", Kind::Client, "10,000 watchers of one namespace"),
    entry("watch-nodes", Kind::Client, "5,000 nodes that watch their own pods"),
    entry("scale", Kind::Filling, "150,000 pods, LIST of 100,000, 256 informers at once, restart"),
    entry("node", Kind::Node, "exec to node Ready, idle cost, pod starts"),
];

/// An API server that is measured.
pub struct Bench<'a> {
    api: &'a Api,
    target: Target,
    /// A namespace of its own.
    namespace: String,
    dir: &'a Path,
    /// The server's process, when it is known.
    pid: Option<u32>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            return usage(&wrong(&error.render().to_string(), "longshore-bench"));
        }
        Err(help) => return help.print().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
    };
    if arguments.list {
        for Entry { name, about, .. } in BENCHES {
            println!("{name:12} {about}");
        }
        return ExitCode::SUCCESS;
    }
    for name in &arguments.only {
        if !BENCHES.iter().any(|entry| entry.name == name) {
            return usage(&format!("there is no bench {name:?}; run longshore-bench --list"));
        }
    }
    match Box::pin(measure(arguments)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longshore-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong with the command line.
fn usage(what: &str) -> ExitCode {
    eprintln!("longshore-bench: {what}");
    ExitCode::from(EXIT_USAGE)
}

async fn measure(arguments: Arguments) -> Result<()> {
    let mut report = Report::default();
    std::fs::create_dir_all(&arguments.dir).context("create the directory for data")?;
    let outcome = Box::pin(run(&arguments, &mut report)).await;
    print!("{report}");
    outcome
}

impl Arguments {
    fn wants(&self, entry: &Entry) -> bool {
        if !self.only.is_empty() {
            return self.only.iter().any(|name| name == entry.name);
        }
        match (entry.kind, self.kubeconfig.is_some()) {
            (Kind::Client, _) => true,
            (_, true) => false,
            (Kind::Node, false) => !self.no_node,
            (_, false) => true,
        }
    }
}

async fn run(arguments: &Arguments, report: &mut Report) -> Result<()> {
    for entry in BENCHES.iter().filter(|entry| arguments.wants(entry)) {
        let done = match (entry.kind, &arguments.kubeconfig) {
            (Kind::Binary | Kind::Node, Some(_)) => {
                anyhow::bail!("{} starts its own server: run it without --kubeconfig", entry.name)
            }
            (Kind::Binary, None) => start_up(arguments, report).await,
            (Kind::Node, None) => {
                let settings = node::Settings { idle: arguments.idle, calls: arguments.calls };
                Box::pin(node::run(&arguments.binary, &arguments.dir, settings, report)).await
            }
            (_, Some(kubeconfig)) => Box::pin(against(kubeconfig, entry, arguments, report)).await,
            (_, None) => Box::pin(alone(entry, arguments, report)).await,
        };
        done.with_context(|| format!("the bench {}", entry.name))?;
    }
    Ok(())
}

/// Runs a bench against a server that is there.
async fn against(
    kubeconfig: &Path,
    entry: &Entry,
    arguments: &Arguments,
    report: &mut Report,
) -> Result<()> {
    let text = std::fs::read_to_string(kubeconfig)
        .with_context(|| format!("read {}", kubeconfig.display()))?;
    let target = Target::new(&text)?;
    let api = Api::new(text);
    let namespace = format!("bench-{}-{}", entry.name, std::process::id());
    let bench = Bench { api: &api, target, namespace, dir: &arguments.dir, pid: arguments.pid };
    api.prepare(&bench.namespace).await.context("prepare a namespace")?;
    let measured = client_side(entry, &bench, report).await;
    api.clean(&bench.namespace).await.context("clean up")?;
    measured
}

/// Runs a bench against a fresh server of ours, the API alone.
async fn alone(entry: &Entry, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let server = Server::start(&arguments.binary, &arguments.dir, process::ALONE).await?;
    let text = server.kubeconfig().await?;
    let target = Target::new(&text)?;
    let api = Api::new(text);
    let namespace = format!("bench-{}", entry.name);
    let pid = Some(server.pid()?);
    let bench = Bench { api: &api, target, namespace, dir: &arguments.dir, pid };
    api.prepare(&bench.namespace).await.context("prepare a namespace")?;
    let measured = client_side(entry, &bench, report).await;
    let server = match (&measured, entry.kind) {
        (Ok(()), Kind::Filling) => scale::restart(server, report).await?,
        _ => server,
    };
    server.stop().await?;
    measured
}

async fn client_side(entry: &Entry, bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    match entry.name {
        "creates" => writes::creates(bench, report).await,
        "gets" => writes::gets(bench, report).await,
        "updates" => writes::updates(bench, report).await,
        "lists" => lists::run(bench, report).await,
        "watch" => watch::run(bench, report).await,
        "watch-many" => watch::many(bench, report).await,
        "watch-nodes" => watch::nodes(bench, report).await,
        "scale" => scale::run(bench, report).await,
        other => anyhow::bail!("{other} is no bench of a client"),
    }
}

/// From exec to the first `ok` of `/readyz`, each time on an empty data directory.
async fn start_up(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let server = Server::start(&arguments.binary, &arguments.dir, process::ALONE).await?;
        times.push(server.ready_after.as_secs_f64() * 1e3);
        memory.push(process::resident_mb(server.pid()?)?);
        server.stop().await?;
    }
    let name = "exec to /readyz, empty data directory";
    report.add(name, report::median(&mut times), "ms", Goal::AtMost(300.0));
    let name = "memory of the API server alone when it is ready";
    report.add(name, report::median(&mut memory), "MB", Goal::AtMost(80.0));
    Ok(())
}
