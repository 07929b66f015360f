//! Histograms, exemplars, metadata and deletions in the log.

use crate::{
    bytes::{Reader, Torn, put_bytes, put_varint, put_zigzag},
    chunk::{self, Decoder},
    column::{Columns, HistogramValue},
    labels::Labels,
    sample::Exemplar,
};

/// What a metric is, as its target says. See <https://prometheus.io/docs/specs/om/open_metrics_spec/#metricfamily>.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// Type: `counter`, `gauge`, `histogram`, `gaugehistogram`, `summary`, `info`, `stateset`, `unknown`.
    pub kind: String,
    /// Unit, where the target gives one.
    pub unit: String,
    /// What it says to people.
    pub help: String,
}

/// Histograms of series.
pub fn write_histograms(samples: &[(u32, i64, HistogramValue)], out: &mut Vec<u8>) {
    put_varint(out, samples.len() as u64);
    let mut chunk = Vec::new();
    for (slot, time, value) in samples {
        put_varint(out, u64::from(*slot));
        chunk.clear();
        chunk::write_histograms(&[(*time, value.clone())], 0, &mut chunk);
        put_bytes(out, &chunk);
    }
}

/// Reads what [`write_histograms`] wrote.
pub fn read_histograms(payload: &[u8], mut sample: impl FnMut(u32, i64, HistogramValue)) -> Result<(), Torn> {
    let mut reader = Reader(payload);
    let mut decoder = Decoder::default();
    let mut columns = Columns::default();
    for _ in 0..reader.count(2)? {
        let slot = reader.varint32()?;
        columns.clear();
        decoder.read(reader.bytes()?, 0, i64::MIN, i64::MAX, &mut columns)?;
        for (time, value) in columns.histograms.drain(..) {
            sample(slot, time, value);
        }
    }
    Ok(())
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_varint(out, labels.len() as u64);
    for (name, value) in labels {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

fn labels(reader: &mut Reader<'_>) -> Result<Labels, Torn> {
    let pairs =
        (0..reader.count(2)?).map(|_| Ok((reader.text()?, reader.text()?))).collect::<Result<Vec<_>, Torn>>()?;
    Ok(Labels::from_pairs(pairs))
}

/// Exemplars of series.
pub fn write_exemplars<'a>(exemplars: impl ExactSizeIterator<Item = (u32, &'a Exemplar)>, out: &mut Vec<u8>) {
    put_varint(out, exemplars.len() as u64);
    for (slot, exemplar) in exemplars {
        put_varint(out, u64::from(slot));
        put_labels(out, &exemplar.labels);
        out.extend_from_slice(&exemplar.value.to_le_bytes());
        out.push(u8::from(exemplar.timestamp.is_some()));
        put_zigzag(out, exemplar.timestamp.unwrap_or(0));
    }
}

/// Reads what [`write_exemplars`] wrote.
pub fn read_exemplars(reader: &mut Reader<'_>, mut exemplar: impl FnMut(u32, Exemplar)) -> Result<(), Torn> {
    for _ in 0..reader.count(12)? {
        let slot = reader.varint32()?;
        let labels = labels(reader)?;
        let value = f64::from_bits(reader.u64()?);
        let timed = reader.u8()? != 0;
        let timestamp = reader.zigzag()?;
        exemplar(slot, Exemplar { labels, value, timestamp: timed.then_some(timestamp) });
    }
    Ok(())
}

/// Metadata of series.
pub fn write_metadata<'a>(metadata: impl ExactSizeIterator<Item = (u32, &'a Metadata)>, out: &mut Vec<u8>) {
    put_varint(out, metadata.len() as u64);
    for (slot, metadata) in metadata {
        put_varint(out, u64::from(slot));
        for text in [&metadata.kind, &metadata.unit, &metadata.help] {
            put_bytes(out, text.as_bytes());
        }
    }
}

/// Reads what [`write_metadata`] wrote.
pub fn read_metadata(reader: &mut Reader<'_>, mut metadata: impl FnMut(u32, Metadata)) -> Result<(), Torn> {
    for _ in 0..reader.count(4)? {
        let slot = reader.varint32()?;
        let mut text = || reader.text().map(str::to_owned);
        metadata(slot, Metadata { kind: text()?, unit: text()?, help: text()? });
    }
    Ok(())
}

/// Ranges of time, both ends included, that were deleted of series.
pub fn write_deleted(deleted: impl ExactSizeIterator<Item = (u32, (i64, i64))>, out: &mut Vec<u8>) {
    put_varint(out, deleted.len() as u64);
    for (slot, (min, max)) in deleted {
        put_varint(out, u64::from(slot));
        put_zigzag(out, min);
        put_zigzag(out, max);
    }
}

/// Reads what [`write_deleted`] wrote.
pub fn read_deleted(reader: &mut Reader<'_>, mut deleted: impl FnMut(u32, (i64, i64))) -> Result<(), Torn> {
    for _ in 0..reader.count(3)? {
        deleted(reader.varint32()?, (reader.zigzag()?, reader.zigzag()?));
    }
    Ok(())
}

/// Floats behind the last of their series: each says all of itself, and nothing is remembered of it.
pub fn write_late(samples: &[(u32, i64, f64)], out: &mut Vec<u8>) {
    put_varint(out, samples.len() as u64);
    for (slot, time, value) in samples {
        put_varint(out, u64::from(*slot));
        put_zigzag(out, *time);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Reads what [`write_late`] wrote.
pub fn read_late(payload: &[u8], mut sample: impl FnMut(u32, i64, f64)) -> Result<(), Torn> {
    let mut reader = Reader(payload);
    for _ in 0..reader.count(10)? {
        sample(reader.varint32()?, reader.zigzag()?, f64::from_bits(reader.u64()?));
    }
    Ok(())
}
