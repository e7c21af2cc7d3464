//! `cargo xtask bench [ARG...]`: builds the server and the benchmarks for release and runs them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::image;

/// The `bench` task; arguments go to `longshore-bench`.
pub fn run(arguments: &[String]) -> Result<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let build = [
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--package",
        "longshore",
        "--package",
        "longshore-bench",
    ];
    let built =
        Command::new(env!("CARGO")).current_dir(root).args(build).status().context("run cargo")?;
    ensure!(built.success(), "cargo could not build the benchmarks");
    let program = image::target_directory()?.join("release/longshore-bench");
    let status = Command::new(&program).current_dir(root).args(arguments).status();
    let status = status.with_context(|| format!("run {}", program.display()))?;
    ensure!(status.success(), "the benchmarks failed");
    Ok(())
}
