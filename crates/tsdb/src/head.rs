//! The head: what was appended lately, in memory and in segments, until blocks have it.
//!
//! ```text
//!   commit ──▶ Writer (one at a time)          ──▶ log
//!                admits, encodes                   │ then
//!                                               ──▶ Head (many readers)
//!                                                     catalog │ recent │ frozen │ segments │ exemplars …
//! ```
//!
//! The writer decides by itself which samples are taken: it knows the last of each series. So readers wait only while
//! samples that are already logged are put into memory.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::{
    batch::{Batch, Of, Outcome, Reject, Zero},
    bytes::{Reader, Torn},
    catalog::{Catalog, SeriesRef},
    column::{HistogramValue, Value},
    error::{Error, Result},
    exemplars::{Exemplars, Refused},
    frame,
    histogram::{FloatHistogram, Histogram},
    log::Growing,
    recent::{Frozen, Recent, Span},
    record::{self, FloatWriter, Metadata, Track, kind},
    sample::Exemplar,
    segment::Segment,
};

/// Samples of one commit at most.
const SAMPLES: usize = 4 << 20;

/// What readers see.
#[derive(Debug)]
pub struct Head {
    /// Its series.
    pub catalog: Catalog,
    /// Samples in memory.
    pub recent: Recent,
    /// Samples that are being written to a segment.
    pub frozen: Option<Arc<Frozen>>,
    /// Samples on disk, in order of their flushes; late ones behind the others.
    pub segments: Vec<Arc<Segment>>,
    /// The latest exemplars.
    pub exemplars: Exemplars,
    /// What series are.
    pub metadata: HashMap<u32, Arc<Metadata>, foldhash::fast::RandomState>,
    /// What any series is, each once.
    described: HashSet<Arc<Metadata>, foldhash::fast::RandomState>,
    /// What was deleted, by slot: ranges with both ends included.
    pub deleted: HashMap<u32, Vec<(i64, i64)>, foldhash::fast::RandomState>,
    /// Blocks have everything before this time, late samples aside.
    pub boundary: i64,
}

impl Head {
    /// A head with nothing in it.
    pub fn new(exemplars: usize) -> Self {
        Self {
            catalog: Catalog::default(),
            recent: Recent::default(),
            frozen: None,
            segments: Vec::new(),
            exemplars: Exemplars::new(exemplars),
            metadata: HashMap::default(),
            described: HashSet::default(),
            deleted: HashMap::default(),
            boundary: i64::MIN,
        }
    }

    /// Times of the samples that only the head has.
    pub fn span(&self) -> Span {
        let mut span = self.recent.span();
        if let Some(frozen) = &self.frozen {
            span.join(frozen.span);
        }
        for segment in self.segments.iter().filter(|segment| !segment.name.late && segment.summary.samples > 0) {
            span.join(Span { min: segment.summary.min, max: segment.summary.max });
        }
        if !span.is_empty() {
            span.min = span.min.max(self.boundary);
        }
        span
    }

    /// Times of the late samples.
    pub fn late_span(&self) -> Span {
        let mut span = self.recent.late_span();
        if let Some(frozen) = &self.frozen {
            span.join(frozen.late_span);
        }
        for segment in self.segments.iter().filter(|segment| segment.name.late && segment.summary.samples > 0) {
            span.join(Span { min: segment.summary.min, max: segment.summary.max });
        }
        span
    }

    /// Says what a series is. Series of one metric share what is said.
    pub fn describe(&mut self, slot: u32, metadata: &Metadata) {
        if self.metadata.get(&slot).is_some_and(|have| **have == *metadata) {
            return;
        }
        let shared = match self.described.get(metadata) {
            Some(shared) => shared.clone(),
            None => {
                let shared = Arc::new(metadata.clone());
                self.described.insert(shared.clone());
                shared
            }
        };
        self.metadata.insert(slot, shared);
    }

    /// Forgets a series that has no samples any more.
    pub fn forget(&mut self, slot: u32) {
        self.catalog.remove(slot);
        self.metadata.remove(&slot);
        self.deleted.remove(&slot);
        self.exemplars.remove(slot);
    }

