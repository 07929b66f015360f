//! The 512 bytes in front of every entry.

use super::BLOCK;

/// Fields as the block has them, before extended headers change them.
pub(super) struct Header {
    pub flag: u8,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: i64,
    pub device: (u64, u64),
}

impl Header {
    pub fn parse(block: &[u8; BLOCK]) -> Result<Self, &'static str> {
        check_sum(block)?;
        let ustar = &block[257..263] == b"ustar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        let mut path = text(&block[..100]).to_vec();
        // In GNU's format the prefix field holds other things.
        if ustar {
            let star = &block[508..512] == b"tar\0";
            let prefix = text(if star { &block[345..476] } else { &block[345..500] });
            if !prefix.is_empty() {
                path = [prefix, b"/", &path].concat();
            }
        }
        Ok(Self {
            flag: block[156],
            path,
            link: text(&block[157..257]).to_vec(),
            mode: (number(&block[100..108])? & 0o7777) as u32,
            uid: number(&block[108..116])?,
            gid: number(&block[116..124])?,
            size: number(&block[124..136])?,
            mtime: signed(&block[136..148])?,
            device: if ustar || gnu { (number(&block[329..337])?, number(&block[337..345])?) } else { (0, 0) },
        })
    }
}

/// The sum of all bytes, its own field taken as spaces; old writers summed signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), &'static str> {
    let stated = signed(&block[148..156]).map_err(|_| "a checksum that is no number")?;
    let bytes = || block.iter().enumerate().map(|(at, &byte)| if (148..156).contains(&at) { b' ' } else { byte });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let old: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    match stated == unsigned || stated == old {
        true => Ok(()),
        false => Err("a wrong checksum"),
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number that is not negative.
pub(super) fn number(field: &[u8]) -> Result<u64, &'static str> {
    u64::try_from(signed(field)?).map_err(|_| "a negative number")
}

/// Octal digits, or GNU's big-endian two's complement marked by the highest bit.
pub(super) fn signed(field: &[u8]) -> Result<i64, &'static str> {
    const RANGE: &str = "a number out of range";
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, &byte) in field.iter().enumerate() {
            let byte = match (at, negative) {
                (0, false) => byte & 0x7f,
                _ => byte,
            };
            value = value << 8 | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| RANGE);
    }
    let digits = field.iter().copied().skip_while(|&byte| byte == b' ' || byte == 0);
    let mut value: i64 = 0;
    for byte in digits.take_while(|&byte| byte != b' ' && byte != 0) {
        if !matches!(byte, b'0'..=b'7') {
            return Err("a field that is no number");
        }
        value = value.checked_mul(8).and_then(|value| value.checked_add(i64::from(byte - b'0'))).ok_or(RANGE)?;
    }
    Ok(value)
}
