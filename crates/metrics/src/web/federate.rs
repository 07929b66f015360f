//! Federation: the newest samples of series that match, for another Prometheus to scrape.
//!
//! Text or delimited protobuf, as the client asks; native histograms go only by protobuf, those with listed bounds also as
//! classic ones. See <https://prometheus.io/docs/prometheus/latest/federation/>.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use http::{HeaderMap, Response, StatusCode, header};
use jiff::Timestamp;
use promql::number;
use serve::Body;
use tsdb::{
    column::Columns,
    histogram::{FloatHistogram, ResetHint},
    labels::{Labels, NAME, is_plain_metric, is_plain_name, quote},
    sample::is_stale,
    select::Cursor,
};

use super::{Asked, form::Form, parameter, plain, reply, series::conditions};
use crate::{proto::Writer, query::millis};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
const TEXT_UTF8: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8";
const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores";
const PROTOBUF_UTF8: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8";

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    protobuf: bool,
    /// Whether names that are not plain are taken.
    utf8: bool,
}

impl Format {
    /// The first that the client lists and that is known here; text if none is.
    fn asked(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut best: Option<(f64, Self)> = None;
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(|part| part.trim().to_ascii_lowercase());
            let kind = parts.next().unwrap_or_default();
            let parameters: BTreeMap<String, String> = parts
                .filter_map(|part| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
                .collect();
            let get = |name: &str| parameters.get(name).map_or("", String::as_str);
            let protobuf = match kind.as_str() {
                "application/vnd.google.protobuf"
                    if get("proto") == "io.prometheus.client.metricfamily" && get("encoding") == "delimited" =>
                {
                    true
                }
                "text/plain" if matches!(get("version"), "" | "0.0.4" | "1.0.0") => false,
                _ => continue,
            };
            let weight = get("q").parse().unwrap_or(1.0);
            if best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, Self { protobuf, utf8: get("escaping") == "allow-utf-8" }));
            }
        }
        best.map_or(Self { protobuf: false, utf8: false }, |(_, format)| format)
    }

    fn kind(self) -> &'static str {
        match (self.protobuf, self.utf8) {
            (false, false) => TEXT,
            (false, true) => TEXT_UTF8,
            (true, false) => PROTOBUF,
            (true, true) => PROTOBUF_UTF8,
        }
    }

    fn name(self, name: &str, metric: bool) -> String {
        let fits = if metric { is_plain_metric(name) } else { is_plain_name(name) };
        if self.utf8 || fits {
            return name.to_owned();
        }
        let valid = |(at, c): (usize, char)| {
            let fits = c.is_ascii_alphabetic() || c == '_' || (metric && c == ':') || (at > 0 && c.is_ascii_digit());
            if fits { c } else { '_' }
        };
        name.chars().enumerate().map(valid).collect()
    }
}

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// The newest sample of a series.
#[derive(Clone, Debug)]
struct Newest {
    labels: Labels,
    time: i64,
    value: Value,
}

impl Newest {
    /// What samples of one family share: type beside the name.
    fn kind(&self) -> (bool, bool) {
        match &self.value {
            Value::Float(_) => (false, false),
            Value::Histogram(histogram) => (true, histogram.reset == ResetHint::Gauge),
        }
    }
}

