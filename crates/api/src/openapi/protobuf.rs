//! The v2 document as protobuf: what clients that ask for `application/com.github.proto-openapi.spec.v2@v1.0+protobuf` get.
//!
//! The messages are those of gnostic's `OpenAPIv2.proto`, as far as our documents use them, as data: which member of the
//! JSON goes into which field. Objects whose members have names of their own (paths, definitions) are lists of named
//! entries; extensions (`x-...`) hold their value as YAML, of which JSON is a form.

use serde_json::Value;

use crate::proto::wire;

/// How the members of a JSON object become fields of a message.
struct Message {
    members: &'static [(&'static str, u32, Content)],
    /// Field and message of members that are not in the list.
    entries: Option<(u32, &'static Message)>,
    /// Field of extensions.
    extensions: Option<u32>,
    /// Fields of messages around each entry's or member's value, for choices ("oneof"), outermost first.
    wrapped: &'static [u32],
}

#[derive(Clone, Copy)]
enum Content {
    Text,
    Texts,
    /// A text or texts within a message.
    Type,
    Boolean,
    Number,
    Integer,
    Any,
    Anys,
    One(&'static Message),
    Many(&'static Message),
    /// A schema or a boolean.
    SchemaOrBoolean,
    Parameters,
}

use Content::*;

const PLAIN: Message = Message { members: &[], entries: None, extensions: None, wrapped: &[] };

static DOCUMENT: Message = Message {
    members: &[
        ("swagger", 1, Text),
        ("info", 2, One(&INFO)),
        ("paths", 8, One(&PATHS)),
        ("definitions", 9, One(&DEFINITIONS)),
        ("security", 12, Many(&REQUIREMENT)),
        ("securityDefinitions", 13, One(&SECURITY)),
    ],
    extensions: Some(16),
    ..PLAIN
};

static INFO: Message = Message { members: &[("title", 1, Text), ("version", 2, Text)], ..PLAIN };
static PATHS: Message = Message { entries: Some((2, &PATH)), ..PLAIN };
static DEFINITIONS: Message = Message { entries: Some((1, &SCHEMA)), ..PLAIN };
static REQUIREMENT: Message = Message { entries: Some((1, &SCOPES)), ..PLAIN };
static SCOPES: Message = PLAIN;
static SECURITY: Message = Message { entries: Some((1, &API_KEY)), ..PLAIN };
static API_KEY: Message = Message {
    members: &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)],
    wrapped: &[2],
    ..PLAIN
};

static PATH: Message = Message {
    members: &[
        ("get", 2, One(&OPERATION)),
        ("put", 3, One(&OPERATION)),
        ("post", 4, One(&OPERATION)),
        ("delete", 5, One(&OPERATION)),
        ("patch", 8, One(&OPERATION)),
        ("parameters", 9, Parameters),
    ],
    extensions: Some(10),
    ..PLAIN
};

static OPERATION: Message = Message {
    members: &[
        ("tags", 1, Texts),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Parameters),
        ("responses", 9, One(&RESPONSES)),
    ],
    extensions: Some(13),
    ..PLAIN
};

static RESPONSES: Message = Message { entries: Some((1, &RESPONSE)), ..PLAIN };
static RESPONSE: Message =
    Message { members: &[("description", 1, Text), ("schema", 2, One(&SCHEMA_ITEM))], wrapped: &[1], ..PLAIN };

static BODY: Message = Message {
    members: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Boolean),
        ("schema", 5, One(&SCHEMA)),
    ],
    wrapped: &[1, 1],
    ..PLAIN
};
static QUERY: Message = Message {
    members: &[
        ("required", 1, Boolean),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("uniqueItems", 20, Boolean),
    ],
    wrapped: &[1, 2, 3],
    ..PLAIN
};
static IN_PATH: Message = Message {
    members: &[
        ("required", 1, Boolean),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("uniqueItems", 19, Boolean),
    ],
    wrapped: &[1, 2, 4],
    ..PLAIN
};