    /// Forgets what no series is described as.
    pub fn forget_descriptions(&mut self) {
        self.described.retain(|shared| Arc::strong_count(shared) > 1);
    }

    /// Exemplars, metadata and deletions, as records behind each other.
    pub fn rest(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        let exemplars = self.exemplars.all();
        for piece in exemplars.chunks(1 << 14) {
            frame::put(&mut rest, kind::EXEMPLARS, |out| record::write_exemplars(piece.iter().copied(), out));
        }
        let metadata: Vec<(u32, &Metadata)> =
            self.metadata.iter().map(|(slot, metadata)| (*slot, &**metadata)).collect();
        for piece in metadata.chunks(1 << 14) {
            frame::put(&mut rest, kind::METADATA, |out| record::write_metadata(piece.iter().copied(), out));
        }
        let deleted = self.deleted.iter().flat_map(|(slot, ranges)| ranges.iter().map(|range| (*slot, *range)));
        let deleted: Vec<(u32, (i64, i64))> = deleted.collect();
        for piece in deleted.chunks(1 << 14) {
            frame::put(&mut rest, kind::DELETED, |out| record::write_deleted(piece.iter().copied(), out));
        }
        rest
    }

    /// Notes that a range was deleted of a series.
    pub fn delete(&mut self, slot: u32, range: (i64, i64)) {
        crate::deletion::add(self.deleted.entry(slot).or_default(), range);
    }

    /// Samples, exemplars and the like of a record of the log; says how many samples were of no known series.
    pub fn replay(
        &mut self,
        kind: u8,
        payload: &[u8],
        writer: &mut Writer,
        held: &mut HashSet<u32>,
    ) -> std::result::Result<u64, Torn> {
        let mut unknown = 0;
        let mut reader = Reader(payload);
        match kind {
            kind::FLOATS => {
                let mut floats = std::mem::take(&mut writer.replayed);
                let read = floats.read(payload, |slot, time, value| {
                    if writer.states.get(slot as usize).is_none_or(|state| state.generation.is_multiple_of(2)) {
                        unknown += 1;
                        held.insert(slot);
                    } else if writer.advance(slot, time, value.to_bits()) {
                        self.recent.push(slot, time, value);
                    } else if writer.states[slot as usize].last != time {
                        self.recent.push_late(slot, time, Value::Float(value));
                    }
                });
                writer.replayed = floats;
                read?;
            }
            kind::LATE => record::read_late(payload, |slot, time, value| {
                if self.catalog.reference(slot).is_some() {
                    self.recent.push_late(slot, time, Value::Float(value));
                } else {
                    unknown += 1;
                    held.insert(slot);
                }
            })?,
            kind::HISTOGRAMS => record::read_histograms(payload, |slot, time, value| {
                if self.catalog.reference(slot).is_none() {
                    unknown += 1;
                    held.insert(slot);
                } else if writer.advance(slot, time, 0) {
                    self.recent.push_histogram(slot, time, value);
                } else if writer.states[slot as usize].last != time {
                    self.recent.push_late(slot, time, Value::Histogram(value));
                }
            })?,
            kind::EXEMPLARS => record::read_exemplars(&mut reader, |slot, exemplar| {
                if self.catalog.reference(slot).is_some() && self.exemplars.check(slot, &exemplar).is_ok() {
                    self.exemplars.push(slot, exemplar);
                }
            })?,
            kind::METADATA => record::read_metadata(&mut reader, |slot, metadata| {
                if self.catalog.reference(slot).is_some() {
                    self.describe(slot, &metadata);
                }
            })?,
            kind::DELETED => record::read_deleted(&mut reader, |slot, range| {
                if self.catalog.reference(slot).is_some() {
                    self.delete(slot, range);
                }
            })?,
            _ => return Err(Torn("a record is of no known kind")),
        }
        Ok(unknown)
    }
}

/// What the writer knows of a series.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Time of its last sample.
    pub last: i64,
    /// As in the catalog: odd while a series has the slot.
    pub generation: u32,
    /// Whether `bits` are those of the last sample: after a start they may not be.
    known: bool,
    bits: u64,
    track: Track,
}

impl State {
    /// Of a slot that has no samples.
    pub fn new(generation: u32) -> Self {
        Self { last: i64::MIN, generation, known: false, bits: 0, track: Track::default() }
    }
}

