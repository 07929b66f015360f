//! Objects, lists and watch events as bytes, in every format and view.
//!
//! The common case, JSON of the stored version, copies the stored bytes around a resource version and parses nothing. A long
//! list is sent in pieces that are made when the connection asks for them, so that its size never stands in memory.
//!
//! ```text
//! list    {"kind":"PodList","apiVersion":"v1","metadata":{...},"items":[ {"metadata":{"resourceVersion":"7", tail , ... ]}
//! event   {"type":"ADDED","object": head "resourceVersion":"7", tail }\n
//! protobuf event   length (4 bytes) WatchEvent{ type, object{ raw: envelope } }
//! ```

use std::{borrow::Cow, sync::Arc};

use api::{meta::Gvk, print, proto, status::Status};
use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    cache::{Listed, Shown},
    convert,
    negotiate::{Format, View},
    object::Object,
    registry::{Resource, Served},
    scan,
    wire::Wire,
};

/// How many bytes of a list are made at a time.
const PIECE: usize = 128 * 1024;
/// Pieces of a list that are on their way at the same time, mostly.
const BUFFERS: usize = 4;

/// The object as a tree, in the version of `served`.
pub fn tree<'a>(resource: &Resource, served: &Served, object: &'a Object) -> Cow<'a, Value> {
    let value = object.owned();
    Cow::Owned(if fits(resource, served, object) && object.head() == &*served.head {
        value
    } else {
        convert::to(resource, served, value)
    })
}

/// One object.
pub fn object(resource: &Resource, wire: Wire, object: &Object, now: Timestamp) -> Result<Bytes, Status> {
    let served = &resource.versions[wire.version];
    if wire.view == View::Object && wire.format == Format::Json && fits(resource, served, object) {
        let mut out = Vec::with_capacity(object.written_len(served.head.len()));
        object.write(&served.head, &mut out);
        return Ok(out.into());
    }
    match wire.view {
        View::Object => value(served, wire.format, &tree(resource, served, object)),
        View::Metadata => metadata(wire.format, object),
        View::Table => {
            let rows = vec![row(resource, wire, object, now)];
            Ok(text(wire.format, &table(resource, wire, list_meta(object.revision(), None, None), rows)))
        }
    }
}

/// Whether the stored bytes are those of the served version, but for the head.
fn fits(resource: &Resource, served: &Served, object: &Object) -> bool {
    match &resource.definition {
        None => object.head() == &*served.head,
        Some(definition) => object.is_finished() || definition.fits(served.kind.version, object),
    }
}

/// A tree of `served` in a format.
pub fn value(served: &Served, format: Format, value: &Value) -> Result<Bytes, Status> {
    match (format, served.schema) {
        (Format::Protobuf, Some(schema)) => {
            proto::encode_envelope(&served.kind.gvk(), schema, value).map(Bytes::from).map_err(Status::internal)
        }
        (format, _) => Ok(text(format, value)),
    }
}

/// A tree as JSON or YAML; as JSON where protobuf is not possible.
pub fn text(format: Format, value: &Value) -> Bytes {
    match format {
        Format::Yaml => yaml(value),
        _ => json(value, false),
    }
}

/// A tree as JSON with kind, apiVersion and metadata first, on one line or indented.
pub fn json(value: &Value, pretty: bool) -> Bytes {
    if pretty {
        let mut out = serde_json::to_vec_pretty(value).unwrap_or_default();
        out.push(b'\n');
        return out.into();
    }
    let mut out = Vec::with_capacity(512);
    match value {
        Value::Object(map) if map.contains_key("kind") => {
            out.push(b'{');
            let first = ["kind", "apiVersion", "metadata"];
            let own = first.iter().filter_map(|key| map.get_key_value(*key));
            let rest = map.iter().filter(|(key, _)| !first.contains(&key.as_str()));
            for (at, (key, value)) in own.chain(rest).enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                _ = serde_json::to_writer(&mut out, key);
                out.push(b':');
                _ = serde_json::to_writer(&mut out, value);
            }
            out.push(b'}');
        }
        other => _ = serde_json::to_writer(&mut out, other),
    }
    out.push(b'\n');
    out.into()
}

fn yaml(value: &Value) -> Bytes {
    serde_saphyr::to_string(value).unwrap_or_else(|error| format!("# {error}\n")).into_bytes().into()
}

