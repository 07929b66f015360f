//! The encodings of chunks: floats, integer histograms, float histograms.

use std::sync::Arc;

use super::bits::{BitReader, BitWriter, Chained, fits, widened};
use crate::{
    bytes::{Torn, unzigzag, zigzag},
    chunk::same_layout,
    column::{Columns, HistogramValue},
    histogram::{Buckets, CUSTOM_SCHEMA, FloatHistogram, Histogram, ResetHint, Span},
    sample::is_stale,
};

/// Samples in a chunk at most, as Prometheus writes them.
const SAMPLES: usize = 120;
/// Buckets that a histogram has at most when it is read.
const BUCKETS: u64 = 1 << 16;

/// The number of an encoding.
pub const FLOATS: u8 = 1;
const INTEGERS: u8 = 2;
const FLOAT_HISTOGRAMS: u8 = 3;

const RESET: u8 = 0x80;
const NO_RESET: u8 = 0x40;
const GAUGE: u8 = 0xc0;

/// A chunk that was written.
#[derive(Debug)]
pub struct Written {
    /// Its encoding.
    pub encoding: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Time of its first sample.
    pub min: i64,
    /// Time of its last sample.
    pub max: i64,
}

/// Columns as chunks, in order of time.
pub fn write(columns: &Columns) -> Vec<Written> {
    let mut chunks: Vec<Written> = Vec::new();
    // A chunk of floats ends where a histogram comes in between, and the other way round.
    let (mut times, mut values, mut histograms) = (&columns.times[..], &columns.values[..], &columns.histograms[..]);
    while !times.is_empty() || !histograms.is_empty() {
        let next_histogram = histograms.first().map_or(i64::MAX, |sample| sample.0);
        let floats = times.iter().take(SAMPLES).take_while(|time| **time < next_histogram).count();
        if floats > 0 {
            chunks.push(write_floats(&times[..floats], &values[..floats]));
            (times, values) = (&times[floats..], &values[floats..]);
            continue;
        }
        let next_float = times.first().copied().unwrap_or(i64::MAX);
        let count = run(histograms, next_float);
        if count == 0 {
            // A float at the time of a histogram: the histogram stays.
            (times, values) = (&times[1..], &values[1..]);
            continue;
        }
        chunks.push(write_histograms(&histograms[..count]));
        histograms = &histograms[count..];
    }
    chunks
}

/// How many histograms fit one chunk: of one layout, without a reset, a stale marker only at the end.
fn run(samples: &[(i64, HistogramValue)], before: i64) -> usize {
    let mut count = 0;
    for (nth, (time, value)) in samples.iter().enumerate().take(SAMPLES) {
        if *time >= before {
            break;
        }
        if nth > 0 {
            let last = &samples[nth - 1].1;
            let one_kind = matches!(value, HistogramValue::Integer(_)) == matches!(last, HistogramValue::Integer(_));
            if last.is_stale() || !one_kind || !same_layout(last, value) || (!value.is_stale() && begins(last, value)) {
                break;
            }
        }
        count = nth + 1;
    }
    count
}

fn hint(value: &HistogramValue) -> ResetHint {
    match value {
        HistogramValue::Integer(histogram) => histogram.reset,
        HistogramValue::Float(histogram) => histogram.reset,
    }
}

/// Whether a histogram cannot stand behind `last` in a chunk, where readers take it that there was no reset.
fn begins(last: &HistogramValue, value: &HistogramValue) -> bool {
    let (before, now) = (hint(last), hint(value));
    if before == ResetHint::Gauge || now == ResetHint::Gauge {
        return before != now;
    }
    let (last, value) = (last.to_float(), value.to_float());
    let falls = |last: &[f64], value: &[f64]| last.iter().zip(value).any(|(last, value)| value < last);
    now == ResetHint::Reset
        || value.count < last.count
        || value.zero_count < last.zero_count
        || falls(&last.positive.values, &value.positive.values)
        || falls(&last.negative.values, &value.negative.values)
}

fn write_floats(times: &[i64], values: &[f64]) -> Written {
    let mut out = BitWriter::default();
    out.bits(times.len() as u64, 16);
    out.uvarint(zigzag(times[0]));
    out.bits(values[0].to_bits(), 64);
    let mut chained = Chained::new(values[0]);
    let mut step = 0i64;
    for nth in 1..times.len() {
        let now = times[nth].wrapping_sub(times[nth - 1]);
        let turn = now.wrapping_sub(std::mem::replace(&mut step, now));
        match turn {
            _ if nth == 1 => out.uvarint(now as u64),
            0 => out.bits(0, 1),
            turn => match [(14, 0b10, 2), (17, 0b110, 3), (20, 0b1110, 4)].iter().find(|way| fits(turn, way.0)) {
                Some((width, prefix, length)) => {
                    out.bits(*prefix, *length);
                    out.bits(turn as u64, *width);
                }
                None => {
                    out.bits(0b1111, 4);
                    out.bits(turn as u64, 64);
                }
            },
        }
        chained.write(values[nth], &mut out);
    }
    Written { encoding: FLOATS, bytes: out.bytes, min: times[0], max: times[times.len() - 1] }
}

