//! What containers may do and use, and what the API tells of pods and of the node.

use super::{Cluster, Space, TOOLBOX};

/// Everything of this part.
pub fn run(cluster: &Cluster) {
    let space = cluster.space("details");
    security(&space);
    resources(&space);
    namespaces(&space);
    asked(&space);
    status(&space);
    node(&space);
    access(&space);
    refused(&space);
    overfull(&space);
}

fn security(space: &Space<'_>) {
    space.toolbox(
        "limited",
        "    securityContext: {runAsUser: 1000, runAsGroup: 2000, readOnlyRootFilesystem: true, \
         allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}, \
         seccompProfile: {type: RuntimeDefault}}\n  securityContext: {supplementalGroups: [3000], fsGroup: 4000}\n",
    );
    assert_eq!(space.shell("limited", "id -u; id -g; id -G"), "1000\n2000\n2000 3000 4000");
    assert_eq!(space.shell("limited", "touch /tmp/file 2>/dev/null || echo refused"), "refused");
    let fields = space
        .shell("limited", "grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/1/status | tr -d '\\t '");
    assert_eq!(fields, "CapBnd:0000000000000400\nNoNewPrivs:1\nSeccomp:2");

    space.toolbox("privileged", "    securityContext: {privileged: true}\n");
    let mounted = "mkdir /tmp/m && mount -t tmpfs none /tmp/m && echo mounted";
    assert_eq!(space.shell("privileged", mounted), "mounted");
    assert_eq!(
        space.shell("limited", "mount -t tmpfs none /tmp 2>/dev/null || echo refused"),
        "refused"
    );

    space.make_toolbox("root", "    securityContext: {runAsNonRoot: true}\n");
    let waiting = ".status.containerStatuses[0].state.waiting";
    space.wait("pod/root", &format!("jsonpath={{{waiting}.reason}}=CreateContainerConfigError"));
    let message = space.field("pod/root", &format!("{waiting}.message"));
    assert!(
        message.starts_with(
            "container has runAsNonRoot and image will run as root (pod: \"root_details("
        ),
        "{message}"
    );
}

/// Limits arrive in the control groups, and too much memory ends the container.
fn resources(space: &Space<'_>) {
    space.toolbox(
        "bounded",
        "    resources: {requests: {cpu: 250m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}\n",
    );
    let v2 = space.shell("bounded", "test -e /sys/fs/cgroup/cgroup.controllers && echo v2 || true")
        == "v2";
    let files = match v2 {
        true => ["memory.max", "cpu.max", "cpu.weight"],
        false => ["memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us", "cpu/cpu.shares"],
    };
    let values = files.map(|file| space.shell("bounded", &format!("cat /sys/fs/cgroup/{file}")));
    let wanted = if v2 { ["67108864", "50000 100000", "10"] } else { ["67108864", "50000", "256"] };
    assert_eq!(values, wanted);
    assert_eq!(space.field("pod/bounded", ".status.qosClass"), "Burstable");
    let status = ".status.containerStatuses[0]";
    assert_eq!(space.field("pod/bounded", &format!("{status}.allocatedResources.cpu")), "250m");
    assert_eq!(space.field("pod/bounded", &format!("{status}.resources.limits.memory")), "64Mi");

    space.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: greedy}}\nspec:\n  restartPolicy: Never\n  containers:\n  \
         - name: toolbox\n    image: {TOOLBOX}\n    command: [sh, -c, 'exec tail /dev/zero']\n    \
         resources: {{limits: {{memory: 16Mi}}}}\n"
    ));
    space.wait("pod/greedy", "jsonpath={.status.phase}=Failed");
    let ended = ".status.containerStatuses[0].state.terminated";
    assert_eq!(space.field("pod/greedy", &format!("{ended}.reason")), "OOMKilled");
    assert_eq!(space.field("pod/greedy", &format!("{ended}.exitCode")), "137");
}

fn namespaces(space: &Space<'_>) {
    space.toolbox("shared", &format!(
        "  - {{name: other, image: {TOOLBOX}, command: [sleep, '3601']}}\n  shareProcessNamespace: true\n"
    ));
    assert!(space.shell("shared", "ps").contains("sleep 3601"));
    space.toolbox(
        "apart",
        &format!("  - {{name: other, image: {TOOLBOX}, command: [sleep, '3602']}}\n"),
    );
    assert!(!space.shell("apart", "ps").contains("sleep 3602"));

    space.toolbox(
        "host",
        "    env: [{name: HTTP_PORT, value: '18080'}, {name: TCP_PORT, value: '18081'}, \
         {name: UDP_PORT, value: '18082'}, {name: GRPC_PORT, value: '18083'}]\n  hostNetwork: true\n  hostPID: true\n",
    );
    let node = space.field("nodes", ".items[0].status.addresses[0].address");
    assert_eq!(space.field("pod/host", ".status.podIP"), node);
    assert!(space.shell("host", "ip -o addr").contains(&node));
    assert!(space.shell("host", "ps -o args").contains("longshore server"));
    let name = space.field("nodes", ".items[0].metadata.name");
    assert_eq!(space.shell("host", "hostname"), name);
    assert!(
        space
            .shell("host", "cat /etc/hosts")
            .starts_with("# Kubernetes-managed hosts file (host network).")
    );

    space.toolbox("published", "    ports: [{containerPort: 8080, hostPort: 18090}]\n");
    let answer = space.shell("host", &format!("wget -qO- http://{node}:18090/hostname"));
    assert_eq!(answer, "published");
}

