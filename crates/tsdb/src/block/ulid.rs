//! ULIDs: names of blocks, which sort by the time when they were made. See <https://github.com/ulid/spec>.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    time::{SystemTime, UNIX_EPOCH},
};

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 48 bits of milliseconds since 1970, then 80 random ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

impl Ulid {
    /// A new one.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        // The keys of the standard library's hash tables are random and differ each time.
        let random = || u128::from(RandomState::new().hash_one(now));
        Self((now << 80) | ((random() << 64 | random()) & ((1 << 80) - 1)))
    }

    /// Reads 26 digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return None;
        }
        let mut value = 0u128;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|digit| *digit == byte)?;
            value = value << 5 | digit as u128;
        }
        Some(Self(value))
    }
}

impl Default for Ulid {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for digit in (0..26).rev() {
            let digit = DIGITS[(self.0 >> (5 * digit) & 31) as usize];
            write!(f, "{}", char::from(digit))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Ulid;

    #[test]
    fn a_name_comes_back_and_sorts_by_time() {
        let (one, other) = (Ulid::new(), Ulid(u128::MAX >> 40));
        assert_eq!(Ulid::parse(&one.to_string()), Some(one));
        assert!(other.to_string() < one.to_string());
        assert_ne!(Ulid::new(), Ulid::new());
        assert_eq!(Ulid::parse("8ZZZZZZZZZZZZZZZZZZZZZZZZZ"), None);
        assert_eq!(Ulid::parse("01ARZ3NDEKTSV4RRFFQ69G5FAU"), None);
    }
}