fn write_layout(out: &mut BitWriter, schema: i32, threshold: f64, sides: [&[Span]; 2], custom: &[f64]) {
    match power_of_two(threshold) {
        Some(code) => out.bits(u64::from(code), 8),
        None => {
            out.bits(255, 8);
            out.bits(threshold.to_bits(), 64);
        }
    }
    out.signed_varbit(i64::from(schema));
    for spans in sides {
        out.varbit(spans.len() as u64);
        for span in spans {
            out.varbit(u64::from(span.length));
            out.signed_varbit(i64::from(span.offset));
        }
    }
    if schema == CUSTOM_SCHEMA {
        out.varbit(custom.len() as u64);
        for bound in custom {
            let thousandths = bound * 1000.0;
            let whole = thousandths.round();
            if (0.0..=33_554_430.0).contains(&thousandths) && whole / 1000.0 == *bound {
                out.varbit(whole as u64 + 1);
            } else {
                out.bits(0, 1);
                out.bits(bound.to_bits(), 64);
            }
        }
    }
}

/// One byte for 0 and for powers of two from 2^-243 to 2^10.
fn power_of_two(threshold: f64) -> Option<u8> {
    if threshold.to_bits() == 0 {
        return Some(0);
    }
    let bits = threshold.to_bits();
    let exponent = (bits >> 52) as i64 - 1022;
    (bits & ((1 << 52) - 1) == 0 && (-242..=11).contains(&exponent)).then_some((exponent + 243) as u8)
}

fn write_histograms(samples: &[(i64, HistogramValue)]) -> Written {
    let mut out = BitWriter::default();
    out.bits(samples.len() as u64, 16);
    let header = match hint(&samples[0].1) {
        ResetHint::Unknown => 0,
        ResetHint::Reset => RESET,
        ResetHint::NoReset => NO_RESET,
        ResetHint::Gauge => GAUGE,
    };
    out.bits(u64::from(header), 8);
    let encoding = match &samples[0].1 {
        HistogramValue::Integer(_) => {
            let rows: Vec<(i64, &Histogram)> =
                samples.iter().filter_map(|(time, value)| Some((*time, value.integer()?))).collect();
            write_integers(&rows, &mut out);
            INTEGERS
        }
        HistogramValue::Float(_) => {
            let rows: Vec<(i64, &FloatHistogram)> =
                samples.iter().filter_map(|(time, value)| Some((*time, value.float()?))).collect();
            write_fractions(&rows, &mut out);
            FLOAT_HISTOGRAMS
        }
    };
    Written { encoding, bytes: out.bytes, min: samples[0].0, max: samples[samples.len() - 1].0 }
}

/// A whole number that is written by how its steps turn.
#[derive(Clone, Copy, Debug, Default)]
struct Turning {
    value: i64,
    step: i64,
}

impl Turning {
    fn write(&mut self, value: i64, out: &mut BitWriter) {
        let step = value.wrapping_sub(std::mem::replace(&mut self.value, value));
        out.signed_varbit(step.wrapping_sub(std::mem::replace(&mut self.step, step)));
    }

    fn read(&mut self, reader: &mut BitReader<'_>) -> Result<i64, Torn> {
        self.step = self.step.wrapping_add(reader.signed_varbit()?);
        self.value = self.value.wrapping_add(self.step);
        Ok(self.value)
    }
}

