//! A local etcd as the rival, through the one call of its API that is compared.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;

use crate::process::{Child, free_port, poll};
use crate::wire::{Ask, GRPC, Wire};

/// A running etcd with a data directory of its own.
pub struct Etcd {
    child: Child,
    port: u16,
    _data: tempfile::TempDir,
}

/// One client with a connection of its own: the same cheap one that loads our server.
pub struct Client(Wire<TcpStream>);

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
        poll("etcd answers", async || match etcd.client().await {
            Ok(mut client) => client.put("ready", b"yes").await.is_ok(),
            Err(_) => false,
        })
        .await?;
        Ok(Some(etcd))
    }

    /// A client with a connection of its own.
    pub async fn client(&self) -> Result<Client> {
        let authority = format!("127.0.0.1:{}", self.port);
        let tcp = TcpStream::connect(&authority).await.context("connect to etcd")?;
        tcp.set_nodelay(true).context("set TCP_NODELAY")?;
        Ok(Client(Wire::start(tcp, authority, None).await?))
    }

    /// Its process number.
    pub fn pid(&self) -> Result<u32> {
        self.child.pid()
    }

    /// Ends it.
    pub async fn stop(self) -> Result<()> {
        self.child.stop().await
    }
}

impl Client {
    /// A durable put.
    pub async fn put(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let mut answered = false;
        let body = put_message(key, value);
        let ask =
            Ask { method: "POST", path: "/etcdserverpb.KV/Put", content_type: GRPC, body: &body };
        let code = self.0.call(&ask, |data| answered |= !data.is_empty()).await?;
        // A call that fails has no message in its answer.
        ensure!(code == 200 && answered, "etcd refused a put");
        Ok(())
    }
}

/// A `PutRequest` with its frame.
///
/// upstream: etcd api/etcdserverpb/rpc.proto PutRequest; gRPC over HTTP/2, Length-Prefixed-Message
fn put_message(key: &str, value: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 5];
    for (tag, bytes) in [(0x0a, key.as_bytes()), (0x12, value)] {
        message.push(tag);
        let mut length = bytes.len();
        while length >= 128 {
            message.push((length % 128) as u8 | 128);
            length /= 128;
        }
        message.push(length as u8);
        message.extend_from_slice(bytes);
    }
    let length = u32::try_from(message.len() - 5).unwrap_or(0).to_be_bytes();
    message[1..5].copy_from_slice(&length);
    message
}
