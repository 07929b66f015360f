//! Queries: at one time, over steps; printing and parsing them; exemplars.

use jiff::Timestamp;
use promql::{
    ast::Type,
    eval::Outcome,
    limit::{EvalError, Statistics},
    print, tree,
    value::{Answer as Value, Stream, VectorSample},
};
use tsdb::labels::quote;

use super::{
    Asked, columns,
    form::Form,
    json,
    parameter::{self, MAX_TIME, MIN_TIME},
    reply::{Answer, Data, Failure, PIECE, Reply},
};
use crate::query::{self, When};

/// Most steps of a query.
const STEPS: i128 = 11_000;
/// Warnings and infos at most, each.
const NOTES: usize = 10;
const TRUNCATED: &str = "results truncated due to limit";

/// `/api/v1/query`
pub async fn instant(asked: &Asked<'_>, form: &Form) -> Answer {
    let limit = parameter::limit(form)?;
    let time = parameter::time_or(form, "time", Timestamp::now().as_millisecond())?;
    run(asked, form, When::At(time), limit).await
}

/// `/api/v1/query_range`
pub async fn range(asked: &Asked<'_>, form: &Form) -> Answer {
    let limit = parameter::limit(form)?;
    let time = |name| parameter::time(form.first(name)).map_err(|error| Failure::parameter(name, error));
    let (start, end) = (time("start")?, time("end")?);
    if end < start {
        return Err(Failure::parameter("end", "end timestamp must not be before start time"));
    }
    let step = parameter::length(form.first("step")).map_err(|error| Failure::parameter("step", error))?;
    if step <= 0 {
        let wrong = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(Failure::parameter("step", wrong));
    }
    if (i128::from(end) - i128::from(start)) * 1_000_000 / i128::from(step) > STEPS {
        return Err(Failure::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    // Less than a millisecond is one.
    run(asked, form, When::Range { start, end, step: (step / 1_000_000).max(1) }, limit).await
}

async fn run(asked: &Asked<'_>, form: &Form, when: When, limit: usize) -> Answer {
    let timeout = parameter::span(form, "timeout").map_err(|error| Failure::parameter("timeout", error))?;
    let lookback = parameter::span(form, "lookback_delta")
        .map_err(|error| Failure::bad(format!("error parsing lookback delta duration: {error}")))?
        .filter(|lookback| !lookback.is_zero());
    let text = form.first("query");
    let engine = asked.metrics.engine();
    let expr = engine.parse(text).map_err(|error| Failure::parameter("query", error))?;
    let kind = expr.value_type();
    if matches!(when, When::Range { .. }) && !matches!(kind, Type::Scalar | Type::Vector) {
        return Err(Failure::parameter(
            "query",
            format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                kind.documented()
            ),
        ));
    }
    let evaluated = engine.run(expr, when, query::Asked { lookback, timeout, subquery_step: None }).await;
    if evaluated.is_err() {
        asked.metrics.counters().failed();
    }
    let Outcome { mut answer, notes, statistics } = evaluated.map_err(|error| match error {
        // What was cancelled with the request never gets here; the time ran out while waiting for room.
        EvalError::TimedOut(place) => Failure::from(EvalError::TimedOut(place)),
        other => Failure::from(other),
    })?;
    let (mut warnings, infos) = notes.texts(text, NOTES);
    let cut = match &mut answer {
        Value::Matrix(streams) => truncated(streams, limit),
        Value::Vector(_, samples) => truncated(samples, limit),
        Value::Scalar(..) | Value::Text(..) => false,
    };
    if cut {
        warnings.push(TRUNCATED.to_owned());
    }
    let stats = form.first("stats");
    let answer = match (answer, when) {
        (Value::Matrix(streams), When::Range { step, .. })
            if asked.columns && stats.is_empty() && columns::fits(&streams) =>
        {
            return Ok(Reply { data: Data::Columns { streams, step }, warnings, infos });
        }
        (other, _) => other,
    };
    if !matches!(stats, "" | "true" | "all") {
        warnings.push(format!(
            "value {} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\"",
            quote(stats)
        ));
    }
    let mut last = Vec::new();
    if !stats.is_empty() {
        last.extend_from_slice(b",\"stats\":");
        write_statistics(&mut last, statistics);
    }
    last.push(b'}');
    Ok(Reply { data: written(answer, last), warnings, infos })
}

fn truncated<T>(results: &mut Vec<T>, limit: usize) -> bool {
    let cut = limit > 0 && results.len() > limit;
    if cut {
        results.truncate(limit);
    }
    cut
}

fn write_statistics(out: &mut Vec<u8>, statistics: Statistics) {
    let seconds = statistics.time.as_secs_f64();
    let value = serde_json::json!({
        "timings": {
            "evalTotalTime": seconds,
            "resultSortTime": 0.0,
            "queryPreparationTime": 0.0,
            "innerEvalTime": seconds,
            "execQueueTime": 0.0,
            "execTotalTime": seconds,
        },
        "samples": {
            "totalQueryableSamples": statistics.read,
            "samplesRead": statistics.read,
            "peakSamples": statistics.peak,
        },
    });
    out.extend_from_slice(value.to_string().as_bytes());
}

/// The result as it is shown; `last` closes it.
fn written(answer: Value, last: Vec<u8>) -> Data {
    let opened = |kind: &str| format!("{{\"resultType\":\"{kind}\",\"result\":").into_bytes();
    match answer {
        Value::Scalar(time, value) => {
            let mut out = opened("scalar");
            json::sample(&mut out, time, value);
            out.extend_from_slice(&last);
            Data::Whole(out)
        }
        Value::Text(time, text) => {
            let mut out = opened("string");
            out.push(b'[');
            json::time(&mut out, time);
            out.push(b',');
            json::text(&mut out, &text);
            out.push(b']');
            out.extend_from_slice(&last);
            Data::Whole(out)
        }
        Value::Vector(time, samples) => {
            let write = move |out: &mut Vec<u8>, sample: VectorSample| {
                out.extend_from_slice(b"{\"metric\":");
                json::labels(out, &sample.labels);
                match sample.value {
                    promql::value::Value::Float(value) => {
                        out.extend_from_slice(b",\"value\":");
                        json::sample(out, time, value);
                    }
                    promql::value::Value::Histogram(value) => {
                        out.extend_from_slice(b",\"histogram\":");
                        json::histogram_sample(out, time, &value);
                    }
                }
                out.push(b'}');
            };
            list(opened("vector"), samples, write, last)
        }
        Value::Matrix(streams) => list(opened("matrix"), streams, write_stream, last),
    }
}

fn write_stream(out: &mut Vec<u8>, stream: Stream) {
    out.extend_from_slice(b"{\"metric\":");
    json::labels(out, &stream.labels);
    for (nth, (time, value)) in stream.floats.iter().enumerate() {
        out.extend_from_slice(if nth == 0 { b",\"values\":[" } else { b"," });
        json::sample(out, *time, *value);
    }
    if !stream.floats.is_empty() {
        out.push(b']');
    }
    for (nth, (time, value)) in stream.histograms.iter().enumerate() {
        out.extend_from_slice(if nth == 0 { b",\"histograms\":[" } else { b"," });
        json::histogram_sample(out, *time, value);
    }
    if !stream.histograms.is_empty() {
        out.push(b']');
    }
    out.push(b'}');
}

/// A list whose items are written when they are needed, many at a time.
pub fn list<T: Send + 'static>(
    opened: Vec<u8>,
    items: Vec<T>,
    write: impl Fn(&mut Vec<u8>, T) + Send + 'static,
    last: Vec<u8>,
) -> Data {
    let mut items = items.into_iter();
    let mut begun = false;
    let mut piece = opened;
    piece.push(b'[');
    let mut last = Some(last);
    Data::Pieces(Box::new(std::iter::from_fn(move || {
        last.as_ref()?;
        let mut out = std::mem::take(&mut piece);
        while out.len() < PIECE {
            let Some(item) = items.next() else {
                out.push(b']');
                out.extend_from_slice(&last.take()?);
                break;
            };
            if std::mem::replace(&mut begun, true) {
                out.push(b',');
            }
            write(&mut out, item);
        }
        Some(out)
    })))
}

