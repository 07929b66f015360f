//! Packs that go out: what lies in packs here is copied as it lies where that can be, so that sending costs reading.
//!
//! Specification: <https://git-scm.com/docs/gitformat-pack>.

use std::{collections::HashMap, io::Write};

use flate2::{Compression, write::ZlibEncoder};

use super::header::Base;
use crate::{
    Error,
    id::{Hasher, Id},
    object::Kind,
    repository::{Place, Reader},
};

/// An object that goes out.
struct Going {
    id: Id,
    /// Where it begins in what goes out, once it does.
    offset: Option<u64>,
}

/// Writes a pack of the objects. With `offsets` the reader knows objects that are built from one at an offset. What `to`
/// says ends it.
pub(crate) fn write(
    reader: &mut Reader,
    ids: Vec<Id>,
    offsets: bool,
    to: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let count = u32::try_from(ids.len()).map_err(|_| Error::invalid("more objects than a pack can have"))?;
    let mut going = HashMap::with_capacity(ids.len());
    for id in ids {
        let place = reader.locate(&id)?;
        let place = place.ok_or_else(|| Error::invalid(format!("object {id} is not in the repository")))?;
        going.insert(place, Going { id, offset: None });
    }
    // As they lie: what others are built from mostly comes first, and the disk is read forwards.
    let mut places: Vec<Place> = going.keys().copied().collect();
    places.sort_unstable();
    let mut out = Output { to, hasher: Hasher::new(reader.format()), written: 0 };
    out.put(b"PACK\0\0\0\x02")?;
    out.put(&count.to_be_bytes())?;
    let mut bounds: (usize, Vec<u64>) = (usize::MAX, Vec::new());
    for place in places {
        if bounds.0 != place.0 {
            bounds = (place.0, reader.pack(place.0).bounds()?);
        }
        let at = out.written;
        let standing = reader.pack(place.0).at(place.1)?;
        let end = bounds.1[bounds.1.partition_point(|bound| *bound <= place.1).min(bounds.1.len() - 1)];
        let base = reader.base(place, &standing)?;
        let base = base.and_then(|base| going.get(&base).map(|there| (there.id, there.offset)));
        match (standing.base, base) {
            (Base::None(kind), _) => out.put(&head(number(kind), standing.size))?,
            (_, Some((_, Some(offset)))) if offsets => {
                out.put(&head(6, standing.size))?;
                out.put(&back(at - offset))?;
            }
            (_, Some((id, _))) => {
                out.put(&head(7, standing.size))?;
                out.put(id.bytes())?;
            }
            // What it is built from does not go: it goes whole.
            (_, None) => {
                let id = going[&place].id;
                let (kind, content) = reader.get(&id)?;
                out.put(&head(number(kind), content.len() as u64))?;
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(&content)?;
                out.put(&encoder.finish()?)?;
                going.insert(place, Going { id, offset: Some(at) });
                continue;
            }
        }
        reader.pack(place.0).raw(standing.content, end, &mut |piece| out.put(piece))?;
        if let Some(going) = going.get_mut(&place) {
            going.offset = Some(at);
        }
    }
    let hash = out.hasher.finish().ok_or_else(|| Error::invalid("a pack that collides"))?;
    (out.to)(hash.bytes())
}

struct Output<'a> {
    to: &'a mut dyn FnMut(&[u8]) -> Result<(), Error>,
    hasher: Hasher,
    written: u64,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        (self.to)(bytes)
    }
}

fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

/// Kind and size: four bits of it, then seven a byte, the lowest first.
fn head(kind: u8, size: u64) -> Vec<u8> {
    let (mut head, mut rest) = (vec![kind << 4 | (size & 0xf) as u8], size >> 4);
    while rest > 0 {
        *head.last_mut().expect("a first byte") |= 0x80;
        head.push((rest & 0x7f) as u8);
        rest >>= 7;
    }
    head
}

/// How far back: seven bits a byte, the highest first, each but the last one less.
fn back(distance: u64) -> Vec<u8> {
    let (mut bytes, mut rest) = (vec![(distance & 0x7f) as u8], distance >> 7);
    while rest > 0 {
        rest -= 1;
        bytes.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes.reverse();
    bytes
}
