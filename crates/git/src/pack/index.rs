//! The index beside a pack that is kept, so that other tools find its objects.
//!
//! Specification: <https://git-scm.com/docs/gitformat-pack#_version_2_pack_idx_files_support_packs_larger_than_4_gib_and>.

use std::io::Write;

use super::Pack;
use crate::{Error, id::Hasher};

/// Writes the index of a pack, version 2.
pub fn write(pack: &Pack, to: &mut impl Write) -> Result<(), Error> {
    let mut out = Vec::with_capacity(1032 + pack.known.len() * 32);
    out.extend_from_slice(b"\xfftOc\0\0\0\x02");
    let mut count = 0_u32;
    let mut known = pack.known.iter().peekable();
    for first in 0..=255 {
        while known.next_if(|known| known.id.bytes()[0] == first).is_some() {
            count += 1;
        }
        out.extend_from_slice(&count.to_be_bytes());
    }
    pack.known.iter().for_each(|known| out.extend_from_slice(known.id.bytes()));
    pack.known.iter().for_each(|known| out.extend_from_slice(&known.crc.to_be_bytes()));
    let mut far = Vec::new();
    for known in &pack.known {
        let short = match u32::try_from(known.offset) {
            Ok(offset) if offset < 1 << 31 => offset,
            _ => {
                far.push(known.offset);
                1 << 31 | (far.len() as u32 - 1)
            }
        };
        out.extend_from_slice(&short.to_be_bytes());
    }
    far.iter().for_each(|offset| out.extend_from_slice(&offset.to_be_bytes()));
    out.extend_from_slice(pack.trailer().bytes());
    let mut hasher = Hasher::new(pack.format);
    hasher.update(&out);
    let hash = hasher.finish().ok_or_else(|| Error::invalid("an index that collides"))?;
    out.extend_from_slice(hash.bytes());
    Ok(to.write_all(&out)?)
}
