//! What goes wrong at the start is said in one line, with the right exit status, and leaves nothing running.

use std::path::Path;
use std::process::{Command, Output};

use crate::server::{LONGSHORE, Server, free_port};

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = Command::new(LONGSHORE).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// It fails with this status and says one line with this text.
#[track_caller]
fn check_one_line(arguments: &[&str], code: i32, says: &str) {
    let (status, error) = run(arguments);
    assert_eq!(status, Some(code), "{arguments:?}: {error}");
    assert!(error.contains(says), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
}

/// The API server alone says one line and ends with status 1, with this data directory.
#[track_caller]
fn check_start(data: &Path, port: u16, says: &str) {
    let (data, port) = (data.to_str().unwrap(), port.to_string());
    let disable = "controllers,scheduler,kubelet,proxy,dns";
    let place = ["--bind-address", "127.0.0.1", "--secure-port", &port, "--data-dir", data];
    let arguments = [&["server", "--disable", disable][..], &place].concat();
    check_one_line(&arguments, 1, says);
}

#[test]
fn version_is_printed() {
    for arguments in [&["version"][..], &["--version"], &["server", "--version"]] {
        let output = Command::new(LONGSHORE).args(arguments).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().starts_with("longshore"));
    }
    let (status, error) = run(&["server", "--help"]);
    assert_eq!((status, error.as_str()), (Some(0), ""));
}

#[test]
fn wrong_commands_are_usage_errors() {
    let help = "run longshore --help";
    check_one_line(&[], 64, "choose from image, reset, server, version");
    check_one_line(&["image"], 64, "choose from import");
    check_one_line(&["no-such-command"], 64, help);
    check_one_line(&["sever"], 64, "'server'");
    check_one_line(&["--no-such-flag"], 64, help);
    check_one_line(&["version", "more"], 64, "run longshore version --help");
    check_one_line(&["image", "export"], 64, "run longshore image --help");
    check_one_line(&["image", "import"], 64, "<FILE>");
    check_one_line(&["reset", "--runtime-endpoint"], 64, "run longshore reset --help");
}

#[test]
fn wrong_flags_are_usage_errors() {
    let help = "run longshore server --help";
    check_one_line(&["server", "--no-such-flag"], 64, help);
    check_one_line(&["server", "--secure-prt", "1"], 64, "'--secure-port'");
    check_one_line(&["server", "--secure-port"], 64, help);
    check_one_line(&["server", "--secure-port", "many"], 64, help);
    check_one_line(&["server", "--secure-port", "65536"], 64, help);
    check_one_line(&["server", "--log", "a", "--log", "b"], 64, help);
    check_one_line(&["server", "stray"], 64, "stray");
    check_one_line(&["server", "--two\nlines"], 64, "--two lines");
    for (flag, value, says) in [
        ("--disable", "nobody", "choose from"),
        ("--feature-gates", "Nothing=true", "CBORServingAndStorage"),
        ("--service-cluster-ip-range", "10.0.0.0", "10.0.0.0"),
        ("--service-node-port-range", "9-1", "30000-32767"),
        ("--cluster-cidr", "10.96.0.0/12", "overlaps"),
        ("--cluster-dns", "10.0.0.10", "is not in the service network"),
        ("--cluster-domain", "a b", "cluster-domain"),
        ("--bind-address", "here", "here"),
        ("--advertise-address", "::1", "IPv4"),
        ("--log", "==", "=="),
        ("--node-name", "Bad_Name", "node-name"),
        ("--cgroup-root", "relative", "relative"),
        ("--container-runtime-endpoint", "tcp://127.0.0.1:1", "unix:///run"),
        ("--config", "/no/such/file", "/no/such/file"),
    ] {
        check_one_line(&["server", flag, value], 64, says);
    }
}

#[test]
fn wrong_settings_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.yaml");
    let file = file.to_str().unwrap();
    for (text, says) in [
        ("nonsense: 1\n", "\"nonsense\" is not known; longshore server --help"),
        ("a: [\n", "line 1"),
        ("- 1\n", "settings"),
        ("log: info\nlog: debug\n", "log"),
        ("secure-port: many\n", "secure-port: \"many\" is not a port"),
        ("secure-port: 65536\n", "secure-port"),
        ("data-dir:\n", "data-dir: null is not a text"),
        ("node-name: [a]\n", "node-name"),
        ("disable: [1]\n", "disable: [1] is not a list of names"),
        ("disable: nobody\n", "nobody"),
        ("cluster-dns: 1.2.3\n", "cluster-dns"),
    ] {
        std::fs::write(file, text).unwrap();
        check_one_line(&["server", "--config", file], 64, says);
    }
}

#[test]
fn a_busy_port_is_named() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let data = tempfile::tempdir().unwrap();
    check_start(data.path(), port, &format!("127.0.0.1:{port}"));
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
    check_start(Path::new("/etc/hostname/data"), free_port(), "/etc/hostname/data");
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    check_start(data.path(), free_port(), "in use");
    assert_eq!(server.kubectl(&["get", "--raw", "/readyz"]), "ok", "the first server goes on");
}

#[test]
fn a_damaged_data_directory_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let name = "00000000000000000001.log";
    std::fs::create_dir(data.path().join("db")).unwrap();
    std::fs::write(
        data.path().join("db").join(name),
        "this is no database, and it is long enough to tell, with more bytes than a header has",
    )
    .unwrap();
    check_start(data.path(), free_port(), name);
}

#[test]
fn a_damaged_certificate_is_named_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("pki")).unwrap();
    std::fs::write(data.path().join("pki/ca.key"), "no key").unwrap();
    let says = "pki/ca.key is damaged: restore a copy of it, or remove it";
    check_start(data.path(), free_port(), says);
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
