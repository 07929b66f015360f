//! What is done in the background: flushing, merging, making blocks of the head, compacting and dropping them.
//!
//! ```text
//!   memory full        ──▶ flush ──▶ merge segments
//!   head has 1½ blocks ──▶ block of the oldest range ──▶ compact blocks ──▶ drop what is not kept ──▶ forget series
//! ```
//!
//! Each step is finished before anything of what it replaces is removed, and a step that was cut short is done again
//! after the next start.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use hashbrown::HashSet;

use crate::{
    block::{Block, meta::Compaction, write::BlockWriter},
    column::Columns,
    compact::{self, Extent},
    db::{Done, Shared},
    error::{Error, Result},
    file,
    flush::{self, Candidate, Flush},
    frame,
    head::Head,
    log,
    options::{Options, millis},
    record::{self, kind},
    recover::{Dirs, Report},
    segment::Segment,
    select::{self, Collector, Cursor, Selection, Which},
};

/// After so long without a query the index of a block is forgotten.
const UNUSED: Duration = Duration::from_mins(5);
/// After an error, the next try.
const PAUSE: Duration = Duration::from_secs(10);
/// Steps of one kind in a row at most, so that none keeps the others from being done.
const STEPS: usize = 1000;
/// Files of the list of series that are tolerated.
const LISTS: usize = 8;
/// The file that says where the head begins.
const BOUNDARY: &str = "boundary";

/// Opens all blocks; damaged ones are put aside.
pub fn open_blocks(dir: &Path, report: &mut Report) -> Result<Vec<Arc<Block>>> {
    let mut blocks = Vec::new();
    for name in file::names(dir)? {
        if crate::block::ulid::Ulid::parse(&name).is_none() {
            continue;
        }
        let path = dir.join(&name);
        match Block::open(&path) {
            Ok(block) => blocks.push(Arc::new(block)),
            Err(error) => {
                report.lose(&path, format!("lost the block: {error}"));
                file::put_aside(&path);
            }
        }
    }
    // Blocks that a larger one was made of may be left where the program was ended before it removed them.
    let replaced: Vec<bool> = blocks.iter().map(|block| blocks.iter().any(|other| replaces(other, block))).collect();
    let mut kept = Vec::new();
    for (block, replaced) in blocks.into_iter().zip(replaced) {
        if replaced { block.remove()? } else { kept.push(block) }
    }
    sort(&mut kept);
    Ok(kept)
}

fn replaces(larger: &Block, smaller: &Block) -> bool {
    let (one, other) = (&larger.meta, &smaller.meta);
    one.compaction.level > other.compaction.level
        && other.compaction.sources.iter().all(|source| one.compaction.sources.contains(source))
}

fn sort(blocks: &mut [Arc<Block>]) {
    blocks.sort_by_key(|block| (block.meta.min_time, block.meta.max_time));
}

/// Where the head begins: what is before is in blocks, or was.
pub fn boundary(dirs: &Dirs, blocks: &[Arc<Block>]) -> i64 {
    let noted = fs::read_to_string(dirs.head.join(BOUNDARY)).ok().and_then(|text| text.trim().parse().ok());
    blocks.iter().filter_map(|block| block.meta.boundary).chain(noted).max().unwrap_or(i64::MIN)
}

/// The time from which on the head has enough for a block.
pub fn compact_at(head: &Head, options: &Options) -> i64 {
    let span = head.span();
    let block = options.block_millis();
    if span.is_empty() {
        return head.boundary.saturating_add(block.saturating_mul(3) / 2).max(i64::MIN + 1);
    }
    span.min.saturating_add(block.saturating_mul(3) / 2)
}

