//! Samples that others read here: `/api/v1/read`, as samples or as streamed chunks.
//!
//! The whole answer of samples is held, bounded by a number of samples; chunks go out frame by frame as the client reads.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use promql::matcher::{Comparison, Matcher};
use serve::{Body, body};
use tsdb::{
    column::Columns,
    labels::Labels,
    prometheus,
    select::{Cursor, Selection},
};

use super::Refused;
use crate::{
    Metrics,
    proto::{Reader, Torn, Writer},
    remote::message,
    web::plain,
};

/// Queries of a request at most.
const QUERIES: usize = 1000;

/// A query of a request.
#[derive(Clone, Debug, PartialEq)]
struct Query {
    start: i64,
    end: i64,
    matchers: Vec<Matcher>,
}

fn matcher(bytes: &[u8]) -> Result<Result<Matcher, String>, Torn> {
    let (mut comparison, mut name, mut value) = (Comparison::Equal, "", "");
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => {
                comparison = match field.varint()? {
                    0 => Comparison::Equal,
                    1 => Comparison::NotEqual,
                    2 => Comparison::Matches,
                    3 => Comparison::MatchesNot,
                    _ => return Ok(Err("invalid matcher type".to_owned())),
                }
            }
            2 => name = field.text()?,
            3 => value = field.text()?,
            _ => {}
        }
    }
    Ok(Matcher::new(name, comparison, value))
}

fn query(bytes: &[u8]) -> Result<Result<Query, String>, Torn> {
    let mut query = Query { start: 0, end: 0, matchers: Vec::new() };
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => query.start = field.varint()? as i64,
            2 => query.end = field.varint()? as i64,
            3 => match matcher(field.bytes()?)? {
                Ok(matcher) => query.matchers.push(matcher),
                Err(wrong) => return Ok(Err(wrong)),
            },
            _ => {}
        }
    }
    Ok(Ok(query))
}

/// Queries, and whether chunks are wanted: of the forms that the client takes, the first that is known counts.
fn request(bytes: &[u8]) -> Result<(Vec<Query>, bool), Refused> {
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    let torn = |torn: Torn| bad(format!("proto: {torn}"));
    let (mut queries, mut form, mut unknown) = (Vec::new(), None, None);
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field().map_err(torn)? {
        match number {
            1 if queries.len() == QUERIES => return Err(bad(format!("more than {QUERIES} queries"))),
            1 => queries.push(query(field.bytes().map_err(torn)?).map_err(torn)?.map_err(bad)?),
            2 => field
                .varints(|asked| {
                    if matches!(asked, 0 | 1) {
                        form.get_or_insert(asked)
                    } else {
                        unknown.get_or_insert(asked)
                    };
                })
                .map_err(torn)?,
            _ => {}
        }
    }
    match (form, unknown) {
        (None, Some(unknown)) => {
            Err(bad(format!("server does not support any of the requested response types: [{unknown}]")))
        }
        (form, _) => Ok((queries, form == Some(1))),
    }
}

/// `/api/v1/read`
pub async fn read(metrics: &Metrics, body: Body) -> Response<Body> {
    match answer(metrics, body).await {
        Ok(response) => response,
        Err((status, text)) => plain(status, format!("{text}\n")),
    }
}

