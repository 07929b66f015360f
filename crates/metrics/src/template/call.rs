//! Functions that templates may call: what they take, and those that every template has.
//!
//! See <https://pkg.go.dev/text/template#hdr-Functions>.

use std::cmp::Ordering;

use super::{
    escape, format,
    value::{ListKind, MapKind, Value},
};

/// What a function takes at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// Anything.
    Any,
    /// A string.
    Text,
    /// An integer.
    Int,
    /// A list of strings.
    Texts,
    /// A list of anything.
    Anys,
    /// What a query gave.
    Samples,
    /// One sample of it.
    Sample,
    /// A time.
    Time,
    /// A length of time.
    Duration,
}

impl Param {
    /// The type in Go, for errors.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Text => "string",
            Self::Int => "int",
            Self::Texts => "[]string",
            Self::Anys => "[]interface {}",
            Self::Samples => "template.queryResult",
            Self::Sample => SAMPLE,
            Self::Time => "time.Time",
            Self::Duration => "time.Duration",
        }
    }

    /// Whether a value fits.
    pub(super) fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any, _) | (Self::Text, Value::Text(_) | Value::Safe(_)) | (Self::Time, Value::Time(_)) => true,
            (Self::Int | Self::Duration, Value::Int(_) | Value::Duration(_)) => true,
            (Self::Texts, Value::List(list)) => list.kind == ListKind::Strings,
            (Self::Anys, Value::List(list)) => list.kind == ListKind::Any,
            (Self::Samples, Value::List(list)) => list.kind == ListKind::Samples,
            (Self::Sample, Value::Record(record)) => record.name == SAMPLE,
            _ => false,
        }
    }

    /// Whether nothing at all fits too.
    pub(super) fn takes_nil(self) -> bool {
        matches!(self, Self::Any | Self::Texts | Self::Anys | Self::Samples | Self::Sample)
    }
}

/// The type of a sample of a query.
pub(super) const SAMPLE: &str = "*template.sample";

/// What a function takes.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// The arguments that it must have.
    pub fixed: &'static [Param],
    /// What follows any number of times.
    pub rest: Option<Param>,
}

/// A signature of arguments that must be there.
pub(super) const fn takes(fixed: &'static [Param]) -> Signature {
    Signature { fixed, rest: None }
}

/// A signature that ends with any number of arguments.
pub(super) const fn takes_rest(fixed: &'static [Param], rest: Param) -> Signature {
    Signature { fixed, rest: Some(rest) }
}

/// What a call gave.
#[derive(Clone, Debug)]
pub enum Called {
    /// A value.
    Value(Value),
    /// What the named template makes of the value, as HTML.
    Template(String, Value),
}

/// Functions beyond those that every template has.
pub trait Functions {
    /// What a function takes; `None` where there is none of this name.
    fn signature(&self, name: &str) -> Option<Signature>;

    /// Calls a function with arguments that fit its signature.
    fn call(&self, name: &str, args: Vec<Value>) -> Result<Called, String>;
}

/// Built-in functions: what they take.
pub(super) fn signature(name: &str) -> Option<Signature> {
    Some(match name {
        "and" | "or" | "eq" | "index" | "slice" => takes_rest(&[Param::Any], Param::Any),
        "not" | "len" => takes(&[Param::Any]),
        "ne" | "lt" | "le" | "gt" | "ge" => takes(&[Param::Any, Param::Any]),
        "print" | "println" | "html" | "js" | "urlquery" => takes_rest(&[], Param::Any),
        "printf" => takes_rest(&[Param::Text], Param::Any),
        "call" => takes_rest(&[Param::Any], Param::Any),
        _ => return None,
    })
}