/// `/federate`
pub async fn federate(asked: &Asked<'_>, form: &Form, headers: &HeaderMap) -> Response<Body> {
    let failed = |status, error: String| plain(status, format!("{error}\n"));
    let sets = match form.checked() {
        Err(error) => return failed(StatusCode::BAD_REQUEST, error),
        Ok(form) => {
            let parsed: Result<Vec<_>, _> =
                form.all("match[]").into_iter().map(promql::parse::parse_selector).collect();
            match parsed {
                Ok(sets) => sets,
                Err(error) => return failed(StatusCode::BAD_REQUEST, error.to_string()),
            }
        }
    };
    let now = parameter_now();
    let from = now.saturating_sub(millis(asked.metrics.engine().lookback()));
    let storage = asked.metrics.storage().clone();
    let found = tokio::task::spawn_blocking(move || {
        let mut found: Vec<Newest> = Vec::new();
        for set in &sets {
            let selection = storage.db().select(&conditions(set), from, now)?;
            let (mut cursor, mut columns) = (Cursor::default(), Columns::default());
            for nth in 0..selection.len() {
                selection.read(nth, &mut cursor, &mut columns)?;
                if let Some((time, value)) = newest(&columns) {
                    found.push(Newest { labels: selection.labels(nth).clone(), time, value });
                }
            }
        }
        found.sort_by(|one, other| {
            one.labels.metric().cmp(other.labels.metric()).then_with(|| one.labels.cmp(&other.labels))
        });
        found.dedup_by(|one, other| one.labels == other.labels);
        Ok::<_, tsdb::Error>(found)
    });
    let found = match found.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(error) => return failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let mut external: Vec<(String, String)> =
        asked.metrics.loaded().external.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if !external.iter().any(|(name, _)| name == "instance") {
        external.push(("instance".to_owned(), String::new()));
        external.sort();
    }
    let format = Format::asked(headers);
    let mut found = found.into_iter().peekable();
    let families = std::iter::from_fn(move || {
        let first = found.next()?;
        let mut family = vec![first];
        while let Some(next) =
            found.next_if(|next| next.labels.metric() == family[0].labels.metric() && next.kind() == family[0].kind())
        {
            family.push(next);
        }
        Some(write(&family, &external, format))
    });
    reply::streamed(Box::new(families), format.kind(), headers)
}

fn parameter_now() -> i64 {
    Timestamp::now().as_millisecond().clamp(parameter::MIN_TIME, parameter::MAX_TIME)
}

fn newest(columns: &Columns) -> Option<(i64, Value)> {
    let float = columns.times.last().copied().zip(columns.values.last().copied());
    let histogram = columns.histograms.last();
    match (float, histogram) {
        (Some((time, value)), histogram) if histogram.is_none_or(|later| later.0 < time) => {
            (!is_stale(value)).then_some((time, Value::Float(value)))
        }
        (_, Some((time, value))) => (!value.is_stale()).then(|| (*time, Value::Histogram(value.to_float()))),
        _ => None,
    }
}

/// A sample's own labels, and external ones that it does not have.
fn labels(sample: &Newest, external: &[(String, String)], format: Format) -> Vec<(String, String)> {
    let own = sample.labels.iter().filter(|(name, _)| *name != NAME);
    let own = own.map(|(name, value)| (format.name(name, false), value.to_owned()));
    let added = external.iter().filter(|(name, _)| !sample.labels.has(name)).cloned();
    own.chain(added).collect()
}

fn write(family: &[Newest], external: &[(String, String)], format: Format) -> Vec<u8> {
    let name = family[0].labels.metric();
    if name.is_empty() {
        return Vec::new();
    }
    let name = format.name(name, true);
    let labelled = family.iter().map(|sample| (sample, labels(sample, external, format)));
    if format.protobuf {
        return protobuf(&name, family[0].kind(), labelled);
    }
    let mut out = String::new();
    for (sample, labels) in labelled {
        text(&mut out, &name, sample, &labels);
    }
    if out.is_empty() {
        return Vec::new();
    }
    let kind = match family[0].kind() {
        (false, _) => "untyped",
        (true, _) => "histogram",
    };
    let shown = if is_plain_metric(&name) { name } else { quote(&name) };
    format!("# TYPE {shown} {kind}\n{out}").into_bytes()
}

/// A line; nothing can go wrong when it is written into a string.
fn line(out: &mut String, name: &str, suffix: &str, labels: &[(String, String)], le: Option<f64>, value: f64, at: i64) {
    let whole = format!("{name}{suffix}");
    let plain = is_plain_metric(&whole);
    if plain {
        out.push_str(&whole);
    }
    let bound = le.map(|le| ("le".to_owned(), number::short(le)));
    let all = labels.iter().chain(bound.as_ref());
    let shown = |name: &str| if is_plain_name(name) { name.to_owned() } else { quote(name) };
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
    let pairs = all.map(|(name, value)| format!("{}=\"{}\"", shown(name), escaped(value)));
    let inside: Vec<String> = (!plain).then(|| quote(&whole)).into_iter().chain(pairs).collect();
    if !inside.is_empty() {
        let _ = write!(out, "{{{}}}", inside.join(","));
    }
    let _ = writeln!(out, " {} {at}", number::short(value));
}

