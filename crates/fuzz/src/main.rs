//! `longshore-fuzz`: runs the fuzzers and tells what they found.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use longshore_base::usage::{EXIT_USAGE, wrong};
use longshore_fuzz::engine;
use longshore_fuzz::targets::{TARGETS, Target};

/// Fuzzers of everything that reads what a client sends.
#[derive(Parser)]
struct Arguments {
    /// Run only this target (may be repeated).
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// Inputs for each target.
    #[arg(long, default_value_t = 1_000_000)]
    executions: u64,
    /// The same seed gives the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Give one target the bytes of a file instead.
    #[arg(long, value_name = "FILE")]
    input: Option<std::path::PathBuf>,
    /// List the targets.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            let what = wrong(&error.render().to_string(), "longshore-fuzz");
            eprintln!("longshore-fuzz: {what}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
        Err(help) => {
            help.print()?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if arguments.list {
        TARGETS.iter().for_each(|target| println!("{:16} {}", target.name, target.about));
        return Ok(ExitCode::SUCCESS);
    }
    let named = |name: &String| {
        let found = TARGETS.iter().find(|target| target.name == name);
        found.with_context(|| format!("no target is named {name:?}; --list tells them"))
    };
    let chosen: Vec<&Target> = if arguments.target.is_empty() {
        TARGETS.iter().collect()
    } else {
        arguments.target.iter().map(named).collect::<Result<_>>()?
    };
    if let Some(path) = &arguments.input {
        let input = std::fs::read(path).with_context(|| path.display().to_string())?;
        for target in chosen {
            println!("{}: {}", target.name, (target.run)(&input));
        }
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{:16} {:>10} {:>9} {:>8} {:>10} {:>9}",
        "target", "inputs", "outcomes", "time", "per second", "slowest"
    );
    let mut code = ExitCode::SUCCESS;
    for target in chosen {
        let report = engine::run(target, arguments.executions, arguments.seed);
        let seconds = report.time.as_secs_f64();
        println!(
            "{:16} {:>10} {:>9} {:>6.1} s {:>10.0} {:>6.1} ms",
            target.name,
            report.executions,
            report.outcomes,
            seconds,
            report.executions as f64 / seconds,
            report.slowest.as_secs_f64() * 1e3
        );
        if let Some((input, why)) = report.failure {
            let path = std::env::temp_dir().join(format!("longshore-fuzz-{}", target.name));
            std::fs::write(&path, &input)?;
            println!(
                "  broken: {why}\n  the input is in {}: {:?}",
                path.display(),
                String::from_utf8_lossy(&input)
            );
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
