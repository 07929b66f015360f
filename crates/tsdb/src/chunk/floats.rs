//! Columns of floats, stored in the way that makes them smallest.
//!
//! | way | fits | stored |
//! |---|---|---|
//! | same | one value | its bits |
//! | steps | decimals: counters, sizes, measured values with few digits | mantissas and one exponent of ten; zigzag steps |
//! | rising | decimals that only grow | steps above the smallest step |
//! | turns | decimals that grow evenly | how each step differs from the one before |
//! | chained | floats near each other | each one's bits against those before |
//! | split | floats without order | exponents and fractions apart |
//!
//! Decimals are exact: a value is stored as a mantissa only where dividing the mantissa by the power of ten gives the same
//! bits. The few that are not (stale markers, infinities, negative zero) are listed with their places. Mantissas with
//! one exponent for a whole block are VictoriaMetrics' idea; splitting off the exponent is that of ALP (Afroozeh et al.,
//! "ALP: Adaptive Lossless floating-Point Compression", 2023).

use std::ops::Range;

use crate::{
    bytes::{Reader, Torn, put_varint, put_zigzag, unzigzag, zigzag},
    ints::{self, Widths},
};

const SAME: u8 = 0;
const STEPS: u8 = 1;
const RISING: u8 = 2;
const TURNS: u8 = 3;
const CHAINED: u8 = 4;
const SPLIT: u8 = 5;

/// In the byte of the exponent: steps share low zero bits; some values are listed.
const SHIFTED: u8 = 0x10;
const LISTED: u8 = 0x20;

const FRACTION: u64 = (1 << 52) - 1;

const EXPONENTS: usize = 15;
const POWERS: [f64; EXPONENTS] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];
/// Adding and subtracting it rounds to a whole number what is below 2^51.
const ROUND: f64 = 6_755_399_441_055_744.0;
const LARGEST: f64 = (1u64 << 51) as f64;

/// The mantissa of `value` with the exponent `-exponent`, where it is exact.
#[inline]
pub fn mantissa(value: f64, exponent: usize) -> Option<i64> {
    if exponent == 0 {
        let whole = value as i64;
        // Not a negative zero, and not what saturates.
        return ((whole as f64).to_bits() == value.to_bits() && whole.unsigned_abs() <= 1 << 53).then_some(whole);
    }
    let scaled = value * POWERS[exponent];
    if scaled.abs() < LARGEST {
        let whole = (scaled + ROUND) - ROUND;
        if (whole / POWERS[exponent]).to_bits() == value.to_bits() {
            return Some(whole as i64);
        }
    }
    None
}

/// The value of a mantissa.
#[inline]
pub fn decimal(mantissa: i64, exponent: usize) -> f64 {
    mantissa as f64 / POWERS[exponent]
}

struct Decimals {
    exponent: usize,
    mantissas: Vec<i64>,
    /// Places and bits of what is no decimal.
    listed: Vec<(usize, u64)>,
}

fn decimals(values: &[f64]) -> Option<Decimals> {
    let allowed = values.len() / 16 + 1;
    let (mut exponent, mut odd) = (0, 0);
    for value in values {
        if mantissa(*value, exponent).is_some() {
            continue;
        }
        match (exponent + 1..EXPONENTS).find(|exponent| mantissa(*value, *exponent).is_some()) {
            Some(larger) if value.is_finite() => exponent = larger,
            _ => odd += 1,
        }
        if odd > allowed {
            return None;
        }
    }
    let mut found = Decimals { exponent, mantissas: Vec::with_capacity(values.len()), listed: Vec::new() };
    let mut last = values.iter().find_map(|value| mantissa(*value, exponent))?;
    for (at, value) in values.iter().enumerate() {
        match mantissa(*value, exponent) {
            Some(mantissa) => last = mantissa,
            None => found.listed.push((at, value.to_bits())),
        }
        found.mantissas.push(last);
    }
    (found.listed.len() <= allowed).then_some(found)
}

pub fn write(values: &[f64], out: &mut Vec<u8>) {
    match decimals(values) {
        Some(decimals) => write_decimals(&decimals, out),
        None => write_bits(values, out),
    }
}

