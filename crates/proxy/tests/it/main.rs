//! The rules in a real kernel, in a network namespace of their own.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_linux::nft::{Nft, SystemNft};
use longshore_proxy::{Config, render, ruleset, service};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace that goes with the test.
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(purpose: &str) -> Self {
        let namespace = Self { name: format!("lsh-proxy-{}-{purpose}", std::process::id()) };
        ip(&["netns", "add", &namespace.name]);
        let of = |arguments: &[&str]| ip(&[&["-n", &namespace.name], arguments].concat());
        of(&["link", "set", "lo", "up"]);
        of(&["addr", "add", "192.0.2.1/32", "dev", "lo"]);
        for pod in ["10.244.0.5/32", "10.244.0.6/32", "10.244.0.7/32"] {
            of(&["addr", "add", pod, "dev", "lo"]);
        }
        // What is sent to service addresses must seem to leave the machine.
        of(&["link", "add", "out", "type", "veth", "peer", "name", "beyond"]);
        of(&["link", "set", "out", "up"]);
        of(&["link", "set", "beyond", "up"]);
        of(&["route", "add", "default", "dev", "out", "src", "192.0.2.1"]);
        namespace
    }

    /// Runs something on a thread inside the namespace.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace");
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&file),
                Some(LinkNameSpaceType::Network),
            )
            .expect("enter the namespace");
            work()
        });
        thread.join().expect("the work in the namespace")
    }

    /// Connects inside the namespace and reads what the other side says.
    fn ask(&self, to: &str) -> io::Result<String> {
        let to: SocketAddr = to.parse().expect("an address");
        self.run(move || ask(to))
    }

    /// Answers every connection with a text.
    fn listen(&self, at: &str, text: &'static str) {
        let at = at.to_owned();
        let listener = self.run(move || TcpListener::bind(at)).expect("bind");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                stream.and_then(|mut s| s.write_all(text.as_bytes())).expect("answer");
            }
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.name]);
    }
}

fn ask(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("run ip");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", arguments.join(" "));
}

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).expect("an object"))
}

/// All kinds of rules at once.
fn rules(endpoints: &[&str], affinity_seconds: u32) -> ruleset::Ruleset {
    let config = Config {
        node_name: "node-a".to_owned(),
        node_ip: Ipv4Addr::new(192, 0, 2, 1),
        cluster_network: (Ipv4Addr::new(10, 244, 0, 0), 16),
        node_ports: 30000..=32767,
    };
    let spec = |ip: &str, node_port: u16, local: &str| {
        json!({"type": "LoadBalancer", "clusterIP": ip, "externalTrafficPolicy": local,
            "internalTrafficPolicy": "Cluster", "externalIPs": ["203.0.113.7"],
            "loadBalancerSourceRanges": ["198.51.100.0/24", "192.0.2.0/24"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": node_port},
                {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": node_port},
                {"name": "sig", "port": 99, "protocol": "SCTP", "nodePort": node_port}]})
    };
    let status = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
    let mut sticky = spec("10.96.0.21", 30081, "Local");
    sticky["sessionAffinity"] = "ClientIP".into();
    sticky["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": affinity_seconds}});
    let specs = [("web", spec("10.96.0.20", 30080, "Cluster")), ("sticky", sticky)];
    let mut none = spec("10.96.0.22", 30082, "Cluster");
    none["externalIPs"] = json!([]);
    let mut services: Vec<_> = specs.into_iter().collect();
    services.push(("none", none));
    let slices: Vec<Arc<Object>> = ["web", "sticky"].map(|name| {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|ip| json!({"addresses": [ip], "nodeName": "node-a", "conditions": {"ready": true}}))
            .collect();
        object(json!({"metadata": {"name": name, "namespace": "shop",
                "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"},
                {"name": "dns", "port": 5353, "protocol": "UDP"},
                {"name": "sig", "port": 9999, "protocol": "SCTP"}]}))
    }).into();
    let services: Vec<Arc<Object>> = services
        .into_iter()
        .map(|(name, spec)| {
            object(json!({"metadata": {"name": name, "namespace": "shop"},
                "spec": spec, "status": status}))
        })
        .collect();
    let ports = service::read(&services, &slices, &config.node_name);
    ruleset::compile(&config, &ports, "")
}

