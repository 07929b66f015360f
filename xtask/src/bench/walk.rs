//! `cargo xtask bench walk`: what the whole walk promises.
//!
//! ```text
//! gateway     64 clients ─► madang | nginx | haproxy, in turns ─► one backend     CPU a request, p99
//! run, runs   PipelineRuns of one step                                            median, runs a minute
//! push        git push ─► pipeline ─► registry ─► rollout ─► gateway              until the new version answers
//! console     what a browser loads first, and how long a large dashboard takes it
//! idle        the demo, and then nothing for ten minutes                          CPU, memory, active series
//! ```

mod gateway;
mod pipelines;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    Arguments, Load, console, memory,
    report::{self, Figure, Target},
};
use crate::{
    demo::{self, cluster::Cluster},
    server::Server,
};

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
    bench.row("gateway", gateway::measure);
    bench.row("runs", pipelines::runs);
    bench.row("push", pipelines::push);
    bench.row("console", Bench::console);
    bench.row("idle", Bench::idle);
    report::publish(&output.join("walk.json"), &bench.figures, &bench.failed)
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

    /// A running server with everything on, and how one asks it.
    fn cluster(&self) -> Result<Cluster> {
        let server = Server::place("bench", self.madang, self.output)?;
        let mut cluster = Cluster::new(server)?;
        cluster.server.start(&[])?;
        cluster.sign_in()?;
        Ok(cluster)
    }

    /// What a browser loads first, and how long a large dashboard takes it.
    fn console(&mut self) -> Result<()> {
        let cluster = self.cluster()?;
        self.figures.extend(console::figures(&cluster.server)?);
        Ok(())
    }

    /// The demo, its customers gone, and ten minutes later.
    fn idle(&mut self) -> Result<()> {
        let server = Server::place("bench", self.madang, self.output)?;
        let mut cluster = Cluster::new(server)?;
        let shown = demo::steps_of(&mut cluster, if self.arguments.quick { 1 } else { 4 });
        if let Err(error) = &shown {
            eprintln!("the demo came to an end: {error:#}");
        }
        let pid = cluster.server.pid().context("the server does not run")?;
        if cluster.get(&["deployment", "load"])?.is_object() {
            cluster.kubectl(&["scale", "deployment/load", "--replicas=0"])?;
        }
        let minutes = if self.arguments.quick { 1 } else { 10 };
        std::thread::sleep(Duration::from_secs((minutes - 1) * 60));
        let before = memory::time(&memory::family(pid));
        std::thread::sleep(Duration::from_secs(60));
        let family = memory::family(pid);
        let busy = (memory::time(&family) - before) / 60.0 * 100.0;
        let series = cluster.query("prometheus_tsdb_head_series")?;
        let series = series.first().and_then(|one| one["value"][1].as_str()?.parse::<f64>().ok());
        let each: Vec<Value> = family
            .iter()
            .map(|process| {
                let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                json!({ "process": line.trim(), "pss_mib": memory::pss(std::slice::from_ref(process)) })
            })
            .collect();
        let detail = json!({
            "minutes": minutes, "processes": each, "active_series": series,
            "demo": shown.as_ref().map_or_else(|error| format!("{error:#}"), |()| "shown".to_owned()),
        });
        self.figures.push(Figure {
            name: "idle CPU with everything on",
            value: busy,
            unit: "% of a core",
            target: Target::AtMost(0.5),
            beside: Vec::new(),
            detail: detail.clone(),
        });
        self.figures.push(Figure {
            name: "memory with everything on, after the demo",
            value: memory::pss(&family),
            unit: "MiB PSS",
            target: Target::AtMost(100.0),
            beside: series.map(|series| ("active series".to_owned(), series)).into_iter().collect(),
            detail,
        });
        if let Err(error) = shown {
            bail!("measured without what the demo leaves, since it came to an end: {error:#}");
        }
        Ok(())
    }
}
