//! Names, services and node ports, as pods and the node see them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};

use super::{Cluster, Space, TOOLBOX, WAIT_MAX};

/// Requests that show how connections are spread.
const REQUESTS: usize = 30;

/// Everything of this part.
pub fn run(cluster: &Cluster) {
    let space = cluster.space("network");
    space.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 2\n  \
         selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
         spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: toolbox\n        \
         image: {TOOLBOX}\n        ports: [{{name: http, containerPort: 8080}}]\n        \
         readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1, timeoutSeconds: 60}}\n---\n{}---\n{}---\n{}",
        service("web", "type: NodePort, selector: {app: web}"),
        service("sticky", "selector: {app: web}, sessionAffinity: ClientIP"),
        service("peers", "selector: {app: web}, clusterIP: None"),
    ));
    space.toolbox("client", "  hostname: first\n  subdomain: named\n");
    space.apply(&service("named", "selector: {app: client}, clusterIP: None"));
    space.rolled_out("web");
    names(&space);
    services(&space);
    node_ports(&space);
    hairpin(&space);
    own_names(&space);
}

fn service(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{more}, ports: \
         [{{name: http, port: 80, targetPort: 8080}}, {{name: tcp, port: 81, targetPort: 8081}}, \
         {{name: udp, port: 82, targetPort: 8082, protocol: UDP}}]}}\n"
    )
}

/// Waits until a lookup in the client pod gives what is right: the last word of each answer, after those of the server.
#[track_caller]
fn lookup(space: &Space<'_>, arguments: &str, right: impl Fn(&[&str]) -> bool) {
    let command = format!("nslookup {arguments} | tail -n +3");
    space.eventually(&["exec", "client", "--", "sh", "-c", &command], |text| {
        let lines =
            text.lines().filter(|line| line.starts_with("Address") || line.contains("service ="));
        let mut found: Vec<&str> = lines.map(|l| l.rsplit([' ', '\t']).next().unwrap()).collect();
        found.sort_unstable();
        right(&found)
    });
}

fn names(space: &Space<'_>) {
    let address = space.field("service/web", ".spec.clusterIP");
    let full = "web.network.svc.cluster.local";
    lookup(space, full, |found| found == [address.as_str()]);
    let mut pods: Vec<String> = space
        .kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"])
        .split(' ')
        .map(str::to_owned)
        .collect();
    pods.sort();
    // A headless service.
    lookup(space, "peers.network.svc.cluster.local", |found| found == pods);
    lookup(space, "-type=srv _http._tcp.web.network.svc.cluster.local", |found| {
        found.iter().all(|name| name.trim_end_matches('.') == full) && !found.is_empty()
    });
    lookup(space, "-type=srv _udp._udp.peers.network.svc.cluster.local", |found| found.len() == 2);
    let own = space.field("pod/client", ".status.podIP");
    lookup(space, "first.named.network.svc.cluster.local", |found| found == [own.as_str()]);
    lookup(space, "kubernetes.default.svc.cluster.local", |found| found.len() == 1);
    let none =
        space.try_kubectl(&["exec", "client", "--", "nslookup", "none.network.svc.cluster.local"]);
    assert!(!none.status.success());
    // By its short names, through the search domains.
    for name in ["web", "web.network", "web.network.svc", full] {
        let answer = space.shell("client", &format!("wget -qO- http://{name}/hostname"));
        assert!(answer.starts_with("web-"), "{name}: {answer}");
    }
    let resolver = space.shell("client", "cat /etc/resolv.conf");
    assert!(resolver.contains("nameserver 10.96.0.10"), "{resolver}");
    assert!(
        resolver.contains("search network.svc.cluster.local svc.cluster.local cluster.local"),
        "{resolver}"
    );
    assert!(resolver.contains("ndots:5"), "{resolver}");
}

