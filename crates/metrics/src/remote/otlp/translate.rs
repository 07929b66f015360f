//! Points of OTLP as series of Prometheus.
//!
//! ```text
//! resource ─ job, instance, promoted attributes ┐
//! scope ──── otel_scope_* (if promoted) ────────┼─▶ labels of each point ─▶ floats, classic or native histograms
//! point ──── attributes ────────────────────────┘
//! resource ─ its other attributes ──────────────────▶ target_info, from its first point to its last
//! ```
//!
//! A small message can stand for much: attributes are repeated for each bucket. What all labels come to is bounded.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use tsdb::{
    Metadata,
    column::HistogramValue,
    histogram::{Buckets, CUSTOM_SCHEMA, Histogram, MAX_SCHEMA, MIN_SCHEMA, ResetHint, Span},
    labels::{Builder, Labels, NAME, quote},
    sample::{Exemplar, STALE_NAN},
};

use super::{
    message::{
        self, Any, Attributes, Data, Explicit, Exponential, Metric, Number, Point, Quantiles, Request, Temporality,
    },
    name::{self, LabelNames, Shape},
};
use crate::{
    config::storage::Otlp,
    query::millis,
    remote::message::{Series, Timed, Wrong},
};

/// Bytes of all labels of a request at most.
const LABEL_BYTES: usize = 128 << 20;
/// Series and samples of a request at most.
const SAMPLES: usize = 1 << 20;
/// Warnings that are kept.
const WARNINGS: usize = 100;
/// Characters of an exemplar's labels at most, after OpenMetrics.
const EXEMPLAR: usize = 128;
/// Half the width of the zero bucket.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Empty buckets that stand between two others before a new span is cheaper.
const GAP: i64 = 2;
/// Attributes that name a resource.
const IDENTITY: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];

/// How points are translated.
#[derive(Clone, Debug)]
pub struct Settings {
    suffixes: bool,
    utf8: bool,
    promote_all: bool,
    /// Attributes of resources that become labels; those that do not, if all others do.
    attributes: HashSet<String>,
    keep_identity: bool,
    custom_buckets: bool,
    promote_scope: bool,
    names: LabelNames,
    lookback: Duration,
    type_and_unit: bool,
    /// Whether points that count since the one before are kept as they are.
    delta: bool,
}

impl Settings {
    /// As it is configured; `lookback` is how far back queries look.
    pub fn new(otlp: &Otlp, lookback: Duration, type_and_unit: bool, delta: bool) -> Self {
        let (utf8, suffixes) = match otlp.translation_strategy.as_str() {
            "NoTranslation" => (true, false),
            "NoUTF8EscapingWithSuffixes" => (true, true),
            "UnderscoreEscapingWithoutSuffixes" => (false, false),
            _ => (false, true),
        };
        let attributes = match otlp.promote_all_resource_attributes {
            true => &otlp.ignore_resource_attributes,
            false => &otlp.promote_resource_attributes,
        };
        Self {
            suffixes,
            utf8,
            promote_all: otlp.promote_all_resource_attributes,
            attributes: attributes.iter().cloned().collect(),
            keep_identity: otlp.keep_identifying_resource_attributes,
            custom_buckets: otlp.convert_histograms_to_nhcb,
            promote_scope: otlp.promote_scope_metadata,
            names: LabelNames {
                utf8,
                keyed: otlp.label_name_underscore_sanitization,
                several: otlp.label_name_preserve_multiple_underscores,
            },
            lookback,
            type_and_unit,
            delta,
        }
    }

    fn promotes(&self, attribute: &str) -> bool {
        self.attributes.contains(attribute) != self.promote_all
    }
}

/// Something that was translated and is perhaps not what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What kind.
    pub category: &'static str,
    /// What it is.
    pub text: String,
}

/// What came of a translation beside series.
#[derive(Debug, Default)]
pub struct Done {
    /// What was perhaps not meant so.
    pub warnings: Vec<Warning>,
    /// What could not be translated.
    pub errors: Vec<String>,
}

