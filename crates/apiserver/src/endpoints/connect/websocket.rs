//! A body that is sent as the messages of a WebSocket, for clients that cannot read a stream.
//!
//! upstream: staging/src/k8s.io/streaming/pkg/httpstream/wsstream/stream.go, RFC 6455

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use longshore_api::{Reason, StatusError};
use longshore_base::{Shutdown, TaskKind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::body::{Body, full};
use crate::endpoints::respond::Switched;

/// What is joined to a client's key before it is hashed.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The kinds of frames, each the last one of its message.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
/// The end, with the code that all is well.
const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe8];
const OPCODE: u8 = 0x0f;
const OPCODE_CLOSE: u8 = 8;
/// The headers that are between the client and this server only.
const OWN_HEADERS: [HeaderName; 6] = [
    CONNECTION,
    UPGRADE,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
];

/// What was agreed on with a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    accept: String,
    /// Empty when the client asked for none.
    protocol: &'static str,
}

/// Whether a request wants to become a WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let says = |name: HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(word))
    };
    says(UPGRADE, "websocket") && says(CONNECTION, "upgrade")
}

/// Reads what a client wants, and takes its words out of the headers, which are passed on.
///
/// # Errors
/// 400 without a key, 403 when no protocol is known that it can speak.
pub(super) fn agree(headers: &mut HeaderMap) -> Result<Agreed, StatusError> {
    let key = headers.get(SEC_WEBSOCKET_KEY).cloned();
    let key = key.ok_or_else(|| StatusError::bad_request("the key of the WebSocket is missing"))?;
    let wanted = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let wanted = wanted.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim);
    let wanted: Vec<&str> = wanted.collect();
    let known = ["binary.k8s.io", "base64.binary.k8s.io"];
    let protocol = wanted.iter().find_map(|word| known.into_iter().find(|own| own == word));
    let protocol = match protocol {
        Some(protocol) => protocol,
        None if wanted.is_empty() => "",
        None => {
            let text = format!("requested protocol(s) are not supported: {wanted:?}");
            return Err(StatusError::new(Reason::Forbidden, text));
        }
    };
    let input = [key.as_bytes(), MAGIC].concat();
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &input);
    for name in OWN_HEADERS {
        headers.remove(name);
    }
    Ok(Agreed { accept: STANDARD.encode(hash), protocol })
}

/// The answer that switches to the WebSocket; the body follows as messages, then the connection
/// ends. When the client ends it, so does the body.
pub(super) fn send(agreed: &Agreed, client: OnUpgrade, body: Body) -> Response<Body> {
    let encoded = agreed.protocol == "base64.binary.k8s.io";
    let ended = Shutdown::new();
    let end = ended.clone().drop_guard();
    longshore_base::task::spawn(TaskKind::PerItem, "websocket", async move {
        let _end = end;
        let outcome = match client.await {
            Ok(client) => copy(TokioIo::new(client), body, encoded).await,
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a WebSocket broke off");
        }
    });
    let mut response = Response::new(full(""));
    response.extensions_mut().insert(Switched(ended));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let accept = HeaderValue::from_str(&agreed.accept).expect("base64 is a header value");
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !agreed.protocol.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(agreed.protocol));
    }
    response
}

async fn copy(
    client: impl AsyncRead + AsyncWrite,
    mut body: Body,
    encoded: bool,
) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(client);
    let send = async {
        // The first message is empty: it tells that the stream is open.
        writer.write_all(&message(b"", encoded)).await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(std::io::Error::other)?;
            if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                writer.write_all(&message(data, encoded)).await?;
                writer.flush().await?;
            }
        }
        writer.write_all(&CLOSE).await?;
        writer.shutdown().await
    };
    tokio::select! {
        outcome = send => outcome,
        () = closed(&mut reader) => Ok(()),
    }
}

/// One message.
fn message(data: &[u8], encoded: bool) -> Bytes {
    let text;
    let (kind, data) = if encoded {
        text = STANDARD.encode(data);
        (TEXT, text.as_bytes())
    } else {
        (BINARY, data)
    };
    let mut frame = BytesMut::with_capacity(data.len() + 10);
    frame.put_u8(kind);
    match (u8::try_from(data.len()), u16::try_from(data.len())) {
        (Ok(length @ ..126), _) => frame.put_u8(length),
        (_, Ok(length)) => {
            frame.put_u8(126);
            frame.put_u16(length);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(data.len() as u64);
        }
    }
    frame.extend_from_slice(data);
    frame.freeze()
}

/// Reads, and forgets, what a client sends until it closes the connection.
async fn closed(reader: &mut (impl AsyncRead + Unpin)) {
    loop {
        match skip_frame(reader).await {
            Ok(OPCODE_CLOSE) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Reads one frame; its kind.
async fn skip_frame(reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<u8> {
    let kind = reader.read_u8().await? & OPCODE;
    let second = reader.read_u8().await?;
    let length = match second & 0x7f {
        126 => u64::from(reader.read_u16().await?),
        127 => reader.read_u64().await?,
        short => u64::from(short),
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let whole = length.saturating_add(mask);
    if tokio::io::copy(&mut reader.take(whole), &mut tokio::io::sink()).await? < whole {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(HeaderName, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_both_can_speak_is_agreed_on() {
        let mut asked = headers(&[
            (UPGRADE, "WebSocket"),
            (CONNECTION, "keep-alive, Upgrade"),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
            (SEC_WEBSOCKET_PROTOCOL, "chat, binary.k8s.io"),
            (http::header::ACCEPT, "*/*"),
        ]);
        assert!(is_wanted(&asked));
        let agreed = agree(&mut asked).expect("a protocol is known");
        // The example of RFC 6455, section 1.3.
        assert_eq!(agreed.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(agreed.protocol, "binary.k8s.io");
        assert_eq!(asked, headers(&[(http::header::ACCEPT, "*/*")]));
        let key = (SEC_WEBSOCKET_KEY, "a");
        let protocol = |list: &[_]| agree(&mut headers(list)).map(|a| a.protocol).ok();
        assert_eq!(protocol(std::slice::from_ref(&key)), Some(""));
        assert_eq!(protocol(&[key, (SEC_WEBSOCKET_PROTOCOL, "chat")]), None);
        assert_eq!(protocol(&[]), None);
        assert!(!is_wanted(&headers(&[(UPGRADE, "SPDY/3.1"), (CONNECTION, "upgrade")])));
    }

    #[test]
    fn messages_have_a_head_with_their_length() {
        assert_eq!(message(b"", false).as_ref(), [BINARY, 0]);
        assert_eq!(message(b"a", true).as_ref(), [TEXT, 4, b'Y', b'Q', b'=', b'=']);
        assert_eq!(message(&[0; 200], false)[..4], [BINARY, 126, 0, 200]);
        assert_eq!(message(&[0; 70_000], false)[..10], [BINARY, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[tokio::test]
    async fn a_body_is_sent_until_either_side_ends() {
        let (server, mut client) = tokio::io::duplex(64);
        copy(server, full("ab"), false).await.expect("all is sent");
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).await.expect("it ends");
        assert_eq!(seen, [&[BINARY, 0, BINARY, 2, b'a', b'b'][..], &CLOSE].concat());
        let (server, mut client) = tokio::io::duplex(64);
        let never = crate::body::stream(futures_util::stream::pending());
        // A masked text, then the end.
        let sent = [TEXT, 0x81, 1, 2, 3, 4, 5, 0x88, 0x80, 1, 2, 3, 4];
        client.write_all(&sent).await.expect("there is room");
        copy(server, never, false).await.expect("the client closed");
    }
}