fn partial(object: &Object) -> Vec<u8> {
    const HEAD: &[u8] = br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"#;
    let mut out = HEAD.to_vec();
    let metadata = scan::find(object.bytes(), &["metadata"]).unwrap_or(b"{}");
    out.extend_from_slice(format!(r#""resourceVersion":"{}""#, object.revision()).as_bytes());
    if metadata.len() > 2 {
        out.push(b',');
    }
    out.extend_from_slice(metadata.get(1..).unwrap_or(b"}"));
    out.push(b'}');
    out
}

fn partial_value(object: &Object) -> Value {
    serde_json::from_slice(&partial(object)).unwrap_or_default()
}

const META_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata";

fn metadata(format: Format, object: &Object) -> Result<Bytes, Status> {
    match format {
        Format::Json => Ok(partial(object).into()),
        Format::Yaml => Ok(yaml(&partial_value(object))),
        Format::Protobuf => partial_proto(&partial_value(object), "PartialObjectMetadata"),
    }
}

/// PartialObjectMetadata in protobuf: `metadata` is field 1, encoded as ObjectMeta; the list has ListMeta and items.
fn partial_proto(value: &Value, kind: &str) -> Result<Bytes, Status> {
    let body = partial_message(value)?;
    Ok(envelope(&Gvk::new("meta.k8s.io", "v1", kind), &body).into())
}

fn partial_message(value: &Value) -> Result<Vec<u8>, Status> {
    let schema = api::schema::Type::named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        .ok_or_else(|| Status::internal(META_LIST))?;
    let inner = proto::encode(schema, value.get("metadata").unwrap_or(&Value::Null)).map_err(Status::internal)?;
    let mut out = Vec::with_capacity(inner.len() + 4);
    field(&mut out, 1, &inner);
    Ok(out)
}

/// Appends a length-delimited protobuf field.
fn field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number << 3 | 2));
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `runtime.Unknown` around an encoded message, behind the four bytes that mark Kubernetes' protobuf.
fn envelope(gvk: &Gvk, body: &[u8]) -> Vec<u8> {
    let mut kind = Vec::new();
    field(&mut kind, 1, gvk.api_version().as_bytes());
    field(&mut kind, 2, gvk.kind.as_bytes());
    let mut out = Vec::with_capacity(body.len() + kind.len() + 24);
    out.extend_from_slice(b"k8s\0");
    field(&mut out, 1, &kind);
    field(&mut out, 2, body);
    field(&mut out, 3, b"");
    field(&mut out, 4, b"");
    out
}

fn row(resource: &Resource, wire: Wire, object: &Object, now: Timestamp) -> Value {
    let served = &resource.versions[wire.version];
    resource.printer(wire.version).row(&tree(resource, served, object), wire.rows, now)
}

fn table(resource: &Resource, wire: Wire, metadata: Value, rows: Vec<Value>) -> Value {
    print::table(resource.printer(wire.version), rows, metadata, wire.columns)
}

fn list_meta(revision: u64, continuation: Option<&str>, remaining: Option<u64>) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    if let Some(token) = continuation {
        metadata.insert("continue".to_owned(), token.into());
    }
    if let Some(remaining) = remaining {
        metadata.insert("remainingItemCount".to_owned(), remaining.into());
    }
    metadata.into()
}

/// A watch event for one object.
pub fn event(resource: &Resource, wire: Wire, shown: Shown, subject: &Object, now: Timestamp) -> Bytes {
    let made = match wire.format {
        Format::Protobuf => object(resource, wire, subject, now),
        _ => object(resource, Wire { format: Format::Json, ..wire }, subject, now),
    };
    match made {
        Ok(bytes) => frame(wire.format, shown.name(), &bytes),
        Err(status) => error_event(wire.format, &status),
    }
}