/// What a pod may not ask for, what it brings itself, and what it gets while it runs.
fn asked(space: &Space<'_>) {
    space.make_toolbox(
        "refused",
        "  securityContext: {sysctls: [{name: kernel.msgmax, value: '65536'}]}\n",
    );
    space.wait("pod/refused", "jsonpath={.status.phase}=Failed");
    assert_eq!(space.field("pod/refused", ".status.reason"), "SysctlForbidden");

    space.toolbox(
        "brings",
        "    volumeMounts: [{name: own, mountPath: /etc/hosts}]\n  volumes: [{name: own, hostPath: {path: /etc/hosts}}]\n",
    );
    assert!(!space.shell("brings", "cat /etc/hosts").contains("Kubernetes-managed"));

    space.toolbox(
        "grows",
        "    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 100m, memory: 64Mi}}\n",
    );
    let more =
        r#"{"spec":{"containers":[{"name":"toolbox","resources":{"limits":{"cpu":"200m"}}}]}}"#;
    space.kubectl(&["patch", "pod", "grows", "--subresource=resize", "-p", more]);
    let own = ".status.containerStatuses[0]";
    space.wait("pod/grows", &format!("jsonpath={{{own}.resources.limits.cpu}}=200m"));
    assert_eq!(space.field("pod/grows", &format!("{own}.restartCount")), "0");
    let limit = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us";
    assert!(space.shell("grows", limit).starts_with("20000"));
}

/// What the API tells of a pod.
fn status(space: &Space<'_>) {
    space.toolbox(
        "shown",
        "    volumeMounts: [{name: work, mountPath: /work}, {name: fixed, mountPath: /fixed, readOnly: true}]\n  \
         - {name: alpha, image: localhost/longshore/toolbox:dev, command: [sleep, '3603']}\n  \
         volumes: [{name: work, emptyDir: {}}, {name: fixed, emptyDir: {}}]\n",
    );
    let field = |path: &str| space.field("pod/shown", path);
    let conditions = field(".status.conditions[*].type");
    for kind in
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
    {
        assert!(conditions.contains(kind), "{conditions}");
    }
    assert_eq!(field(".status.conditions[*].observedGeneration"), "1 1 1 1 1");
    assert_eq!(field(".status.containerStatuses[*].name"), "alpha toolbox", "sorted");
    let own = ".status.containerStatuses[1]";
    // The runtime's name of it: one of those that it has.
    assert!(field(&format!("{own}.image")).contains("/toolbox:"));
    assert!(field(&format!("{own}.imageID")).contains("sha256:"));
    assert!(field(&format!("{own}.containerID")).starts_with("containerd://"));
    assert_eq!(field(&format!("{own}.volumeMounts[0].mountPath")), "/work");
    assert_eq!(field(&format!("{own}.volumeMounts[1].recursiveReadOnly")), "Disabled");
    assert_eq!(field(".status.qosClass"), "BestEffort");
    assert_eq!(field(".status.podIPs[0].ip"), field(".status.podIP"));
    assert_eq!(field(".status.hostIPs[0].ip"), field(".status.hostIP"));
    let started = field(".status.startTime");
    assert!(started.ends_with('Z'), "{started}");
    let events = [
        "get",
        "events",
        "--field-selector",
        "involvedObject.name=shown",
        "-o",
        "jsonpath={range .items[*]}{.reason}|{.message}|{.involvedObject.fieldPath}{\"\\n\"}{end}",
    ];
    for line in [
        "Scheduled|Successfully assigned details/shown to ",
        "Created|Container created|spec.containers{toolbox}",
        "Started|Container started|spec.containers{toolbox}",
        "Pulled|Container image \"localhost/longshore/toolbox:dev\" already present on machine and can be accessed by the pod|spec.containers{toolbox}",
    ] {
        space.eventually(&events, |told| told.contains(line));
    }
    assert!(space.kubectl(&["describe", "pod", "shown"]).contains("Successfully assigned"));
}

