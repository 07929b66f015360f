//! Samples that others write here: `/api/v1/write`, versions 1 and 2.
//!
//! ```text
//! body ─ bounded ─ snappy, bounded ─ message ─▶ Batch ─▶ storage, synced ─▶ 204, with what was written
//! ```
//!
//! What is wrong with single series or samples does not keep the others out: they are written, and the answer is 400 with
//! what was wrong. The same request again does no harm, since samples that are there already count as taken.

use std::collections::HashSet;

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serve::Body;
use tsdb::{
    SeriesRef,
    batch::{Batch, Durability, Of, Reject, Zero},
    column::HistogramValue,
    exemplars::Refused as RefusedExemplar,
    histogram::{MAX_RESERVED_SCHEMA, MAX_SCHEMA},
    labels::Labels,
    sample::Exemplar,
};

use super::{
    Refused,
    message::{self, Series, Wrong},
};
use crate::{
    Metrics,
    query::millis,
    storage::{AppendError, Storage},
    web::plain,
};

/// How far ahead of now a sample may be.
pub(super) const AHEAD: std::time::Duration = std::time::Duration::from_mins(10);
/// Characters of an answer's words at most.
pub(super) const WORDS: usize = 16 << 10;

/// Which message a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
    /// OpenTelemetry's, which tells what is wrong as version 2 does.
    Otlp,
}

/// Reads the type of a body; without one it is version 1.
fn version(parts: &Parts) -> Result<Version, Refused> {
    let unsupported = |text: String| Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    if let Some(encoding) = parts.headers.get(header::CONTENT_ENCODING)
        && !matches!(encoding.as_bytes(), b"" | b"snappy")
    {
        let named = String::from_utf8_lossy(encoding.as_bytes());
        return unsupported(format!(
            "{named} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ));
    }
    const KIND: &str = "application/x-protobuf";
    let given = parts.headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let whole = given.as_deref().map(str::trim).filter(|kind| !kind.is_empty()).unwrap_or(KIND);
    let mut clauses = whole.split(';');
    if clauses.next().map(str::trim) != Some(KIND) {
        return unsupported(format!("expected {KIND} as the first (media) part, got {whole} content-type"));
    }
    for clause in clauses {
        let Some((name, value)) = clause.split_once('=').filter(|pair| !pair.1.contains('=')) else {
            return unsupported(format!(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got {clause} in {whole} content-type"
            ));
        };
        if name.trim() == "proto" {
            return match value.trim() {
                "prometheus.WriteRequest" => Ok(Version::One),
                "io.prometheus.write.v2.Request" => Ok(Version::Two),
                other => unsupported(format!(
                    "got {whole} content type; unknown type for remote write protobuf message {other}, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request"
                )),
            };
        }
    }
    Ok(Version::One)
}

/// How much of a request was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    floats: usize,
    histograms: usize,
    exemplars: usize,
}

/// What came of a request.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    written: Written,
    /// What was wrong, one line each.
    pub(super) wrong: Vec<String>,
}

/// `/api/v1/write`
pub async fn receive(metrics: &Metrics, parts: &Parts, body: Body) -> Response<Body> {
    if !metrics.settings().web.remote_write_receiver {
        let text = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
        return plain(StatusCode::NOT_FOUND, text);
    }
    let version = match version(parts) {
        Ok(version) => version,
        Err((status, text)) => return plain(status, format!("{text}\n")),
    };
    let (written, response) = match store(metrics, version, body).await {
        Ok(Outcome { written, wrong }) if wrong.is_empty() => (written, empty()),
        Ok(Outcome { written, wrong }) => {
            let mut words = if version == Version::One { wrong[0].clone() } else { wrong.join("\n") };
            if let Some(cut) = words.char_indices().map(|(at, _)| at).find(|at| *at >= WORDS) {
                words.truncate(cut);
            }
            (written, plain(StatusCode::BAD_REQUEST, format!("{words}\n")))
        }
        Err((status, text)) => (Written::default(), plain(status, format!("{text}\n"))),
    };
    if version == Version::Two { counted(response, written) } else { response }
}

