//! A local etcd as the rival, through the one call of its API that is compared.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tonic::Request;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use crate::process::{Child, free_port, poll};

/// A running etcd with a data directory of its own.
pub struct Etcd {
    child: Child,
    port: u16,
    _data: tempfile::TempDir,
}

/// One client with a connection of its own.
pub struct Client(Channel);

impl Etcd {
    /// Starts etcd on the disk of `dir`; `None` when it is not installed.
    pub async fn start(dir: &Path) -> Result<Option<Self>> {
        let data = tempfile::tempdir_in(dir).context("create a data directory")?;
        let (port, peers) = (free_port()?, free_port()?);
        let (url, peer_url) =
            (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
        let mut command = tokio::process::Command::new("etcd");
        command.arg("--data-dir").arg(data.path()).args(["--log-level", "error"]);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", &format!("default={peer_url}")]);
        let child = match Child::spawn(command, &dir.join("etcd.log")) {
            Ok(child) => child,
            Err(error) if error.root_cause().to_string().contains("No such file") => {
                eprintln!("etcd is not installed: creates are not compared");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let etcd = Self { child, port, _data: data };
        poll("etcd answers", async || match etcd.clients(1).await {
            Ok(clients) => clients[0].put("ready", "yes").await.is_ok(),
            Err(_) => false,
        })
        .await?;
        Ok(Some(etcd))
    }

    /// Clients with connections of their own.
    pub async fn clients(&self, count: usize) -> Result<Vec<Arc<Client>>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port))?;
            clients.push(Arc::new(Client(endpoint.tcp_nodelay(true).connect().await?)));
        }
        Ok(clients)
    }

    /// Ends it.
    pub async fn stop(self) -> Result<()> {
        self.child.stop().await
    }
}

impl Client {
    /// A durable put.
    pub async fn put(&self, key: &str, value: &str) -> Result<()> {
        let mut client = tonic::client::Grpc::new(self.0.clone());
        client.ready().await?;
        let put = Put { key: key.into(), value: value.into() };
        let codec = tonic_prost::ProstCodec::<Put, Empty>::default();
        client
            .unary(Request::new(put), PathAndQuery::from_static("/etcdserverpb.KV/Put"), codec)
            .await?;
        Ok(())
    }
}

// upstream: etcd api/etcdserverpb/rpc.proto PutRequest

#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}
