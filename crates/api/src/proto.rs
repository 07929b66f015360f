//! Protobuf both ways, between bytes and the JSON form of objects, driven by the [schema](crate::schema).
//!
//! A body is an envelope: the bytes `k8s\0`, then a message `runtime.Unknown` that holds apiVersion and kind and, as bytes,
//! the object's message. A watch sends `WatchEvent` messages, each after its length, whose object is again an envelope
//! ([`watch_frame`]).
//!
//! ```text
//! "k8s\0" Unknown { 1: TypeMeta { 1: apiVersion  2: kind }  2: raw  3: contentEncoding  4: contentType }
//! ```
//!
//! Decoding gives what [`crate::structural::check`] would leave of the object's JSON: fields marked `omitempty` are left
//! out when zero. Go's encoder also writes zero values of fields that are not pointers and not set; [`encode`] does not,
//! which decoders cannot tell apart. Unknown field numbers are skipped. Lengths are checked against the input and depth is
//! bounded by [`crate::json::MAX_DEPTH`], so that hostile input costs no more than its size.
//!
//! Encoding: <https://protobuf.dev/programming-guides/encoding/>.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::meta::Gvk;
use crate::schema::{Kind, Type};

/// Why bytes or a value could not be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes do not begin as an envelope does.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NotAnEnvelope,
    /// No type of the schema has this kind.
    #[error("no kind \"{}\" is registered for version \"{}\"", .0.kind, api_version(.0))]
    UnknownKind(Gvk),
    /// The type has JSON only, as upstream's `Table` has.
    #[error("{0} has no protobuf form")]
    NoForm(&'static str),
    /// The bytes are not a message of the type.
    #[error("{0}")]
    Malformed(String),
    /// The value is not of the type.
    #[error("encode {0}: value of the wrong type")]
    WrongType(String),
}

/// What every envelope begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

fn api_version(kind: &Gvk) -> String {
    if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) }
}

/// Whether values of the type have a protobuf form.
pub fn has_form(of: Type) -> bool {
    of.fields().next().is_none() || of.fields().any(|f| f.number() != 0)
}

/// Decodes a message of this type; `kind` and `apiVersion` are not in it.
pub fn decode(of: Type, bytes: &[u8]) -> Result<Value, Error> {
    if !has_form(of) {
        return Err(Error::NoForm(of.name()));
    }
    decode::message(of, bytes, 0).map(Value::Object)
}

/// Encodes a value of this type, without `kind` and `apiVersion`.
pub fn encode(of: Type, value: &Value) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(512);
    encode::object(of, value, &mut out, false)?;
    Ok(out)
}

/// Decodes an envelope: the kind that it names and the object, with `kind` and `apiVersion` set.
pub fn decode_envelope(bytes: &[u8]) -> Result<(Gvk, Value), Error> {
    decode::envelope(bytes, 0)
}

/// The kind that an envelope names, without decoding the object.
pub fn envelope_kind(bytes: &[u8]) -> Result<Gvk, Error> {
    decode::unknown(bytes).map(|u| u.kind)
}

/// Encodes an object of this kind in an envelope.
pub fn encode_envelope(kind: &Gvk, of: Type, value: &Value) -> Result<Vec<u8>, Error> {
    let mut raw = Vec::with_capacity(512);
    encode::object(of, value, &mut raw, false)?;
    let mut out = Vec::with_capacity(raw.len() + 64);
    out.extend(MAGIC);
    encode::nested(&mut out, 1, |out| {
        encode::bytes(out, 1, api_version(kind).as_bytes());
        encode::bytes(out, 2, kind.kind.as_bytes());
    });
    encode::bytes(&mut out, 2, &raw);
    encode::bytes(&mut out, 3, b"");
    encode::bytes(&mut out, 4, b"");
    Ok(out)
}

/// One event of a watch: a `WatchEvent` of this type (`ADDED`) and enveloped object, after its length.
pub fn watch_frame(event: &str, envelope: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(envelope.len() + 32);
    encode::bytes(&mut message, 1, event.as_bytes());
    encode::nested(&mut message, 2, |out| encode::bytes(out, 1, envelope));
    let mut frame = Vec::with_capacity(message.len() + 4);
    frame.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    frame
}

/// Writing messages that are not in the schema.
pub(crate) mod wire {
    pub(crate) use super::encode::{bytes, double, nested, varint_field};
}

/// Wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

fn wire_type(kind: Kind) -> u8 {
    match kind {
        Kind::Bool | Kind::Int32 | Kind::Int64 => VARINT,
        Kind::Double => FIXED64,
        _ => BYTES,
    }
}
