//! What containers see: their environment and their volumes.

use super::{Cluster, Space};

/// Everything of this part.
pub fn run(cluster: &Cluster) {
    let space = cluster.space("volumes");
    space.kubectl(&[
        "create",
        "configmap",
        "settings",
        "--from-literal=colour=green",
        "--from-literal=size=xl",
    ]);
    space.kubectl(&["create", "secret", "generic", "key", "--from-literal=word=hidden"]);
    space.kubectl(&["create", "service", "clusterip", "shop", "--tcp=80:8080"]);
    environment(&space);
    files(&space);
    host_paths(&space);
}

fn environment(space: &Space<'_>) {
    space.toolbox(
        "environment",
        "    args: [toolbox, serve]\n    resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 250m}}\n    \
         envFrom: [{prefix: ALL_, configMapRef: {name: settings}}, {secretRef: {name: key}}, \
         {configMapRef: {name: none, optional: true}}]\n    env:\n    \
         - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}\n    \
         - {name: WORD, valueFrom: {secretKeyRef: {name: key, key: word}}}\n    \
         - {name: NONE, valueFrom: {secretKeyRef: {name: key, key: none, optional: true}}}\n    \
         - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n    \
         - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}\n    \
         - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n    \
         - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}\n    \
         - {name: LABEL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}\n    \
         - {name: PLACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}\n    \
         - {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}\n    \
         - {name: MILLIS, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}\n    \
         - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}\n    \
         - {name: EXPANDED, value: '$(COLOUR) $(SHOP_SERVICE_PORT) $$(COLOUR) $(UNKNOWN)'}\n",
    );
    let text = space.shell("environment", "env");
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    for line in [
        "ALL_colour=green",
        "ALL_size=xl",
        "word=hidden",
        "COLOUR=green",
        "WORD=hidden",
        "ACCOUNT=default",
        "LABEL=environment",
        "PLACE=volumes",
        "CPUS=1",
        "MILLIS=250",
        "MEMORY=64",
        "EXPANDED=green 80 $(COLOUR) $(UNKNOWN)",
        "HOSTNAME=environment",
        "SHOP_SERVICE_PORT=80",
        "SHOP_PORT_80_TCP_PROTO=tcp",
        "KUBERNETES_SERVICE_PORT=443",
    ] {
        has(line);
    }
    assert!(!text.contains("NONE="), "{text}");
    has(&format!("POD_IP={}", space.field("pod/environment", ".status.podIP")));
    has(&format!("HOST_IP={}", space.field("pod/environment", ".status.hostIP")));
    has(&format!("NODE={}", space.field("pod/environment", ".spec.nodeName")));
    has(&format!("SHOP_SERVICE_HOST={}", space.field("service/shop", ".spec.clusterIP")));
    let address = space.field("service/shop", ".spec.clusterIP");
    has(&format!("SHOP_PORT_80_TCP=tcp://{address}:80"));

    // What is missing keeps the container from starting, and the reason is told.
    space.make_toolbox(
        "lacking",
        "    env: [{name: A, valueFrom: {configMapKeyRef: {name: none, key: a}}}]\n",
    );
    let waiting = ".status.containerStatuses[0].state.waiting";
    space.wait("pod/lacking", &format!("jsonpath={{{waiting}.reason}}=CreateContainerConfigError"));
    assert_eq!(
        space.field("pod/lacking", &format!("{waiting}.message")),
        "configmap \"none\" not found"
    );
    space.kubectl(&["create", "configmap", "none", "--from-literal=a=b"]);
    space.wait("pod/lacking", "condition=Ready");
}

