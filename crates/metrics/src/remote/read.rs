//! Samples that are read from others: `remote_read` of the configuration.
//!
//! ```text
//! selector ─ what is here? ─ required labels ─ external labels ─▶ request ─▶ samples, or frames of chunks
//!                                                                              │
//! series of the data base ──────────────── merged by labels and time ◀─────────┘
//! ```
//!
//! What others have is a bonus, as Prometheus has it: one who does not answer makes a warning, not an error. Chunks are
//! held as they came and read when the series' turn comes. How many bytes an answer may have is bounded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use promql::{
    matcher::{Comparison, Matcher},
    storage::{Hints, Selection, StorageError},
    value::Samples,
};
use task::Task;
use tsdb::{
    column::Columns,
    labels::{Labels, quote},
    prometheus,
};

use super::{message, words};
use crate::{
    Metrics,
    config::remote::RemoteRead,
    http_client::Client,
    proto::{Reader as Proto, Torn, Writer},
    storage::Elsewhere,
    summary,
};

/// Bytes of an answer that are held at most.
const HELD: usize = 512 << 20;
/// Bytes of an answer of samples at most, unpacked.
const UNPACKED: usize = 256 << 20;
/// Bytes of an answer that are read to say what was wrong.
const WORDS: usize = 4096;
/// How far behind the beginning of the oldest block data is only looked for here: two blocks.
const MARGIN: i64 = 4 * 3600 * 1000;

/// A part of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// A chunk as Prometheus writes it.
    Chunk(u8, Bytes),
    /// Samples.
    Samples(Columns),
}

/// Series by their labels.
pub type Found = HashMap<Labels, Vec<Piece>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of queries, for `/metrics`.
#[derive(Debug, Default)]
struct Totals {
    under_way: AtomicI64,
    /// By type of the answer and status.
    answered: Mutex<BTreeMap<(&'static str, String), u64>>,
}

/// All who are read from. Clones are the same.
#[derive(Clone, Debug)]
pub struct Readers {
    metrics: Metrics,
    running: Arc<Mutex<Vec<Arc<Reader>>>>,
}

impl Readers {
    /// None yet.
    pub fn new(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), running: Arc::default() }
    }

    /// Reads from these from now on.
    pub fn apply(&self, configs: &[RemoteRead], external: &Labels) -> Result<()> {
        let task = self.metrics.task().child("remote read");
        let mut readers: Vec<Arc<Reader>> = Vec::new();
        for config in configs {
            if readers.iter().any(|reader| reader.config == *config) {
                let url = &config.url.0;
                bail!("duplicate remote read configs are not allowed, found duplicate for URL: {url}");
            }
            let reader = Reader::new(config, external, &self.metrics, task.clone());
            readers.push(Arc::new(reader.with_context(|| format!("remote read from {}", config.url.0))?));
        }
        let elsewhere = readers.iter().map(|reader| Arc::new(Door(reader.clone())) as Arc<dyn Elsewhere>);
        self.metrics.storage().read_elsewhere(elsewhere.collect());
        *lock(&self.running) = readers;
        Ok(())
    }

    /// Adds what became of queries to an exposition.
    pub fn expose(&self, out: &mut String) {
        let running = lock(&self.running);
        if running.is_empty() {
            return;
        }
        let name = "prometheus_remote_read_client_queries";
        summary::head(name, "gauge", "The number of in-flight remote read queries.", out);
        for reader in running.iter() {
            let count = reader.totals.under_way.load(Ordering::Relaxed);
            out.push_str(&format!("{name}{{{}}} {count}\n", reader.labels()));
        }
        let name = "prometheus_remote_read_client_queries_total";
        summary::head(name, "counter", "The total number of remote read queries.", out);
        for reader in running.iter() {
            for ((kind, code), count) in lock(&reader.totals.answered).iter() {
                let labels = reader.labels();
                out.push_str(&format!("{name}{{code=\"{code}\",{labels},response_type=\"{kind}\"}} {count}\n"));
            }
        }
    }
}

