//! What reads bytes of files, without the files around it: for those who try to break it. Checksums, which keep broken bytes out,
//! are left aside or made to fit.

use std::sync::Arc;

use crate::{
    block::index::Index,
    bytes::{Reader, Torn},
    catalog::Catalog,
    chunk::{self, Decoder},
    column::{Columns, HistogramValue},
    frame::{self, Piece, Pieces},
    histogram::{Buckets, Histogram, Span},
    prometheus,
    record::{self, kind},
};

/// Reads a file of the log: how many sound records it has and how many samples they hold, and how many damages.
pub fn log(bytes: &[u8]) -> (usize, usize, usize) {
    let (mut records, mut samples, mut damages) = (0, 0, 0);
    for piece in Pieces::of(bytes) {
        match piece {
            Piece::Record { kind, payload } => {
                records += 1;
                samples += read_record(kind, payload).unwrap_or(0);
            }
            Piece::Damage { offset, length } => {
                assert!(length > 0 && offset + length <= bytes.len(), "{offset} {length}");
                damages += 1;
            }
        }
    }
    (records, samples, damages)
}

/// Reads a record behind its checksum: the first byte is its kind. How much it holds.
pub fn record(bytes: &[u8]) -> Result<usize, String> {
    let Some((kind, payload)) = bytes.split_first() else { return Ok(0) };
    read_record(*kind, payload).map_err(|torn| torn.0.to_owned())
}

fn read_record(kind: u8, payload: &[u8]) -> Result<usize, Torn> {
    let mut count = 0;
    match kind {
        kind::SERIES => {
            let mut catalog = Catalog::default();
            // Too many series are no damage.
            let _full = record::read_series(payload, &mut catalog)?;
            count = catalog.len();
        }
        kind::FLOATS => record::FloatReader::default().read(payload, |_, _, _| count += 1)?,
        kind::HISTOGRAMS => record::read_histograms(payload, |_, _, _| count += 1)?,
        kind::EXEMPLARS => record::read_exemplars(&mut Reader(payload), |_, _| count += 1)?,
        kind::METADATA => record::read_metadata(&mut Reader(payload), |_, _| count += 1)?,
        kind::DELETED => record::read_deleted(&mut Reader(payload), |_, _| count += 1)?,
        kind::LATE => record::read_late(payload, |_, _, _| count += 1)?,
        _ => return Err(Torn("a record of no known kind")),
    }
    Ok(count)
}

/// Reads a chunk of a segment or block, whose checksum is made to fit: how many samples it has.
pub fn chunk(bytes: &[u8]) -> Result<usize, String> {
    let mut sealed = crc32fast::hash(bytes).to_le_bytes().to_vec();
    sealed.extend_from_slice(bytes);
    let mut columns = Columns::default();
    let read = Decoder::default().read(&sealed, 0, i64::MIN, i64::MAX, &mut columns);
    read.map_err(|torn| torn.0.to_owned())?;
    assert_eq!(columns.times.len(), columns.values.len());
    Ok(columns.times.len() + columns.histograms.len())
}

/// Reads the index of a block and everything that it says: how many series it has.
pub fn index(bytes: &[u8]) -> Result<usize, String> {
    let index = Index::read(bytes, 1 << 40).map_err(|torn| torn.0.to_owned())?;
    let names: Vec<String> = index.names().map(str::to_owned).collect();
    let pairs: Vec<u32> =
        names.iter().flat_map(|name| index.values(name).map(|value| value.1).collect::<Vec<_>>()).collect();
    let mut found = Vec::new();
    for pair in pairs {
        index.postings(pair, &mut found).map_err(|torn| torn.0.to_owned())?;
    }
    for series in 0..u32::try_from(index.len()).unwrap_or(u32::MAX) {
        index.labels(series).map_err(|error| error.to_string())?;
        index.chunks(series).map_err(|error| error.to_string())?;
    }
    Ok(index.len())
}