/// `/api/v1/format_query`
pub fn format(asked: &Asked<'_>, form: &Form) -> Answer {
    let expr = asked.metrics.engine().parse(form.first("query")).map_err(|error| Failure::parameter("query", error))?;
    let mut out = Vec::new();
    json::text(&mut out, &print::pretty(&expr));
    Ok(Reply::new(out))
}

/// `/api/v1/parse_query`
pub fn parse(asked: &Asked<'_>, form: &Form) -> Answer {
    let expr = asked.metrics.engine().parse(form.first("query")).map_err(|error| Failure::parameter("query", error))?;
    Reply::value(&tree::json(&expr))
}

/// `/api/v1/query_exemplars`
pub fn exemplars(asked: &Asked<'_>, form: &Form) -> Answer {
    let start = parameter::time_or(form, "start", MIN_TIME)?;
    let end = parameter::time_or(form, "end", MAX_TIME)?;
    if end < start {
        return Err(Failure::bad("end timestamp must not be before start timestamp"));
    }
    let expr = asked.metrics.engine().parse(form.first("query")).map_err(|error| Failure::bad(error.to_string()))?;
    let lists: Vec<Vec<tsdb::matcher::Matcher>> = expr
        .selectors()
        .iter()
        .map(|selector| selector.matchers.iter().map(promql::database::condition).collect())
        .collect();
    if lists.is_empty() {
        return Ok(Reply::nothing());
    }
    let lists: Vec<&[tsdb::matcher::Matcher]> = lists.iter().map(Vec::as_slice).collect();
    let found = asked.metrics.storage().db().exemplars(&lists, start, end);
    let data = list(
        Vec::new(),
        found,
        |out, (labels, exemplars)| {
            out.extend_from_slice(b"{\"seriesLabels\":");
            json::labels(out, &labels);
            out.extend_from_slice(b",\"exemplars\":[");
            for (nth, exemplar) in exemplars.iter().enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(b"{\"labels\":");
                json::labels(out, &exemplar.labels);
                out.extend_from_slice(b",\"value\":");
                json::float(out, exemplar.value);
                out.extend_from_slice(b",\"timestamp\":");
                json::time(out, exemplar.timestamp.unwrap_or_default());
                out.push(b'}');
            }
            out.extend_from_slice(b"]}");
        },
        Vec::new(),
    );
    Ok(Reply { data, warnings: Vec::new(), infos: Vec::new() })
}
