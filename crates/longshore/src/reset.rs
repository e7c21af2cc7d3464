//! `longshore reset`: removes every pod from the container runtime of a node whose server is stopped.
//!
//! The runtime stops the pods itself, so that the CNI plugins give back addresses, ports and links.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use longshore_cri::Runtime;
use longshore_cri::v1::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};

/// Arguments of `longshore reset`.
#[derive(Clone, Debug, clap::Args)]
pub struct ResetArgs {
    /// Socket of the container runtime
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock", value_name = "ENDPOINT")]
    pub runtime_endpoint: String,
}

/// Stops and removes every pod.
///
/// # Errors
/// When the runtime does not answer, or could not remove a pod; the others are removed all the same.
pub async fn reset(args: ResetArgs) -> Result<()> {
    let socket = args.runtime_endpoint.strip_prefix("unix://").unwrap_or(&args.runtime_endpoint);
    let runtime = Runtime::new(Path::new(socket));
    let pods = runtime
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await
        .context("cannot list the pods")?;
    let ids: BTreeSet<String> = pods.items.into_iter().map(|pod| pod.id).collect();
    let removals: Vec<_> = ids.iter().map(|id| remove(&runtime, id)).collect();
    let mut first = None;
    for result in futures_util::future::join_all(removals).await {
        first = first.or(result.err());
    }
    println!("{} pods removed", ids.len());
    first.map_or(Ok(()), Err)
}

async fn remove(runtime: &Runtime, id: &str) -> Result<()> {
    let pod_sandbox_id = id.to_owned();
    let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
    runtime.stop_pod_sandbox(stop).await.with_context(|| format!("cannot stop pod {id}"))?;
    let remove = RemovePodSandboxRequest { pod_sandbox_id };
    runtime.remove_pod_sandbox(remove).await.with_context(|| format!("cannot remove pod {id}"))?;
    Ok(())
}
