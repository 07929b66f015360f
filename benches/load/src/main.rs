//! Load on a Kubernetes API server, on etcd, on a registry, on a disk and on whoever scrapes, measured from the client's side.
//!
//! Each command does one thing, checks every answer, and prints one JSON object on standard output: `cargo xtask bench`
//! makes tables of them. The client is made to cost little, since it shares the machine with what it measures: one
//! keep-alive TLS connection a worker, HTTP/1.1 written and read without a library.
//!
//! ```text
//! load creates    N connections POST ConfigMaps for S seconds       rate, p50, p99
//! load fill       the same up to a number of ConfigMaps or pods
//! load list       GET of a path, a few times                        median
//! load running    pods one after the other, POST to Running         p50, p99
//! load together   N pods at once, until all of them run             seconds
//! load puts       bare puts to etcd over gRPC                       rate, p50, p99
//! load push       an image to a registry                            seconds, bytes
//! load pull       the same from it, by N clients                    seconds, bytes
//! load sync       append and fdatasync                              p50, p99
//! load requests   GET through a proxy on N connections for S sec.  rate, p50, p99
//! load runs       runs of a pipeline, in turn or many at a time    p50, or runs a minute
//! load expose     a target of Prometheus with many series           nothing: it answers until it is ended
//! ```

mod api;
mod connection;
mod disk;
mod etcd;
mod expose;
mod kubeconfig;
mod pods;
mod registry;
mod requests;
mod runs;
mod samples;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load on a Kubernetes API server, on etcd, on a registry and on a disk.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What to fill an API server with.
#[derive(Clone, Copy, ValueEnum)]
pub enum Filling {
    /// ConfigMaps of one kilobyte
    Configmaps,
    /// Pods that no node fits
    Pods,
}

/// A registry.
#[derive(Args)]
struct Registry {
    /// Its address, HOST:PORT
    host: String,
    /// Over TLS, with a certificate for localhost of this authority
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
    /// USER:PASSWORD in base64
    #[arg(long)]
    basic: Option<String>,
    /// The repository
    #[arg(long, default_value = "bench/image")]
    name: String,
}

impl Registry {
    fn place(&self) -> registry::Registry {
        registry::Registry { host: self.host.clone(), authority: self.authority.clone(), basic: self.basic.clone() }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Create ConfigMaps of one kilobyte for some seconds
    Creates {
        kubeconfig: PathBuf,
        #[arg(long, default_value_t = 32)]
        connections: usize,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Create a number of objects
    Fill {
        kubeconfig: PathBuf,
        what: Filling,
        count: usize,
        #[arg(long, default_value_t = 16)]
        connections: usize,
    },
    /// Get a path some times on one connection
    List {
        kubeconfig: PathBuf,
        path: String,
        #[arg(long, default_value_t = 9)]
        times: usize,
    },
    /// Create pods in turn and wait for each to run
    Running {
        kubeconfig: PathBuf,
        #[arg(long)]
        image: String,
        #[arg(long, default_value_t = 50)]
        count: usize,
    },
    /// Create pods all at once and wait until all run; they stay
    Together {
        kubeconfig: PathBuf,
        #[arg(long)]
        image: String,
        #[arg(long, default_value_t = 200)]
        count: usize,
        /// Delete them and wait until they are gone
        #[arg(long)]
        delete: bool,
    },
    /// Put values of one kilobyte into etcd for some seconds
    Puts {
        endpoint: String,
        #[arg(long, default_value_t = 32)]
        connections: usize,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Push an image of made-up layers
    Push {
        #[command(flatten)]
        registry: Registry,
        #[arg(long, default_value_t = 5)]
        layers: usize,
        /// Bytes of a layer, compressed
        #[arg(long, default_value_t = 100_000_000)]
        size: usize,
        /// Images of different seeds have nothing in common
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where the registry keeps its files: memory for what will be written there is made real before the first byte is sent
        #[arg(long, value_name = "DIR")]
        warm: Option<PathBuf>,
    },
    /// Pull the image, and throw it away
    Pull {
        #[command(flatten)]
        registry: Registry,
        #[arg(long, default_value_t = 1)]
        clients: usize,
    },
    /// Append to a preallocated file in a directory and sync each time
    Sync {
        dir: PathBuf,
        #[arg(long, default_value_t = 500)]
        times: usize,
    },
    /// Ask a plain HTTP server, or a proxy before one, for some seconds
    Requests {
        /// HOST:PORT
        address: String,
        #[arg(long, default_value = "bench")]
        host: String,
        #[arg(long, default_value = "/")]
        path: String,
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Run a pipeline of the namespace default some times
    Runs {
        kubeconfig: PathBuf,
        pipeline: String,
        #[arg(long, default_value_t = 20)]
        count: usize,
        /// As many at a time, instead of one after the other
        #[arg(long)]
        at_once: Option<usize>,
    },
    /// Expose series on a port of the loopback address
    Expose {
        port: u16,
        #[arg(long, default_value_t = 100_000)]
        series: usize,
    },
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let measured = match Arguments::parse().command {
        Command::Creates { kubeconfig, connections, seconds } => {
            api::creates(&kubeconfig::read(&kubeconfig)?, connections, seconds).await?
        }
        Command::Fill { kubeconfig, what, count, connections } => {
            api::fill(&kubeconfig::read(&kubeconfig)?, what, count, connections).await?
        }
        Command::List { kubeconfig, path, times } => api::list(&kubeconfig::read(&kubeconfig)?, &path, times).await?,
        Command::Running { kubeconfig, image, count } => {
            pods::in_turn(&kubeconfig::read(&kubeconfig)?, &image, count).await?
        }
        Command::Together { kubeconfig, image, count, delete } => {
            pods::together(&kubeconfig::read(&kubeconfig)?, &image, count, delete).await?
        }
        Command::Puts { endpoint, connections, seconds } => etcd::puts(endpoint, connections, seconds).await?,
        Command::Push { registry, layers, size, seed, warm } => {
            let image = registry::Image::make(layers, size, seed)?;
            if let Some(dir) = warm {
                disk::warm(&dir, image.size())?;
            }
            registry::push(&registry.place(), &registry.name, image).await?
        }
        Command::Pull { registry, clients } => registry::pull(&registry.place(), &registry.name, clients).await?,
        Command::Sync { dir, times } => disk::sync(&dir, times)?,
        Command::Requests { address, host, path, connections, seconds } => {
            requests::run(&address, &host, &path, connections, seconds).await?
        }
        Command::Runs { kubeconfig, pipeline, count, at_once } => {
            let server = kubeconfig::read(&kubeconfig)?;
            match at_once {
                None => runs::in_turn(&server, &pipeline, count).await?,
                Some(at_once) => runs::together(&server, &pipeline, count, at_once).await?,
            }
        }
        Command::Expose { port, series } => expose::serve(port, series)?,
    };
    println!("{measured}");
    Ok(())
}
