//! `POST /api/ds/query`: each query is asked of Prometheus, and its answer becomes data frames, one a series.
//!
//! <https://grafana.com/developers/dataplane/>

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use task::Task;

use crate::{answer::Refusal, upstream::Upstream};

/// Queries in one request.
const QUERIES: usize = 100;
/// Bytes of one answer of Prometheus.
const ANSWER: usize = 64 << 20;
/// The most points that Prometheus gives a series.
const POINTS: i64 = 11_000;

/// Answers all queries of a request; one that fails says so in its place.
pub async fn answer(task: &Task, upstream: &Upstream, token: &str, posted: &Value) -> Result<Value, Refusal> {
    let now = jiff::Timestamp::now().as_millisecond();
    let bound = |field: &str, without: i64| match &posted[field] {
        Value::Null => Ok(without),
        value => moment(value, now).ok_or_else(|| Refusal::Invalid(format!("{field}: {value} is no time"))),
    };
    let (from, to) = (bound("from", now - 3_600_000)?, bound("to", now)?);
    let queries = posted["queries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if queries.is_empty() || queries.len() > QUERIES {
        return Err(Refusal::Invalid(format!("a request has 1 to {QUERIES} queries")));
    }
    let mut results = Map::new();
    for query in queries.iter().filter(|query| query["hide"] != json!(true)) {
        let id = query["refId"].as_str().unwrap_or("A").to_owned();
        let result = match one(task, upstream, token, query, (from, to)).await {
            Ok(frames) => json!({"status": 200, "frames": frames}),
            Err(Refusal::SignIn) => return Err(Refusal::SignIn),
            Err(refusal) => json!({"status": 400, "error": refusal.to_string(), "frames": []}),
        };
        results.insert(id, result);
    }
    Ok(json!({"results": results}))
}

/// Milliseconds since 1970 of a number, its text, or `now`, `now-1h` and the like.
fn moment(value: &Value, now: i64) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let text = value.as_str()?.trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let rest = text.strip_prefix("now")?;
    if rest.is_empty() {
        return Some(now);
    }
    let (sign, rest) = match rest.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => return None,
    };
    let unit = rest.char_indices().last()?;
    let count: i64 = rest[..unit.0].parse().ok()?;
    let seconds = match unit.1 {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'M' => 30 * 86_400,
        'y' => 365 * 86_400,
        _ => return None,
    };
    now.checked_add(count.checked_mul(sign * seconds * 1000)?)
}

async fn one(
    task: &Task,
    upstream: &Upstream,
    token: &str,
    query: &Value,
    (from, to): (i64, i64),
) -> Result<Vec<Value>, Refusal> {
    let expression = query["expr"].as_str().unwrap_or_default();
    if expression.trim().is_empty() {
        return Ok(Vec::new());
    }
    let points = query["maxDataPoints"].as_i64().unwrap_or(1000).clamp(1, POINTS);
    let least = (to - from).max(0) / points;
    let step = query["intervalMs"].as_i64().unwrap_or(15_000).max(least).max(1000);
    let instant = query["instant"] == json!(true) && query["range"] != json!(true);
    let expression = with_intervals(expression, step, to - from);
    let mut form = format!("query={}", escaped(&expression));
    let path = if instant {
        form += &format!("&time={}", seconds(to));
        "/prometheus/api/v1/query"
    } else {
        form += &format!("&start={}&end={}&step={}", seconds(from), seconds(to), seconds(step));
        "/prometheus/api/v1/query_range"
    };
    let sent = ("application/x-www-form-urlencoded", Bytes::from(form));
    let (status, bytes) = upstream.ask(task, (Method::POST, path), Some(sent), token, ANSWER).await?;
    let answer: Value = serde_json::from_slice(&bytes)
        .map_err(|_| Refusal::Unavailable(format!("Prometheus answered {status} without JSON")))?;
    if status != StatusCode::OK {
        return Err(Refusal::Invalid(answer["error"].as_str().unwrap_or(status.as_str()).to_owned()));
    }
    Ok(frames(&answer["data"], query, step, &expression))
}

