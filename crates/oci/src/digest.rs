//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>`, computed and checked while bytes pass.
//!
//! Specification: <https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>. Other algorithms are
//! refused, since a digest that cannot be verified protects nothing.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

#[cfg(test)]
mod tests;

/// The hash function of a [`Digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, used by practically every image.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the encoded part in hexadecimal digits.
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest in canonical form: known algorithm, lowercase hexadecimal of the right length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    text: Box<str>,
}

/// Why a text is not a digest, in the words of the `go-digest` library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No colon, or characters outside the grammar.
    #[error("invalid checksum digest format")]
    Format,
    /// The right algorithm, the wrong number of digits.
    #[error("invalid checksum digest length")]
    Length,
    /// An algorithm other than sha256 and sha512.
    #[error("unsupported digest algorithm")]
    Unsupported,
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    /// The digest of `bytes` by `algorithm`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal part.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        Self::of(self.algorithm, bytes) == *self
    }

    /// The chain id of a layer on top of `parent`: the name of the layer together with everything below it.
    ///
    /// <https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid>
    pub fn chain(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
        match parent {
            None => diff_id.clone(),
            Some(parent) => Digest::sha256(format!("{parent} {diff_id}").as_bytes()),
        }
    }

    /// The chain ids of `diff_ids`, lowest layer first.
    pub fn chains(diff_ids: &[Digest]) -> Vec<Digest> {
        let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids {
            chains.push(Digest::chain(chains.last(), diff_id));
        }
        chains
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (algorithm, hex) = text.split_once(':').ok_or(ParseError::Format)?;
        let component = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if !algorithm.split(['+', '.', '_', '-']).all(component)
            || hex.is_empty()
            || !hex.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-'))
        {
            return Err(ParseError::Format);
        }
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(ParseError::Unsupported),
        };
        if hex.len() != algorithm.hex_len() {
            return Err(ParseError::Length);
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ParseError::Format);
        }
        Ok(Self { algorithm, text: text.into() })
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl TryFrom<&oci_spec::image::Digest> for Digest {
    type Error = ParseError;

    fn try_from(digest: &oci_spec::image::Digest) -> Result<Self, ParseError> {
        digest.as_ref().parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.text.into()
    }
}

impl From<&Digest> for oci_spec::image::Digest {
    fn from(digest: &Digest) -> Self {
        digest.as_str().parse().expect("a canonical digest is a digest")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Computes a digest of bytes as they pass.
#[derive(Clone)]
pub struct Hasher {
    state: State,
    seen: u64,
}

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// Starts with no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(sha2::Sha512::new())),
        };
        Self { state, seen: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// Bytes taken so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes) = match self.state {
            State::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            State::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
        };
        let mut text = String::with_capacity(algorithm.name().len() + 1 + algorithm.hex_len());
        text.push_str(algorithm.name());
        text.push(':');
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(nibble.into(), 16).expect("a nibble is a digit"));
            }
        }
        Digest { algorithm, text: text.into() }
    }
}

/// Checks size and digest of content as it passes.
#[derive(Clone)]
pub struct Verifier {
    expected: Digest,
    size: Option<u64>,
    hasher: Hasher,
}

/// How content differs from what its descriptor promised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Other bytes than promised.
    #[error("content has digest {actual}, expected {expected}")]
    Digest {
        /// As promised.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// More or fewer bytes than promised. `actual` counts what had been seen when that was certain.
    #[error("content of {digest} has {actual} bytes, expected {expected}")]
    Size {
        /// What was being read.
        digest: Digest,
        /// Bytes promised.
        expected: u64,
        /// Bytes seen.
        actual: u64,
    },
}

impl Verifier {
    /// Expects content with this digest and, where known, this many bytes.
    pub fn new(expected: Digest, size: Option<u64>) -> Self {
        let hasher = Hasher::new(expected.algorithm());
        Self { expected, size, hasher }
    }

    /// Takes the next bytes; fails as soon as there are too many.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        self.hasher.update(bytes);
        match self.size {
            Some(expected) if self.hasher.seen() > expected => {
                Err(Mismatch::Size { digest: self.expected.clone(), expected, actual: self.hasher.seen() })
            }
            _ => Ok(()),
        }
    }

    /// Bytes taken so far.
    pub fn seen(&self) -> u64 {
        self.hasher.seen()
    }

    /// Checks the whole.
    pub fn finish(self) -> Result<(), Mismatch> {
        let actual = self.hasher.seen();
        if let Some(expected) = self.size
            && actual != expected
        {
            return Err(Mismatch::Size { digest: self.expected, expected, actual });
        }
        let actual = self.hasher.finish();
        if actual != self.expected {
            return Err(Mismatch::Digest { expected: self.expected, actual });
        }
        Ok(())
    }
}
