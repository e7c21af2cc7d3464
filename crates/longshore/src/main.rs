//! Longshore: a whole Kubernetes in one binary.

mod audit;
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

use longshore_base::usage::{EXIT_USAGE, one_line};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match cli::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(ended) => return ended,
    };
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(cli::Error::Usage(error)) => {
            eprintln!("longshore: {}", one_line(&error));
            ExitCode::from(EXIT_USAGE)
        }
        Err(cli::Error::Failed(error)) => {
            eprintln!("longshore: {}", one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}