fn write_integers(rows: &[(i64, &Histogram)], out: &mut BitWriter) {
    let stale = Histogram::default();
    let (first_time, first) = (rows[0].0, if is_stale(rows[0].1.sum) { &stale } else { rows[0].1 });
    let sides = [first.positive.spans.as_slice(), &first.negative.spans];
    write_layout(out, first.schema, first.zero_threshold, sides, &first.custom);
    out.signed_varbit(first_time);
    out.varbit(first.count);
    out.varbit(first.zero_count);
    out.bits(rows[0].1.sum.to_bits(), 64);
    let start = |value: i64| Turning { value, step: 0 };
    let (mut time, mut count) = (start(first_time), start(first.count as i64));
    let (mut zeros, mut sum) = (start(first.zero_count as i64), Chained::new(rows[0].1.sum));
    let mut buckets: Vec<Turning> =
        first.positive.values.iter().chain(&first.negative.values).map(|value| start(*value)).collect();
    buckets.iter().for_each(|bucket| out.signed_varbit(bucket.value));
    for (at, row) in &rows[1..] {
        time.write(*at, out);
        if is_stale(row.sum) {
            // Only the sum matters, and it is the last of its chunk.
            out.signed_varbit(0);
            out.signed_varbit(0);
            sum.write(row.sum, out);
            continue;
        }
        count.write(row.count as i64, out);
        zeros.write(row.zero_count as i64, out);
        sum.write(row.sum, out);
        for (bucket, value) in buckets.iter_mut().zip(row.positive.values.iter().chain(&row.negative.values)) {
            bucket.write(*value, out);
        }
    }
}

fn write_fractions(rows: &[(i64, &FloatHistogram)], out: &mut BitWriter) {
    let stale = FloatHistogram::default();
    let (first_time, first) = (rows[0].0, if is_stale(rows[0].1.sum) { &stale } else { rows[0].1 });
    let sides = [first.positive.spans.as_slice(), &first.negative.spans];
    write_layout(out, first.schema, first.zero_threshold, sides, &first.custom);
    out.signed_varbit(first_time);
    let mut time = Turning { value: first_time, step: 0 };
    let mut begin = |value: f64| {
        out.bits(value.to_bits(), 64);
        Chained::new(value)
    };
    let (mut count, mut zeros, mut sum) = (begin(first.count), begin(first.zero_count), begin(rows[0].1.sum));
    let mut buckets: Vec<Chained> =
        first.positive.values.iter().chain(&first.negative.values).map(|value| begin(*value)).collect();
    for (at, row) in &rows[1..] {
        time.write(*at, out);
        let row = if is_stale(row.sum) { &FloatHistogram { sum: row.sum, ..FloatHistogram::default() } } else { *row };
        count.write(row.count, out);
        zeros.write(row.zero_count, out);
        sum.write(row.sum, out);
        for (bucket, value) in buckets.iter_mut().zip(row.positive.values.iter().chain(&row.negative.values)) {
            bucket.write(*value, out);
        }
    }
}

/// Appends the samples of a chunk to `into`.
pub fn read(encoding: u8, bytes: &[u8], into: &mut Columns) -> Result<(), Torn> {
    let mut reader = BitReader::new(bytes);
    let count = reader.bits(16)?;
    match encoding {
        FLOATS => read_floats(&mut reader, count, into),
        INTEGERS => read_integers(&mut reader, count, into),
        FLOAT_HISTOGRAMS => read_fractions(&mut reader, count, into),
        _ => Err(Torn("a chunk has an encoding that is not known")),
    }
}

fn read_floats(reader: &mut BitReader<'_>, count: u64, into: &mut Columns) -> Result<(), Torn> {
    if count == 0 {
        return Ok(());
    }
    let mut time = unzigzag(reader.uvarint()?);
    let first = f64::from_bits(reader.bits(64)?);
    let mut chained = Chained::new(first);
    into.times.push(time);
    into.values.push(first);
    let mut step = 0i64;
    for nth in 1..count {
        step = if nth == 1 {
            reader.uvarint()? as i64
        } else {
            step.wrapping_add(match reader.ones(4)? {
                0 => 0,
                4 => reader.bits(64)? as i64,
                ones => {
                    let width = [14, 17, 20][ones as usize - 1];
                    widened(reader.bits(width)?, width)
                }
            })
        };
        time = time.wrapping_add(step);
        let value = chained.read(reader)?;
        into.times.push(time);
        into.values.push(value);
    }
    Ok(())
}

struct Layout {
    gauge: bool,
    schema: i32,
    threshold: f64,
    positive: Vec<Span>,
    negative: Vec<Span>,
    custom: Arc<[f64]>,
}

