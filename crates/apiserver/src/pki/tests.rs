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

/// A request of a new key, PEM.
fn request(organizations: &[&str], names: Vec<String>) -> (KeyPair, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = distinguished("someone", organizations);
    let request = params.serialize_request(&key).expect("a request");
    (key, request.pem().expect("text"))
}

fn terms<'a>(usages: &'a [String], hours: i64) -> Terms<'a> {
    Terms {
        usages,
        lifetime: jiff::SignedDuration::from_hours(hours),
        now: now(),
        serial: [0xff; 16],
    }
}

#[test]
fn requests_are_signed() {
    use x509_parser::prelude::{FromDer, X509Certificate};

    let dir = tempfile::tempdir().expect("a directory");
    let pki = ensure(dir.path(), &names(), &ips(), now()).expect("a start");
    let (key, request) = request(&["dev"], vec!["a.example".into(), "192.0.2.7".into()]);
    let usages = ["client auth", "digital signature", "server auth", "key encipherment"];
    let usages = usages.map(str::to_owned);
    let pem = pki.ca.sign(request.as_bytes(), &terms(&usages, 24)).expect("signed");
    let pair = Pair { cert_pem: pem, key_pem: key.serialize_pem() };
    let der = pair.certificates().remove(0);
    let (rest, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    assert!(rest.is_empty());
    let authority = Pair { cert_pem: pki.ca.cert_pem().to_owned(), key_pem: String::new() };
    let authority = authority.certificates().remove(0);
    let (_, authority) = X509Certificate::from_der(&authority).expect("the authority");
    certificate.verify_signature(Some(authority.public_key())).expect("its signature");
    assert_eq!(certificate.issuer(), authority.subject());
    assert_eq!(certificate.subject().to_string(), "O=dev, CN=someone");
    let usage = certificate.key_usage().expect("one").expect("one").value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = certificate.extended_key_usage().expect("one").expect("one").value;
    assert!(extended.client_auth && extended.server_auth && !extended.code_signing);
    assert!(!certificate.is_ca());
    let names = certificate.subject_alternative_name().expect("one").expect("one");
    assert_eq!(names.value.general_names.len(), 2);
    let validity = certificate.validity();
    assert_eq!(validity.not_before.timestamp(), now().as_second() - 300);
    assert_eq!(validity.not_after.timestamp(), now().as_second() - 300 + 24 * 3600);
    // It is good for a TLS server and client.
    rustls::sign::CertifiedKey::from_der(
        pair.certificates(),
        pair.key(),
        &rustls::crypto::aws_lc_rs::default_provider(),
    )
    .expect("certificate and key fit");
}

#[test]
fn certificates_never_outlive_their_authority() {
    use x509_parser::prelude::{FromDer, X509Certificate};

    let dir = tempfile::tempdir().expect("a directory");
    let pki = ensure(dir.path(), &names(), &ips(), now()).expect("a start");
    let (_, request) = request(&[], Vec::new());
    let usages = ["client auth".to_owned()];
    let end = |hours: i64| {
        let pem = pki.ca.sign(request.as_bytes(), &terms(&usages, hours)).expect("signed");
        let pair = Pair { cert_pem: pem, key_pem: String::new() };
        let der = pair.certificates().remove(0);
        let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
        certificate.validity().not_after.timestamp() - now().as_second()
    };
    assert_eq!(end(1), 3600);
    assert!(end(30 * 365 * 24) <= 10 * 365 * 24 * 3600);
    let late = Terms { now: "2040-01-01T00:00:00Z".parse().expect("a time"), ..terms(&usages, 1) };
    assert!(pki.ca.sign(request.as_bytes(), &late).is_err());
}

#[test]
fn bad_requests_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = ensure(dir.path(), &names(), &ips(), now()).expect("a start");
    let (_, good) = request(&[], Vec::new());
    let sign = |request: &str, usage: &str| {
        let usages = [usage.to_owned()];
        pki.ca.sign(request.as_bytes(), &terms(&usages, 1)).err()
    };
    assert_eq!(sign(&good, "client auth"), None);
    assert!(sign(&good, "world peace").is_some_and(|why| why.contains("world peace")));
    assert!(sign("nonsense", "client auth").is_some());
    // Another name than the one that was signed.
    let mut der = pem_bytes(&good);
    let at = der.windows(7).position(|part| part == b"someone").expect("the name");
    der[at] = b'x';
    assert!(sign(&pem_text(&der), "client auth").is_some_and(|why| why.contains("signature")));
}

fn pem_bytes(pem: &str) -> Vec<u8> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    pem.contents
}

fn pem_text(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let name = "CERTIFICATE REQUEST";
    format!("-----BEGIN {name}-----\n{text}\n-----END {name}-----\n")
}
