//! Tests of packed columns.

use super::*;
use crate::random::Random;

fn check(values: &[u64]) -> usize {
    let mut out = Vec::new();
    pack(values, &mut out);
    let mut reader = Reader(&out);
    let mut back = vec![7];
    unpack(&mut reader, values.len(), &mut back).expect("what was written is read");
    assert_eq!(&back[1..], values);
    assert!(reader.is_empty());
    out.len()
}

#[test]
fn columns_of_every_width_come_back() {
    let mut random = Random::new(1);
    for width in 0..=64u32 {
        for count in [0, 1, 2, 7, 8, 9, 63, 120, 481] {
            let values: Vec<u64> =
                (0..count).map(|_| if width == 0 { 0 } else { random.next() >> (64 - width) }).collect();
            check(&values);
        }
    }
}

#[test]
fn a_few_large_numbers_do_not_widen_the_others() {
    let mut values = vec![5u64; 120];
    values[40] = u64::MAX;
    values[119] = 1 << 50;
    assert!(check(&values) < 120 * 3 / 8 + 40);
    assert_eq!(check(&[0; 400]), 2);
}

#[test]
fn bad_columns_are_refused_and_never_panic() {
    let mut random = Random::new(2);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.next() as u8).collect();
        let mut back = Vec::new();
        let _ = unpack(&mut Reader(&bytes), random.below(200) as usize, &mut back);
        assert!(back.len() <= 200);
    }
}
