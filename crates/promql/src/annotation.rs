//! What a query's answer is to be taken with: warnings and infos, in Prometheus' words.

use std::fmt;

use tsdb::labels::quote;

use crate::{calendar, number::short, position::Place};

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// The answer is likely to be wrong.
    Warning,
    /// The answer may surprise.
    Info,
}

/// An operation on histograms that a note speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// One note. Notes with the same text are one.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    level: Level,
    text: String,
    place: Option<Place>,
    detail: Detail,
}

#[derive(Clone, Debug, PartialEq)]
enum Detail {
    None,
    /// Buckets that had to be made to ascend: over which time, between which bounds, by how much, how often.
    Monotonicity {
        times: (i64, i64),
        bounds: (f64, f64),
        difference: f64,
        count: u64,
    },
    /// How often start times overlapped.
    Overlaps(u64),
}

impl Note {
    fn warning(text: impl fmt::Display, place: Place) -> Self {
        Self {
            level: Level::Warning,
            text: format!("PromQL warning: {text}"),
            place: Some(place),
            detail: Detail::None,
        }
    }

    fn info(text: impl fmt::Display, place: Place) -> Self {
        Self { level: Level::Info, text: format!("PromQL info: {text}"), place: Some(place), detail: Detail::None }
    }

    /// What storage warns of.
    pub(crate) fn storage(text: String) -> Self {
        Self { level: Level::Warning, text, place: None, detail: Detail::None }
    }

    pub(crate) fn invalid_ratio(value: f64, cap: f64, place: Place) -> Self {
        let text = format!("ratio value should be between -1 and 1, got {}, capping to {}", short(value), short(cap));
        Self::warning(text, place)
    }

    pub(crate) fn invalid_quantile(value: f64, place: Place) -> Self {
        Self::warning(format!("quantile value should be between 0 and 1, got {}", short(value)), place)
    }

    pub(crate) fn bad_bucket(metric: &str, label: &str, place: Place) -> Self {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", quote(label));
        Self::warning(format!("{text}{}", for_metric(metric)), place)
    }

    pub(crate) fn mixed_floats_histograms(metric: &str, place: Place) -> Self {
        Self::warning(format!("encountered a mix of histograms and floats for metric name {}", quote(metric)), place)
    }

    pub(crate) fn mixed_in_aggregation(place: Place) -> Self {
        Self::warning("encountered a mix of histograms and floats for aggregation", place)
    }

    pub(crate) fn mixed_classic_native(metric: &str, place: Place) -> Self {
        Self::warning(format!("vector contains a mix of classic and native histograms{}", for_metric(metric)), place)
    }

    pub(crate) fn not_counter(metric: &str, place: Place) -> Self {
        Self::warning(format!("this native histogram metric is not a counter: {}", quote(metric)), place)
    }

    pub(crate) fn not_gauge(metric: &str, place: Place) -> Self {
        Self::warning(format!("this native histogram metric is not a gauge: {}", quote(metric)), place)
    }

    pub(crate) fn mixed_schemas(metric: &str, place: Place) -> Self {
        let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        Self::warning(format!("{text} {}", quote(metric)), place)
    }

    pub(crate) fn incompatible_buckets(operator: &str, place: Place) -> Self {
        Self::warning(format!("incompatible bucket layout encountered for binary operator {operator}"), place)
    }

    pub(crate) fn sort_in_range(place: Place) -> Self {
        Self::warning("sort is ineffective for range queries since results are always ordered by labels", place)
    }

    pub(crate) fn resets_collide(operation: Operation, place: Place) -> Self {
        Self::warning(format!("conflicting counter resets during histogram {}", operation.name()), place)
    }

    pub(crate) fn start_overlap(metric: &str, place: Place) -> Self {
        let text = "sample has start time that overlaps with previous sample timestamp for metric";
        Self { detail: Detail::Overlaps(1), ..Self::warning(format!("{text} {}", quote(metric)), place) }
    }

    pub(crate) fn maybe_no_counter(metric: &str, place: Place) -> Self {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        Self::info(format!("{text} {}", quote(metric)), place)
    }

    pub(crate) fn maybe_no_counter_type(metric: &str, kind: &str, place: Place) -> Self {
        let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\"";
        Self::info(format!("{text}, got {}: {}", quote(kind), quote(metric)), place)
    }

    pub(crate) fn forced_monotonicity(
        metric: &str,
        place: Place,
        time: i64,
        bounds: (f64, f64),
        difference: f64,
    ) -> Self {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        let detail = Detail::Monotonicity { times: (time, time), bounds, difference, count: 1 };
        Self { detail, ..Self::info(format!("{text}{}", for_metric(metric)), place) }
    }

