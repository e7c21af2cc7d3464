//! Development tasks: `cargo xtask NAME`.

mod codegen;

use anyhow::{Result, bail};

/// A task: its name, what it does, and the function that does it.
type Task = (&'static str, &'static str, fn() -> Result<()>);

/// Every task, alphabetical.
const TASKS: &[Task] = &[("codegen", "write the schema table from ../shared/facts", codegen::run)];

fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    if let Some((.., run)) = TASKS.iter().find(|(task, ..)| *task == name) {
        return run();
    }
    for (task, what, _) in TASKS {
        eprintln!("cargo xtask {task:10} {what}");
    }
    bail!("no task is named {name:?}")
}
