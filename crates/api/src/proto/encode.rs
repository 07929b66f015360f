//! Values to messages.

use serde_json::{Map, Value};

use super::{Error, FIXED64, VARINT, has_form, wire_type};
use crate::schema::{Field, Kind, Shape, Type};

type Outcome = Result<(), Error>;

/// Appends the fields of an object; with `zeros` also zero values of fields that are not pointers, as Go does.
pub(super) fn object(of: Type, value: &Value, out: &mut Vec<u8>, zeros: bool) -> Outcome {
    if !has_form(of) {
        return Err(Error::NoForm(of.name()));
    }
    match value {
        Value::Object(map) => fields(of, map, out, zeros),
        _ => Err(Error::WrongType(of.name().to_owned())),
    }
}

fn fields(of: Type, map: &Map<String, Value>, out: &mut Vec<u8>, zeros: bool) -> Outcome {
    for field in of.fields().filter(|f| f.number() != 0) {
        if field.inline() {
            if let Some(embedded) = field.shape().reference() {
                message(out, field.number(), zeros, |out| fields(embedded, map, out, zeros))?;
            }
            continue;
        }
        let wrong = |e| match e {
            Error::WrongType(rest) if rest.is_empty() => {
                Error::WrongType(format!("{}.{}", of.short_name(), field.name()))
            }
            other => other,
        };
        match map.get(field.name()) {
            Some(value) if !value.is_null() => value_of(field, value, out, zeros).map_err(wrong)?,
            _ if zeros => zero(field, out)?,
            _ => {}
        }
    }
    Ok(())
}

