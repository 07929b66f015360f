//! What Go's decoder does to a request body: types checked, unknown fields dropped and reported, values normalised.
//!
//! [`check`] walks a value along the [schema](crate::schema) and leaves what upstream's server would print after decoding
//! it into its Go struct: unknown fields and nulls gone, quantities, times and base64 in canonical form, and fields marked
//! `omitempty` gone when they hold the zero value, empty structs that are no pointers too. What upstream adds (zero values
//! of fields that are not `omitempty`) is not added: absent and zero mean the same to everything in this crate.
//! [`complete`] adds it, for what must work on just what upstream prints, as JSON patches do.
//!
//! Error texts are those of the decoder (`sigs.k8s.io/json`), such as
//! `json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container`. Keys are
//! case-sensitive.

mod complete;
mod scalar;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::schema::{Field, Kind, Shape, Type};

pub use complete::complete;
pub(crate) use complete::printed_zero;
pub(crate) use scalar::{bytes, number, print_time, quantity};

/// What happens to fields that the schema does not have, and to duplicate keys: `fieldValidation` of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// Dropped silently.
    Ignore,
    /// Dropped and returned as warnings.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

/// How many unknown and duplicate fields are reported.
const MAX_REPORTED: usize = 100;

/// Checks and normalises `value` as the JSON form of `root`.
///
/// Returns warnings (`unknown field "spec.foo"`), or the text of the decoder's error.
pub fn check(root: Type, value: &mut Value, unknown: UnknownFields) -> Result<Vec<String>, String> {
    check_parsed(root, value, &[], unknown)
}

/// Like [`check`] for a document with these duplicate keys ([`crate::json::Parsed::duplicates`]).
pub fn check_parsed(
    root: Type,
    value: &mut Value,
    duplicates: &[String],
    unknown: UnknownFields,
) -> Result<Vec<String>, String> {
    let mut walk = Walk { unknown: Vec::new(), saved: None, report: unknown != UnknownFields::Ignore };
    let frame = Frame { parent: None, step: Step::Root };
    walk.structure(root, root.go_name(), value, &frame)?;
    if let Some(error) = walk.saved {
        return Err(error);
    }
    if unknown == UnknownFields::Ignore {
        return Ok(Vec::new());
    }
    let inside_unknown = |path: &str| {
        let within =
            |u: &String| path.strip_prefix(u.as_str()).is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']));
        walk.unknown.iter().any(within)
    };
    let duplicates: Vec<_> = duplicates.iter().filter(|d| !inside_unknown(d)).collect();
    let mut reports: Vec<String> = walk.unknown.iter().map(|path| report("unknown", path)).collect();
    reports.extend(duplicates.into_iter().map(|path| report("duplicate", path)));
    reports.truncate(MAX_REPORTED);
    if unknown == UnknownFields::Strict && !reports.is_empty() {
        return Err(format!("strict decoding error: {}", reports.join(", ")));
    }
    Ok(reports)
}

/// One line about a field: `unknown field "spec.foo"`.
pub(crate) fn report(what: &str, path: &str) -> String {
    let mut quoted = Vec::new();
    crate::json::write(&mut quoted, &Value::String(path.to_owned()));
    format!("{what} field {}", String::from_utf8_lossy(&quoted))
}

/// One step of the way from the root, on the stack.
struct Frame<'a> {
    parent: Option<&'a Frame<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Field(Type, &'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Frame<'a> {
    fn child(&'a self, step: Step<'a>) -> Frame<'a> {
        Frame { parent: Some(self), step }
    }

    /// `spec.containers[0].name`
    fn path(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.path(out);
        }
        match self.step {
            Step::Root => {}
            Step::Field(_, key) | Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Step::Index(i) => {
                let _ = write!(out, "[{i}]");
            }
        }
    }

    /// The innermost struct and the field names that lead here, as Go's decoder keeps them.
    fn context(&self, out: &mut Vec<&'a str>) -> Option<Type> {
        let outer = self.parent.and_then(|parent| parent.context(out));
        if let Step::Field(owner, key) = self.step {
            if let Some((embedded, _)) = owner.field_path(key) {
                out.extend(embedded);
            }
            out.push(key);
            return Some(owner);
        }
        outer
    }

    /// Go's error for a value of the wrong kind.
    fn mismatch(&self, found: &str, go: &str) -> String {
        let mut names = Vec::new();
        match self.context(&mut names) {
            Some(owner) => {
                let owner = owner.short_name();
                format!("json: cannot unmarshal {found} into Go struct field {owner}.{} of type {go}", names.join("."))
            }
            None => format!("json: cannot unmarshal {found} into Go value of type {go}"),
        }
    }
}

/// How Go's decoder names a value's kind.
fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// An error that ends decoding at once; others let the decoder go on and the first of them is kept.
type Fatal = String;

struct Walk {
    unknown: Vec<String>,
    saved: Option<String>,
    report: bool,
}

