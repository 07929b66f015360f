//! Longer runs: `cargo xtask fuzz`.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use fuzz::{run, targets::TARGETS};

/// Feed readers of what strangers send with broken input
#[derive(Parser)]
struct Arguments {
    /// Only these readers
    targets: Vec<String>,
    /// For how long, each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where to begin; the time where it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Write inputs that made new outcomes into the corpus
    #[arg(long)]
    keep: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(unknown) = arguments.targets.iter().find(|name| !TARGETS.iter().any(|target| target.name == **name)) {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        bail!("{unknown}: no such reader; there are {}", names.join(", "));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seed = arguments.seed.unwrap_or(now.as_secs());
    // A panic is what is looked for; its place stands in what is printed at the end.
    let mut broken = 0;
    for target in TARGETS {
        if !arguments.targets.is_empty() && !arguments.targets.iter().any(|name| name == target.name) {
            continue;
        }
        let end = Instant::now() + Duration::from_secs(arguments.seconds);
        let limit = Duration::from_secs(arguments.seconds) + run::SLOW * 3;
        let found = run::watched(*target, seed, limit, move |_| Instant::now() < end)?;
        println!("{:<12} seed {seed}: {} inputs, {} outcomes", target.name, found.tried, found.outcomes.len());
        if arguments.keep {
            for (number, input) in found.new.iter().enumerate() {
                let path = run::folder().join("corpus").join(target.name).join(format!("found-{seed}-{number}"));
                fs::write(&path, input).with_context(|| format!("write {}", path.display()))?;
            }
        }
        if let Some(found) = found.broken {
            let folder = run::folder().join("artifacts");
            fs::create_dir_all(&folder)?;
            let path = folder.join(format!("{}-{seed}", target.name));
            fs::write(&path, &found.input)?;
            println!("{}: {}\n  the input is in {}", target.name, found.how, path.display());
            broken += 1;
        }
    }
    if broken > 0 {
        bail!("{broken} readers broke");
    }
    Ok(())
}
