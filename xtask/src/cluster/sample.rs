//! The sample: applied, fetched through its Service, explained.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Cluster, say, wait};

/// How long one attempt to fetch the page may take.
const FETCH_MAX: Duration = Duration::from_secs(2);

/// Applies the sample, waits until it runs, fetches the page and prints what to type next.
pub fn run(cluster: &Cluster) -> Result<()> {
    say("applying examples/hello.yaml");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello.yaml");
    cluster.kubectl(&["apply", "-f", manifest])?;
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=300s"])?;
    let path = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    let address = cluster.kubectl(&["get", "nodes", "-o", path])?;
    let address: SocketAddr =
        format!("{address}:{}", cluster.node_port).parse().context("the node's address")?;
    let mut page = String::new();
    wait("the page comes through the Service", || {
        let fetched = fetch(address);
        page = fetched.as_ref().cloned().unwrap_or_default();
        Ok(fetched.is_ok())
    })?;
    say(&format!("http://{address}/ says:"));
    println!("{page}");
    let kubeconfig = cluster.kubeconfig();
    println!("The cluster is up. Next:\n");
    println!("  export KUBECONFIG={}", kubeconfig.display());
    println!("  kubectl get pods -A -o wide");
    println!("  kubectl scale deployment hello --replicas=5");
    println!("  curl http://{address}/");
    println!("  ./x down");
    Ok(())
}

/// The body of `GET /`.
fn fetch(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, FETCH_MAX)?;
    stream.set_read_timeout(Some(FETCH_MAX))?;
    stream.write_all(
        format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => bail!("not a page: {answer:?}"),
    }
}
