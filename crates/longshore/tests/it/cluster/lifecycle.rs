//! From the first init container to the last signal.

use std::path::Path;
use std::time::Instant;

use super::{Cluster, Space, TOOLBOX};

/// Everything of this part.
pub fn run(cluster: &Cluster) {
    let space = cluster.space("lifecycle");
    let dir = cluster.dir().join("lifecycle");
    std::fs::create_dir(&dir).unwrap();
    init(&space);
    sidecars(&space, &dir);
    hooks(&space, &dir);
    termination(&space);
    deadline(&space);
    debug(&space);
    changed(&space);
}

/// A pod of the shell commands of its init containers and its containers, which share a folder.
fn pod(
    space: &Space<'_>,
    name: &str,
    spec: &str,
    init: &[(&str, &str, &str)],
    main: &str,
    dir: &Path,
) {
    let inits: String = init
        .iter()
        .map(|(name, script, more)| {
            format!(
                "  - {{name: {name}, image: {TOOLBOX}, command: [sh, -c, '{script}'], {more}\
                 volumeMounts: [{{name: state, mountPath: /state}}]}}\n"
            )
        })
        .collect();
    let inits = if inits.is_empty() { inits } else { format!("  initContainers:\n{inits}") };
    let volume = match dir.as_os_str().is_empty() {
        true => "emptyDir: {}".to_owned(),
        false => format!("hostPath: {{path: {}}}", dir.display()),
    };
    space.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{spec}  \
         volumes: [{{name: state, {volume}}}]\n{inits}  containers:\n  - name: toolbox\n    image: {TOOLBOX}\n    \
         volumeMounts: [{{name: state, mountPath: /state}}]\n{main}"
    ));
}

fn init(space: &Space<'_>) {
    let none = Path::new("");
    let inits =
        [("one", "echo 1 >> /state/order", ""), ("two", "echo 2 >> /state/order; sleep 1", "")];
    pod(space, "ordered", "", &inits, "", none);
    space.wait("pod/ordered", "condition=Ready");
    assert_eq!(space.shell("ordered", "cat /state/order"), "1\n2");
    let reasons = ".status.initContainerStatuses[*].state.terminated.reason";
    assert_eq!(space.field("pod/ordered", reasons), "Completed Completed");
    assert_eq!(space.field("pod/ordered", ".status.initContainerStatuses[*].ready"), "true true");

    pod(space, "broken", "  restartPolicy: Never\n", &[("bad", "exit 5", "")], "", none);
    space.wait("pod/broken", "jsonpath={.status.phase}=Failed");
    let code = ".status.initContainerStatuses[0].state.terminated.exitCode";
    assert_eq!(space.field("pod/broken", code), "5");
    let waiting = ".status.containerStatuses[0].state.waiting.reason";
    assert_eq!(space.field("pod/broken", waiting), "PodInitializing");
    assert!(space.kubectl(&["get", "pod", "broken"]).contains("Init:Error"));

    // An init container that fails is tried again until it does its work.
    let again = [("again", "[ -e /state/tried ] || { touch /state/tried; exit 1; }", "")];
    pod(space, "retried", "", &again, "", none);
    space.wait("pod/retried", "condition=Ready");
    assert_eq!(space.field("pod/retried", ".status.initContainerStatuses[0].restartCount"), "1");
}

