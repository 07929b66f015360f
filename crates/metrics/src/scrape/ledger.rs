//! Which series a target's lines are, and what is committed of a scrape.
//!
//! ```text
//! line ── as expected here? ── yes: series known ──────────────────────────┐
//!   └─ no ── found by its hash? ── yes ────────────────────────────────────┤
//!              └─ no: labels, relabelling, limits ── new, or dropped ──────┴──▶ batch ── commit ──▶ stale: what is gone
//! ```
//!
//! Targets say the same in the same order each time. So a line is first compared with the one that stood here the last
//! time: its beginning has the same length and hash, and then neither its name nor its labels are looked at. Of each line
//! only length and hash are kept, with a seed that targets do not know.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use hashbrown::HashTable;
use tsdb::{
    Metadata, SeriesRef,
    batch::{Batch, Of, Reject, Zero},
    column::HistogramValue,
    histogram::{MAX_RESERVED_SCHEMA, MIN_SCHEMA, is_exponential},
    labels::{Builder, Labels, NAME},
    sample::{Exemplar, STALE_NAN},
};

use super::{classic::Collector, counts::Fault, fresh::Fresh, terms::Terms};
use crate::{
    format::{
        Kind,
        protobuf::{self, Item, Measured},
        text::{Event, Lines, Rest},
    },
    relabel,
    storage::Storage,
};

/// Samples of a scrape at most, whatever is configured.
const SAMPLES: usize = 3_500_000;
/// How far in the future a sample may be, in milliseconds.
const AHEAD: i64 = 600_000;
/// Scrapes for which a description is kept that was not told again.
const KEPT: u32 = 10;
/// Families with descriptions at most.
const FAMILIES: usize = 50_000;
/// Characters of a description at most.
const HELP: usize = 4096;

/// What a series holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Floats,
    Integers,
    FloatHistograms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Series {
    /// Relabelling dropped it.
    Dropped,
    /// It is known.
    Known(SeriesRef),
    /// It is made with the commit: its place among the new ones.
    New(u32),
}

#[derive(Clone, Copy, Debug)]
struct Line {
    hash: u64,
    series: Series,
    length: u32,
    /// In which scrape it was last seen, and as which line.
    round: u32,
    order: u32,
    holds: Holds,
    /// Whether it ends when it is not exposed any more.
    tracked: bool,
    /// Whether its last sample is not the end of it.
    live: bool,
}

/// What a family is, as a target tells it.
#[derive(Clone, Debug)]
struct About {
    kind: Kind,
    help: Box<str>,
    unit: Box<str>,
    round: u32,
}

/// What a scrape amounted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples in the answer.
    pub scraped: usize,
    /// Those that relabelling left.
    pub kept: usize,
    /// Series that were not there before.
    pub added: usize,
}

enum Measure {
    Float(f64),
    Histogram(HistogramValue),
    Exemplar(Box<Exemplar>),
    Start(i64, Zero),
    About(Box<Metadata>),
}

/// The descriptions of a target's families.
pub type Descriptions = Arc<Vec<(String, Metadata)>>;

/// The lines of a target.
pub struct Ledger {
    terms: Terms,
    hasher: foldhash::quality::RandomState,
    lines: Vec<Line>,
    /// Places of lines by their hashes; empty until a line is not where it was.
    index: HashTable<u32>,
    indexed: bool,
    next: usize,
    round: u32,
    order: u32,
    time: i64,
    batch: Batch,
    fresh: Fresh,
    late: Vec<(u32, i64, Measure)>,
    tally: Tally,
    over: Option<&'static str>,
    duplicates: usize,
    repeats: usize,
    early: usize,
    classic: Collector,
    families: HashMap<Box<str>, About>,
    told: bool,
    last_about: Option<Box<str>>,
    descriptions: Descriptions,
    reports: Option<Vec<SeriesRef>>,
    faults: Vec<(Fault, usize)>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("lines", &self.lines.len()).field("round", &self.round).finish_non_exhaustive()
    }
}