/// The expression with Grafana's interval variables filled in.
fn with_intervals(expression: &str, step: i64, range: i64) -> String {
    let whole = |milliseconds: i64| format!("{}s", (milliseconds / 1000).max(1));
    // Four scrapes of 15 s at least, so that a rate has samples.
    let rate = whole((step + 15_000).max(60_000));
    let values = [
        ("__rate_interval", rate),
        ("__interval_ms", step.to_string()),
        ("__interval", whole(step)),
        ("__range_ms", range.to_string()),
        ("__range_s", (range / 1000).to_string()),
        ("__range", whole(range)),
    ];
    values.iter().fold(expression.to_owned(), |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
    })
}

fn seconds(milliseconds: i64) -> String {
    format!("{}.{:03}", milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000))
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Frames of what Prometheus has answered.
fn frames(data: &Value, query: &Value, step: i64, expression: &str) -> Vec<Value> {
    let kind = data["resultType"].as_str().unwrap_or_default();
    if matches!(kind, "scalar" | "string") {
        return vec![frame(&json!({}), &[&data["result"]], query, step, expression)];
    }
    let series = data["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |series: &Value| {
        let values: Vec<&Value> = match &series["values"] {
            Value::Array(values) => values.iter().collect(),
            _ => vec![&series["value"]],
        };
        frame(&series["metric"], &values, query, step, expression)
    };
    series.iter().map(of).collect()
}

fn frame(labels: &Value, samples: &[&Value], query: &Value, step: i64, expression: &str) -> Value {
    let (mut times, mut values, mut special) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    for (at, sample) in samples.iter().enumerate() {
        times.push(json!((sample[0].as_f64().unwrap_or(0.0) * 1000.0).round() as i64));
        let value: f64 = sample[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        // What JSON cannot say stands beside.
        let beside = if value.is_nan() {
            Some(0)
        } else if value == f64::INFINITY {
            Some(1)
        } else if value == f64::NEG_INFINITY {
            Some(2)
        } else {
            None
        };
        if let Some(which) = beside {
            special[which].push(at);
        }
        values.push(if beside.is_some() { Value::Null } else { json!(value) });
    }
    let mut entities = Map::new();
    for (name, at) in ["NaN", "Inf", "NegInf"].iter().zip(&special) {
        if !at.is_empty() {
            entities.insert((*name).to_owned(), json!(at));
        }
    }
    let entities = if entities.is_empty() { Value::Null } else { Value::Object(entities) };
    let name = legend(labels, query["legendFormat"].as_str().unwrap_or_default(), expression);
    let kind = if query["instant"] == json!(true) && samples.len() == 1 { "numeric-multi" } else { "timeseries-multi" };
    json!({
        "schema": {
            "refId": query["refId"], "name": name,
            "meta": {"type": kind, "typeVersion": [0, 1], "executedQueryString": format!("Expr: {expression}\nStep: {}s", step / 1000)},
            "fields": [
                {"name": "Time", "type": "time", "typeInfo": {"frame": "time.Time"}, "config": {"interval": step}},
                {
                    "name": "Value", "type": "number", "typeInfo": {"frame": "float64"}, "labels": labels,
                    "config": {"displayNameFromDS": name},
                },
            ],
        },
        "data": {"values": [times, values], "entities": [Value::Null, entities]},
    })
}

/// The name of a series: the format filled in, or its labels as PromQL writes them.
fn legend(labels: &Value, format: &str, expression: &str) -> String {
    let of = |name: &str| labels[name].as_str().unwrap_or_default();
    if !format.is_empty() && format != "__auto" {
        let (mut text, mut rest) = (String::new(), format);
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else { break };
            text += before;
            text += of(name.trim());
            rest = after;
        }
        return text + rest;
    }
    let empty = Map::new();
    let fields = labels.as_object().unwrap_or(&empty);
    let pairs: Vec<String> = fields
        .iter()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}=\"{}\"", value.as_str().unwrap_or_default()))
        .collect();
    match (of("__name__"), pairs.is_empty()) {
        ("", true) => expression.to_owned(),
        (name, true) => name.to_owned(),
        (name, false) => format!("{name}{{{}}}", pairs.join(", ")),
    }
}

#[cfg(test)]
mod tests;
