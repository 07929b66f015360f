//! Names of objects: the hash of their kind, length and content.
//!
//! Specification: <https://git-scm.com/docs/hash-function-transition>.

use sha1_checked::Digest as _;

/// The hash that a repository uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// 20 bytes.
    #[default]
    Sha1,
    /// 32 bytes.
    Sha256,
}

/// The name of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    length: u8,
    bytes: [u8; 32],
}

impl Format {
    /// Reads `sha1` or `sha256`, as repositories call it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            _ => None,
        }
    }

    /// Its name in requests and configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Bytes of an id.
    pub fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

impl Id {
    /// From raw bytes, of which there are 20 or 32.
    pub fn new(raw: &[u8]) -> Option<Self> {
        if raw.len() != 20 && raw.len() != 32 {
            return None;
        }
        let mut bytes = [0; 32];
        bytes[..raw.len()].copy_from_slice(raw);
        Some(Self { length: raw.len() as u8, bytes })
    }

    /// Reads 40 or 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 40 && text.len() != 64 {
            return None;
        }
        let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        let raw: Option<Vec<u8>> = text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
        Self::new(&raw?)
    }

    /// The raw bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The hash it is.
    pub fn format(&self) -> Format {
        if self.length == 20 { Format::Sha1 } else { Format::Sha256 }
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A hash on its way.
pub(crate) enum Hasher {
    Sha1(Box<sha1_checked::Sha1>),
    Sha256(sha2::Sha256),
}

impl Hasher {
    pub(crate) fn new(format: Format) -> Self {
        match format {
            Format::Sha1 => Self::Sha1(Box::new(sha1_checked::Sha1::new())),
            Format::Sha256 => Self::Sha256(sha2::Sha256::default()),
        }
    }

    /// The hash of an object begins with its kind and length.
    pub(crate) fn object(format: Format, kind: &str, length: u64) -> Self {
        let mut hasher = Self::new(format);
        hasher.update(format!("{kind} {length}\0").as_bytes());
        hasher
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => sha2::Digest::update(hasher, bytes),
        }
    }

    /// The id; none for content that was made to collide.
    pub(crate) fn finish(self) -> Option<Id> {
        match self {
            Self::Sha1(hasher) => {
                let result = hasher.try_finalize();
                if result.has_collision() { None } else { Id::new(result.hash()) }
            }
            Self::Sha256(hasher) => Id::new(&sha2::Digest::finalize(hasher)),
        }
    }
}