impl Ledger {
    /// A ledger without lines.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            hasher: foldhash::quality::RandomState::default(),
            lines: Vec::new(),
            index: HashTable::new(),
            indexed: true,
            next: 0,
            round: 0,
            order: 0,
            time: 0,
            batch: Batch::default(),
            fresh: Fresh::default(),
            late: Vec::new(),
            tally: Tally::default(),
            over: None,
            duplicates: 0,
            repeats: 0,
            early: 0,
            classic: Collector::default(),
            families: HashMap::new(),
            told: false,
            last_about: None,
            descriptions: Arc::default(),
            reports: None,
            faults: Vec::new(),
        }
    }

    /// What is done with the samples.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What was left out since this was asked for the last time.
    pub fn faults(&mut self) -> Vec<(Fault, usize)> {
        std::mem::take(&mut self.faults)
    }

    /// What the target says of its families.
    pub fn descriptions(&self) -> &Descriptions {
        &self.descriptions
    }

    /// What the scrape amounts to so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many lines are known.
    pub fn size(&self) -> usize {
        self.lines.len()
    }

    /// Forgets which series lines are, because they may be gone by now.
    pub fn forget(&mut self) {
        self.lines.clear();
        self.index.clear();
        self.reports = None;
    }

    /// Begins a scrape at a time in milliseconds since 1970.
    pub fn begin(&mut self, time: i64) {
        self.round = self.round.wrapping_add(1);
        self.time = time;
        self.next = 0;
        self.order = 0;
        self.batch.clear();
        self.fresh.clear();
        self.late.clear();
        self.tally = Tally::default();
        self.over = None;
        self.duplicates = 0;
        self.repeats = 0;
        self.early = 0;
        self.last_about = None;
        self.classic = Collector::default();
    }

    /// Takes a line of text, without its line break.
    #[inline]
    pub fn line(&mut self, reader: &mut Lines, line: &[u8]) -> Result<(), String> {
        // Converting needs the labels of each line, so it takes the long way.
        if !self.terms.histograms.convert
            && reader.may_be_sample(line)
            && let Some(expected) = self.lines.get(self.next)
        {
            let length = expected.length as usize;
            let follows = matches!(line.get(length), Some(b' '));
            if follows && self.hasher.hash_one(&line[..length]) == expected.hash && line.get(length + 1) != Some(&b'{')
            {
                let rest = reader.rest(line, length)?;
                let at = self.next;
                return self.known_sample(reader, at, rest);
            }
        }
        self.other_line(reader, line)
    }

    fn other_line(&mut self, reader: &mut Lines, line: &[u8]) -> Result<(), String> {
        match reader.read(line)? {
            Event::Nothing | Event::End => Ok(()),
            Event::Kind(name, kind) => {
                self.classic.family(name);
                self.about(name, |about| {
                    let changed = about.kind != kind;
                    about.kind = kind;
                    changed
                });
                Ok(())
            }
            Event::Help(name, help) => {
                self.about(name, |about| {
                    let end = (0..=HELP.min(help.len())).rev().find(|end| help.is_char_boundary(*end)).unwrap_or(0);
                    let changed = *about.help != help[..end];
                    if changed {
                        about.help = help[..end].into();
                    }
                    changed
                });
                Ok(())
            }
            Event::Unit(name, unit) => {
                self.about(name, |about| {
                    let changed = *about.unit != *unit;
                    if changed {
                        about.unit = unit.into();
                    }
                    changed
                });
                Ok(())
            }
            Event::Sample(series, rest) => {
                let bytes = series.as_bytes();
                let hash = self.hasher.hash_one(bytes);
                if self.terms.histograms.convert {
                    return self.convertible(reader, series, hash, rest);
                }
                if let Some(at) = self.find(hash, bytes.len()) {
                    return self.known_sample(reader, at, rest);
                }
                let labels = reader.labels(series);
                let exemplar = rest.exemplar.and_then(|text| reader.exemplar(text));
                self.unknown(hash, bytes.len(), labels, Measure::Float(rest.value), rest.time, exemplar, None)
            }
        }
    }

    /// Takes a sample that may be a part of a classic histogram.
    fn convertible(&mut self, reader: &Lines, series: &str, hash: u64, rest: Rest<'_>) -> Result<(), String> {
        let mut labels = reader.labels(series);
        let exemplar = rest.exemplar.and_then(|text| reader.exemplar(text));
        let whole = labels.labels();
        let (done, taken) = self.classic.take(reader.kind(), &whole, rest.value, rest.time, exemplar.as_ref());
        if let Some(done) = done {
            self.converted(done)?;
        }
        if taken && !self.terms.histograms.classic {
            return Ok(());
        }
        match self.find(hash, series.len()) {
            Some(at) => self.known_sample(reader, at, rest),
            None => self.unknown(hash, series.len(), labels, Measure::Float(rest.value), rest.time, exemplar, None),
        }
    }

    fn converted(&mut self, done: super::classic::Done) -> Result<(), String> {
        self.sample(Builder::new(&done.labels), Measured::Histogram(done.value), done.time, None, done.exemplars)
    }

    /// Takes a metric family of protocol buffers.
    pub fn family(&mut self, bytes: &[u8]) -> Result<(), String> {
        let options = self.terms.histograms;
        protobuf::family(bytes, options, &mut |item| match item {
            Item::About { name, kind, help, unit } => {
                self.about(name, |about| {
                    let changed = about.kind != kind || *about.help != *help || *about.unit != *unit;
                    if changed {
                        (about.kind, about.help, about.unit) = (kind, help.into(), unit.into());
                    }
                    changed
                });
                Ok(())
            }
            Item::Sample { labels, value, time, start, exemplars } => {
                self.sample(labels, value, time, start, exemplars)
            }
        })
    }

    /// Takes a sample whose labels are at hand.
    fn sample(
        &mut self,
        mut labels: Builder,
        value: Measured,
        time: Option<i64>,
        start: Option<i64>,
        mut exemplars: Vec<Exemplar>,
    ) -> Result<(), String> {
        let key = labels.labels();
        // Marked, so that it is never taken for the line of a text.
        let hash = self.hasher.hash_one((1u8, key.as_key()));
        let start = start.filter(|start| self.terms.starts && *start > 0);
        let mut first = exemplars.drain(..);
        let exemplar = first.next();
        let more: Vec<Exemplar> = first.collect();
        let measure = match value {
            Measured::Float(value) => Measure::Float(value),
            Measured::Histogram(value) => Measure::Histogram(value),
        };
        let at = match self.find(hash, key.size()) {
            Some(at) => {
                self.known(at, measure, time, exemplar, start)?;
                Some(at)
            }
            None => {
                let before = self.lines.len();
                self.unknown(hash, key.size(), labels, measure, time, exemplar, start)?;
                (self.lines.len() > before).then_some(before)
            }
        };
        if let Some(at) = at {
            more.into_iter().for_each(|exemplar| self.put(at, self.time, Measure::Exemplar(exemplar.into())));
        }
        Ok(())
    }

    fn find(&mut self, hash: u64, length: usize) -> Option<usize> {
        if let Some(expected) = self.lines.get(self.next)
            && expected.hash == hash
            && expected.length as usize == length
        {
            return Some(self.next);
        }
        if !self.indexed {
            self.index.clear();
            let lines = &self.lines;
            for (at, line) in lines.iter().enumerate() {
                self.index.insert_unique(line.hash, at as u32, |at| lines[*at as usize].hash);
            }
            self.indexed = true;
        }
        let lines = &self.lines;
        let same = |at: &u32| lines[*at as usize].hash == hash && lines[*at as usize].length as usize == length;
        self.index.find(hash, same).map(|at| *at as usize)
    }

    #[inline]
    fn known_sample(&mut self, reader: &Lines, at: usize, rest: Rest<'_>) -> Result<(), String> {
        let exemplar = rest.exemplar.and_then(|text| reader.exemplar(text));
        self.known(at, Measure::Float(rest.value), rest.time, exemplar, None)
    }

    #[inline]
    fn known(
        &mut self,
        at: usize,
        measure: Measure,
        time: Option<i64>,
        exemplar: Option<Exemplar>,
        start: Option<i64>,
    ) -> Result<(), String> {
        self.next = at + 1;
        self.count()?;
        let (round, order) = (self.round, self.order);
        let Some(line) = self.lines.get_mut(at) else { return Ok(()) };
        let again = line.round == round;
        line.round = round;
        line.order = order;
        self.repeats += usize::from(again);
        if line.series == Series::Dropped {
            return Ok(());
        }
        self.tally.kept += 1;
        let own = time.filter(|_| self.terms.honor_timestamps);
        if again && own.is_none() {
            self.duplicates += 1;
            return Ok(());
        }
        line.tracked = own.is_none() || self.terms.track_staleness;
        self.append(at, measure, own.unwrap_or(self.time), exemplar, start)
    }

    fn count(&mut self) -> Result<(), String> {
        self.tally.scraped += 1;
        self.order += 1;
        if self.tally.scraped > SAMPLES {
            return Err(format!("more than {SAMPLES} samples"));
        }
        Ok(())
    }

    #[inline]
    fn append(
        &mut self,
        at: usize,
        measure: Measure,
        time: i64,
        exemplar: Option<Exemplar>,
        start: Option<i64>,
    ) -> Result<(), String> {
        if self.terms.sample_limit > 0 && self.tally.kept > self.terms.sample_limit {
            self.over = Some("sample limit exceeded");
            return Ok(());
        }
        if time > self.time.saturating_add(AHEAD) {
            self.early += 1;
            return Ok(());
        }
        let measure = match measure {
            Measure::Histogram(value) => match self.fitting(value) {
                Some(value) => {
                    if let Some(line) = self.lines.get_mut(at) {
                        line.holds = match value {
                            HistogramValue::Integer(_) => Holds::Integers,
                            HistogramValue::Float(_) => Holds::FloatHistograms,
                        };
                    }
                    Measure::Histogram(value)
                }
                None => {
                    self.over.get_or_insert("histogram bucket limit exceeded");
                    return Ok(());
                }
            },
            other => other,
        };
        if let Some(start) = start {
            let zero = match &measure {
                Measure::Histogram(HistogramValue::Integer(_)) => Zero::Integer,
                Measure::Histogram(HistogramValue::Float(_)) => Zero::FloatHistogram,
                _ => Zero::Float,
            };
            self.put(at, start, Measure::Start(start, zero));
        }
        self.put(at, time, measure);
        if let Some(exemplar) = exemplar {
            self.put(at, time, Measure::Exemplar(exemplar.into()));
        }
        Ok(())
    }

    #[inline]
    fn put(&mut self, at: usize, time: i64, measure: Measure) {
        match self.lines.get(at).map(|line| line.series) {
            Some(Series::Known(series)) => put(&mut self.batch, series, time, measure),
            Some(Series::New(fresh)) => self.late.push((fresh, time, measure)),
            Some(Series::Dropped) | None => {}
        }
    }

    /// A histogram with no more buckets and no higher schema than allowed.
    fn fitting(&self, value: HistogramValue) -> Option<HistogramValue> {
        let limit = self.terms.bucket_limit;
        let schema = |value: &HistogramValue| match value {
            HistogramValue::Integer(histogram) => histogram.schema,
            HistogramValue::Float(histogram) => histogram.schema,
        };
        let reduced = |value: &HistogramValue, schema: i32| match value {
            HistogramValue::Integer(histogram) => HistogramValue::Integer(Arc::new(histogram.reduced(schema))),
            HistogramValue::Float(histogram) => HistogramValue::Float(Arc::new(histogram.reduced(schema))),
        };
        let mut value = value;
        if (MIN_SCHEMA..=MAX_RESERVED_SCHEMA).contains(&schema(&value)) && schema(&value) > self.terms.max_schema {
            value = reduced(&value, self.terms.max_schema);
        }
        while limit > 0 && value.buckets() > limit {
            let schema = schema(&value);
            if !is_exponential(schema) || schema <= MIN_SCHEMA {
                return None;
            }
            value = reduced(&value, schema - 1);
        }
        Some(value)
    }

    /// Takes the first sample of a line that is not known.
    #[expect(clippy::too_many_arguments, reason = "the parts of one sample")]
    fn unknown(
        &mut self,
        hash: u64,
        length: usize,
        mut labels: Builder,
        measure: Measure,
        time: Option<i64>,
        exemplar: Option<Exemplar>,
        start: Option<i64>,
    ) -> Result<(), String> {
        self.count()?;
        let whole = self.relabelled(&mut labels);
        if whole.is_some() {
            self.tally.kept += 1;
        }
        let own = time.filter(|_| self.terms.honor_timestamps);
        let within = self.terms.sample_limit == 0 || self.tally.kept <= self.terms.sample_limit;
        if !within {
            self.over = Some("sample limit exceeded");
        }
        let series = match whole {
            None => Series::Dropped,
            Some(whole) => {
                self.terms.check(&whole)?;
                if !within {
                    return Ok(());
                }
                Series::New(self.fresh.push(&whole, self.lines.len() as u32))
            }
        };
        let at = self.lines.len();
        self.lines.push(Line {
            hash,
            series,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            round: self.round,
            order: self.order,
            holds: Holds::Floats,
            tracked: own.is_none() || self.terms.track_staleness,
            live: false,
        });
        if self.indexed {
            let lines = &self.lines;
            self.index.insert_unique(hash, at as u32, |at| lines[*at as usize].hash);
        }
        if series == Series::Dropped {
            return Ok(());
        }
        self.tally.added += 1;
        if self.terms.metadata
            && let Some(about) = self.last_about.as_ref().and_then(|name| self.families.get(name))
        {
            let metadata = metadata(about);
            self.put(at, self.time, Measure::About(metadata.into()));
        }
        self.append(at, measure, own.unwrap_or(self.time), exemplar, start)
    }

    /// The labels of a sample with those of its target, relabelled; `None` if it is dropped.
    fn relabelled(&self, labels: &mut Builder) -> Option<Labels> {
        with_target(labels, &self.terms.labels, self.terms.honor_labels);
        relabel::apply(&self.terms.rules, labels).then(|| labels.labels()).filter(|labels| !labels.is_empty())
    }

    fn about(&mut self, name: &str, change: impl FnOnce(&mut About) -> bool) {
        if self.last_about.as_deref() != Some(name) {
            self.last_about = Some(name.into());
        }
        let round = self.round;
        if let Some(about) = self.families.get_mut(name) {
            about.round = round;
            self.told |= change(about);
        } else if self.families.len() < FAMILIES {
            let mut about = About { kind: Kind::Unknown, help: "".into(), unit: "".into(), round };
            change(&mut about);
            self.families.insert(name.into(), about);
            self.told = true;
        }
    }

    /// What is still to be taken when the answer has ended; then whether the scrape is a good one.
    pub fn end(&mut self) -> Result<(), String> {
        if let Some(done) = self.classic.finish() {
            self.converted(done)?;
        }
        match self.over {
            Some(over) => Err(over.to_owned()),
            None => Ok(()),
        }
    }

    /// Gives up the samples of this scrape.
    pub fn abandon(&mut self) {
        self.batch.clear();
        self.late.clear();
        self.fresh.clear();
        self.tally.added = 0;
        let before = self.lines.len();
        self.lines.retain(|line| !matches!(line.series, Series::New(_)));
        self.indexed &= before == self.lines.len();
        if !self.indexed {
            self.next = 0;
        }
    }

    /// Commits the samples, the ends of series that are gone, and `reports`: names with values that carry the target's
    /// labels. After a scrape that `failed`, all series have ended. Blocks the thread.
    pub fn commit(
        &mut self,
        storage: &Storage,
        failed: bool,
        reports: &[(&str, f64)],
    ) -> Result<(), crate::storage::AppendError> {
        if failed {
            self.abandon();
        }
        if !self.fresh.is_empty() {
            let mut made = Vec::new();
            for piece in self.fresh.pieces() {
                made.extend(storage.db().series_of(&self.fresh.labels(piece))?);
            }
            for (fresh, time, measure) in std::mem::take(&mut self.late) {
                if let Some(series) = made.get(fresh as usize) {
                    put(&mut self.batch, *series, time, measure);
                }
            }
            for (at, series) in self.fresh.lines().zip(made) {
                if let Some(line) = self.lines.get_mut(at as usize) {
                    line.series = Series::Known(series);
                }
            }
            self.fresh.clear();
        }
        self.ends(failed);
        self.report(storage, reports)?;
        let outcome = storage.append(&self.batch, self.terms.durability)?;
        let lost = outcome.rejected.iter().filter(|(_, reject)| *reject == Reject::Unknown).count();
        let count = |wanted: Reject| outcome.rejected.iter().filter(|(_, reject)| *reject == wanted).count();
        let (disordered, old) = (count(Reject::OutOfOrder), count(Reject::OutOfBounds) + count(Reject::TooOld));
        let duplicates = self.duplicates + count(Reject::Duplicate);
        for (fault, dropped) in
            [(Fault::OutOfOrder, disordered), (Fault::Duplicate, duplicates), (Fault::OutOfBounds, old + self.early)]
        {
            if dropped > 0 {
                self.faults.push((fault, dropped));
            }
        }
        if disordered > 0 {
            tracing::warn!(target = %self.terms.labels, dropped = disordered, "samples out of order");
        }
        if duplicates > 0 {
            tracing::warn!(target = %self.terms.labels, dropped = duplicates, "several values for the same series and time");
        }
        if old + self.early > 0 {
            tracing::warn!(target = %self.terms.labels, dropped = old + self.early, "samples too old or too far in the future");
        }
        if let Some((of, reject)) = outcome.rejected.iter().find(|(_, reject)| *reject == Reject::Invalid) {
            let kind = if matches!(of, Of::Float(_)) { "sample" } else { "histogram" };
            tracing::warn!(target = %self.terms.labels, kind, %reject, "not taken");
        }
        self.batch.clear();
        self.settle(failed);
        if lost > 0 {
            tracing::debug!(target = %self.terms.labels, lost, "series were gone; they are looked up again");
            self.forget();
        }
        Ok(())
    }

    /// Ends series that were exposed and are not any more.
    fn ends(&mut self, failed: bool) {
        let (round, time) = (self.round, self.time);
        let gone = |line: &Line| line.live && line.tracked && (failed || line.round != round);
        if !failed && self.tally.scraped - self.repeats == self.lines.len() && self.tally.added == 0 {
            return;
        }
        let mut ended: Vec<(SeriesRef, Holds)> = Vec::new();
        for line in &self.lines {
            if let Series::Known(series) = line.series
                && gone(line)
            {
                ended.push((series, line.holds));
            }
        }
        if ended.is_empty() {
            return;
        }
        if !failed {
            // The same series may stand in another line now.
            let there: std::collections::HashSet<SeriesRef> = self
                .lines
                .iter()
                .filter(|line| line.round == round)
                .filter_map(|line| if let Series::Known(series) = line.series { Some(series) } else { None })
                .collect();
            ended.retain(|(series, _)| !there.contains(series));
        }
        for (series, holds) in ended {
            match holds {
                Holds::Floats => self.batch.float(series, time, STALE_NAN),
                Holds::Integers => self.batch.histogram(series, time, HistogramValue::stale_integer()),
                Holds::FloatHistograms => self.batch.histogram(series, time, HistogramValue::stale_float()),
            }
        }
    }

    /// Brings lines into the order of this scrape and forgets those that were not in it.
    fn settle(&mut self, failed: bool) {
        if failed {
            self.lines.iter_mut().for_each(|line| line.live = false);
            return;
        }
        let round = self.round;
        let before = self.lines.len();
        let moved = self.tally.added > 0 || self.tally.scraped - self.repeats != before;
        if moved {
            self.lines.retain(|line| line.round == round);
        }
        let mut sorted = true;
        let mut last = 0;
        for line in &mut self.lines {
            line.live = true;
            sorted &= line.order >= last;
            last = line.order;
        }
        if !sorted {
            self.lines.sort_by_key(|line| line.order);
        }
        if !sorted || self.lines.len() != before {
            self.indexed = false;
            self.index = HashTable::new();
        }
        if self.lines.capacity() > 2 * self.lines.len() + 1024 {
            self.lines.shrink_to_fit();
        }
        let kept = self.families.len();
        self.families.retain(|_, about| round.wrapping_sub(about.round) <= KEPT);
        if self.told || kept != self.families.len() {
            self.told = false;
            let mut all: Vec<(String, Metadata)> =
                self.families.iter().map(|(name, about)| (name.to_string(), metadata(about))).collect();
            all.sort_by(|one, other| one.0.cmp(&other.0));
            self.descriptions = Arc::new(all);
        }
    }

    fn report(&mut self, storage: &Storage, reports: &[(&str, f64)]) -> tsdb::Result<()> {
        let known = self.reports.as_ref().filter(|known| known.len() == reports.len());
        let series = match known {
            Some(known) => known.clone(),
            None => {
                let labels: Vec<Labels> = reports
                    .iter()
                    .map(|(name, _)| {
                        let mut builder = Builder::new(&self.terms.labels);
                        builder.set(NAME, name);
                        builder.labels()
                    })
                    .collect();
                storage.db().series_of(&labels)?
            }
        };
        for (series, (_, value)) in series.iter().zip(reports) {
            self.batch.float(*series, self.time, *value);
        }
        self.reports = Some(series);
        Ok(())
    }
}

