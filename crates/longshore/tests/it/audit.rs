//! The audit log of the binary, with its flags.

use std::process::Command;

use serde_json::Value;

use crate::server::{LONGSHORE, Server};

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Request, users: [admin], verbs: [create], resources: [{group: "", resources: [configmaps]}]}
- {level: None}
"#;

#[test]
fn the_log_has_what_the_policy_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("log/audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let (policy, path) = (policy.to_str().unwrap(), log.to_str().unwrap());
    let server = Server::start_with(
        &dir.path().join("data"),
        &[
            "--disable",
            "controllers,scheduler,kubelet,proxy,dns",
            "--audit-policy-file",
            policy,
            "--audit-log-path",
            path,
            "--audit-log-mode=batch",
        ],
    );
    server.kubectl(&["create", "configmap", "a", "--from-literal=k=v"]);
    server.kubectl(&["create", "secret", "generic", "s", "--from-literal=k=hidden"]);
    server.kubectl(&["get", "configmap", "a"]);
    server.stop();
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert_eq!(lines[0]["kind"], "Event");
    assert_eq!(lines[0]["stage"], "ResponseComplete");
    assert_eq!(lines[0]["user"]["username"], "admin");
    assert_eq!(lines[0]["sourceIPs"][0], "127.0.0.1");
    assert_eq!(lines[0]["requestObject"]["data"]["k"], "v");
    assert_eq!(lines[0]["responseStatus"]["code"], 201);
    assert!(lines[0]["userAgent"].as_str().unwrap().starts_with("kubectl/"));
}

#[test]
fn a_policy_that_cannot_be_used_ends_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    std::fs::write(&policy, "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: []}").unwrap();
    let data = dir.path().join("data");
    let output = Command::new(LONGSHORE)
        .args(["server", "--bind-address", "127.0.0.1", "--disable", "kubelet", "--data-dir"])
        .arg(&data)
        .args(["--secure-port", "0", "--audit-log-path", "-", "--audit-policy-file"])
        .arg(&policy)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("loaded illegal policy with 0 rules"), "{error}");
    assert!(error.contains(policy.to_str().unwrap()), "{error}");
}
