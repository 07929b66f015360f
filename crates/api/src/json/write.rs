//! Writes values: keys sorted, numbers as Go writes them.

use serde_json::{Map, Number, Value};

/// Appends a value as compact JSON.
pub fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Number(n) => number(out, n),
        Value::String(s) => string(out, s),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(out, item);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            entries(out, map, |_| true);
            out.push(b'}');
        }
    }
}

/// Appends `"key":value`.
pub(super) fn entry(out: &mut Vec<u8>, key: &str, value: &Value) {
    string(out, key);
    out.push(b':');
    write(out, value);
}

/// Appends the entries whose keys are `kept`, sorted by key (`serde_json`'s map is), without braces.
pub(super) fn entries(out: &mut Vec<u8>, map: &Map<String, Value>, kept: impl Fn(&str) -> bool) {
    let mut first = true;
    for (key, value) in map.iter().filter(|(k, _)| kept(k)) {
        if !first {
            out.push(b',');
        }
        first = false;
        entry(out, key, value);
    }
}

/// Appends a string in quotes.
pub(crate) fn string(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    let bytes = s.as_bytes();
    let mut from = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            0..0x20 => &[],
            _ => continue,
        };
        out.extend(&bytes[from..i]);
        if escape.is_empty() {
            out.extend(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend(escape);
        }
        from = i + 1;
    }
    out.extend(&bytes[from..]);
    out.push(b'"');
}

/// Integers as they are; other numbers in Go's shortest form, with an exponent below 1e-6 and from 1e21.
fn number(out: &mut Vec<u8>, n: &Number) {
    let Some(f) = n.as_f64().filter(|_| n.is_f64()) else {
        out.extend(n.to_string().as_bytes());
        return;
    };
    let magnitude = f.abs();
    if f == 0.0 {
        out.extend(if f.is_sign_negative() { b"-0".as_slice() } else { b"0" });
    } else if (1e-6..1e21).contains(&magnitude) {
        out.extend(format!("{f}").as_bytes());
    } else {
        let text = format!("{f:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |d| ("-", d));
        out.extend(format!("{mantissa}e{sign}{digits:0>1}").as_bytes());
    }
}
