//! An object as the cache holds it: its canonical bytes, shared with the store, and what is worked out from them on demand.
//!
//! ```text
//! {"kind":"Pod","apiVersion":"v1","metadata":{ "name":"a", ... }
//! └ head ────────────────────────────────────┘
//!                                             └ here `"resourceVersion":"17",` goes in when it is sent
//! ```
//!
//! The revision is known only once the commit is done, so it is not part of the stored bytes.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::{BufMut, Bytes};
use serde_json::Value;

use crate::scan;

/// One revision of one object. Never changes; shared by the cache, the event log and everyone who reads it.
#[derive(Debug)]
pub struct Object {
    key: Arc<str>,
    bytes: Bytes,
    revision: u64,
    head: usize,
    labels: OnceLock<Box<[(String, String)]>>,
    parsed: Mutex<Weak<Value>>,
    /// Whether it needs no defaults or pruning any more.
    finished: bool,
    converted: OnceLock<Box<Mutex<Converted>>>,
}

/// An object in versions that a webhook made of it, under the definition of that revision.
type Converted = (u64, Vec<Arc<Object>>);

const METADATA: &[u8] = br#""metadata":{"#;

impl Object {
    /// `key` is the key in the store, `bytes` canonical JSON without a resource version.
    pub fn new(key: Arc<str>, bytes: Bytes, revision: u64) -> Arc<Self> {
        Arc::new(Self::made(key, bytes, revision, false))
    }

    /// An object in a version that it is not stored in, as a webhook made it, complete with defaults.
    pub fn finished(key: Arc<str>, bytes: Bytes, revision: u64) -> Arc<Self> {
        Arc::new(Self::made(key, bytes, revision, true))
    }

    fn made(key: Arc<str>, bytes: Bytes, revision: u64, finished: bool) -> Self {
        Self {
            head: head_of(&bytes),
            key,
            bytes,
            revision,
            labels: OnceLock::new(),
            parsed: Mutex::default(),
            finished,
            converted: OnceLock::new(),
        }
    }

    /// Whether it can be shown as it is in the version that its head names.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// What a webhook made of this object, for the version with that head, under the definition of a revision.
    pub fn converted(&self, definition: u64, head: &[u8]) -> Option<Arc<Self>> {
        let kept = self.converted.get()?.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.iter().find(|object| kept.0 == definition && object.head() == head).cloned()
    }

    /// Keeps what a webhook made of this object.
    pub fn keep_converted(&self, definition: u64, object: Arc<Self>) {
        let kept = self.converted.get_or_init(Box::default);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != definition {
            *kept = (definition, Vec::new());
        }
        kept.1.retain(|other| other.head() != object.head());
        kept.1.push(object);
    }

    /// The same content at another revision, as watches show it when it was deleted.
    pub fn at(&self, revision: u64) -> Arc<Self> {
        Arc::new(Self::made(self.key.clone(), self.bytes.clone(), revision, self.finished))
    }

    /// The key in the store.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The revision of the last change; 0 for an object that was not stored, after a dry run.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Canonical JSON without a resource version.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Everything up to and with `"metadata":{`.
    pub fn head(&self) -> &[u8] {
        &self.bytes[..self.head]
    }

    /// Everything behind `"metadata":{`.
    pub fn tail(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    /// The last segment of the key.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }

    /// `metadata.labels`, read from the bytes once.
    pub fn labels(&self) -> &[(String, String)] {
        self.labels.get_or_init(|| {
            scan::find(&self.bytes, &["metadata", "labels"]).map(scan::strings).unwrap_or_default().into()
        })
    }

    /// One label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels().iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The object as a tree, with its resource version. Shared by all who use it at the same time, and dropped with the last.
    pub fn value(&self) -> Arc<Value> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = parsed.upgrade() {
            return value;
        }
        let value = Arc::new(self.owned());
        *parsed = Arc::downgrade(&value);
        value
    }

    /// The object as a tree of the caller's own, with its resource version.
    pub fn owned(&self) -> Value {
        let mut value: Value = serde_json::from_slice(&self.bytes).unwrap_or_else(|error| {
            tracing::error!(key = %self.key, %error, "stored object is no json");
            Value::Object(serde_json::Map::new())
        });
        if self.revision > 0 {
            api::meta::set_resource_version(&mut value, &self.revision.to_string());
        }
        value
    }

    /// Appends the object as JSON with its resource version, behind `head`, which names the version it is shown in.
    pub fn write(&self, head: &[u8], out: &mut impl BufMut) {
        out.put_slice(head);
        if self.revision > 0 {
            write_version(self.revision, out);
        }
        out.put_slice(self.tail());
    }

    /// How many bytes [`Object::write`] appends for a head of `head` bytes.
    pub fn written_len(&self, head: usize) -> usize {
        let version = if self.revision > 0 { VERSION_OVERHEAD + decimal_len(self.revision) } else { 0 };
        head + version + self.bytes.len() - self.head
    }
}

const VERSION_OVERHEAD: usize = br#""resourceVersion":"","#.len();

fn write_version(revision: u64, out: &mut impl BufMut) {
    out.put_slice(br#""resourceVersion":""#);
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = revision;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
    out.put_slice(br#"","#);
}

fn decimal_len(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Length of the bytes up to and with `"metadata":{`; canonical JSON has it within the first few hundred bytes.
fn head_of(bytes: &[u8]) -> usize {
    let window = &bytes[..bytes.len().min(1024)];
    memchr::memmem::find(window, METADATA).map_or(0, |at| at + METADATA.len())
}

/// The head of every object of that kind and version.
pub fn head(kind: &str, api_version: &str) -> Box<[u8]> {
    format!(r#"{{"kind":{},"apiVersion":{},"metadata":{{"#, quote(kind), quote(api_version)).into_bytes().into()
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Arc<Object> {
        let bytes = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"web","labels":{"app":"x"}},"data":{"metadata":"{"}}"#;
        Object::new("/registry/core/configmaps/web/a".into(), Bytes::from_static(bytes.as_bytes()), 170)
    }

    #[test]
    fn the_resource_version_goes_in_when_it_is_sent() {
        let (object, mut out) = (object(), Vec::new());
        assert_eq!(object.head(), &*head("ConfigMap", "v1"));
        object.write(object.head(), &mut out);
        assert_eq!(out.len(), object.written_len(object.head().len()));
        let sent: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(sent["metadata"]["resourceVersion"], "170");
        assert_eq!(sent, *object.value());
        assert_eq!(object.name(), "a");
        assert_eq!(object.label("app"), Some("x"));
    }

    #[test]
    fn one_tree_is_shared_while_it_is_used() {
        let object = object();
        let first = object.value();
        assert!(Arc::ptr_eq(&first, &object.value()));
        drop(first);
        assert!(object.parsed.lock().unwrap().upgrade().is_none());
    }

    #[test]
    fn versions_of_every_length_are_written() {
        for revision in [1, 9, 10, 99, 100, u64::MAX] {
            let (object, mut out) = (object().at(revision), Vec::new());
            object.write(object.head(), &mut out);
            assert_eq!(out.len(), object.written_len(object.head().len()), "{revision}");
            let sent: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(sent["metadata"]["resourceVersion"], revision.to_string());
        }
    }
}
