//! Development tasks: `cargo xtask NAME [ARGUMENT...]`.

mod codegen;
mod image;

use anyhow::{Result, bail};

/// A task: its name, what it does, and the function that does it with the rest of the command line.
type Task = (&'static str, &'static str, fn(&[String]) -> Result<()>);

/// Every task, alphabetical.
const TASKS: &[Task] = &[
    ("codegen", "write the schema table from ../shared/facts", |_| codegen::run()),
    ("image", "[NAME...] [--out DIR]: build the images as OCI archives", image::run),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("", String::as_str);
    if let Some((.., run)) = TASKS.iter().find(|(task, ..)| *task == name) {
        return run(&arguments[1..]);
    }
    for (task, what, _) in TASKS {
        eprintln!("cargo xtask {task:10} {what}");
    }
    bail!("no task is named {name:?}")
}
