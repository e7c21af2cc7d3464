//! The same pod as the node agent starts, made by the runtime alone: the difference is the agent's share.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use longshore_cri::Runtime;
use longshore_cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, ListPodSandboxRequest,
    PodSandboxConfig, PodSandboxMetadata, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopPodSandboxRequest,
};

/// Milliseconds that a sandbox, a container and its start take, one after the other.
pub async fn start_pod(socket: &Path, image: &str, number: usize) -> Result<f64> {
    let runtime = Runtime::new(socket);
    let metadata = PodSandboxMetadata {
        name: format!("raw-{number}"),
        uid: format!("00000000-0000-0000-0000-{number:012}"),
        namespace: "bench".to_owned(),
        attempt: 0,
    };
    let sandbox = PodSandboxConfig {
        metadata: Some(metadata),
        hostname: "raw".to_owned(),
        ..Default::default()
    };
    let start = Instant::now();
    let run = RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
    let pod_sandbox_id = runtime.run_pod_sandbox(run).await?.pod_sandbox_id;
    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "hello".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: image.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let create = CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
        config: Some(container),
        sandbox_config: Some(sandbox),
    };
    let container_id = runtime.create_container(create).await?.container_id;
    runtime.start_container(StartContainerRequest { container_id }).await?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    runtime
        .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() })
        .await?;
    runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await?;
    Ok(milliseconds)
}

/// Whether the runtime has no sandbox of a pod.
pub async fn is_gone(socket: &Path, pod: &str) -> Result<bool> {
    let list = Runtime::new(socket).list_pod_sandbox(ListPodSandboxRequest::default()).await?;
    let mut names = list.items.into_iter().filter_map(|item| item.metadata);
    Ok(!names.any(|metadata| metadata.name == pod))
}
