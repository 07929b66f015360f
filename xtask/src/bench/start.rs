//! `cargo xtask bench start`: what the first issue promises.
//!
//! ```text
//! full server    10,000 ConfigMaps, 1,000 pods that fit nowhere   ─► start to ready
//! fresh server   nothing                                          ─► idle memory, pods, shims
//! fresh server   beside etcd                                      ─► creates/s;  10,000 pods ─► LIST
//! ```
//!
//! Starting, creating, listing and idle memory are measured twice: with the parts of that issue, and with all that came since.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Arguments, Load, median, memory,
    memory::Peak,
    peers::{self, Docker, Engine, Etcd},
    report::{self, Figure, Target},
};
use crate::{go, host, server::Server, stand_ins};

const CONFIGMAPS: &str = "10000";
const UNFIT_PODS: &str = "1000";
const LISTED_PODS: &str = "10000";
const STARTS: usize = 10;
/// Pods one after the other, in so many turns with peers.
const TURNS: usize = 5;
const PODS_A_TURN: usize = 10;
const TOGETHER: &str = "200";
const MANY: &str = "50";
/// Parts that came after the issue whose figures these are.
const LATER: [&str; 5] = ["engine", "metrics", "gateway", "pipeline", "console"];

/// Which parts of the server run.
#[derive(Clone, Copy)]
enum Parts {
    First,
    All,
}

impl Parts {
    const BOTH: [Self; 2] = [Self::First, Self::All];

    fn arguments(self) -> Vec<&'static str> {
        match self {
            Self::First => LATER.iter().flat_map(|part| ["--without", part]).collect(),
            Self::All => Vec::new(),
        }
    }

    /// One of two names.
    fn name(self, first: &'static str, all: &'static str) -> &'static str {
        match self {
            Self::First => first,
            Self::All => all,
        }
    }
}

struct Bench<'a> {
    arguments: &'a Arguments,
    madang: &'a Path,
    load: &'a Load,
    output: &'a Path,
    figures: Vec<Figure>,
    failed: Vec<(&'static str, anyhow::Error)>,
}

