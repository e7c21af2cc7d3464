//! Names outside of the cluster: the host's name servers are asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// How long one server may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer over UDP.
const DATAGRAM_MAX: usize = 4096;
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The servers to ask, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forward {
    servers: Vec<SocketAddr>,
}

impl Forward {
    /// The servers of the host.
    pub(crate) fn from_host() -> Self {
        let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver"));
        let servers = servers.filter_map(|ip| ip.trim().parse::<IpAddr>().ok());
        Self { servers: servers.map(|ip| SocketAddr::new(ip, 53)).collect() }
    }

    /// Passes a query on as it is; `None` when nobody answers.
    pub(crate) async fn ask(&self, query: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        for server in &self.servers {
            let answer = async {
                if over_tcp { tcp(*server, query).await } else { udp(*server, query).await }
            };
            match tokio::time::timeout(TIMEOUT, answer).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server failed"),
                Err(_) => tracing::debug!(%server, "a name server does not answer"),
            }
        }
        None
    }
}

async fn udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let count = socket.recv(&mut buffer).await?;
        // Anything else is not the answer to this question.
        if count >= 2 && buffer[..2] == query[..2] {
            buffer.truncate(count);
            return Ok(buffer);
        }
    }
}

async fn tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