static SCHEMA_MEMBERS: [(&str, u32, Content); 26] = [
    ("$ref", 1, Text),
    ("format", 2, Text),
    ("title", 3, Text),
    ("description", 4, Text),
    ("default", 5, Any),
    ("multipleOf", 6, Number),
    ("maximum", 7, Number),
    ("exclusiveMaximum", 8, Boolean),
    ("minimum", 9, Number),
    ("exclusiveMinimum", 10, Boolean),
    ("maxLength", 11, Integer),
    ("minLength", 12, Integer),
    ("pattern", 13, Text),
    ("maxItems", 14, Integer),
    ("minItems", 15, Integer),
    ("uniqueItems", 16, Boolean),
    ("maxProperties", 17, Integer),
    ("minProperties", 18, Integer),
    ("required", 19, Texts),
    ("enum", 20, Anys),
    ("additionalProperties", 21, SchemaOrBoolean),
    ("type", 22, Type),
    ("items", 23, One(&SCHEMA_ITEM)),
    ("allOf", 24, Many(&SCHEMA)),
    ("properties", 25, One(&DEFINITIONS)),
    ("example", 30, Any),
];

static SCHEMA: Message = Message { members: &SCHEMA_MEMBERS, extensions: Some(31), ..PLAIN };
/// A schema where something else might stand.
static SCHEMA_ITEM: Message = Message { wrapped: &[1], members: &SCHEMA_MEMBERS, extensions: Some(31), ..PLAIN };

/// Encodes a v2 document.
pub(super) fn document(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    fields(&mut out, &DOCUMENT, document);
    out
}

/// Appends a message and those around it.
fn message(out: &mut Vec<u8>, number: u32, of: &Message, value: &Value) {
    fn within(out: &mut Vec<u8>, around: &[u32], of: &Message, value: &Value) {
        match around.split_first() {
            Some((number, rest)) => wire::nested(out, *number, |out| within(out, rest, of, value)),
            None => fields(out, of, value),
        }
    }
    wire::nested(out, number, |out| within(out, of.wrapped, of, value));
}

fn any(out: &mut Vec<u8>, number: u32, value: &Value) {
    let mut text = Vec::new();
    crate::json::write(&mut text, value);
    wire::nested(out, number, |out| wire::bytes(out, 2, &text));
}

fn fields(out: &mut Vec<u8>, of: &Message, value: &Value) {
    if let Value::Array(texts) = value {
        // Scopes: a list where other entries are objects.
        texts.iter().filter_map(Value::as_str).for_each(|t| wire::bytes(out, 1, t.as_bytes()));
    }
    let Value::Object(map) = value else { return };
    for (name, value) in map {
        if let Some((_, number, content)) = of.members.iter().find(|(n, ..)| n == name) {
            member(out, *number, *content, value);
        } else if let Some(number) = of.extensions.filter(|_| name.starts_with("x-")) {
            wire::nested(out, number, |out| {
                wire::bytes(out, 1, name.as_bytes());
                any(out, 2, value);
            });
        } else if let Some((number, entry)) = of.entries {
            wire::nested(out, number, |out| {
                wire::bytes(out, 1, name.as_bytes());
                message(out, 2, entry, value);
            });
        }
    }
}

fn member(out: &mut Vec<u8>, number: u32, content: Content, value: &Value) {
    let items = || value.as_array().into_iter().flatten();
    match (content, value) {
        (Text, Value::String(text)) => wire::bytes(out, number, text.as_bytes()),
        (Texts, _) => items().filter_map(Value::as_str).for_each(|t| wire::bytes(out, number, t.as_bytes())),
        (Type, Value::String(text)) => wire::nested(out, number, |out| wire::bytes(out, 1, text.as_bytes())),
        (Boolean, Value::Bool(flag)) => wire::varint_field(out, number, u64::from(*flag)),
        (Number, Value::Number(n)) => wire::double(out, number, n.as_f64().unwrap_or_default()),
        (Integer, Value::Number(n)) => wire::varint_field(out, number, n.as_i64().unwrap_or_default().cast_unsigned()),
        (Any, value) => any(out, number, value),
        (Anys, _) => items().for_each(|v| any(out, number, v)),
        (One(of), value) => message(out, number, of, value),
        (Many(of), _) => items().for_each(|v| message(out, number, of, v)),
        (SchemaOrBoolean, Value::Bool(flag)) => {
            wire::nested(out, number, |out| wire::varint_field(out, 2, u64::from(*flag)));
        }
        (SchemaOrBoolean, value) => message(out, number, &SCHEMA_ITEM, value),
        (Parameters, _) => items().for_each(|parameter| {
            let of = match parameter["in"].as_str() {
                Some("body") => &BODY,
                Some("path") => &IN_PATH,
                _ => &QUERY,
            };
            message(out, number, of, parameter);
        }),
        _ => {}
    }
}