/// Reads from one.
#[derive(Debug)]
struct Reader {
    name: String,
    config: RemoteRead,
    external: Labels,
    metrics: Metrics,
    client: Client,
    uri: Uri,
    headers: HeaderMap,
    totals: Totals,
    task: Task,
    runtime: tokio::runtime::Handle,
}

/// One who is read from, as storage knows it.
struct Door(Arc<Reader>);

/// Counts a query for as long as it is under way.
struct UnderWay<'a>(&'a AtomicI64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Elsewhere for Door {
    fn select(&self, matchers: &[Matcher], hints: &Hints) -> Result<Option<Found>, String> {
        let reader = &self.0;
        let Some(end) = reader.until(hints) else { return Ok(None) };
        if !reader.asked_for(matchers) {
            return Ok(None);
        }
        let (message, added) = request(matchers, hints, end, &reader.external);
        let found = reader.ask(message).map_err(|error| format!("remote_read: {error}"))?;
        if added.is_empty() {
            return Ok(Some(found));
        }
        let mut bare = Found::with_capacity(found.len());
        for (labels, pieces) in found {
            let labels = labels.without(|name| added.iter().any(|added| added == name));
            bare.entry(labels).or_default().extend(pieces);
        }
        Ok(Some(bare))
    }
}

impl Reader {
    fn new(config: &RemoteRead, external: &Labels, metrics: &Metrics, task: Task) -> Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        for (name, value) in [
            (header::CONTENT_ENCODING, "snappy"),
            (header::ACCEPT_ENCODING, "snappy"),
            (header::CONTENT_TYPE, "application/x-protobuf"),
            (header::USER_AGENT, concat!("madang/", env!("CARGO_PKG_VERSION"))),
            (HeaderName::from_static("x-prometheus-remote-read-version"), "0.1.0"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let sum = prometheus::checksum(&[config.url.0.as_bytes()]);
        Ok(Self {
            name: if config.name.is_empty() { format!("{sum:08x}") } else { config.name.clone() },
            client: Client::new(&config.http).map_err(anyhow::Error::msg)?,
            uri: config.url.0.parse().with_context(|| format!("url {}", config.url.0))?,
            headers,
            external: if config.filter_external_labels { external.clone() } else { Labels::empty() },
            config: config.clone(),
            metrics: metrics.clone(),
            totals: Totals::default(),
            task,
            runtime: tokio::runtime::Handle::try_current().context("remote read outside of a runtime")?,
        })
    }

    fn labels(&self) -> String {
        format!("remote_name={},url={}", quote(&self.name), quote(&self.config.url.0))
    }

    /// Up to when it is asked; none where all that is wanted is here.
    fn until(&self, hints: &Hints) -> Option<i64> {
        if self.config.read_recent {
            return Some(hints.end);
        }
        let blocks = self.metrics.storage().db().block_list();
        let first = blocks.iter().map(|block| block.min).min();
        let first = first.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond()).saturating_add(MARGIN);
        (hints.start <= first).then(|| hints.end.min(first))
    }

    /// Whether a selector asks for all labels that it must ask for.
    fn asked_for(&self, matchers: &[Matcher]) -> bool {
        let equal = |name: &str, value: &str| {
            let same = |matcher: &Matcher| {
                matcher.comparison == Comparison::Equal && matcher.name == name && matcher.value == value
            };
            matchers.iter().any(same)
        };
        self.config.required_matchers.iter().all(|(name, value)| equal(name, value))
    }

