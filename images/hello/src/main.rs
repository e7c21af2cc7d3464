//! The sample web server: answers every request with its pod's name, namespace and node.
//!
//! It is written so that a rolling update loses no request. After SIGTERM it goes on accepting for a drain
//! period, because the service proxy learns of the end of a pod at the same time as the pod itself does;
//! every answer then carries `Connection: close`, so that clients move to another pod. When the period is
//! over it closes the listener, finishes the requests it has begun and exits.
//!
//! Environment: `PORT` (default 8080), `DRAIN_SECONDS` (default 5), `POD_NAME`, `POD_NAMESPACE`, `NODE_NAME`.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a request's head may be in bytes.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// How long a client may keep a connection without sending a request.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// What the process is doing; connections watch it.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Serving,
    /// SIGTERM came: still accepting, but asking clients to leave.
    Draining,
    /// Idle connections are closed, running requests finish.
    Closing,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port: u16 = env("PORT", "8080").parse().map_err(std::io::Error::other)?;
    let drain =
        Duration::from_secs(env("DRAIN_SECONDS", "5").parse().map_err(std::io::Error::other)?);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(("::", port)).await?;
    let page = page();
    println!("listening on port {port}: {}", page.replace('\n', " "));

    let (phase, _) = watch::channel(Phase::Serving);
    let mut connections = JoinSet::new();
    let drained = tokio::time::sleep(Duration::MAX);
    tokio::pin!(drained);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, page.clone(), phase.subscribe()));
                }
                Err(error) => eprintln!("accept: {error}"),
            },
            Some(_) = connections.join_next() => {}
            _ = terminate.recv() => start_drain(&phase, drained.as_mut(), drain),
            _ = interrupt.recv() => start_drain(&phase, drained.as_mut(), Duration::ZERO),
            () = &mut drained => break,
        }
    }
    drop(listener);
    phase.send_replace(Phase::Closing);
    while connections.join_next().await.is_some() {}
    println!("finished");
    Ok(())
}

fn start_drain(
    phase: &watch::Sender<Phase>,
    timer: std::pin::Pin<&mut tokio::time::Sleep>,
    drain: Duration,
) {
    println!("terminating: accepting for {} more seconds", drain.as_secs());
    phase.send_replace(Phase::Draining);
    timer.reset(tokio::time::Instant::now() + drain);
}

fn env(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn page() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_else(|_| "unknown".to_owned());
    format!(
        "Hello from Longshore!\npod: {}\nnamespace: {}\nnode: {}\n",
        env("POD_NAME", host.trim()),
        env("POD_NAMESPACE", "unknown"),
        env("NODE_NAME", "unknown")
    )
}

/// Serves one connection; an error only means that the client went away.
async fn connection(stream: TcpStream, page: String, phase: watch::Receiver<Phase>) {
    if let Err(error) = serve(stream, &page, phase).await
        && error.kind() != std::io::ErrorKind::ConnectionReset
    {
        eprintln!("connection: {error}");
    }
}

async fn serve(
    stream: TcpStream,
    page: &str,
    mut phase: watch::Receiver<Phase>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        // Between requests: leave when the process closes, when the client hangs up or idles.
        tokio::select! {
            biased;
            ready = stream.fill_buf() => if ready?.is_empty() { return Ok(()) },
            _ = phase.wait_for(|phase| *phase == Phase::Closing) => return Ok(()),
            () = tokio::time::sleep(IDLE_MAX) => return Ok(()),
        }
        let Some(request) = read_request(&mut stream).await? else { return Ok(()) };
        let keep_alive = request.keep_alive && *phase.borrow() == Phase::Serving;
        let status = if request.malformed { "400 Bad Request" } else { "200 OK" };
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n",
            page.len(),
            if keep_alive { "keep-alive" } else { "close" },
        );
        if !request.head_only {
            answer.push_str(page);
        }
        stream.write_all(answer.as_bytes()).await?;
        if !keep_alive {
            return stream.shutdown().await;
        }
    }
}

/// What the answer depends on.
struct Request {
    keep_alive: bool,
    head_only: bool,
    malformed: bool,
}

/// Reads one request and drops its body; `None` when the client hung up before one was complete.
async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut request = Request { keep_alive: true, head_only: false, malformed: false };
    let mut head = stream.take(HEAD_BYTES_MAX);
    let (mut line, mut first, mut body) = (String::new(), true, 0u64);
    loop {
        line.clear();
        if head.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let text = line.trim_end();
        if text.is_empty() && !first {
            break;
        }
        if first {
            first = false;
            request.head_only = text.starts_with("HEAD ");
            request.keep_alive = text.ends_with("HTTP/1.1");
            request.malformed = !text.contains(" HTTP/1.");
        } else if let Some((name, value)) = text.split_once(':') {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "connection" if value.eq_ignore_ascii_case("close") => request.keep_alive = false,
                "connection" if value.eq_ignore_ascii_case("keep-alive") => {
                    request.keep_alive = true
                }
                "content-length" => body = value.parse().map_err(std::io::Error::other)?,
                // A body of unknown length is not read: answer and hang up.
                "transfer-encoding" => request.keep_alive = false,
                _ => {}
            }
        }
    }
    tokio::io::copy(&mut stream.take(body), &mut tokio::io::sink()).await?;
    Ok(Some(request))
}