    pub(crate) fn incompatible_types(left: &str, operator: &str, right: &str, place: Place) -> Self {
        let operator_quoted = quote(operator);
        let text = "incompatible sample types encountered for binary operator";
        Self::info(format!("{text} {operator_quoted}: {left} {operator} {right}"), place)
    }

    pub(crate) fn ignored_in_aggregation(aggregation: &str, place: Place) -> Self {
        Self::info(format!("ignored histogram in {aggregation} aggregation"), place)
    }

    pub(crate) fn ignored_in_range(metric: &str, place: Place) -> Self {
        let text = "ignored histograms in a range containing both floats and histograms for metric name";
        Self::info(format!("{text} {}", quote(metric)), place)
    }

    pub(crate) fn quantile_nan(metric: &str, place: Place) -> Self {
        let text = "input to histogram_quantile has NaN observations, result is NaN";
        Self::info(format!("{text}{}", for_metric(metric)), place)
    }

    pub(crate) fn quantile_skewed(metric: &str, place: Place) -> Self {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher";
        Self::info(format!("{text}{}", for_metric(metric)), place)
    }

    pub(crate) fn fraction_nan(metric: &str, place: Place) -> Self {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        Self::info(format!("{text}{}", for_metric(metric)), place)
    }

    pub(crate) fn bounds_reconciled(operation: Operation, place: Place) -> Self {
        Self::info(format!("mismatched custom buckets were reconciled during {}", operation.name()), place)
    }

    /// How much it matters.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The note with its place in the query.
    pub fn in_query(&self, query: &str) -> String {
        let place = self.place.map_or(String::new(), |place| format!(" ({})", place.in_query(query)));
        match &self.detail {
            Detail::Monotonicity { times, bounds, difference, count } => {
                let (from, to) = (calendar::rfc3339(times.0 / 1000), calendar::rfc3339(times.1 / 1000));
                format!(
                    "{}, from buckets {} to {}, with a max diff of {}, over {count} samples from {from} to {to}{place}",
                    self.text,
                    short(bounds.0),
                    short(bounds.1),
                    two_digits(*difference)
                )
            }
            Detail::Overlaps(count) if *count > 1 => format!("{} ({count} occurrences){place}", self.text),
            Detail::Overlaps(_) | Detail::None => format!("{}{place}", self.text),
        }
    }
}

fn for_metric(metric: &str) -> String {
    if metric.is_empty() { String::new() } else { format!(" for metric name {}", quote(metric)) }
}

/// Two significant digits, as `%.2g` gives them.
fn two_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return short(value);
    }
    let rounded = format!("{value:.1e}");
    let exponent: i32 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let value: f64 = rounded.parse().unwrap_or(value);
    if (-4..2).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    let digits = rounded.split('e').next().unwrap_or_default().trim_end_matches(".0");
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// The notes of a query, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes(Vec<Note>);

impl Notes {
    pub(crate) fn add(&mut self, mut note: Note) {
        let Some(known) = self.0.iter_mut().find(|known| known.text == note.text) else {
            self.0.push(note);
            return;
        };
        match (&known.detail, &mut note.detail) {
            (
                Detail::Monotonicity { times, bounds, difference, count },
                Detail::Monotonicity { times: new_times, bounds: new_bounds, difference: most, count: total },
            ) => {
                *new_times = (new_times.0.min(times.0), new_times.1.max(times.1));
                *new_bounds = (new_bounds.0.min(bounds.0), new_bounds.1.max(bounds.1));
                *most = most.max(*difference);
                *total += count;
            }
            (Detail::Overlaps(count), Detail::Overlaps(total)) => *total += count,
            _ => {}
        }
        *known = note;
    }

    /// All notes, in the order in which they were first made.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.0.iter()
    }

    /// Warnings and infos as the HTTP API gives them, at most so many of each.
    pub fn texts(&self, query: &str, most: usize) -> (Vec<String>, Vec<String>) {
        let of = |level: Level, name: &str| {
            let notes = self.0.iter().filter(|note| note.level == level);
            let mut texts: Vec<String> = notes.clone().take(most).map(|note| note.in_query(query)).collect();
            let omitted = notes.count().saturating_sub(most);
            if omitted > 0 {
                texts.push(format!("{omitted} more {name} annotations omitted"));
            }
            texts
        };
        (of(Level::Warning, "warning"), of(Level::Info, "info"))
    }
}