impl Walk {
    fn save(&mut self, error: String) {
        self.saved.get_or_insert(error);
    }

    fn structure(&mut self, of: Type, go: &str, value: &mut Value, frame: &Frame<'_>) -> Result<(), Fatal> {
        let Value::Object(map) = value else {
            if value.is_null() {
                *value = Value::Object(Map::new());
            } else {
                self.save(frame.mismatch(described(value), go));
            }
            return Ok(());
        };
        let mut fatal = None;
        map.retain(|key, value| {
            if fatal.is_some() {
                return true;
            }
            let Some(field) = of.field(key) else {
                if self.report && self.unknown.len() < MAX_REPORTED {
                    let mut path = String::new();
                    frame.child(Step::Key(key)).path(&mut path);
                    self.unknown.push(path);
                }
                return false;
            };
            if value.is_null() {
                return false;
            }
            if let Err(error) = self.value(field.shape(), value, &frame.child(Step::Field(of, key))) {
                fatal = Some(error);
            }
            !omitted(field, value)
        });
        fatal.map_or(Ok(()), Err)
    }

    fn value(&mut self, shape: Shape, value: &mut Value, frame: &Frame<'_>) -> Result<(), Fatal> {
        match (shape.kind(), &mut *value) {
            (Kind::String, Value::String(_))
            | (Kind::Bool, Value::Bool(_))
            | (Kind::RawExtension | Kind::FieldsV1 | Kind::Json | Kind::Any, _) => Ok(()),
            (Kind::Ref, _) => match shape.reference() {
                Some(of) => self.structure(of, shape.go_name(), value, frame),
                None => Ok(()),
            },
            (Kind::List, Value::Array(items)) => {
                let Some(elem) = shape.elem() else { return Ok(()) };
                for (i, item) in items.iter_mut().enumerate() {
                    if item.is_null() {
                        *item = scalar::zero(elem);
                    }
                    if !item.is_null() {
                        self.value(elem, item, &frame.child(Step::Index(i)))?;
                    }
                }
                Ok(())
            }
            (Kind::Map, Value::Object(map)) => {
                let Some(elem) = shape.elem() else { return Ok(()) };
                for (key, item) in map.iter_mut() {
                    if item.is_null() {
                        *item = scalar::zero(elem);
                    }
                    if !item.is_null() {
                        self.value(elem, item, &frame.child(Step::Key(key)))?;
                    }
                }
                Ok(())
            }
            (Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStringArray, _) => {
                self.schema_or(shape, value, frame)
            }
            (kind, _) => scalar::check(kind, shape.go_name(), value, frame).or_else(|error| match error {
                scalar::Error::Saved(error) => {
                    self.save(error);
                    Ok(())
                }
                scalar::Error::Fatal(error) => Err(error),
            }),
        }
    }

    /// `JSONSchemaPropsOr...`: decoded by code of its own, which does not report unknown fields.
    fn schema_or(&mut self, shape: Shape, value: &mut Value, root: &Frame<'_>) -> Result<(), Fatal> {
        let Some(of) = shape.reference() else { return Ok(()) };
        let mut inner = Walk { unknown: Vec::new(), saved: None, report: false };
        match (shape.kind(), &mut *value) {
            (_, Value::Object(_)) => inner.structure(of, of.go_name(), value, root)?,
            (Kind::SchemaOrArray, Value::Array(items)) => {
                for item in items {
                    inner.structure(of, of.go_name(), item, root)?;
                }
            }
            (Kind::SchemaOrStringArray, Value::Array(items)) => {
                if let Some(wrong) = items.iter().find(|i| !i.is_string()) {
                    inner.save(root.mismatch(described(wrong), "string"));
                }
            }
            (Kind::SchemaOrBool, Value::Bool(_)) => {}
            (Kind::SchemaOrBool, _) => return Err("boolean or JSON schema expected".to_owned()),
            _ => *value = Value::Null,
        }
        inner.saved.map_or(Ok(()), Err)
    }
}

/// Whether the value says no more than leaving the field out does.
pub(crate) fn omitted(field: Field, value: &Value) -> bool {
    let shape = field.shape();
    if value.is_null() {
        return true;
    }
    // Of a struct that is no pointer Go cannot tell whether it is set: an empty one says nothing.
    if shape.kind() == Kind::Ref
        && !shape.pointer()
        && !field.required()
        && value.as_object().is_some_and(Map::is_empty)
    {
        return true;
    }
    if !field.omit_empty() || shape.pointer() {
        return false;
    }
    match (shape.kind(), value) {
        (Kind::String | Kind::Bytes, Value::String(s)) => s.is_empty(),
        (Kind::Bool, Value::Bool(b)) => !b,
        (Kind::Int32 | Kind::Int64 | Kind::Double, Value::Number(n)) => n.as_f64() == Some(0.0),
        // An empty list of managed fields is a request to forget them.
        (Kind::List, Value::Array(items)) => items.is_empty() && field.name() != "managedFields",
        (Kind::Map, Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}
