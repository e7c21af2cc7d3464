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

use std::process::ExitCode;

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

/// A command line that no task can follow.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Exit status of a wrong command line.
///
/// upstream counterpart: EX_USAGE of sysexits.h
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Err(error) = run(&arguments) else { return ExitCode::SUCCESS };
    eprintln!("xtask: {error:#}");
    if error.downcast_ref::<Usage>().is_some() {
        return ExitCode::from(EXIT_USAGE);
    }
    ExitCode::FAILURE
}

fn run(arguments: &[String]) -> Result<()> {
    let name = arguments.first().map_or("help", String::as_str);
    if let Some((.., run)) = TASKS.iter().find(|(task, ..)| *task == name) {
        return run(&arguments[1..]);
    }
    if !matches!(name, "help" | "--help" | "-h") {
        bail!(Usage(format!("no task is named {name:?}: cargo xtask help lists them")));
    }
    for (task, what, _) in TASKS {
        println!("cargo xtask {task:10} {what}");
    }
    Ok(())
}