fn read_layout(reader: &mut BitReader<'_>) -> Result<(Layout, usize, usize), Torn> {
    let gauge = reader.bits(8)? as u8 & GAUGE == GAUGE;
    let threshold = match reader.bits(8)? {
        0 => 0.0,
        255 => f64::from_bits(reader.bits(64)?),
        code => f64::from_bits((code + 1022 - 243) << 52),
    };
    let schema = i32::try_from(reader.signed_varbit()?).map_err(|_| Torn("a schema is too large"))?;
    let mut side = || -> Result<(Vec<Span>, usize), Torn> {
        let (mut spans, mut buckets) = (Vec::new(), 0u64);
        for _ in 0..reader.varbit()? {
            let length = reader.varbit()?;
            let offset = i32::try_from(reader.signed_varbit()?).map_err(|_| Torn("a span lies too far"))?;
            buckets = buckets.saturating_add(length);
            if buckets > BUCKETS || spans.len() as u64 > BUCKETS {
                return Err(Torn("a histogram has too many buckets"));
            }
            spans.push(Span { offset, length: length as u32 });
        }
        Ok((spans, buckets as usize))
    };
    let ((positive, positives), (negative, negatives)) = (side()?, side()?);
    let mut custom = Vec::new();
    if schema == CUSTOM_SCHEMA {
        for _ in 0..reader.varbit()? {
            custom.push(match reader.varbit()? {
                0 => f64::from_bits(reader.bits(64)?),
                code => (code - 1) as f64 / 1000.0,
            });
        }
    }
    Ok((Layout { gauge, schema, threshold, positive, negative, custom: custom.into() }, positives, negatives))
}

impl Layout {
    fn hint(&self, nth: u64) -> ResetHint {
        match nth {
            _ if self.gauge => ResetHint::Gauge,
            // What was before the chunk may have been deleted.
            0 => ResetHint::Unknown,
            _ => ResetHint::NoReset,
        }
    }
}

fn read_integers(reader: &mut BitReader<'_>, samples: u64, into: &mut Columns) -> Result<(), Torn> {
    let (layout, positives, negatives) = read_layout(reader)?;
    let (mut time, mut count, mut zeros) = (Turning::default(), Turning::default(), Turning::default());
    let mut sum = Chained::new(0.0);
    let mut buckets = vec![Turning::default(); positives + negatives];
    for nth in 0..samples {
        let value;
        if nth == 0 {
            time.value = reader.signed_varbit()?;
            count.value = reader.varbit()? as i64;
            zeros.value = reader.varbit()? as i64;
            value = f64::from_bits(reader.bits(64)?);
            sum = Chained::new(value);
            for bucket in &mut buckets {
                bucket.value = reader.signed_varbit()?;
            }
        } else {
            time.read(reader)?;
            count.read(reader)?;
            zeros.read(reader)?;
            value = sum.read(reader)?;
            if !is_stale(value) {
                for bucket in &mut buckets {
                    bucket.read(reader)?;
                }
            }
        }
        if is_stale(value) {
            into.histograms.push((time.value, HistogramValue::stale_integer()));
            continue;
        }
        let values = |range: std::ops::Range<usize>| buckets[range].iter().map(|bucket| bucket.value).collect();
        let histogram = Histogram {
            reset: layout.hint(nth),
            schema: layout.schema,
            zero_threshold: layout.threshold,
            zero_count: zeros.value as u64,
            count: count.value as u64,
            sum: value,
            positive: Buckets { spans: layout.positive.clone(), values: values(0..positives) },
            negative: Buckets { spans: layout.negative.clone(), values: values(positives..positives + negatives) },
            custom: layout.custom.clone(),
        };
        into.histograms.push((time.value, HistogramValue::Integer(Arc::new(histogram))));
    }
    Ok(())
}

fn read_fractions(reader: &mut BitReader<'_>, samples: u64, into: &mut Columns) -> Result<(), Torn> {
    let (layout, positives, negatives) = read_layout(reader)?;
    let mut time = Turning::default();
    // Count, observations at zero, sum, buckets.
    let mut all = vec![Chained::new(0.0); 3 + positives + negatives];
    let mut values = vec![0.0; all.len()];
    for nth in 0..samples {
        if nth == 0 {
            time.value = reader.signed_varbit()?;
        } else {
            time.read(reader)?;
        }
        for (place, (chained, value)) in all.iter_mut().zip(&mut values).enumerate() {
            if nth == 0 {
                *value = f64::from_bits(reader.bits(64)?);
                *chained = Chained::new(*value);
            } else {
                *value = chained.read(reader)?;
            }
            // Behind the sum of a stale marker there is nothing.
            if place == 2 && is_stale(*value) {
                break;
            }
        }
        if is_stale(values[2]) {
            into.histograms.push((time.value, HistogramValue::stale_float()));
            continue;
        }
        let histogram = FloatHistogram {
            reset: layout.hint(nth),
            schema: layout.schema,
            zero_threshold: layout.threshold,
            zero_count: values[1],
            count: values[0],
            sum: values[2],
            positive: Buckets { spans: layout.positive.clone(), values: values[3..3 + positives].to_vec() },
            negative: Buckets { spans: layout.negative.clone(), values: values[3 + positives..].to_vec() },
            custom: layout.custom.clone(),
        };
        into.histograms.push((time.value, HistogramValue::Float(Arc::new(histogram))));
    }
    Ok(())
}
