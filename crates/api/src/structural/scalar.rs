//! Scalars: what Go's decoder and the `UnmarshalJSON` of the API's own scalar types accept, and how they print it.

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use jiff::Timestamp;
use jiff::fmt::strtime;
use serde_json::{Number, Value, json};

use super::{Frame, described};
use crate::schema::{Kind, Shape};

/// How a scalar fails.
pub(super) enum Error {
    /// The decoder remembers the first and goes on.
    Saved(String),
    /// Decoding ends.
    Fatal(String),
}

/// What Go has where a list or map holds null: the zero value, or null for pointers.
pub(super) fn zero(shape: Shape) -> Value {
    if shape.pointer() {
        return Value::Null;
    }
    match shape.kind() {
        Kind::String | Kind::Bytes => json!(""),
        Kind::Bool => json!(false),
        Kind::Int32 | Kind::Int64 | Kind::Double | Kind::IntOrString => json!(0),
        Kind::Quantity => json!("0"),
        Kind::List => json!([]),
        Kind::Map | Kind::Ref => json!({}),
        _ => Value::Null,
    }
}

/// Checks a scalar that is not already of the kind, and puts it into canonical form. `value` is not null.
pub(super) fn check(kind: Kind, go: &str, value: &mut Value, frame: &Frame<'_>) -> Result<(), Error> {
    match (kind, &*value) {
        (Kind::Int32 | Kind::Int64, Value::Number(n)) => {
            let fits = n.as_i64().is_some_and(|n| kind == Kind::Int64 || i32::try_from(n).is_ok());
            if fits { Ok(()) } else { Err(Error::Saved(frame.mismatch(&format!("number {n}"), go))) }
        }
        (Kind::Double, Value::Number(n)) => {
            if let Some(number) = n.as_f64().filter(|_| n.is_f64()).and_then(number) {
                *value = Value::Number(number);
            }
            Ok(())
        }
        (Kind::Bytes, Value::String(text)) => {
            let decoded = bytes(text).map_err(Error::Saved)?;
            if text.contains(['\r', '\n']) || text.ends_with('=') {
                *value = Value::String(STANDARD.encode(decoded));
            }
            Ok(())
        }
        (Kind::Bytes, Value::Array(items)) => {
            let octet = |v: &Value| v.as_u64().and_then(|n| u8::try_from(n).ok());
            let octets: Option<Vec<u8>> = items.iter().map(octet).collect();
            let octets = octets.ok_or_else(|| {
                let wrong = items.iter().find(|v| octet(v).is_none()).unwrap_or(&Value::Null);
                Error::Saved(frame.mismatch(&found(wrong), "uint8"))
            })?;
            *value = Value::String(STANDARD.encode(octets));
            Ok(())
        }
        (Kind::IntOrString, Value::String(_)) => Ok(()),
        (Kind::IntOrString, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
        (Kind::IntOrString, _) => Err(Error::Fatal(frame.mismatch(&found(value), "int32"))),
        (Kind::Quantity, _) => {
            let text = match *value {
                Value::String(ref text) => text.trim().to_owned(),
                ref other => other.to_string(),
            };
            *value = Value::String(quantity(&text).map_err(Error::Fatal)?);
            Ok(())
        }
        (Kind::Time | Kind::MicroTime, Value::String(text)) => {
            *value = Value::String(time(kind, text).map_err(Error::Fatal)?);
            Ok(())
        }
        (Kind::Duration, Value::String(_)) => Ok(()),
        (Kind::Time | Kind::MicroTime | Kind::Duration, _) => {
            Err(Error::Fatal(frame.mismatch(described(value), "string")))
        }
        _ => Err(Error::Saved(frame.mismatch(described(value), go))),
    }
}

/// A number as JSON has it: integral ones are integers. None if it is not finite.
pub(crate) fn number(f: f64) -> Option<Number> {
    if f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0 { Some((f as i64).into()) } else { Number::from_f64(f) }
}

fn found(value: &Value) -> String {
    match value {
        Value::Number(n) => format!("number {n}"),
        other => described(other).to_owned(),
    }
}

/// Go does not mind bits beyond the last byte.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Decodes base64 as Go's standard encoding does: padded, line breaks ignored.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let joined;
    let text = if text.contains(['\r', '\n']) {
        joined = text.replace(['\r', '\n'], "");
        &joined
    } else {
        text
    };
    LENIENT.decode(text).map_err(|_| format!("illegal base64 data at input byte {}", illegal(text.as_bytes())))
}

/// Where Go's decoder says the data is illegal.
fn illegal(text: &[u8]) -> usize {
    let alphabet = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    for (at, group) in text.chunks(4).enumerate().map(|(i, g)| (4 * i, g)) {
        match group.iter().position(|b| !alphabet(b)) {
            None if group.len() < 4 => return at,
            None => {}
            // Padding may stand for the last one or two of a group, and nothing may follow.
            Some(i) if group[i] == b'=' && i >= 2 => {
                if i == 2 && group.len() < 4 {
                    return text.len();
                }
                if let Some(wrong) = group[i..].iter().position(|b| *b != b'=') {
                    return at + i + wrong;
                }
                return at + 4;
            }
            Some(i) => return at + i,
        }
    }
    text.len()
}