fn empty() -> Response<Body> {
    let mut response = Response::new(serve::body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn counted(mut response: Response<Body>, written: Written) -> Response<Body> {
    let counts = [
        ("x-prometheus-remote-write-samples-written", written.floats),
        ("x-prometheus-remote-write-histograms-written", written.histograms),
        ("x-prometheus-remote-write-exemplars-written", written.exemplars),
    ];
    for (name, count) in counts {
        response.headers_mut().insert(name, HeaderValue::from(count));
    }
    response
}

async fn store(metrics: &Metrics, version: Version, body: Body) -> Result<Outcome, Refused> {
    let held = metrics.room().unpacked(body).await?;
    let storage = metrics.storage().clone();
    let latest = jiff::Timestamp::now().as_millisecond().saturating_add(millis(AHEAD));
    let zeros = metrics.settings().web.created_zeros;
    let stored = tokio::task::spawn_blocking(move || {
        let mut taken = Taken::new(&storage, latest, zeros);
        let read = match version {
            Version::Two => message::each_v2(&held.bytes, |series| taken.add(series, version)),
            _ => message::each_v1(&held.bytes, |series| taken.add(series, version)),
        };
        read.map_err(|wrong| (StatusCode::BAD_REQUEST, wrong.to_string()))?;
        taken.commit()
    });
    stored.await.unwrap_or_else(|error| Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())))
}

/// A request as it is being put together.
pub(super) struct Taken<'a> {
    storage: &'a Storage,
    /// No sample may be later.
    latest: i64,
    /// Whether zeros are put where counters began.
    zeros: bool,
    batch: Batch,
    /// Series, and where the floats, histograms and exemplars of each end.
    ends: Vec<(Labels, [usize; 3])>,
    counts: [usize; 3],
    /// Series with histograms in the batch, which takes floats before histograms.
    with_histograms: HashSet<SeriesRef>,
    written: Written,
    wrong: Vec<String>,
    failed: Option<Refused>,
}

impl<'a> Taken<'a> {
    /// Nothing yet. No sample may be later than `latest`; `zeros` says whether they are put where counters began.
    pub(super) fn new(storage: &'a Storage, latest: i64, zeros: bool) -> Self {
        Self {
            storage,
            latest,
            zeros,
            batch: Batch::default(),
            ends: Vec::new(),
            counts: [0; 3],
            with_histograms: HashSet::new(),
            written: Written::default(),
            wrong: Vec::new(),
            failed: None,
        }
    }

    /// Adds a series; what is wrong with it alone is kept for the answer.
    pub(super) fn add(&mut self, series: Series, version: Version) -> Result<(), Wrong> {
        let labels = match series.labels {
            Ok(labels) => labels,
            // Version 1 has no words for it: such series are left out.
            Err(wrong) => {
                if version != Version::One {
                    self.wrong.push(wrong);
                }
                return Ok(());
            }
        };
        if version == Version::Two && series.floats.is_empty() && series.histograms.is_empty() {
            let wrong = format!("TimeSeries must contain at least one sample or histogram for series {labels}");
            self.wrong.push(wrong);
            return Ok(());
        }
        if let Some(Err(wrong)) = &series.metadata {
            self.wrong.push(format!("parsing metadata for series {labels}: {wrong}"));
            return Ok(());
        }
        let reference = match self.storage.series(&labels) {
            Ok(reference) => reference,
            Err(tsdb::Error::Labels { labels, reason }) => {
                self.wrong.push(format!("invalid metric name or labels, got {labels}: {reason}"));
                return Ok(());
            }
            Err(error) => {
                self.failed.get_or_insert((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()));
                return Ok(());
            }
        };
        if !series.floats.is_empty() && self.with_histograms.contains(&reference) {
            // Floats that follow histograms of their series: what is gathered goes first.
            if let Err(refused) = self.store() {
                self.failed.get_or_insert(refused);
                return Ok(());
            }
        }
        if !series.histograms.is_empty() {
            self.with_histograms.insert(reference);
        }
        for sample in series.floats {
            if sample.time > self.latest {
                self.too_late(&labels, version);
                continue;
            }
            if self.zeros && sample.start > 0 && sample.start < sample.time {
                self.batch.start(reference, sample.start, Zero::Float);
            }
            self.batch.float(reference, sample.time, sample.value);
            self.counts[0] += 1;
        }
        for sample in series.histograms {
            if sample.time > self.latest {
                self.too_late(&labels, version);
                continue;
            }
            let (value, zero) = match reduced(sample.value) {
                HistogramValue::Integer(value) => (HistogramValue::Integer(value), Zero::Integer),
                HistogramValue::Float(value) => (HistogramValue::Float(value), Zero::FloatHistogram),
            };
            let checked = match &value {
                value if value.is_stale() => Ok(()),
                HistogramValue::Integer(histogram) => histogram.check(),
                HistogramValue::Float(histogram) => histogram.check(),
            };
            if let Err(wrong) = checked {
                self.refuse(wrong.to_string(), &labels, version);
                continue;
            }
            if self.zeros && sample.start > 0 && sample.start < sample.time {
                self.batch.start(reference, sample.start, zero);
            }
            self.batch.histogram(reference, sample.time, value);
            self.counts[1] += 1;
        }
        for exemplar in series.exemplars {
            match exemplar {
                Ok(exemplar) => {
                    self.batch.exemplar(reference, Exemplar { ..exemplar });
                    self.counts[2] += 1;
                }
                Err(wrong) => self.wrong.push(format!("parsing exemplar for series {labels}: {wrong}")),
            }
        }
        if let Some(Ok(metadata)) = series.metadata
            && metadata != (tsdb::Metadata { kind: "unknown".to_owned(), ..tsdb::Metadata::default() })
        {
            self.batch.metadata(reference, metadata);
        }
        self.ends.push((labels, self.counts));
        Ok(())
    }

