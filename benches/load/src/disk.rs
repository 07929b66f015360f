//! What a disk takes to make an append durable.

use std::{fs, os::unix::fs::FileExt, path::Path, time::Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::samples::Samples;

/// Bytes of an append.
const APPEND: usize = 4096;

/// Overwrites a file that was written before, block after block, with `fdatasync` after each: what a log in preallocated
/// segments does.
pub fn sync(dir: &Path, times: usize) -> Result<Value> {
    let path = dir.join(format!("sync-{}", std::process::id()));
    let file = fs::File::create_new(&path).with_context(|| format!("make {}", path.display()))?;
    let measured = (|| {
        file.write_all_at(&vec![0; APPEND * times], 0)?;
        file.sync_all()?;
        let (block, mut samples) = (vec![1; APPEND], Samples::default());
        for index in 0..times {
            let started = Instant::now();
            file.write_all_at(&block, (index * APPEND) as u64)?;
            rustix::fs::fdatasync(&file)?;
            samples.add(started.elapsed());
        }
        Ok::<_, anyhow::Error>(json!({ "times": times, "bytes": APPEND, "ms": samples.places() }))
    })();
    fs::remove_file(&path)?;
    measured.with_context(|| format!("sync {}", path.display()))
}
