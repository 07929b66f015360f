//! Floats from text and back, as Go reads and OpenMetrics writes them.

use tsdb::sample::NORMAL_NAN;

const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// A float of a sample. Digits with at most one dot, the usual case, are read without the library: a whole number below
/// 2^53 divided by an exact power of ten is rounded once, so the result is the nearest float.
#[inline]
pub fn parse(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 17 {
        return parse_slowly(text);
    }
    let mut mantissa = 0u64;
    let mut dot = None;
    for (i, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa * 10 + u64::from(digit);
        } else if *byte == b'.' && dot.is_none() && digits.len() > 1 {
            dot = Some(digits.len() - 1 - i);
        } else {
            return parse_slowly(text);
        }
    }
    if mantissa >= 1 << 53 {
        return parse_slowly(text);
    }
    let mut value = mantissa as f64;
    if let Some(places) = dot
        && let Some(power) = POWERS.get(places)
    {
        value /= power;
    }
    Some(if negative { -value } else { value })
}

#[cold]
fn parse_slowly(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.contains(['p', 'P', '_']) {
        return None;
    }
    parse_go(text)
}

/// What Go's `strconv.ParseFloat` takes, without hexadecimal numbers.
pub fn parse_go(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let first = unsigned.bytes().next()?;
    if first.is_ascii_alphabetic() {
        return match unsigned.to_ascii_lowercase().as_str() {
            "inf" | "infinity" if text.starts_with('-') => Some(f64::NEG_INFINITY),
            "inf" | "infinity" => Some(f64::INFINITY),
            "nan" if unsigned.len() == text.len() => Some(NORMAL_NAN),
            _ => None,
        };
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(value)
}

/// As OpenMetrics writes bounds: `1.0`, `0.25`, `1e+06`, `+Inf`.
pub fn open_metrics(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = shortest(value);
    if text.contains(['e', '.']) { text } else { text + ".0" }
}

/// A finite float as Go's `strconv.FormatFloat(value, 'g', -1, 64)` writes it.
pub fn shortest(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..6).contains(&exponent) {
        return if value == 0.0 && value.is_sign_negative() { "-0".to_owned() } else { format!("{value}") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
