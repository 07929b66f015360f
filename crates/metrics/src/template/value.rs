//! What templates work on: Go's values as far as templates can tell them apart.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use promql::number;

use super::{calendar::Moment, format::quote};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing: an absent value, printed as `<no value>`.
    Nil,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `float64`
    Float(f64),
    /// `string`
    Text(Arc<str>),
    /// A string that is HTML, or a URL, already and is not escaped again.
    Safe(Arc<str>),
    /// A slice.
    List(Arc<List>),
    /// A map from strings.
    Map(Arc<Map>),
    /// A struct.
    Record(Arc<Record>),
    /// `time.Time`
    Time(Moment),
    /// `time.Duration`, in nanoseconds.
    Duration(i64),
}

/// What kind of slice a list is, which tells its methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// `[]interface {}`
    Any,
    /// `[]string`, with `Join`.
    Strings,
    /// Alertmanager's pairs of names and values, with `Names` and `Values`.
    Pairs,
    /// Alertmanager's alerts, with `Firing` and `Resolved`.
    Alerts,
    /// What a query gave.
    Samples,
}

/// A slice.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// Its kind.
    pub kind: ListKind,
    /// Its elements.
    pub items: Vec<Value>,
}

/// What kind of map it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `map[string]interface {}`
    Any,
    /// `map[string]string`: a missing key is an empty string.
    Strings,
    /// Alertmanager's labels, with `SortedPairs`, `Names`, `Values` and `Remove`.
    Labels,
}

/// A map from strings.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Its kind.
    pub kind: MapKind,
    /// Its entries.
    pub entries: BTreeMap<String, Value>,
}

