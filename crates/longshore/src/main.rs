//! Longshore: a whole Kubernetes in one binary.

mod cli;
mod components;
mod config;
mod control_plane;
mod image;
mod kubeconfig;
mod node;
mod reset;
mod runtime;
mod server;

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status of a wrong command line.
///
/// upstream counterpart: EX_USAGE of sysexits.h
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let wrong = error.use_stderr();
            if error.print().is_err() {
                return ExitCode::FAILURE;
            }
            return if wrong { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(cli::Error::Usage(error)) => {
            eprintln!("longshore: {error}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(cli::Error::Failed(error)) => {
            eprintln!("longshore: {error:#}");
            ExitCode::FAILURE
        }
    }
}