fn write_decimals(decimals: &Decimals, out: &mut Vec<u8>) {
    let mantissas = &decimals.mantissas;
    let steps: Vec<i64> = mantissas.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
    let shared = steps.iter().fold(0, |all, step| all | step);
    let shift = if shared == 0 { 0 } else { shared.trailing_zeros() };
    let shifted = || steps.iter().map(|step| step >> shift);
    let least = shifted().min().unwrap_or(0);
    let rising = Widths::of(shifted().map(|step| step.wrapping_sub(least) as u64)).best().1;
    let stepping = Widths::of(shifted().map(zigzag)).best().1;
    let turns = |steps: &[i64]| -> Vec<u64> {
        let mut before = 0i64;
        let turn = |step: &i64| zigzag((step >> shift).wrapping_sub(std::mem::replace(&mut before, step >> shift)));
        steps.iter().map(turn).collect()
    };
    // Even growth is the only thing that turns are better at, and it makes steps that are alike but not small.
    let turned = if stepping > 0 { Some(turns(&steps)) } else { None };
    let turning = turned.as_ref().map_or(u64::MAX, |turned| Widths::of(turned.iter().copied()).best().1);
    let (way, column) = match turned {
        Some(turned) if turning < rising && turning < stepping => (TURNS, turned),
        _ if rising < stepping => (RISING, shifted().map(|step| step.wrapping_sub(least) as u64).collect()),
        _ => (STEPS, shifted().map(zigzag).collect()),
    };
    out.push(way);
    let flags = if shift > 0 { SHIFTED } else { 0 } | if decimals.listed.is_empty() { 0 } else { LISTED };
    out.push(decimals.exponent as u8 | flags);
    if shift > 0 {
        out.push(shift as u8);
    }
    if !decimals.listed.is_empty() {
        put_varint(out, decimals.listed.len() as u64);
        for (at, bits) in &decimals.listed {
            put_varint(out, *at as u64);
            out.extend_from_slice(&bits.to_le_bytes());
        }
    }
    put_zigzag(out, mantissas[0]);
    if way == RISING {
        put_zigzag(out, least);
    }
    ints::pack(&column, out);
}

fn write_bits(values: &[f64], out: &mut Vec<u8>) {
    let first = values[0].to_bits();
    if values.iter().all(|value| value.to_bits() == first) {
        out.push(SAME);
        out.extend_from_slice(&first.to_le_bytes());
        return;
    }
    let mut chained: Vec<u64> = values.windows(2).map(|two| two[0].to_bits() ^ two[1].to_bits()).collect();
    let shift = chained.iter().fold(0, |all, bits| all | bits).trailing_zeros();
    chained.iter_mut().for_each(|bits| *bits >>= shift);
    let highest = values.iter().map(|value| value.to_bits() >> 52).max().unwrap_or(0);
    let exponents: Vec<u64> = values.iter().map(|value| highest - (value.to_bits() >> 52)).collect();
    let mut fractions: Vec<u64> = values.iter().map(|value| value.to_bits() & FRACTION).collect();
    let zeros = fractions.iter().fold(0, |all, bits| all | bits).trailing_zeros().min(52);
    fractions.iter_mut().for_each(|bits| *bits >>= zeros);
    let cost = |column: &[u64]| Widths::of(column.iter().copied()).best().1;
    if cost(&chained) + 64 <= cost(&exponents) + cost(&fractions) {
        out.push(CHAINED);
        out.push(shift as u8);
        out.extend_from_slice(&first.to_le_bytes());
        ints::pack(&chained, out);
    } else {
        out.push(SPLIT);
        out.push(zeros as u8);
        put_varint(out, highest);
        ints::pack(&exponents, out);
        ints::pack(&fractions, out);
    }
}