/// Is handed the series.
pub type Take<'a> = &'a mut dyn FnMut(Series) -> Result<(), Wrong>;

/// Hands the series of a request out; an error of it says that it is too large.
pub fn translate(request: &Request, settings: &Settings, take: Take<'_>) -> Result<Done, Wrong> {
    let mut translator = Translator {
        settings,
        take,
        done: Done::default(),
        collided: BTreeSet::new(),
        told: HashSet::new(),
        bytes: LABEL_BYTES,
        samples: SAMPLES,
    };
    for resource in &request.resources {
        translator.resource(resource)?;
    }
    Ok(translator.done)
}

/// Labels that all points of a resource have.
#[derive(Debug, Default)]
struct Common {
    job: String,
    instance: String,
    promoted: Vec<(String, String)>,
    /// Those of the scope.
    scope: Vec<(String, String)>,
}

/// Why a metric ends early: it is wrong, or the request is too large.
enum Stop {
    Bad(String),
    Large(Wrong),
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Bad(text)
    }
}

impl From<Wrong> for Stop {
    fn from(wrong: Wrong) -> Self {
        Self::Large(wrong)
    }
}

struct Translator<'a> {
    settings: &'a Settings,
    take: Take<'a>,
    done: Done,
    /// Labels in which several attributes met.
    collided: BTreeSet<String>,
    /// Samples of `target_info` that were told.
    told: HashSet<(Labels, i64)>,
    bytes: usize,
    samples: usize,
}

/// A metric while its points are translated.
struct Current<'a> {
    name: String,
    about: Metadata,
    common: &'a Common,
}

/// A point while its series are made.
struct Of<'a> {
    base: Labels,
    point: &'a Point,
    about: &'a Metadata,
}

