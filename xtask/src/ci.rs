//! `cargo xtask ci`: everything that must hold before a change lands, in the order of how fast it fails.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::{golden, tidy};

/// The `ci` task; arguments go to `cargo test`.
pub fn run(arguments: &[String]) -> Result<()> {
    step("tidy", || tidy::run(&[]))?;
    step("golden", || golden::run(&["--check".to_owned()]))?;
    step("fmt", || cargo(&["fmt", "--all", "--check"]))?;
    step("clippy", || {
        cargo(&[
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
    })?;
    step("test", || {
        let mut test = vec!["test", "--quiet", "--locked", "--workspace"];
        test.extend(arguments.iter().map(String::as_str));
        cargo(&test)
    })
}

fn step(name: &str, task: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    eprintln!("\x1b[1m==>\x1b[0m {name}");
    task().with_context(|| format!("{name} failed"))?;
    eprintln!("    {name} took {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(arguments)
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}