    /// Asks, and blocks the thread until there is an answer.
    fn ask(self: &Arc<Self>, message: Vec<u8>) -> Result<Found, String> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let reader = self.clone();
        let _context = self.runtime.enter();
        self.task.spawn_until_cancelled("query", async move {
            reader.totals.under_way.fetch_add(1, Ordering::Relaxed);
            let _under_way = UnderWay(&reader.totals.under_way);
            let time = reader.config.remote_timeout.0;
            let exchanged = tokio::time::timeout(time, reader.exchange(&message)).await;
            let late = || Err(format!("error sending request: request timed out after {}", shown(time)));
            // Whoever asked may be gone.
            let _ = answer.send(exchanged.unwrap_or_else(|_| late()));
        });
        answered.recv().unwrap_or_else(|_| Err("shutting down".to_owned()))
    }

    async fn exchange(&self, message: &[u8]) -> Result<Found, String> {
        let packed = snap::raw::Encoder::new().compress_vec(message).map_err(|error| error.to_string())?;
        let sent = self.client.send(Method::POST, self.uri.clone(), self.headers.clone(), Bytes::from(packed)).await;
        let (parts, body) = sent.map_err(|failure| format!("error sending request: {failure}"))?.into_parts();
        if !parts.status.is_success() {
            let words = words(body, WORDS).await;
            let (url, status) = (&self.config.url.0, parts.status);
            return Err(format!("remote server {url} returned http status {status}: {words}"));
        }
        let kind = parts.headers.get(header::CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()));
        let kind = kind.as_deref().unwrap_or_default();
        let code = parts.status.as_u16().to_string();
        if kind.starts_with("application/x-protobuf") {
            self.count("sampled", code);
            return samples(whole(body).await?);
        }
        if kind.starts_with("application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse") {
            let found = frames(body, self.config.chunked_read_limit).await;
            self.count("chunked", if found.is_ok() { code } else { "aborted_stream".to_owned() });
            return found;
        }
        self.count("unsupported", code);
        Err(format!("unsupported content type: {kind}"))
    }

    fn count(&self, kind: &'static str, code: String) {
        *lock(&self.totals.answered).entry((kind, code)).or_default() += 1;
    }
}

fn shown(time: Duration) -> String {
    promql::duration::print(crate::query::millis(time))
}

/// A request, and the external labels that it asks for beside what the selector does.
fn request(matchers: &[Matcher], hints: &Hints, end: i64, external: &Labels) -> (Vec<u8>, Vec<String>) {
    let equal = |(name, value): (&str, &str)| (Comparison::Equal, name.to_owned(), value.to_owned());
    let added: Vec<_> =
        external.iter().filter(|(name, _)| matchers.iter().all(|matcher| matcher.name != *name)).map(equal).collect();
    let own = matchers.iter().map(|matcher| (matcher.comparison, matcher.name.clone(), matcher.value.clone()));
    let mut query = Writer::default();
    query.varint(1, hints.start as u64);
    query.varint(2, end as u64);
    for (comparison, name, value) in own.chain(added.iter().cloned()) {
        let number = match comparison {
            Comparison::Equal => 0,
            Comparison::NotEqual => 1,
            Comparison::Matches => 2,
            Comparison::MatchesNot => 3,
        };
        query.message(3, |out| {
            out.varint(1, number);
            out.text(2, &name);
            out.text(3, &value);
        });
    }
    query.message(4, |out| {
        out.varint(1, hints.step as u64);
        out.text(2, hints.function);
        out.varint(3, hints.start as u64);
        out.varint(4, end as u64);
        for label in &hints.grouping {
            out.text(5, label);
        }
        out.varint(6, u64::from(hints.by));
        out.varint(7, hints.range as u64);
    });
    let mut request = Writer::default();
    request.bytes(1, &query.0);
    // Chunks, else samples.
    request.varints(2, [1, 0]);
    (request.0, added.into_iter().map(|(_, name, _)| name).collect())
}

