//! Messages to values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{BYTES, END_GROUP, Error, FIXED32, FIXED64, MAGIC, START_GROUP, VARINT, wire_type};
use crate::json::MAX_DEPTH;
use crate::meta::Gvk;
use crate::schema::{Kind, Shape, Type};
use crate::structural;

type Outcome<T> = Result<T, Error>;

fn malformed(text: impl Into<String>) -> Error {
    Error::Malformed(text.into())
}

/// Reads a message from front to back.
struct Reader<'b> {
    rest: &'b [u8],
}

/// A field as it is on the wire.
enum Wire<'b> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'b [u8]),
    Skipped,
}

impl<'b> Reader<'b> {
    fn varint(&mut self) -> Outcome<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let Some((byte, rest)) = self.rest.split_first() else { return Err(malformed("unexpected EOF")) };
            self.rest = rest;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(malformed("proto: integer overflow"))
    }

    fn take(&mut self, length: u64) -> Outcome<&'b [u8]> {
        let length = usize::try_from(length).ok().filter(|l| *l <= self.rest.len());
        let (taken, rest) = self.rest.split_at(length.ok_or_else(|| malformed("unexpected EOF"))?);
        self.rest = rest;
        Ok(taken)
    }

    /// The next field's number and content.
    fn field(&mut self, of: &str) -> Outcome<Option<(u32, u8, Wire<'b>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let (number, wire) = (tag >> 3, (tag & 7) as u8);
        let number = u32::try_from(number).ok().filter(|n| (1..1 << 29).contains(n));
        let number =
            number.ok_or_else(|| malformed(format!("proto: {of}: illegal tag {} (wire type {wire})", tag >> 3)))?;
        let content = match wire {
            VARINT => Wire::Varint(self.varint()?),
            FIXED64 => Wire::Fixed64(self.take(8)?.try_into().map(u64::from_le_bytes).unwrap_or_default()),
            BYTES => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            FIXED32 => {
                self.take(4)?;
                Wire::Skipped
            }
            START_GROUP => {
                self.skip_group()?;
                Wire::Skipped
            }
            END_GROUP => return Err(malformed(format!("proto: {of}: wiretype end group for non-group"))),
            other => return Err(malformed(format!("proto: illegal wireType {other}"))),
        };
        Ok(Some((number, wire, content)))
    }

    /// Skips to the end of a group whose start was read.
    fn skip_group(&mut self) -> Outcome<()> {
        let mut open = 1usize;
        while open > 0 {
            let tag = self.varint()?;
            match (tag & 7) as u8 {
                VARINT => {
                    self.varint()?;
                }
                FIXED64 => {
                    self.take(8)?;
                }
                BYTES => {
                    let length = self.varint()?;
                    self.take(length)?;
                }
                START_GROUP => open += 1,
                END_GROUP => open -= 1,
                FIXED32 => {
                    self.take(4)?;
                }
                other => return Err(malformed(format!("proto: illegal wireType {other}"))),
            }
        }
        Ok(())
    }
}

/// `runtime.Unknown`.
pub(super) struct Unknown<'b> {
    pub(super) kind: Gvk,
    raw: &'b [u8],
    json: bool,
}