impl Translator<'_> {
    fn resource(&mut self, resource: &message::Resource) -> Result<(), Wrong> {
        let mut common = match self.common(&resource.attributes) {
            Ok(common) => common,
            Err(error) => {
                self.done.errors.push(error);
                return Ok(());
            }
        };
        let (mut first, mut last) = (u64::MAX, 0);
        for scope in &resource.scopes {
            common.scope = match self.scope(scope) {
                Ok(labels) => labels,
                Err(error) => {
                    self.done.errors.push(error);
                    continue;
                }
            };
            for metric in &scope.metrics {
                for time in times(metric) {
                    (first, last) = (first.min(time), last.max(time));
                }
                match self.metric(metric, &common) {
                    Ok(()) => {}
                    Err(Stop::Bad(text)) => self.done.errors.push(text),
                    Err(Stop::Large(wrong)) => return Err(wrong),
                }
            }
        }
        if first == u64::MAX {
            return Ok(());
        }
        common.scope.clear();
        match self.target_info(&resource.attributes, common, milliseconds(first), milliseconds(last)) {
            Ok(()) => Ok(()),
            Err(Stop::Bad(text)) => {
                self.done.errors.push(text);
                Ok(())
            }
            Err(Stop::Large(wrong)) => Err(wrong),
        }
    }

    fn common(&self, attributes: &Attributes) -> Result<Common, String> {
        let find = |name: &str| attributes.iter().find(|pair| pair.0 == name).map(|pair| text(&pair.1));
        let job = match (find("service.name"), find("service.namespace")) {
            (Some(name), Some(namespace)) => format!("{namespace}/{name}"),
            (Some(name), None) => name,
            (None, _) => String::new(),
        };
        let mut promoted: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in attributes.iter().filter(|pair| self.settings.promotes(&pair.0)) {
            promoted.insert(self.settings.names.name(name)?, text(value));
        }
        let promoted = promoted.into_iter().collect();
        Ok(Common { job, instance: find("service.instance.id").unwrap_or_default(), promoted, scope: Vec::new() })
    }

    fn scope(&self, scope: &message::Scope) -> Result<Vec<(String, String)>, String> {
        if !self.settings.promote_scope || scope.name.is_empty() {
            return Ok(Vec::new());
        }
        let mut labels = Vec::new();
        for (name, value) in &scope.attributes {
            labels.push((self.settings.names.name(&format!("otel_scope_{name}"))?, text(value)));
        }
        for (name, value) in [("name", &scope.name), ("version", &scope.version), ("schema_url", &scope.schema_url)] {
            labels.push((format!("otel_scope_{name}"), value.clone()));
        }
        Ok(labels)
    }

    fn warn(&mut self, category: &'static str, text: String) {
        if self.done.warnings.len() < WARNINGS {
            self.done.warnings.push(Warning { category, text });
        }
    }

    fn metric(&mut self, metric: &Metric, common: &Common) -> Result<(), Stop> {
        let Some(data) = &metric.data else {
            let name = &metric.name;
            let text =
                format!("could not get aggregation temporality for {name} as it has unsupported metric type Empty");
            return Err(Stop::Bad(text));
        };
        let temporality = match data {
            Data::Gauge(_) | Data::Summary(_) => Temporality::Cumulative,
            Data::Sum { temporality, .. }
            | Data::Histogram { temporality, .. }
            | Data::Exponential { temporality, .. } => *temporality,
        };
        let delta = temporality == Temporality::Delta;
        if temporality == Temporality::Unspecified || (delta && !self.settings.delta) {
            return Err(Stop::Bad(format!(
                "invalid temporality and type combination for metric {}",
                quote(&metric.name)
            )));
        }
        let (shape, kind) = match data {
            Data::Gauge(_) => (Shape::Gauge, "gauge"),
            Data::Sum { monotonic: true, .. } => (Shape::Counter, "counter"),
            Data::Sum { .. } => (Shape::Other, "gauge"),
            Data::Histogram { .. } | Data::Exponential { .. } => (Shape::Other, "histogram"),
            Data::Summary(_) => (Shape::Other, "summary"),
        };
        let about = Metadata {
            kind: if delta { "unknown" } else { kind }.to_owned(),
            help: metric.description.clone(),
            unit: name::unit(&metric.unit, false),
        };
        let named = name::metric(&metric.name, &metric.unit, shape, self.settings.suffixes, self.settings.utf8)?;
        let current = Current { name: named, about, common };
        let empty = match data {
            Data::Gauge(points) | Data::Sum { points, .. } => {
                let exemplars = !matches!(data, Data::Gauge(_));
                points.iter().try_for_each(|number| self.number(number, &current, exemplars))?;
                points.is_empty()
            }
            Data::Histogram { points, .. } if self.settings.custom_buckets => {
                points.iter().try_for_each(|point| self.custom(point, &current, delta))?;
                points.is_empty()
            }
            Data::Histogram { points, .. } => {
                points.iter().try_for_each(|point| self.classic(point, &current))?;
                points.is_empty()
            }
            Data::Exponential { points, .. } => {
                points.iter().try_for_each(|point| self.exponential(point, &current, delta))?;
                points.is_empty()
            }
            Data::Summary(points) => {
                points.iter().try_for_each(|point| self.summary(point, &current))?;
                points.is_empty()
            }
        };
        if empty {
            self.warn("empty_data_points", format!("empty data points. {} is dropped", metric.name));
        }
        Ok(())
    }

    /// Labels of a point but for the name of its metric.
    fn labels(
        &mut self,
        attributes: &Attributes,
        ignored: &[&str],
        common: &Common,
        about: Option<&Metadata>,
        of: &str,
    ) -> Result<Builder, String> {
        let mut sorted: Vec<(&str, String)> = attributes
            .iter()
            .filter(|pair| !ignored.contains(&pair.0.as_str()))
            .map(|(name, value)| (name.as_str(), text(value)))
            .collect();
        sorted.sort();
        let mut builder = Builder::default();
        for (name, value) in &sorted {
            if self.settings.utf8 {
                builder.set(name, value);
                continue;
            }
            let made = self.settings.names.name(name)?;
            match builder.get(&made) {
                "" => {
                    builder.set(&made, value);
                }
                before => {
                    let both = format!("{before};{value}");
                    builder.set(&made, &both);
                    self.collision(made, &sorted, of);
                }
            }
        }
        for (name, value) in &common.promoted {
            if builder.get(name).is_empty() {
                builder.set(name, value);
            }
        }
        for (name, value) in [("job", &common.job), ("instance", &common.instance)] {
            if !value.is_empty() {
                builder.set(name, value);
            }
        }
        for (name, value) in &common.scope {
            builder.set(name, value);
        }
        if let Some(about) = about.filter(|_| self.settings.type_and_unit) {
            if about.kind != "unknown" {
                builder.set("__type__", &about.kind);
            }
            if !about.unit.is_empty() {
                builder.set("__unit__", &name::unit(&about.unit, self.settings.utf8));
            }
        }
        Ok(builder)
    }

    fn collision(&mut self, label: String, sorted: &[(&str, String)], of: &str) {
        if !self.collided.insert(label.clone()) {
            return;
        }
        let names = self.settings.names;
        let met = sorted.iter().filter(|pair| names.name(pair.0).is_ok_and(|name| name == label));
        let met: Vec<String> = met.map(|pair| quote(pair.0)).collect();
        let text = format!(
            "OTLP {of} attributes {} collide as label {} after name sanitization, values are concatenated with ';'",
            met.join(", "),
            quote(&label)
        );
        self.warn("label_name_collision", text);
    }

    fn of_point(&mut self, point: &Point, current: &Current<'_>) -> Result<Labels, Stop> {
        let mut builder =
            self.labels(&point.attributes, &[NAME], current.common, Some(&current.about), "data point")?;
        Ok(builder.labels())
    }

    fn of<'p>(&mut self, point: &'p Point, current: &'p Current<'_>) -> Result<Of<'p>, Stop> {
        Ok(Of { base: self.of_point(point, current)?, point, about: &current.about })
    }

    /// Hands a series out, after what it takes was subtracted from what is left.
    fn give(&mut self, series: Series) -> Result<(), Stop> {
        let bytes = series.labels.as_ref().map_or(0, Labels::size);
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Wrong::Large("labels of a request are too long"))?;
        self.samples = self.samples.checked_sub(1).ok_or(Wrong::Large("a request has too many samples"))?;
        Ok((self.take)(series)?)
    }

    fn float(
        &mut self,
        of: &Of<'_>,
        name: &str,
        extra: Option<(&str, &str)>,
        value: f64,
        exemplars: Vec<Exemplar>,
    ) -> Result<(), Stop> {
        let mut builder = Builder::new(&of.base);
        builder.set(NAME, name);
        if let Some((name, value)) = extra {
            builder.set(name, value);
        }
        let value = if is_empty(of.point) { STALE_NAN } else { value };
        let (time, start) = (milliseconds(of.point.time), milliseconds(of.point.start));
        self.give(Series {
            labels: Ok(builder.labels()),
            floats: vec![Timed { time, value, start }],
            exemplars: exemplars.into_iter().map(Ok).collect(),
            metadata: Some(Ok(of.about.clone())),
            ..Series::default()
        })
    }

    fn number(&mut self, number: &Number, current: &Current<'_>, with_exemplars: bool) -> Result<(), Stop> {
        let of = self.of(&number.point, current)?;
        let found = if with_exemplars { exemplars(&number.point)? } else { Vec::new() };
        self.float(&of, &current.name, None, number.value, found)
    }

    fn classic(&mut self, histogram: &Explicit, current: &Current<'_>) -> Result<(), Stop> {
        let Explicit { point, count, sum, counts, bounds } = histogram;
        let of = self.of(point, current)?;
        let named = |suffix: &str| format!("{}{suffix}", current.name);
        if let Some(sum) = sum {
            self.float(&of, &named("_sum"), None, *sum, Vec::new())?;
        }
        self.float(&of, &named("_count"), None, *count as f64, Vec::new())?;
        let mut examples = exemplars(point)?.into_iter().peekable();
        let (bucket, mut sum) = (named("_bucket"), 0u64);
        for (bound, count) in bounds.iter().zip(counts) {
            sum = sum.wrapping_add(*count);
            let mut within = Vec::new();
            while let Some(example) = examples.next_if(|example| example.value <= *bound) {
                within.push(example);
            }
            let le = Some(("le", decimal(*bound)));
            let le = le.as_ref().map(|(name, value)| (*name, value.as_str()));
            self.float(&of, &bucket, le, sum as f64, within)?;
        }
        self.float(&of, &bucket, Some(("le", "+Inf")), *count as f64, examples.collect())
    }

    fn summary(&mut self, summary: &Quantiles, current: &Current<'_>) -> Result<(), Stop> {
        let Quantiles { point, count, sum, values } = summary;
        let of = self.of(point, current)?;
        let named = |suffix: &str| format!("{}{suffix}", current.name);
        self.float(&of, &named("_sum"), None, *sum, Vec::new())?;
        self.float(&of, &named("_count"), None, *count as f64, Vec::new())?;
        for (quantile, value) in values {
            let quantile = decimal(*quantile);
            let label = Some(("quantile", quantile.as_str()));
            self.float(&of, &current.name, label, *value, Vec::new())?;
        }
        Ok(())
    }

    fn exponential(&mut self, point: &Exponential, current: &Current<'_>, delta: bool) -> Result<(), Stop> {
        if point.scale < MIN_SCHEMA {
            return Err(Stop::Bad(format!(
                "cannot convert exponential to native histogram. Scale must be >= {MIN_SCHEMA}, was {}",
                point.scale
            )));
        }
        let down = point.scale.saturating_sub(MAX_SCHEMA).max(0) as u32;
        let side = |side: &message::Buckets| sparse(&side.counts, i64::from(side.offset), down, true);
        let histogram = Histogram {
            schema: point.scale.min(MAX_SCHEMA),
            zero_threshold: ZERO_THRESHOLD,
            zero_count: point.zero_count,
            positive: side(&point.positive)?,
            negative: side(&point.negative)?,
            ..Histogram::default()
        };
        self.native(histogram, &point.point, point.count, point.sum, current, delta, "exponential histogram")
    }

    fn custom(&mut self, point: &Explicit, current: &Current<'_>, delta: bool) -> Result<(), Stop> {
        let empty = point.counts.iter().take_while(|count| **count == 0).count();
        let histogram = Histogram {
            schema: CUSTOM_SCHEMA,
            positive: sparse(&point.counts[empty..], empty as i64, 0, false)?,
            custom: point.bounds.as_slice().into(),
            ..Histogram::default()
        };
        self.native(histogram, &point.point, point.count, point.sum, current, delta, "histogram")
    }

    #[expect(clippy::too_many_arguments, reason = "what two kinds of histograms have in common")]
    fn native(
        &mut self,
        mut histogram: Histogram,
        point: &Point,
        count: u64,
        sum: Option<f64>,
        current: &Current<'_>,
        delta: bool,
        what: &str,
    ) -> Result<(), Stop> {
        if delta {
            histogram.reset = ResetHint::Gauge;
        }
        if is_empty(point) {
            histogram.sum = STALE_NAN;
        } else {
            histogram.sum = sum.unwrap_or(0.0);
            histogram.count = count;
            if count == 0 && histogram.sum != 0.0 {
                let text = format!("{what} data point has zero count, but non-zero sum: {:.6}", histogram.sum);
                self.warn("histogram_zero_count_nonzero_sum", text);
            }
        }
        let base = self.of_point(point, current)?;
        let (time, start) = (milliseconds(point.time), milliseconds(point.start));
        let found = exemplars(point)?;
        self.give(Series {
            labels: Ok(Builder::new(&base).set(NAME, &current.name).labels()),
            histograms: vec![Timed { time, value: HistogramValue::Integer(histogram.into()), start }],
            exemplars: found.into_iter().map(Ok).collect(),
            metadata: Some(Ok(current.about.clone())),
            ..Series::default()
        })
    }

    /// What is known of a resource, from its first point to its last, close enough for queries to find it in between.
    fn target_info(&mut self, attributes: &Attributes, mut common: Common, first: i64, last: i64) -> Result<(), Stop> {
        if attributes.iter().all(|pair| IDENTITY.contains(&pair.0.as_str())) {
            return Ok(());
        }
        common.promoted.clear();
        let ignored: &[&str] = if self.settings.keep_identity { &[] } else { &IDENTITY };
        let mut builder = self.labels(attributes, ignored, &common, None, "resource")?;
        let labels = builder.set(NAME, "target_info").labels();
        if !labels.has("job") && !labels.has("instance") {
            return Ok(());
        }
        let about = Metadata { kind: "gauge".to_owned(), help: "Target metadata".to_owned(), unit: String::new() };
        let lookback = if self.settings.lookback.is_zero() { Duration::from_mins(5) } else { self.settings.lookback };
        let step = (millis(lookback) / 2).max(1);
        let mut times: Vec<i64> = Vec::new();
        let mut time = first;
        while time < last {
            if times.len() == self.samples {
                return Err(Stop::Large(Wrong::Large("points of a resource are too far apart")));
            }
            times.push(time);
            time = time.saturating_add(step);
        }
        times.push(last);
        times.retain(|time| self.told.insert((labels.clone(), *time)));
        self.samples = self.samples.saturating_sub(times.len());
        if times.is_empty() {
            return Ok(());
        }
        self.give(Series {
            labels: Ok(labels),
            floats: times.into_iter().map(|time| Timed { time, value: 1.0, start: 0 }).collect(),
            metadata: Some(Ok(about)),
            ..Series::default()
        })
    }
}

