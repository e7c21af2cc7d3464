//! Deployments in real containers: replaced, updated, rolled back, and no request lost.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{Cluster, Space};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello.yaml");
/// Clients, and the pause of each between two requests: together 250 requests a second.
const CLIENTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);
/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// Everything of this part.
pub fn run(cluster: &Cluster) {
    let space = cluster.space("workloads");
    space.kubectl(&["apply", "-f", SAMPLE]);
    space.rolled_out("hello");
    let names = ["get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[*].metadata.name}"];
    let before = space.kubectl(&names);
    let first = before.split(' ').next().unwrap();
    space.kubectl(&["delete", "pod", first]);
    space.wait("deployment/hello", "jsonpath={.status.readyReplicas}=3");
    assert!(!space.kubectl(&names).contains(first));

    under_load(&space);
    let history = space.kubectl(&["rollout", "history", "deployment/hello"]);
    assert!(history.lines().any(|line| line.starts_with('4')), "{history}");
    space.told("hello", "Scaled up replica set hello-");
    space.kubectl(&["delete", "deployment,service", "hello"]);
    space.eventually(&names, str::is_empty);
}

/// A rolling update, its undoing and a restart lose no request.
fn under_load(space: &Space<'_>) {
    let node =
        space.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}"]);
    let service = space.field("service/hello", ".spec.clusterIP");
    let targets = [format!("{node}:30080"), format!("{service}:80")];
    let (done, failures) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let target: SocketAddr = targets[number % targets.len()].parse().unwrap();
                let (sender, stop) = mpsc::channel();
                let client = scope.spawn(move || space.cluster.inside(move || load(target, &stop)));
                (client, sender)
            })
            .collect();
        space.kubectl(&["set", "env", "deployment/hello", "GREETING=hi"]);
        space.rolled_out("hello");
        space.kubectl(&["rollout", "undo", "deployment/hello"]);
        space.rolled_out("hello");
        space.kubectl(&["rollout", "restart", "deployment/hello"]);
        space.rolled_out("hello");
        // The last pods of the old set are still ending: to their end nothing may be lost.
        let pods = ["get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[*].kind}"];
        space.eventually(&pods, |kinds| kinds == "Pod Pod Pod");
        let results: Vec<(usize, Vec<String>)> = clients
            .into_iter()
            .map(|(client, stop)| {
                drop(stop);
                client.join().unwrap()
            })
            .collect();
        let done: usize = results.iter().map(|(done, _)| done).sum();
        (done, results.into_iter().flat_map(|(_, failures)| failures).collect::<Vec<_>>())
    });
    assert!(failures.is_empty(), "{} of {done} requests were lost: {failures:?}", failures.len());
    assert!(done > 100, "only {done} requests were made");
}

/// Requests over new connections until told to stop: how many there were, and what went wrong.
fn load(target: SocketAddr, stop: &Receiver<()>) -> (usize, Vec<String>) {
    let (mut done, mut failures) = (0, Vec::new());
    // The sender never speaks: it goes when it is time to stop.
    while stop.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        let start = Instant::now();
        if let Err(error) = request(target) {
            failures.push(format!("{target} after {:?}: {error}", start.elapsed()));
        }
        done += 1;
    }
    (done, failures)
}

fn request(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, REQUEST_MAX)?;
    stream.set_read_timeout(Some(REQUEST_MAX))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.starts_with("HTTP/1.1 200 ") && answer.contains("Hello from") {
        true => Ok(()),
        false => Err(std::io::Error::other(answer)),
    }
}