/// Reads an envelope without what is in it.
pub(super) fn unknown(bytes: &[u8]) -> Outcome<Unknown<'_>> {
    let body = bytes.strip_prefix(MAGIC).ok_or(Error::NotAnEnvelope)?;
    let mut unknown = Unknown { kind: Gvk::default(), raw: &[], json: false };
    let mut reader = Reader { rest: body };
    while let Some((number, _, content)) = reader.field("Unknown")? {
        match (number, content) {
            (1, Wire::Bytes(bytes)) => {
                let mut reader = Reader { rest: bytes };
                while let Some((number, _, content)) = reader.field("TypeMeta")? {
                    match (number, content) {
                        (1, Wire::Bytes(text)) => {
                            let text = String::from_utf8_lossy(text);
                            let (group, version) = text.split_once('/').unwrap_or(("", &text));
                            (unknown.kind.group, unknown.kind.version) = (group.to_owned(), version.to_owned());
                        }
                        (2, Wire::Bytes(text)) => unknown.kind.kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => unknown.raw = bytes,
            (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                let encoding = String::from_utf8_lossy(encoding);
                return Err(malformed(format!("unsupported content encoding {encoding:?}")));
            }
            (4, Wire::Bytes(content)) => unknown.json = content == b"application/json",
            (1..=4, Wire::Varint(_) | Wire::Fixed64(_) | Wire::Skipped) => {
                return Err(malformed(format!("proto: wrong wireType for field {number} of Unknown")));
            }
            _ => {}
        }
    }
    Ok(unknown)
}

/// Decodes an envelope that goes `depth` levels below the root.
pub(super) fn envelope(bytes: &[u8], depth: usize) -> Outcome<(Gvk, Value)> {
    let Unknown { kind, raw, json } = unknown(bytes)?;
    let mut object = if json {
        match json_below(raw, depth)? {
            Value::Object(map) => map,
            _ => return Err(malformed("the content of the envelope is not an object")),
        }
    } else {
        let of = Type::of_kind(&kind.group, &kind.version, &kind.kind);
        let of = of.ok_or_else(|| Error::UnknownKind(kind.clone()))?;
        if !super::has_form(of) {
            return Err(Error::NoForm(of.name()));
        }
        message(of, raw, depth)?
    };
    object.insert("apiVersion".to_owned(), Value::String(super::api_version(&kind)));
    object.insert("kind".to_owned(), Value::String(kind.kind.clone()));
    Ok((kind, Value::Object(object)))
}

fn json_below(bytes: &[u8], depth: usize) -> Outcome<Value> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    crate::json::parse_below(bytes, depth).map(|p| p.value).map_err(|e| malformed(e.0))
}

fn checked(depth: usize) -> Outcome<()> {
    if depth < MAX_DEPTH { Ok(()) } else { Err(malformed(format!("exceeded max depth of {MAX_DEPTH}"))) }
}

/// Decodes the fields of a message into an object that is `depth` levels below the root.
pub(super) fn message(of: Type, bytes: &[u8], depth: usize) -> Outcome<Map<String, Value>> {
    checked(depth)?;
    let mut map = Map::new();
    merge(of, bytes, depth, &mut map)?;
    Ok(map)
}

fn merge(of: Type, bytes: &[u8], depth: usize, map: &mut Map<String, Value>) -> Outcome<()> {
    let mut reader = Reader { rest: bytes };
    while let Some((number, wire, content)) = reader.field(of.short_name())? {
        let Some(field) = of.numbered(number) else { continue };
        let shape = field.shape();
        let expected = if matches!(shape.kind(), Kind::List) && !shape.wrapped() {
            shape.elem().map_or(BYTES, |e| wire_type(e.kind()))
        } else {
            wire_type(shape.kind())
        };
        if wire != expected {
            return Err(malformed(format!("proto: wrong wireType = {wire} for field {}", field.go_name())));
        }
        match (shape.kind(), shape.elem(), shape.reference()) {
            (Kind::Ref, _, Some(embedded)) if field.inline() => {
                // Embedded structs add no level in JSON, but one here.
                let Wire::Bytes(bytes) = content else { continue };
                checked(depth + 1)?;
                merge(embedded, bytes, depth, map)?;
            }
            (Kind::List, Some(elem), _) if !shape.wrapped() => {
                checked(depth + 1)?;
                let item = value(elem, content, depth + 2)?;
                match map.get_mut(field.name()) {
                    Some(Value::Array(items)) => items.push(item),
                    _ => {
                        map.insert(field.name().to_owned(), Value::Array(vec![item]));
                    }
                }
            }
            (Kind::Map, Some(elem), _) => {
                let Wire::Bytes(bytes) = content else { continue };
                checked(depth + 1)?;
                let (key, value) = entry(elem, bytes, depth + 2)?;
                match map.get_mut(field.name()) {
                    Some(Value::Object(entries)) => {
                        entries.insert(key, value);
                    }
                    _ => {
                        map.insert(field.name().to_owned(), Value::Object(Map::from_iter([(key, value)])));
                    }
                }
            }
            _ => {
                let value = value(shape, content, depth + 1)?;
                if structural::omitted(field, &value) {
                    map.remove(field.name());
                } else {
                    map.insert(field.name().to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

/// One entry of a map field.
fn entry(elem: Shape, bytes: &[u8], depth: usize) -> Outcome<(String, Value)> {
    let mut key = String::new();
    let mut found = None;
    let mut reader = Reader { rest: bytes };
    while let Some((number, wire, content)) = reader.field("MapEntry")? {
        match (number, content) {
            (1, Wire::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
            (2, content) if wire == wire_type(elem.kind()) => found = Some(value(elem, content, depth)?),
            (1 | 2, _) => {
                return Err(malformed(format!("proto: wrong wireType = {wire} for field {number} of MapEntry")));
            }
            _ => {}
        }
    }
    let value = match found {
        Some(value) => value,
        None if matches!(elem.kind(), Kind::Bool | Kind::Int32 | Kind::Int64) => value(elem, Wire::Varint(0), depth)?,
        None => value(elem, Wire::Bytes(&[]), depth)?,
    };
    Ok((key, value))
}

/// Decodes one value that is `depth` levels below the root.
fn value(shape: Shape, content: Wire<'_>, depth: usize) -> Outcome<Value> {
    let bytes = match content {
        Wire::Varint(n) => {
            let signed = n.cast_signed();
            return Ok(match shape.kind() {
                Kind::Bool => Value::Bool(n != 0),
                Kind::Int32 => Value::from(signed as i32),
                _ => Value::from(signed),
            });
        }
        Wire::Fixed64(n) => {
            let number = structural::number(f64::from_bits(n));
            return number.map(Value::Number).ok_or_else(|| malformed("proto: number is not finite"));
        }
        Wire::Bytes(bytes) => bytes,
        Wire::Skipped => return Ok(Value::Null),
    };
    Ok(match shape.kind() {
        Kind::String => Value::String(String::from_utf8_lossy(bytes).into_owned()),
        Kind::Bytes => Value::String(STANDARD.encode(bytes)),
        Kind::Ref => match shape.reference() {
            Some(of) => Value::Object(message(of, bytes, depth)?),
            None => Value::Null,
        },
        Kind::List => {
            checked(depth)?;
            let mut items = Vec::new();
            let mut reader = Reader { rest: bytes };
            while let Some((number, wire, content)) = reader.field("Items")? {
                let Some(elem) = shape.elem().filter(|e| number == 1 && wire == wire_type(e.kind())) else { continue };
                items.push(value(elem, content, depth + 1)?);
            }
            Value::Array(items)
        }
        Kind::IntOrString => int_or_string(bytes)?,
        Kind::Quantity => {
            let text = first_bytes(bytes, "Quantity")?.unwrap_or_default();
            let text = String::from_utf8_lossy(text);
            Value::String(if text.is_empty() {
                "0".to_owned()
            } else {
                structural::quantity(&text).map_err(malformed)?
            })
        }
        Kind::Time | Kind::MicroTime => time(shape.kind(), bytes)?,
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json => {
            let raw = first_bytes(bytes, "RawExtension")?.unwrap_or_default();
            if raw.starts_with(MAGIC) { envelope(raw, depth)?.1 } else { json_below(raw, depth)? }
        }
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStringArray => schema_or(shape, bytes, depth)?,
        _ => return Err(malformed(format!("proto: {} has no protobuf form", shape.go_name()))),
    })
}

/// The field 1 of a message that has only that.
fn first_bytes<'b>(bytes: &'b [u8], of: &str) -> Outcome<Option<&'b [u8]>> {
    let mut reader = Reader { rest: bytes };
    let mut found = None;
    while let Some((number, wire, content)) = reader.field(of)? {
        match (number, content) {
            (1, Wire::Bytes(bytes)) => found = Some(bytes),
            (1, _) => return Err(malformed(format!("proto: wrong wireType = {wire} for field 1 of {of}"))),
            _ => {}
        }
    }
    Ok(found)
}

fn int_or_string(bytes: &[u8]) -> Outcome<Value> {
    let (mut kind, mut number, mut text) = (0, 0, String::new());
    let mut reader = Reader { rest: bytes };
    while let Some((field, _, content)) = reader.field("IntOrString")? {
        match (field, content) {
            (1, Wire::Varint(n)) => kind = n,
            (2, Wire::Varint(n)) => number = n.cast_signed() as i32,
            (3, Wire::Bytes(bytes)) => text = String::from_utf8_lossy(bytes).into_owned(),
            (1..=3, _) => return Err(malformed("proto: wrong wireType for a field of IntOrString")),
            _ => {}
        }
    }
    match kind {
        0 => Ok(Value::from(number)),
        1 => Ok(Value::String(text)),
        _ => Err(malformed("impossible IntOrString.Type")),
    }
}

fn time(kind: Kind, bytes: &[u8]) -> Outcome<Value> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanoseconds) = (0i64, 0i32);
    let mut reader = Reader { rest: bytes };
    while let Some((field, _, content)) = reader.field("Timestamp")? {
        match (field, content) {
            (1, Wire::Varint(n)) => seconds = n.cast_signed(),
            (2, Wire::Varint(n)) => nanoseconds = n.cast_signed() as i32,
            (1 | 2, _) => return Err(malformed("proto: wrong wireType for a field of Timestamp")),
            _ => {}
        }
    }
    let nanoseconds = if kind == Kind::Time { 0 } else { nanoseconds.clamp(0, 999_999_999) };
    let time = jiff::Timestamp::new(seconds, nanoseconds);
    let time = time.map_err(|_| malformed(format!("time of {seconds} seconds is out of range")))?;
    Ok(Value::String(structural::print_time(kind, time)))
}

fn schema_or(shape: Shape, bytes: &[u8], depth: usize) -> Outcome<Value> {
    checked(depth)?;
    let Some(of) = shape.reference() else { return Ok(Value::Null) };
    let (mut allows, mut schema, mut list) = (false, None, Vec::new());
    let mut reader = Reader { rest: bytes };
    while let Some((number, _, content)) = reader.field("JSONSchemaPropsOr")? {
        match (shape.kind(), number, content) {
            (Kind::SchemaOrBool, 1, Wire::Varint(n)) => allows = n != 0,
            (Kind::SchemaOrBool, 2, Wire::Bytes(b))
            | (Kind::SchemaOrArray | Kind::SchemaOrStringArray, 1, Wire::Bytes(b)) => {
                schema = Some(Value::Object(message(of, b, depth)?));
            }
            (Kind::SchemaOrArray, 2, Wire::Bytes(b)) => list.push(Value::Object(message(of, b, depth + 1)?)),
            (Kind::SchemaOrStringArray, 2, Wire::Bytes(b)) => {
                list.push(Value::String(String::from_utf8_lossy(b).into_owned()));
            }
            (_, 1 | 2, _) => return Err(malformed("proto: wrong wireType for a field of JSONSchemaPropsOr")),
            _ => {}
        }
    }
    Ok(match (shape.kind(), schema) {
        (Kind::SchemaOrArray, _) if !list.is_empty() => Value::Array(list),
        (_, Some(schema)) => schema,
        (Kind::SchemaOrBool, None) => Value::Bool(allows),
        (Kind::SchemaOrStringArray, None) if !list.is_empty() => Value::Array(list),
        _ => Value::Null,
    })
}