/// Init containers that run beside the others: started before them, ended after them.
fn sidecars(space: &Space<'_>, dir: &Path) {
    let file = dir.join("order");
    let say = |word: &str| {
        format!(
            "trap \"echo {word} >> /state/order; exit\" TERM; touch /state/{word}; while :; do sleep 0.1; done"
        )
    };
    let (first, second) = (say("first"), say("second"));
    let beside = |word: &str| {
        format!(
            "restartPolicy: Always, startupProbe: {{exec: {{command: [test, -e, /state/{word}]}}, \
             periodSeconds: 1, timeoutSeconds: 60, failureThreshold: 300}}, "
        )
    };
    let (before, after) = (beside("first"), beside("second"));
    let inits = [
        ("first", first.as_str(), before.as_str()),
        ("second", second.as_str(), after.as_str()),
        ("last", "test -e /state/first", ""),
    ];
    // Whoever is told to end before it has set its trap hears nothing of it.
    let main = format!(
        "    command: [sh, -c, '{}']\n    \
         readinessProbe: {{exec: {{command: [test, -e, /state/main]}}, periodSeconds: 1, timeoutSeconds: 60}}\n",
        say("main")
    );
    pod(space, "sidecars", "  terminationGracePeriodSeconds: 600\n", &inits, &main, dir);
    space.wait("pod/sidecars", "condition=Ready");
    assert!(space.kubectl(&["get", "pod", "sidecars"]).contains("3/3"));
    space.kubectl(&["delete", "pod", "sidecars"]);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "main\nsecond\nfirst\n");

    // They do not keep a pod from being done.
    let inits = [("helper", "while :; do sleep 0.1; done", "restartPolicy: Always, ")];
    let spec = "  restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n";
    pod(space, "done", spec, &inits, "    command: ['true']\n", Path::new(""));
    space.wait("pod/done", "jsonpath={.status.phase}=Succeeded");
    let helper = ".status.initContainerStatuses[0].state.terminated.exitCode";
    space.wait("pod/done", &format!("jsonpath={{{helper}}}=137"));
}

