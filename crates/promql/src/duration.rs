//! Lengths of time as Prometheus writes them: `1h30m`, units from large to small.
//!
//! See <https://prometheus.io/docs/prometheus/latest/querying/basics/#time-durations>.

use std::fmt::Write;

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3600 * 1000),
    ("w", 7 * 24 * 3600 * 1000),
    ("d", 24 * 3600 * 1000),
    ("h", 3600 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// Longest length, in milliseconds: what fits 63 bits of nanoseconds.
const MOST: u64 = (i64::MAX / 1_000_000) as u64;

/// Reads a length, in milliseconds.
pub fn parse(text: &str) -> Result<i64, String> {
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".to_owned()),
        _ => {}
    }
    let invalid = || format!("not a valid duration string: {}", tsdb::labels::quote(text));
    let mut rest = text;
    let mut total = 0u64;
    let mut largest = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..end];
        rest = &rest[end..];
        if unit.is_empty() {
            return Err(invalid());
        }
        let Some(place) = UNITS.iter().position(|known| known.0 == unit) else {
            let quote = tsdb::labels::quote;
            return Err(format!("unknown unit {} in duration {}", quote(unit), quote(text)));
        };
        if place < largest {
            return Err(invalid());
        }
        largest = place + 1;
        total = count
            .checked_mul(UNITS[place].1)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= MOST)
            .ok_or("duration out of range")?;
    }
    Ok(total as i64)
}

/// Writes a length of milliseconds; years and weeks only where nothing remains.
pub fn print(milliseconds: i64) -> String {
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if milliseconds < 0 {
        out.push('-');
    }
    let mut rest = milliseconds.unsigned_abs();
    for (unit, size) in UNITS {
        if matches!(unit, "y" | "w") && !rest.is_multiple_of(size) {
            continue;
        }
        if rest >= size {
            write!(out, "{}{unit}", rest / size).expect("strings grow");
            rest %= size;
        }
    }
    out
}

/// Seconds as milliseconds, as Prometheus turns them: rounded to nanoseconds, then cut.
pub fn from_seconds(seconds: f64) -> i64 {
    ((seconds * 1e9).round() / 1e6).trunc() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written() {
        for (text, milliseconds) in
            [("1h30m", 5_400_000), ("5m", 300_000), ("1y", 31_536_000_000), ("1s1ms", 1001), ("90d", 7_776_000_000)]
        {
            assert_eq!((parse(text), print(milliseconds)), (Ok(milliseconds), text.to_owned()));
        }
        assert_eq!(
            (print(0), print(-61_000), print(14 * 86_400_000)),
            ("0s".to_owned(), "-1m1s".to_owned(), "2w".to_owned())
        );
    }

    #[test]
    fn units_go_from_large_to_small_and_each_once() {
        for text in ["1m1h", "1m1m", "m", "1", "1h5"] {
            assert_eq!(parse(text), Err(format!("not a valid duration string: \"{text}\"")));
        }
        assert_eq!(parse("5hs"), Err("unknown unit \"hs\" in duration \"5hs\"".to_owned()));
        assert_eq!(parse("300y"), Err("duration out of range".to_owned()));
    }
}
