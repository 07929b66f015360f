//! Tests of reading and writing small things.

use super::*;

#[test]
fn numbers_come_back() {
    for value in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN, 1 << 40] {
        let mut out = Vec::new();
        put_zigzag(&mut out, value);
        let mut reader = Reader(&out);
        assert_eq!((reader.zigzag(), reader.is_empty()), (Ok(value), true));
    }
}

#[test]
fn a_count_never_exceeds_what_follows() {
    let mut out = Vec::new();
    put_varint(&mut out, 1 << 40);
    out.extend_from_slice(&[0; 9]);
    assert!(Reader(&out).count(1).is_err());
    assert!(Reader(&out).bytes().is_err());
}

#[test]
fn a_number_without_end_is_refused() {
    assert!(Reader(&[0xff; 20]).varint().is_err());
    assert!(Reader(&[0xff; 3]).varint().is_err());
}
