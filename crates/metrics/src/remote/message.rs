//! Requests of remote write, versions 1 and 2, read series by series.
//!
//! Version 2 writes strings once, in a table, and refers to them: a small request can stand for very long labels. How much
//! labels may come to is bounded for the whole request.

use tsdb::{
    Metadata,
    column::HistogramValue,
    histogram::{Buckets, FloatHistogram, Histogram, ResetHint, Span},
    labels::Labels,
    sample::Exemplar,
};

use crate::proto::{Field, Reader, Torn, Writer};

/// Bytes of all labels of a request at most.
const LABEL_BYTES: usize = 128 << 20;
/// Bytes of the labels of a series at most.
const SERIES_BYTES: usize = 1 << 20;
/// Strings in the table of a request at most.
const SYMBOLS: usize = 1 << 20;
/// Samples of a request at most.
const SAMPLES: usize = 1 << 20;

/// Why a request cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It is not the message that it should be.
    #[error("proto: {0}")]
    Torn(#[from] Torn),
    /// It stands for more than is taken at once.
    #[error("{0}; send less at once")]
    Large(&'static str),
}

/// A sample with the time of its counter's beginning, 0 where that is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed<T> {
    /// Milliseconds since 1970.
    pub time: i64,
    /// The value.
    pub value: T,
    /// Milliseconds since 1970.
    pub start: i64,
}

/// A series of a request.
#[derive(Debug)]
pub struct Series {
    /// Its labels, or why there are none.
    pub labels: Result<Labels, String>,
    /// Floats.
    pub floats: Vec<Timed<f64>>,
    /// Histograms.
    pub histograms: Vec<Timed<HistogramValue>>,
    /// Exemplars, or why one cannot be read.
    pub exemplars: Vec<Result<Exemplar, String>>,
    /// What the metric is.
    pub metadata: Option<Result<Metadata, String>>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            labels: Ok(Labels::empty()),
            floats: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            metadata: None,
        }
    }
}

/// What a request may still stand for.
struct Allowance {
    labels: usize,
    samples: usize,
}

impl Allowance {
    fn new() -> Self {
        Self { labels: LABEL_BYTES, samples: SAMPLES }
    }

    fn sample(&mut self) -> Result<(), Wrong> {
        self.samples = self.samples.checked_sub(1).ok_or(Wrong::Large("a request has too many samples"))?;
        Ok(())
    }

    fn label(&mut self, series: &mut usize, bytes: usize) -> Result<(), Wrong> {
        *series += bytes;
        if *series > SERIES_BYTES {
            return Err(Wrong::Large("labels of a series are too long"));
        }
        self.labels = self.labels.checked_sub(bytes).ok_or(Wrong::Large("labels of a request are too long"))?;
        Ok(())
    }
}

/// Labels of pairs in any order, of which empty ones say nothing; an error names what is wrong.
fn labels(mut pairs: Vec<(&str, &str)>) -> Result<Labels, String> {
    pairs.retain(|pair| !pair.1.is_empty());
    pairs.sort_unstable();
    let shown = || Labels::from_pairs(pairs.iter().copied()).to_string();
    let named = pairs.iter().any(|pair| pair.0 == tsdb::labels::NAME);
    if !named || pairs.iter().any(|pair| pair.0.is_empty()) {
        return Err(format!("invalid metric name or labels, got {}", shown()));
    }
    if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(format!("invalid labels for series, labels {}, duplicated label {}", shown(), twice[0].0));
    }
    Ok(Labels::from_sorted(pairs))
}

/// Reads a request of version 1 and hands out its series.
pub fn each_v1(bytes: &[u8], mut take: impl FnMut(Series) -> Result<(), Wrong>) -> Result<(), Wrong> {
    let mut allowance = Allowance::new();
    let mut request = Reader(bytes);
    while let Some((number, field)) = request.field()? {
        // Metadata (3) is of families, not of series.
        if number == 1 {
            take(series_v1(field.bytes()?, &mut allowance)?)?;
        }
    }
    Ok(())
}

/// A label.
pub fn pair(bytes: &[u8]) -> Result<(&str, &str), Torn> {
    let (mut name, mut value) = ("", "");
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

fn series_v1(bytes: &[u8], allowance: &mut Allowance) -> Result<Series, Wrong> {
    let mut series = Series::default();
    let (mut pairs, mut long) = (Vec::new(), 0);
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => {
                let pair = pair(field.bytes()?)?;
                allowance.label(&mut long, pair.0.len() + pair.1.len() + 2)?;
                pairs.push(pair);
            }
            2 => {
                allowance.sample()?;
                series.floats.push(float(field.bytes()?)?);
            }
            3 => {
                allowance.sample()?;
                series.exemplars.push(Ok(exemplar_v1(field.bytes()?)?));
            }
            4 => {
                allowance.sample()?;
                series.histograms.push(histogram(small(field)?)?);
            }
            _ => {}
        }
    }
    series.labels = labels(pairs);
    Ok(series)
}