fn node(space: &Space<'_>) {
    let field = |path: &str| space.field("nodes", &format!(".items[0]{path}"));
    assert_eq!(
        field(".status.conditions[*].type"),
        "MemoryPressure DiskPressure PIDPressure Ready"
    );
    assert_eq!(field(".status.conditions[*].status"), "False False False True");
    assert_eq!(field(".status.addresses[*].type"), "InternalIP Hostname");
    assert_eq!(field(".status.capacity.pods"), "110");
    assert!(field(".status.nodeInfo.containerRuntimeVersion").starts_with("containerd://"));
    assert!(field(".status.nodeInfo.kubeletVersion").starts_with("v1.36"));
    assert_eq!(field(".status.nodeInfo.operatingSystem"), "linux");
    let images = field(".status.images[*].names[0]");
    assert!(images.contains("localhost/longshore/hello:dev"), "{images}");
    let name = field(".metadata.name");
    assert_eq!(field(".metadata.labels.kubernetes\\.io/hostname"), name);
    let times = "jsonpath={.spec.renewTime} {.spec.leaseDurationSeconds}";
    let lease = ["get", "lease", &name, "-n", "kube-node-lease", "-o", times];
    let before = space.kubectl(&lease);
    assert!(before.ends_with(" 40"), "{before}");
    space.eventually(&lease, |now| now != before);
    let summary = space.kubectl(&["describe", "node", &name]);
    assert!(summary.contains("Non-terminated Pods:"), "{summary}");
}

/// The node's own server knows its clients by certificate or token, and asks what they may.
fn access(space: &Space<'_>) {
    let pods = ["--server", "https://127.0.0.1:10250", "get", "--raw", "/pods"];
    let pods = [&["--kubeconfig", "/dev/null", "--insecure-skip-tls-verify"], &pods[..]].concat();
    let ask = |token: &str| {
        let with = if token.is_empty() { vec![] } else { vec!["--token", token] };
        let output = space.try_kubectl(&[&pods[..], &with].concat());
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    // kubectl asks for a name when it is told that it has to show who it is.
    let text = ask("");
    assert!(text.contains("Username"), "{text}");
    let text = ask("wrong");
    assert!(text.contains("provide credentials"), "{text}");
    let token = space.kubectl(&["create", "token", "default"]);
    let text = ask(&token);
    let who = "user=system:serviceaccount:details:default, verb=get, resource=nodes";
    assert!(text.contains(who), "{text}");
    let role = ["create", "clusterrole", "details-pods", "--verb=get", "--resource=nodes/pods"];
    space.kubectl(&role);
    let account = "--serviceaccount=details:default";
    let role = "--clusterrole=details-pods";
    space.kubectl(&["create", "clusterrolebinding", "details-pods", role, account]);
    let pods = [&pods[..], &["--token", &token]].concat();
    space.eventually(&pods, |text| text.contains("\"kind\":\"PodList\""));
}

/// A pod that was bound to a node without looking does not run there.
fn refused(space: &Space<'_>) {
    let node = space.field("nodes", ".items[0].metadata.name");
    let lines = format!("  nodeName: {node}\n  nodeSelector: {{disk: none}}\n");
    space.make_toolbox("elsewhere", &lines);
    space.wait("pod/elsewhere", "jsonpath={.status.reason}=NodeAffinity");
    assert_eq!(
        space.field("pod/elsewhere", ".status.message"),
        "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    );
}

/// A pod that puts more into a folder, or on the disk, than it may is ended.
fn overfull(space: &Space<'_>) {
    space.make_toolbox(
        "unbounded",
        "    command: [sh, -c, 'dd if=/dev/zero of=/full/file bs=1M count=5; sleep 3600']\n    \
         resources: {limits: {ephemeral-storage: 1Mi}}\n    \
         volumeMounts: [{name: full, mountPath: /full}]\n  volumes: [{name: full, emptyDir: {}}]\n",
    );
    space.make_toolbox(
        "overfull",
        "    command: [sh, -c, 'dd if=/dev/zero of=/full/file bs=1M count=5; sleep 3600']\n    \
         volumeMounts: [{name: full, mountPath: /full}]\n  \
         volumes: [{name: full, emptyDir: {sizeLimit: 1Mi}}]\n",
    );
    space.wait("pod/overfull", "jsonpath={.status.reason}=Evicted");
    let field = |path: &str| space.field("pod/overfull", path);
    let why = "Usage of EmptyDir volume \"full\" exceeds the limit \"1Mi\".";
    assert_eq!(field(".status.message").trim(), why);
    // Nothing of it runs when this is told, and it is nobody's fault but its own.
    assert_ne!(field(".status.containerStatuses[0].state.terminated.exitCode"), "");
    assert!(!field(".status.conditions[*].type").contains("DisruptionTarget"));
    space.wait("pod/unbounded", "jsonpath={.status.reason}=Evicted");
    let why = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi.";
    assert_eq!(space.field("pod/unbounded", ".status.message").trim(), why);
}
