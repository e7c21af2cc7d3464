//! Forgets UDP flows whose endpoint is gone: UDP has no connections that end, so the kernel would
//! go on sending the packets of a flow to where the first one went.
//!
//! upstream: pkg/proxy/conntrack

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use longshore_base::{Shutdown, TaskKind};
use longshore_linux::nft::find;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::ruleset::{Origin, Ruleset};

/// Flows to forget after one change; beyond that, they end by their own timeout.
const FORGET_MAX: usize = 256;
/// Longest wait for the program.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flows of an origin: to one endpoint, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Where the packets were sent to.
    pub origin: Origin,
    /// Where they went; `None` is anywhere, also nowhere.
    pub endpoint: Option<Ipv4Addr>,
}

/// What has to be forgotten when the rules change.
pub fn stale(old: &Ruleset, new: &Ruleset) -> Vec<Stale> {
    let mut stale = Vec::new();
    for (origin, endpoints) in &old.udp {
        let now = new.udp.get(origin);
        let gone = endpoints.iter().filter(|e| !now.is_some_and(|now| now.contains(e)));
        stale.extend(gone.map(|e| Stale { origin: *origin, endpoint: Some(*e) }));
    }
    // Flows from before the first endpoint lead nowhere.
    let first = new.udp.keys().filter(|origin| !old.udp.contains_key(origin));
    stale.extend(first.map(|origin| Stale { origin: *origin, endpoint: None }));
    stale.truncate(FORGET_MAX);
    stale
}

fn arguments(stale: &Stale) -> Vec<String> {
    let mut arguments: Vec<String> = ["-D", "-f", "ipv4", "-p", "udp"].map(str::to_owned).into();
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
    match stale.origin {
        Origin::Address(ip, port) => {
            add("--orig-dst", ip.to_string());
            add("--orig-port-dst", port.to_string());
        }
        Origin::NodePort(port) => add("--orig-port-dst", port.to_string()),
    }
    if let Some(endpoint) = stale.endpoint {
        add("--reply-src", endpoint.to_string());
    }
    arguments
}

/// Starts the task that forgets flows; it takes them from the returned channel.
pub fn start(shutdown: &Shutdown) -> mpsc::Sender<Vec<Stale>> {
    let (sender, mut receiver) = mpsc::channel::<Vec<Stale>>(16);
    let shutdown = shutdown.clone();
    longshore_base::spawn(TaskKind::PerItem, "proxy-conntrack", async move {
        let program = find("conntrack", &["/usr/sbin/conntrack", "/sbin/conntrack"]);
        let work = async {
            while let Some(batch) = receiver.recv().await {
                for stale in batch {
                    forget(&program, &stale).await;
                }
            }
        };
        shutdown.run_until_cancelled(work).await;
    });
    sender
}

async fn forget(program: &std::path::Path, stale: &Stale) {
    let run = Command::new(program)
        .args(arguments(stale))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    // The program also fails when there was nothing to forget, so its status says nothing.
    match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "cannot run conntrack"),
        Err(_) => tracing::warn!("conntrack did not end in time"),
    }
}
