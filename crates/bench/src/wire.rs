//! An HTTP/2 client that costs next to nothing, so that on a small machine the server is measured
//! and not the load: no tasks, no header tables, no copies. One connection, read by its owner.
//!
//! Its settings are those of client-go: a window of 4 MB for each stream, frames of 16 KiB.
//!
//! upstream: RFC 9113, RFC 7541

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use longshore_client::kubeconfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What servers expect first, with our settings: no header table, the window of a stream, and no
/// pushes; then a large window for the connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x12\x04\x00\x00\x00\x00\x00\
    \x00\x01\x00\x00\x00\x00\
    \x00\x02\x00\x00\x00\x00\
    \x00\x04\x00\x40\x00\x00\
    \x00\x00\x04\x08\x00\x00\x00\x00\x00\x3f\xff\x00\x00";
/// The stream window in [`PREFACE`]; half of it used up, it is opened again.
const STREAM_WINDOW: usize = 4 << 20;
/// How much is read from a connection before its window is opened again.
const CONNECTION_STEP: usize = 64 << 20;
/// What is read at once; more than the largest frame.
const READ_BYTES: usize = 256 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// A request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// The type of the body; empty for none.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// A part of an answer.
#[derive(Debug)]
pub enum Part<'a> {
    /// The status code.
    Status(u16),
    /// Bytes of the body.
    Data(&'a [u8]),
    /// Nothing more follows.
    End,
}

/// One connection over TLS or without.
pub struct Wire<S = TlsStream<TcpStream>> {
    io: S,
    authority: String,
    token: Option<String>,
    read: Vec<u8>,
    /// What of `read` has come and was not looked at.
    ready: std::ops::Range<usize>,
    write: Vec<u8>,
    next_stream: u32,
    /// Bytes that may be sent on the connection.
    may_send: i64,
    taken: usize,
    /// Bytes that came on each stream since its window was opened, by number of the stream.
    streams: Vec<usize>,
}

/// Where connections go to.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    tls: Arc<rustls::ClientConfig>,
    token: Option<String>,
}

impl Target {
    /// The server of a kubeconfig.
    pub fn new(text: &str) -> Result<Self> {
        let target =
            kubeconfig::target(text).map_err(|error| anyhow::anyhow!("the kubeconfig: {error}"))?;
        let mut tls = target.tls;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { host: target.host, port: target.port, tls: Arc::new(tls), token: target.token })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Wire> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.context("connect")?;
        tcp.set_nodelay(true).context("set TCP_NODELAY")?;
        let name = ServerName::try_from(self.host.clone()).context("the server's name")?;
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        let tls = connector.connect(name, tcp).await.context("TLS handshake")?;
        Wire::start(tls, format!("{}:{}", self.host, self.port), self.token.clone()).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Begins a connection.
    pub async fn start(io: S, authority: String, token: Option<String>) -> Result<Self> {
        let mut wire = Self {
            io,
            authority,
            token,
            read: vec![0; READ_BYTES],
            ready: 0..0,
            write: PREFACE.to_vec(),
            next_stream: 1,
            may_send: 65_535,
            taken: 0,
            streams: Vec::new(),
        };
        wire.flush().await?;
        Ok(wire)
    }

    /// Sends a request; gives the number of its stream.
    pub async fn send(&mut self, ask: &Ask<'_>) -> Result<u32> {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.streams.resize(self.next_stream as usize / 2, 0);
        let mut block = vec![0x87];
        match ask.method {
            "GET" => block.push(0x82),
            "POST" => block.push(0x83),
            other => literal(&mut block, &[0x02], other),
        }
        literal(&mut block, &[0x04], ask.path);
        literal(&mut block, &[0x01], &self.authority);
        if let Some(token) = &self.token {
            literal(&mut block, &[0x0f, 0x08], &format!("Bearer {token}"));
        }
        if ask.content_type == GRPC {
            literal(&mut block, &[0x00, 0x02, b't', b'e'], "trailers");
        } else {
            literal(&mut block, &[0x0f, 0x04], "application/json");
        }
        let mut flags = END_HEADERS;
        if ask.body.is_empty() {
            flags |= END_STREAM;
        } else {
            literal(&mut block, &[0x0f, 0x10], ask.content_type);
        }
        frame(&mut self.write, HEADERS, flags, stream, &block);
        if !ask.body.is_empty() {
            let length = ask.body.len() as i64;
            ensure!(length <= 16_384, "a body of {length} bytes does not fit into one frame");
            while self.may_send < length {
                self.read(|_, _| {}).await?;
            }
            self.may_send -= length;
            frame(&mut self.write, DATA, END_STREAM, stream, ask.body);
        }
        self.flush().await?;
        Ok(stream)
    }

    async fn flush(&mut self) -> Result<()> {
        self.io.write_all(&self.write).await.context("write to the server")?;
        self.io.flush().await.context("write to the server")?;
        self.write.clear();
        Ok(())
    }

    /// One request with its whole answer: the status, and the body piece by piece. No other stream
    /// may be open.
    pub async fn call(&mut self, ask: &Ask<'_>, mut data: impl FnMut(&[u8])) -> Result<u16> {
        let own = self.send(ask).await?;
        let (mut code, mut ended) = (0, false);
        while !ended {
            self.read(|stream, part| match part {
                _ if stream != own => {}
                Part::Status(status) => code = status,
                Part::Data(bytes) => data(bytes),
                Part::End => ended = true,
            })
            .await?;
        }
        Ok(code)
    }

