//! What there is: names and values of labels, and how many series each has.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use hashbrown::HashMap;

use crate::{
    db::Db,
    error::Result,
    labels::{Labels, NAME},
    matcher::{self, Matcher},
    upkeep,
};

/// Something with a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What is counted.
    pub name: String,
    /// How many, or how much.
    pub value: u64,
}

/// What `/api/v1/status/tsdb` tells of the head; each list has the largest counts first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series in the head.
    pub series: usize,
    /// Pairs of a name and a value.
    pub pairs: usize,
    /// Chunks in segments and runs of samples in memory.
    pub chunks: usize,
    /// Time of the oldest sample of the head; `i64::MAX` where there is none.
    pub min: i64,
    /// Time of the newest sample of the head; `i64::MIN` where there is none.
    pub max: i64,
    /// Metrics by their series.
    pub series_by_metric: Vec<Count>,
    /// Label names by their values.
    pub values_by_name: Vec<Count>,
    /// Label names by the bytes of their values, counted for each series.
    pub bytes_by_name: Vec<Count>,
    /// Pairs, as `name=value`, by their series.
    pub series_by_pair: Vec<Count>,
}

/// How much there is of everything, for the program's own metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Series in the head.
    pub series: usize,
    /// Samples in memory.
    pub samples: u64,
    /// Exemplars.
    pub exemplars: usize,
    /// Segments.
    pub segments: usize,
    /// Blocks.
    pub blocks: usize,
    /// Bytes of the log, the list of series and segments.
    pub head_bytes: u64,
    /// Bytes of blocks.
    pub block_bytes: u64,
    /// Time of the oldest sample anywhere; `i64::MAX` where there is none.
    pub min: i64,
    /// Time of the newest sample anywhere; `i64::MIN` where there is none.
    pub max: i64,
}

/// What was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Times that it was looked whether something is due.
    pub triggered: u64,
    /// Blocks that were made, of the head or of others.
    pub compactions: u64,
    /// Rounds of that that failed.
    pub failed: u64,
    /// Series that the head got.
    pub series_created: u64,
    /// Series that it forgot.
    pub series_removed: u64,
}

/// A block, for those who list them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    /// Its name.
    pub ulid: String,
    /// Start of its range, milliseconds since 1970.
    pub min: i64,
    /// End of its range, not in it.
    pub max: i64,
    /// Samples in it.
    pub samples: u64,
    /// Series in it.
    pub series: u64,
    /// Chunks in it.
    pub chunks: u64,
    /// How often it was compacted, and once more.
    pub level: u32,
    /// Bytes on disk.
    pub size: u64,
}

fn largest(mut counts: Vec<Count>, limit: usize) -> Vec<Count> {
    counts.sort_by(|one, other| other.value.cmp(&one.value).then_with(|| one.name.cmp(&other.name)));
    counts.truncate(limit);
    counts
}

