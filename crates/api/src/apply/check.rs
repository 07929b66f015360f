//! Whether a configuration is of its type: fields that the type has, values that they can hold, items that come once.
//!
//! The texts are those of upstream's typed values, Go's way of printing values included.

use std::fmt::{self, Write as _};

use serde_json::Value;

use super::element::Element;
use super::form::{Atom, Form, Items, List, Map, Scalar};
use super::walk::item_element;

/// How many faults are told.
const MAX_FAULTS: usize = 100;

/// What is wrong with a configuration; the error is one text.
pub fn config(form: Form<'_>, value: &Value) -> Result<(), String> {
    faults(form, value, false)
}

/// What is wrong with an object that is there; items that come more than once are let pass.
pub fn object(form: Form<'_>, value: &Value) -> Result<(), String> {
    faults(form, value, true)
}

fn faults(form: Form<'_>, value: &Value, duplicates: bool) -> Result<(), String> {
    let mut check = Check { path: String::new(), faults: Vec::new(), duplicates };
    check.value(form, value);
    match &check.faults[..] {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(many.iter().fold("errors:".to_owned(), |text, fault| text + "\n  " + fault)),
    }
}

struct Check {
    path: String,
    faults: Vec<String>,
    duplicates: bool,
}

impl Check {
    fn fault(&mut self, text: impl fmt::Display) {
        if self.faults.len() < MAX_FAULTS {
            let path = &self.path;
            self.faults.push(if path.is_empty() { text.to_string() } else { format!("{path}: {text}") });
        }
    }

    fn below(&mut self, step: impl fmt::Display, visit: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        // Writing into a string does not fail.
        let _ = write!(self.path, "{step}");
        visit(self);
        self.path.truncate(before);
    }

    fn value(&mut self, form: Form<'_>, value: &Value) {
        match form.atom(value) {
            Atom::Scalar(scalar) => self.scalar(scalar, value),
            Atom::Map(map) => self.map(&map, value),
            Atom::List(list) => self.list(&list, value),
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        match (scalar, value) {
            (_, Value::Null)
            | (Scalar::Numeric, Value::Number(_))
            | (Scalar::String, Value::String(_))
            | (Scalar::Boolean, Value::Bool(_))
            | (Scalar::Any, Value::Number(_) | Value::String(_) | Value::Bool(_)) => {}
            (Scalar::Numeric, _) => {
                self.fault(format_args!("expected numeric (int or float), got {}", go_type(value)));
            }
            (Scalar::String, _) => {
                self.fault(format_args!("expected string, got &value.valueUnstructured{{Value:{}}}", Syntax(value)));
            }
            (Scalar::Boolean, _) => self.fault(format_args!("expected boolean, got &{{{}}}", Plain(value))),
            (Scalar::Any, _) => self.fault(format_args!("expected any scalar, got &{{{}}}", Plain(value))),
        }
    }

    fn map(&mut self, map: &Map<'_>, value: &Value) {
        let members = match value {
            Value::Null => return,
            Value::Object(members) => members,
            other => return self.fault(format_args!("expected map, got &{{{}}}", Plain(other))),
        };
        for (name, value) in members {
            let form = map.member(name);
            self.below(format_args!(".{name}"), |check| match form {
                Some(form) => check.value(form, value),
                None => check.fault("field not declared in schema"),
            });
            if form.is_none() {
                return;
            }
        }
    }

    fn list(&mut self, list: &List<'_>, value: &Value) {
        let items = match value {
            Value::Null => return,
            Value::Array(items) => items,
            other => return self.fault(format_args!("expected list, got &{{{}}}", Plain(other))),
        };
        let mut seen: std::collections::HashSet<Element> = std::collections::HashSet::new();
        for (i, item) in items.iter().enumerate() {
            if list.items == Items::Atomic {
                self.below(format_args!("[{i}]"), |check| check.value(list.element, item));
                continue;
            }
            match item_element(list, item) {
                Err(error) => return self.fault(format_args!("element {i}: {error}")),
                Ok(element) => {
                    if !self.duplicates && seen.contains(&element) {
                        self.fault(format_args!("duplicate entries for key {element}"));
                    }
                    self.below(&element, |check| check.value(list.element, item));
                    seen.insert(element);
                }
            }
        }
    }
}

/// Go's `%T`.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Go's `%#v`.
struct Syntax<'a>(&'a Value);

impl fmt::Display for Syntax<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("interface {}(nil)"),
            Value::String(text) => write!(f, "{text:?}"),
            Value::Array(items) => {
                f.write_str("[]interface {}{")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { ", " } else { "" }, Syntax(item))?;
                }
                f.write_char('}')
            }
            Value::Object(map) => {
                f.write_str("map[string]interface {}{")?;
                for (i, (name, value)) in map.iter().enumerate() {
                    write!(f, "{}{name:?}:{}", if i > 0 { ", " } else { "" }, Syntax(value))?;
                }
                f.write_char('}')
            }
            other => write!(f, "{other}"),
        }
    }
}

/// Go's `%v`.
struct Plain<'a>(&'a Value);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::String(text) => f.write_str(text),
            Value::Array(items) => {
                f.write_char('[')?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { " " } else { "" }, Plain(item))?;
                }
                f.write_char(']')
            }
            Value::Object(map) => {
                f.write_str("map[")?;
                for (i, (name, value)) in map.iter().enumerate() {
                    write!(f, "{}{name}:{}", if i > 0 { " " } else { "" }, Plain(value))?;
                }
                f.write_char(']')
            }
            other => write!(f, "{other}"),
        }
    }
}
