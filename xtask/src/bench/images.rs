//! `cargo xtask bench images`: the registry beside Debian's docker-registry; builds are in `builds`.
//!
//! ```text
//! push    500 MB in 5 layers that nobody has seen           ─► seconds, in turns
//! pull    the same by 1 and by 16 clients, plain and TLS    ─► seconds, CPU a byte, in turns
//! pull    by 64 clients                                     ─► growth of resident memory
//! pull    onto a node with nothing on it, from docker-registry; docker and podman (--peers) from the same
//! ```
//!
//! Both keep their content on the same disk, the load generator runs beside both, and its time is not counted.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Arguments, Load, builds, median,
    memory::{self, Peak, Process},
    peers::{self, Docker, DockerRegistry, Engine},
    report::{self, Figure, Target},
};
use crate::{host, server::Server, stand_ins};

const TURNS: u64 = 3;
const SIZE: usize = 100_000_000;
const QUICK_SIZE: usize = 20_000_000;
/// How long a server may take to make the accounts that it has.
const ACCOUNTS: Duration = Duration::from_secs(20);
/// The registry's port, of both doors.
const PORT: u16 = 5000;

struct Bench<'a> {
    arguments: &'a Arguments,
    load: &'a Load,
    server: Server,
    pid: u32,
    figures: Vec<Figure>,
    failed: Vec<(&'static str, anyhow::Error)>,
}

/// A registry under load.
struct Side<'a> {
    host: String,
    flags: Vec<String>,
    processes: Box<dyn Fn() -> Vec<Process> + 'a>,
}

/// What one load took.
struct Taken {
    seconds: f64,
    /// Processor time of the registry in nanoseconds a byte.
    cost: f64,
    detail: Value,
}

/// Measures all rows that are wanted.
pub fn run(arguments: &Arguments, madang: &Path, load: &Load, output: &Path) -> Result<()> {
    host::install(peers::REGISTRY)?;
    if arguments.peers {
        host::install(peers::ENGINES)?;
    }
    let mut server = Server::place("bench", madang, output)?;
    server.start(&[])?;
    let pid = server.pid().context("the server does not run")?;
    let mut bench = Bench { arguments, load, server, pid, figures: Vec::new(), failed: Vec::new() };
    bench.row("push", Bench::push);
    bench.row("pull over plain HTTP", Bench::pull_plain);
    bench.row("pull over TLS", Bench::pull_tls);
    bench.row("memory", Bench::memory);
    bench.row("builds", Bench::builds);
    bench.row("pull onto a node", Bench::onto_node);
    report::publish(&output.join("images.json"), &bench.figures, &bench.failed)
}