    fn too_late(&mut self, labels: &Labels, version: Version) {
        self.refuse("out of bounds: timestamp is too far in the future".to_owned(), labels, version);
    }

    fn refuse(&mut self, wrong: String, labels: &Labels, version: Version) {
        self.wrong.push(if version != Version::One { format!("{wrong} for series {labels}") } else { wrong });
    }

    /// The series that a sample of a kind belongs to, by the sample's place.
    fn series_of(&self, kind: usize, place: usize) -> &Labels {
        let at = self.ends.partition_point(|(_, ends)| ends[kind] <= place);
        &self.ends[at].0
    }

    /// Writes what is gathered, and begins anew.
    fn store(&mut self) -> Result<(), Refused> {
        let internal = |text: String| (StatusCode::INTERNAL_SERVER_ERROR, text);
        let outcome = match self.storage.append(&self.batch, Durability::Synced) {
            Ok(outcome) => outcome,
            Err(AppendError::Storage(tsdb::Error::TooLarge(count))) => {
                return Err((StatusCode::BAD_REQUEST, tsdb::Error::TooLarge(count).to_string()));
            }
            Err(error) => return Err(internal(error.to_string())),
        };
        let [mut floats, mut histograms, mut exemplars] = self.counts;
        for (place, reject) in &outcome.rejected {
            let (kind, at) = match place {
                Of::Float(at) => (0, *at),
                Of::Histogram(at) => (1, *at),
            };
            if kind == 0 {
                floats -= 1
            } else {
                histograms -= 1
            }
            if *reject == Reject::Unknown {
                return Err(internal(
                    "a series was removed while its samples were written: send them again".to_owned(),
                ));
            }
            let wrong = format!("{reject} for series {}", self.series_of(kind, at));
            self.wrong.push(wrong);
        }
        for (at, refused) in &outcome.exemplars {
            match refused {
                // The same again counts as taken.
                RefusedExemplar::Duplicate => {}
                RefusedExemplar::OutOfOrder => {
                    exemplars -= 1;
                    let wrong = format!("{refused} for series {}", self.series_of(2, *at));
                    self.wrong.push(wrong);
                }
                _ => exemplars -= 1,
            }
        }
        self.written.floats += floats;
        self.written.histograms += histograms;
        self.written.exemplars += exemplars;
        self.batch.clear();
        self.ends.clear();
        self.with_histograms.clear();
        self.counts = [0; 3];
        Ok(())
    }

    /// Writes what is left; what was written, and what was wrong.
    pub(super) fn commit(mut self) -> Result<Outcome, Refused> {
        if let Some(refused) = self.failed.take() {
            return Err(refused);
        }
        self.store()?;
        Ok(Outcome { written: self.written, wrong: self.wrong })
    }
}

/// A histogram of a resolution that is higher than any stored one, brought down to that.
fn reduced(value: HistogramValue) -> HistogramValue {
    let high = |schema: i32| schema > MAX_SCHEMA && schema <= MAX_RESERVED_SCHEMA;
    match value {
        HistogramValue::Integer(value) if high(value.schema) && value.check().is_ok() => {
            HistogramValue::Integer(value.reduced(MAX_SCHEMA).into())
        }
        HistogramValue::Float(value) if high(value.schema) && value.check().is_ok() => {
            HistogramValue::Float(value.reduced(MAX_SCHEMA).into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