/// The thread: waits until it is woken, works, and waits again.
pub fn run(shared: &Shared) {
    let mut work = shared.work();
    loop {
        if work.closed {
            return;
        }
        if !work.wanted {
            if shared.indexed.load(Ordering::Relaxed) {
                let waited = shared.changed.wait_timeout(work, UNUSED).unwrap_or_else(PoisonError::into_inner);
                work = waited.0;
                if waited.1.timed_out() {
                    shared.indexed.store(false, Ordering::Relaxed);
                    for block in shared.blocks().iter() {
                        block.rest(UNUSED / 2);
                    }
                }
            } else {
                work = shared.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
            }
            continue;
        }
        work.wanted = false;
        drop(work);
        let done = {
            let _upkeep = shared.upkeep();
            let weight = shared.head().recent.weight();
            let full = weight >= shared.limit(shared.head().catalog.slots());
            let flushed = if full { flush(shared).map(|_| ()) } else { Ok(()) };
            flushed.and_then(|()| round(shared))
        };
        work = shared.work();
        work.rounds += 1;
        shared.changed.notify_all();
        if let Err(error) = done {
            Done::count(&shared.done.failed, 1);
            tracing::error!("{error}; trying again in {} s", PAUSE.as_secs());
            work.wanted = true;
            if !work.closed {
                work = shared.changed.wait_timeout(work, PAUSE).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// Everything but flushing, as far as it is due.
pub fn round(shared: &Shared) -> Result<()> {
    Done::count(&shared.done.triggered, 1);
    merge_segments(shared)?;
    let mut made = false;
    for _ in 0..STEPS {
        if !head_block(shared)? {
            break;
        }
        made = true;
    }
    let head_due = compact_at(&shared.head(), &shared.options);
    shared.compact_at.store(head_due, Ordering::Relaxed);
    if made {
        late_blocks(shared)?;
    }
    compact_blocks(shared)?;
    retain(shared)?;
    if made {
        forget_series(shared)?;
    }
    rewrite_list(shared)
}

/// Writes what is in memory to segments; says whether there was anything.
pub fn flush(shared: &Shared) -> Result<bool> {
    let mut held = shared.flush.lock().unwrap_or_else(PoisonError::into_inner);
    if held.is_none() {
        let mut writer = shared.writer();
        let mut head = shared.head_mut();
        if head.recent.samples() == 0 && head.deleted.is_empty() {
            return Ok(false);
        }
        let through = shared.rotate(&mut writer)?;
        let frozen = Arc::new(head.recent.freeze());
        head.frozen = Some(frozen.clone());
        let number = head.segments.iter().map(|segment| segment.name.last).max().unwrap_or(0) + 1;
        *held = Some(Flush { frozen, rest: Arc::new(head.rest()), number, through });
    }
    let Some(work) = held.as_ref() else { return Ok(false) };
    let segments = flush::write(&shared.dirs.head, work)?;
    let through = work.through;
    {
        let mut head = shared.head_mut();
        head.segments.extend(segments.into_iter().map(Arc::new));
        order(&mut head.segments);
        head.frozen = None;
        if let Some(frozen) = held.take().and_then(|flush| Arc::into_inner(flush.frozen)) {
            head.recent.recycle(frozen);
        }
    }
    drop(held);
    for number in log::numbers(&shared.dirs.log)?.into_iter().filter(|number| *number <= through) {
        file::remove(&log::path(&shared.dirs.log, number))?;
    }
    Ok(true)
}

fn order(segments: &mut [Arc<Segment>]) {
    segments.sort_by_key(|segment| segment.name);
}

fn merge_segments(shared: &Shared) -> Result<()> {
    for _ in 0..STEPS {
        let block = shared.options.block_millis();
        let segments = shared.head().segments.clone();
        let candidates: Vec<Candidate> = segments.iter().map(|segment| Candidate::of(segment, block)).collect();
        let Some(names) = flush::choose(&candidates) else { break };
        let chosen: Vec<Arc<Segment>> =
            segments.iter().filter(|segment| names.contains(&segment.name)).cloned().collect();
        let merged = Arc::new(flush::merge(&shared.dirs.head, &chosen)?);
        {
            let mut head = shared.head_mut();
            head.segments.retain(|segment| !names.contains(&segment.name));
            head.segments.push(merged);
            order(&mut head.segments);
        }
        for name in names {
            file::remove(&name.path(&shared.dirs.head))?;
        }
    }
    Ok(())
}

/// Makes a block of the oldest range of the head, if the head has one and a half; says whether it did.
fn head_block(shared: &Shared) -> Result<bool> {
    let block = shared.options.block_millis();
    let span = shared.head().span();
    if span.is_empty() || span.max.saturating_sub(span.min) <= block.saturating_mul(3) / 2 {
        return Ok(false);
    }
    let start = span.min.div_euclid(block).saturating_mul(block);
    let end = start.saturating_add(block);
    // From now on nothing new comes into the range, so that after a flush segments have all of it.
    {
        let mut writer = shared.writer();
        writer.boundary = writer.boundary.max(end);
    }
    flush(shared)?;
    let made = {
        let selection = head_selection(shared, i64::MIN, end - 1, Which::Main);
        write_block(&shared.dirs.blocks, &selection, (start, end), Some(end))?
    };
    let mut boundary = end;
    if made.is_none() {
        // An empty range: go on where there is something again.
        let rest = head_selection(shared, end, i64::MAX, Which::Main);
        boundary = first_time(&rest)?.unwrap_or(end).div_euclid(block).saturating_mul(block).max(end);
    }
    if let Some(made) = made {
        publish(shared, vec![Arc::new(made)], &[]);
        Done::count(&shared.done.compactions, 1);
    }
    file::replace(&shared.dirs.head.join(BOUNDARY), format!("{boundary}\n").as_bytes())?;
    let gone = {
        let mut head = shared.head_mut();
        head.boundary = boundary;
        let is_gone = |segment: &Segment| !segment.name.late && segment.summary.max < boundary;
        // The newest one has the rest of the head.
        let newest = head.segments.iter().filter(|s| !s.name.late).map(|s| s.name.last).max().unwrap_or(0);
        let gone: Vec<Arc<Segment>> =
            head.segments.iter().filter(|s| is_gone(s) && s.name.last != newest).cloned().collect();
        head.segments.retain(|segment| !gone.iter().any(|gone| gone.name == segment.name));
        let late = head.late_span();
        for ranges in head.deleted.values_mut() {
            ranges.retain(|range| range.1 >= boundary.min(late.min));
        }
        head.deleted.retain(|_, ranges| !ranges.is_empty());
        gone
    };
    for segment in gone {
        file::remove(segment.source.path())?;
    }
    Ok(true)
}

fn head_selection(shared: &Shared, min: i64, max: i64, which: Which) -> Selection {
    let mut collector = Collector::new(min, max);
    collector.add_head(&shared.head(), &[], which);
    collector.finish_sorted()
}

fn first_time(selection: &Selection) -> Result<Option<i64>> {
    let (mut cursor, mut columns) = (Cursor::default(), Columns::default());
    let mut first: Option<i64> = None;
    for nth in 0..selection.len() {
        selection.read(nth, &mut cursor, &mut columns)?;
        let times = columns.times.first().copied().into_iter().chain(columns.histograms.first().map(|sample| sample.0));
        first = times.chain(first).min();
    }
    Ok(first)
}

fn write_block(dir: &Path, selection: &Selection, range: (i64, i64), boundary: Option<i64>) -> Result<Option<Block>> {
    let mut writer = BlockWriter::create(dir, range.0)?;
    let (mut cursor, mut columns) = (Cursor::default(), Columns::default());
    for nth in 0..selection.len() {
        selection.read(nth, &mut cursor, &mut columns)?;
        writer.put(selection.labels(nth).iter(), &columns)?;
    }
    writer.finish(range, boundary, Compaction { level: 1, sources: Vec::new() })
}

/// Makes blocks of the late samples that are in segments, one for each range.
fn late_blocks(shared: &Shared) -> Result<()> {
    let late: Vec<Arc<Segment>> = shared.head().segments.iter().filter(|segment| segment.name.late).cloned().collect();
    if late.is_empty() {
        return Ok(());
    }
    let block = shared.options.block_millis();
    let max = late.iter().map(|segment| segment.summary.max).max().unwrap_or(i64::MIN);
    let mut from = i64::MIN;
    let mut made = Vec::new();
    // What is in memory as well is taken along; it is then there twice, which does no harm.
    for _ in 0..STEPS {
        let Some(first) = first_time(&head_selection(shared, from, max, Which::Late))? else { break };
        let start = first.div_euclid(block).saturating_mul(block);
        let end = start.saturating_add(block);
        let selection = head_selection(shared, start, end - 1, Which::Late);
        made.extend(write_block(&shared.dirs.blocks, &selection, (start, end), None)?.map(Arc::new));
        from = end;
        if from > max {
            break;
        }
    }
    if from <= max {
        // So many ranges that the rest has to wait; the segments stay until all of them are in blocks.
        for block in made {
            block.remove()?;
        }
        return Ok(());
    }
    Done::count(&shared.done.compactions, made.len());
    publish(shared, made, &[]);
    shared.head_mut().segments.retain(|segment| !late.iter().any(|gone| gone.name == segment.name));
    for segment in late {
        file::remove(segment.source.path())?;
    }
    Ok(())
}

/// Puts blocks in the place of others.
pub fn publish(shared: &Shared, more: Vec<Arc<Block>>, less: &[Arc<Block>]) {
    let mut held = shared.blocks.write().unwrap_or_else(PoisonError::into_inner);
    let mut blocks: Vec<Arc<Block>> =
        held.iter().filter(|block| less.iter().all(|l| !Arc::ptr_eq(l, block))).cloned().collect();
    blocks.extend(more);
    sort(&mut blocks);
    *held = Arc::new(blocks);
}

fn compact_blocks(shared: &Shared) -> Result<()> {
    let ranges = shared.options.ranges();
    for _ in 0..STEPS {
        let blocks = shared.blocks();
        let extents: Vec<Extent> = blocks.iter().map(|block| Extent::of(block)).collect();
        let Some(places) = compact::choose(&extents, &ranges) else { break };
        let chosen: Vec<Arc<Block>> = places.iter().map(|place| blocks[*place].clone()).collect();
        replace(shared, &chosen)?;
    }
    Ok(())
}

fn replace(shared: &Shared, chosen: &[Arc<Block>]) -> Result<()> {
    match compact::merge(&shared.dirs.blocks, chosen) {
        Ok(merged) => {
            publish(shared, merged.into_iter().map(Arc::new).collect(), chosen);
            Done::count(&shared.done.compactions, 1);
        }
        Err(error @ Error::Damaged { .. }) => {
            // One that cannot be read must not keep the others from being compacted for ever.
            tracing::error!("{error}; its block is put aside");
            let damaged: Vec<Arc<Block>> = chosen.iter().filter(|block| block.index().is_err()).cloned().collect();
            if damaged.is_empty() {
                return Err(error);
            }
            publish(shared, Vec::new(), &damaged);
            for block in damaged {
                file::put_aside(block.dir());
            }
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    for block in chosen {
        block.remove()?;
    }
    Ok(())
}

/// Writes blocks anew that something was deleted of.
pub fn clean(shared: &Shared) -> Result<()> {
    for block in shared.blocks().iter().filter(|block| block.deletions() > 0) {
        replace(shared, std::slice::from_ref(block))?;
    }
    Ok(())
}

fn retain(shared: &Shared) -> Result<()> {
    let blocks = shared.blocks();
    let extents: Vec<Extent> = blocks.iter().map(|block| Extent::of(block)).collect();
    let beside = head_bytes(shared);
    let bounds = shared.bounds();
    let bytes = bounds.bytes(|| disk_size(&shared.root));
    let gone = compact::expired(&extents, millis(bounds.retention), bytes, beside);
    let gone: Vec<Arc<Block>> = gone.into_iter().map(|place| blocks[place].clone()).collect();
    publish(shared, Vec::new(), &gone);
    for block in gone {
        tracing::info!("block {} is not kept any longer", block.meta.ulid);
        block.remove()?;
    }
    Ok(())
}

/// Bytes of the disk that a directory is on; 0 where that is not told.
fn disk_size(dir: &Path) -> u64 {
    match rustix::fs::statvfs(dir) {
        Ok(disk) => disk.f_blocks.saturating_mul(disk.f_frsize),
        Err(error) => {
            tracing::warn!("how large the disk of {} is: {error}; its share is no bound", dir.display());
            0
        }
    }
}

/// Bytes on disk that are not of blocks.
pub fn head_bytes(shared: &Shared) -> u64 {
    let segments: u64 = shared.head().segments.iter().map(|segment| segment.size()).sum();
    let files = |dir: &Path| -> u64 {
        let names = file::names(dir).unwrap_or_default();
        names.iter().filter_map(|name| fs::metadata(dir.join(name)).ok()).map(|metadata| metadata.len()).sum()
    };
    segments + files(&shared.dirs.log) + files(&shared.dirs.series)
}

/// Forgets the series of the head that have no samples there any more.
fn forget_series(shared: &Shared) -> Result<()> {
    let mut writer = shared.writer();
    let mut head = shared.head_mut();
    let mut held: HashSet<u32> = HashSet::new();
    for segment in &head.segments {
        held.extend(segment.slots());
    }
    let boundary = head.boundary;
    let gone: Vec<u32> = head
        .catalog
        .live()
        .filter(|slot| {
            writer.states.get(*slot as usize).is_some_and(|state| state.last != i64::MIN && state.last < boundary)
                && !held.contains(slot)
                && !head.recent.has(*slot)
                && !select::in_segments(&[], head.frozen.as_deref(), *slot)
        })
        .collect();
    for slot in &gone {
        head.forget(*slot);
        let generation = head.catalog.generation(*slot);
        writer.states[*slot as usize] = crate::head::State::new(generation);
    }
    if gone.is_empty() {
        return Ok(());
    }
    Done::count(&shared.done.removed, gone.len());
    head.forget_descriptions();
    if head.catalog.is_loose() {
        head.catalog = head.catalog.packed()?;
    }
    head.catalog.settle(|slot| held.contains(&slot));
    Ok(())
}

/// Writes the list of series anew where it has many files, or speaks mostly of series that are gone.
fn rewrite_list(shared: &Shared) -> Result<()> {
    let numbers = log::numbers(&shared.dirs.series)?;
    let bytes: u64 = numbers
        .iter()
        .filter_map(|number| fs::metadata(log::path(&shared.dirs.series, *number)).ok())
        .map(|metadata| metadata.len())
        .sum();
    let series = shared.head().catalog.len() as u64;
    if numbers.len() < LISTS && bytes < (1 << 20) + 400 * series {
        return Ok(());
    }
    // New series go to a file behind the one that is written here.
    let place = {
        let mut writer = shared.writer();
        let former = shared.rotate_list(&mut writer)?;
        let place = former + 1;
        shared.rotate_list(&mut writer)?;
        file::remove(&log::path(&shared.dirs.series, place))?;
        place
    };
    let mut list = Vec::new();
    let mut next = 0;
    loop {
        let head = shared.head();
        let slots = head.catalog.slots() as u32;
        if next >= slots {
            break;
        }
        let end = slots.min(next.saturating_add(1 << 16));
        frame::put(&mut list, kind::SERIES, |out| record::write_series(&head.catalog, next..end, out));
        next = end;
    }
    file::replace(&log::path(&shared.dirs.series, place), &list)?;
    for number in numbers.into_iter().filter(|number| *number < place) {
        file::remove(&log::path(&shared.dirs.series, number))?;
    }
    Ok(())
}

/// See [`crate::db::Db::snapshot`].
pub fn snapshot(shared: &Shared, head: bool) -> Result<PathBuf> {
    let root = shared.dirs.snapshots.join(crate::block::ulid::Ulid::new().to_string());
    let blocks = Dirs::of(&root).blocks;
    file::make_dir(&blocks)?;
    for block in shared.blocks().iter() {
        let to = blocks.join(&block.meta.ulid);
        file::make_dir(&to)?;
        for name in file::names(block.dir())? {
            let linked = fs::hard_link(block.dir().join(&name), to.join(&name));
            linked.map_err(Error::io(|| format!("link {} of block {}", name, block.meta.ulid)))?;
        }
        file::sync_dir(&to)?;
    }
    if head {
        let span = {
            let head = shared.head();
            let mut span = head.span();
            span.join(head.late_span());
            span
        };
        if !span.is_empty() {
            let selection = head_selection(shared, i64::MIN, i64::MAX, Which::All);
            let end = span.max.saturating_add(1);
            write_block(&blocks, &selection, (span.min, end), Some(end))?;
        }
    }
    file::sync_dir(&blocks)?;
    Ok(root)
}
