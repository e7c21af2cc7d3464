//! `longshore image import`: what is wrong is said.

use std::process::Command;

use crate::server::LONGSHORE;

#[test]
fn a_missing_runtime_is_named() {
    let output = Command::new(LONGSHORE)
        .args(["image", "import", "--runtime-endpoint", "unix:///no/such/socket", "image.tar"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("no container runtime answers at unix:///no/such/socket"), "{error}");
}
