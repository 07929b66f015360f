//! The command line: one row a command.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{
    app, backup, build,
    config::{Flags, Place},
    console, containers, images, install, logging, login, oci_runtime, prometheus, status, supervisor, token,
};

/// The whole container infrastructure environment in one binary.
///
/// `sudo madang server` starts a Kubernetes cluster of one machine; kubectl finds it with the kubeconfig in its data directory:
/// `export KUBECONFIG=/var/lib/madang/kubeconfig; kubectl get nodes`.
#[derive(Debug, Parser)]
#[command(name = "madang", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine, in the foreground
    Server(Box<Flags>),
    /// Show whether the server answers, and on which ports
    Status {
        #[command(flatten)]
        place: Place,
        /// Return once everything answers
        #[arg(long)]
        wait: bool,
    },
    /// Print the administrator's kubeconfig
    Kubeconfig {
        #[command(flatten)]
        place: Place,
    },
    /// Make a container and start it
    Run(Box<containers::Run>),
    /// List containers
    Ps(containers::List),
    /// Print what a container has said
    Logs(containers::Logs),
    /// Run a command in a container
    Exec(Box<containers::Exec>),
    /// Start containers that do not run
    Start(containers::Start),
    /// Stop containers
    Stop(containers::Stop),
    /// Send containers a signal
    Kill(containers::Kill),
    /// Remove containers
    Rm(containers::Remove),
    /// Print all that is known of containers, as JSON
    Inspect(containers::Inspect),
    /// Build an image from a Dockerfile
    Build(Box<build::Build>),
    /// Load images from an archive of `docker save` or an OCI layout
    Load(images::Load),
    /// Fetch an image from a registry
    Pull(images::Pull),
    /// List images
    Images(images::List),
    /// Send an image to a registry
    Push(images::engine::Push),
    /// Write images to an archive
    Save(images::engine::Save),
    /// Give an image another name
    Tag(images::engine::Tag),
    /// Remove images
    Rmi(images::engine::Remove),
    /// Log docker and podman in to the cluster's registry
    Login(login::Login),
    /// Print a password for git, docker and Jenkins clients
    Token(token::Token),
    /// Print a link that signs a browser in to the web interface, once
    Console(console::Console),
    /// Write all objects of the running server to one file
    Backup(backup::Backup),
    /// Make a store from a backup, or from what is readable of a damaged one
    Restore(backup::Restore),
    /// Install as a systemd service and start it
    Install(install::Install),
    /// Stop the service and remove every trace: containers, links, tables, mounts, cgroups
    Uninstall(install::Uninstall),
    /// Be an OCI runtime, as runc is one: see `madang runtime --help`
    Runtime,
    /// Be a Prometheus without a cluster: collect, keep, answer and alert as `prometheus.yml` says
    Metrics(Box<prometheus::Metrics>),
    /// What `madang server` starts; not to be called by hand
    #[command(hide = true)]
    Role(RoleName),
    /// What interprets a pipeline's script inside a confined process; not to be called by hand
    #[command(hide = true)]
    Interpret,
    /// What unpacks an image layer inside a confined process; not to be called by hand
    #[command(hide = true)]
    Unpack,
}

#[derive(Args, Debug)]
struct RoleName {
    name: String,
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Server(mut flags) => {
                logging::start("supervisor");
                let only = flags.role.take();
                supervisor::run(flags.resolve()?, only.as_deref())
            }
            Command::Status { place, wait } => status::print(&place.run_dir, wait),
            Command::Kubeconfig { place } => print_file(place.data_dir.join("kubeconfig")),
            Command::Run(command) => command.run(),
            Command::Ps(command) => command.run(),
            Command::Logs(command) => command.run(),
            Command::Exec(command) => command.run(),
            Command::Start(command) => command.run(),
            Command::Stop(command) => command.run(),
            Command::Kill(command) => command.run(),
            Command::Rm(command) => command.run(),
            Command::Inspect(command) => command.run(),
            Command::Build(command) => command.run(),
            Command::Load(command) => command.run(),
            Command::Pull(command) => command.run(),
            Command::Images(command) => command.run(),
            Command::Push(command) => command.run(),
            Command::Save(command) => command.run(),
            Command::Tag(command) => command.run(),
            Command::Rmi(command) => command.run(),
            Command::Login(command) => command.run(),
            Command::Token(command) => command.run(),
            Command::Console(command) => command.run(),
            Command::Backup(command) => command.run(),
            Command::Restore(command) => command.run(),
            Command::Install(command) => command.run(),
            Command::Uninstall(command) => command.run(),
            // `main` has come before; this row is there for the list of commands.
            Command::Runtime => std::process::exit(oci_runtime::run(std::env::args_os().skip(2))),
            Command::Metrics(command) => {
                logging::start("metrics");
                command.run()
            }
            Command::Role(role) => {
                logging::start(&role.name);
                app::run(&role.name)
            }
            Command::Interpret => {
                std::process::exit(i32::from(pipeline::interpreter::serve() != std::process::ExitCode::SUCCESS))
            }
            Command::Unpack => std::process::exit(i32::from(app::unpack() != std::process::ExitCode::SUCCESS)),
        }
    }
}

fn print_file(path: PathBuf) -> Result<()> {
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("read {}: has `madang server` been started here, and are you root?", path.display())
    })?;
    print!("{text}");
    Ok(())
}
