//! A server that comes back has every object, whatever ended it.

use crate::server::Server;

fn names(server: &Server) -> String {
    server.kubectl(&["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"])
}

fn uid(server: &Server) -> String {
    server.kubectl(&["get", "configmap", "kept", "-o", "jsonpath={.metadata.uid} {.data.a}"])
}

#[test]
fn objects_survive_a_stop_and_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]);
    let before = uid(&server);
    server.stop();

    let server = Server::start(data.path());
    assert_eq!(uid(&server), before);
    server.kubectl(&["create", "configmap", "written-just-before-the-kill"]);
    server.kill();

    let server = Server::start(data.path());
    assert_eq!(uid(&server), before);
    assert!(names(&server).contains("written-just-before-the-kill"));
}