fn metadata(about: &About) -> Metadata {
    Metadata { kind: about.kind.name().to_owned(), unit: about.unit.to_string(), help: about.help.to_string() }
}

#[inline]
fn put(batch: &mut Batch, series: SeriesRef, time: i64, measure: Measure) {
    match measure {
        Measure::Float(value) => batch.float(series, time, value),
        Measure::Histogram(value) => batch.histogram(series, time, value),
        Measure::Exemplar(mut exemplar) => {
            exemplar.timestamp.get_or_insert(time);
            batch.exemplar(series, *exemplar);
        }
        Measure::Start(created, zero) => batch.start(series, created, zero),
        Measure::About(metadata) => batch.metadata(series, *metadata),
    }
}

/// Puts the labels of a target on a sample. Where both have one, that of the sample stays if `honor` says so, else it is
/// kept as `exported_...`.
pub fn with_target(labels: &mut Builder, target: &Labels, honor: bool) {
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for (name, value) in target {
        let own = labels.get(name);
        if own.is_empty() {
            labels.set(name, value);
        } else if !honor {
            conflicts.push((name.to_owned(), own.to_owned()));
            labels.set(name, value);
        }
    }
    conflicts.sort_by_key(|conflict| conflict.0.len());
    for (name, value) in conflicts {
        let mut name = format!("exported_{name}");
        while !labels.get(&name).is_empty() {
            name.insert_str(0, "exported_");
        }
        labels.set(&name, &value);
    }
}
