//! `cargo xtask bench AREA`: figures beside their targets and their peers', measured alternately in one run.
//!
//! A figure that falls short is printed as such and fails nothing: times depend on the machine, and people judge them.

mod builds;
mod console;
mod images;
mod memory;
mod metrics;
mod peers;
mod report;
mod start;
mod walk;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{binary, host, server::Server, up};

#[derive(Args)]
pub struct Arguments {
    /// What to measure
    area: Area,
    /// Only rows whose names contain this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only these rows, by their short names: cpu,memory,bytes,blocks,restart,queries,many,start,idle (area metrics)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    rows: Vec<String>,
    /// Milliseconds between scrapes, where only the number of samples counts (area metrics)
    #[arg(long, value_name = "MS")]
    interval: Option<u64>,
    /// Samples to store instead of 47 million (area metrics)
    #[arg(long, value_name = "N")]
    samples: Option<u64>,
    /// Idle for one minute instead of ten, and load for shorter
    #[arg(long)]
    quick: bool,
    /// Install docker.io and podman and measure them too
    #[arg(long)]
    peers: bool,
    /// Run the role control alone, and leave out what needs pods to run
    #[arg(long)]
    control: bool,
    /// The server to measure instead of a new build
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// What there is to measure.
#[derive(Clone, Copy, ValueEnum)]
enum Area {
    /// Starting, memory, pods and the API server
    Start,
    /// The registry and builds
    Images,
    /// Scraping, storing and querying samples, beside Prometheus
    Metrics,
    /// The console's pages in a browser
    Console,
    /// The gateway beside nginx and haproxy, pipelines, the way of a push, and everything at rest
    Walk,
}

impl Arguments {
    fn wants(&self, row: &str) -> bool {
        let named = self.rows.is_empty() || self.rows.iter().any(|name| name == row);
        named && self.only.as_ref().is_none_or(|text| row.contains(text.as_str()))
    }
}

/// Measures, prints a table and keeps the figures below the target directory.
pub fn run(arguments: &Arguments) -> Result<()> {
    if !host::is_root() {
        bail!("network namespaces need root");
    }
    host::install(up::BUILD)?;
    let madang = match &arguments.binary {
        Some(path) => path.canonicalize().with_context(|| format!("find {}", path.display()))?,
        None => binary::release()?,
    };
    let output = binary::target_dir().join("bench");
    std::fs::create_dir_all(&output)?;
    let load = Load::build(&output)?;
    match arguments.area {
        Area::Start => start::run(arguments, &madang, &load, &output),
        Area::Images => images::run(arguments, &madang, &load, &output),
        Area::Metrics => metrics::run(arguments, &madang, &load, &output),
        Area::Console => console::run(&madang, &output),
        Area::Walk => walk::run(arguments, &madang, &load, &output),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The load generator of `benches/load`.
struct Load(PathBuf);

impl Load {
    fn build(output: &Path) -> Result<Self> {
        let target = output.join("load");
        let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(host::root().join("benches/load")).args(["build", "--release", "--locked"]);
        host::run(cargo.env("CARGO_TARGET_DIR", &target))?;
        Ok(Self(target.join("release/load")))
    }

    /// Runs one of its commands where the server is; returns what it measured.
    fn run(&self, server: &Server, command: &str, arguments: &[&str]) -> Result<Value> {
        let text = host::output(server.inside(&self.0).arg(command).args(arguments))?;
        serde_json::from_str(&text).with_context(|| format!("output of load {command}: {text:?}"))
    }
}
