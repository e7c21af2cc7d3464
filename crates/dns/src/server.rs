//! The sockets: one question at a time over UDP, several over a TCP connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use longshore_base::{Shutdown, TaskKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::forward::Forward;
use crate::records::Zone;

/// Questions that are answered at the same time; more are dropped (UDP) or wait (TCP).
const QUERIES_MAX: usize = 1000;
/// The largest question over UDP.
const DATAGRAM_MAX: usize = 4096;
/// What fits into a datagram when the client says nothing.
const DATAGRAM_DEFAULT: u16 = 512;
/// How long an idle connection stays open.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// A name server.
#[derive(Clone)]
pub(crate) struct Server {
    zone: Arc<Zone>,
    forward: Forward,
    limit: Arc<Semaphore>,
}

impl Server {
    /// A server for a zone.
    pub(crate) fn new(zone: Arc<Zone>, forward: Forward) -> Self {
        Self { zone, forward, limit: Arc::new(Semaphore::new(QUERIES_MAX)) }
    }

    /// Listens on UDP and TCP at the same port.
    pub(crate) async fn start(
        self,
        address: SocketAddr,
        shutdown: &Shutdown,
    ) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let socket = Arc::new(UdpSocket::bind(address).await?);
        let (server, stop) = (self.clone(), shutdown.clone());
        longshore_base::spawn(TaskKind::Critical, "dns over udp", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = server.datagrams(socket) => {}
            }
        });
        let (server, stop) = (self, shutdown.clone());
        longshore_base::spawn(TaskKind::Critical, "dns over tcp", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = server.connections(listener) => {}
            }
        });
        Ok(address)
    }

    async fn datagrams(self, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let (count, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "a datagram could not be read");
                    continue;
                }
            };
            let Ok(permit) = self.limit.clone().try_acquire_owned() else { continue };
            let (server, socket, query) = (self.clone(), socket.clone(), buffer[..count].to_vec());
            longshore_base::spawn(TaskKind::PerItem, "dns question", async move {
                if let Some(answer) = server.answer(&query, false).await
                    && let Err(error) = socket.send_to(&answer, from).await
                {
                    tracing::debug!(%from, %error, "an answer could not be sent");
                }
                drop(permit);
            });
        }
    }

    async fn connections(self, listener: TcpListener) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    continue;
                }
            };
            let Ok(permit) = self.limit.clone().acquire_owned().await else { return };
            let server = self.clone();
            longshore_base::spawn(TaskKind::PerItem, "dns connection", async move {
                if let Err(error) = server.connection(stream).await {
                    tracing::trace!(%error, "a connection ended");
                }
                drop(permit);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let length = tokio::time::timeout(IDLE_MAX, stream.read_u16()).await??;
            let mut query = vec![0; usize::from(length)];
            tokio::time::timeout(IDLE_MAX, stream.read_exact(&mut query)).await??;
            let Some(answer) = self.answer(&query, true).await else { return Ok(()) };
            let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
            stream.write_all(&length.to_be_bytes()).await?;
            stream.write_all(&answer).await?;
        }
    }

    /// The answer to a message; `None` when it is not worth one.
    async fn answer(&self, bytes: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(bytes).ok()?;
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = Message::response(query.metadata.id, query.metadata.op_code);
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_queries(query.queries.iter().cloned());
        let question = query.queries.first();
        let Some(question) = question.filter(|_| query.metadata.op_code == OpCode::Query) else {
            response.metadata.response_code = ResponseCode::NotImp;
            return response.to_vec().ok();
        };
        match self.zone.answer(question.name(), question.query_type()) {
            None => {
                if let Some(answer) = self.forward.ask(bytes, over_tcp).await {
                    return Some(answer);
                }
                response.metadata.response_code = ResponseCode::ServFail;
            }
            Some(found) => {
                response.metadata.authoritative = true;
                if !found.exists {
                    response.metadata.response_code = ResponseCode::NXDomain;
                }
                if found.records.is_empty() {
                    response.add_authority(self.zone.authority());
                }
                response.add_answers(found.records);
                response.add_additionals(found.additional);
            }
        }
        let bytes = response.to_vec().ok()?;
        let room = query.edns.as_ref().map_or(DATAGRAM_DEFAULT, |e| e.max_payload());
        if over_tcp || bytes.len() <= usize::from(room.max(DATAGRAM_DEFAULT)) {
            return Some(bytes);
        }
        response.truncate().to_vec().ok()
    }
}