/// A float that is taken.
#[derive(Clone, Copy, Debug)]
struct Taken {
    slot: u32,
    time: i64,
    value: f64,
    before: i64,
}

/// What one commit at a time uses.
#[derive(Debug)]
pub struct Writer {
    /// By slot.
    pub states: Vec<State>,
    /// The present file of the log.
    pub log: Growing,
    /// Its number.
    pub number: u64,
    /// The present file of the list of series.
    pub list: Growing,
    /// Its number.
    pub list_number: u64,
    /// Series that are not in the list yet.
    pub unlisted: Vec<u32>,
    /// The newest time.
    pub newest: i64,
    /// Before this, samples are late.
    pub boundary: i64,
    /// Nothing may be appended to the log file any more.
    pub broken: bool,
    /// No more commits.
    pub closed: bool,
    /// Reads the floats of the file that is being replayed.
    pub replayed: record::FloatReader,
    floats: FloatWriter,
    frames: Vec<u8>,
    taken: Vec<Taken>,
    late: Vec<(u32, i64, f64)>,
    histograms: Vec<(u32, i64, HistogramValue)>,
    late_histograms: Vec<(u32, i64, HistogramValue)>,
    undo: Vec<(u32, i64)>,
}

/// How a sample stands to its series.
enum Fit {
    Next,
    Late,
    Repeated,
    Not(Reject),
}

impl Writer {
    /// A writer of these files.
    pub fn new((log, number): (Growing, u64), (list, list_number): (Growing, u64)) -> Self {
        Self {
            states: Vec::new(),
            log,
            number,
            list,
            list_number,
            unlisted: Vec::new(),
            newest: i64::MIN,
            boundary: i64::MIN,
            broken: false,
            closed: false,
            replayed: record::FloatReader::default(),
            floats: FloatWriter::default(),
            frames: Vec::new(),
            taken: Vec::new(),
            late: Vec::new(),
            histograms: Vec::new(),
            late_histograms: Vec::new(),
            undo: Vec::new(),
        }
    }

    /// Makes room for the series of the catalog.
    pub fn reach(&mut self, catalog: &Catalog) {
        for slot in self.states.len()..catalog.slots() {
            self.states.push(State::new(catalog.generation(slot as u32)));
        }
    }

    /// Moves a series on to a sample, where it is newer than the last.
    pub fn advance(&mut self, slot: u32, time: i64, bits: u64) -> bool {
        let Some(state) = self.states.get_mut(slot as usize).filter(|state| time > state.last) else { return false };
        (state.last, state.bits, state.known) = (time, bits, true);
        self.newest = self.newest.max(time);
        true
    }

    /// A sample of this time is the last one that is known of a series.
    pub fn seen(&mut self, slot: u32, time: i64) {
        if let Some(state) = self.states.get_mut(slot as usize)
            && time > state.last
        {
            state.last = time;
            state.known = false;
        }
        self.newest = self.newest.max(time);
    }

    #[inline]
    fn fit(&self, series: SeriesRef, time: i64, window: i64, same: impl FnOnce(&State) -> bool) -> Fit {
        let state = match self.states.get(series.slot as usize) {
            Some(state) if state.generation == series.generation => state,
            _ => return Fit::Not(Reject::Unknown),
        };
        if time >= self.boundary {
            if time > state.last {
                return Fit::Next;
            }
            if time == state.last {
                return if same(state) { Fit::Repeated } else { Fit::Not(Reject::Duplicate) };
            }
        }
        match (window > 0, self.newest.saturating_sub(window) <= time) {
            (true, true) => Fit::Late,
            (true, false) => Fit::Not(Reject::TooOld),
            (false, _) if time < self.boundary => Fit::Not(Reject::OutOfBounds),
            (false, _) => Fit::Not(Reject::OutOfOrder),
        }
    }