async fn whole(mut body: Incoming) -> Result<BytesMut, String> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("error reading response: {error}"))?;
        let Ok(piece) = frame.into_data() else { continue };
        if whole.len() + piece.len() > UNPACKED {
            return Err(format!("error reading response: larger than {UNPACKED} bytes"));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// An answer of samples.
fn samples(packed: BytesMut) -> Result<Found, String> {
    let bad = |error: snap::Error| format!("error reading response: {error}");
    if snap::raw::decompress_len(&packed).map_err(bad)? > UNPACKED {
        return Err(format!("error reading response: larger than {UNPACKED} bytes"));
    }
    let bytes = snap::raw::Decoder::new().decompress_vec(&packed).map_err(bad)?;
    drop(packed);
    let torn = |torn: Torn| format!("unable to unmarshal response body: proto: {torn}");
    let (mut found, mut results) = (Found::new(), 0);
    let mut response = Proto(&bytes);
    while let Some((number, field)) = response.field().map_err(torn)? {
        if number != 1 {
            continue;
        }
        results += 1;
        let mut result = Proto(field.bytes().map_err(torn)?);
        while let Some((number, field)) = result.field().map_err(torn)? {
            if number == 1 {
                let (labels, columns) = series(field.bytes().map_err(torn)?).map_err(torn)?;
                found.entry(labels).or_default().push(Piece::Samples(columns));
            }
        }
    }
    if results == 1 { Ok(found) } else { Err(format!("responses: want 1, got {results}")) }
}

fn series(bytes: &[u8]) -> Result<(Labels, Columns), Torn> {
    let (mut pairs, mut columns) = (Vec::new(), Columns::default());
    let mut series = Proto(bytes);
    while let Some((number, field)) = series.field()? {
        match number {
            1 => pairs.push(message::pair(field.bytes()?)?),
            2 => {
                let sample = message::float(field.bytes()?)?;
                columns.times.push(sample.time);
                columns.values.push(sample.value);
            }
            4 => {
                let sample = message::histogram(field.bytes()?)?;
                columns.histograms.push((sample.time, sample.value));
            }
            _ => {}
        }
    }
    Ok((Labels::from_pairs(pairs), columns))
}

/// An answer of frames: each has its length, its checksum and chunks of a series.
async fn frames(mut body: Incoming, largest: u64) -> Result<Found, String> {
    let mut found = Found::new();
    let (mut coming, mut held) = (BytesMut::new(), 0);
    loop {
        while let Some(frame) = frame(&mut coming, largest)? {
            held += frame.len();
            if held > HELD {
                return Err(format!("an answer has more than {HELD} bytes"));
            }
            chunks(&frame, &mut found).map_err(|torn| format!("chunkedReader: proto: {torn}"))?;
        }
        match body.frame().await {
            None if coming.is_empty() => return Ok(found),
            None => return Err("unexpected EOF".to_owned()),
            Some(Err(error)) => return Err(format!("error reading response: {error}")),
            Some(Ok(next)) => {
                if let Ok(piece) = next.into_data() {
                    coming.extend_from_slice(&piece);
                }
            }
        }
    }
}

/// The next whole frame of what has come.
fn frame(coming: &mut BytesMut, largest: u64) -> Result<Option<Bytes>, String> {
    let mut reader = Proto(coming);
    let length = match reader.varint() {
        Ok(length) => length,
        Err(Torn::Short) if coming.len() < 10 => return Ok(None),
        Err(torn) => return Err(format!("chunkedReader: {torn}")),
    };
    if length > largest {
        return Err(format!("chunkedReader: message size exceeded the limit {largest} bytes; got: {length} bytes"));
    }
    let begin = coming.len() - reader.0.len() + 4;
    let end = begin.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    if coming.len() < end {
        return Ok(None);
    }
    let mut taken = coming.split_to(end).freeze();
    taken.advance(begin - 4);
    let sum = taken.get_u32();
    if prometheus::checksum(&[&taken]) != sum {
        return Err("chunkedReader: corrupted frame; checksum mismatch".to_owned());
    }
    Ok(Some(taken))
}

fn chunks(frame: &Bytes, found: &mut Found) -> Result<(), Torn> {
    let mut response = Proto(frame);
    while let Some((number, field)) = response.field()? {
        if number != 1 {
            continue;
        }
        let (mut pairs, mut pieces) = (Vec::new(), Vec::new());
        let mut series = Proto(field.bytes()?);
        while let Some((number, field)) = series.field()? {
            match number {
                1 => pairs.push(message::pair(field.bytes()?)?),
                2 => {
                    let (mut encoding, mut data) = (0, Bytes::new());
                    let mut chunk = Proto(field.bytes()?);
                    while let Some((number, field)) = chunk.field()? {
                        match number {
                            3 => encoding = field.varint()? as u8,
                            4 => data = frame.slice_ref(field.bytes()?),
                            _ => {}
                        }
                    }
                    pieces.push(Piece::Chunk(encoding, data));
                }
                _ => {}
            }
        }
        found.entry(Labels::from_pairs(pairs)).or_default().extend(pieces);
    }
    Ok(())
}

/// Series of the data base, and what others have of them; then the series that only others have.
pub struct Merged<'a> {
    here: Option<Box<dyn Selection + 'a>>,
    found: Found,
    rest: std::vec::IntoIter<(Labels, Vec<Piece>)>,
    range: (i64, i64),
    warnings: Vec<String>,
}

