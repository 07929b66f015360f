//! Writes JSON front to back.

use serde_json::Value;

/// JSON being written. Commas are put where they belong.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer { bytes: Vec::with_capacity(64 * 1024) }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Puts a comma unless something was just opened.
    fn separate(&mut self) {
        if !matches!(self.bytes.last(), None | Some(b'{' | b'[' | b':')) {
            self.bytes.push(b',');
        }
    }

    /// Writes `"key":`; a value must follow.
    pub(super) fn key(&mut self, key: &str) -> &mut Writer {
        self.string(key);
        self.bytes.push(b':');
        self
    }

    pub(super) fn object(&mut self, write: impl FnOnce(&mut Writer)) {
        self.separate();
        self.bytes.push(b'{');
        write(self);
        self.bytes.push(b'}');
    }

    pub(super) fn array(&mut self, write: impl FnOnce(&mut Writer)) {
        self.separate();
        self.bytes.push(b'[');
        write(self);
        self.bytes.push(b']');
    }

    pub(super) fn string(&mut self, text: &str) {
        self.separate();
        crate::json::write_string(&mut self.bytes, text);
    }

    /// Writes JSON as it is.
    pub(super) fn raw(&mut self, json: &[u8]) {
        self.separate();
        self.bytes.extend(json);
    }

    pub(super) fn value(&mut self, value: &Value) {
        self.separate();
        crate::json::write(&mut self.bytes, value);
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.raw(if value { b"true" } else { b"false" });
    }
}
