//! Probes of every kind decide what is ready, what has started and what is restarted.

use super::{Cluster, Space};

const COUNT: &str = ".status.containerStatuses[0].restartCount";
/// Set for a probe that has to succeed: a slow machine is no failure.
const PATIENT: &str = "timeoutSeconds: 60";
const READY: &str = ".status.containerStatuses[0].ready";

/// Everything of this part.
pub fn run(cluster: &Cluster) {
    let space = cluster.space("probes");
    http(&space);
    others(&space);
    startup(&space);
    grpc(&space);
}

fn becomes(space: &Space<'_>, pod: &str, field: &str, value: &str) {
    space.wait(&format!("pod/{pod}"), &format!("jsonpath={{{field}}}={value}"));
}

/// A failing readiness probe takes a pod out, a failing liveness probe restarts its container.
fn http(space: &Space<'_>) {
    let probe = |kind: &str, threshold: u32| {
        format!(
            "    {kind}: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1, {PATIENT}, failureThreshold: {threshold}}}\n"
        )
    };
    space.toolbox("unready", &probe("readinessProbe", 1));
    space.shell("unready", "wget -qO- http://127.0.0.1:8080/fail");
    becomes(space, "unready", READY, "false");
    let message = ".status.conditions[?(@.type==\"Ready\")].message";
    assert_eq!(space.field("pod/unready", message), "containers with unready status: [toolbox]");
    space.told("unready", "Readiness probe failed: HTTP probe failed with statuscode: 500");
    space.shell("unready", "wget -qO- http://127.0.0.1:8080/heal");
    becomes(space, "unready", READY, "true");
    assert_eq!(space.field("pod/unready", COUNT), "0");

    space.toolbox("dead", &probe("livenessProbe", 2));
    space.shell("dead", "wget -qO- http://127.0.0.1:8080/fail");
    becomes(space, "dead", COUNT, "1");
    becomes(space, "dead", READY, "true");
    space.told("dead", "Liveness probe failed: HTTP probe failed with statuscode: 500");
    space.told("dead", "Container toolbox failed liveness probe, will be restarted");
}

/// A command, a connection, TLS.
fn others(space: &Space<'_>) {
    let node = space.field("nodes", ".items[0].status.addresses[0].address");
    space.make_toolbox(
        "others",
        &format!(
            "    readinessProbe: {{exec: {{command: [test, -e, /tmp/ready]}}, periodSeconds: 1, {PATIENT}}}\n    \
             livenessProbe: {{tcpSocket: {{port: 8081}}, periodSeconds: 1, {PATIENT}}}\n  \
             - name: tls\n    image: {}\n    command: [sleep, '3600']\n    \
             readinessProbe: {{httpGet: {{scheme: HTTPS, host: {node}, port: 6443, path: /readyz}}, periodSeconds: 1, {PATIENT}}}\n",
            super::TOOLBOX
        ),
    );
    becomes(space, "others", ".status.containerStatuses[0].name", "tls");
    becomes(space, "others", READY, "true");
    assert_eq!(space.field("pod/others", ".status.containerStatuses[1].ready"), "false");
    space.shell("others", "touch /tmp/ready");
    space.wait("pod/others", "condition=Ready");
    space.shell("others", "rm /tmp/ready");
    space.wait("pod/others", "condition=Ready=false");
    assert_eq!(space.field("pod/others", ".status.containerStatuses[1].restartCount"), "0");
}

/// The other probes wait for the startup probe, and a container that does not start is restarted.
fn startup(space: &Space<'_>) {
    space.make_toolbox(
        "slow",
        &format!(
            "    startupProbe: {{exec: {{command: [test, -e, /tmp/started]}}, periodSeconds: 1, {PATIENT}, failureThreshold: 100}}\n    \
             livenessProbe: {{exec: {{command: ['false']}}, periodSeconds: 1, failureThreshold: 2}}\n",
        ),
    );
    becomes(space, "slow", ".status.phase", "Running");
    let started = ".status.containerStatuses[0].started";
    let events = ["get", "events", "--field-selector", "involvedObject.name=slow"];
    space.told("slow", "Startup probe failed");
    assert_eq!(space.field("pod/slow", started), "false");
    assert!(!space.kubectl(&events).contains("Liveness"));
    space.shell("slow", "touch /tmp/started");
    becomes(space, "slow", COUNT, "1");
    space.told("slow", "Liveness probe failed");
    space.make_toolbox(
        "never",
        "    startupProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 2}\n",
    );
    becomes(space, "never", COUNT, "1");
    space.told("never", "Container toolbox failed startup probe, will be restarted");
    space.kubectl(&["delete", "pod", "slow", "never", "--wait=false"]);
}

fn grpc(space: &Space<'_>) {
    space.toolbox(
        "grpc",
        &format!(
            "    readinessProbe: {{grpc: {{port: 8083}}, periodSeconds: 1, {PATIENT}, failureThreshold: 1}}\n"
        ),
    );
    space.shell("grpc", "wget -qO- http://127.0.0.1:8080/fail");
    becomes(space, "grpc", READY, "false");
    let why = "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")";
    space.told("grpc", why);
    space.shell("grpc", "wget -qO- http://127.0.0.1:8080/heal");
    becomes(space, "grpc", READY, "true");
}