    /// Waits for bytes and tells what came.
    pub async fn read(&mut self, mut tell: impl FnMut(u32, Part<'_>)) -> Result<()> {
        if self.ready.start > 0 {
            self.read.copy_within(self.ready.clone(), 0);
            self.ready = 0..self.ready.len();
        }
        let count = self.io.read(&mut self.read[self.ready.end..]).await;
        let count = count.context("read from the server")?;
        ensure!(count > 0, "the server closed the connection");
        self.ready.end += count;
        while let Some((header, rest)) = self.read[self.ready.clone()].split_at_checked(9) {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let (kind, flags) = (header[3], header[4]);
            let stream =
                u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & (u32::MAX >> 1);
            let Some(payload) = rest.get(..length) else { break };
            let padding = if flags & PADDED != 0 && kind <= HEADERS {
                payload.first().map_or(0, |length| usize::from(*length) + 1)
            } else {
                0
            };
            let end = length.saturating_sub(padding.saturating_sub(1));
            let inside = payload.get(padding.min(1)..end).unwrap_or_default();
            match kind {
                DATA => {
                    tell(stream, Part::Data(inside));
                    self.taken += length;
                    if self.taken >= CONNECTION_STEP {
                        open_window(&mut self.write, 0, self.taken);
                        self.taken = 0;
                    }
                    let taken = self.streams.get_mut(stream as usize / 2);
                    if let Some(taken) = taken.filter(|_| flags & END_STREAM == 0) {
                        *taken += length;
                        if *taken >= STREAM_WINDOW / 2 {
                            open_window(&mut self.write, stream, *taken);
                            *taken = 0;
                        }
                    }
                }
                HEADERS => {
                    if let Some(code) = status(inside) {
                        tell(stream, Part::Status(code));
                    }
                }
                SETTINGS if flags & ACK == 0 => frame(&mut self.write, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(&mut self.write, PING, ACK, 0, payload),
                WINDOW_UPDATE if stream == 0 && length == 4 => {
                    self.may_send += i64::from(u32::from_be_bytes([
                        payload[0], payload[1], payload[2], payload[3],
                    ]));
                }
                RST_STREAM => bail!("the server broke off stream {stream}: {payload:?}"),
                GOAWAY => bail!("the server ends the connection: {payload:?}"),
                _ => {}
            }
            if kind <= HEADERS && flags & END_STREAM != 0 {
                tell(stream, Part::End);
            }
            self.ready.start += 9 + length;
        }
        if !self.write.is_empty() {
            self.flush().await?;
        }
        Ok(())
    }
}

/// The body type of calls to etcd.
pub const GRPC: &str = "application/grpc";

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn open_window(out: &mut Vec<u8>, stream: u32, bytes: usize) {
    frame(out, WINDOW_UPDATE, 0, stream, &u32::try_from(bytes).unwrap_or(0).to_be_bytes());
}

/// A header that is not indexed: its name as given, its value as plain text.
fn literal(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    let mut length = value.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push((length % 128) as u8 | 128);
            length /= 128;
        }
        out.push(length as u8);
    }
    out.extend_from_slice(value.as_bytes());
}

/// The status code of a header block, which comes first; `None` for trailers.
fn status(mut block: &[u8]) -> Option<u16> {
    // A change of the table's size, which is ours of 0.
    while block.first()? & 0xe0 == 0x20 {
        block = &block[1..];
    }
    let first = *block.first()?;
    if first & 0x80 != 0 {
        let known = [200, 204, 206, 304, 400, 404, 500];
        return known.get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    let name = if first & 0x40 != 0 { first & 0x3f } else { first & 0x0f };
    if !(8..=14).contains(&name) {
        return None;
    }
    let length = *block.get(1)?;
    let text = block.get(2..2 + usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let bits = text.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
    let (mut left, mut code) = (8 * text.len() as u32, 0);
    for _ in 0..3 {
        // upstream: RFC 7541, appendix B: 0, 1 and 2 have five bits, the other digits six.
        let five = bits >> left.checked_sub(5)? & 31;
        let digit = if five <= 2 {
            left -= 5;
            five
        } else {
            left = left.checked_sub(6)?;
            (bits >> left & 63).checked_sub(22)?
        };
        code = code * 10 + u16::try_from(digit).ok()?;
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_read_in_every_form() {
        assert_eq!(status(&[0x88, 0x10]), Some(200));
        assert_eq!(status(&[0x20, 0x8d]), Some(404));
        assert_eq!(status(&[0x08, 3, b'2', b'0', b'1']), Some(201));
        // upstream: RFC 7541, C.6.1 (302) and C.6.2 (307)
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(status(&[0x00, 0x0b]), None);
    }

    #[test]
    fn long_values_have_long_lengths() {
        let mut out = Vec::new();
        literal(&mut out, &[0x04], &"x".repeat(300));
        assert_eq!(out[..4], [0x04, 127, 173, 1]);
        assert_eq!(out.len(), 304);
    }
}
