//! What a query reads: series with the places of their samples, taken at one moment.
//!
//! ```text
//!   select ──▶ Selection ── series 0 ── labels, parts: block chunk │ segment chunk │ samples in memory
//!                        └─ series 1 ── ...
//!   Selection::read(n, Cursor, Columns)       decodes one series, cut to the range
//! ```
//!
//! Samples in memory are copied when the selection is made, so that all series are seen as they were between the same
//! two commits; what is on disk does not change. A selection can be read from several threads, each with its own
//! [`Cursor`].

use std::sync::Arc;

use hashbrown::HashMap;

use crate::{
    block::Block,
    chunk::Decoder,
    column::Columns,
    deletion,
    error::{Error, Result},
    file::{Source, Window},
    head::Head,
    labels::Labels,
    matcher::{self, Matcher, seek},
    recent::Frozen,
    segment::Segment,
};

/// Where a chunk is.
#[derive(Clone, Debug)]
enum Store {
    Segment(Arc<Segment>),
    Block(Arc<Block>),
}

impl Store {
    fn source(&self) -> &Source {
        match self {
            Self::Segment(segment) => &segment.source,
            Self::Block(block) => block.source(),
        }
    }

    fn base(&self) -> i64 {
        match self {
            Self::Segment(segment) => segment.summary.min,
            Self::Block(block) => block.base(),
        }
    }
}

/// The samples of a series in one place.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A chunk of a store; samples before `from` are elsewhere.
    Chunk { store: u32, length: u32, offset: u64, from: i64 },
    /// Samples that were in memory.
    Floats { start: u32, length: u32 },
    /// Histograms that were in memory.
    Histograms { start: u32, length: u32 },
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    parts: (u32, u32),
    /// What was deleted of it, in the head or in a block, for the parts from a place on: place, end, ranges.
    deleted: Vec<(u32, u32, Arc<[(i64, i64)]>)>,
}

/// Series that match, with what it takes to read them.
#[derive(Debug)]
pub struct Selection {
    min: i64,
    max: i64,
    series: Vec<Series>,
    parts: Vec<Part>,
    stores: Vec<Store>,
    memory: Columns,
}

/// What reading needs besides the selection; use one again for the next series.
#[derive(Debug, Default)]
pub struct Cursor {
    decoder: Decoder,
    windows: Vec<Window>,
    part: Columns,
}

/// Which samples of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// All.
    All,
    /// All but late ones.
    Main,
    /// Late ones.
    Late,
}

/// Goes over the chunks of a segment by ascending slots.
struct Walk<'a> {
    segment: &'a Segment,
    store: u32,
    /// Samples before it are elsewhere.
    from: i64,
    /// Slots of the chunks that are left.
    left: &'a [u32],
    passed: usize,
}

impl Walk<'_> {
    /// Gives the chunks of a slot, which is behind the ones before.
    fn on(&mut self, slot: u32, mut give: impl FnMut(Part)) {
        let skip = seek(self.left, slot);
        self.left = &self.left[skip..];
        self.passed += skip;
        while self.left.first() == Some(&slot) {
            let place = self.segment.place(self.passed);
            give(Part::Chunk { store: self.store, length: place.length, offset: place.offset, from: self.from });
            self.left = &self.left[1..];
            self.passed += 1;
        }
    }
}

/// Series that are being collected, before those of several places come together.
pub(crate) struct Collector {
    selection: Selection,
    /// Parts of the series, as they came: series, part.
    loose: Vec<(u32, Part)>,
    by_labels: HashMap<Labels, u32, foldhash::fast::RandomState>,
    /// Whether series of the places before may come again.
    several: bool,
    /// Whether only the series are wanted and not their samples.
    labels_only: bool,
}

impl Collector {
    /// Of samples from `min` to `max`.
    pub fn new(min: i64, max: i64) -> Self {
        let selection = Selection {
            min,
            max,
            series: Vec::new(),
            parts: Vec::new(),
            stores: Vec::new(),
            memory: Columns::default(),
        };
        Self { selection, loose: Vec::new(), by_labels: HashMap::default(), several: false, labels_only: false }
    }

    /// The first and the last time that is wanted.
    pub fn range(&self) -> (i64, i64) {
        (self.selection.min, self.selection.max)
    }

    /// Collects the series alone; what is collected then has no samples.
    pub fn labels_only(mut self) -> Self {
        self.labels_only = true;
        self
    }

    /// The labels of the series, in any order.
    pub fn into_labels(self) -> Vec<Labels> {
        self.selection.series.into_iter().map(|series| series.labels).collect()
    }

    fn series(&mut self, labels: Labels) -> u32 {
        let next = self.selection.series.len() as u32;
        if self.several {
            let number = *self.by_labels.entry(labels.clone()).or_insert(next);
            if number != next {
                return number;
            }
        }
        self.selection.series.push(Series { labels, parts: (0, 0), deleted: Vec::new() });
        next
    }