/// A float with its time; both versions write it alike.
pub fn float(bytes: &[u8]) -> Result<Timed<f64>, Torn> {
    let mut sample = Timed { time: 0, value: 0.0, start: 0 };
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => sample.value = field.double()?,
            2 => sample.time = field.varint()? as i64,
            3 => sample.start = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(sample)
}

fn exemplar_v1(bytes: &[u8]) -> Result<Exemplar, Torn> {
    let mut pairs = Vec::new();
    let (mut value, mut time) = (0.0, 0);
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => pairs.push(pair(field.bytes()?)?),
            2 => value = field.double()?,
            3 => time = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(Exemplar { labels: Labels::from_pairs(pairs), value, timestamp: Some(time) })
}

/// Reads a request of version 2 and hands out its series.
pub fn each_v2(bytes: &[u8], mut take: impl FnMut(Series) -> Result<(), Wrong>) -> Result<(), Wrong> {
    let mut symbols = Vec::new();
    let mut request = Reader(bytes);
    while let Some((number, field)) = request.field()? {
        if number == 4 {
            if symbols.len() == SYMBOLS {
                return Err(Wrong::Large("a request has too many symbols"));
            }
            symbols.push(field.text()?);
        }
    }
    let mut allowance = Allowance::new();
    let mut request = Reader(bytes);
    while let Some((number, field)) = request.field()? {
        if number == 5 {
            take(series_v2(field.bytes()?, &symbols, &mut allowance)?)?;
        }
    }
    Ok(())
}

/// The bytes of a field that is not larger than any sound one.
fn small(field: Field<'_>) -> Result<&[u8], Wrong> {
    match field {
        Field::Bytes(bytes) if bytes.len() > SERIES_BYTES => Err(Wrong::Large("a series has too many parts")),
        Field::Bytes(bytes) => Ok(bytes),
        _ => Ok(&[]),
    }
}

/// Pairs that references name; the inner error says which do not.
fn referred<'a>(
    field: Field<'_>,
    symbols: &[&'a str],
    pairs: &mut Vec<(&'a str, &'a str)>,
    allowance: &mut Allowance,
) -> Result<Result<(), String>, Wrong> {
    let mut refs = Vec::new();
    small(field)?;
    field.varints(|value| refs.push(value))?;
    if !refs.len().is_multiple_of(2) {
        return Ok(Err(format!("invalid labelRefs length {}", refs.len())));
    }
    let mut long = 0;
    let (twos, _) = refs.as_chunks::<2>();
    for [name, value] in twos {
        let find = |at: u64| usize::try_from(at).ok().and_then(|at| symbols.get(at)).copied();
        let (Some(named), Some(valued)) = (find(*name), find(*value)) else {
            return Ok(Err(format!(
                "labelRefs {name} (name) and {value} (value) outside of symbols table (size {})",
                symbols.len()
            )));
        };
        allowance.label(&mut long, named.len() + valued.len() + 2)?;
        pairs.push((named, valued));
    }
    Ok(Ok(()))
}

fn series_v2(bytes: &[u8], symbols: &[&str], allowance: &mut Allowance) -> Result<Series, Wrong> {
    let mut series = Series::default();
    let (mut pairs, mut wrong) = (Vec::new(), None);
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => wrong = wrong.or(referred(field, symbols, &mut pairs, allowance)?.err()),
            2 => {
                allowance.sample()?;
                series.floats.push(float(field.bytes()?)?);
            }
            3 => {
                allowance.sample()?;
                series.histograms.push(histogram(small(field)?)?);
            }
            4 => {
                allowance.sample()?;
                series.exemplars.push(exemplar_v2(field.bytes()?, symbols, allowance)?);
            }
            5 => series.metadata = Some(metadata(field.bytes()?, symbols)?),
            _ => {}
        }
    }
    series.labels = match wrong {
        Some(wrong) => Err(format!("parsing labels for series: {wrong}")),
        None => labels(pairs),
    };
    Ok(series)
}

fn exemplar_v2(bytes: &[u8], symbols: &[&str], allowance: &mut Allowance) -> Result<Result<Exemplar, String>, Wrong> {
    let (mut pairs, mut wrong) = (Vec::new(), None);
    let (mut value, mut time) = (0.0, 0);
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => wrong = wrong.or(referred(field, symbols, &mut pairs, allowance)?.err()),
            2 => value = field.double()?,
            3 => time = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(match wrong {
        Some(wrong) => Err(wrong),
        None => Ok(Exemplar { labels: Labels::from_pairs(pairs), value, timestamp: Some(time) }),
    })
}

/// Names of types of metrics, in the order of their numbers.
pub const KINDS: [&str; 8] =
    ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

fn metadata(bytes: &[u8], symbols: &[&str]) -> Result<Result<Metadata, String>, Torn> {
    let (mut kind, mut help, mut unit) = (0, 0, 0);
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => kind = field.varint()?,
            3 => help = field.varint()?,
            4 => unit = field.varint()?,
            _ => {}
        }
    }
    let find = |at: u64| usize::try_from(at).ok().and_then(|at| symbols.get(at)).copied();
    let Some((help, unit)) = find(help).zip(find(unit)) else {
        let size = symbols.len();
        return Ok(Err(format!(
            "help reference {help} or unit reference {unit} outside of symbols table (size {size})"
        )));
    };
    let kind = usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind)).copied().unwrap_or("unknown");
    Ok(Ok(Metadata { kind: kind.to_owned(), help: help.to_owned(), unit: unit.to_owned() }))
}