/// Waits until so many pods answer, over many connections to an address.
#[track_caller]
fn answered_by(space: &Space<'_>, service: &str, count: usize) {
    let command =
        format!("for i in $(seq {REQUESTS}); do wget -qO- http://{service}/hostname; done");
    space.eventually(&["exec", "client", "--", "sh", "-c", &command], |text| {
        text.lines().collect::<BTreeSet<&str>>().len() == count
    });
}

fn services(space: &Space<'_>) {
    // Connections are spread, but a client may stay where it was.
    answered_by(space, "web", 2);
    answered_by(space, "sticky", 1);
    assert_eq!(space.shell("client", "toolbox ask tcp web:81 word"), "word");
    assert_eq!(space.shell("client", "toolbox ask udp web:82 word"), "word");
    assert_eq!(space.shell("client", "toolbox ask udp peers:8082 word"), "word");
    // A pod behind the service sees the address of the pod that asks.
    let own = space.field("pod/client", ".status.podIP");
    assert_eq!(space.shell("client", "wget -qO- http://web/client"), own);
    // No endpoints: refused at once rather than never answered.
    space.apply(&service("empty", "selector: {app: none}"));
    let refused =
        ["exec", "client", "--", "sh", "-c", "toolbox ask tcp empty:80 word 2>&1 || true"];
    space.eventually(&refused, |text| text.contains("refused"));
}

fn node_ports(space: &Space<'_>) {
    let node = space.field("nodes", ".items[0].status.addresses[0].address");
    let port = |name: &str| {
        space.field("service/web", &format!(".spec.ports[?(@.name==\"{name}\")].nodePort"))
    };
    let (http, udp) = (port("http"), port("udp"));
    for host in [node.as_str(), "127.0.0.1"] {
        let to = format!("{host}:{http}");
        let answer = space.cluster.inside(move || {
            let mut stream = TcpStream::connect(to).unwrap();
            stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
            stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        assert!(answer.contains("web-"), "{answer}");
    }
    let to = format!("{node}:{udp}");
    let answer = space.cluster.inside(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(WAIT_MAX)).unwrap();
        socket.send(b"word").unwrap();
        let mut answer = [0; 16];
        let length = socket.recv(&mut answer).unwrap();
        answer[..length].to_vec()
    });
    assert_eq!(answer, b"word");
    let through = format!("wget -qO- http://{node}:{http}/hostname");
    assert!(space.shell("client", &through).starts_with("web-"), "from a pod too");
}

/// A pod reaches itself through its own service.
fn hairpin(space: &Space<'_>) {
    space.toolbox("mirror", "");
    space.apply(&service("mirror", "selector: {app: mirror}"));
    let ask = ["exec", "mirror", "--", "wget", "-qO-", "http://mirror.network/hostname"];
    space.eventually(&ask, |text| text == "mirror");
    assert_eq!(space.shell("mirror", "toolbox ask udp mirror.network:82 word"), "word");
}

/// What a pod is told about names: its own, others, and where to ask.
fn own_names(space: &Space<'_>) {
    assert_eq!(
        space.shell("client", "hostname; hostname -f"),
        "first\nfirst.named.network.svc.cluster.local"
    );
    space.toolbox(
        "told",
        "  hostAliases: [{ip: 192.0.2.7, hostnames: [seven, seven.example]}]\n  dnsPolicy: None\n  \
         dnsConfig: {nameservers: [192.0.2.53], searches: [example.com], options: [{name: ndots, value: '2'}, {name: edns0}]}\n",
    );
    let resolver = space.shell("told", "cat /etc/resolv.conf");
    assert_eq!(resolver, "search example.com\nnameserver 192.0.2.53\noptions ndots:2 edns0");
    let hosts = space.shell("told", "cat /etc/hosts");
    assert!(
        hosts.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"),
        "{hosts}"
    );
    assert!(
        hosts.ends_with("# Entries added by HostAliases.\n192.0.2.7\tseven\tseven.example"),
        "{hosts}"
    );
    let own = space.field("pod/told", ".status.podIP");
    assert!(hosts.contains(&format!("{own}\ttold\n")), "{hosts}");
}
