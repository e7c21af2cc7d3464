//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use longshore_base::usage::{EXIT_USAGE, wrong};

use crate::config::{self, ServerConfig};

/// Why a command failed.
pub enum Error {
    /// The command line or the configuration is wrong.
    Usage(String),
    /// The command could not be carried out.
    Failed(anyhow::Error),
}

impl From<config::Error> for Error {
    fn from(error: config::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// A whole Kubernetes in one binary.
#[derive(Parser)]
#[command(name = "longshore", version, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load images into the node's container runtime.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Remove every pod from the node's container runtime, once its server is stopped.
    Reset(crate::reset::ResetArgs),
    /// Run the control plane and the node agent in one process.
    Server(Box<ServerArguments>),
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum ImageCommand {
    /// Import OCI image archives.
    Import(crate::image::ImportArgs),
}

/// The flags of `longshore server`. Each may also stand in the file given by --config, under the
/// same name; the command line wins.
#[derive(Args, Default, Debug)]
pub struct ServerArguments {
    /// File with the same settings as YAML, such as `secure-port: 6443`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where all state is kept [default: /var/lib/longshore].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to listen on [default: 0.0.0.0].
    #[arg(long, value_name = "IP")]
    pub bind_address: Option<String>,
    /// Port of the API server [default: 6443].
    #[arg(long, value_name = "PORT")]
    pub secure_port: Option<u16>,
    /// Address that nodes and pods reach this server at [default: the one of the default route].
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<String>,
    /// Network of service addresses [default: 10.96.0.0/16].
    #[arg(long, value_name = "CIDR")]
    pub service_cluster_ip_range: Option<String>,
    /// Ports of NodePort services [default: 30000-32767].
    #[arg(long, value_name = "FROM-TO")]
    pub service_node_port_range: Option<String>,
    /// Network of pod addresses [default: 10.244.0.0/16].
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// Domain of the cluster DNS [default: cluster.local].
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Service address of the cluster DNS [default: 10.96.0.10].
    #[arg(long, value_name = "IP")]
    pub cluster_dns: Option<String>,
    /// Name of this node [default: the host name].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Socket of the container runtime [default: unix:///run/containerd/containerd.sock].
    #[arg(long, value_name = "ENDPOINT")]
    pub container_runtime_endpoint: Option<String>,
    /// Directory of the runtime's CNI configuration [default: /etc/cni/net.d].
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Control group below which those of the pods are made [default: /].
    #[arg(long, value_name = "PATH")]
    pub cgroup_root: Option<String>,
    /// Port of the node agent [default: 10250].
    #[arg(long, value_name = "PORT")]
    pub kubelet_port: Option<u16>,
    /// When a node has too little left and ends pods, such as
    /// `memory.available<100Mi,nodefs.available<10%` [default: as upstream's].
    #[arg(long, value_name = "LIST")]
    pub eviction_hard: Option<String>,
    /// Features to switch on or off, such as `CBORServingAndStorage=true`.
    #[arg(long, value_name = "NAME=BOOL", value_delimiter = ',')]
    pub feature_gates: Option<Vec<String>>,
    /// What not to run: controllers, scheduler, kubelet, proxy, dns, or single controllers.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub disable: Option<Vec<String>>,
    /// What to log, such as `info` or `longshore_kubelet=debug` [default: info].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// The audit log.
    #[command(flatten)]
    pub audit: crate::audit::AuditArguments,
}

/// Reads the command line; when there is nothing to run, gives the status to exit with.
pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Arguments, ExitCode> {
    let words: Vec<OsString> = words.collect();
    let error = match Arguments::try_parse_from(&words) {
        Ok(arguments) => return Ok(arguments),
        Err(error) => error,
    };
    if !error.use_stderr() {
        let shown = error.print();
        return Err(shown.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS));
    }
    let (named, choices) = named(&words);
    let said = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            wrong(&format!("a command is missing: choose from {choices}"), &named)
        }
        _ => wrong(&error.render().to_string(), &named),
    };
    eprintln!("longshore: {said}");
    Err(ExitCode::from(EXIT_USAGE))
}

/// The command that a command line begins with, and the commands that it could go on with.
fn named(words: &[OsString]) -> (String, String) {
    let mut command = Arguments::command();
    let mut name = command.get_name().to_owned();
    for word in words.iter().skip(1) {
        let Some(next) = command.find_subcommand(word).cloned() else { break };
        name = format!("{name} {}", next.get_name());
        command = next;
    }
    let choices = command.get_subcommands().map(|c| c.get_name().to_owned());
    (name, choices.collect::<Vec<_>>().join(", "))
}

impl Arguments {
    /// Runs the command.
    pub fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Image(ImageCommand::Import(arguments)) => {
                block_on(crate::image::import(arguments))
            }
            Command::Reset(arguments) => block_on(crate::reset::reset(arguments)),
            Command::Server(arguments) => {
                let config = ServerConfig::resolve(*arguments)?;
                crate::server::run(config).map_err(Error::Failed)
            }
            Command::Version => {
                println!(
                    "longshore {} (Kubernetes {})",
                    env!("CARGO_PKG_VERSION"),
                    config::API_LEVEL
                );
                Ok(())
            }
        }
    }
}

/// Runs a command that is no server on this thread.
fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(anyhow::Error::from)?.block_on(command).map_err(Error::Failed)
}