    /// Decides what is taken of a batch and makes the records of it; nothing is in memory or in the log yet.
    pub fn admit(&mut self, batch: &Batch, head: &Head, window: i64) -> Result<Outcome> {
        let count = batch.samples() + batch.starts.len() + batch.exemplars.len() + batch.metadata.len();
        if count > SAMPLES {
            return Err(Error::TooLarge(count));
        }
        self.forget();
        let mut outcome = Outcome::default();
        for (series, created, zero) in &batch.starts {
            // Where a later sample is there already, it is no news that the counter began before.
            if !matches!(self.fit(*series, *created, 0, |_| true), Fit::Next) {
                continue;
            }
            match zero {
                Zero::Float => self.take(series.slot, *created, 0.0),
                Zero::Integer => {
                    self.take_histogram(series.slot, *created, HistogramValue::Integer(Arc::new(Histogram::default())));
                }
                Zero::FloatHistogram => {
                    let empty = HistogramValue::Float(Arc::new(FloatHistogram::default()));
                    self.take_histogram(series.slot, *created, empty);
                }
            }
        }
        for (place, (series, time, value)) in batch.floats.iter().enumerate() {
            let bits = value.to_bits();
            match self.fit(*series, *time, window, |state| !state.known || state.bits == bits) {
                Fit::Next => {
                    self.take(series.slot, *time, *value);
                    outcome.stored += 1;
                }
                Fit::Late => {
                    self.late.push((series.slot, *time, *value));
                    outcome.stored += 1;
                    outcome.late += 1;
                }
                Fit::Repeated => outcome.repeated += 1,
                Fit::Not(reject) => outcome.rejected.push((Of::Float(place), reject)),
            }
        }
        for (place, (series, time, value)) in batch.histograms.iter().enumerate() {
            let sound = value.is_stale()
                || match value {
                    HistogramValue::Integer(histogram) => histogram.check().is_ok(),
                    HistogramValue::Float(histogram) => histogram.check().is_ok(),
                };
            if !sound {
                outcome.rejected.push((Of::Histogram(place), Reject::Invalid));
                continue;
            }
            let slot = series.slot;
            let same = |state: &State| match head.recent.last_histogram(slot) {
                Some((at, last)) if *at == *time => last.same(value),
                // Of another kind, or not in memory any more.
                _ => !state.known,
            };
            match self.fit(*series, *time, window, same) {
                Fit::Next => {
                    self.take_histogram(slot, *time, value.clone());
                    outcome.stored += 1;
                }
                Fit::Late => {
                    self.late_histograms.push((slot, *time, value.clone()));
                    outcome.stored += 1;
                    outcome.late += 1;
                }
                Fit::Repeated => outcome.repeated += 1,
                Fit::Not(reject) => outcome.rejected.push((Of::Histogram(place), reject)),
            }
        }
        self.encode(batch, head, &mut outcome);
        Ok(outcome)
    }

    fn forget(&mut self) {
        self.floats.clear();
        self.frames.clear();
        self.taken.clear();
        self.late.clear();
        self.histograms.clear();
        self.late_histograms.clear();
        self.undo.clear();
    }

    #[inline]
    fn take(&mut self, slot: u32, time: i64, value: f64) {
        let state = &mut self.states[slot as usize];
        self.taken.push(Taken { slot, time, value, before: state.last });
        (state.last, state.bits, state.known) = (time, value.to_bits(), true);
        self.floats.push(slot, time, value, self.number as u32, &mut state.track);
    }

    fn take_histogram(&mut self, slot: u32, time: i64, value: HistogramValue) {
        let state = &mut self.states[slot as usize];
        self.undo.push((slot, state.last));
        (state.last, state.bits, state.known) = (time, 0, true);
        self.histograms.push((slot, time, value));
    }

