//! What templates of rules are given: functions that query and humanize, and the data of an alert.
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/template_reference/>.

use std::collections::BTreeMap;

use promql::{
    duration, histogram_text,
    value::{Value as SampleValue, VectorSample},
};
use regex::RegexBuilder;
use tsdb::labels::Labels;

use super::{
    Error, Mode, Templates,
    calendar::Moment,
    call::{Called, Functions, Param, SAMPLE, Signature, takes, takes_rest},
    escape,
    format::four_digits,
    value::{ListKind, MapKind, Value, to_float},
};

/// Asks for a query's answer at the time of the template.
pub type Query<'a> = &'a dyn Fn(&str) -> Result<Vec<VectorSample>, String>;

/// What the functions know.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The time of the evaluation, in milliseconds since 1970.
    pub time: i64,
    /// Answers queries.
    pub query: Query<'a>,
    /// Where the web interface is reached from outside.
    pub external_url: &'a str,
    /// Whether `tmpl` is there, which only HTML has.
    pub html: bool,
}

/// Definitions that upstream puts before each template of a rule, so that its data have short names.
const SHORT_NAMES: &str =
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// The data of an alert.
pub fn data(labels: &Labels, external: &Labels, external_url: &str, value: &SampleValue) -> Value {
    let strings = |labels: &Labels| Value::strings(MapKind::Strings, labels.iter());
    let fields = vec![
        ("Labels", "Labels", strings(labels)),
        ("ExternalLabels", "ExternalLabels", strings(external)),
        ("ExternalURL", "ExternalURL", Value::text(external_url)),
        ("Value", "Value", of_sample(value)),
    ];
    Value::record(
        "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }",
        fields,
    )
}

fn of_sample(value: &SampleValue) -> Value {
    match value {
        SampleValue::Float(value) => Value::Float(*value),
        SampleValue::Histogram(histogram) => Value::text(histogram_text::plain(histogram)),
    }
}

/// Expands a text of a rule, named as upstream names it in errors (`__alert_NAME`).
pub fn expand(name: &str, text: &str, dot: &Value, context: Context<'_>) -> Result<String, String> {
    let mut templates = Templates::new(Mode::Text);
    let wrong = |what: &str, error: Error| format!("error {what} template {name}: {error}");
    templates.add(name, &format!("{SHORT_NAMES}{text}"), &context).map_err(|error| wrong("parsing", error))?;
    if templates.trees.is_empty() {
        return Ok(String::new());
    }
    templates.run(name, dot, &context).map_err(|error| wrong("executing", error))
}

/// Says what is wrong with a text of a rule before it is ever expanded.
pub fn check(name: &str, text: &str) -> Result<(), Error> {
    let context = Context { time: 0, query: &|_| Ok(Vec::new()), external_url: "", html: false };
    Templates::new(Mode::Text).add(name, &format!("{SHORT_NAMES}{text}"), &context)
}

/// A pattern as Go's `regexp` reads it, bounded in size.
pub(super) fn pattern(text: &str) -> Result<regex::Regex, String> {
    let built = RegexBuilder::new(text).size_limit(1 << 20).build();
    built.map_err(|_| format!("error parsing regexp: {}", super::format::quote(text)))
}

/// The first letter of each word as a capital; the others as they are, or small.
pub(super) fn title(text: &str, lower: bool) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let word = c.is_alphanumeric() || matches!(c, '_' | '\'' | '\u{2019}');
        match (word, inside) {
            (true, false) => out.extend(c.to_uppercase()),
            (true, true) if lower => out.extend(c.to_lowercase()),
            _ => out.push(c),
        }
        inside = word;
    }
    out
}

