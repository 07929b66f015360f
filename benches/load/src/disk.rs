//! What a disk takes to make an append durable.

use std::{fs, io::Write, os::unix::fs::FileExt, path::Path, time::Instant};

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

/// Pieces of both are written to [`warm`] a machine: the kernel keeps a file in folios as large as its writes, and takes each size from
/// memory that was free in that size.
const PIECES: [usize; 2] = [1 << 20, 32 << 10];

/// Has that many bytes of the machine's free memory be real, by files in `dir` that are written and removed: to a virtual machine its
/// host gives pages anew that were free for seconds (10 us each were seen), and who fills files first would pay for all.
pub fn warm(dir: &Path, bytes: usize) -> Result<()> {
    let paths = PIECES.map(|piece| dir.join(format!("warm-{}-{piece}", std::process::id())));
    let written = paths.iter().zip(PIECES).try_for_each(|(path, piece)| {
        let mut file = fs::File::create_new(path).with_context(|| format!("make {}", path.display()))?;
        let piece = vec![1; piece];
        let filled = (0..bytes.div_ceil(piece.len())).try_for_each(|_| file.write_all(&piece));
        filled.with_context(|| format!("write {}", path.display()))
    });
    paths.iter().filter(|path| path.exists()).try_for_each(fs::remove_file)?;
    written
}
