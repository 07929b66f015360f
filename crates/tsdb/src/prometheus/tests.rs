//! Tests of Prometheus' encodings.

use super::{bits::*, chunk, *};
use crate::{
    chunk::tests::histograms,
    column::{Columns, HistogramValue},
    random::Random,
    sample::STALE_NAN,
};

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(checksum(&[b"1234", b"56789"]), 0xe306_9283);
}

#[test]
fn numbers_in_bits_come_back() {
    let mut out = BitWriter::default();
    let signed = [0, 1, -1, 4, -3, 5, 33, -32, 256, 257, i64::MAX, i64::MIN, 1 << 55, (1 << 55) + 1, -131_071];
    let unsigned = [0, 1, 7, 8, 63, 64, 511, 4095, 4096, 1 << 25, u64::MAX, 1 << 56];
    out.bits(5, 3);
    signed.iter().for_each(|value| out.signed_varbit(*value));
    unsigned.iter().for_each(|value| out.varbit(*value));
    out.uvarint(300);
    let mut reader = BitReader::new(&out.bytes);
    assert_eq!(reader.bits(3), Ok(5));
    signed.iter().for_each(|value| assert_eq!(reader.signed_varbit(), Ok(*value)));
    unsigned.iter().for_each(|value| assert_eq!(reader.varbit(), Ok(*value)));
    assert_eq!(reader.uvarint(), Ok(300));
    assert!(reader.bits(8).is_err());
}

fn check(columns: &Columns) -> Vec<chunk::Written> {
    let written = chunk::write(columns);
    let mut back = Columns::default();
    for one in &written {
        chunk::read(one.encoding, &one.bytes, &mut back).expect("what was written is read");
    }
    let (have, want) = (back.samples(), columns.samples());
    assert_eq!(have.len(), want.len());
    for (have, want) in have.iter().zip(&want) {
        assert!(have.0 == want.0 && have.1.same(&want.1), "{have:?} is not {want:?}");
    }
    written
}

#[test]
fn chunks_of_every_kind_come_back() {
    let mut random = Random::new(51);
    for round in 0..60 {
        let mut columns = Columns::default();
        let mut time = -5000;
        for n in 0..random.below(400) {
            let width = random.below(40);
            time += 1 + random.below(1 << width) as i64;
            columns.times.push(time);
            columns.values.push(match round % 4 {
                0 => n as f64,
                1 => f64::from_bits(random.next()),
                2 => [1.5, 1.5, STALE_NAN, -0.0][random.below(4) as usize],
                _ => random.below(1000) as f64 / 10.0,
            });
        }
        check(&columns);
    }
    for (integers, custom) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut columns = Columns { histograms: histograms(&mut random, 300, integers, custom), ..Columns::default() };
        for nth in (0..300).step_by(70) {
            columns.times.push(1_700_000_000_000 + nth * 15_000 + 1);
            columns.values.push(nth as f64);
        }
        check(&columns);
    }
    let one = [("a reset", 5.0, 3.0, 2), ("none", 3.0, 5.0, 1)];
    for (name, before, after, chunks) in one {
        let histogram = |count: f64| {
            let histogram = crate::histogram::FloatHistogram { count, ..Default::default() };
            HistogramValue::Float(std::sync::Arc::new(histogram))
        };
        let columns = Columns { histograms: vec![(1, histogram(before)), (2, histogram(after))], ..Columns::default() };
        assert_eq!(check(&columns).len(), chunks, "{name}");
    }
}

#[test]
fn nonsense_is_refused_and_never_panics() {
    let mut random = Random::new(52);
    for round in 0..30_000 {
        let bytes: Vec<u8> = (0..random.below(80)).map(|_| random.next() as u8).collect();
        let mut columns = Columns::default();
        let _ = chunk::read(1 + (round % 4) as u8, &bytes, &mut columns);
        assert!(columns.len() <= 1 << 16);
        let _ = index::IndexReader::new(&bytes);
    }
}
