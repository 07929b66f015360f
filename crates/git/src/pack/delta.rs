//! Objects as differences: copy a piece of the base, or insert these bytes.
//!
//! Specification: <https://git-scm.com/docs/gitformat-pack#_deltified_representation>.

use crate::Error;

/// Builds an object from its base.
pub(crate) fn apply(base: &[u8], delta: &[u8], limit: u64) -> Result<Vec<u8>, Error> {
    let broken = || Error::invalid("damaged instructions for an object");
    let mut rest = delta;
    if size(&mut rest)? != base.len() as u64 {
        return Err(Error::invalid("instructions for an object are for another base"));
    }
    let length = size(&mut rest)?;
    if length > limit {
        return Err(Error::TooLarge { what: "an object", limit });
    }
    let mut out = Vec::with_capacity((length as usize).min(1 << 20));
    while let Some((&operation, after)) = rest.split_first() {
        rest = after;
        let piece = if operation & 0x80 != 0 {
            let mut number = |bits: std::ops::Range<u8>| {
                let mut number = 0_usize;
                for (at, bit) in bits.enumerate() {
                    if operation & (1 << bit) != 0 {
                        let (&byte, after) = rest.split_first().ok_or_else(broken)?;
                        number |= usize::from(byte) << (8 * at);
                        rest = after;
                    }
                }
                Ok::<_, Error>(number)
            };
            let offset = number(0..4)?;
            let count = match number(4..7)? {
                0 => 0x10000,
                count => count,
            };
            base.get(offset..offset + count).ok_or_else(broken)?
        } else if operation > 0 {
            let (piece, after) = rest.split_at_checked(usize::from(operation)).ok_or_else(broken)?;
            rest = after;
            piece
        } else {
            return Err(broken());
        };
        if (out.len() + piece.len()) as u64 > length {
            return Err(broken());
        }
        out.extend_from_slice(piece);
    }
    if out.len() as u64 == length { Ok(out) } else { Err(broken()) }
}

/// The length of what instructions make; their first bytes are enough.
pub(crate) fn made(delta: &[u8]) -> Result<u64, Error> {
    let mut rest = delta;
    size(&mut rest)?;
    size(&mut rest)
}

/// Seven bits a byte, the lowest first.
fn size(rest: &mut &[u8]) -> Result<u64, Error> {
    let mut size = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or_else(|| Error::invalid("damaged instructions for an object"))?;
        *rest = after;
        size |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(size);
        }
    }
    Err(Error::invalid("damaged instructions for an object"))
}