/// What Go writes for a field that is not set.
fn zero(field: Field, out: &mut Vec<u8>) -> Outcome {
    let shape = field.shape();
    if shape.pointer() {
        return Ok(());
    }
    let number = field.number();
    match shape.kind() {
        Kind::String | Kind::RawExtension | Kind::Time | Kind::MicroTime | Kind::FieldsV1 | Kind::Json => {
            bytes(out, number, b"");
        }
        Kind::Bool | Kind::Int32 | Kind::Int64 => varint_field(out, number, 0),
        Kind::Quantity => nested(out, number, |out| bytes(out, 1, b"0")),
        Kind::IntOrString => message(out, number, true, |out| one(shape, &Value::from(0), out))?,
        Kind::Ref => {
            if let Some(of) = shape.reference() {
                message(out, number, true, |out| fields(of, &Map::new(), out, true))?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn wrong_type() -> Error {
    Error::WrongType(String::new())
}

fn value_of(field: Field, value: &Value, out: &mut Vec<u8>, zeros: bool) -> Outcome {
    let (number, shape) = (field.number(), field.shape());
    match shape.kind() {
        Kind::List if shape.wrapped() => message(out, number, true, |out| items(shape, 1, value, out, zeros)),
        Kind::List => items(shape, number, value, out, zeros),
        Kind::Map => {
            let (Value::Object(map), Some(elem)) = (value, shape.elem()) else { return Err(wrong_type()) };
            for (key, value) in map {
                message(out, number, true, |out| {
                    bytes(out, 1, key.as_bytes());
                    single(elem, 2, value, out, zeros)
                })?;
            }
            Ok(())
        }
        _ => single(shape, number, value, out, zeros),
    }
}

fn items(shape: Shape, number: u32, value: &Value, out: &mut Vec<u8>, zeros: bool) -> Outcome {
    let (Value::Array(items), Some(elem)) = (value, shape.elem()) else { return Err(wrong_type()) };
    items.iter().try_for_each(|item| single(elem, number, item, out, zeros))
}

/// Appends one value with its tag.
fn single(shape: Shape, number: u32, value: &Value, out: &mut Vec<u8>, zeros: bool) -> Outcome {
    match (shape.kind(), value) {
        (Kind::String, Value::String(s)) => bytes(out, number, s.as_bytes()),
        (Kind::Bool, Value::Bool(b)) => varint_field(out, number, u64::from(*b)),
        (Kind::Int32 | Kind::Int64, Value::Number(n)) => {
            let n = n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)).ok_or_else(wrong_type)?;
            varint_field(out, number, n.cast_unsigned());
        }
        (Kind::Double, Value::Number(n)) => {
            double(out, number, n.as_f64().unwrap_or_default());
        }
        (Kind::Bytes, Value::String(s)) => {
            let decoded = crate::structural::bytes(s).map_err(|_| wrong_type())?;
            bytes(out, number, &decoded);
        }
        (Kind::List, Value::Array(_)) if shape.wrapped() => {
            return message(out, number, true, |out| items(shape, 1, value, out, zeros));
        }
        (Kind::Ref, Value::Object(map)) => {
            let of = shape.reference().ok_or_else(wrong_type)?;
            return message(out, number, true, |out| fields(of, map, out, zeros));
        }
        (Kind::Ref | Kind::Time | Kind::MicroTime, Value::Null) => bytes(out, number, b""),
        (Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStringArray, _) => {
            return message(out, number, true, |out| schema_or(shape, value, out, zeros));
        }
        (Kind::String | Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Double | Kind::Bytes, _) => {
            return Err(wrong_type());
        }
        (Kind::List | Kind::Map | Kind::Ref | Kind::Any, _) => return Err(wrong_type()),
        _ => return message(out, number, true, |out| one(shape, value, out)),
    }
    debug_assert!(wire_type(shape.kind()) < 3);
    Ok(())
}

/// The inside of a scalar that is a message.
fn one(shape: Shape, value: &Value, out: &mut Vec<u8>) -> Outcome {
    match (shape.kind(), value) {
        (Kind::IntOrString, Value::Number(n)) => {
            varint_field(out, 1, 0);
            varint_field(out, 2, n.as_i64().ok_or_else(wrong_type)?.cast_unsigned());
            bytes(out, 3, b"");
        }
        (Kind::IntOrString, Value::String(s)) => {
            varint_field(out, 1, 1);
            varint_field(out, 2, 0);
            bytes(out, 3, s.as_bytes());
        }
        (Kind::Quantity, Value::String(s)) => bytes(out, 1, s.as_bytes()),
        (Kind::Quantity, Value::Number(n)) => bytes(out, 1, n.to_string().as_bytes()),
        (Kind::Time | Kind::MicroTime, Value::String(s)) => {
            let time: jiff::Timestamp = s.parse().map_err(|_| wrong_type())?;
            // Go's fraction is never negative.
            let (second, nanosecond) = (time.as_second(), time.subsec_nanosecond());
            let borrow = i32::from(nanosecond < 0);
            varint_field(out, 1, (second - i64::from(borrow)).cast_unsigned());
            let fraction = nanosecond + borrow * 1_000_000_000;
            let nanoseconds = if shape.kind() == Kind::Time { 0 } else { fraction / 1000 * 1000 };
            varint_field(out, 2, i64::from(nanoseconds).cast_unsigned());
        }
        (Kind::RawExtension | Kind::FieldsV1 | Kind::Json, value) => {
            let mut raw = Vec::new();
            crate::json::write(&mut raw, value);
            bytes(out, 1, &raw);
        }
        _ => return Err(wrong_type()),
    }
    Ok(())
}

fn schema_or(shape: Shape, value: &Value, out: &mut Vec<u8>, zeros: bool) -> Outcome {
    let of = shape.reference().ok_or_else(wrong_type)?;
    let schema = |number, value: &Value, out: &mut Vec<u8>| match value {
        Value::Object(map) => message(out, number, true, |out| fields(of, map, out, zeros)),
        _ => Err(wrong_type()),
    };
    match (shape.kind(), value) {
        (Kind::SchemaOrBool, Value::Bool(allows)) => {
            varint_field(out, 1, u64::from(*allows));
            Ok(())
        }
        (Kind::SchemaOrBool, value) => {
            varint_field(out, 1, 1);
            schema(2, value, out)
        }
        (Kind::SchemaOrArray, Value::Array(items)) => items.iter().try_for_each(|item| schema(2, item, out)),
        (Kind::SchemaOrStringArray, Value::Array(items)) => items.iter().try_for_each(|item| match item {
            Value::String(s) => {
                bytes(out, 2, s.as_bytes());
                Ok(())
            }
            _ => Err(wrong_type()),
        }),
        (_, value) => schema(1, value, out),
    }
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    varint(out, u64::from(number) << 3 | u64::from(wire));
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a field of an integer or boolean.
pub(crate) fn varint_field(out: &mut Vec<u8>, number: u32, n: u64) {
    tag(out, number, VARINT);
    varint(out, n);
}

/// Appends a field of a double.
pub(crate) fn double(out: &mut Vec<u8>, number: u32, value: f64) {
    tag(out, number, FIXED64);
    out.extend(value.to_le_bytes());
}

/// Appends a field of bytes.
pub(crate) fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    tag(out, number, super::BYTES);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// Appends a message that `write` writes.
pub(crate) fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let outcome = message(out, number, true, |out| {
        write(out);
        Ok(())
    });
    debug_assert!(outcome.is_ok());
}

/// Appends a message; one without content only if `empty` ones are to be written.
fn message(out: &mut Vec<u8>, number: u32, empty: bool, write: impl FnOnce(&mut Vec<u8>) -> Outcome) -> Outcome {
    let start = out.len();
    tag(out, number, super::BYTES);
    let length_at = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - length_at - 1;
    if length == 0 && !empty {
        out.truncate(start);
    } else if length < 0x80 {
        out[length_at] = length as u8;
    } else {
        // Most messages are short: the room for a longer length is made when it is needed.
        let mut prefix = Vec::with_capacity(5);
        varint(&mut prefix, length as u64);
        out.splice(length_at..=length_at, prefix);
    }
    Ok(())
}