/// A quantity in canonical form.
pub(crate) fn quantity(text: &str) -> Result<String, String> {
    crate::quantity::Quantity::parse(text).map(|q| q.to_string()).map_err(|e| e.to_string())
}

/// A time in canonical form: UTC, with seconds, or microseconds for `MicroTime`.
pub(crate) fn time(kind: Kind, text: &str) -> Result<String, String> {
    let layout = if kind == Kind::MicroTime { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let parsed = parse_time(text, kind == Kind::MicroTime);
    parsed.map(|t| print_time(kind, t)).map_err(|problem| match problem {
        Problem::OutOfRange(part) => format!("parsing time \"{text}\": {part} out of range"),
        Problem::Syntax { rest, wanted } => {
            format!("parsing time \"{text}\" as \"{layout}\": cannot parse \"{rest}\" as \"{wanted}\"")
        }
        Problem::Extra(rest) => format!("parsing time \"{text}\": extra text: \"{rest}\""),
    })
}

/// Prints a timestamp as the API does.
pub(crate) fn print_time(kind: Kind, time: Timestamp) -> String {
    let format = if kind == Kind::MicroTime { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    strtime::format(format, time).unwrap_or_default()
}

enum Problem<'t> {
    OutOfRange(&'static str),
    Syntax { rest: &'t str, wanted: &'static str },
    Extra(&'t str),
}

/// RFC 3339 as Go reads it; `micro` requires six digits of fraction.
fn parse_time(text: &str, micro: bool) -> Result<Timestamp, Problem<'_>> {
    let mut rest = text;
    let mut numbers = [0i64; 6];
    let parts = [("2006", 4, "-"), ("01", 2, "-"), ("02", 2, "T"), ("15", 2, ":"), ("04", 2, ":"), ("05", 2, "")];
    for (number, (wanted, digits, separator)) in numbers.iter_mut().zip(parts) {
        let taken = rest.get(..digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        *number = taken.and_then(|d| d.parse().ok()).ok_or(Problem::Syntax { rest, wanted })?;
        rest = &rest[digits..];
        rest = rest.strip_prefix(separator).ok_or(Problem::Syntax { rest, wanted: separator })?;
    }
    let mut nanoseconds = 0;
    let digits = rest.strip_prefix(['.', ',']).map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
    if micro && digits != 6 {
        return Err(Problem::Syntax { rest, wanted: ".000000" });
    }
    if digits > 0 {
        let fraction = &rest[1..=digits];
        for (i, digit) in fraction.bytes().take(9).enumerate() {
            nanoseconds += i32::from(digit - b'0') * 10i32.pow(8 - i as u32);
        }
        rest = &rest[1 + digits..];
    }
    let offset = if let Some(after) = rest.strip_prefix('Z') {
        rest = after;
        0
    } else {
        let sign = match rest.bytes().next() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(Problem::Syntax { rest, wanted: "Z07:00" }),
        };
        let two = |range| rest.get(range).filter(|d: &&str| d.bytes().all(|b| b.is_ascii_digit()));
        let (hours, colon, minutes) = (two(1..3), rest.get(3..4), two(4..6));
        let (Some(hours), Some(":"), Some(minutes)) = (hours, colon, minutes) else {
            return Err(Problem::Syntax { rest, wanted: "Z07:00" });
        };
        let (hours, minutes) = (hours.parse::<i64>().unwrap_or(99), minutes.parse::<i64>().unwrap_or(99));
        if hours > 24 {
            return Err(Problem::OutOfRange("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(Problem::OutOfRange("time zone offset minute"));
        }
        rest = &rest[6..];
        sign * (hours * 3600 + minutes * 60)
    };
    if !rest.is_empty() {
        return Err(Problem::Extra(rest));
    }
    let [year, month, day, hour, minute, second] = numbers;
    for (part, number, range) in [("month", month, 1..=12), ("hour", hour, 0..=23), ("minute", minute, 0..=59)] {
        if !range.contains(&number) {
            return Err(Problem::OutOfRange(part));
        }
    }
    if second > 59 {
        return Err(Problem::OutOfRange("second"));
    }
    let date = jiff::civil::Date::new(year as i16, month as i8, day as i8).map_err(|_| Problem::OutOfRange("day"))?;
    let midnight = date.at(hour as i8, minute as i8, second as i8, nanoseconds);
    let utc = jiff::tz::Offset::UTC.to_timestamp(midnight).map_err(|_| Problem::OutOfRange("year"))?;
    utc.checked_sub(jiff::SignedDuration::from_secs(offset)).map_err(|_| Problem::OutOfRange("year"))
}
