//! A network namespace for a cluster: two clusters on one machine do not meet there.
//!
//! This process moves into it, so that everything it starts runs there. `ip netns exec` would do more than that: it
//! mounts another /sys, without the control groups.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Cluster;
use crate::Usage;

/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// The node's link, its peer, and its address: a network of its own, reserved for documentation.
///
/// upstream: RFC 5737
const LINK: &str = "node0";
const PEER: &str = "world0";
const ADDRESS: &str = "192.0.2.1/24";
const GATEWAY: &str = "192.0.2.254";
/// The file in the cluster's directory that names the namespace.
const FILE: &str = "netns";

/// Checks the name of a namespace: it becomes the name of a file.
pub fn name(text: &str) -> Result<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    ensure!(
        !text.is_empty() && text.chars().all(good),
        Usage(format!("--netns {text:?}: use letters, digits and dashes"))
    );
    Ok(text.to_owned())
}

fn path(name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(name)
}

/// Moves this process into the cluster's namespace if it has one, made if it is missing.
pub fn enter(cluster: &mut Cluster) -> Result<()> {
    let file = cluster.path(FILE);
    let written = fs::read_to_string(&file).ok().map(|text| text.trim().to_owned());
    match (&written, &cluster.netns) {
        (Some(written), Some(asked)) => {
            ensure!(written == asked, "this cluster runs in the network namespace {written}");
        }
        (Some(written), None) => cluster.netns = Some(name(written)?),
        (None, Some(asked)) => {
            ensure!(
                !cluster.path("before").exists(),
                "this cluster runs in the network of the machine: take it down first"
            );
            fs::write(&file, asked).with_context(|| format!("write {}", file.display()))?;
        }
        (None, None) => return Ok(()),
    }
    let Some(name) = &cluster.netns else { return Ok(()) };
    if !path(name).exists() {
        ip(&["netns", "add", name])?;
    }
    let namespace = File::open(path(name)).with_context(|| format!("open the namespace {name}"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("enter the namespace {name}"))?;
    if ip(&["link", "show", LINK]).is_err() {
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "add", LINK, "type", "veth", "peer", "name", PEER])?;
    }
    // Each may have been done before a crash; all are harmless to repeat.
    ip(&["link", "set", LINK, "up"])?;
    ip(&["link", "set", PEER, "up"])?;
    ip(&["addr", "replace", ADDRESS, "dev", LINK])?;
    ip(&["route", "replace", "default", "via", GATEWAY, "dev", LINK])
}

/// Removes the namespace, with all links, routes and tables in it.
pub fn remove(cluster: &Cluster) -> Result<()> {
    match &cluster.netns {
        Some(name) if path(name).exists() => ip(&["netns", "delete", name]),
        _ => Ok(()),
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run ip")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
