//! The data base of `tsdb` as storage.
//!
//! A selection is taken at one moment; the columns of each series are decoded into those of the evaluator, not copied.

use std::sync::Arc;

use tsdb::{
    column::Columns,
    db::Db,
    labels::Labels,
    matcher::{self, Op},
    select,
};

use crate::{
    matcher::{Comparison, Matcher},
    storage::{Hints, Selection, Storage, StorageError},
    value::Samples,
};

impl Storage for Db {
    fn select<'a>(&'a self, matchers: &[Matcher], hints: &Hints) -> Result<Box<dyn Selection + 'a>, StorageError> {
        let matchers: Vec<matcher::Matcher> = matchers.iter().map(condition).collect();
        let selection = Db::select(self, &matchers, hints.start, hints.end)?;
        Ok(Box::new(Reader { selection, next: 0, cursor: select::Cursor::default(), columns: Columns::default() }))
    }
}

/// The condition in the terms of the data base; a pattern keeps being matched here, so that all match alike.
pub fn condition(matcher: &Matcher) -> matcher::Matcher {
    let op = match matcher.comparison {
        Comparison::Equal => Op::Equal,
        Comparison::NotEqual => Op::NotEqual,
        Comparison::Matches => Op::Regex,
        Comparison::MatchesNot => Op::NotRegex,
    };
    match matcher.pattern().cloned() {
        Some(pattern) => {
            matcher::Matcher::given(op, &matcher.name, &matcher.value, Arc::new(move |value| pattern.matches(value)))
        }
        None => matcher::Matcher::given(op, &matcher.name, &matcher.value, Arc::new(|_| false)),
    }
}

struct Reader {
    selection: select::Selection,
    next: usize,
    cursor: select::Cursor,
    columns: Columns,
}

impl Selection for Reader {
    fn next(&mut self, samples: &mut Samples) -> Result<Option<Labels>, StorageError> {
        while self.next < self.selection.len() {
            let at = self.next;
            self.next += 1;
            self.columns.clear();
            // The evaluator's empty columns lend their memory.
            std::mem::swap(&mut self.columns.times, &mut samples.times);
            std::mem::swap(&mut self.columns.values, &mut samples.floats);
            let read = self.selection.read(at, &mut self.cursor, &mut self.columns);
            std::mem::swap(&mut self.columns.times, &mut samples.times);
            std::mem::swap(&mut self.columns.values, &mut samples.floats);
            read?;
            for (time, histogram) in self.columns.histograms.drain(..) {
                samples.push_histogram(time, histogram.to_float());
            }
            if !samples.is_empty() {
                return Ok(Some(self.selection.labels(at).clone()));
            }
        }
        Ok(None)
    }
}
