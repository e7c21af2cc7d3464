//! Containers that end, and the server that ends.

use super::{Cluster, TOOLBOX};

/// Everything of this part.
pub fn run(cluster: &Cluster) {
    let space = cluster.space("restarts");
    space.toolbox("killed", "");
    let count = ".status.containerStatuses[0].restartCount";
    assert_eq!(space.field("pod/killed", count), "0");
    space.try_kubectl(&["exec", "killed", "--", "wget", "-qO-", "http://127.0.0.1:8080/exit/3"]);
    space.wait("pod/killed", &format!("jsonpath={{{count}}}=1"));
    let last = ".status.containerStatuses[0].lastState.terminated";
    assert_eq!(space.field("pod/killed", &format!("{last}.exitCode")), "3");
    assert_eq!(space.field("pod/killed", &format!("{last}.reason")), "Error");
    space.wait("pod/killed", "condition=Ready");
    // The second end comes too soon after the first: the pause is told.
    space.try_kubectl(&["exec", "killed", "--", "wget", "-qO-", "http://127.0.0.1:8080/exit/4"]);
    // All in one answer, because the pause is short.
    let waiting = ".status.containerStatuses[0].state.waiting";
    let told = format!("jsonpath={{{last}.exitCode}} {{{waiting}.reason}}: {{{waiting}.message}}");
    space.eventually(&["get", "pod", "killed", "-o", &told], |text| {
        text.starts_with(
            "4 CrashLoopBackOff: back-off 10s restarting failed container=toolbox pod=killed_restarts(",
        )
    });
    let events = [
        "get",
        "events",
        "--field-selector",
        "reason=BackOff",
        "-o",
        "jsonpath={.items[*].message}",
    ];
    space.eventually(&events, |text| {
        text.contains("Back-off restarting failed container toolbox in pod killed_restarts(")
    });
    space.wait("pod/killed", &format!("jsonpath={{{count}}}=2"));
    space.wait("pod/killed", "condition=Ready");

    let policies = [
        ("never-good", "Never", "exit 0", "Succeeded", "0", "Completed"),
        ("never-bad", "Never", "exit 3", "Failed", "0", "Error"),
        (
            "onfailure",
            "OnFailure",
            "[ -e /state/begun ] || { touch /state/begun; exit 1; }",
            "Succeeded",
            "1",
            "Completed",
        ),
    ];
    for (name, policy, script, ..) in policies {
        space.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {policy}\n  \
             volumes: [{{name: state, emptyDir: {{}}}}]\n  containers:\n  - name: toolbox\n    image: {TOOLBOX}\n    \
             command: [sh, -c, '{script}']\n    volumeMounts: [{{name: state, mountPath: /state}}]\n"
        ));
    }
    for (name, _, _, phase, restarts, reason) in policies {
        let pod = format!("pod/{name}");
        space.wait(&pod, &format!("jsonpath={{.status.phase}}={phase}"));
        assert_eq!(space.field(&pod, count), restarts, "{name}");
        assert_eq!(
            space.field(&pod, ".status.containerStatuses[0].state.terminated.reason"),
            reason
        );
    }
}

/// The server's end touches no container, and the next server knows them and every object again.
pub fn the_server_ends(cluster: &Cluster) {
    let space = cluster.space("survivors");
    space.toolbox("survivor", "");
    space.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]);
    let id = ".status.containerStatuses[0].containerID";
    let before = space.field("pod/survivor", id);
    let uid = space.field("configmap/kept", ".metadata.uid");
    let started = || space.shell("survivor", "stat -c %Y /proc/1");
    let since = started();
    for signal in ["-TERM", "-KILL"] {
        cluster.signal("server", signal);
        cluster.up();
        assert_eq!(space.field("pod/survivor", id), before, "after {signal}");
        assert_eq!(started(), since, "the program is the same");
        let count = ".status.containerStatuses[0].restartCount";
        assert_eq!(space.field("pod/survivor", count), "0");
        assert_eq!(space.field("configmap/kept", ".metadata.uid"), uid);
    }
}
