//! `cargo xtask demo`: the sample application from `git push` to a graph of the running release, without a hand on it.
//!
//! ```text
//! 1 start, push ─► 2 the pipeline ─► 3 customers, more pods, fewer pods ─► 4 a bad commit, a good one ─► 5 the console
//! ```
//!
//! Each step is told on the terminal with what it waits for and how long it took. With `--check` all of it happens in a network
//! namespace of its own and is gone at the end; without, the server runs on this machine's ports until it is interrupted.

pub mod cluster;
mod shop;
mod steps;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, bail};
use clap::Args;

use self::cluster::Cluster;
use crate::{binary, host, server::Server, ui, up};

/// What it needs beside the build.
const PACKAGES: &[host::Package] =
    &[("git", "/usr/bin/git"), ("curl", "/usr/bin/curl"), ("iproute2", "/sbin/ip"), ("util-linux", "/usr/bin/nsenter")];

#[derive(Args)]
pub struct Arguments {
    /// End by itself, with exit code 0 or the number of the step that failed
    #[arg(long)]
    check: bool,
    /// The server to show instead of a new build
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Only the first steps, up to this one
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=5))]
    until: u8,
}

/// A step: what is said of it, and what is done.
type Step = (&'static str, fn(&mut Cluster) -> Result<()>);

const STEPS: [Step; 5] = [
    ("Madang starts, and the shop is pushed to it", steps::push),
    ("the push is tested, built and deployed", steps::pipeline),
    ("customers come, and the order service follows them", steps::customers),
    ("a bad commit is taken back, a good one goes to all", steps::releases),
    ("the console shows it", steps::console),
];

/// Shows all steps. A step that fails ends the process with its number.
pub fn run(arguments: &Arguments) -> Result<()> {
    if !host::is_root() {
        bail!("running containers needs root: sudo --preserve-env=PATH,HOME cargo xtask demo");
    }
    host::install(up::BUILD)?;
    host::install(PACKAGES)?;
    let madang = match &arguments.binary {
        Some(path) => path.canonicalize().with_context(|| format!("find {}", path.display()))?,
        None => {
            ui::build()?;
            binary::release()?
        }
    };
    let output = output()?;
    let server = match arguments.check {
        true => Server::place("demo", &madang, &output)?,
        false => Server::here("demo", &madang, &output)?,
    };
    let mut cluster = Cluster::new(server)?;
    if let Err((number, error)) = show(&mut cluster, arguments.until.into(), &output) {
        eprintln!("{error:#}");
        // Ends what was started; the exit code is the step's number.
        drop(cluster);
        std::process::exit(number);
    }
    if arguments.check {
        return Ok(());
    }
    println!("\nconsole   {}", cluster.link()?);
    println!("shop      http://127.0.0.1:8080/");
    println!("kubectl   export KUBECONFIG={}", cluster.server.kubeconfig().display());
    println!("Ctrl-C ends it and removes what it made.");
    cluster.server.leave_to_the_terminal()
}

/// The same as a test: how many steps went well, and how many did not.
pub fn check(madang: &Path) -> Result<(usize, usize)> {
    host::install(PACKAGES)?;
    let output = output()?;
    let mut cluster = Cluster::new(Server::place("demo", madang, &output)?)?;
    match show(&mut cluster, STEPS.len(), &output) {
        Ok(()) => Ok((STEPS.len(), 0)),
        Err((number, error)) => {
            eprintln!("{error:#}");
            Ok((usize::try_from(number - 1)?, 1))
        }
    }
}

/// Where logs are kept.
fn output() -> Result<PathBuf> {
    let output = binary::target_dir().join("demo");
    std::fs::create_dir_all(&output).with_context(|| format!("make {}", output.display()))?;
    Ok(output)
}

/// Shows the first `count` steps, and how long each took; else the number of the one that failed, and why.
fn show(cluster: &mut Cluster, count: usize, output: &Path) -> Result<(), (i32, Error)> {
    let started = Instant::now();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (number, (what, step)) in (1..).zip(STEPS).take(count) {
        println!("\n{number}  {what}");
        let began = Instant::now();
        if let Err(error) = step(cluster) {
            cluster.explain(output);
            return Err((number, error.context(format!("step {number} failed after {}", spoken(began.elapsed())))));
        }
        times.push((what, began.elapsed()));
    }
    println!();
    for (number, (what, time)) in (1..).zip(&times) {
        println!("{number}  {what:<52} {:>8}", spoken(*time));
    }
    println!("   {:<52} {:>8}", "all of it", spoken(started.elapsed()));
    Ok(())
}

/// The first `count` steps, for who measures what they leave.
pub fn steps_of(cluster: &mut Cluster, count: usize) -> Result<()> {
    STEPS.iter().take(count).try_for_each(|(what, step)| step(cluster).context(*what))
}

/// A time as it is said: `1 min 2.5 s`.
fn spoken(time: Duration) -> String {
    match time.as_secs() / 60 {
        0 => format!("{:.1} s", time.as_secs_f64()),
        minutes => format!("{minutes} min {} s", time.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_words() {
        assert_eq!(spoken(Duration::from_millis(2540)), "2.5 s");
        assert_eq!(spoken(Duration::from_secs(125)), "2 min 5 s");
    }

    #[test]
    fn the_commits_of_the_demo_apply_one_after_the_other() {
        let dir = tempfile();
        shop::copy(&dir, "/nowhere").unwrap();
        for patch in [shop::BAD, shop::GOOD] {
            shop::patch(&dir, patch).unwrap();
        }
        let text = std::fs::read_to_string(dir.join("storefront/storefront.js")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(text.contains("recommended(await items())"), "{text}");
    }

    fn tempfile() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("demo-patches-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}
