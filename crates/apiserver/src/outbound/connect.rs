//! Opens connections to other servers.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use longshore_base::TaskKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{Address, CallError, Target};
use crate::body::Body;

/// How long it may take until a server takes a connection.
///
/// upstream: staging/src/k8s.io/client-go/transport/cache.go (the dialer's timeout)
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long TLS may take to agree.
///
/// upstream: staging/src/k8s.io/client-go/transport/cache.go TLSHandshakeTimeout
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Names that are looked up at the same time. Each holds a thread for as long as the system takes,
/// whoever has given up waiting; the same threads write the audit log.
const LOOKUPS_MAX: usize = 64;
static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A new connection.
pub(super) async fn open(target: &Target) -> Result<SendRequest<Body>, CallError> {
    let address = &target.address;
    let late = || CallError::Dial { address: address.clone(), why: "i/o timeout".to_owned() };
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, dial(target)).await.map_err(|_| late())??;
    tcp.set_nodelay(true).map_err(|error| CallError::dial(address, &error))?;
    let stream: Box<dyn Stream> = match &target.tls {
        None => Box::new(tcp),
        Some(tls) => {
            let name = ServerName::try_from(tls.server_name.clone()).map_err(|_| {
                CallError::Tls(format!("tls: invalid server name {:?}", tls.server_name))
            })?;
            let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
            let agreed =
                tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, tcp)).await;
            let agreed =
                agreed.map_err(|_| CallError::Tls("net/http: TLS handshake timeout".to_owned()))?;
            Box::new(agreed.map_err(|error| CallError::tls(&error, &tls.server_name))?)
        }
    };
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| CallError::http(&error))?;
    longshore_base::spawn(TaskKind::PerItem, "connection to another server", async {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to another server ended");
        }
    });
    Ok(sender)
}

/// The addresses of a host; none when it has no address.
async fn lookup(address: &Address) -> Option<Vec<SocketAddr>> {
    let turn = LOOKUPS.acquire().await.ok()?;
    let (host, port) = (address.host.clone(), address.port);
    let looking = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        drop(turn);
        Some(found.ok()?.collect())
    });
    looking.await.ok()?
}

async fn dial(target: &Target) -> Result<TcpStream, CallError> {
    let address = &target.address;
    if let Ok(ip) = address.host.parse::<std::net::IpAddr>() {
        let connected = TcpStream::connect((ip, address.port)).await;
        return connected.map_err(|error| CallError::dial(address, &error));
    }
    let mut last = CallError::NoSuchHost(address.host.clone());
    for one in lookup(address).await.unwrap_or_default() {
        match TcpStream::connect(one).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let host = one.ip().to_string();
                last = CallError::dial(&Address { host, port: one.port() }, &error);
            }
        }
    }
    Err(last)
}