fn files(space: &Space<'_>) {
    space.toolbox(
        "mounted",
        "    volumeMounts:\n    - {name: settings, mountPath: /settings}\n    - {name: key, mountPath: /key}\n    \
         - {name: some, mountPath: /some}\n    - {name: scratch, mountPath: /scratch}\n    \
         - {name: scratch, mountPath: /below, subPath: a/b}\n    \
         - {name: scratch, mountPath: /own, subPathExpr: $(POD)}\n    \
         - {name: scratch, mountPath: /fixed, readOnly: true}\n    \
         - {name: settings, mountPath: /etc/colour, subPath: colour}\n    - {name: memory, mountPath: /memory}\n    \
         - {name: self, mountPath: /self}\n    - {name: all, mountPath: /all}\n    \
         env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n  \
         securityContext: {fsGroup: 1234}\n  volumes:\n  \
         - {name: settings, configMap: {name: settings}}\n  \
         - {name: key, secret: {secretName: key, defaultMode: 256}}\n  \
         - {name: some, configMap: {name: settings, items: [{key: size, path: deep/size, mode: 384}]}}\n  \
         - {name: scratch, emptyDir: {}}\n  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}\n  \
         - {name: self, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}, \
         {path: labels, fieldRef: {fieldPath: metadata.labels}}]}}\n  \
         - {name: all, projected: {sources: [{configMap: {name: settings}}, {secret: {name: key}}, \
         {downwardAPI: {items: [{path: place, fieldRef: {fieldPath: metadata.namespace}}]}}, \
         {serviceAccountToken: {path: token, audience: shop}}]}}\n",
    );
    let run = |command: &str| space.shell("mounted", command);
    assert_eq!(
        run("cat /settings/colour; echo; cat /key/word; echo; cat /self/name"),
        "green\nhidden\nmounted"
    );
    assert_eq!(run("ls /some; cat /some/deep/size"), "deep\nxl");
    assert_eq!(run("cat /self/labels"), "app=\"mounted\"");
    assert_eq!(run("cat /all/colour /all/word /all/place"), "greenhiddenvolumes");
    assert_eq!(run("cut -d. -f2 /all/token | wc -w"), "1");
    assert_eq!(run("readlink /settings/colour"), "..data/colour");
    let modes = "stat -L -c %a /settings/colour /key/word /some/deep/size";
    assert_eq!(run(modes), "644\n440\n640", "a group for volumes may read");
    assert_eq!(run("stat -c %g /scratch; stat -L -c %g /key/word"), "1234\n1234");
    assert_eq!(run("echo kept > /scratch/file; cat /scratch/file"), "kept");
    assert_eq!(run("echo x > /below/file; cat /scratch/a/b/file"), "x");
    assert_eq!(run("echo y > /own/file; cat /scratch/mounted/file"), "y");
    assert_eq!(run("echo z > /fixed/file || echo refused"), "refused");
    assert_eq!(run("echo z > /settings/file || echo refused"), "refused");
    assert_eq!(run("cat /etc/colour"), "green");
    assert_eq!(run("grep ' /memory ' /proc/mounts | cut -d' ' -f3"), "tmpfs");
    assert_eq!(run("df -m /memory | tail -1 | awk '{print $2}'"), "8");
    let token = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(run(&format!("cat {token}/namespace")), "volumes");
    assert!(run(&format!("wc -c < {token}/token")).parse::<u32>().unwrap() > 100);
    assert!(run(&format!("head -1 {token}/ca.crt")).contains("BEGIN CERTIFICATE"));

    // A change arrives as a whole; a single file that is mounted by itself stays as it was.
    space.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "-p",
        r#"{"data":{"colour":"red","new":"x"}}"#,
    ]);
    space.kubectl(&["label", "pod", "mounted", "tier=one"]);
    let all =
        ["exec", "mounted", "--", "sh", "-c", "cat /settings/colour /settings/new /all/colour"];
    space.eventually(&all, |text| text == "redxred");
    space.eventually(&["exec", "mounted", "--", "cat", "/self/labels"], |text| {
        text == "app=\"mounted\"\ntier=\"one\""
    });
    assert_eq!(run("cat /etc/colour"), "green");
}

fn host_paths(space: &Space<'_>) {
    let dir = space.cluster.dir().join("host");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.display();
    space.toolbox(
        "host",
        &format!(
            "    volumeMounts: [{{name: made, mountPath: /made}}, {{name: file, mountPath: /file}}]\n  volumes:\n  \
             - {{name: made, hostPath: {{path: {path}/made, type: DirectoryOrCreate}}}}\n  \
             - {{name: file, hostPath: {{path: {path}/file, type: FileOrCreate}}}}\n"
        ),
    );
    space.shell("host", "echo outside > /made/text; echo more > /file");
    assert_eq!(std::fs::read_to_string(dir.join("made/text")).unwrap(), "outside\n");
    assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "more\n");
    space.make_toolbox(
        "wrong",
        &format!(
            "    volumeMounts: [{{name: made, mountPath: /made}}]\n  volumes:\n  \
             - {{name: made, hostPath: {{path: {path}/none, type: Directory}}}}\n"
        ),
    );
    let events = [
        "get",
        "events",
        "--field-selector",
        "reason=FailedMount",
        "-o",
        "jsonpath={.items[*].message}",
    ];
    space.eventually(&events, |text| text.contains("hostPath type check failed"));
}
