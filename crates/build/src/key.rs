//! Keys of the cache: a hash over what a step is made from, each field with its length before it, so that no two lists of fields
//! have the same bytes.

use oci::digest::{Algorithm, Hasher};

/// A key: the hexadecimal digits of a SHA-256.
pub type Key = String;

/// Collects fields.
pub struct Fields(Hasher);

impl Fields {
    /// Begins with what kind of thing the key is for.
    pub fn new(kind: &str) -> Self {
        let mut fields = Self(Hasher::new(Algorithm::Sha256));
        fields.add(kind);
        fields
    }

    /// Adds a field.
    pub fn add(&mut self, field: impl AsRef<[u8]>) -> &mut Self {
        let field = field.as_ref();
        self.0.update(&(field.len() as u64).to_be_bytes());
        self.0.update(field);
        self
    }

    /// Adds a number.
    pub fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.add(number.into().to_be_bytes())
    }

    /// Adds a list as one field.
    pub fn list<T: AsRef<[u8]>>(&mut self, list: impl IntoIterator<Item = T>) -> &mut Self {
        let mut below = Self::new("list");
        list.into_iter().for_each(|item| {
            below.add(item);
        });
        let below = below.finish();
        self.add(below)
    }

    /// The key.
    pub fn finish(self) -> Key {
        self.0.finish().hex().to_owned()
    }
}