/// A bookmark: an object with nothing but a resource version.
pub fn bookmark(resource: &Resource, wire: Wire, revision: u64, initial_events_end: bool) -> Bytes {
    let served = &resource.versions[wire.version];
    let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
    if initial_events_end {
        metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    let of = |kind: &str, api_version: &str| json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata.clone() });
    let object = match wire.view {
        View::Object => of(served.kind.kind, &served.kind.api_version()),
        View::Metadata => of("PartialObjectMetadata", "meta.k8s.io/v1"),
        View::Table => {
            let shown = of("PartialObjectMetadata", "meta.k8s.io/v1");
            let cells = vec![Value::Null; resource.printer(wire.version).columns().len()];
            let metadata = list_meta(revision, None, None);
            table(resource, wire, metadata, vec![json!({ "cells": cells, "object": shown })])
        }
    };
    let bytes = match (wire.format, wire.view, served.schema) {
        (Format::Protobuf, View::Object, Some(schema)) => {
            proto::encode_envelope(&served.kind.gvk(), schema, &object).map(Bytes::from).map_err(Status::internal)
        }
        (Format::Protobuf, ..) => partial_proto(&object, "PartialObjectMetadata"),
        _ => Ok(json(&object, false)),
    };
    match bytes {
        Ok(bytes) => frame(wire.format, "BOOKMARK", &bytes),
        Err(status) => error_event(wire.format, &status),
    }
}

/// The last event of a watch that cannot go on.
pub fn error_event(format: Format, status: &Status) -> Bytes {
    frame(format, "ERROR", &status_bytes(format, status))
}

/// A Status in a format.
pub fn status_bytes(format: Format, status: &Status) -> Bytes {
    let value = status.to_value();
    if format == Format::Protobuf
        && let Some(schema) = api::schema::Type::named("io.k8s.apimachinery.pkg.apis.meta.v1.Status")
        && let Ok(bytes) = proto::encode_envelope(&Gvk::new("", "v1", "Status"), schema, &value)
    {
        return bytes.into();
    }
    text(format, &value)
}

fn frame(format: Format, name: &str, object: &[u8]) -> Bytes {
    if format == Format::Protobuf {
        let mut raw = Vec::with_capacity(object.len() + 6);
        field(&mut raw, 1, object);
        let mut message = Vec::with_capacity(raw.len() + 24);
        field(&mut message, 1, name.as_bytes());
        field(&mut message, 2, &raw);
        let mut out = Vec::with_capacity(message.len() + 4);
        out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&message);
        return out.into();
    }
    let mut out = Vec::with_capacity(object.len() + 40);
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(br#"","object":"#);
    out.extend_from_slice(object.trim_ascii_end());
    out.extend_from_slice(b"}\n");
    out.into()
}

/// A list, ready to be sent.
#[derive(Debug)]
pub enum List {
    /// Made whole.
    Whole(Bytes),
    /// JSON that is made in pieces; its length is known.
    Pieces(Pieces),
}

/// A list; `continuation` leads to the rest of it.
pub fn list(
    resource: &Arc<Resource>,
    wire: Wire,
    listed: Listed,
    continuation: Option<String>,
    now: Timestamp,
) -> Result<List, Status> {
    let served = &resource.versions[wire.version];
    let more = continuation.as_deref();
    let remaining = listed.remaining.filter(|_| more.is_some());
    let whole = |value: Value| Ok(List::Whole(text(wire.format, &value)));
    match (wire.view, wire.format) {
        (View::Table, _) => {
            let rows: Vec<Value> = listed.objects.iter().map(|object| row(resource, wire, object, now)).collect();
            whole(table(resource, wire, list_meta(listed.revision, more, remaining), rows))
        }
        (View::Metadata, Format::Protobuf) => {
            let mut body = list_message(listed.revision, more, remaining)?;
            for object in &listed.objects {
                field(&mut body, 2, &partial_message(&partial_value(object))?);
            }
            Ok(List::Whole(envelope(&Gvk::new("meta.k8s.io", "v1", "PartialObjectMetadataList"), &body).into()))
        }
        (View::Metadata, _) => {
            let items: Vec<Value> = listed.objects.iter().map(|object| partial_value(object)).collect();
            whole(json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": list_meta(listed.revision, more, remaining), "items": items,
            }))
        }
        (View::Object, Format::Protobuf) => {
            let schema = served.schema.ok_or_else(|| Status::internal("no protobuf for custom resources"))?;
            let mut body = list_message(listed.revision, more, remaining)?;
            for object in &listed.objects {
                let item = proto::encode(schema, &tree(resource, served, object)).map_err(Status::internal)?;
                field(&mut body, 2, &item);
            }
            let gvk = Gvk::new(served.kind.group, served.kind.version, served.kind.list_kind);
            Ok(List::Whole(envelope(&gvk, &body).into()))
        }
        (View::Object, Format::Yaml) => {
            let items: Vec<Value> =
                listed.objects.iter().map(|object| tree(resource, served, object).into_owned()).collect();
            whole(json!({
                "kind": served.kind.list_kind, "apiVersion": served.kind.api_version(),
                "metadata": list_meta(listed.revision, more, remaining), "items": items,
            }))
        }
        (View::Object, Format::Json) => {
            let meta = list_meta(listed.revision, more, remaining);
            Ok(List::Pieces(Pieces::new(resource, wire.version, listed.objects, &meta)))
        }
    }
}

