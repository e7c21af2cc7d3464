use std::os::unix::fs::PermissionsExt;

use super::*;

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().expect("a valid time")
}

fn names() -> Vec<String> {
    vec!["node-1".to_owned()]
}

fn ips() -> Vec<IpAddr> {
    vec![IpAddr::from([10, 96, 0, 1])]
}

#[test]
fn second_start_keeps_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = ensure(dir.path(), &names(), &ips(), now()).expect("first start");
    let second = ensure(dir.path(), &names(), &ips(), now()).expect("second start");
    assert_eq!(first.ca.cert_pem(), second.ca.cert_pem());
    assert_eq!(first.apiserver.cert_pem, second.apiserver.cert_pem);
    assert_eq!(first.kubelet.cert_pem, second.kubelet.cert_pem);
    assert_eq!(first.front_proxy_client.cert_pem, second.front_proxy_client.cert_pem);
    assert_eq!(first.service_account_key, second.service_account_key);
    for key in ["ca.key", "apiserver.key", "sa.key", "kubelet.key"] {
        let mode = std::fs::metadata(dir.path().join(key)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn missing_address_and_near_end_renew_the_leaf_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = ensure(dir.path(), &names(), &ips(), now()).expect("first start");
    let more = [ips(), vec![IpAddr::from([192, 0, 2, 7])]].concat();
    let second = ensure(dir.path(), &names(), &more, now()).expect("new address");
    assert_ne!(first.apiserver.cert_pem, second.apiserver.cert_pem);
    assert_eq!(first.ca.cert_pem(), second.ca.cert_pem());
    assert_eq!(first.apiserver_kubelet_client.cert_pem, second.apiserver_kubelet_client.cert_pem);
    let later = now().checked_add(Duration::from_secs(340 * 86_400)).expect("in range");
    let third = ensure(dir.path(), &names(), &more, later).expect("near the end");
    assert_ne!(third.apiserver_kubelet_client.cert_pem, second.apiserver_kubelet_client.cert_pem);
    assert_eq!(third.ca.cert_pem(), first.ca.cert_pem());
}

#[test]
fn damaged_and_missing_files_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    ensure(dir.path(), &names(), &ips(), now()).expect("first start");
    std::fs::write(dir.path().join("apiserver.crt"), "nonsense").expect("written");
    let error = ensure(dir.path(), &names(), &ips(), now()).expect_err("damaged").to_string();
    assert!(error.contains("apiserver.crt is damaged"), "{error}");
    std::fs::remove_file(dir.path().join("apiserver.crt")).expect("removed");
    ensure(dir.path(), &names(), &ips(), now()).expect("made again");
    std::fs::remove_file(dir.path().join("ca.key")).expect("removed");
    let error = ensure(dir.path(), &names(), &ips(), now()).expect_err("no key").to_string();
    assert!(error.contains("ca.key is missing"), "{error}");
}

#[test]
fn a_key_written_before_a_crash_is_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = ensure(dir.path(), &names(), &ips(), now()).expect("first start");
    std::fs::remove_file(dir.path().join("ca.crt")).expect("removed");
    let second = ensure(dir.path(), &names(), &ips(), now()).expect("second start");
    assert_eq!(first.ca.pair().key_pem, second.ca.pair().key_pem);
    // The new authority certificate has the same key, so its leaves stay good.
    assert_eq!(first.apiserver.cert_pem, second.apiserver.cert_pem);
}
