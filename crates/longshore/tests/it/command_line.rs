//! What goes wrong at the start is said in one line, with the right exit status, and leaves nothing running.

use std::process::{Command, Output};

use crate::server::{LONGSHORE, Server};

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = Command::new(LONGSHORE).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[track_caller]
fn check(arguments: &[&str], code: i32, says: &str) {
    let (status, error) = run(arguments);
    assert_eq!(status, Some(code), "{error}");
    assert!(error.contains(says), "{error}");
}

#[track_caller]
fn check_one_line(arguments: &[&str], code: i32, says: &str) {
    check(arguments, code, says);
    let (_, error) = run(arguments);
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn version_is_printed() {
    let output = Command::new(LONGSHORE).arg("version").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("v1.36"));
}

#[test]
fn wrong_flags_are_usage_errors() {
    check(&["server", "--no-such-flag"], 64, "--no-such-flag");
    check(&["no-such-command"], 64, "no-such-command");
    check_one_line(&["server", "--disable", "nobody"], 64, "nobody");
    check_one_line(&["server", "--service-cluster-ip-range", "10.0.0.0"], 64, "10.0.0.0");
    check_one_line(&["server", "--bind-address", "here"], 64, "here");
    check_one_line(&["server", "--config", "/no/such/file"], 64, "/no/such/file");
    check_one_line(&["server", "--cluster-cidr", "10.96.0.0/12"], 64, "overlaps");
    check_one_line(&["server", "--log", "=="], 64, "==");
    check_one_line(&["server", "--node-name", "Bad_Name"], 64, "node-name");
    check_one_line(&["server", "--cgroup-root", "relative"], 64, "relative");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.yaml");
    let file = file.to_str().unwrap();
    for (text, says) in [("nonsense: 1\n", "nonsense"), ("a: [\n", "line 1"), ("- 1\n", "settings")]
    {
        std::fs::write(file, text).unwrap();
        check_one_line(&["server", "--config", file], 64, says);
    }
}

#[test]
fn a_busy_port_is_named() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let disable = "controllers,scheduler,kubelet,proxy,dns";
    let arguments = [
        "server",
        "--bind-address",
        "127.0.0.1",
        "--secure-port",
        &port,
        "--data-dir",
        data,
        "--disable",
        disable,
    ];
    check_one_line(&arguments, 1, &format!("127.0.0.1:{port}"));
}

#[test]
fn a_busy_port_of_the_node_agent_is_named_before_anything_starts() {
    let listener = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let (data, socket) = (dir.path().join("data"), dir.path().join("socket"));
    let _runtime = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let data = data.to_str().unwrap();
    let endpoint = format!("unix://{}", socket.display());
    let arguments = [
        "server",
        "--data-dir",
        data,
        "--kubelet-port",
        &port,
        "--container-runtime-endpoint",
        &endpoint,
    ];
    check_one_line(&arguments, 1, &format!("port {port}: choose another --kubelet-port"));
    assert!(!std::path::Path::new(data).exists());
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let port = crate::server::free_port().to_string();
    let disable = "controllers,scheduler,kubelet,proxy,dns";
    let arguments = [
        "server",
        "--data-dir",
        "/etc/hostname/data",
        "--secure-port",
        &port,
        "--disable",
        disable,
    ];
    check_one_line(&arguments, 1, "/etc/hostname/data");
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let port = crate::server::free_port().to_string();
    let path = data.path().to_str().unwrap();
    let disable = "controllers,scheduler,kubelet,proxy,dns";
    let arguments = [
        "server",
        "--bind-address",
        "127.0.0.1",
        "--secure-port",
        &port,
        "--data-dir",
        path,
        "--disable",
        disable,
    ];
    check_one_line(&arguments, 1, "in use");
    assert_eq!(server.kubectl(&["get", "--raw", "/readyz"]), "ok", "the first server goes on");
}

#[test]
fn a_damaged_data_directory_is_refused() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("db")).unwrap();
    std::fs::write(
        data.path().join("db/longshore.db"),
        "this is no database, and it is long enough to tell",
    )
    .unwrap();
    let port = crate::server::free_port().to_string();
    let path = data.path().to_str().unwrap();
    let disable = "controllers,scheduler,kubelet,proxy,dns";
    let arguments = [
        "server",
        "--bind-address",
        "127.0.0.1",
        "--secure-port",
        &port,
        "--data-dir",
        path,
        "--disable",
        disable,
    ];
    check_one_line(&arguments, 1, "longshore.db");
}

#[test]
fn a_missing_runtime_is_named_before_anything_starts() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("data");
    let path = path.to_str().unwrap();
    let endpoint = "unix:///no/such/socket";
    check_one_line(
        &["server", "--data-dir", path, "--container-runtime-endpoint", endpoint],
        1,
        "no container runtime answers at /no/such/socket",
    );
    assert!(!std::path::Path::new(path).exists());
}