#[test]
fn connections_reach_endpoints_in_a_real_kernel() {
    if !rustix::process::geteuid().is_root() {
        // Namespaces and packet rules belong to root; the pure tests cover the text.
        return;
    }
    let namespace = Namespace::new("tcp");
    let nft = SystemNft::in_namespace(&namespace.name);
    namespace.listen("10.244.0.5:8080", "web");

    let one = rules(&["10.244.0.5"], 60);
    nft.apply(&render::whole(&one)).expect("the whole ruleset");
    for to in [
        "10.96.0.20:80",
        "10.96.0.21:80",
        "192.0.2.1:30080",
        "127.0.0.1:30080",
        "192.0.2.1:30081",
        "203.0.113.7:80",
        "203.0.113.9:80",
    ] {
        assert_eq!(namespace.ask(to).expect(to), "web", "{to}");
    }
    for to in ["10.96.0.22:80", "192.0.2.1:30082", "10.96.0.20:81"] {
        let error = namespace.ask(to).expect_err(to);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{to}");
    }

    // Every step by its difference: more endpoints, another timeout, none, back, and all away.
    let two = rules(&["10.244.0.5", "10.244.0.6"], 60);
    let later = rules(&["10.244.0.5", "10.244.0.6"], 90);
    let none = rules(&[], 90);
    let steps = [&one, &two, &later, &none, &one];
    for pair in steps.windows(2) {
        change(&nft, pair[0], pair[1]);
    }
    nft.apply(&render::renew(&one)).expect("it is there");
    assert_eq!(namespace.ask("10.96.0.20:80").expect("after all steps"), "web");
    nft.apply(&render::whole(&two)).expect("over what is there");
    nft.apply(&render::nothing()).expect("delete");
    nft.apply(&render::renew(&two)).expect_err("there is nothing to renew");
    nft.apply(&render::nothing()).expect("delete what is not there");
}

/// Clients, and the connections that each makes: enough for a few to be overtaken by a change, which comes every
/// few milliseconds, and few enough for the kernel's table of connections.
const CLIENTS: usize = 2;
const CONNECTIONS: usize = 10_000;

/// A packet that a change overtakes finds its way, too.
#[test]
fn no_connection_is_refused_while_endpoints_come_and_go() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let namespace = Namespace::new("swap");
    let nft = SystemNft::in_namespace(&namespace.name);
    for at in ["10.244.0.5:8080", "10.244.0.6:8080", "10.244.0.7:8080"] {
        namespace.listen(at, "web");
    }
    let two = rules(&["10.244.0.5", "10.244.0.6"], 60);
    let three = rules(&["10.244.0.5", "10.244.0.6", "10.244.0.7"], 60);
    nft.apply(&render::whole(&two)).expect("the whole ruleset");
    let load = || {
        let to = "192.0.2.1:30080".parse().expect("an address");
        namespace.run(move || (0..CONNECTIONS).try_for_each(|_| ask(to).map(drop)))
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(load)).collect();
        while !clients.iter().all(|client| client.is_finished()) {
            change(&nft, &two, &three);
            change(&nft, &three, &two);
        }
        for client in clients {
            client.join().expect("a client").expect("every connection is served");
        }
    });
}

fn change(nft: &SystemNft, old: &ruleset::Ruleset, new: &ruleset::Ruleset) {
    for text in render::change(old, new) {
        nft.apply(&text).expect("a difference");
    }
}

#[test]
fn refused_rules_say_why() {
    let nft = SystemNft::default();
    let error = nft.apply("this is no rule\n").expect_err("no rule").to_string();
    assert!(error.contains("syntax error"), "{error}");
}
