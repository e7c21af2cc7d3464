//! Development tasks: `cargo xtask NAME [ARGUMENT...]`.

mod bench;
mod ci;
mod cluster;
mod codegen;
mod cri;
mod fuzz;
mod golden;
mod image;
mod tidy;

use anyhow::{Result, bail};

/// A task: its name, what it does, and the function that does it with the rest of the command line.
type Task = (&'static str, &'static str, fn(&[String]) -> Result<()>);

/// Every task, alphabetical.
const TASKS: &[Task] = &[
    ("bench", "[ARG...]: build and run the benchmarks; --help lists the arguments", bench::run),
    ("ci", "[ARG...]: all checks and tests; arguments go to cargo test", ci::run),
    ("codegen", "write the schema table from ../shared/facts", |_| codegen::run()),
    ("cri", "write the runtime interface's messages from ../shared/facts", |_| cri::run()),
    ("down", "[--dir DIR]: take the cluster away, with everything it made", cluster::down),
    ("fuzz", "[ARG...]: build and run the fuzzers; --help lists the arguments", fuzz::run),
    (
        "golden",
        "[--check]: write the generated files, or fail when one is not up to date",
        golden::run,
    ),
    ("image", "[NAME...] [--out DIR]: build the images as OCI archives", image::run),
    ("tidy", "check the rules that the compiler does not know", tidy::run),
    (
        "up",
        "[--dir DIR] [--netns NAME] [--no-sample] [-- ARG...]: start a cluster on this machine",
        cluster::up,
    ),
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
