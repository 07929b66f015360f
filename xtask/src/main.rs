//! Project tasks: `cargo xtask --help`.

mod schema;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Project tasks.
#[derive(Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Derive the API schema table of crate `api` from upstream's published definitions (needs Go).
    Schema(schema::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Schema(arguments) => schema::run(&arguments),
    }
}