#[derive(Default)]
struct Side<N> {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<N>,
}

impl Side<f64> {
    fn span(&mut self, bytes: &[u8]) -> Result<(), Torn> {
        let mut span = Span::default();
        let mut reader = Reader(bytes);
        while let Some((number, field)) = reader.field()? {
            match number {
                1 => span.offset = field.sint()? as i32,
                2 => span.length = field.varint()? as u32,
                _ => {}
            }
        }
        self.spans.push(span);
        Ok(())
    }

    fn whole(self) -> Buckets<i64> {
        Buckets { spans: self.spans, values: self.deltas }
    }

    fn floats(self) -> Buckets<f64> {
        Buckets { spans: self.spans, values: self.counts }
    }
}

/// A histogram; both versions write it alike.
pub fn histogram(bytes: &[u8]) -> Result<Timed<HistogramValue>, Torn> {
    let (mut time, mut start) = (0, 0);
    let (mut schema, mut sum, mut threshold) = (0, 0.0, 0.0);
    let (mut count, mut float_count) = (0, None);
    let (mut zeros, mut float_zeros) = (0, 0.0);
    let (mut negative, mut positive) = (Side::default(), Side::default());
    let mut reset = ResetHint::Unknown;
    let mut custom = Vec::new();
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => (count, float_count) = (field.varint()?, None),
            2 => float_count = Some(field.double()?),
            3 => sum = field.double()?,
            4 => schema = field.sint()? as i32,
            5 => threshold = field.double()?,
            6 => zeros = field.varint()?,
            7 => float_zeros = field.double()?,
            8 => negative.span(field.bytes()?)?,
            9 => field.varints(|delta| negative.deltas.push(crate::proto::unzigzag(delta)))?,
            10 => field.doubles(|count| negative.counts.push(count))?,
            11 => positive.span(field.bytes()?)?,
            12 => field.varints(|delta| positive.deltas.push(crate::proto::unzigzag(delta)))?,
            13 => field.doubles(|count| positive.counts.push(count))?,
            14 => {
                reset = match field.varint()? {
                    1 => ResetHint::Reset,
                    2 => ResetHint::NoReset,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                }
            }
            15 => time = field.varint()? as i64,
            16 => field.doubles(|bound| custom.push(bound))?,
            17 => start = field.varint()? as i64,
            _ => {}
        }
    }
    let value = match float_count {
        Some(count) => HistogramValue::Float(
            FloatHistogram {
                reset,
                schema,
                zero_threshold: threshold,
                zero_count: float_zeros,
                count,
                sum,
                positive: positive.floats(),
                negative: negative.floats(),
                custom: custom.into(),
            }
            .into(),
        ),
        None => HistogramValue::Integer(
            Histogram {
                reset,
                schema,
                zero_threshold: threshold,
                zero_count: zeros,
                count,
                sum,
                positive: positive.whole(),
                negative: negative.whole(),
                custom: custom.into(),
            }
            .into(),
        ),
    };
    Ok(Timed { time, value, start })
}

/// Writes a histogram; both versions write it alike.
pub fn write_histogram(out: &mut Writer, time: i64, value: &HistogramValue) {
    let spans = |out: &mut Writer, number: u32, spans: &[Span]| {
        for span in spans {
            out.message(number, |out| {
                out.sint(1, i64::from(span.offset));
                out.varint(2, u64::from(span.length));
            });
        }
    };
    let (schema, threshold, sum, reset, custom) = match value {
        HistogramValue::Integer(histogram) => {
            out.varint(1, histogram.count);
            out.varint(6, histogram.zero_count);
            spans(out, 8, &histogram.negative.spans);
            out.sints(9, histogram.negative.values.iter().copied());
            spans(out, 11, &histogram.positive.spans);
            out.sints(12, histogram.positive.values.iter().copied());
            (histogram.schema, histogram.zero_threshold, histogram.sum, histogram.reset, &histogram.custom)
        }
        HistogramValue::Float(histogram) => {
            out.double(2, histogram.count);
            out.double(7, histogram.zero_count);
            spans(out, 8, &histogram.negative.spans);
            out.doubles(10, &histogram.negative.values);
            spans(out, 11, &histogram.positive.spans);
            out.doubles(13, &histogram.positive.values);
            (histogram.schema, histogram.zero_threshold, histogram.sum, histogram.reset, &histogram.custom)
        }
    };
    out.double(3, sum);
    out.sint(4, i64::from(schema));
    out.double(5, threshold);
    let hint = match reset {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NoReset => 2,
        ResetHint::Gauge => 3,
    };
    if hint > 0 {
        out.varint(14, hint);
    }
    out.varint(15, time as u64);
    out.doubles(16, custom);
}

#[cfg(test)]
mod tests;