    /// Series that come from now on may be among those that are there.
    pub fn distinguish(&mut self) {
        if !std::mem::replace(&mut self.several, true) {
            let labels = self.selection.series.iter().map(|series| series.labels.clone());
            self.by_labels.extend(labels.zip(0..));
        }
    }

    fn store(&mut self, store: Store) -> u32 {
        self.selection.stores.push(store);
        self.selection.stores.len() as u32 - 1
    }

    /// Adds the matching series of a block.
    pub fn add_block(&mut self, block: &Arc<Block>, matchers: &[Matcher]) -> Result<()> {
        let index = block.index()?;
        let store = self.store(Store::Block(block.clone()));
        let (min, max) = (self.selection.min, self.selection.max);
        for number in matcher::find(&*index, matchers) {
            let chunks = index.chunks(number)?;
            let mut chunks = chunks.into_iter().filter(|chunk| chunk.min <= max && chunk.max >= min).peekable();
            if chunks.peek().is_none() {
                continue;
            }
            let series = self.series(index.labels(number)?);
            let from = self.loose.len() as u32;
            for chunk in chunks {
                let part = Part::Chunk { store, length: chunk.length, offset: chunk.offset, from: i64::MIN };
                self.loose.push((series, part));
            }
            if let Some(ranges) = block.deleted(number) {
                let to = self.loose.len() as u32;
                self.selection.series[series as usize].deleted.push((from, to, ranges));
            }
        }
        Ok(())
    }

    /// Adds the matching series of the head. It comes before the blocks: what moves from the head to a block is then seen
    /// once at least.
    pub fn add_head(&mut self, head: &Head, matchers: &[Matcher], which: Which) {
        let (min, max) = (self.selection.min, self.selection.max);
        let late = head.late_span();
        let span = head.span();
        let main = which != Which::Late && max >= span.min && min <= span.max && !span.is_empty();
        let tardy = which != Which::Main && max >= late.min && min <= late.max && !late.is_empty();
        if !main && !tardy {
            return;
        }
        let slots = matcher::find(&head.catalog, matchers);
        if slots.is_empty() {
            return;
        }
        let parts = self.head_parts(head, &slots, main, tardy);
        let mut parts = parts.into_iter().peekable();
        let mut scratch = String::new();
        for (nth, slot) in slots.iter().enumerate() {
            if parts.peek().is_none_or(|part| part.0 != nth as u32) {
                continue;
            }
            let series = self.series(head.catalog.labels_in(*slot, &mut scratch));
            let from = self.loose.len() as u32;
            while let Some((_, part)) = parts.next_if(|part| part.0 == nth as u32) {
                self.loose.push((series, part));
            }
            if let Some(ranges) = head.deleted.get(slot) {
                let to = self.loose.len() as u32;
                self.selection.series[series as usize].deleted.push((from, to, ranges.as_slice().into()));
            }
        }
    }

    /// The parts of each slot, in order of the slots and then of time as far as possible.
    fn head_parts(&mut self, head: &Head, slots: &[u32], main: bool, tardy: bool) -> Vec<(u32, Part)> {
        let (min, max) = (self.selection.min, self.selection.max);
        let mut parts: Vec<(u32, Part)> = Vec::new();
        let from = min.max(head.boundary);
        let mut walks: Vec<Walk<'_>> = Vec::new();
        for segment in &head.segments {
            let (wanted, from) = if segment.name.late { (tardy, i64::MIN) } else { (main, head.boundary) };
            let summary = segment.summary;
            if wanted && summary.samples > 0 && summary.min <= max && summary.max >= min.max(from) {
                let store = self.store(Store::Segment(segment.clone()));
                walks.push(Walk { segment, store, from, left: segment.slots(), passed: 0 });
            }
        }
        let frozen = head.frozen.as_deref();
        for (nth, slot) in slots.iter().enumerate() {
            for walk in &mut walks {
                walk.on(*slot, |part| parts.push((nth as u32, part)));
            }
            if main {
                self.copy(&mut parts, nth, |memory| {
                    if let Some(frozen) = frozen {
                        frozen.read(*slot, from, max, memory);
                    }
                    head.recent.read(*slot, from, max, memory);
                });
            }
            if tardy {
                self.copy(&mut parts, nth, |memory| {
                    if let Some(frozen) = frozen {
                        frozen.read_late(*slot, min, max, memory);
                    }
                    head.recent.read_late(*slot, min, max, memory);
                });
            }
        }
        parts
    }

    fn copy(&mut self, parts: &mut Vec<(u32, Part)>, nth: usize, read: impl FnOnce(&mut Columns)) {
        let memory = &mut self.selection.memory;
        let (floats, histograms) = (memory.times.len(), memory.histograms.len());
        read(memory);
        let place = |start: usize, end: usize| (start as u32, (end - start) as u32);
        if memory.times.len() > floats {
            let (start, length) = place(floats, memory.times.len());
            parts.push((nth as u32, Part::Floats { start, length }));
        }
        if memory.histograms.len() > histograms {
            let (start, length) = place(histograms, memory.histograms.len());
            parts.push((nth as u32, Part::Histograms { start, length }));
        }
        if self.labels_only {
            // That there are some is known now.
            memory.times.truncate(floats);
            memory.values.truncate(floats);
            memory.histograms.truncate(histograms);
        }
    }

