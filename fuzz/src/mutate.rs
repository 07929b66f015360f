//! Broken copies of good inputs.

/// Numbers that repeat with their seed: xorshift64*.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, or 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.number() >> 11) as usize % bound }
    }
}

/// The longest input that mutation makes.
pub const LONGEST: usize = 64 << 10;

/// A copy of `input` with one to eight changes; `other` is spliced into it, `words` are put in.
pub fn mutate(input: &[u8], other: &[u8], words: &[&str], random: &mut Random) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(out.len() + 1);
        let length = 1 + random.below(16.min(out.len() + 1));
        let end = (at + length).min(out.len());
        match random.below(10) {
            0 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'/', b'"'][random.below(8)];
                }
            }
            2 => drop(out.drain(at..end)),
            3 => {
                let piece = out[at..end].to_vec();
                let place = random.below(out.len() + 1);
                out.splice(place..place, piece);
            }
            4 => out.truncate(at),
            5 => {
                let from = random.below(other.len());
                let piece = other[from..(from + 1 + random.below(64)).min(other.len())].to_vec();
                out.splice(at..end, piece);
            }
            6 => {
                let piece = out[at..end].repeat(1 + random.below(64));
                out.splice(at..at, piece);
            }
            7 if end - at >= 4 => {
                // A length or an offset, whatever its order.
                let number = [0_u32, 1, 0x7fff_ffff, u32::MAX, 0x100][random.below(5)];
                out[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            _ => {
                if let Some(word) = words.get(random.below(words.len())) {
                    out.splice(at..at, word.bytes());
                }
            }
        }
        out.truncate(LONGEST);
    }
    out
}

/// Pieces of `input` left out as long as `bad` stays true.
pub fn smaller(input: &[u8], bad: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut piece = best.len().div_ceil(2).max(1);
    while piece > 0 {
        let mut at = 0;
        while at < best.len() {
            let end = (at + piece).min(best.len());
            let tried = [&best[..at], &best[end..]].concat();
            if bad(&tried) {
                best = tried;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let make = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| mutate(b"FROM a\nRUN b\n", b"COPY c d\n", &["ENV "], &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn what_is_bad_is_made_smaller() {
        let bad = |input: &[u8]| input.windows(2).any(|pair| pair == b"ab");
        assert_eq!(smaller(b"xxxxxxabyyyyyyyyyyy", &bad), b"ab");
    }
}
