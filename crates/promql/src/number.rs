//! Numbers as Go writes and reads them, since that is what users of PromQL see.
//!
//! See <https://pkg.go.dev/strconv#FormatFloat> and <https://go.dev/ref/spec#Floating-point_literals>.

/// `value` with all its digits and no exponent (`strconv`'s format `f`), as the HTTP API writes samples.
pub fn plain(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v => v.to_string(),
    }
}

/// `value` with an exponent where it is very small or has more than six digits before the point (`%g` and `%v`).
pub fn short(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return plain(value);
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    plain(value)
}

/// Reads a whole number in any of Go's bases, or a float.
pub fn parse(text: &str) -> Option<f64> {
    if let Some(whole) = parse_whole(text) {
        return Some(whole as f64);
    }
    let plain;
    let mut text = text;
    if text.contains('_') {
        plain = strip_underscores(text, 10)?;
        text = &plain;
    }
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if body.eq_ignore_ascii_case("nan") {
        return Some(tsdb::sample::NORMAL_NAN);
    }
    let value: f64 = body.parse().ok()?;
    // Rust takes "1e999" for infinity, Go for an error.
    value.is_finite().then_some(if text.starts_with('-') { -value } else { value })
}

fn parse_whole(text: &str) -> Option<i64> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = body.to_ascii_lowercase();
    let (base, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, &*lower)
    };
    let digits = strip_underscores(digits, base)?;
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(&digits, base).ok()?);
    i64::try_from(if negative { -value } else { value }).ok()
}

/// Takes out underscores that stand between digits, or behind the prefix of a base.
fn strip_underscores(text: &str, base: u32) -> Option<String> {
    let mut digit = base != 10;
    for (i, c) in text.char_indices() {
        if c == '_' && (!digit || !text[i + 1..].starts_with(|c: char| c.is_digit(base.max(10)))) {
            return None;
        }
        digit = c.is_digit(base.max(10));
    }
    Some(text.chars().filter(|c| *c != '_').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_form_has_an_exponent_from_seven_digits_on() {
        for (value, text) in [
            (1.0, "1"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-9, "-2.5e-09"),
            (f64::INFINITY, "+Inf"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(plain(1e21), "1000000000000000000000");
    }

    #[test]
    fn numbers_are_read_in_go_s_bases() {
        for (text, value) in [
            ("0755", Some(493.0)),
            ("089", Some(89.0)),
            ("0xc", Some(12.0)),
            ("0X_1F", Some(31.0)),
            ("1_000", Some(1000.0)),
            ("1_000.5", Some(1000.5)),
            ("1__0", None),
            ("5.", Some(5.0)),
            (".5", Some(0.5)),
            ("5e-3", Some(0.005)),
            ("1e999", None),
            ("-Inf", Some(f64::NEG_INFINITY)),
        ] {
            assert_eq!(parse(text), value, "{text}");
        }
        assert!(parse("NaN").is_some_and(f64::is_nan));
    }
}
