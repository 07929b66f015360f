//! Columns of native histograms: the layout once, then each count and each bucket through time.

use std::sync::Arc;

use super::{CELLS, floats};
use crate::{
    bytes::{Reader, Torn, put_varint, put_zigzag, unzigzag, zigzag},
    column::HistogramValue,
    histogram::{Buckets, FloatHistogram, Histogram, ResetHint, Span},
    ints,
    sample::{STALE_NAN, is_stale},
};

pub fn same_layout(one: &HistogramValue, other: &HistogramValue) -> bool {
    if one.is_stale() || other.is_stale() {
        return true;
    }
    match (one, other) {
        (HistogramValue::Integer(a), HistogramValue::Integer(b)) => {
            (a.schema, a.zero_threshold.to_bits(), &a.positive.spans, &a.negative.spans)
                == (b.schema, b.zero_threshold.to_bits(), &b.positive.spans, &b.negative.spans)
                && a.custom == b.custom
                && a.positive.values.len() == b.positive.values.len()
                && a.negative.values.len() == b.negative.values.len()
        }
        (HistogramValue::Float(a), HistogramValue::Float(b)) => {
            (a.schema, a.zero_threshold.to_bits(), &a.positive.spans, &a.negative.spans)
                == (b.schema, b.zero_threshold.to_bits(), &b.positive.spans, &b.negative.spans)
                && a.custom == b.custom
                && a.positive.values.len() == b.positive.values.len()
                && a.negative.values.len() == b.negative.values.len()
        }
        _ => false,
    }
}

struct Layout {
    schema: i32,
    zero_threshold: f64,
    custom: Arc<[f64]>,
    positive: (Vec<Span>, usize),
    negative: (Vec<Span>, usize),
}

fn hint_code(hint: ResetHint) -> u64 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NoReset => 2,
        ResetHint::Gauge => 3,
    }
}