/// Measures all rows that are wanted; one that fails does not keep the others from being measured.
pub fn run(arguments: &Arguments, madang: &Path, load: &Load, output: &Path) -> Result<()> {
    let mut bench = Bench { arguments, madang, load, output, figures: Vec::new(), failed: Vec::new() };
    if arguments.peers {
        host::install(peers::ENGINES)?;
    }
    bench.row("start to ready", |bench| Parts::BOTH.into_iter().try_for_each(|parts| bench.start_to_ready(parts)));
    bench.row("creates/s", |bench| Parts::BOTH.into_iter().try_for_each(|parts| bench.creates(parts)));
    bench.row("LIST", |bench| Parts::BOTH.into_iter().try_for_each(|parts| bench.list(parts)));
    if !arguments.control {
        bench.row("POST to Running", Bench::running);
        bench.row("pods together", Bench::together);
        bench.row("shim", Bench::shim);
    }
    bench.row("idle memory", Bench::idle);
    report::publish(&output.join("start.json"), &bench.figures, &bench.failed)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn field(value: &Value, pointer: &str) -> Result<f64> {
    value.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer} in {value}"))
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

    fn server(&self) -> Result<Server> {
        Server::place("bench", self.madang, self.output)
    }

    fn start(&self, server: &mut Server, parts: Parts) -> Result<Duration> {
        let mut arguments = parts.arguments();
        if self.arguments.control {
            arguments.extend(["--role", "control"]);
        }
        server.start(&arguments)
    }

    fn running_server(&self, parts: Parts) -> Result<(Server, u32)> {
        let mut server = self.server()?;
        self.start(&mut server, parts)?;
        let pid = server.pid().context("the server does not run")?;
        Ok((server, pid))
    }

    fn api(&self, server: &Server, command: &str, arguments: &[&str]) -> Result<Value> {
        let kubeconfig = server.kubeconfig();
        let kubeconfig = kubeconfig.to_str().context("a path that is no text")?;
        self.load.run(server, command, &[&[kubeconfig], arguments].concat())
    }

    fn start_to_ready(&mut self, parts: Parts) -> Result<()> {
        let (mut server, _) = self.running_server(parts)?;
        self.api(&server, "fill", &["configmaps", CONFIGMAPS])?;
        self.api(&server, "fill", &["pods", UNFIT_PODS])?;
        let shop = host::root().join("examples/shop/k8s");
        if shop.is_dir() {
            let mut apply = server.inside(&go::kubectl()?);
            apply.arg("--kubeconfig").arg(server.kubeconfig()).args(["apply", "--filename"]).arg(&shop);
            host::output(&mut apply)?;
        }
        let (scratch, mut starts, mut etcds) = (server.scratch("etcd")?, Vec::new(), Vec::new());
        let etcd = Etcd::start(&server, &scratch)?;
        self.load.run(&server, "puts", &[&etcd.endpoint, "--seconds", "2"])?;
        drop(etcd);
        for turn in 0..=STARTS {
            server.stop()?;
            let took = self.start(&mut server, parts)?;
            // The first one warms the page cache.
            if turn > 0 {
                starts.push(milliseconds(took));
            }
            if turn < 3 {
                etcds.push(milliseconds(Etcd::start(&server, &scratch)?.started));
            }
        }
        let detail = json!({ "starts_ms": starts, "shop": shop.is_dir() });
        self.figures.push(Figure {
            name: parts.name(
                "start to ready, 10,000 ConfigMaps, 1,000 pods",
                "start to ready, 10,000 ConfigMaps, 1,000 pods, all parts",
            ),
            value: median(starts),
            unit: "ms",
            target: Target::AtMost(300.0),
            beside: vec![("etcd alone".to_owned(), median(etcds))],
            detail,
        });
        Ok(())
    }

    fn creates(&mut self, parts: Parts) -> Result<()> {
        let (server, pid) = self.running_server(parts)?;
        let scratch = server.scratch("etcd")?;
        let etcd = Etcd::start(&server, &scratch)?;
        let seconds = if self.arguments.quick { "4" } else { "10" };
        let (mut rates, mut puts, mut syncs, mut costs, mut turns) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let folder = scratch.to_str().context("a path that is no text")?;
        for _ in 0..3 {
            let sync = self.load.run(&server, "sync", &[folder])?;
            let before = memory::time(&memory::family(pid));
            let made = self.api(&server, "creates", &["--seconds", seconds])?;
            let spent = memory::time(&memory::family(pid)) - before;
            let put = self.load.run(&server, "puts", &[&etcd.endpoint, "--seconds", seconds])?;
            rates.push(field(&made, "/rate")?);
            costs.push(spent * 1e6 / field(&made, "/created")?);
            puts.push(field(&put, "/rate")?);
            syncs.push(field(&sync, "/ms/p50")?);
            turns.push(json!({ "sync": sync, "creates": made, "cpu_us_per_create": costs.last(), "etcd": put }));
        }
        let (sync, put) = (median(syncs), median(puts));
        let least = if sync <= 0.5 { put.max(15_000.0) } else { put };
        self.figures.push(Figure {
            name: parts.name("ConfigMap creates/s, 32 connections", "ConfigMap creates/s, 32 connections, all parts"),
            value: median(rates),
            unit: "/s",
            target: Target::AtLeast(least),
            beside: vec![
                ("etcd puts/s".to_owned(), put),
                ("fdatasync ms".to_owned(), sync),
                ("server's CPU us a create".to_owned(), median(costs)),
            ],
            detail: turns.into(),
        });
        Ok(())
    }

    fn list(&mut self, parts: Parts) -> Result<()> {
        let (server, pid) = self.running_server(parts)?;
        self.api(&server, "fill", &["pods", LISTED_PODS])?;
        std::thread::sleep(Duration::from_secs(10));
        let before = memory::rss(&memory::family(pid));
        let spent = memory::time(&memory::family(pid));
        let peak = Peak::watch(memory::family(pid));
        let listed = self.api(&server, "list", &["/api/v1/pods"])?;
        let peak = peak.end()?;
        let spent = memory::time(&memory::family(pid)) - spent;
        let after = memory::rss(&memory::family(pid));
        let lists = field(&listed, "/times")? + 1.0;
        let detail = json!({
            "list": listed, "rss_mib": { "before": before, "peak": peak, "after": after },
            "cpu_ms_per_list": spent * 1e3 / lists,
        });
        self.figures.push(Figure {
            name: parts.name("LIST of 10,000 pods, JSON", "LIST of 10,000 pods, JSON, all parts"),
            value: field(&listed, "/ms/p50")?,
            unit: "ms",
            target: Target::AtMost(40.0),
            beside: vec![
                ("MB".to_owned(), field(&listed, "/bytes")? / 1e6),
                ("server's CPU ms a LIST".to_owned(), spent * 1e3 / lists),
            ],
            detail: detail.clone(),
        });
        self.figures.push(Figure {
            name: parts.name(
                "resident memory that LIST adds, at its peak",
                "resident memory that LIST adds, at its peak, all parts",
            ),
            value: peak - before,
            unit: "MiB",
            target: Target::AtMost(20.0),
            beside: vec![("before".to_owned(), before), ("after".to_owned(), after - before)],
            detail,
        });
        Ok(())
    }

    fn running(&mut self) -> Result<()> {
        let (server, _) = self.running_server(Parts::All)?;
        let archive = stand_ins::pause()?;
        server.load(std::slice::from_ref(&archive))?;
        let docker = if self.arguments.peers { Some(Docker::start(&server, &archive)?) } else { None };
        let mut engines = Vec::new();
        if let Some(docker) = &docker {
            engines = vec![Engine::Docker(docker), Engine::podman(&server, &archive)?];
        }
        let (mut own, mut others) = (Vec::new(), vec![Vec::new(); engines.len()]);
        for _ in 0..TURNS {
            let count = PODS_A_TURN.to_string();
            let turn = self.api(&server, "running", &["--image", stand_ins::PAUSE, "--count", &count])?;
            own.extend(turn["all_ms"].as_array().into_iter().flatten().filter_map(Value::as_f64));
            for (engine, samples) in engines.iter().zip(&mut others) {
                for _ in 0..PODS_A_TURN {
                    samples.push(milliseconds(engine.run(stand_ins::PAUSE)?));
                }
            }
        }
        let detail = json!({ "ms": own, "others_ms": others });
        let beside: Vec<(String, f64)> = engines
            .iter()
            .zip(others)
            .map(|(engine, samples)| (format!("{} run -d", engine.name()), median(samples)))
            .collect();
        let fifth = beside.iter().find(|(name, _)| name.starts_with("docker")).map_or(50.0, |(_, ms)| ms / 5.0);
        self.figures.push(Figure {
            name: "POST of a pod to Running",
            value: median(own),
            unit: "ms",
            target: Target::AtMost(fifth.min(50.0)),
            beside,
            detail,
        });
        Ok(())
    }

    fn together(&mut self) -> Result<()> {
        let (server, _) = self.running_server(Parts::All)?;
        server.load(&[stand_ins::pause()?])?;
        let detail = self.api(&server, "together", &["--image", stand_ins::PAUSE, "--count", TOGETHER, "--delete"])?;
        self.figures.push(Figure {
            name: "200 pods, all Running",
            value: field(&detail, "/seconds")?,
            unit: "s",
            target: Target::AtMost(10.0),
            beside: vec![("all gone again".to_owned(), field(&detail, "/gone_seconds")?)],
            detail,
        });
        Ok(())
    }

    fn shim(&mut self) -> Result<()> {
        for (name, count, most) in [("shim of one pod, alone", "1", 1.5), ("shim of one pod of 50", MANY, 0.5)] {
            let (server, _) = self.running_server(Parts::All)?;
            server.load(&[stand_ins::pause()?])?;
            self.api(&server, "together", &["--image", stand_ins::PAUSE, "--count", count])?;
            std::thread::sleep(Duration::from_secs(5));
            let shims = memory::shims(&server.data_dir());
            anyhow::ensure!(!shims.is_empty(), "no shim was found");
            self.figures.push(Figure {
                name,
                value: memory::pss(&shims) / shims.len() as f64,
                unit: "MiB PSS",
                target: Target::AtMost(most),
                beside: Vec::new(),
                detail: json!({ "shims": shims.len() }),
            });
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<()> {
        // Two servers of one program would share its pages: each has its own.
        let copy = self.output.join("madang-alone");
        std::fs::copy(self.madang, &copy).with_context(|| format!("write {}", copy.display()))?;
        let mut alone = Server::place("alone", &copy, self.output)?;
        alone.start(&Parts::First.arguments())?;
        let (server, pid) = self.running_server(Parts::All)?;
        let docker = if self.arguments.peers { Some(Docker::start(&server, &stand_ins::pause()?)?) } else { None };
        let minutes = if self.arguments.quick { 1 } else { 10 };
        std::thread::sleep(Duration::from_secs((minutes - 1) * 60));
        let families = || -> Result<_> {
            Ok([memory::family(alone.pid().context("the server does not run")?), memory::family(pid)])
        };
        let before = families()?.map(|family| memory::time(&family));
        std::thread::sleep(Duration::from_secs(60));
        let names = ["idle memory, without later parts", "idle memory, all parts"];
        let targets = [Target::AtMost(60.0), Target::AtMost(100.0)];
        for (((family, before), name), target) in families()?.into_iter().zip(before).zip(names).zip(targets) {
            let busy = (memory::time(&family) - before) / 60.0 * 100.0;
            let detail: Vec<Value> = family
                .iter()
                .map(|process| json!({ "name": process.name, "pss_mib": memory::pss(std::slice::from_ref(process)) }))
                .collect();
            let mut beside = vec![("% of a core".to_owned(), busy)];
            if let Some(docker) = &docker {
                beside.push(("dockerd and containerd".to_owned(), memory::pss(&docker.processes())));
            }
            self.figures.push(Figure {
                name,
                value: memory::pss(&family),
                unit: "MiB PSS",
                target,
                beside,
                detail: json!({ "minutes": minutes, "processes": detail }),
            });
        }
        drop(alone);
        Ok(std::fs::remove_file(&copy)?)
    }
}
