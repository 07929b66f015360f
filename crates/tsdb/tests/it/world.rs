//! What the tests share: a data base in a directory of its own, short names for what they do with it.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use tsdb::{
    Db, SeriesRef,
    batch::{Batch, Durability, Outcome},
    column::{Columns, HistogramValue, Value},
    labels::Labels,
    matcher::Matcher,
    options::Options,
    select::Cursor,
};

/// Everything that a selection gave: labels and samples.
pub type Everything = Vec<(Labels, Vec<(i64, Value)>)>;

/// A data base that goes when the test ends.
pub struct World {
    pub dir: TempDir,
    pub options: Options,
    db: Option<Db>,
}

/// Blocks of ten seconds and a few samples in memory, so that little data goes a long way.
pub fn small() -> Options {
    Options {
        block: Duration::from_secs(10),
        largest_block: Duration::from_secs(90),
        retention: Duration::ZERO,
        flush: 500,
        ..Options::default()
    }
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

impl World {
    pub fn new(options: Options) -> Self {
        let dir = TempDir::new().expect("there is a place for temporary files");
        let mut world = Self { dir, options, db: None };
        world.start();
        world
    }

    /// Opens the data base; nothing may be damaged.
    pub fn start(&mut self) {
        let (db, report) = Db::open(self.dir.path(), self.options.clone()).expect("the data base opens");
        assert_eq!(report.losses, []);
        self.db = Some(db);
    }

    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    pub fn stop(&mut self) {
        if let Some(db) = self.db.take() {
            db.close().expect("the data base closes");
        }
    }

    pub fn db(&self) -> &Db {
        self.db.as_ref().expect("the data base is open")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn series(&self, pairs: &[(&str, &str)]) -> SeriesRef {
        self.db().series(&labels(pairs)).expect("there is room for a series")
    }

    pub fn put(&self, series: SeriesRef, time: i64, value: f64) -> Outcome {
        let mut batch = Batch::default();
        batch.float(series, time, value);
        self.commit(&batch)
    }

    pub fn put_histogram(&self, series: SeriesRef, time: i64, value: HistogramValue) -> Outcome {
        let mut batch = Batch::default();
        batch.histogram(series, time, value);
        self.commit(&batch)
    }

    pub fn commit(&self, batch: &Batch) -> Outcome {
        self.db().commit(batch, Durability::Logged).expect("the commit succeeds")
    }

    pub fn select(&self, matchers: &[Matcher], min: i64, max: i64) -> Everything {
        select(self.db(), matchers, min, max)
    }

    pub fn all(&self) -> Everything {
        self.select(&[], i64::MIN, i64::MAX)
    }

    /// Times and values of the only series, which has only floats.
    pub fn floats(&self) -> Vec<(i64, f64)> {
        let mut all = self.all();
        assert!(all.len() <= 1, "{all:?}");
        let samples = all.pop().map_or_else(Vec::new, |series| series.1);
        let float = |(time, value)| match value {
            Value::Float(value) => (time, value),
            Value::Histogram(_) => panic!("a histogram at {time}"),
        };
        samples.into_iter().map(float).collect()
    }

    pub fn files(&self, below: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path().join(below)) else { return Vec::new() };
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

pub fn select(db: &Db, matchers: &[Matcher], min: i64, max: i64) -> Everything {
    let selection = db.select_sorted(matchers, min, max).expect("the selection succeeds");
    let (mut cursor, mut columns) = (Cursor::default(), Columns::default());
    let mut all = Vec::new();
    for nth in 0..selection.len() {
        selection.read(nth, &mut cursor, &mut columns).expect("the series is read");
        let samples = columns.samples();
        assert!(samples.windows(2).all(|two| two[0].0 < two[1].0), "samples are in order");
        if !samples.is_empty() {
            all.push((selection.labels(nth).clone(), samples));
        }
    }
    assert!(all.windows(2).all(|two| two[0].0 < two[1].0), "series are in order");
    all
}

/// Whether both are the same to the bit.
pub fn same(one: &Everything, other: &Everything) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            one.0 == other.0
                && one.1.len() == other.1.len()
                && one.1.iter().zip(&other.1).all(|(one, other)| one.0 == other.0 && one.1.same(&other.1))
        })
}

/// Random numbers from a seed (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}
