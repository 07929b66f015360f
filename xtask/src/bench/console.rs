//! `cargo xtask bench console`, and rows of `bench walk`: what a browser has of the console, how much it loads and how long a large
//! dashboard takes. `ui/e2e/bench.mjs` measures in Debian's Chromium; this runs it where the server is.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    median,
    report::{self, Figure, Target},
};
use crate::{host, server::Server, ui};

const BROWSER: &[host::Package] = &[("chromium", "/usr/bin/chromium")];
/// Where Prometheus' API listens in a place of its own.
const PROMETHEUS: &str = "http://127.0.0.1:9090";

/// Measures a server of its own that does nothing else.
pub fn run(madang: &Path, output: &Path) -> Result<()> {
    let mut server = Server::place("bench", madang, output)?;
    server.start(&[])?;
    report::publish(&output.join("console.json"), &figures(&server)?, &[])
}

/// The figures of a running server.
pub fn figures(server: &Server) -> Result<Vec<Figure>> {
    host::install(BROWSER)?;
    let said = ask(server)?;
    let bytes = said["first_load"]["bytes"].as_f64().context("no bytes of the first load")?;
    let times = said["dashboard"]["milliseconds"].as_array().context("no times of the dashboard")?;
    let times: Vec<f64> = times.iter().filter_map(Value::as_f64).collect();
    if times.is_empty() {
        bail!("the dashboard was never drawn: {said}");
    }
    Ok(vec![
        Figure {
            name: "console: first load of the overview, gzip",
            value: bytes / 1024.0,
            unit: "KB",
            target: Target::AtMost(120.0),
            beside: Vec::new(),
            detail: said["first_load"].clone(),
        },
        Figure {
            name: "dashboard of 30 panels x 20 series x 1,000 points, to last panel drawn",
            value: median(times),
            unit: "ms",
            target: Target::AtMost(800.0),
            beside: Vec::new(),
            detail: said["dashboard"].clone(),
        },
    ])
}

/// Runs the script and reads what it prints.
fn ask(server: &Server) -> Result<Value> {
    let pages = ui::ready()?;
    let mut link = server.madang();
    link.arg("console").arg("--data-dir").arg(server.data_dir()).arg("--run-dir").arg(server.run_dir());
    let link = host::output(&mut link)?;
    let mut node = server.inside(Path::new("node"));
    if let Some(path) = ui::path()? {
        node.env("PATH", path);
    }
    node.current_dir(pages).args(["e2e/bench.mjs", link.trim(), PROMETHEUS]);
    let text = host::output(&mut node)?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("read what ui/e2e/bench.mjs prints: {text:?}"))
}
