//! What values can be asked: the methods of Java's classes and of the Groovy development kit that pipelines use
//! (<https://docs.groovy-lang.org/latest/html/groovy-jdk/>).
//!
//! A function gives `None` where it knows no such method.

use crate::{
    fault::{Outcome, throw},
    interpret::Strand,
    operator,
    value::{Value, show},
};

pub mod buffer;
pub mod class;
pub mod collection;
pub mod exception;
pub mod json;
pub mod list;
pub mod map;
pub mod matcher;
pub mod number;
pub mod object;
pub mod text;

/// Calls a method of a value that is no object of a script's class.
pub fn call(strand: &mut Strand, object: &Value, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    strand.tick()?;
    let result = match object {
        Value::Text(text) => text::call(strand, text, name, arguments)?,
        Value::List(list) => list::call(strand, list, name, arguments)?,
        Value::Map(map) => map::call(strand, map, name, arguments)?,
        Value::Range(range) => list::call_range(strand, *range, name, arguments)?,
        Value::Entry(entry) => match name {
            "getKey" => Some(entry.key.clone()),
            "getValue" => Some(entry.value.clone()),
            _ => None,
        },
        Value::Int(_) | Value::Long(_) | Value::Decimal(_) | Value::Double(_) | Value::Bool(_) => {
            number::call(strand, object, name, arguments)?
        }
        Value::Closure(closure) => object::call_closure(strand, closure, name, arguments)?,
        Value::Exception(_) => exception::call(object, name),
        Value::Object(own) => match own.class.root().is_some_and(crate::fault::is_exception) {
            true => exception::call(object, name),
            false => None,
        },
        Value::Matcher(matcher) => matcher::call(strand, matcher, name, arguments)?,
        Value::Pattern(pattern) => matcher::call_pattern(strand, pattern, name, arguments)?,
        Value::Foreign(foreign) => match foreign.clone().call(strand, name, arguments)? {
            // What grows a text gives the same text again, so that calls can follow each other.
            Some(_) if foreign.any().is::<buffer::Buffer>() && matches!(name, "append" | "leftShift" | "insert") => {
                Some(object.clone())
            }
            result => result,
        },
        Value::Class(_) | Value::Null => None,
    };
    match result {
        Some(value) => Ok(Some(value)),
        None => object::call(strand, object, name, arguments),
    }
}

/// One argument; an exception where it is missing.
pub(crate) fn one<'a>(name: &str, arguments: &'a [Value], index: usize) -> Outcome<&'a Value> {
    arguments
        .get(index)
        .ok_or_else(|| throw("MissingMethodException", format!("{name}() needs {} arguments", index + 1)))
}

/// One argument as text.
pub(crate) fn text_of(name: &str, arguments: &[Value], index: usize) -> Outcome<String> {
    Ok(show::text(one(name, arguments, index)?))
}

/// One argument as a count.
pub(crate) fn index_of(name: &str, arguments: &[Value], index: usize) -> Outcome<usize> {
    operator::to_index(one(name, arguments, index)?)
}
