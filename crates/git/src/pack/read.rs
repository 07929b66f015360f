//! The first pass over a pack: each object inflated once, in the order of the file.

use std::{fs::File, os::unix::fs::FileExt};

use flate2::{Decompress, FlushDecompress, Status};

use super::header::{self, Base};
use crate::{
    Error, Limits,
    id::{Format, Hasher, Id},
    object::Kind,
};

const PIECE: usize = 64 << 10;

/// An object as the file has it.
pub(super) struct Object {
    pub offset: u64,
    pub content: u64,
    pub size: u64,
    pub base: Base,
    /// Of one that stands alone.
    pub id: Option<Id>,
    /// Of its bytes in the file.
    pub crc: u32,
}

/// All objects of a pack.
pub(super) struct Taken {
    pub objects: Vec<Object>,
    pub unpacked: u64,
    pub trailer: Id,
}

/// Bytes of a file, one after the other, hashed as they pass.
struct Input<'a> {
    file: &'a File,
    /// Of the first byte in `held`.
    at: u64,
    held: Vec<u8>,
    used: usize,
    end: u64,
    whole: Hasher,
    crc: crc32fast::Hasher,
}

impl Input<'_> {
    fn offset(&self) -> u64 {
        self.at + self.used as u64
    }

    fn fill(&mut self) -> Result<&[u8], Error> {
        if self.used == self.held.len() {
            self.at += self.used as u64;
            let length = (self.end - self.at).min(PIECE as u64) as usize;
            self.held.resize(length, 0);
            self.file.read_exact_at(&mut self.held, self.at)?;
            self.used = 0;
        }
        Ok(&self.held[self.used..])
    }

    fn take(&mut self, count: usize) {
        let bytes = &self.held[self.used..self.used + count];
        self.whole.update(bytes);
        self.crc.update(bytes);
        self.used += count;
    }

    fn byte(&mut self) -> Result<u8, Error> {
        let byte = *self.fill()?.first().ok_or_else(ends)?;
        self.take(1);
        Ok(byte)
    }

    fn array(&mut self, count: usize) -> Result<Vec<u8>, Error> {
        (0..count).map(|_| self.byte()).collect()
    }

    fn number(&mut self) -> Result<u32, Error> {
        Ok(self.array(4)?.into_iter().fold(0, |number, byte| number << 8 | u32::from(byte)))
    }
}

fn ends() -> Error {
    Error::invalid("the pack ends early")
}

pub(super) fn all(file: &File, format: Format, limits: &Limits) -> Result<Taken, Error> {
    let length = file.metadata()?.len();
    let end = length.checked_sub(format.length() as u64).ok_or_else(ends)?;
    if length > limits.pack {
        return Err(Error::TooLarge { what: "the pack", limit: limits.pack });
    }
    let (whole, crc) = (Hasher::new(format), crc32fast::Hasher::new());
    let mut input = Input { file, at: 0, held: Vec::new(), used: 0, end, whole, crc };
    if input.array(4)? != b"PACK" {
        return Err(Error::invalid("what the remote sent is no pack"));
    }
    match input.number()? {
        2 | 3 => {}
        version => return Err(Error::invalid(format!("a pack of version {version}"))),
    }
    let count = input.number()?;
    if count > limits.objects {
        return Err(Error::TooLarge { what: "the number of objects", limit: limits.objects.into() });
    }
    let (mut objects, mut unpacked) = (Vec::with_capacity(count.min(1 << 16) as usize), 0);
    for _ in 0..count {
        objects.push(object(&mut input, format, limits, &mut unpacked)?);
    }
    if input.offset() != end {
        return Err(Error::invalid("the pack is longer than its objects"));
    }
    let mut trailer = vec![0; format.length()];
    file.read_exact_at(&mut trailer, end)?;
    let computed = input.whole.finish().ok_or_else(|| Error::invalid("a pack that was made to collide"))?;
    if computed.bytes() != trailer {
        return Err(Error::invalid("the pack is damaged: its hash is another one"));
    }
    Ok(Taken { objects, unpacked, trailer: computed })
}

fn object(input: &mut Input<'_>, format: Format, limits: &Limits, unpacked: &mut u64) -> Result<Object, Error> {
    let offset = input.offset();
    input.crc = crc32fast::Hasher::new();
    let (size, base) = header::read(offset, format, || input.byte())?;
    // Only files that stand alone may be larger than what is held in memory.
    if !matches!(base, Base::None(Kind::Blob)) && size > limits.object {
        return Err(Error::TooLarge { what: "an object", limit: limits.object });
    }
    *unpacked += size;
    if *unpacked > limits.unpacked {
        return Err(Error::TooLarge { what: "the pack, unpacked,", limit: limits.unpacked });
    }
    let content = input.offset();
    let mut hasher = match &base {
        Base::None(kind) => Some(Hasher::object(format, kind.name(), size)),
        _ => None,
    };
    let (mut decompress, mut out, mut done) = (Decompress::new(true), vec![0; PIECE], 0);
    loop {
        let before = (decompress.total_in(), decompress.total_out());
        let held = input.fill()?;
        let at_end = held.is_empty();
        let status = decompress
            .decompress(held, &mut out, FlushDecompress::None)
            .map_err(|error| Error::invalid(format!("a damaged object in the pack: {error}")))?;
        let (taken, made) = (decompress.total_in() - before.0, (decompress.total_out() - before.1) as usize);
        input.take(taken as usize);
        done += made as u64;
        if done > size {
            return Err(Error::invalid("an object is longer than its pack says"));
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&out[..made]);
        }
        match status {
            Status::StreamEnd => break,
            _ if at_end || taken == 0 && made == 0 => return Err(ends()),
            _ => {}
        }
    }
    if done != size {
        return Err(Error::invalid("an object is shorter than its pack says"));
    }
    let id = match hasher {
        None => None,
        Some(hasher) => {
            let id = hasher.finish();
            Some(id.ok_or_else(|| Error::invalid("an object was made to collide with another under SHA-1"))?)
        }
    };
    let crc = std::mem::take(&mut input.crc).finalize();
    Ok(Object { offset, content, size, base, id, crc })
}

/// Inflates what begins at an offset, piece by piece.
pub(super) fn inflate(
    file: &File,
    mut at: u64,
    size: u64,
    to: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    // Small objects are most, and need no large buffers.
    let piece = (size as usize + 64).min(PIECE);
    let (mut held, mut out) = (vec![0; piece], vec![0; piece]);
    let (mut decompress, mut have, mut used) = (Decompress::new(true), 0, 0);
    loop {
        if used == have {
            (have, used) = (file.read_at(&mut held, at)?, 0);
            at += have as u64;
        }
        let before = (decompress.total_in(), decompress.total_out());
        let status = decompress
            .decompress(&held[used..have], &mut out, FlushDecompress::None)
            .map_err(|error| Error::invalid(format!("a damaged object in the pack: {error}")))?;
        let (taken, made) = (decompress.total_in() - before.0, (decompress.total_out() - before.1) as usize);
        used += taken as usize;
        if decompress.total_out() > size {
            return Err(Error::invalid("an object is longer than its pack says"));
        }
        to(&out[..made])?;
        match status {
            Status::StreamEnd if decompress.total_out() == size => return Ok(()),
            Status::StreamEnd => return Err(Error::invalid("an object is shorter than its pack says")),
            _ if taken == 0 && made == 0 => return Err(ends()),
            _ => {}
        }
    }
}