/// When points of a metric were made.
fn times(metric: &Metric) -> Vec<u64> {
    match &metric.data {
        None => Vec::new(),
        Some(Data::Gauge(points) | Data::Sum { points, .. }) => points.iter().map(|point| point.point.time).collect(),
        Some(Data::Histogram { points, .. }) => points.iter().map(|point| point.point.time).collect(),
        Some(Data::Exponential { points, .. }) => points.iter().map(|point| point.point.time).collect(),
        Some(Data::Summary(points)) => points.iter().map(|point| point.point.time).collect(),
    }
}

fn milliseconds(nanoseconds: u64) -> i64 {
    nanoseconds as i64 / 1_000_000
}

/// Whether a point says that there is no value.
fn is_empty(point: &Point) -> bool {
    point.flags & 1 == 1
}

/// A float without exponent, as Go's `FormatFloat(.., 'f', -1, 64)` writes it.
fn decimal(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

fn exemplars(point: &Point) -> Result<Vec<Exemplar>, String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut found = Vec::with_capacity(point.exemplars.len());
    for exemplar in &point.exemplars {
        let value = exemplar.value.ok_or("unsupported exemplar value type: Empty")?;
        let mut builder = Builder::default();
        for (name, id) in [("trace_id", &exemplar.trace), ("span_id", &exemplar.span)] {
            if id.iter().any(|byte| *byte != 0) {
                builder.set(name, &hex(id));
            }
        }
        let count = |name: &str, value: &str| name.chars().count() + value.chars().count();
        let own: Vec<(&str, String)> =
            exemplar.attributes.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        let length: usize = builder.labels().iter().map(|(name, value)| count(name, value)).sum::<usize>()
            + own.iter().map(|(name, value)| count(name, value)).sum::<usize>();
        if length <= EXEMPLAR {
            for (name, value) in &own {
                builder.set(name, value);
            }
        }
        let time = milliseconds(exemplar.time);
        found.push(Exemplar {
            labels: builder.labels(),
            value,
            timestamp: Some(if time == 0 { milliseconds(point.time) } else { time }),
        });
    }
    Ok(found)
}

