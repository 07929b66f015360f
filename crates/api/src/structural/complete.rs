//! What Go prints of fields that nobody set.

use serde_json::{Map, Value, json};

use crate::schema::{Field, Kind, Shape, Type};

/// Adds the fields that upstream prints although they are not set: empty structs, zero values and nulls of fields that are
/// not marked `omitempty`.
///
/// [`super::check`] takes them away again.
pub fn complete(of: Type, object: &mut Value) {
    if let Value::Object(map) = object {
        structure(of, map);
    }
}

fn structure(of: Type, map: &mut Map<String, Value>) {
    for field in of.fields() {
        match field.shape().reference().filter(|_| field.inline()) {
            Some(embedded) => structure(embedded, map),
            None => match map.get_mut(field.name()) {
                Some(present) => value(field.shape(), present),
                None => {
                    if let Some(mut zero) = printed_zero(field) {
                        value(field.shape(), &mut zero);
                        map.insert(field.name().to_owned(), zero);
                    }
                }
            },
        }
    }
}

fn value(shape: Shape, value: &mut Value) {
    match (shape.kind(), value) {
        (Kind::Ref | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStringArray, Value::Object(map)) => {
            if let Some(of) = shape.reference() {
                structure(of, map);
            }
        }
        (Kind::List, Value::Array(items)) => {
            if let Some(elem) = shape.elem() {
                items.iter_mut().for_each(|item| self::value(elem, item));
            }
        }
        (Kind::Map, Value::Object(map)) => {
            if let Some(elem) = shape.elem() {
                map.values_mut().for_each(|item| self::value(elem, item));
            }
        }
        _ => {}
    }
}

/// What is printed for a field that is not set, if anything.
pub(crate) fn printed_zero(field: Field) -> Option<Value> {
    let shape = field.shape();
    if field.omit_zero() || shape.pointer() && field.omit_empty() {
        return None;
    }
    if shape.pointer() {
        return Some(Value::Null);
    }
    match shape.kind() {
        // `omitempty` means nothing for structs.
        Kind::Ref => Some(json!({})),
        Kind::IntOrString => Some(json!(0)),
        Kind::Quantity => Some(json!("0")),
        Kind::Time | Kind::MicroTime | Kind::RawExtension => Some(Value::Null),
        _ if field.omit_empty() => None,
        Kind::String => Some(json!("")),
        Kind::Bool => Some(json!(false)),
        Kind::Int32 | Kind::Int64 | Kind::Double => Some(json!(0)),
        _ => Some(Value::Null),
    }
}
