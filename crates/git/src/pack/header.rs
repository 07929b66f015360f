//! What stands before an object's deflated bytes: kind, size, and what it is built from.
//!
//! Specification: <https://git-scm.com/docs/gitformat-pack>.

use crate::{
    Error,
    id::{Format, Id},
    object::Kind,
};

/// What an object is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing: it stands alone.
    None(Kind),
    /// The object at this offset.
    At(u64),
    /// The object with this id.
    Named(Id),
}

/// Reads the header of the object at `offset`, byte by byte: its size, inflated, and what it is built from.
pub(crate) fn read(
    offset: u64,
    format: Format,
    mut next: impl FnMut() -> Result<u8, Error>,
) -> Result<(u64, Base), Error> {
    let first = next()?;
    let (mut size, mut shift, mut byte) = (u64::from(first & 0xf), 4, first);
    while byte & 0x80 != 0 {
        byte = next()?;
        if shift > 56 {
            return Err(Error::invalid("an object with an impossible size"));
        }
        size |= u64::from(byte & 0x7f) << shift;
        shift += 7;
    }
    let nowhere = || Error::invalid("an object is built from what is no object");
    let base = match first >> 4 & 7 {
        1 => Base::None(Kind::Commit),
        2 => Base::None(Kind::Tree),
        3 => Base::None(Kind::Blob),
        4 => Base::None(Kind::Tag),
        6 => {
            let mut byte = next()?;
            let mut back = u64::from(byte & 0x7f);
            while byte & 0x80 != 0 {
                byte = next()?;
                if back > 1 << 50 {
                    return Err(nowhere());
                }
                back = (back + 1) << 7 | u64::from(byte & 0x7f);
            }
            Base::At(offset.checked_sub(back).filter(|base| *base < offset).ok_or_else(nowhere)?)
        }
        7 => {
            let raw: Vec<u8> = (0..format.length()).map(|_| next()).collect::<Result<_, _>>()?;
            Base::Named(Id::new(&raw).ok_or_else(nowhere)?)
        }
        kind => return Err(Error::invalid(format!("an object of unknown kind {kind}"))),
    };
    Ok((size, base))
}