fn list_message(revision: u64, continuation: Option<&str>, remaining: Option<u64>) -> Result<Vec<u8>, Status> {
    let schema = api::schema::Type::named("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")
        .ok_or_else(|| Status::internal("no schema of ListMeta"))?;
    let inner = proto::encode(schema, &list_meta(revision, continuation, remaining)).map_err(Status::internal)?;
    let mut out = Vec::with_capacity(4096);
    field(&mut out, 1, &inner);
    Ok(out)
}

/// A JSON list on its way out.
#[derive(Debug)]
pub struct Pieces {
    objects: std::vec::IntoIter<Arc<Object>>,
    /// What each item begins with instead of its head.
    item: Box<[u8]>,
    len: usize,
    at: Position,
    buffers: Buffers,
}

/// Memory of pieces, which is used again once they were sent: asked for anew, each page of a list would come from the kernel.
#[derive(Debug)]
struct Buffers {
    size: usize,
    all: [BytesMut; BUFFERS],
    next: usize,
}

impl Buffers {
    /// Of which each has room for `size` bytes.
    fn new(size: usize) -> Self {
        Self { size, all: Default::default(), next: 0 }
    }

    /// One that nobody reads any more, or a new one in place of the oldest.
    fn free(&mut self) -> &mut BytesMut {
        let at = match self.all.iter_mut().position(|buffer| buffer.try_reclaim(self.size)) {
            Some(at) => at,
            None => {
                self.next = (self.next + 1) % BUFFERS;
                self.all[self.next] = BytesMut::with_capacity(self.size);
                self.next
            }
        };
        &mut self.all[at]
    }
}

#[derive(Debug)]
enum Position {
    Start(String),
    FirstItem,
    Items,
    Done,
}

const ITEM: &[u8] = br#"{"metadata":{"#;
const END: &[u8] = b"]}\n";

impl Pieces {
    fn new(resource: &Resource, version: usize, mut objects: Vec<Arc<Object>>, metadata: &Value) -> Self {
        let served = &resource.versions[version];
        let start = format!(
            r#"{{"kind":"{}","apiVersion":"{}","metadata":{metadata},"items":["#,
            served.kind.list_kind,
            served.kind.api_version()
        );
        // Items of typed lists carry no type in Go; custom resources do.
        let item: Box<[u8]> = if served.kind.is_custom() { served.head.clone() } else { ITEM.into() };
        let mut len = start.len() + END.len() + objects.len().saturating_sub(1);
        for object in &mut objects {
            if !fits(resource, served, object) {
                let tree = convert::to(resource, served, object.owned());
                *object = Object::new(object.key().clone(), api::json::to_canonical(&tree), object.revision());
            }
            len += object.written_len(item.len());
        }
        let buffers = Buffers::new(PIECE.min(len) + 4096);
        Self { objects: objects.into_iter(), item, len, at: Position::Start(start), buffers }
    }

    /// Bytes of the whole list.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none, which never is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if matches!(self.at, Position::Done) {
            return None;
        }
        let out = self.buffers.free();
        match std::mem::replace(&mut self.at, Position::Items) {
            Position::Start(start) => {
                out.put_slice(start.as_bytes());
                self.at = Position::FirstItem;
            }
            other => self.at = other,
        }
        while out.len() < PIECE {
            let Some(object) = self.objects.next() else {
                out.put_slice(END);
                self.at = Position::Done;
                break;
            };
            if matches!(self.at, Position::Items) {
                out.put_u8(b',');
            }
            self.at = Position::Items;
            object.write(&self.item, out);
        }
        Some(out.split().freeze())
    }
}
