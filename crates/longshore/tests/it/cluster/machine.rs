//! A network namespace that a cluster takes for the network of the machine.

use std::process::Command;

/// One that goes when dropped.
pub struct Machine(String);

impl Machine {
    /// With a link, a default route, and somebody else's table.
    pub fn new(name: String) -> Self {
        let machine = Self(name);
        let of = |arguments: &[&str]| ip(&[&["-n", machine.0.as_str()], arguments].concat());
        ip(&["netns", "add", &machine.0]);
        of(&["link", "set", "lo", "up"]);
        of(&["link", "add", "eth0", "type", "veth", "peer", "name", "beyond"]);
        of(&["link", "set", "eth0", "up"]);
        of(&["link", "set", "beyond", "up"]);
        of(&["addr", "add", "192.0.2.1/24", "dev", "eth0"]);
        of(&["route", "add", "default", "via", "192.0.2.254"]);
        // Somebody else's table, which has to stay.
        let table = ["netns", "exec", &machine.0, "nft", "add", "table", "ip", "filter"];
        ip(&table);
        machine
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
