//! `longshore reset`: removes every pod from the container runtime of a node whose server is stopped.
//!
//! The runtime stops the pods itself, so that the CNI plugins give back addresses, ports and links.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use tonic::Request;

use crate::runtime::Runtime;

const LIST: &str = "/runtime.v1.RuntimeService/ListPodSandbox";
const STOP: &str = "/runtime.v1.RuntimeService/StopPodSandbox";
const REMOVE: &str = "/runtime.v1.RuntimeService/RemovePodSandbox";

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
    let runtime = Runtime::connect(&args.runtime_endpoint).await?;
    let pods: Pods =
        runtime.unary(LIST, Request::new(Empty {})).await.context("cannot list the pods")?;
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
    let pod = Pod { id: id.to_owned() };
    let stopped: Result<Empty, _> = runtime.unary(STOP, Request::new(pod.clone())).await;
    stopped.with_context(|| format!("cannot stop pod {id}"))?;
    let removed: Result<Empty, _> = runtime.unary(REMOVE, Request::new(pod)).await;
    removed.with_context(|| format!("cannot remove pod {id}"))?;
    Ok(())
}

// Messages of the CRI; the field numbers are the contract. upstream: cri-api/pkg/apis/runtime/v1/api.proto

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

/// A PodSandbox of a list, and the argument of the calls: all have the identity first.
#[derive(Clone, PartialEq, prost::Message)]
struct Pod {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pods {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Pod>,
}