impl Functions for Context<'_> {
    fn signature(&self, name: &str) -> Option<Signature> {
        Some(match name {
            "query" | "safeHtml" | "title" | "toUpper" | "toLower" | "graphLink" | "tableLink" | "stripPort"
            | "stripDomain" | "parseDuration" | "urlQueryEscape" => takes(&[Param::Text]),
            "first" => takes(&[Param::Samples]),
            "label" => takes(&[Param::Text, Param::Sample]),
            "value" | "strvalue" => takes(&[Param::Sample]),
            "sortByLabel" => takes(&[Param::Text, Param::Samples]),
            "args" => takes_rest(&[], Param::Any),
            "reReplaceAll" => takes(&[Param::Text, Param::Text, Param::Text]),
            "match" => takes(&[Param::Text, Param::Text]),
            "humanize" | "humanize1024" | "humanizeDuration" | "humanizePercentage" | "humanizeTimestamp"
            | "toTime" | "toDuration" => takes(&[Param::Any]),
            "now" | "pathPrefix" | "externalURL" => takes(&[]),
            "tmpl" if self.html => takes(&[Param::Text, Param::Any]),
            _ => return None,
        })
    }

    fn call(&self, name: &str, args: Vec<Value>) -> Result<Called, String> {
        let text = |i: usize| args.get(i).and_then(Value::as_text).unwrap_or_default();
        let nothing = Value::Nil;
        let first = args.first().unwrap_or(&nothing);
        let value = match name {
            "query" => {
                let samples = (self.query)(text(0))?;
                let samples = samples.iter().map(|sample| {
                    let labels = Value::strings(MapKind::Strings, sample.labels.iter());
                    let fields = vec![("Labels", "Labels", labels), ("Value", "Value", of_sample(&sample.value))];
                    Value::record(SAMPLE, fields)
                });
                Value::list(ListKind::Samples, samples.collect())
            }
            "first" => match first {
                Value::List(list) if !list.items.is_empty() => list.items[0].clone(),
                _ => return Err("first() called on vector with no elements".to_owned()),
            },
            "label" => Value::text(label_of(args.get(1).unwrap_or(first), text(0))?),
            "strvalue" => Value::text(label_of(first, "__value__")?),
            "value" => match first {
                Value::Record(record) => record.fields.get(1).map_or(Value::Nil, |field| field.2.clone()),
                _ => return Err("value() called on nothing".to_owned()),
            },
            "sortByLabel" => {
                let Some(Value::List(list)) = args.get(1) else { return Ok(Called::Value(Value::Nil)) };
                let mut items = list.items.clone();
                items.sort_by_cached_key(|sample| label_of(sample, text(0)).unwrap_or_default());
                Value::list(ListKind::Samples, items)
            }
            "args" => {
                let named = args.iter().enumerate().map(|(i, value)| (format!("arg{i}"), value.clone()));
                Value::map(MapKind::Any, named.collect::<BTreeMap<_, _>>())
            }
            "reReplaceAll" => Value::text(pattern(text(0))?.replace_all(text(2), text(1))),
            "match" => Value::Bool(pattern(text(0))?.is_match(text(1))),
            "safeHtml" => Value::Safe(text(0).into()),
            "title" => Value::text(title(text(0), false)),
            "toUpper" => Value::text(text(0).to_uppercase()),
            "toLower" => Value::text(text(0).to_lowercase()),
            "graphLink" => Value::text(format!("/graph?g0.expr={}&g0.tab=0", escape::query(text(0)))),
            "tableLink" => Value::text(format!("/graph?g0.expr={}&g0.tab=1", escape::query(text(0)))),
            "stripPort" => Value::text(split_host_port(text(0)).map_or(text(0), |(host, _)| host)),
            "stripDomain" => Value::text(strip_domain(text(0))),
            "humanize" => Value::text(humanize(to_float(first)?)),
            "humanize1024" => Value::text(humanize_1024(to_float(first)?)),
            "humanizeDuration" => Value::text(humanize_duration(to_float(first)?)),
            "humanizePercentage" => Value::text(format!("{}%", four_digits(to_float(first)? * 100.0))),
            "humanizeTimestamp" => {
                let seconds = to_float(first)?;
                Value::text(if seconds.is_finite() { to_time(seconds)?.to_string() } else { four_digits(seconds) })
            }
            "toTime" => {
                let seconds = to_float(first)?;
                if !seconds.is_finite() {
                    return Err("value is NaN or Inf".to_owned());
                }
                Value::Time(to_time(seconds)?)
            }
            "toDuration" => Value::Duration((to_float(first)? * 1e9) as i64),
            "now" => Value::Float(self.time as f64 / 1000.0),
            "pathPrefix" => Value::text(path_of(self.external_url)),
            "externalURL" => Value::text(self.external_url),
            "parseDuration" => {
                let (sign, rest) = text(0).strip_prefix('-').map_or((1.0, text(0)), |rest| (-1.0, rest));
                Value::Float(sign * duration::parse(rest)? as f64 / 1000.0)
            }
            "urlQueryEscape" => Value::text(escape::query(text(0))),
            "tmpl" => return Ok(Called::Template(text(0).to_owned(), args.get(1).cloned().unwrap_or(Value::Nil))),
            _ => return Err(format!("no function {name}")),
        };
        Ok(Called::Value(value))
    }
}

