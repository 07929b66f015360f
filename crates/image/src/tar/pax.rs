//! PAX extended headers: `LENGTH KEY=VALUE\n` records about the next entry.

use super::{Entry, sparse::Map};

/// The records of one extended header that are of use here. The last of equal keys counts.
#[derive(Default)]
pub(super) struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_version: (Option<u64>, Option<u64>),
    sparse_blocks: Option<u64>,
    /// Alternating offsets and lengths.
    sparse_numbers: Vec<u64>,
}

/// Where the map of a sparse file is.
pub(super) enum Sparse {
    /// In the records.
    Listed(Map),
    /// In front of the content.
    InContent,
}

impl Records {
    pub fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value);
            (key, value, bytes) = record(bytes)?;
            records.take(key, value)?;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let some = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
        let name = |value: &[u8]| match value.contains(&0) {
            true => Err("a name with a NUL in an extended header"),
            false => Ok(some(value)),
        };
        let count = |value: &[u8]| match value {
            b"" => Ok(None),
            digits => decimal(digits).map(Some),
        };
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = count(value)?,
            b"uid" => self.uid = count(value)?,
            b"gid" => self.gid = count(value)?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(time(value)?) },
            b"GNU.sparse.name" => self.sparse_name = name(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = count(value)?,
            b"GNU.sparse.major" => self.sparse_version.0 = count(value)?,
            b"GNU.sparse.minor" => self.sparse_version.1 = count(value)?,
            b"GNU.sparse.numblocks" => self.sparse_blocks = count(value)?,
            b"GNU.sparse.offset" if self.sparse_numbers.len().is_multiple_of(2) => {
                self.sparse_numbers.push(decimal(value)?)
            }
            b"GNU.sparse.numbytes" if !self.sparse_numbers.len().is_multiple_of(2) => {
                self.sparse_numbers.push(decimal(value)?)
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => return Err("sparse records out of order"),
            b"GNU.sparse.map" => {
                self.sparse_numbers = some(value)
                    .iter()
                    .flat_map(|map| map.split(|&byte| byte == b','))
                    .map(decimal)
                    .collect::<Result<_, _>>()?;
            }
            _ => {
                if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
                    if attribute.is_empty() || attribute.contains(&0) {
                        return Err("an extended attribute without a name");
                    }
                    self.xattrs.retain(|(name, _)| name != attribute);
                    self.xattrs.push((attribute.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Overrides the fields of the header.
    pub fn apply(&self, entry: &mut Entry) -> Result<(), &'static str> {
        if let Some(path) = &self.path {
            entry.path.clone_from(path);
        }
        if let Some(link) = &self.link {
            entry.link.clone_from(link);
        }
        entry.size = self.size.unwrap_or(entry.size);
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.xattrs.clone_from(&self.xattrs);
        Ok(())
    }

    /// The name of a sparse file, whose own name is a stand-in.
    pub fn sparse_name(&self) -> Option<Vec<u8>> {
        self.sparse_name.clone()
    }

    /// Size of a sparse file with its holes.
    pub fn sparse_size(&self, otherwise: u64) -> Result<u64, &'static str> {
        let size = self.sparse_size.unwrap_or(otherwise);
        i64::try_from(size).map(|_| size).map_err(|_| "a size out of range")
    }

    /// Whether the entry is sparse, and how.
    pub fn sparse(&self) -> Result<Option<Sparse>, &'static str> {
        match self.sparse_version {
            (Some(1), Some(0)) => return Ok(Some(Sparse::InContent)),
            (None, None) | (Some(0), Some(0 | 1)) => {}
            _ => return Err("a sparse file of an unknown version"),
        }
        let Some(blocks) = self.sparse_blocks else {
            return match self.sparse_numbers.is_empty() {
                true => Ok(None),
                false => Err("a sparse map without its length"),
            };
        };
        if self.sparse_numbers.len() as u64 != blocks.saturating_mul(2) {
            return Err("a sparse map of another length than stated");
        }
        let mut map = Map::default();
        for pair in self.sparse_numbers.chunks_exact(2) {
            map.push(pair[0], pair[1]);
        }
        Ok(Some(Sparse::Listed(map)))
    }
}

/// Key, value, and what follows the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits off the first record.
fn record(bytes: &[u8]) -> Result<Record<'_>, &'static str> {
    const MALFORMED: &str = "a malformed extended header";
    let space = bytes.iter().take(20).position(|&byte| byte == b' ').ok_or(MALFORMED)?;
    let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| MALFORMED)?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return Err(MALFORMED);
    }
    let body = &bytes[space + 1..length - 1];
    let equals = body.iter().position(|&byte| byte == b'=').filter(|&at| at > 0).ok_or(MALFORMED)?;
    Ok((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

/// A decimal number up to the range of `i64`.
pub(super) fn decimal(digits: &[u8]) -> Result<u64, &'static str> {
    const NUMBER: &str = "a field that is no number in an extended header";
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NUMBER);
    }
    let value: u64 = std::str::from_utf8(digits).map_err(|_| NUMBER)?.parse().map_err(|_| NUMBER)?;
    i64::try_from(value).map(|_| value).map_err(|_| NUMBER)
}

/// Seconds with a fraction, possibly negative.
fn time(text: &[u8]) -> Result<(i64, u32), &'static str> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).map_err(|_| "a time out of range")?;
    let mut nanoseconds = 0;
    for at in 0..9 {
        let digit = fraction.get(at).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return Err("a time that is no number");
        }
        nanoseconds = nanoseconds * 10 + u32::from(digit - b'0');
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}