/// Dense buckets as spans and deltas; `2^down` of them become one. Indexes of an exponential scale are one less than
/// Prometheus', whose buckets are named by their upper bounds.
fn sparse(counts: &[u64], offset: i64, down: u32, exponential: bool) -> Result<Buckets<i64>, String> {
    let down = down.min(63);
    let index = |nth: usize| ((nth as i64 + offset) >> down) + 1;
    let place = |index: i64| i32::try_from(index).map_err(|_| "bucket index is out of range".to_owned());
    let mut buckets = Buckets { spans: Vec::new(), values: Vec::new() };
    let Some(last) = counts.len().checked_sub(1) else { return Ok(buckets) };
    let begin = if exponential { index(0) } else { offset };
    buckets.spans.push(Span { offset: place(begin)?, length: 0 });
    let mut before = 0i64;
    let mut push = |buckets: &mut Buckets<i64>, count: i64| {
        if let Some(span) = buckets.spans.last_mut() {
            span.length += 1;
        }
        buckets.values.push(count.wrapping_sub(before));
        before = count;
    };
    let gap = |buckets: &mut Buckets<i64>, wide: i64, push: &mut dyn FnMut(&mut Buckets<i64>, i64)| {
        if wide > GAP {
            buckets.spans.push(Span { offset: place(wide)?, length: 0 });
        } else {
            (0..wide).for_each(|_| push(buckets, 0));
        }
        Ok::<(), String>(())
    };
    let (mut at, mut sum) = (index(0), 0i64);
    for (nth, count) in counts.iter().enumerate() {
        let next = index(nth);
        if at == next {
            sum = sum.wrapping_add(*count as i64);
            continue;
        }
        if sum == 0 {
            sum = *count as i64;
            continue;
        }
        gap(&mut buckets, next - at - 1, &mut push)?;
        push(&mut buckets, sum);
        (sum, at) = (*count as i64, next);
    }
    gap(&mut buckets, index(last) - at, &mut push)?;
    push(&mut buckets, sum);
    Ok(buckets)
}

