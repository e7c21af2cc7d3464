//! Calls to the container runtime's socket from the command line.

use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// How long a call may take; stopping a pod waits for its programs.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A connection to a runtime.
#[derive(Clone)]
pub struct Runtime {
    channel: Channel,
}

impl Runtime {
    /// Connects to `unix:///path` or a bare path.
    pub async fn connect(endpoint: &str) -> Result<Self> {
        let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint).to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is not used: the connector always opens the socket.
        let address = Endpoint::from_static("http://runtime.invalid").timeout(CALL_MAX);
        let channel = address.connect_with_connector(connector).await.with_context(|| {
            format!("no container runtime answers at {endpoint}: start it, or name its socket with --runtime-endpoint")
        })?;
        Ok(Self { channel })
    }

    /// One call with one answer.
    pub async fn unary<M, R>(&self, path: &'static str, request: Request<M>) -> Result<R, Status>
    where
        M: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = tonic_prost::ProstCodec::<M, R>::default();
        Ok(client.unary(request, PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    /// Sends a stream of messages and waits until the runtime has answered all of them.
    pub async fn stream<M, R>(
        &self,
        path: &'static str,
        request: Request<Vec<M>>,
    ) -> Result<(), Status>
    where
        M: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = tonic_prost::ProstCodec::<M, R>::default();
        let request = request.map(futures_util::stream::iter);
        let mut answers =
            client.streaming(request, PathAndQuery::from_static(path), codec).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    }
}
