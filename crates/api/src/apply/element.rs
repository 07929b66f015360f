//! One step of a path into an object, as managed fields write it.
//!
//! | written | selects | shown |
//! |---|---|---|
//! | `f:name` | the field of a struct or the entry of a map | `.name` |
//! | `k:{"name":"a"}` | the item of a list of type map with these keys | `[name="a"]` |
//! | `v:"a"` | the item of a list of type set that is this value | `[="a"]` |
//! | `i:3` | the item of a list at this place | `[3]` |
//!
//! An element is kept as the text that is written, keys sorted and values in their one canonical form, so that equal elements
//! are equal texts. <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use crate::json;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(Box<str>);

/// What a text is that was meant to be an element.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An element.
    Element(Element),
    /// Of a kind that is not known: left out, as something that a later version may know.
    Unknown,
}

impl Element {
    /// The field or map entry of that name.
    pub fn field(name: &str) -> Element {
        let mut text = String::with_capacity(name.len() + 2);
        text.push_str("f:");
        text.push_str(name);
        Element(text.into())
    }

    /// The item with these keys, in any order.
    pub fn key(keys: &mut [(&str, &Value)]) -> Element {
        let mut out = Vec::with_capacity(32);
        write_key(&mut out, keys);
        Element(into_text(out))
    }

    /// The item that is this scalar.
    pub fn value(value: &Value) -> Element {
        let mut out = Vec::with_capacity(16);
        out.extend_from_slice(b"v:");
        write_scalar(&mut out, value);
        Element(into_text(out))
    }

    /// Reads what was written; the error is upstream's.
    pub fn parse(text: &str) -> Result<Parsed, String> {
        let Some((kind, rest)) = text.split_at_checked(2) else {
            return Err("key must be 2 characters long:".to_owned());
        };
        let element = match kind {
            "f:" => Element(text.into()),
            "v:" => Element::value(&parse_json(rest)?),
            "k:" => match parse_json(rest)? {
                Value::Object(map) => {
                    let mut keys: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value)).collect();
                    Element::key(&mut keys)
                }
                _ => return Err(format!("no object: {text}")),
            },
            "i:" => {
                let index: i64 = rest.parse().map_err(|_| format!("strconv.Atoi: parsing {rest:?}: invalid syntax"))?;
                Element(format!("i:{index}").into())
            }
            _ if kind.as_bytes()[1] == b':' => return Ok(Parsed::Unknown),
            _ => return Err(format!("missing colon: {text}")),
        };
        Ok(Parsed::Element(element))
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The name of a field or map entry.
    pub fn name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    /// Whether it selects an item by keys.
    pub fn is_key(&self) -> bool {
        self.0.starts_with("k:")
    }
}

fn into_text(out: Vec<u8>) -> Box<str> {
    // The writer of JSON writes UTF-8.
    String::from_utf8(out).unwrap_or_default().into()
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Appends the text of an item's element.
pub(super) fn write_key(out: &mut Vec<u8>, keys: &mut [(&str, &Value)]) {
    keys.sort_unstable_by_key(|(name, _)| *name);
    out.extend_from_slice(b"k:{");
    for (i, (name, value)) in keys.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_string(out, name);
        out.push(b':');
        write_scalar(out, value);
    }
    out.push(b'}');
}

/// Appends a value so that equal values are equal texts: whole numbers are written without a fraction.
pub(super) fn write_scalar(out: &mut Vec<u8>, value: &Value) {
    match value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0 && number.abs() < 9e15) {
        Some(number) => out.extend_from_slice(format!("{number:.0}").as_bytes()),
        None => json::write(out, value),
    }
}

impl fmt::Display for Element {
    /// As conflicts show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, rest) = self.0.split_at(2);
        match kind {
            "f:" => write!(f, ".{rest}"),
            "v:" => write!(f, "[={}]", Shown(&serde_json::from_str(rest).unwrap_or(Value::Null))),
            "k:" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                f.write_char('[')?;
                for (i, (name, value)) in keys.iter().enumerate() {
                    if i > 0 {
                        f.write_char(',')?;
                    }
                    write!(f, "{name}={}", Shown(value))?;
                }
                f.write_char(']')
            }
            _ => write!(f, "[{rest}]"),
        }
    }
}

/// A value within a path: strings quoted.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => write!(f, "{text:?}"),
            Value::Null => f.write_str("null"),
            Value::Object(map) => {
                f.write_char('{')?;
                for (i, (name, value)) in map.iter().enumerate() {
                    if i > 0 {
                        f.write_char(';')?;
                    }
                    write!(f, "{name}={}", Shown(value))?;
                }
                f.write_char('}')
            }
            Value::Array(items) => {
                f.write_char('[')?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_char(',')?;
                    }
                    write!(f, "{}", Shown(item))?;
                }
                f.write_char(']')
            }
            other => write!(f, "{other}"),
        }
    }
}