fn hint_of(code: u64) -> ResetHint {
    match code {
        1 => ResetHint::Reset,
        2 => ResetHint::NoReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

/// Writes what follows the times. Rows of stale markers repeat the row before; only their sum says what they are.
pub fn write(samples: &[(i64, HistogramValue)], integers: bool, out: &mut Vec<u8>) {
    if integers { write_integers(samples, out) } else { write_floats(samples, out) }
}

fn write_layout(
    (schema, zero_threshold, custom): (i32, f64, &[f64]),
    (positive, positives): (&[Span], usize),
    (negative, negatives): (&[Span], usize),
    out: &mut Vec<u8>,
) {
    put_zigzag(out, i64::from(schema));
    out.extend_from_slice(&zero_threshold.to_le_bytes());
    put_varint(out, custom.len() as u64);
    out.extend(custom.iter().flat_map(|bound| bound.to_le_bytes()));
    for (spans, values) in [(positive, positives), (negative, negatives)] {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_zigzag(out, i64::from(span.offset));
            put_varint(out, u64::from(span.length));
        }
        put_varint(out, values as u64);
    }
}

fn read_layout(reader: &mut Reader<'_>, count: usize) -> Result<Layout, Torn> {
    let schema = i32::try_from(reader.zigzag()?).map_err(|_| Torn("a schema is too large"))?;
    let zero_threshold = f64::from_bits(reader.u64()?);
    let bounds = reader.count(8)?;
    let custom = (0..bounds).map(|_| reader.u64().map(f64::from_bits)).collect::<Result<_, _>>()?;
    let mut side = || -> Result<(Vec<Span>, usize), Torn> {
        let spans = (0..reader.count(2)?)
            .map(|_| {
                let offset = i32::try_from(reader.zigzag()?).map_err(|_| Torn("a span lies too far"))?;
                Ok(Span { offset, length: reader.varint32()? })
            })
            .collect::<Result<_, Torn>>()?;
        let values = reader.count(2)?;
        if values.saturating_mul(count) > CELLS {
            return Err(Torn("a chunk of histograms is too large"));
        }
        Ok((spans, values))
    };
    let positive = side()?;
    let negative = side()?;
    Ok(Layout { schema, zero_threshold, custom, positive, negative })
}

fn write_hints(hints: impl Iterator<Item = ResetHint>, out: &mut Vec<u8>) {
    ints::pack(&hints.map(hint_code).collect::<Vec<_>>(), out);
}

fn write_column(mut column: impl Iterator<Item = i64>, words: &mut Vec<u64>, out: &mut Vec<u8>) {
    let Some(mut before) = column.next() else { return };
    put_zigzag(out, before);
    words.clear();
    words.extend(column.map(|value| zigzag(value.wrapping_sub(std::mem::replace(&mut before, value)))));
    ints::pack(words, out);
}

fn read_column(reader: &mut Reader<'_>, count: usize, words: &mut Vec<u64>) -> Result<Vec<i64>, Torn> {
    let mut value = reader.zigzag()?;
    words.clear();
    ints::unpack(reader, count - 1, words)?;
    let mut column = Vec::with_capacity(count);
    column.push(value);
    column.extend(words.iter().map(|word| {
        value = value.wrapping_add(unzigzag(*word));
        value
    }));
    Ok(column)
}

/// The rows, where a stale marker stands for the row before it, or for the first one that is none.
fn rows<'a, H: 'a>(
    samples: &'a [(i64, HistogramValue)],
    of: impl Fn(&'a HistogramValue) -> Option<&'a H>,
    empty: &'a H,
) -> Vec<&'a H> {
    let mut row =
        samples.iter().filter(|sample| !sample.1.is_stale()).find_map(|sample| of(&sample.1)).unwrap_or(empty);
    let mut rows = Vec::with_capacity(samples.len());
    for (_, value) in samples {
        if let (false, Some(histogram)) = (value.is_stale(), of(value)) {
            row = histogram;
        }
        rows.push(row);
    }
    rows
}

fn sums(samples: &[(i64, HistogramValue)], out: &mut Vec<u8>) {
    let sums: Vec<f64> =
        samples.iter().map(|(_, value)| if value.is_stale() { STALE_NAN } else { value.sum() }).collect();
    floats::write(&sums, out);
}

fn write_integers(samples: &[(i64, HistogramValue)], out: &mut Vec<u8>) {
    let empty = Histogram::default();
    let rows = rows(samples, HistogramValue::integer, &empty);
    let first = rows[0];
    write_layout(
        (first.schema, first.zero_threshold, &first.custom),
        (&first.positive.spans, first.positive.values.len()),
        (&first.negative.spans, first.negative.values.len()),
        out,
    );
    write_hints(rows.iter().map(|row| row.reset), out);
    sums(samples, out);
    let mut words = Vec::new();
    write_column(rows.iter().map(|row| row.count as i64), &mut words, out);
    write_column(rows.iter().map(|row| row.zero_count as i64), &mut words, out);
    // Counts of a bucket, rather than its distance to the one before, change little through time.
    let sides: [fn(&Histogram) -> &[i64]; 2] = [|row| &row.positive.values, |row| &row.negative.values];
    for side in sides {
        let mut counts = vec![0i64; rows.len()];
        for bucket in 0..side(first).len() {
            for (count, row) in counts.iter_mut().zip(&rows) {
                *count = count.wrapping_add(side(row)[bucket]);
            }
            write_column(counts.iter().copied(), &mut words, out);
        }
    }
}

fn write_floats(samples: &[(i64, HistogramValue)], out: &mut Vec<u8>) {
    let empty = FloatHistogram::default();
    let rows = rows(samples, HistogramValue::float, &empty);
    let first = rows[0];
    write_layout(
        (first.schema, first.zero_threshold, &first.custom),
        (&first.positive.spans, first.positive.values.len()),
        (&first.negative.spans, first.negative.values.len()),
        out,
    );
    write_hints(rows.iter().map(|row| row.reset), out);
    sums(samples, out);
    let column = |of: &dyn Fn(&FloatHistogram) -> f64, out: &mut Vec<u8>| {
        floats::write(&rows.iter().map(|row| of(row)).collect::<Vec<_>>(), out);
    };
    column(&|row| row.count, out);
    column(&|row| row.zero_count, out);
    for bucket in 0..first.positive.values.len() {
        column(&|row| row.positive.values[bucket], out);
    }
    for bucket in 0..first.negative.values.len() {
        column(&|row| row.negative.values[bucket], out);
    }
}

/// Reads what follows the times.
pub fn read(
    reader: &mut Reader<'_>,
    count: usize,
    integers: bool,
    words: &mut Vec<u64>,
) -> Result<Vec<HistogramValue>, Torn> {
    let layout = read_layout(reader, count)?;
    words.clear();
    ints::unpack(reader, count, words)?;
    let hints: Vec<ResetHint> = words.iter().map(|code| hint_of(*code)).collect();
    let mut sums = Vec::with_capacity(count);
    floats::read(reader, count, 0..count, words, &mut sums)?;
    if integers {
        read_integers(reader, &layout, &hints, &sums, words)
    } else {
        read_floats(reader, &layout, &hints, &sums, words)
    }
}

fn read_integers(
    reader: &mut Reader<'_>,
    layout: &Layout,
    hints: &[ResetHint],
    sums: &[f64],
    words: &mut Vec<u64>,
) -> Result<Vec<HistogramValue>, Torn> {
    let count = sums.len();
    let counts = read_column(reader, count, words)?;
    let zeros = read_column(reader, count, words)?;
    let mut side =
        |buckets: usize| (0..buckets).map(|_| read_column(reader, count, words)).collect::<Result<Vec<_>, Torn>>();
    let (positive, negative) = (side(layout.positive.1)?, side(layout.negative.1)?);
    let deltas = |columns: &[Vec<i64>], row: usize| {
        let mut before = 0i64;
        let delta = |column: &Vec<i64>| column[row].wrapping_sub(std::mem::replace(&mut before, column[row]));
        columns.iter().map(delta).collect()
    };
    let row = |row: usize| {
        if is_stale(sums[row]) {
            return HistogramValue::stale_integer();
        }
        HistogramValue::Integer(Arc::new(Histogram {
            reset: hints[row],
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: zeros[row] as u64,
            count: counts[row] as u64,
            sum: sums[row],
            positive: Buckets { spans: layout.positive.0.clone(), values: deltas(&positive, row) },
            negative: Buckets { spans: layout.negative.0.clone(), values: deltas(&negative, row) },
            custom: layout.custom.clone(),
        }))
    };
    Ok((0..count).map(row).collect())
}

fn read_floats(
    reader: &mut Reader<'_>,
    layout: &Layout,
    hints: &[ResetHint],
    sums: &[f64],
    words: &mut Vec<u64>,
) -> Result<Vec<HistogramValue>, Torn> {
    let count = sums.len();
    let mut column = || {
        let mut values = Vec::with_capacity(count);
        floats::read(reader, count, 0..count, words, &mut values).map(|()| values)
    };
    let (counts, zeros) = (column()?, column()?);
    let mut side = |buckets: usize| (0..buckets).map(|_| column()).collect::<Result<Vec<_>, Torn>>();
    let (positive, negative) = (side(layout.positive.1)?, side(layout.negative.1)?);
    let row = |row: usize| {
        if is_stale(sums[row]) {
            return HistogramValue::stale_float();
        }
        HistogramValue::Float(Arc::new(FloatHistogram {
            reset: hints[row],
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: zeros[row],
            count: counts[row],
            sum: sums[row],
            positive: Buckets {
                spans: layout.positive.0.clone(),
                values: positive.iter().map(|column| column[row]).collect(),
            },
            negative: Buckets {
                spans: layout.negative.0.clone(),
                values: negative.iter().map(|column| column[row]).collect(),
            },
            custom: layout.custom.clone(),
        }))
    };
    Ok((0..count).map(row).collect())
}
