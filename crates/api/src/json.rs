//! Objects as bytes: the canonical encoding that is stored, the splicing of resourceVersions into it, and parsing.
//!
//! The canonical encoding of an object is
//!
//! ```text
//! {"kind":"Pod","apiVersion":"v1","metadata":{...},the rest sorted by key}
//! ```
//!
//! without `metadata.resourceVersion`, which is known only after the commit. `"metadata":{` is always there, so that
//! lists and watches send the stored bytes with the version put in just after it ([`Spliced`]), and items of typed lists
//! leave out what precedes it ([`Split::metadata`]). Numbers and strings are written as Go writes them, less the HTML
//! escapes.
//!
//! Parsing follows Go's decoder: its messages, the last of duplicate keys wins (and is reported), invalid UTF-8 becomes
//! U+FFFD. Depth is bounded by [`MAX_DEPTH`], so that everything that recurses over a parsed value is bounded too.

mod parse;
#[cfg(test)]
mod tests;
mod write;

use bytes::Bytes;
use serde_json::Value;

pub(crate) use parse::parse_below;
pub use parse::{Parsed, parse};
pub(crate) use write::string as write_string;
pub use write::write;

/// How deep arrays and objects of a request may nest.
pub const MAX_DEPTH: usize = 128;

/// Why bytes are not JSON that is accepted; the message is Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

const METADATA: &[u8] = b"\"metadata\":{";

/// The canonical encoding of an object, as stored.
pub fn to_canonical(object: &Value) -> Bytes {
    canonical(object, None)
}

/// The same with these bytes as `metadata.managedFields`, whatever the object has there; none for no bytes.
pub fn to_canonical_with(object: &Value, managed_fields: &[u8]) -> Bytes {
    canonical(object, Some(managed_fields))
}

fn canonical(object: &Value, managed_fields: Option<&[u8]>) -> Bytes {
    let mut out = Vec::with_capacity(1024 + managed_fields.map_or(0, <[u8]>::len));
    out.push(b'{');
    if let Value::Object(map) = object {
        for key in ["kind", "apiVersion"] {
            if let Some(value) = map.get(key) {
                write::entry(&mut out, key, value);
                out.push(b',');
            }
        }
        out.extend(METADATA);
        if let Some(Value::Object(metadata)) = map.get("metadata") {
            match managed_fields {
                None => write::entries(&mut out, metadata, |k| k != "resourceVersion"),
                Some(bytes) => write_metadata(&mut out, metadata, bytes),
            }
        }
        out.push(b'}');
        let start = out.len();
        out.push(b',');
        write::entries(&mut out, map, |k| !matches!(k, "kind" | "apiVersion" | "metadata"));
        if out.len() == start + 1 {
            out.pop();
        }
    } else {
        out.extend(METADATA);
        out.push(b'}');
    }
    out.push(b'}');
    Bytes::from(out)
}

/// Appends the members of metadata, sorted, with `managedFields` from bytes.
fn write_metadata(out: &mut Vec<u8>, metadata: &serde_json::Map<String, Value>, managed_fields: &[u8]) {
    const OWN: &str = "managedFields";
    let start = out.len();
    write::entries(out, metadata, |k| k < OWN);
    let comma = |out: &mut Vec<u8>| {
        if out.len() > start && out.last() != Some(&b',') {
            out.push(b',');
        }
    };
    if !managed_fields.is_empty() {
        comma(out);
        out.extend(b"\"managedFields\":");
        out.extend(managed_fields);
    }
    if metadata.keys().any(|k| k.as_str() > OWN && k != "resourceVersion") {
        comma(out);
        write::entries(out, metadata, |k| k > OWN && k != "resourceVersion");
    }
}

/// Offsets within canonical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Where `"metadata":{` begins: what precedes is `{` and, if any, kind and apiVersion.
    pub metadata: usize,
    /// Just after the brace of `"metadata":{`.
    pub inside: usize,
    /// The metadata has no other field.
    pub empty: bool,
}

/// Finds the place for the resourceVersion; none when the bytes are not canonical.
pub fn split(canonical: &[u8]) -> Option<Split> {
    // Quotes within strings are escaped, so the first match is the key.
    let metadata = canonical.windows(METADATA.len()).position(|w| w == METADATA)?;
    let inside = metadata + METADATA.len();
    Some(Split { metadata, inside, empty: canonical.get(inside) == Some(&b'}') })
}

/// An object with its resourceVersion, in three pieces that share the stored bytes.
#[derive(Clone, Debug)]
pub struct Spliced {
    /// Up to and including `"metadata":{`.
    pub head: Bytes,
    /// `"resourceVersion":"7"` and a comma if fields follow.
    pub version: Bytes,
    /// The rest.
    pub tail: Bytes,
}

impl Spliced {
    /// Puts `revision` into canonical bytes. Bytes that are not canonical are left alone.
    pub fn new(canonical: &Bytes, revision: u64) -> Spliced {
        match split(canonical) {
            None => Spliced { head: canonical.clone(), version: Bytes::new(), tail: Bytes::new() },
            Some(at) => Spliced {
                head: canonical.slice(..at.inside),
                version: Bytes::from(version_field(revision, at.empty)),
                tail: canonical.slice(at.inside..),
            },
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.version.len() + self.tail.len()
    }

    /// No bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order.
    pub fn pieces(self) -> [Bytes; 3] {
        [self.head, self.version, self.tail]
    }
}

fn version_field(revision: u64, empty: bool) -> String {
    format!("\"resourceVersion\":\"{revision}\"{}", if empty { "" } else { "," })
}

/// Appends an object with its resourceVersion, whole (`kind` and `apiVersion` included).
pub fn append_object(out: &mut Vec<u8>, canonical: &[u8], revision: u64) {
    append(out, canonical, revision, false);
}

/// Appends an object with its resourceVersion but without `kind` and `apiVersion`, as items of upstream's typed lists are.
pub fn append_item(out: &mut Vec<u8>, canonical: &[u8], revision: u64) {
    append(out, canonical, revision, true);
}

fn append(out: &mut Vec<u8>, canonical: &[u8], revision: u64, item: bool) {
    let Some(at) = split(canonical) else {
        out.extend(canonical);
        return;
    };
    if item {
        out.push(b'{');
        out.extend(METADATA);
    } else {
        out.extend(&canonical[..at.inside]);
    }
    out.extend(version_field(revision, at.empty).as_bytes());
    out.extend(&canonical[at.inside..]);
}

/// Parses stored bytes (trusted: nothing is checked beyond syntax) and sets the resourceVersion.
pub fn from_stored(canonical: &[u8], revision: u64) -> Result<Value, ParseError> {
    let mut object = parse(canonical)?.value;
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    }
    Ok(object)
}
