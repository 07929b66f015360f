//! Project tasks: `cargo xtask --help`.

mod bench;
mod binary;
mod conformance;
mod demo;
mod distribution;
mod fuzz;
mod gateway;
mod go;
mod host;
mod images;
mod kubernetes;
mod machine;
mod python;
mod remote_write;
mod schema;
mod server;
mod stand_ins;
mod suite;
mod tidy;
mod ui;
mod up;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Project tasks. Each installs what it needs on a bare Debian or Ubuntu machine.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build what is needed and run `madang server`
    Up(up::Arguments),
    /// Show the sample application's whole way: from a push to its releases, with times; exit code N says that step N failed
    Demo(demo::Arguments),
    /// Run the tests: the first tier, or with --full everything
    Test(suite::Arguments),
    /// Check form: layers, pages, sizes, names, licences, rustfmt, clippy
    Tidy,
    /// Run a third-party suite against a server of its own
    Conformance(conformance::Arguments),
    /// Measure the server against its targets and its peers
    Bench(bench::Arguments),
    /// Feed readers of what strangers send with broken input, for longer than the tests do
    Fuzz(fuzz::Arguments),
    /// Derive the API schema table of crate `api` from upstream's published definitions (needs Go)
    Schema(schema::Arguments),
    /// Build the pages of the console, which building the program then embeds
    Ui,
    /// Make the images for tests and for the sample application, and print their archives
    Images,
    /// Make what the machine of the tests boots, and print its folders: a kernel, and a root with systemd
    Machine,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Up(arguments) => up::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => suite::run(&arguments),
        Task::Tidy => tidy::run(),
        Task::Conformance(arguments) => conformance::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Schema(arguments) => schema::run(&arguments),
        Task::Ui => ui::build(),
        Task::Images => {
            for archive in images::all()? {
                println!("{} {}", archive.path.display(), archive.name);
            }
            Ok(())
        }
        Task::Machine => {
            println!("{}\n{}", machine::kernel()?.display(), machine::systemd()?.display());
            Ok(())
        }
    }
}
