//! The column of times: the first, the first step, and how each later step differs from the one before.

use crate::{
    bytes::{Reader, Torn, put_zigzag, unzigzag, zigzag},
    ints,
};

pub fn write(times: &[i64], base: i64, out: &mut Vec<u8>) {
    put_zigzag(out, times[0].wrapping_sub(base));
    let Some(second) = times.get(1) else { return };
    put_zigzag(out, second.wrapping_sub(times[0]));
    let turns: Vec<u64> = times
        .windows(3)
        .map(|three| zigzag(three[2].wrapping_sub(three[1]).wrapping_sub(three[1].wrapping_sub(three[0]))))
        .collect();
    ints::pack(&turns, out);
}

pub fn read(
    reader: &mut Reader<'_>,
    count: usize,
    base: i64,
    words: &mut Vec<u64>,
    into: &mut Vec<i64>,
) -> Result<(), Torn> {
    let mut time = reader.zigzag()?.wrapping_add(base);
    into.push(time);
    if count < 2 {
        return Ok(());
    }
    let mut step = reader.zigzag()?;
    time = time.wrapping_add(step);
    into.push(time);
    // No bits and no exceptions: even steps, as scrapes on time have them.
    if let [0, 0, rest @ ..] = reader.0 {
        reader.0 = rest;
        into.extend((1..count as i64 - 1).map(|nth| time.wrapping_add(step.wrapping_mul(nth))));
        return Ok(());
    }
    words.clear();
    ints::unpack(reader, count - 2, words)?;
    into.extend(words.iter().map(|turn| {
        step = step.wrapping_add(unzigzag(*turn));
        time = time.wrapping_add(step);
        time
    }));
    Ok(())
}