    /// The selection, its series in order of their labels.
    pub fn finish_sorted(self) -> Selection {
        let mut selection = self.finish();
        selection.series.sort_by(|one, other| one.labels.cmp(&other.labels));
        selection
    }

    /// The selection, its series in any order.
    pub fn finish(mut self) -> Selection {
        // Places of deletions refer to parts as they came; what is deleted says so part by part.
        let mut order: Vec<u32> = (0..self.loose.len() as u32).collect();
        // Blocks were added behind the head, and are before it in time.
        let in_block = |part: &Part| match part {
            Part::Chunk { store, .. } => matches!(self.selection.stores[*store as usize], Store::Block(_)),
            Part::Floats { .. } | Part::Histograms { .. } => false,
        };
        order.sort_by_key(|at| {
            let (series, part) = &self.loose[*at as usize];
            (*series, !in_block(part))
        });
        let mut places = vec![0u32; self.loose.len()];
        self.selection.parts.reserve(order.len());
        for at in order {
            let (series, part) = self.loose[at as usize];
            let place = self.selection.parts.len() as u32;
            places[at as usize] = place;
            let range = &mut self.selection.series[series as usize].parts;
            if range.1 == 0 {
                range.0 = place;
            }
            range.1 = place + 1;
            self.selection.parts.push(part);
        }
        for series in self.selection.series.iter_mut().filter(|series| !series.deleted.is_empty()) {
            for (from, to, _) in &mut series.deleted {
                (*from, *to) = (places[*from as usize], places[*to as usize - 1] + 1);
            }
        }
        self.selection
    }
}

impl Selection {
    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The labels of a series. Panics past the last one.
    pub fn labels(&self, nth: usize) -> &Labels {
        &self.series[nth].labels
    }

    /// Reads all samples of a series that are in the range, in order, in place of what was in `into`. A damaged chunk is
    /// left out and logged. Panics past the last series.
    pub fn read(&self, nth: usize, cursor: &mut Cursor, into: &mut Columns) -> Result<()> {
        into.clear();
        let series = &self.series[nth];
        if cursor.windows.len() < self.stores.len() {
            cursor.windows.resize_with(self.stores.len(), Window::default);
        }
        for place in series.parts.0..series.parts.1 {
            let deleted = series.deleted.iter().filter(|deleted| (deleted.0..deleted.1).contains(&place));
            if series.deleted.is_empty() {
                self.read_part(place, cursor, into)?;
                continue;
            }
            let mut part = std::mem::take(&mut cursor.part);
            part.clear();
            self.read_part(place, cursor, &mut part)?;
            for (_, _, ranges) in deleted {
                part.remove(|time| deletion::covers(ranges, time));
            }
            into.times.append(&mut part.times);
            into.values.append(&mut part.values);
            into.histograms.append(&mut part.histograms);
            cursor.part = part;
        }
        into.arrange();
        Ok(())
    }

    fn read_part(&self, place: u32, cursor: &mut Cursor, into: &mut Columns) -> Result<()> {
        match self.parts[place as usize] {
            Part::Chunk { store: number, length, offset, from } => {
                let store = &self.stores[number as usize];
                let bytes = cursor.windows[number as usize].get(store.source(), offset, length as usize)?;
                if let Err(torn) = cursor.decoder.read(bytes, store.base(), self.min.max(from), self.max, into) {
                    let damaged = Error::damaged(store.source().path())(torn);
                    tracing::warn!("{damaged}; a chunk at byte {offset} is left out");
                }
            }
            Part::Floats { start, length } => {
                let range = start as usize..(start + length) as usize;
                into.times.extend_from_slice(&self.memory.times[range.clone()]);
                into.values.extend_from_slice(&self.memory.values[range]);
            }
            Part::Histograms { start, length } => {
                let range = start as usize..(start + length) as usize;
                into.histograms.extend_from_slice(&self.memory.histograms[range]);
            }
        }
        Ok(())
    }

    /// About how many bytes of memory the selection itself takes.
    pub fn size(&self) -> usize {
        self.series.len() * size_of::<Series>() + self.parts.len() * size_of::<Part>() + self.memory.times.len() * 16
    }
}

/// Whether something of a series is still in memory or on disk below the head.
pub(crate) fn in_segments(segments: &[Arc<Segment>], frozen: Option<&Frozen>, slot: u32) -> bool {
    frozen.is_some_and(|frozen| frozen.has(slot))
        || segments.iter().any(|segment| segment.slots().binary_search(&slot).is_ok())
}
