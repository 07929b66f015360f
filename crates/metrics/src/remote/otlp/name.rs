//! Names of metrics, labels and units: those of OpenTelemetry as Prometheus writes them.
//!
//! | strategy | characters | suffixes |
//! |---|---|---|
//! | `UnderscoreEscapingWithSuffixes` | replaced | unit and type |
//! | `UnderscoreEscapingWithoutSuffixes` | replaced | none |
//! | `NoUTF8EscapingWithSuffixes` | stay | unit and type |
//! | `NoTranslation` | stay | none |
//!
//! See <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#otlp-metric-points-to-prometheus>.

use tsdb::labels::quote;

/// Names of units.
const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// Names of units behind a stroke.
const PER: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// What of a kind counts for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Never falls: `_total`.
    Counter,
    /// Goes up and down: `_ratio` if its unit is 1.
    Gauge,
    /// Anything else.
    Other,
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// The suffixes of a unit: its own, and that behind the stroke.
fn suffixes(unit: &str) -> (String, String) {
    let named = |table: &[(&str, &str)], unit: &str| {
        table.iter().find(|row| row.0 == unit).map_or_else(|| unit.to_owned(), |row| row.1.to_owned())
    };
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let shown = |unit: &str| !unit.is_empty() && !unit.contains(['{', '}']);
    let (main, per) = (main.trim(), per.trim());
    let main = if shown(main) { named(&UNITS, main) } else { String::new() };
    let per = if shown(per) { named(&PER, per) } else { String::new() };
    (main, if per.is_empty() { per } else { format!("per_{per}") })
}

/// A unit of plain characters, without an underscore in front.
fn clean(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len());
    for c in unit.chars() {
        match c {
            c if is_metric_char(c) => out.push(c),
            _ if out.ends_with('_') => {}
            _ => out.push('_'),
        }
    }
    out.strip_prefix('_').map(str::to_owned).unwrap_or(out)
}

/// A unit as it is told of.
pub fn unit(unit: &str, utf8: bool) -> String {
    let (mut main, mut per) = suffixes(unit);
    if !utf8 {
        (main, per) = (clean(&main), clean(&per));
    }
    let whole = match (main.is_empty(), per.is_empty()) {
        (false, false) => format!("{main}_{per}"),
        (false, true) => main,
        (true, _) => per,
    };
    let whole = whole.strip_prefix('_').unwrap_or(&whole);
    whole.strip_suffix('_').unwrap_or(whole).to_owned()
}

/// The name of a metric.
pub fn metric(name: &str, unit: &str, shape: Shape, suffixed: bool, utf8: bool) -> Result<String, String> {
    if utf8 {
        return Ok(if suffixed { free(name, unit, shape) } else { name.to_owned() });
    }
    let made = if suffixed { normal(name, unit, shape) } else { plain(name) };
    if made.is_empty() {
        return Err(format!("normalization for metric {} resulted in empty name", quote(name)));
    }
    if made != name && made.chars().all(|c| c == '_') {
        return Err(format!("normalization for metric {} resulted in invalid name {}", quote(name), quote(&made)));
    }
    Ok(made)
}

fn not_first_a_digit(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Characters replaced, and no more.
fn plain(name: &str) -> String {
    let tokens: Vec<&str> =
        name.split(|c: char| !is_metric_char(c) && c != '_').filter(|token| !token.is_empty()).collect();
    not_first_a_digit(tokens.join("_"))
}

/// Characters replaced, suffixes added where they are not there yet.
fn normal(name: &str, unit: &str, shape: Shape) -> String {
    let mut tokens: Vec<&str> = name.split(|c| !is_metric_char(c)).filter(|token| !token.is_empty()).collect();
    let (main, per) = suffixes(unit);
    let (mut main, mut per) = (clean(&main), clean(&per));
    if tokens.contains(&main.as_str()) {
        main.clear();
    }
    if per == "per_" {
        per.clear();
    } else {
        per = per.strip_suffix('_').map(str::to_owned).unwrap_or(per);
        if tokens.contains(&per.as_str()) {
            per.clear();
        }
    }
    if !per.is_empty() {
        main = main.strip_suffix('_').map(str::to_owned).unwrap_or(main);
    }
    tokens.extend([main.as_str(), per.as_str()].into_iter().filter(|token| !token.is_empty()));
    let last = match shape {
        Shape::Counter => Some("total"),
        Shape::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        tokens.retain(|token| *token != last);
        tokens.push(last);
    }
    not_first_a_digit(tokens.join("_"))
}

/// All characters stay, suffixes are added where they are not there yet.
fn free(name: &str, unit: &str, shape: Shape) -> String {
    // One character between a name and its suffix, whichever, goes with it.
    let trimmed = |name: &str, suffix: &str| match name.len().checked_sub(suffix.len() + 1) {
        Some(at) if at > 0 && name.ends_with(suffix) => name.get(..at).unwrap_or(name).to_owned(),
        _ => name.to_owned(),
    };
    let mut name = name.to_owned();
    let ratio = unit == "1" && shape == Shape::Gauge;
    if ratio {
        name = trimmed(&name, "ratio");
    }
    if shape == Shape::Counter {
        name = trimmed(&name, "total");
    }
    let (main, per) = suffixes(unit);
    if !per.is_empty() {
        name = trimmed(&name, &per);
    }
    if !main.is_empty() && !name.ends_with(&main) {
        name = format!("{name}_{main}");
    }
    if !per.is_empty() {
        name = format!("{name}_{per}");
    }
    match shape {
        Shape::Counter => format!("{name}_total"),
        _ if ratio => format!("{name}_ratio"),
        _ => name,
    }
}

/// How names of labels are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelNames {
    /// Whether all characters stay.
    pub utf8: bool,
    /// Whether `key` is put before an underscore in front.
    pub keyed: bool,
    /// Whether several underscores stay several.
    pub several: bool,
}

impl LabelNames {
    /// The name of a label.
    pub fn name(self, label: &str) -> Result<String, String> {
        let hollow = |name: &str| name.chars().all(|c| c == '_');
        if label.is_empty() {
            return Err("label name is empty".to_owned());
        }
        if self.utf8 {
            return match hollow(label) {
                true => Err(format!("label name {} contains only underscores", quote(label))),
                false => Ok(label.to_owned()),
            };
        }
        let mut name = if self.several { replaced(label) } else { collapsed(label) };
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name = format!("key_{name}");
        } else if self.keyed && name.starts_with('_') && !name.starts_with("__") {
            name = format!("key{name}");
        }
        match hollow(&name) {
            true => {
                let (label, name) = (quote(label), quote(&name));
                Err(format!("normalization for label name {label} resulted in invalid name {name}"))
            }
            false => Ok(name),
        }
    }
}

fn replaced(label: &str) -> String {
    label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn collapsed(label: &str) -> String {
    let inner = label.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    let mut out = String::with_capacity(label.len());
    for c in inner.unwrap_or(label).chars() {
        match c {
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if out.ends_with('_') => {}
            _ => out.push('_'),
        }
    }
    if inner.is_some() { format!("__{out}__") } else { out }
}

#[cfg(test)]
mod tests;