impl<'a> Merged<'a> {
    /// Merges what was found elsewhere, with what should be told of it, into a selection.
    pub fn new(here: Box<dyn Selection + 'a>, found: Found, hints: &Hints, warnings: Vec<String>) -> Self {
        Self { here: Some(here), found, rest: Vec::new().into_iter(), range: (hints.start, hints.end), warnings }
    }

    /// Adds pieces to the samples of a series; of two at one time, the one of the data base stays.
    fn add(&self, pieces: Vec<Piece>, samples: &mut Samples) -> Result<(), StorageError> {
        let mut columns = Columns::default();
        std::mem::swap(&mut columns.times, &mut samples.times);
        std::mem::swap(&mut columns.values, &mut samples.floats);
        let own = samples.histogram_times.clone();
        for piece in pieces {
            match piece {
                Piece::Samples(more) => {
                    columns.times.extend(more.times);
                    columns.values.extend(more.values);
                    columns.histograms.extend(more.histograms);
                }
                Piece::Chunk(encoding, bytes) => prometheus::read_chunk(encoding, &bytes, &mut columns)
                    .map_err(|error| format!("remote_read: chunk: {error}"))?,
            }
        }
        let (start, end) = self.range;
        columns.remove(|time| time < start || time > end || own.binary_search(&time).is_ok());
        columns.arrange();
        samples.times = columns.times;
        samples.floats = columns.values;
        if columns.histograms.is_empty() {
            return Ok(());
        }
        let mut all: Vec<_> = samples.histogram_times.drain(..).zip(samples.histograms.drain(..)).collect();
        all.extend(columns.histograms.into_iter().map(|(time, value)| (time, value.to_float())));
        all.sort_by_key(|sample| sample.0);
        (samples.histogram_times, samples.histograms) = all.into_iter().unzip();
        Ok(())
    }
}

impl Selection for Merged<'_> {
    fn next(&mut self, samples: &mut Samples) -> Result<Option<Labels>, StorageError> {
        if let Some(here) = &mut self.here {
            if let Some(labels) = here.next(samples)? {
                if let Some(pieces) = self.found.remove(&labels) {
                    self.add(pieces, samples)?;
                }
                return Ok(Some(labels));
            }
            self.warnings.extend(here.warnings());
            self.here = None;
            let mut rest: Vec<_> = std::mem::take(&mut self.found).into_iter().collect();
            rest.sort_by(|a, b| a.0.cmp(&b.0));
            self.rest = rest.into_iter();
        }
        while let Some((labels, pieces)) = self.rest.next() {
            self.add(pieces, samples)?;
            if !samples.is_empty() {
                return Ok(Some(labels));
            }
        }
        Ok(None)
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}

#[cfg(test)]
mod tests;
