//! Values as text: what `println` prints.

use super::Value;

/// Levels that are printed.
const DEPTH: usize = 60;
/// Bytes of one value's text.
const LENGTH: usize = 32 << 20;

/// As `toString()` gives it.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out, 0, false);
    out
}

/// With quotes around strings.
pub fn inspect(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out, 0, true);
    out
}

fn write(value: &Value, out: &mut String, depth: usize, quote: bool) {
    if depth > DEPTH || out.len() > LENGTH {
        out.push_str("...");
        return;
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(&value.to_string()),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Long(value) => out.push_str(&value.to_string()),
        Value::Decimal(value) => out.push_str(&value.to_string()),
        Value::Double(value) => out.push_str(&double(*value)),
        Value::Text(text) if quote => {
            out.push('\'');
            out.push_str(&text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"));
            out.push('\'');
        }
        Value::Text(text) => out.push_str(text),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.items().iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                match item {
                    Value::List(inner) if inner.is(list) => out.push_str("(this Collection)"),
                    item => write(item, out, depth + 1, quote),
                }
            }
            out.push(']');
        }
        Value::Map(map) => {
            let entries = map.entries();
            out.push('[');
            if entries.is_empty() {
                out.push(':');
            }
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write(key, out, depth + 1, quote);
                out.push(':');
                match value {
                    Value::Map(inner) if inner.is(map) => out.push_str("(this Map)"),
                    value => write(value, out, depth + 1, quote),
                }
            }
            out.push(']');
        }
        Value::Entry(entry) => {
            write(&entry.key, out, depth + 1, quote);
            out.push('=');
            write(&entry.value, out, depth + 1, quote);
        }
        Value::Range(range) => {
            out.push('[');
            for index in 0..range.len() {
                if out.len() > LENGTH {
                    break;
                }
                if index > 0 {
                    out.push_str(", ");
                }
                write(&range.at(index), out, depth + 1, quote);
            }
            out.push(']');
        }
        Value::Closure(_) => out.push_str("closure"),
        Value::Class(name) => {
            out.push_str("class ");
            out.push_str(&super::super::fault::full_name(name));
        }
        Value::Object(object) => {
            out.push_str(&object.class.tree.name);
            out.push_str("@object");
        }
        Value::Exception(exception) => out.push_str(&exception.to_string()),
        Value::Pattern(pattern) => out.push_str(pattern.source()),
        Value::Matcher(matcher) => {
            out.push_str(&format!("java.util.regex.Matcher[pattern={}]", matcher.pattern.source()))
        }
        Value::Foreign(foreign) => out.push_str(&foreign.show()),
    }
}

/// As Java prints it: always with a point, and with an exponent where it is large or small.
pub fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        let text = format!("{value}");
        return if text.contains('.') { text } else { format!("{text}.0") };
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}
