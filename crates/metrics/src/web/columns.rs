//! Answers of range queries as columns of numbers, for whoever asks for them by `Accept`: a browser draws them as they are, where
//! a dashboard's worth of JSON takes it longer to read than to draw. Prometheus answers `Accept` likewise, with JSON where it
//! knows no other form, so that a client that takes both works with either.
//!
//! ```text
//! "columns1"
//! a series, as often as there are some:
//!     u32  bytes of its labels, a multiple of 8
//!     u32  points
//!     u32  times that follow: none where points lie a step apart, else as many as points
//!     u32  0
//!     f64  first time, milliseconds since 1970
//!     labels, a JSON object with spaces behind it
//!     f64  each time, milliseconds since 1970
//!     f64  each value
//! the end:
//!     u32  0xffffffff
//!     u32  bytes of notes
//!     notes, a JSON object: warnings and infos, lists of strings
//! ```
//!
//! Numbers are little-endian, and each `f64` begins at a multiple of 8 bytes. What is cut off has no end.
//! <https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries>

use http::{HeaderMap, header};
use promql::value::Stream;

use super::json;

/// Its media type.
pub const KIND: &str = "application/vnd.madang.columns";
/// What stands first.
const MAGIC: &[u8; 8] = b"columns1";
/// What stands where a series would.
const END: u32 = u32::MAX;

/// Whether a client takes this form.
pub fn takes(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = lists.flat_map(|list| list.split(',')).filter_map(|item| item.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case(KIND))
}

/// Whether a result has such a form: histograms do not.
pub fn fits(streams: &[Stream]) -> bool {
    streams.iter().all(|stream| stream.histograms.is_empty())
}

/// The answer piece by piece, a series each. `step` is in milliseconds.
pub fn pieces(
    streams: Vec<Stream>,
    step: i64,
    warnings: &[String],
    infos: &[String],
) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
    let mut notes = Vec::from(*b"{");
    json::key(&mut notes, "warnings");
    json::texts(&mut notes, warnings);
    notes.push(b',');
    json::key(&mut notes, "infos");
    json::texts(&mut notes, infos);
    notes.push(b'}');
    let mut last = Vec::from(END.to_le_bytes());
    last.extend_from_slice(&length(notes.len()).to_le_bytes());
    last.extend_from_slice(&notes);
    let all = streams.into_iter().map(move |stream| series(&stream, step));
    std::iter::once(MAGIC.to_vec()).chain(all).chain(std::iter::once(last))
}

/// Answers are bounded far below what this could not say.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(END - 1)
}

fn series(stream: &Stream, step: i64) -> Vec<u8> {
    let mut labels = Vec::new();
    json::labels(&mut labels, &stream.labels);
    labels.resize(labels.len().next_multiple_of(8), b' ');
    let points = &stream.floats;
    let even = points.windows(2).all(|pair| pair[1].0 - pair[0].0 == step);
    let times = if even { 0 } else { points.len() };
    let mut out = Vec::with_capacity(24 + labels.len() + 8 * (times + points.len()));
    for number in [labels.len(), points.len(), times, 0] {
        out.extend_from_slice(&length(number).to_le_bytes());
    }
    let number = |out: &mut Vec<u8>, value: f64| out.extend_from_slice(&value.to_le_bytes());
    number(&mut out, points.first().map_or(0.0, |(time, _)| *time as f64));
    out.extend_from_slice(&labels);
    for (time, _) in points.iter().take(times) {
        number(&mut out, *time as f64);
    }
    for (_, value) in points {
        number(&mut out, *value);
    }
    out
}

#[cfg(test)]
mod tests;
