//! Parameters with a meaning: times, lengths, limits, selectors. The words of errors are upstream's.

use std::time::Duration;

use promql::{matcher::Matcher, parse};
use tsdb::labels::quote;

use super::{form::Form, reply::Failure};

/// The earliest time that can be asked for, in milliseconds since 1970.
pub const MIN_TIME: i64 = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// The latest.
pub const MAX_TIME: i64 = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;

const MIN_WRITTEN: &str = "-292273086-05-16T16:47:06Z";
const MAX_WRITTEN: &str = "292277025-08-18T07:12:54.999999999Z";

/// A float as Go reads it.
fn number(text: &str) -> Option<f64> {
    let plain = !text.contains("0x") && !text.contains("0X") && !text.contains("0b") && !text.contains("0o");
    plain.then(|| text.parse::<f64>().ok().filter(|value| value.is_finite())).flatten()
}

/// A time: seconds since 1970, or as in RFC 3339. In milliseconds.
pub fn time(text: &str) -> Result<i64, String> {
    if let Some(seconds) = number(text) {
        let milliseconds = seconds.trunc() * 1000.0 + (seconds.fract() * 1000.0).round();
        return Ok((milliseconds as i64).clamp(MIN_TIME, MAX_TIME));
    }
    match text {
        MIN_WRITTEN => return Ok(MIN_TIME),
        MAX_WRITTEN => return Ok(MAX_TIME),
        _ => {}
    }
    let strict = text.len() >= 20 && text.as_bytes()[10] == b'T' && !text.contains(['[', ' ', 't', 'z']);
    let zoned = text.ends_with('Z') || text.get(text.len().saturating_sub(6)..).is_some_and(zone);
    match text.parse::<jiff::Timestamp>() {
        Ok(time) if strict && zoned => Ok(time.as_millisecond()),
        _ => Err(format!("cannot parse {} to a valid timestamp", quote(text))),
    }
}

fn zone(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 6 && matches!(bytes[0], b'+' | b'-') && bytes[3] == b':'
}

/// A time, or another where none is given.
pub fn time_or(form: &Form, name: &str, absent: i64) -> Result<i64, Failure> {
    match form.first(name) {
        "" => Ok(absent),
        text => {
            time(text).map_err(|error| Failure::parameter(name, format!("invalid time value for '{name}': {error}")))
        }
    }
}

/// A length: seconds, or as Prometheus writes them. In nanoseconds, which may be below zero.
pub fn length(text: &str) -> Result<i64, String> {
    let cannot = || format!("cannot parse {} to a valid duration", quote(text));
    if let Some(seconds) = number(text) {
        let nanoseconds = seconds * 1e9;
        if nanoseconds.abs() > i64::MAX as f64 {
            return Err(format!("{}. It overflows int64", cannot()));
        }
        return Ok(nanoseconds as i64);
    }
    promql::duration::parse(text).map(|milliseconds| milliseconds * 1_000_000).map_err(|_| cannot())
}

/// A length that is not below zero, if one is given.
pub fn span(form: &Form, name: &str) -> Result<Option<Duration>, String> {
    match form.first(name) {
        "" => Ok(None),
        text => length(text).map(|nanoseconds| Some(Duration::from_nanos(nanoseconds.max(0) as u64))),
    }
}

/// A whole number as Go's `Atoi` reads it.
pub fn integer(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let wrong = |why: &str| format!("strconv.Atoi: parsing {}: {why}", quote(text));
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    text.parse().map_err(|_| wrong("value out of range"))
}

/// A truth as Go's `ParseBool` reads it.
pub fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text))),
    }
}

/// Most results; no bound if 0.
pub fn limit(form: &Form) -> Result<usize, Failure> {
    let text = form.first("limit");
    if text.is_empty() {
        return Ok(0);
    }
    let limit = integer(text).map_err(|error| Failure::parameter("limit", error))?;
    usize::try_from(limit).map_err(|_| Failure::parameter("limit", "limit must be non-negative"))
}

/// The selectors of `match[]`, each of which must ask for something.
pub fn selectors(form: &Form) -> Result<Vec<Vec<Matcher>>, String> {
    let mut sets = Vec::new();
    for text in form.all("match[]") {
        sets.push(parse::parse_selector(text).map_err(|error| error.to_string())?);
    }
    if sets.iter().any(|set| set.iter().all(|matcher| matcher.matches(""))) {
        return Err("match[] must contain at least one non-empty matcher".to_owned());
    }
    Ok(sets)
}

#[cfg(test)]
mod tests;
