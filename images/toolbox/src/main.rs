//! The server of the test toolbox image; the rest of the image is busybox.
//!
//! | command | what it does |
//! |---|---|
//! | `toolbox serve` | HTTP on 8080, TCP echo on 8081, UDP echo on 8082, gRPC health on 8083 (`HTTP_PORT`, `TCP_PORT`, `UDP_PORT`, `GRPC_PORT`) |
//! | `toolbox ask udp\|tcp HOST:PORT TEXT` | sends the text and prints the answer |
//! | `toolbox exit CODE [MILLISECONDS]` | ends with the code, after the time |
//! | `toolbox ignore-term` | ignores SIGTERM until it is killed |
//!
//! | path of the HTTP server | answer |
//! |---|---|
//! | `/hostname`, `/client` | the host name; the address the request came from |
//! | `/echo` | the body of the request |
//! | `/delay/MS` | `ok` after that many milliseconds |
//! | `/status/CODE` | that status |
//! | `/env`, `/env/NAME` | the environment; one variable |
//! | `/file/PATH` | the file; PUT writes it |
//! | `/healthz`, `/fail`, `/heal` | 200 or 500, as the last of the other two said |
//! | `/exit/CODE` | ends the process with that code |

mod health;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};

/// The largest request body, in bytes.
const BODY_BYTES_MAX: u64 = 16 << 20;
/// The longest request head, in bytes.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// What `/healthz` says.
static HEALTHY: AtomicBool = AtomicBool::new(true);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["serve"] => serve().await,
        ["exit", code] => return exit_code(code),
        ["exit", code, milliseconds] => {
            tokio::time::sleep(Duration::from_millis(milliseconds.parse().unwrap_or(0))).await;
            return exit_code(code);
        }
        ["ignore-term"] => ignore_term().await,
        ["ask", "tcp", to, text] => ask_tcp(to, text).await,
        ["ask", "udp", to, text] => ask_udp(to, text).await,
        _ => {
            eprintln!(
                "usage: toolbox serve | ask udp|tcp HOST:PORT TEXT | exit CODE [MILLISECONDS] | ignore-term"
            );
            return ExitCode::from(64);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toolbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exit_code(text: &str) -> ExitCode {
    ExitCode::from(text.parse::<u8>().unwrap_or(1))
}

async fn ignore_term() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    while terminate.recv().await.is_some() {
        println!("ignoring SIGTERM");
    }
    Ok(())
}

/// How long an answer may take.
const ASK_MAX: Duration = Duration::from_secs(5);

async fn ask_tcp(to: &str, text: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    tokio::time::timeout(ASK_MAX, stream.read_to_string(&mut answer)).await??;
    println!("{answer}");
    Ok(())
}

async fn ask_udp(to: &str, text: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
    socket.connect(to).await?;
    socket.send(text.as_bytes()).await?;
    let mut answer = vec![0; 65_536];
    let length = tokio::time::timeout(ASK_MAX, socket.recv(&mut answer)).await??;
    println!("{}", String::from_utf8_lossy(&answer[..length]));
    Ok(())
}

fn port(name: &str, default: u16) -> std::io::Result<u16> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().map_err(std::io::Error::other))
}

async fn serve() -> std::io::Result<()> {
    let http = TcpListener::bind(("::", port("HTTP_PORT", 8080)?)).await?;
    let tcp = TcpListener::bind(("::", port("TCP_PORT", 8081)?)).await?;
    let grpc = TcpListener::bind(("::", port("GRPC_PORT", 8083)?)).await?;
    let udp = UdpSocket::bind(("::", port("UDP_PORT", 8082)?)).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut datagram = vec![0; 65_536];
    println!("serving");
    loop {
        tokio::select! {
            accepted = http.accept() => if let Ok((stream, from)) = accepted {
                tokio::spawn(async move { log("http", connection(stream, from).await) });
            },
            accepted = tcp.accept() => if let Ok((mut stream, _)) = accepted {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    log("tcp", tokio::io::copy(&mut read, &mut write).await.map(drop));
                });
            },
            accepted = grpc.accept() => if let Ok((stream, _)) = accepted {
                tokio::spawn(async move { log("grpc", health::serve(stream).await) });
            },
            received = udp.recv_from(&mut datagram) => if let Ok((length, from)) = received {
                log("udp", udp.send_to(&datagram[..length], from).await.map(drop));
            },
            _ = terminate.recv() => return Ok(()),
        }
    }
}

fn log(what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        eprintln!("{what}: {error}");
    }
}

struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
    keep_alive: bool,
}

async fn connection(stream: TcpStream, from: SocketAddr) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await? {
        let (status, body) = answer(&request, from).await;
        let head = format!(
            "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n",
            body.len(),
            if request.keep_alive { "keep-alive" } else { "close" }
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.flush().await?;
        if let Some(code) = request.path.strip_prefix("/exit/") {
            std::process::exit(code.parse().unwrap_or(1));
        }
        if !request.keep_alive {
            break;
        }
    }
    Ok(())
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut head = stream.take(HEAD_BYTES_MAX);
    let mut line = String::new();
    if head.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        body: Vec::new(),
        keep_alive: words.next().as_deref() == Some("HTTP/1.1"),
    };
    let mut length = 0;
    loop {
        line.clear();
        if head.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        } else if name.eq_ignore_ascii_case("connection") {
            request.keep_alive = !value.trim().eq_ignore_ascii_case("close");
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(std::io::Error::other("the body is too long"));
    }
    stream.take(length).read_to_end(&mut request.body).await?;
    Ok(Some(request))
}

async fn answer(request: &Request, from: SocketAddr) -> (u16, Vec<u8>) {
    let path = request.path.split('?').next().unwrap_or_default();
    let (first, rest) =
        path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    match first {
        "" | "hostname" => file(request, "/proc/sys/kernel/hostname"),
        "client" => (200, from.ip().to_canonical().to_string().into_bytes()),
        "echo" => (200, request.body.clone()),
        "delay" => {
            tokio::time::sleep(Duration::from_millis(rest.parse().unwrap_or(0))).await;
            (200, b"ok".to_vec())
        }
        "status" => (rest.parse().unwrap_or(400), rest.as_bytes().to_vec()),
        "env" if rest.is_empty() => (
            200,
            std::env::vars()
                .map(|(name, value)| format!("{name}={value}\n"))
                .collect::<String>()
                .into_bytes(),
        ),
        "env" => std::env::var(rest).map_or((404, Vec::new()), |value| (200, value.into_bytes())),
        "file" => file(request, &format!("/{rest}")),
        "healthz" if HEALTHY.load(Ordering::Relaxed) => (200, b"ok".to_vec()),
        "healthz" => (500, b"failing".to_vec()),
        "fail" | "heal" => {
            HEALTHY.store(first == "heal", Ordering::Relaxed);
            (200, b"ok".to_vec())
        }
        "exit" => (200, b"bye".to_vec()),
        _ => (404, b"no such path".to_vec()),
    }
}

fn file(request: &Request, path: &str) -> (u16, Vec<u8>) {
    let result = match request.method.as_str() {
        "PUT" => std::fs::write(path, &request.body).map(|()| Vec::new()),
        _ => std::fs::read(path),
    };
    match result {
        Ok(body) => (200, body),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (404, error.to_string().into_bytes())
        }
        Err(error) => (500, error.to_string().into_bytes()),
    }
}
