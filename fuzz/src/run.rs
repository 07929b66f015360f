//! Runs of a target over its corpus.

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    metrics,
    mutate::{Random, mutate, smaller},
    targets::Target,
};

/// No input of this size takes longer, in a build without optimization on a machine that is busy.
pub const SLOW: Duration = Duration::from_secs(20);

/// An input that breaks its reader.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The input, as small as it was found to do.
    pub input: Vec<u8>,
    /// What the reader did.
    pub how: String,
}

/// The inputs that are known to be worth trying, by name.
pub fn corpus(target: &Target) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = folder().join("corpus").join(target.name);
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut inputs = Vec::new();
    for entry in entries {
        let entry = entry?;
        inputs.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    inputs
        .extend(metrics::made(target.name).into_iter().enumerate().map(|(nth, input)| (format!("made {nth}"), input)));
    inputs.sort();
    if inputs.is_empty() {
        bail!("{} is empty", folder.display());
    }
    Ok(inputs)
}

/// The folder of this crate.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Gives one input to a reader: what it says, or how it broke.
pub fn try_one(target: &Target, input: &[u8]) -> Result<String, String> {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.read)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "panic".to_owned())
    });
    if started.elapsed() > SLOW {
        return Err(format!("it took {:?}", started.elapsed()));
    }
    outcome
}

/// What a run found out.
#[derive(Debug, Default)]
pub struct Found {
    /// Inputs that were tried.
    pub tried: u64,
    /// Outcomes that were seen.
    pub outcomes: BTreeSet<String>,
    /// Inputs that made new ones, beside the corpus.
    pub new: Vec<Vec<u8>>,
    /// The first that broke the reader.
    pub broken: Option<Broken>,
}

/// Tries the corpus, and then as many mutations of it as `more` allows.
pub fn run(target: &Target, seed: u64, more: impl Fn(u64) -> bool) -> Result<Found> {
    let mut live: Vec<Vec<u8>> = corpus(target)?.into_iter().map(|(_, input)| input).collect();
    let (mut found, mut random) = (Found::default(), Random::new(seed));
    for input in live.clone() {
        found.tried += 1;
        match try_one(target, &input) {
            Ok(outcome) => drop(found.outcomes.insert(outcome)),
            Err(how) => {
                found.broken = Some(small(target, &input, how));
                return Ok(found);
            }
        }
    }
    while more(found.tried) {
        let input = &live[random.below(live.len())];
        let other = &live[random.below(live.len())];
        let made = mutate(input, other, target.words, &mut random);
        found.tried += 1;
        match try_one(target, &made) {
            Ok(outcome) => {
                if found.outcomes.insert(outcome) {
                    found.new.push(made.clone());
                    live.push(made);
                }
            }
            Err(how) => {
                found.broken = Some(small(target, &made, how));
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn small(target: &Target, input: &[u8], how: String) -> Broken {
    // What hangs is not made smaller: each try would hang as well.
    if how.starts_with("it took") {
        return Broken { input: input.to_vec(), how };
    }
    Broken { input: smaller(input, &|input| try_one(target, input).is_err()), how }
}

/// A run in a thread of its own, which an input that never ends does not hold up.
pub fn watched(
    target: Target,
    seed: u64,
    limit: Duration,
    more: impl Fn(u64) -> bool + Send + 'static,
) -> Result<Found> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name(target.name.to_owned()).stack_size(2 << 20).spawn(move || {
        let _ = sender.send(run(&target, seed, more));
    })?;
    match receiver.recv_timeout(limit) {
        Ok(found) => found,
        Err(_) => bail!("{}: no end with seed {seed} after {limit:?}", target.name),
    }
}