impl Db {
    /// How many series, labels and values the head has; `limit` entries in each list at most.
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let head = self.head();
        let catalog = &head.catalog;
        let span = head.span();
        let chunks = head.segments.iter().map(|segment| segment.slots().len()).sum::<usize>();
        let mut found = Cardinality {
            series: catalog.len(),
            chunks: chunks + catalog.live().filter(|slot| head.recent.has(*slot)).count(),
            min: span.min,
            max: span.max,
            ..Cardinality::default()
        };
        for name in catalog.names() {
            let (mut values, mut bytes) = (0, 0);
            for (value, series) in catalog.values(name) {
                let series = series.len() as u64;
                values += 1;
                bytes += series * value.len() as u64;
                if name == NAME {
                    found.series_by_metric.push(Count { name: value.to_owned(), value: series });
                }
                found.series_by_pair.push(Count { name: format!("{name}={value}"), value: series });
                // Millions of pairs are not collected to tell the ten largest.
                if found.series_by_pair.len() > 64 * limit.max(16) {
                    found.series_by_pair = largest(std::mem::take(&mut found.series_by_pair), limit);
                }
            }
            found.pairs += values as usize;
            found.values_by_name.push(Count { name: name.to_owned(), value: values });
            found.bytes_by_name.push(Count { name: name.to_owned(), value: bytes });
        }
        for list in [
            &mut found.series_by_metric,
            &mut found.values_by_name,
            &mut found.bytes_by_name,
            &mut found.series_by_pair,
        ] {
            *list = largest(std::mem::take(list), limit);
        }
        found
    }

    /// How much there is of everything.
    pub fn sizes(&self) -> Sizes {
        let shared = self.shared();
        let head_bytes = upkeep::head_bytes(shared);
        let blocks = shared.blocks();
        let head = self.head();
        let mut span = head.span();
        span.join(head.late_span());
        let frozen = head.frozen.as_ref().map_or(0, |frozen| frozen.samples);
        Sizes {
            series: head.catalog.len(),
            samples: head.recent.samples() + frozen,
            exemplars: head.exemplars.count(),
            segments: head.segments.len(),
            blocks: blocks.len(),
            head_bytes,
            block_bytes: blocks.iter().map(|block| block.size()).sum(),
            min: blocks.iter().map(|block| block.meta.min_time).min().unwrap_or(i64::MAX).min(span.min),
            max: blocks.iter().map(|block| block.meta.max_time - 1).max().unwrap_or(i64::MIN).max(span.max),
        }
    }

    /// What was done since the start.
    pub fn upkeep_done(&self) -> Upkeep {
        let done = &self.shared().done;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Upkeep {
            triggered: load(&done.triggered),
            compactions: load(&done.compactions),
            failed: load(&done.failed),
            series_created: load(&done.created),
            series_removed: load(&done.removed),
        }
    }

    /// All blocks in order of time.
    pub fn block_list(&self) -> Vec<BlockStatus> {
        let blocks = self.shared().blocks();
        let status = |block: &std::sync::Arc<crate::block::Block>| BlockStatus {
            ulid: block.meta.ulid.clone(),
            min: block.meta.min_time,
            max: block.meta.max_time,
            samples: block.meta.stats.num_samples,
            series: block.meta.stats.num_series,
            chunks: block.meta.stats.num_chunks,
            level: block.meta.compaction.level,
            size: block.size(),
        };
        blocks.iter().map(status).collect()
    }

    /// Names of labels, sorted, of the series that match and are of a part that has samples from `min` to `max`.
    pub fn label_names(&self, matchers: &[Matcher], min: i64, max: i64) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        self.each_labels(
            matchers,
            (min, max),
            |names_of| names.extend(names_of.iter().map(|name| (*name).to_owned())),
            None,
        )?;
        Ok(names.into_iter().collect())
    }

    /// Values of a label, sorted, of the series that match and are of a part that has samples from `min` to `max`.
    pub fn label_values(&self, name: &str, matchers: &[Matcher], min: i64, max: i64) -> Result<Vec<String>> {
        let mut values = BTreeSet::new();
        self.each_labels(
            matchers,
            (min, max),
            |values_of| values.extend(values_of.iter().map(|value| (*value).to_owned())),
            Some(name),
        )?;
        Ok(values.into_iter().collect())
    }

    /// Hands out the names of labels, or the values of one label, part by part.
    fn each_labels(
        &self,
        matchers: &[Matcher],
        (min, max): (i64, i64),
        mut take: impl FnMut(&[&str]),
        of: Option<&str>,
    ) -> Result<()> {
        let shared = self.shared();
        {
            let head = self.head();
            let (span, late) = (head.span(), head.late_span());
            let touched = |span: crate::recent::Span| !span.is_empty() && span.min <= max && span.max >= min;
            if touched(span) || touched(late) {
                let catalog = &head.catalog;
                match (of, matchers.is_empty()) {
                    (None, true) => take(&catalog.names()),
                    (Some(name), true) => take(&catalog.values(name).map(|value| value.0).collect::<Vec<_>>()),
                    (None, false) => {
                        let mut seen: HashMap<&str, (), foldhash::fast::RandomState> = HashMap::default();
                        for slot in matcher::find(catalog, matchers) {
                            seen.extend(catalog.pairs(slot).map(|(name, _)| (name, ())));
                        }
                        take(&seen.into_keys().collect::<Vec<_>>());
                    }
                    (Some(name), false) => {
                        // Values with any of the series: cheaper than the labels of each series.
                        let found = matcher::find(catalog, matchers);
                        let any = |series: &[u32]| series.iter().any(|slot| found.binary_search(slot).is_ok());
                        let values = catalog.values(name).filter(|value| any(value.1));
                        take(&values.map(|value| value.0).collect::<Vec<_>>());
                    }
                }
            }
        }
        for block in shared.blocks().iter() {
            if block.meta.min_time > max || block.meta.max_time <= min {
                continue;
            }
            shared.indexed.store(true, std::sync::atomic::Ordering::Relaxed);
            let index = block.index()?;
            if matchers.is_empty() {
                match of {
                    None => take(&index.names().collect::<Vec<_>>()),
                    Some(name) => take(&index.values(name).map(|value| value.0).collect::<Vec<_>>()),
                }
                continue;
            }
            for series in matcher::find(&*index, matchers) {
                let labels: Labels = index.labels(series)?;
                match of {
                    None => take(&labels.iter().map(|(name, _)| name).collect::<Vec<_>>()),
                    Some(name) => take(&labels.iter().filter(|pair| pair.0 == name).map(|p| p.1).collect::<Vec<_>>()),
                }
            }
        }
        Ok(())
    }
}