/// Reads a chunk of Prometheus: the first byte is its encoding. How many samples it has.
pub fn prometheus_chunk(bytes: &[u8]) -> Result<usize, String> {
    let Some((encoding, chunk)) = bytes.split_first() else { return Ok(0) };
    let mut columns = Columns::default();
    prometheus::read_chunk(*encoding, chunk, &mut columns)?;
    Ok(columns.times.len() + columns.histograms.len())
}

fn histogram(n: u64) -> HistogramValue {
    HistogramValue::Integer(Arc::new(Histogram {
        schema: 2,
        zero_count: 1,
        zero_threshold: 0.001,
        count: n + 4,
        sum: n as f64 / 3.0,
        positive: Buckets { spans: vec![Span { offset: -2, length: 2 }], values: vec![n as i64, 3 - n as i64] },
        ..Histogram::default()
    }))
}

fn times() -> Vec<i64> {
    (0..40).map(|n| 1_700_000_000_000 + n * 15_000 + (n % 3)).collect()
}

/// Sound bytes to begin with, for [`record`].
pub fn records() -> Vec<Vec<u8>> {
    let histograms: Vec<(u32, i64, HistogramValue)> =
        (0..5).map(|n| (n, i64::from(n) * 1000, histogram(u64::from(n)))).collect();
    let late = [(1, 5, 1.5), (2, 7, f64::NAN)];
    let mut writer = record::FloatWriter::default();
    let mut tracks = [record::Track::default(); 4];
    for (nth, time) in times().iter().enumerate() {
        writer.push(nth as u32 % 4, *time, nth as f64 / 8.0, 1, &mut tracks[nth % 4]);
    }
    let mut made: Vec<Vec<u8>> = Vec::new();
    let mut put = |kind: u8, write: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut payload = vec![kind];
        write(&mut payload);
        made.push(payload);
    };
    put(kind::HISTOGRAMS, &mut |out| record::write_histograms(&histograms, out));
    put(kind::LATE, &mut |out| record::write_late(&late, out));
    put(kind::DELETED, &mut |out| record::write_deleted([(1, (2, 3)), (4, (5, 6))].into_iter(), out));
    let about = record::Metadata { kind: "counter".into(), unit: "seconds".into(), help: "Time.".into() };
    put(kind::METADATA, &mut |out| record::write_metadata([(3, &about)].into_iter(), out));
    let mut framed = Vec::new();
    writer.finish(&mut framed);
    for piece in Pieces::of(&framed) {
        if let Piece::Record { kind, payload } = piece {
            put(kind, &mut |out| out.extend_from_slice(payload));
        }
    }
    made
}

/// Sound bytes to begin with, for [`log`].
pub fn logs() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for record in records() {
        if let Some((kind, payload)) = record.split_first() {
            frame::put(&mut all, *kind, |out| out.extend_from_slice(payload));
        }
    }
    vec![all]
}

/// Sound bytes to begin with, for [`chunk`].
pub fn chunks() -> Vec<Vec<u8>> {
    let times = times();
    let values: Vec<f64> = times.iter().enumerate().map(|(nth, _)| (nth * nth) as f64 / 4.0).collect();
    let histograms: Vec<(i64, HistogramValue)> =
        times.iter().enumerate().map(|(nth, time)| (*time, histogram(nth as u64))).collect();
    let (mut floats, mut others) = (Vec::new(), Vec::new());
    chunk::write_floats(&times, &values, 0, &mut floats);
    chunk::write_histograms(&histograms, 0, &mut others);
    // Without their checksums.
    [floats, others].iter().map(|chunk| chunk.get(4..).unwrap_or_default().to_vec()).collect()
}

/// Sound bytes to begin with, for [`prometheus_chunk`].
pub fn prometheus_chunks() -> Vec<Vec<u8>> {
    let times = times();
    let values = times.iter().map(|time| (time % 1000) as f64).collect();
    let histograms = times.iter().map(|time| (time + 1, histogram((time % 7).unsigned_abs()))).collect();
    let columns = [Columns { times, values, ..Columns::default() }, Columns { histograms, ..Columns::default() }];
    let with_encoding = |written: prometheus::Written| [&[written.encoding], written.bytes.as_slice()].concat();
    columns.iter().flat_map(prometheus::chunks).map(with_encoding).collect()
}