    fn encode(&mut self, batch: &Batch, head: &Head, outcome: &mut Outcome) {
        let frames = &mut self.frames;
        if !self.floats.is_empty() {
            let floats = &mut self.floats;
            frame::put(frames, kind::FLOATS, |out| floats.finish(out));
        }
        if !self.late.is_empty() {
            frame::put(frames, kind::LATE, |out| record::write_late(&self.late, out));
        }
        // In pieces, since a histogram may be large and a record may not.
        for list in [&self.histograms, &self.late_histograms] {
            for piece in list.chunks(1024) {
                frame::put(frames, kind::HISTOGRAMS, |out| record::write_histograms(piece, out));
            }
        }
        let known = |series: SeriesRef| head.catalog.reference(series.slot) == Some(series);
        let mut exemplars: Vec<(u32, &Exemplar)> = Vec::new();
        for (place, (series, exemplar)) in batch.exemplars.iter().enumerate() {
            let fits = if known(*series) { head.exemplars.check(series.slot, exemplar) } else { Err(Refused::Unknown) };
            match fits {
                Ok(()) => exemplars.push((series.slot, exemplar)),
                Err(refused) => outcome.exemplars.push((place, refused)),
            }
        }
        if !exemplars.is_empty() {
            frame::put(frames, kind::EXEMPLARS, |out| record::write_exemplars(exemplars.into_iter(), out));
        }
        let metadata: Vec<(u32, &Metadata)> = batch
            .metadata
            .iter()
            .filter(|(series, metadata)| {
                known(*series) && head.metadata.get(&series.slot).is_none_or(|have| **have != *metadata)
            })
            .map(|(series, metadata)| (series.slot, metadata))
            .collect();
        if !metadata.is_empty() {
            frame::put(frames, kind::METADATA, |out| record::write_metadata(metadata.into_iter(), out));
        }
    }

    /// Appends a record that is not of a batch.
    pub fn note(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        self.forget();
        frame::put(&mut self.frames, kind, write);
    }

    /// Hands the records to the kernel; says whether there were any.
    pub fn write(&mut self, head: &Head) -> Result<bool> {
        if !self.unlisted.is_empty() {
            let slots = std::mem::take(&mut self.unlisted);
            let mut list = Vec::new();
            for piece in slots.chunks(1 << 16) {
                frame::put(&mut list, kind::SERIES, |out| {
                    record::write_series(&head.catalog, piece.iter().copied(), out);
                });
            }
            if let Err(error) = self.list.append(&list) {
                self.unlisted = slots;
                return self.undo(error);
            }
        }
        if self.frames.is_empty() {
            return Ok(false);
        }
        match self.log.append(&self.frames) {
            Ok(()) => Ok(true),
            Err(error) => self.undo(error),
        }
    }

    /// Takes back what [`Self::admit`] noted, since it did not get into the log. The files may hold parts of records.
    fn undo(&mut self, error: Error) -> Result<bool> {
        for taken in self.taken.iter().rev() {
            self.states[taken.slot as usize].last = taken.before;
        }
        for (slot, last) in self.undo.iter().rev() {
            let state = &mut self.states[*slot as usize];
            state.last = state.last.min(*last);
        }
        for slot in self.taken.iter().map(|taken| taken.slot).chain(self.undo.iter().map(|undo| undo.0)) {
            let state = &mut self.states[slot as usize];
            (state.known, state.track) = (false, Track::default());
        }
        self.broken = true;
        Err(error)
    }

    /// Puts what was admitted and logged into memory; the outcome learns of late samples that were there already.
    pub fn apply(&mut self, batch: &Batch, head: &mut Head, outcome: &mut Outcome) {
        for taken in &self.taken {
            head.recent.push(taken.slot, taken.time, taken.value);
            self.newest = self.newest.max(taken.time);
        }
        for (slot, time, value) in self.histograms.drain(..) {
            self.newest = self.newest.max(time);
            head.recent.push_histogram(slot, time, value);
        }
        let late = self.late.drain(..).map(|(slot, time, value)| (slot, time, Value::Float(value)));
        let late_histograms = self.late_histograms.drain(..);
        let late = late.chain(late_histograms.map(|(slot, time, value)| (slot, time, Value::Histogram(value))));
        for (slot, time, value) in late {
            if !head.recent.push_late(slot, time, value) {
                outcome.stored -= 1;
                outcome.late -= 1;
                outcome.repeated += 1;
            }
        }
        let mut refused = outcome.exemplars.iter().map(|refused| refused.0).peekable();
        for (place, (series, exemplar)) in batch.exemplars.iter().enumerate() {
            if refused.next_if_eq(&place).is_none() {
                head.exemplars.push(series.slot, exemplar.clone());
            }
        }
        for (series, metadata) in &batch.metadata {
            if head.catalog.reference(series.slot) == Some(*series) {
                head.describe(series.slot, metadata);
            }
        }
    }
}