/// The value of an attribute as a label has it.
pub fn text(value: &Any) -> String {
    match value {
        Any::Empty => String::new(),
        Any::Text(text) => text.clone(),
        Any::Bool(value) => value.to_string(),
        Any::Int(value) => value.to_string(),
        Any::Float(value) if value.is_finite() => number(*value),
        Any::Float(value) => {
            let shown = if value.is_nan() { "NaN".to_owned() } else { decimal(*value) };
            format!("json: unsupported value: {shown}")
        }
        Any::Bytes(bytes) => base64(bytes),
        Any::List(_) | Any::Map(_) => {
            let mut out = String::new();
            // What JSON cannot say makes an empty text, as there.
            if json(value, &mut out).is_none() {
                out.clear();
            }
            out
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

/// A finite float as JSON of Go writes it.
fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    if text.contains("e-") { text } else { text.replacen('e', "e+", 1) }
}

/// A value as JSON; none if it cannot be.
fn json(value: &Any, out: &mut String) -> Option<()> {
    match value {
        Any::Empty => out.push_str("null"),
        Any::Text(text) => quoted(text, out),
        Any::Bool(_) | Any::Int(_) => out.push_str(&text(value)),
        Any::Float(value) if value.is_finite() => out.push_str(&number(*value)),
        Any::Float(_) => return None,
        Any::Bytes(bytes) => quoted(&base64(bytes), out),
        Any::List(values) => {
            out.push('[');
            for (nth, value) in values.iter().enumerate() {
                if nth > 0 {
                    out.push(',');
                }
                json(value, out)?;
            }
            out.push(']');
        }
        Any::Map(pairs) => {
            out.push('{');
            // The last of a name counts.
            let sorted: BTreeMap<&String, &Any> = pairs.iter().map(|(name, value)| (name, value)).collect();
            for (nth, (name, value)) in sorted.into_iter().enumerate() {
                if nth > 0 {
                    out.push(',');
                }
                quoted(name, out);
                out.push(':');
                json(value, out)?;
            }
            out.push('}');
        }
    }
    Some(())
}

fn quoted(text: &str, out: &mut String) {
    let json = serde_json::Value::from(text).to_string();
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
