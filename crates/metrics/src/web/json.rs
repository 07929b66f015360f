//! JSON as Prometheus writes it: samples as pairs of seconds and text, labels as objects.

use jiff::Timestamp;
use tsdb::{histogram::FloatHistogram, labels::Labels};

/// A string, with what pages could mistake for markup written as escapes (as Go does).
pub fn text(out: &mut Vec<u8>, text: &str) {
    string(out, text, true);
}

/// A string of a label, where markup stays.
fn label(out: &mut Vec<u8>, text: &str) {
    string(out, text, false);
}

fn string(out: &mut Vec<u8>, text: &str, html: bool) {
    out.push(b'"');
    let mut clean = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"",
            b'<' | b'>' | b'&' if html => b"",
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[clean..at]);
        clean = at + 1;
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(escape);
        }
    }
    out.extend_from_slice(&text.as_bytes()[clean..]);
    out.push(b'"');
}

/// `"name":`
pub fn key(out: &mut Vec<u8>, name: &str) {
    label(out, name);
    out.push(b':');
}

/// An object of labels.
pub fn labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (nth, (name, value)) in labels.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        key(out, name);
        label(out, value);
    }
    out.push(b'}');
}

/// Milliseconds as seconds, with a fraction where there is one.
pub fn time(out: &mut Vec<u8>, milliseconds: i64) {
    if milliseconds < 0 {
        out.push(b'-');
    }
    let (seconds, fraction) = (milliseconds.unsigned_abs() / 1000, milliseconds.unsigned_abs() % 1000);
    number(out, seconds);
    if fraction != 0 {
        out.extend_from_slice(format!(".{fraction:03}").as_bytes());
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A float as text, with an exponent where it would be very long.
pub fn float(out: &mut Vec<u8>, value: f64) {
    use std::io::Write;
    out.push(b'"');
    let size = value.abs();
    if value.is_finite() && value.fract() == 0.0 && size < 1e15 && (value != 0.0 || value.is_sign_positive()) {
        if value < 0.0 {
            out.push(b'-');
        }
        number(out, size as u64);
    } else if value.is_finite() && size != 0.0 && !(1e-6..1e21).contains(&size) {
        out.extend_from_slice(exponential(value).as_bytes());
    } else if value.is_finite() {
        // Writing into a vector cannot fail.
        let _ = write!(out, "{value}");
    } else {
        out.extend_from_slice(promql::number::plain(value).as_bytes());
    }
    out.push(b'"');
}

/// A float with an exponent of two digits at least (`%e`), as alerts show theirs.
pub fn exponential(value: f64) -> String {
    if !value.is_finite() {
        return promql::number::plain(value);
    }
    let written = format!("{value:e}");
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// `[seconds,"value"]`
pub fn sample(out: &mut Vec<u8>, at: i64, value: f64) {
    out.push(b'[');
    time(out, at);
    out.push(b',');
    float(out, value);
    out.push(b']');
}

/// `[seconds,{"count":...}]`
pub fn histogram_sample(out: &mut Vec<u8>, at: i64, value: &FloatHistogram) {
    out.push(b'[');
    time(out, at);
    out.push(b',');
    histogram(out, value);
    out.push(b']');
}

fn histogram(out: &mut Vec<u8>, value: &FloatHistogram) {
    out.extend_from_slice(b"{\"count\":");
    float(out, value.count);
    out.extend_from_slice(b",\"sum\":");
    float(out, value.sum);
    let mut found = false;
    for bucket in value.all_buckets().filter(|bucket| bucket.count != 0.0) {
        out.extend_from_slice(if found { b"," } else { b",\"buckets\":[" });
        found = true;
        let bounds = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        };
        out.extend_from_slice(&[b'[', bounds]);
        for number in [bucket.lower, bucket.upper, bucket.count] {
            out.push(b',');
            float(out, number);
        }
        out.push(b']');
    }
    if found {
        out.push(b']');
    }
    out.push(b'}');
}

/// A list of strings.
pub fn texts<T: AsRef<str>>(out: &mut Vec<u8>, list: impl IntoIterator<Item = T>) {
    out.push(b'[');
    for (nth, item) in list.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        text(out, item.as_ref());
    }
    out.push(b']');
}

/// A time as Go writes it; its zero time where there is none.
pub fn moment(out: &mut Vec<u8>, time: Option<Timestamp>) {
    match time {
        Some(time) => text(out, &time.to_string()),
        None => out.extend_from_slice(b"\"0001-01-01T00:00:00Z\""),
    }
}

/// A number that is not text: seconds, counts.
pub fn plain(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    let written = if size != 0.0 && !(1e-6..1e21).contains(&size) {
        // Go writes e-09 as e-9 in JSON.
        format!("{value:e}")
    } else {
        value.to_string()
    };
    out.extend_from_slice(written.as_bytes());
}

#[cfg(test)]
mod tests;
