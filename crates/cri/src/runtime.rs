//! A runtime and its images, over gRPC on a socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::v1::*;

/// How long most calls may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// How long pulling an image may take.
const PULL_TIMEOUT: Duration = Duration::from_secs(1800);
/// How much longer than its grace period stopping a container may take.
const STOP_MARGIN: Duration = Duration::from_secs(120);
/// The largest answer, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A failed call.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The runtime is not there.
    #[error("the container runtime at {socket} cannot be reached: {why}")]
    Unreachable {
        /// Its socket.
        socket: String,
        /// What happened.
        why: String,
    },
    /// The runtime says no.
    #[error("{message}")]
    Call {
        /// The runtime's words.
        message: String,
        /// The gRPC code.
        code: tonic::Code,
    },
}

impl Error {
    /// Whether there is no such sandbox, container or image.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Call { code: tonic::Code::NotFound, .. })
    }
}

/// A container runtime. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    channel: Channel,
    socket: Arc<PathBuf>,
}

impl Runtime {
    /// A runtime behind a socket; it is connected to on the first call, and again when it comes
    /// back after a restart.
    pub fn new(socket: &Path) -> Self {
        let path = Arc::new(socket.to_owned());
        let target = path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let target = target.clone();
            async move { UnixStream::connect(&*target).await.map(TokioIo::new) }
        });
        let channel =
            Endpoint::from_static("http://runtime").connect_with_connector_lazy(connector);
        Self { channel, socket: path }
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q, limit: Duration) -> Result<A, Error>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let unreachable =
            |why: String| Error::Unreachable { socket: self.socket.display().to_string(), why };
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready().await.map_err(|e| unreachable(deepest(&e)))?;
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        let answer =
            tokio::time::timeout(limit, grpc.unary(tonic::Request::new(request), path, codec));
        match answer.await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if status.code() == tonic::Code::Unavailable => {
                Err(unreachable(status.message().to_owned()))
            }
            Ok(Err(status)) => {
                Err(Error::Call { message: status.message().to_owned(), code: status.code() })
            }
            Err(_) => Err(Error::Call {
                message: "context deadline exceeded".into(),
                code: tonic::Code::DeadlineExceeded,
            }),
        }
    }
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident: $service:literal $call:literal $request:ident -> $answer:ident;)*) => {
        impl Runtime {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: $request) -> Result<$answer, Error> {
                    let path = concat!("/runtime.v1.", $service, "/", $call);
                    self.call(path, request, CALL_TIMEOUT).await
                }
            )*
        }
    };
}

calls! {
    /// Name and version of the runtime.
    version: "RuntimeService" "Version" VersionRequest -> VersionResponse;
    /// Whether the runtime and its network are ready.
    status: "RuntimeService" "Status" StatusRequest -> StatusResponse;
    /// Makes and starts a sandbox.
    run_pod_sandbox: "RuntimeService" "RunPodSandbox" RunPodSandboxRequest -> RunPodSandboxResponse;
    /// Ends everything in a sandbox and frees its address.
    stop_pod_sandbox: "RuntimeService" "StopPodSandbox" StopPodSandboxRequest -> StopPodSandboxResponse;
    /// Removes a sandbox and its containers.
    remove_pod_sandbox: "RuntimeService" "RemovePodSandbox" RemovePodSandboxRequest -> RemovePodSandboxResponse;
    /// The state of a sandbox.
    pod_sandbox_status: "RuntimeService" "PodSandboxStatus" PodSandboxStatusRequest -> PodSandboxStatusResponse;
    /// All sandboxes that match a filter.
    list_pod_sandbox: "RuntimeService" "ListPodSandbox" ListPodSandboxRequest -> ListPodSandboxResponse;
    /// Makes a container in a sandbox.
    create_container: "RuntimeService" "CreateContainer" CreateContainerRequest -> CreateContainerResponse;
    /// Starts a container.
    start_container: "RuntimeService" "StartContainer" StartContainerRequest -> StartContainerResponse;
    /// Removes a container, killing it if it runs.
    remove_container: "RuntimeService" "RemoveContainer" RemoveContainerRequest -> RemoveContainerResponse;
    /// All containers that match a filter.
    list_containers: "RuntimeService" "ListContainers" ListContainersRequest -> ListContainersResponse;
    /// The state of a container.
    container_status: "RuntimeService" "ContainerStatus" ContainerStatusRequest -> ContainerStatusResponse;
    /// Changes the limits of a running container.
    update_container_resources: "RuntimeService" "UpdateContainerResources" UpdateContainerResourcesRequest -> UpdateContainerResourcesResponse;
    /// What containers use.
    list_container_stats: "RuntimeService" "ListContainerStats" ListContainerStatsRequest -> ListContainerStatsResponse;
    /// The address at which a command in a container can be streamed.
    exec: "RuntimeService" "Exec" ExecRequest -> ExecResponse;
    /// The address at which a container's own streams can be attached to.
    attach: "RuntimeService" "Attach" AttachRequest -> AttachResponse;
    /// The address at which ports of a sandbox can be reached.
    port_forward: "RuntimeService" "PortForward" PortForwardRequest -> PortForwardResponse;
    /// One image, if it is there.
    image_status: "ImageService" "ImageStatus" ImageStatusRequest -> ImageStatusResponse;
    /// All images.
    list_images: "ImageService" "ListImages" ListImagesRequest -> ListImagesResponse;
    /// Where images lie.
    image_fs_info: "ImageService" "ImageFsInfo" ImageFsInfoRequest -> ImageFsInfoResponse;
    /// Removes an image.
    remove_image: "ImageService" "RemoveImage" RemoveImageRequest -> RemoveImageResponse;
}

impl Runtime {
    /// Fetches an image from its registry.
    pub async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Error> {
        self.call("/runtime.v1.ImageService/PullImage", request, PULL_TIMEOUT).await
    }

    /// Runs a command in a container and gives its output; the request says how long it may take.
    pub async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse, Error> {
        let seconds = u64::try_from(request.timeout).unwrap_or(0);
        let limit = if seconds == 0 { CALL_TIMEOUT } else { Duration::from_secs(seconds + 2) };
        self.call("/runtime.v1.RuntimeService/ExecSync", request, limit).await
    }

    /// Asks a container to end, and kills it after the request's grace period.
    pub async fn stop_container(
        &self,
        request: StopContainerRequest,
    ) -> Result<StopContainerResponse, Error> {
        let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        self.call("/runtime.v1.RuntimeService/StopContainer", request, grace + STOP_MARGIN).await
    }
}
