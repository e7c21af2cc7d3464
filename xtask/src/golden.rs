//! `cargo xtask golden [--check]`: writes the generated files, or fails when one is not what its generator makes.
//!
//! A generator whose facts are not on this machine is passed over and named: what it wrote is committed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{Usage, codegen};

/// A generated part of the tree: its path, the facts it is made from, and its generator.
struct Golden {
    path: &'static str,
    facts: &'static str,
    generate: fn() -> Result<()>,
}

/// Every generated part.
const GOLDEN: &[Golden] =
    &[Golden { path: "crates/api/src/schema", facts: "../shared/facts", generate: codegen::run }];

/// The `golden` task.
pub fn run(arguments: &[String]) -> Result<()> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        other => bail!(Usage(format!("no such arguments: {}", other.join(" ")))),
    };
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    for golden in GOLDEN {
        if !root.join(golden.facts).exists() {
            eprintln!(
                "    {} is kept as it is: {} is not on this machine",
                golden.path, golden.facts
            );
            continue;
        }
        let before = state(&root, golden.path)?;
        (golden.generate)().with_context(|| format!("generate {}", golden.path))?;
        let same = state(&root, golden.path)? == before;
        ensure!(
            !check || same,
            "{} was not what its generator makes; it is now, commit it",
            golden.path
        );
    }
    Ok(())
}

/// What git says of a part of the tree, with every difference.
fn state(root: &Path, path: &str) -> Result<Vec<u8>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["diff", "--no-color", "--", path])
        .output()
        .context("run git")?;
    ensure!(output.status.success(), "git diff failed");
    Ok(output.stdout)
}
