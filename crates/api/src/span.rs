//! Spans of time as Gateway API writes them: `1h30m`, `10s`, `500ms`; at most five digits a part, and neither sign nor fraction.
//!
//! See <https://gateway-api.sigs.k8s.io/geps/gep-2257/>.

use std::time::Duration;

/// Reads a span; `None` for what is none.
pub fn read(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest.get(..digits).filter(|digits| digits.len() <= 5)?.parse().ok()?;
        let units = &rest[digits..];
        let unit = units.find(|letter: char| letter.is_ascii_digit()).unwrap_or(units.len());
        sum = sum.checked_add(match &units[..unit] {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        })?;
        rest = &units[unit..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans_are_read_as_gateway_api_writes_them() {
        let cases = [
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("123456s", None),
            ("1d", None),
        ];
        for (text, expected) in cases {
            assert_eq!(super::read(text).map(|time| time.as_millis()), expected, "{text}");
        }
    }
}