async fn answer(metrics: &Metrics, body: Body) -> Result<Response<Body>, Refused> {
    let closed = |_| (StatusCode::SERVICE_UNAVAILABLE, "shutting down".to_owned());
    let turn = metrics.reads().clone().acquire_owned().await.map_err(closed)?;
    let (queries, chunked) = {
        let held = metrics.room().unpacked(body).await?;
        request(&held.bytes)?
    };
    let external = metrics.loaded().external.clone();
    let (storage, web) = (metrics.storage().clone(), metrics.settings().web.clone());
    let internal = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error);
    let selected = tokio::task::spawn_blocking(move || {
        let mut selections = Vec::new();
        for query in &queries {
            let conditions = own(&query.matchers, &external);
            let select = if chunked { tsdb::Db::select_sorted } else { tsdb::Db::select };
            selections.push(select(storage.db(), &conditions, query.start, query.end)?);
        }
        Ok::<_, tsdb::Error>((selections, external))
    });
    let (selections, external) =
        selected.await.map_err(|error| internal(error.to_string()))?.map_err(|error| internal(error.to_string()))?;
    if chunked {
        let frames = Frames {
            selections,
            external,
            largest: web.remote_read_frame_bytes.max(1),
            query: 0,
            series: 0,
            pending: None,
            cursor: Cursor::default(),
            _turn: turn,
        };
        let mut response = Response::new(body::stream(futures::stream::iter(frames)));
        let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        return Ok(response);
    }
    let written = tokio::task::spawn_blocking(move || {
        let written = samples(&selections, &external, web.remote_read_samples);
        drop(turn);
        written
    });
    let bytes = written.await.map_err(|error| internal(error.to_string()))??;
    let mut response = Response::new(body::full(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    Ok(response)
}

/// Conditions on what is stored: an external label that is asked for is one that no stored series has.
fn own(matchers: &[Matcher], external: &Labels) -> Vec<tsdb::matcher::Matcher> {
    let of = |matcher: &Matcher| {
        let meant = matcher.comparison == Comparison::Equal && external.get(&matcher.name) == matcher.value;
        if meant { tsdb::matcher::Matcher::equal(&matcher.name, "") } else { promql::database::condition(matcher) }
    };
    matchers.iter().map(of).collect()
}

fn write_labels(out: &mut Writer, labels: &Labels, external: &Labels) {
    let mut builder = tsdb::labels::Builder::new(external);
    for (name, value) in labels {
        builder.set(name, value);
    }
    for (name, value) in &builder.labels() {
        out.message(1, |pair| {
            pair.text(1, name);
            pair.text(2, value);
        });
    }
}

fn samples(selections: &[Selection], external: &Labels, most: usize) -> Result<Vec<u8>, Refused> {
    let internal = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error);
    let mut response = Writer::default();
    let mut count = 0;
    let mut columns = Columns::default();
    for selection in selections {
        let mut result = Writer::default();
        let mut cursor = Cursor::default();
        for nth in 0..selection.len() {
            selection.read(nth, &mut cursor, &mut columns).map_err(|error| internal(error.to_string()))?;
            count += columns.len();
            if most > 0 && count > most {
                return Err((StatusCode::BAD_REQUEST, format!("exceeded sample limit ({most})")));
            }
            if columns.is_empty() {
                continue;
            }
            result.message(1, |series| {
                write_labels(series, selection.labels(nth), external);
                for (time, value) in columns.times.iter().zip(&columns.values) {
                    series.message(2, |sample| {
                        sample.double(1, *value);
                        sample.varint(2, *time as u64);
                    });
                }
                for (time, value) in &columns.histograms {
                    series.message(4, |histogram| message::write_histogram(histogram, *time, value));
                }
            });
        }
        response.bytes(1, &result.0);
    }
    snap::raw::Encoder::new().compress_vec(&response.0).map_err(|error| internal(error.to_string()))
}

/// Frames of chunks, made as they are read.
struct Frames {
    selections: Vec<Selection>,
    external: Labels,
    largest: usize,
    query: usize,
    series: usize,
    /// Labels and chunks of a series that did not fit the frame before.
    pending: Option<(Writer, std::vec::IntoIter<prometheus::Written>)>,
    cursor: Cursor,
    _turn: tokio::sync::OwnedSemaphorePermit,
}

impl Frames {
    /// Labels and chunks of the next series.
    fn next_series(&mut self) -> Option<Result<(Writer, std::vec::IntoIter<prometheus::Written>), tsdb::Error>> {
        loop {
            let selection = self.selections.get(self.query)?;
            if self.series >= selection.len() {
                (self.query, self.series, self.cursor) = (self.query + 1, 0, Cursor::default());
                continue;
            }
            let mut columns = Columns::default();
            if let Err(error) = selection.read(self.series, &mut self.cursor, &mut columns) {
                return Some(Err(error));
            }
            let mut labels = Writer::default();
            write_labels(&mut labels, selection.labels(self.series), &self.external);
            self.series += 1;
            if !columns.is_empty() {
                return Some(Ok((labels, prometheus::chunks(&columns).into_iter())));
            }
        }
    }
}

impl Iterator for Frames {
    type Item = Result<Bytes, body::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (labels, mut chunks) = match self.pending.take() {
            Some(pending) => pending,
            None => match self.next_series()? {
                Ok(series) => series,
                Err(error) => {
                    self.query = self.selections.len();
                    return Some(Err(error.into()));
                }
            },
        };
        let mut series = labels.clone();
        for chunk in chunks.by_ref() {
            series.message(2, |out| {
                out.varint(1, chunk.min as u64);
                out.varint(2, chunk.max as u64);
                out.varint(3, u64::from(chunk.encoding));
                out.bytes(4, &chunk.bytes);
            });
            if series.0.len() >= self.largest {
                break;
            }
        }
        if chunks.len() > 0 {
            self.pending = Some((labels, chunks));
        }
        let mut frame = Writer::default();
        frame.bytes(1, &series.0);
        frame.varint(2, self.query as u64);
        let sum = prometheus::checksum(&[&frame.0]).to_be_bytes();
        let delimited = frame.delimited_with(&sum);
        Some(Ok(Bytes::from(delimited)))
    }
}