/// Calls a built-in function, except `and` and `or`, which do not evaluate all they are given.
pub(super) fn call(name: &str, args: &[Value], most: usize) -> Result<Value, String> {
    let Some((first, rest)) = args.split_first() else {
        return Ok(Value::text(if name == "println" { "\n" } else { "" }));
    };
    let order = |wanted: &[Ordering]| {
        let order = first.order(&rest[0])?;
        Ok(Value::Bool(order.is_some_and(|order| wanted.contains(&order))))
    };
    match name {
        "not" => Ok(Value::Bool(!first.truth())),
        "len" => length(first),
        "index" => rest.iter().try_fold(first.clone(), |item, index| element(&item, index)),
        "slice" => slice(first, rest),
        "eq" if rest.is_empty() => Err("missing argument for comparison".to_owned()),
        "eq" => {
            for other in rest {
                if first.same(other)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        "ne" => first.same(&rest[0]).map(|same| Value::Bool(!same)),
        "lt" => order(&[Ordering::Less]),
        "le" => order(&[Ordering::Less, Ordering::Equal]),
        "gt" => order(&[Ordering::Greater]),
        "ge" => order(&[Ordering::Greater, Ordering::Equal]),
        "printf" => Ok(Value::text(format::sprintf(first.as_text().unwrap_or_default(), rest, most))),
        "print" => Ok(Value::text(print(args, most))),
        "println" => {
            let texts: Vec<String> = args.iter().map(Value::printed).collect();
            Ok(Value::text(texts.join(" ") + "\n"))
        }
        "html" => Ok(Value::text(escape::html(&print(args, most)))),
        "js" => Ok(Value::text(escape::js(&print(args, most)))),
        "urlquery" => Ok(Value::text(escape::query(&print(args, most)))),
        "call" => Err(format!("non-function {} of type {}", first.printed(), first.type_name())),
        _ => Err(format!("no function {name}")),
    }
}

/// As `fmt.Sprint` joins: a space between two of which neither is a string.
pub(super) fn print(args: &[Value], most: usize) -> String {
    let mut out = String::new();
    for (i, value) in args.iter().enumerate() {
        if i > 0 && value.as_text().is_none() && args[i - 1].as_text().is_none() {
            out.push(' ');
        }
        value.print(&mut out, most);
    }
    out
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) | Value::Safe(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.entries.len(),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(length as i64))
}

fn element(item: &Value, index: &Value) -> Result<Value, String> {
    let position = |length: usize| match index {
        Value::Int(at) => {
            usize::try_from(*at).ok().filter(|at| *at < length).ok_or_else(|| format!("index out of range: {at}"))
        }
        Value::Nil => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    match item {
        Value::Nil => Err("index of untyped nil".to_owned()),
        Value::Text(text) | Value::Safe(text) => Ok(Value::Int(i64::from(text.as_bytes()[position(text.len())?]))),
        Value::List(list) => Ok(list.items[position(list.items.len())?].clone()),
        Value::Map(map) => match index {
            Value::Text(key) | Value::Safe(key) => {
                let missing = if map.kind == MapKind::Any { Value::Nil } else { Value::text("") };
                Ok(map.entries.get(&**key).cloned().unwrap_or(missing))
            }
            Value::Nil => Err("value is nil; should be of type string".to_owned()),
            other => Err(format!("value has type {}; should be string", other.type_name())),
        },
        other => Err(format!("can't index item of type {}", other.type_name())),
    }
}

fn slice(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    if indexes.len() > 3 {
        return Err(format!("too many slice indexes: {}", indexes.len()));
    }
    let length = match item {
        Value::Text(text) | Value::Safe(text) if indexes.len() < 3 => text.len(),
        Value::Text(_) | Value::Safe(_) => return Err("cannot 3-index slice a string".to_owned()),
        Value::List(list) => list.items.len(),
        Value::Nil => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut bounds = [0, length, length];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        *bound = match index {
            Value::Int(at) => usize::try_from(*at)
                .ok()
                .filter(|at| *at <= length)
                .ok_or_else(|| format!("index out of range: {at}"))?,
            Value::Nil => return Err("cannot index slice/array with nil".to_owned()),
            other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
        };
    }
    let [from, to, _] = bounds;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match item {
        Value::List(list) => Value::list(list.kind, list.items[from..to].to_vec()),
        other => {
            let bytes = &other.as_text().unwrap_or_default().as_bytes()[from..to];
            Value::text(String::from_utf8_lossy(bytes))
        }
    })
}
