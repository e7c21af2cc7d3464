//! `cargo xtask fuzz [ARG...]`: builds the fuzzers for release and runs them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::image;

/// The `fuzz` task; arguments go to `longshore-fuzz`.
pub fn run(arguments: &[String]) -> Result<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let build = ["build", "--quiet", "--release", "--locked", "--package", "longshore-fuzz"];
    let built =
        Command::new(env!("CARGO")).current_dir(root).args(build).status().context("run cargo")?;
    ensure!(built.success(), "cargo could not build the fuzzers");
    let program = image::target_directory()?.join("release/longshore-fuzz");
    let status = Command::new(&program).current_dir(root).args(arguments).status();
    let status = status.with_context(|| format!("run {}", program.display()))?;
    ensure!(status.success(), "a fuzzer found something");
    Ok(())
}