/// A struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its type, as errors name it.
    pub name: &'static str,
    /// Its fields, and their names in JSON.
    pub fields: Vec<(&'static str, &'static str, Value)>,
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// A slice.
    pub fn list(kind: ListKind, items: Vec<Self>) -> Self {
        Self::List(Arc::new(List { kind, items }))
    }

    /// A map.
    pub fn map(kind: MapKind, entries: BTreeMap<String, Self>) -> Self {
        Self::Map(Arc::new(Map { kind, entries }))
    }

    /// A map of strings.
    pub fn strings<'a>(kind: MapKind, entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), Self::text(value)));
        Self::map(kind, entries.collect())
    }

    /// A struct.
    pub fn record(name: &'static str, fields: Vec<(&'static str, &'static str, Self)>) -> Self {
        Self::Record(Arc::new(Record { name, fields }))
    }

    /// A string if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Safe(text) => Some(text),
            _ => None,
        }
    }

    /// Its type in Go.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "interface {}",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Safe(_) => "template.HTML",
            Self::List(list) => match list.kind {
                ListKind::Any => "[]interface {}",
                ListKind::Strings => "[]string",
                ListKind::Pairs => "template.Pairs",
                ListKind::Alerts => "template.Alerts",
                ListKind::Samples => "template.queryResult",
            },
            Self::Map(map) => match map.kind {
                MapKind::Any => "map[string]interface {}",
                MapKind::Strings => "map[string]string",
                MapKind::Labels => "template.KV",
            },
            Self::Record(record) => record.name,
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
        }
    }

    /// Whether a condition takes it for true: it is not the zero of its type.
    pub fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(truth) => *truth,
            Self::Int(value) | Self::Duration(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) | Self::Safe(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            Self::Record(_) | Self::Time(_) => true,
        }
    }

    /// As `fmt.Sprint` prints it. At most `most` bytes and a little more are written.
    pub fn print(&self, out: &mut String, most: usize) {
        if out.len() > most {
            return;
        }
        match self {
            Self::Nil => out.push_str("<nil>"),
            Self::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Float(value) => out.push_str(&number::short(*value)),
            Self::Text(text) | Self::Safe(text) => out.push_str(text),
            Self::List(list) if list.kind == ListKind::Pairs => {
                for (i, pair) in list.items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    print_pair(pair, out, most);
                }
            }
            Self::List(list) => {
                out.push('[');
                print_all(list.items.iter(), out, most);
                out.push(']');
            }
            Self::Map(map) if map.kind == MapKind::Labels => {
                super::method::sorted_pairs(map).print(out, most);
            }
            Self::Map(map) => {
                out.push_str("map[");
                for (i, (key, value)) in map.entries.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    out.push_str(key);
                    out.push(':');
                    value.print(out, most);
                }
                out.push(']');
            }
            Self::Record(record) => {
                out.push('{');
                print_all(record.fields.iter().map(|field| &field.2), out, most);
                out.push('}');
            }
            Self::Time(time) => out.push_str(&time.to_string()),
            Self::Duration(nanos) => out.push_str(&super::calendar::print_duration(*nanos)),
        }
    }

    /// As `fmt.Sprint` prints it.
    pub fn printed(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, super::MOST_OUTPUT);
        out
    }

    /// As JSON.
    pub fn json(&self) -> Result<serde_json::Value, String> {
        use serde_json::Value as Json;
        Ok(match self {
            Self::Nil => Json::Null,
            Self::Bool(truth) => Json::Bool(*truth),
            Self::Int(value) | Self::Duration(value) => Json::from(*value),
            Self::Float(value) if value.trunc() == *value && value.abs() < 1e15 => Json::from(*value as i64),
            Self::Float(value) => {
                let number = serde_json::Number::from_f64(*value);
                Json::Number(number.ok_or_else(|| format!("json: unsupported value: {}", number::short(*value)))?)
            }
            Self::Text(text) | Self::Safe(text) => Json::String(text.to_string()),
            Self::List(list) => Json::Array(list.items.iter().map(Self::json).collect::<Result<_, _>>()?),
            Self::Map(map) => {
                let entries = map.entries.iter().map(|(key, value)| Ok((key.clone(), value.json()?)));
                Json::Object(entries.collect::<Result<_, String>>()?)
            }
            Self::Record(record) => {
                let fields = record.fields.iter().map(|(_, name, value)| Ok(((*name).to_owned(), value.json()?)));
                Json::Object(fields.collect::<Result<_, String>>()?)
            }
            Self::Time(time) => Json::String(time.rfc3339()),
        })
    }

    /// The order of two values of one kind, as `lt` tells it; an error says why there is none.
    pub(super) fn order(&self, other: &Self) -> Result<Option<Ordering>, String> {
        match (self, other) {
            (Self::Int(a) | Self::Duration(a), Self::Int(b) | Self::Duration(b)) => Ok(Some(a.cmp(b))),
            (Self::Float(a), Self::Float(b)) => Ok(a.partial_cmp(b)),
            (Self::Text(a) | Self::Safe(a), Self::Text(b) | Self::Safe(b)) => Ok(Some(a.cmp(b))),
            _ => {
                self.comparable()?;
                other.comparable()?;
                if self.kind() != other.kind() {
                    return Err("incompatible types for comparison".to_owned());
                }
                Err("invalid type for comparison".to_owned())
            }
        }
    }

    fn comparable(&self) -> Result<(), String> {
        match self {
            Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Text(_) | Self::Safe(_) | Self::Duration(_) => Ok(()),
            _ => Err("invalid type for comparison".to_owned()),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Int(_) | Self::Duration(_) => 1,
            Self::Float(_) => 2,
            Self::Text(_) | Self::Safe(_) => 3,
            _ => 4,
        }
    }

    /// Whether two values are the same, as `eq` tells it.
    pub(super) fn same(&self, other: &Self) -> Result<bool, String> {
        if matches!(self, Self::Nil) || matches!(other, Self::Nil) {
            return Ok(matches!((self, other), (Self::Nil, Self::Nil)));
        }
        for value in [self, other] {
            if matches!(value, Self::List(_) | Self::Map(_)) {
                return Err(format!("non-comparable type {}: {}", value.printed(), value.type_name()));
            }
        }
        if self.kind() != other.kind() {
            let (one, two) = (self.type_name(), other.type_name());
            return Err(format!("incompatible types for comparison: {one} and {two}"));
        }
        Ok(match (self, other) {
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Int(a) | Self::Duration(a), Self::Int(b) | Self::Duration(b)) => a == b,
            (Self::Text(a) | Self::Safe(a), Self::Text(b) | Self::Safe(b)) => a == b,
            _ => self == other,
        })
    }
}

fn print_all<'a>(values: impl Iterator<Item = &'a Value>, out: &mut String, most: usize) {
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.push(' ');
        }
        value.print(out, most);
    }
}

fn print_pair(pair: &Value, out: &mut String, most: usize) {
    let Value::Record(record) = pair else { return pair.print(out, most) };
    for (i, (_, _, value)) in record.fields.iter().enumerate() {
        if i > 0 {
            out.push('=');
        }
        value.print(out, most);
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

/// A number from whatever says one: Prometheus' functions take strings too.
pub(super) fn to_float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Duration(nanos) => Ok(*nanos as f64 / 1e9),
        Value::Text(text) | Value::Safe(text) => parse_float(text),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

/// Reads a float as Go's `strconv.ParseFloat` does.
pub(super) fn parse_float(text: &str) -> Result<f64, String> {
    let invalid = || format!("strconv.ParseFloat: parsing {}: invalid syntax", quote(text));
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    if ["inf", "infinity", "nan"].iter().any(|word| body.eq_ignore_ascii_case(word)) {
        return number::parse(text).ok_or_else(invalid);
    }
    let value: f64 = body.parse().map_err(|_| invalid())?;
    if value.is_infinite() {
        return Err(format!("strconv.ParseFloat: parsing {}: value out of range", quote(text)));
    }
    Ok(if text.starts_with('-') { -value } else { value })
}