fn hooks(space: &Space<'_>, dir: &Path) {
    let main = "    lifecycle:\n      postStart: {exec: {command: [sh, -c, 'echo begun > /state/hook']}}\n      \
                preStop: {exec: {command: [sh, -c, 'echo ended >> /state/hook']}}\n";
    pod(space, "hooked", "  terminationGracePeriodSeconds: 600\n", &[], main, dir);
    space.wait("pod/hooked", "condition=Ready");
    assert_eq!(space.shell("hooked", "cat /state/hook"), "begun");
    space.kubectl(&["delete", "pod", "hooked"]);
    assert_eq!(std::fs::read_to_string(dir.join("hook")).unwrap(), "begun\nended\n");

    // Over HTTP: the container's own server is told.
    let main = "    lifecycle: {postStart: {exec: {command: [sh, -c, 'until wget -qO- http://127.0.0.1:8080/; do :; done']}}, \
                preStop: {httpGet: {path: /exit/9, port: 8080}}}\n";
    let spec = "  terminationGracePeriodSeconds: 600\n  restartPolicy: Never\n";
    pod(space, "told", spec, &[], main, Path::new(""));
    space.kubectl(&[
        "patch",
        "pod",
        "told",
        "-p",
        r#"{"metadata":{"finalizers":["example.com/look"]}}"#,
    ]);
    space.wait("pod/told", "condition=Ready");
    space.kubectl(&["delete", "pod", "told", "--wait=false"]);
    let code = ".status.containerStatuses[0].state.terminated.exitCode";
    space.wait("pod/told", &format!("jsonpath={{{code}}}=9"));
    space.kubectl(&["patch", "pod", "told", "-p", r#"{"metadata":{"finalizers":null}}"#]);

    // A hook that fails ends its container.
    let main = "    lifecycle: {postStart: {exec: {command: ['false']}}}\n";
    pod(space, "unhooked", "  terminationGracePeriodSeconds: 1\n", &[], main, Path::new(""));
    space.told("unhooked", "PostStartHook failed");
    space.kubectl(&["delete", "pod", "unhooked"]);

    // One that does not end is given up when its pod is deleted.
    let main = "    lifecycle: {postStart: {exec: {command: [sleep, '86400']}}}\n";
    pod(space, "hanging", "  terminationGracePeriodSeconds: 1\n", &[], main, Path::new(""));
    let started =
        ["get", "events", "--field-selector", "involvedObject.name=hanging,reason=Started"];
    space.eventually(&started, |text| text.contains("Started"));
    space.kubectl(&["delete", "pod", "hanging"]);
}

/// A container that does not end by itself is killed after its grace period; who wants it sooner gets it sooner.
fn termination(space: &Space<'_>) {
    let main = "    command: [toolbox, ignore-term]\n";
    let spec = "  terminationGracePeriodSeconds: 3\n  restartPolicy: Never\n";
    pod(space, "deaf", spec, &[], main, Path::new(""));
    space.kubectl(&[
        "patch",
        "pod",
        "deaf",
        "-p",
        r#"{"metadata":{"finalizers":["example.com/look"]}}"#,
    ]);
    space.wait("pod/deaf", "condition=Ready");
    let start = Instant::now();
    space.kubectl(&["delete", "pod", "deaf", "--wait=false"]);
    let code = ".status.containerStatuses[0].state.terminated.exitCode";
    space.wait("pod/deaf", &format!("jsonpath={{{code}}}=137"));
    assert!(start.elapsed().as_secs() >= 2, "{:?}", start.elapsed());
    assert_eq!(space.field("pod/deaf", ".status.phase"), "Failed");
    space.kubectl(&["patch", "pod", "deaf", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    space.wait("pod/deaf", "delete");

    pod(space, "patient", "  terminationGracePeriodSeconds: 3600\n", &[], main, Path::new(""));
    space.wait("pod/patient", "condition=Ready");
    space.kubectl(&["delete", "pod", "patient", "--wait=false"]);
    space.kubectl(&["delete", "pod", "patient", "--grace-period=1"]);
    pod(space, "forced", "  terminationGracePeriodSeconds: 3600\n", &[], main, Path::new(""));
    space.wait("pod/forced", "condition=Ready");
    space.kubectl(&["delete", "pod", "forced", "--force", "--grace-period=0"]);
}

fn deadline(space: &Space<'_>) {
    let spec = "  activeDeadlineSeconds: 2\n  terminationGracePeriodSeconds: 1\n";
    pod(space, "late", spec, &[], "", Path::new(""));
    space.wait("pod/late", "jsonpath={.status.reason}=DeadlineExceeded");
    assert_eq!(space.field("pod/late", ".status.phase"), "Failed");
}

/// A container for debugging joins a pod that runs, and sees the processes of another.
fn debug(space: &Space<'_>) {
    space.toolbox("examined", "");
    let image = format!("--image={TOOLBOX}");
    space.kubectl(&[
        "debug",
        "examined",
        &image,
        "--target=toolbox",
        "--container=looker",
        "--profile=general",
        "--",
        "sh",
        "-c",
        "ps; sleep 3600",
    ]);
    let state = ".status.ephemeralContainerStatuses[0].state.running";
    space.eventually(&["get", "pod", "examined", "-o", &format!("jsonpath={{{state}}}")], |s| {
        !s.is_empty()
    });
    space.eventually(&["logs", "examined", "-c", "looker"], |log| log.contains("toolbox serve"));
    assert_eq!(space.kubectl(&["exec", "examined", "-c", "looker", "--", "echo", "here"]), "here");
}

/// Another image means another container in the same pod.
fn changed(space: &Space<'_>) {
    space.toolbox("changed", "");
    let address = space.field("pod/changed", ".status.podIP");
    space.kubectl(&["set", "image", "pod/changed", "toolbox=localhost/longshore/hello:dev"]);
    space.wait("pod/changed", "jsonpath={.status.containerStatuses[0].restartCount}=1");
    space.wait("pod/changed", "condition=Ready");
    assert!(space.kubectl(&["logs", "changed"]).contains("listening on port 8080"));
    assert_eq!(space.field("pod/changed", ".status.podIP"), address);
    space.told("changed", "Container toolbox definition changed, will be restarted");
}