impl Bench<'_> {
    fn row(&mut self, name: &'static str, measure: fn(&mut Self) -> Result<()>) {
        if !self.arguments.wants(name) {
            return;
        }
        eprintln!("measuring {name}");
        if let Err(error) = measure(self) {
            self.failed.push((name, error));
        }
    }

    fn size(&self) -> String {
        if self.arguments.quick { QUICK_SIZE } else { SIZE }.to_string()
    }

    /// The administrator's login, as the header has it.
    fn login(&self) -> Result<String> {
        let begun = Instant::now();
        let token = loop {
            let mut login = self.server.madang();
            login.args(["login", "--print", "--data-dir"]).arg(self.server.data_dir());
            match host::output(&mut login) {
                // The accounts of a server that has just started are made after it is ready.
                Err(_) if begun.elapsed() < ACCOUNTS => std::thread::sleep(Duration::from_millis(200)),
                token => break token?,
            }
        };
        Ok(STANDARD.encode(format!("bench:{}", token.trim())))
    }

    /// This registry and another one; with `authority`, over TLS.
    fn sides<'a>(&self, docker: &'a DockerRegistry, authority: Option<&Path>) -> Result<[Side<'a>; 2]> {
        let pid = self.pid;
        let address = if authority.is_some() { self.server.address().to_owned() } else { "127.0.0.1".to_owned() };
        let tls: Vec<String> =
            authority.map(|file| vec!["--authority".to_owned(), file.display().to_string()]).unwrap_or_default();
        let ours = Side {
            host: format!("{address}:{PORT}"),
            flags: [tls.clone(), vec!["--basic".to_owned(), self.login()?]].concat(),
            processes: Box::new(move || memory::family(pid)),
        };
        let theirs = Side { host: docker.host.clone(), flags: tls, processes: Box::new(move || docker.processes()) };
        Ok([ours, theirs])
    }

    fn take(&self, side: &Side<'_>, command: &str, arguments: &[&str]) -> Result<Taken> {
        let before = memory::time(&(side.processes)());
        let mut all = vec![side.host.as_str()];
        all.extend(side.flags.iter().map(String::as_str));
        all.extend(arguments);
        let detail = self.load.run(&self.server, command, &all)?;
        let spent = memory::time(&(side.processes)()) - before;
        let number = |name: &str| detail[name].as_f64().with_context(|| format!("no {name} in {detail}"));
        let (seconds, bytes) = (number("seconds")?, number("bytes")?);
        Ok(Taken { seconds, cost: spent * 1e9 / bytes, detail })
    }

    fn push(&mut self) -> Result<()> {
        let size = self.size();
        let docker = DockerRegistry::start(&self.server, 5001, None)?;
        let sides = self.sides(&docker, None)?;
        let kept = self.server.data_dir().display().to_string();
        let mut taken = [Vec::new(), Vec::new()];
        for turn in 1..=TURNS {
            for (side, taken) in sides.iter().zip(&mut taken) {
                let seed = turn.to_string();
                taken.push(self.take(side, "push", &["--size", &size, "--seed", &seed, "--warm", &kept])?);
            }
        }
        let [ours, theirs] = taken;
        let seconds = |all: &[Taken]| median(all.iter().map(|one| one.seconds).collect());
        let cost = |all: &[Taken]| median(all.iter().map(|one| one.cost).collect());
        self.figures.push(Figure {
            name: "push of 500 MB in 5 layers, times docker-registry's speed",
            value: seconds(&theirs) / seconds(&ours),
            unit: "x",
            target: Target::AtLeast(2.0),
            beside: vec![
                ("seconds".into(), seconds(&ours)),
                ("docker-registry's seconds".into(), seconds(&theirs)),
                ("CPU ns a byte".into(), cost(&ours)),
                ("docker-registry's".into(), cost(&theirs)),
            ],
            detail: details(&ours, &theirs),
        });
        Ok(())
    }

    fn pull_plain(&mut self) -> Result<()> {
        let size = self.size();
        let docker = DockerRegistry::start(&self.server, 5001, None)?;
        let sides = self.sides(&docker, None)?;
        let names = ["pull by 1 client, plain", "pull by 16 clients, plain"];
        self.pull(&sides, &size, 0.5, names)
    }

    fn pull_tls(&mut self) -> Result<()> {
        let size = self.size();
        let pki = self.server.data_dir().join("pki");
        let certificate = (pki.join("edge/server.crt"), pki.join("edge/server.key"));
        let docker = DockerRegistry::start(&self.server, 5002, Some((&certificate.0, &certificate.1)))?;
        let sides = self.sides(&docker, Some(&pki.join("ca.crt")))?;
        let names = ["pull by 1 client, TLS", "pull by 16 clients, TLS"];
        self.pull(&sides, &size, 0.7, names)
    }

    /// Pulls in turns from both sides, to which an image is pushed first.
    fn pull(&mut self, sides: &[Side<'_>; 2], size: &str, share: f64, names: [&'static str; 2]) -> Result<()> {
        for side in sides {
            self.take(side, "push", &["--size", size, "--seed", "77"])?;
        }
        for (clients, name) in ["1", "16"].into_iter().zip(names) {
            let mut taken = [Vec::new(), Vec::new()];
            for _ in 0..TURNS {
                for (side, taken) in sides.iter().zip(&mut taken) {
                    taken.push(self.take(side, "pull", &["--clients", clients])?);
                }
            }
            let [ours, theirs] = taken;
            let seconds = |all: &[Taken]| median(all.iter().map(|one| one.seconds).collect());
            let cost = |all: &[Taken]| median(all.iter().map(|one| one.cost).collect());
            self.figures.push(Figure {
                name,
                value: cost(&ours) / cost(&theirs),
                unit: "of docker-registry's CPU a byte",
                target: Target::AtMost(share),
                beside: vec![
                    ("seconds".into(), seconds(&ours)),
                    ("docker-registry's seconds".into(), seconds(&theirs)),
                    ("CPU ns a byte".into(), cost(&ours)),
                    ("docker-registry's".into(), cost(&theirs)),
                ],
                detail: details(&ours, &theirs),
            });
        }
        Ok(())
    }

    fn builds(&mut self) -> Result<()> {
        host::install(builds::PACKAGES)?;
        self.figures.extend(builds::measure(&self.server, self.arguments.peers)?);
        Ok(())
    }

    fn onto_node(&mut self) -> Result<()> {
        let size = self.size();
        let registry = DockerRegistry::start(&self.server, 5001, None)?;
        self.load.run(&self.server, "push", &[&registry.host, "--size", &size, "--seed", "79"])?;
        let image = format!("{}/bench/image:latest", registry.host);
        let smallest = stand_ins::pause()?;
        let docker = self.arguments.peers.then(|| Docker::start(&self.server, &smallest)).transpose()?;
        let mut engines: Vec<Engine<'_>> = docker.as_ref().map(Engine::Docker).into_iter().collect();
        if self.arguments.peers {
            engines.push(Engine::podman(&self.server, &smallest)?);
        }
        let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); engines.len()]);
        for _ in 0..TURNS {
            // A second server would be another one on the same ports: the one there is begins with nothing.
            self.server.stop()?;
            fs::remove_dir_all(self.server.data_dir())?;
            self.server.start(&[])?;
            ours.push(self.server.pull(&image)?.as_secs_f64());
            for (engine, took) in engines.iter().zip(&mut theirs) {
                took.push(engine.pull(&image)?.as_secs_f64());
            }
        }
        let beside: Vec<(String, f64)> =
            engines.iter().zip(theirs).map(|(engine, took)| (engine.name().to_owned(), median(took))).collect();
        let fastest = beside.iter().map(|(_, seconds)| *seconds).fold(f64::INFINITY, f64::min);
        self.figures.push(Figure {
            name: "pull and unpack of 500 MB onto an empty node",
            value: median(ours.clone()),
            unit: "s",
            target: Target::AtMost(fastest / 2.0),
            beside,
            detail: json!({ "seconds": ours }),
        });
        Ok(())
    }

    fn memory(&mut self) -> Result<()> {
        let size = self.size();
        let docker = DockerRegistry::start(&self.server, 5001, None)?;
        let sides = self.sides(&docker, None)?;
        let mut grown = Vec::new();
        for side in &sides {
            self.take(side, "push", &["--size", &size, "--seed", "78"])?;
            let before = memory::rss(&(side.processes)());
            let peak = Peak::watch((side.processes)());
            let pulled = self.take(side, "pull", &["--clients", "64"])?;
            grown.push((peak.end()? - before, pulled.detail));
        }
        self.figures.push(Figure {
            name: "memory growth while serving 64 pulls",
            value: grown[0].0,
            unit: "MiB",
            target: Target::AtMost(32.0),
            beside: vec![("docker-registry".into(), grown[1].0)],
            detail: json!({ "madang": grown[0].1, "docker_registry": grown[1].1 }),
        });
        Ok(())
    }
}

fn details(ours: &[Taken], theirs: &[Taken]) -> Value {
    let list = |all: &[Taken]| -> Value {
        all.iter()
            .map(|one| json!({ "seconds": one.seconds, "cpu_ns_per_byte": one.cost, "load": one.detail }))
            .collect()
    };
    json!({ "madang": list(ours), "docker_registry": list(theirs) })
}