fn text(out: &mut String, name: &str, sample: &Newest, labels: &[(String, String)]) {
    match &sample.value {
        Value::Float(value) => line(out, name, "", labels, None, *value, sample.time),
        // Exponential buckets have no place in text.
        Value::Histogram(histogram) if !histogram.is_custom() => {}
        Value::Histogram(histogram) => {
            for (bound, count) in classic(histogram) {
                line(out, name, "_bucket", labels, Some(bound), count, sample.time);
            }
            line(out, name, "_bucket", labels, Some(f64::INFINITY), histogram.count, sample.time);
            line(out, name, "_sum", labels, None, histogram.sum, sample.time);
            line(out, name, "_count", labels, None, histogram.count, sample.time);
        }
    }
}

/// Listed bounds with what is at or below each.
fn classic(histogram: &FloatHistogram) -> Vec<(f64, f64)> {
    let mut counts = vec![0.0; histogram.custom.len() + 1];
    for bucket in histogram.positive_buckets() {
        if let Some(count) = usize::try_from(bucket.index).ok().and_then(|at| counts.get_mut(at)) {
            *count += bucket.count;
        }
    }
    let mut total = 0.0;
    let sums = counts.into_iter().map(|count| {
        total += count;
        total
    });
    histogram.custom.iter().copied().zip(sums.collect::<Vec<_>>()).collect()
}

/// A `MetricFamily` with its length before it. See
/// <https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>.
fn protobuf<'a>(
    name: &str,
    (histogram, gauge): (bool, bool),
    samples: impl Iterator<Item = (&'a Newest, Vec<(String, String)>)>,
) -> Vec<u8> {
    const UNTYPED: u64 = 3;
    const HISTOGRAM: u64 = 4;
    const GAUGE_HISTOGRAM: u64 = 5;
    let mut family = Writer::default();
    family.text(1, name);
    let kind = if !histogram {
        UNTYPED
    } else if gauge {
        GAUGE_HISTOGRAM
    } else {
        HISTOGRAM
    };
    family.varint(3, kind);
    for (sample, labels) in samples {
        family.message(4, |metric| {
            for (name, value) in &labels {
                metric.message(1, |pair| {
                    pair.text(1, name);
                    pair.text(2, value);
                });
            }
            match &sample.value {
                Value::Float(value) => metric.message(5, |untyped| untyped.double(1, *value)),
                Value::Histogram(histogram) if histogram.is_custom() => {
                    metric.message(7, |out| write_classic(out, histogram));
                }
                Value::Histogram(histogram) => metric.message(7, |out| write_native(out, histogram)),
            }
            metric.varint(6, sample.time as u64);
        });
    }
    family.delimited()
}

fn write_classic(out: &mut Writer, histogram: &FloatHistogram) {
    out.double(2, histogram.sum);
    for (bound, count) in classic(histogram) {
        out.message(3, |bucket| {
            bucket.double(2, bound);
            bucket.double(4, count);
        });
    }
    out.double(4, histogram.count);
}

fn write_native(out: &mut Writer, histogram: &FloatHistogram) {
    out.double(2, histogram.sum);
    out.double(4, histogram.count);
    out.sint(5, i64::from(histogram.schema));
    out.double(6, histogram.zero_threshold);
    out.double(8, histogram.zero_count);
    let sides = [(9, 11, &histogram.negative), (12, 14, &histogram.positive)];
    for (span_field, count_field, buckets) in sides {
        for span in &buckets.spans {
            out.message(span_field, |out| {
                out.sint(1, i64::from(span.offset));
                out.varint(2, u64::from(span.length));
            });
        }
        for count in &buckets.values {
            out.double(count_field, *count);
        }
    }
}

#[cfg(test)]
mod tests;