/// Reads the values in `range` of a column of `count`, which is not empty. What is before it is passed over as whole numbers,
/// what is behind it is not looked at: a query of a minute wants few values of a long chunk.
pub fn read(
    reader: &mut Reader<'_>,
    count: usize,
    range: Range<usize>,
    words: &mut Vec<u64>,
    into: &mut Vec<f64>,
) -> Result<(), Torn> {
    let way = reader.u8()?;
    words.clear();
    match way {
        SAME => into.resize(into.len() + range.len(), f64::from_bits(reader.u64()?)),
        STEPS | RISING | TURNS => read_decimals(way, reader, count, range, words, into)?,
        CHAINED => {
            let shift = shift(reader)?;
            let mut bits = reader.u64()?;
            ints::unpack_first(reader, count - 1, range.end - 1, words)?;
            let (passed, wanted) = words.split_at(range.start);
            passed.iter().for_each(|word| bits ^= word << shift);
            into.push(f64::from_bits(bits));
            into.extend(wanted.iter().map(|word| {
                bits ^= word << shift;
                f64::from_bits(bits)
            }));
        }
        SPLIT => {
            let shift = shift(reader)?;
            let highest = reader.varint()?;
            ints::unpack(reader, count, words)?;
            ints::unpack_first(reader, count, range.end, words)?;
            let (exponents, fractions) = words.split_at(count);
            let both = exponents[range.clone()].iter().zip(&fractions[range]);
            into.extend(both.map(|(exponent, fraction)| {
                f64::from_bits((highest.wrapping_sub(*exponent) << 52) | (fraction << shift & FRACTION))
            }));
        }
        _ => return Err(Torn("floats are stored in no known way")),
    }
    Ok(())
}

fn shift(reader: &mut Reader<'_>) -> Result<u32, Torn> {
    let shift = u32::from(reader.u8()?);
    if shift < 64 { Ok(shift) } else { Err(Torn("bits are shifted too far")) }
}

/// Appends decimals. Whole numbers are not divided, which takes as long as all else.
fn extend(mantissas: impl Iterator<Item = i64>, power: f64, into: &mut Vec<f64>) {
    if power == 1.0 {
        into.extend(mantissas.map(|mantissa| mantissa as f64));
    } else {
        into.extend(mantissas.map(|mantissa| mantissa as f64 / power));
    }
}

fn read_decimals(
    way: u8,
    reader: &mut Reader<'_>,
    count: usize,
    range: Range<usize>,
    words: &mut Vec<u64>,
    into: &mut Vec<f64>,
) -> Result<(), Torn> {
    let flags = reader.u8()?;
    let exponent = usize::from(flags & 0x0f);
    let power = *POWERS.get(exponent).ok_or(Torn("an exponent is too large"))?;
    let shift = if flags & SHIFTED == 0 { 0 } else { shift(reader)? };
    let listed = if flags & LISTED == 0 { 0 } else { reader.count(9)? };
    let mut list = *reader;
    for _ in 0..listed {
        reader.varint()?;
        reader.u64()?;
    }
    let begin = reader.zigzag()?;
    let mut mantissa = begin;
    let least = if way == RISING { reader.zigzag()? } else { 0 };
    ints::unpack_first(reader, count - 1, range.end - 1, words)?;
    let start = into.len();
    let value = |mantissa: i64| mantissa as f64 / power;
    let (passed, wanted) = words.split_at(range.start);
    match way {
        STEPS => {
            let mut next = |word: &u64| {
                mantissa = mantissa.wrapping_add(unzigzag(*word) << shift);
                mantissa
            };
            let first = passed.iter().map(&mut next).last();
            into.push(value(first.unwrap_or(begin)));
            extend(wanted.iter().map(next), power, into);
        }
        RISING => {
            let mut next = |word: &u64| {
                mantissa = mantissa.wrapping_add((*word as i64).wrapping_add(least) << shift);
                mantissa
            };
            let first = passed.iter().map(&mut next).last();
            into.push(value(first.unwrap_or(begin)));
            extend(wanted.iter().map(next), power, into);
        }
        _ => {
            let mut step = 0i64;
            let mut next = |word: &u64| {
                step = step.wrapping_add(unzigzag(*word));
                mantissa = mantissa.wrapping_add(step << shift);
                mantissa
            };
            let first = passed.iter().map(&mut next).last();
            into.push(value(first.unwrap_or(begin)));
            extend(wanted.iter().map(next), power, into);
        }
    }
    for _ in 0..listed {
        let at = usize::try_from(list.varint()?).ok();
        let bits = list.u64()?;
        match at {
            Some(at) if range.contains(&at) => into[start + at - range.start] = f64::from_bits(bits),
            Some(at) if at < count => {}
            _ => return Err(Torn("a listed value lies outside")),
        }
    }
    Ok(())
}