fn label_of(sample: &Value, name: &str) -> Result<String, String> {
    let Value::Record(record) = sample else { return Err("runtime error: invalid memory address".to_owned()) };
    let labels = record.fields.iter().find(|field| field.0 == "Labels").map(|field| &field.2);
    Ok(match labels {
        Some(Value::Map(map)) => map.entries.get(name).and_then(Value::as_text).unwrap_or_default().to_owned(),
        _ => String::new(),
    })
}

/// `host:port` or `[host]:port`
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.contains(['[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return text.to_owned();
    }
    let host = host.split('.').next().unwrap_or_default();
    match (host.contains(':'), port) {
        (_, "") => host.to_owned(),
        (true, port) => format!("[{host}]:{port}"),
        (false, port) => format!("{host}:{port}"),
    }
}

/// The path of a URL.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    rest.find('/').map_or("", |at| &rest[at..])
}

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const LARGE_1024: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn scaled(
    mut value: f64,
    prefixes: &[&'static str],
    goes_on: impl Fn(f64) -> bool,
    factor: f64,
) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if !goes_on(value.abs()) {
            break;
        }
        prefix = next;
        value *= factor;
    }
    (value, prefix)
}

fn divided(mut value: f64, prefixes: &[&'static str], unit: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < unit {
            break;
        }
        prefix = next;
        value /= unit;
    }
    (value, prefix)
}

fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four_digits(value);
    }
    let (value, prefix) = if value.abs() >= 1.0 {
        divided(value, &LARGE, 1000.0)
    } else {
        scaled(value, &SMALL, |size| size < 1.0, 1000.0)
    };
    format!("{}{prefix}", four_digits(value))
}

fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return four_digits(value);
    }
    let (value, prefix) = divided(value, &LARGE_1024, 1024.0);
    format!("{}{prefix}", four_digits(value))
}

/// Seconds as days, hours, minutes and seconds, or with a prefix below a second.
pub(super) fn humanize_duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return four_digits(seconds);
    }
    if seconds == 0.0 {
        return "0s".to_owned();
    }
    if seconds.abs() < 1.0 {
        let (value, prefix) = scaled(seconds, &SMALL, |size| size < 1.0, 1000.0);
        return format!("{}{prefix}s", four_digits(value));
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let size = seconds.abs();
    let whole = size as i64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", four_digits(size)),
        (0, 0, _) => format!("{sign}{minutes}m {rest}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {rest}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {rest}s"),
    }
}

/// Milliseconds are kept, as Prometheus' own times have them.
fn to_time(seconds: f64) -> Result<Moment, String> {
    let nanos = seconds * 1e9;
    if nanos > i64::MAX as f64 || nanos < i64::MIN as f64 {
        let number = promql::number::short(seconds);
        return Err(format!("{number} cannot be represented as a nanoseconds timestamp since it overflows int64"));
    }
    Ok(Moment::from_millis((nanos as i64) / 1_000_000))
}
