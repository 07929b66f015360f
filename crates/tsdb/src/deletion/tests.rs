//! Tests of deleted ranges.

use super::*;
use crate::random::Random;

#[test]
fn ranges_say_what_each_of_them_said() {
    let mut random = Random::new(12);
    for _ in 0..500 {
        let (mut ranges, mut plain) = (Vec::new(), [false; 64]);
        for _ in 0..random.below(8) {
            let min = random.below(60) as i64;
            let max = min + random.below(4) as i64;
            add(&mut ranges, (min, max));
            plain[min as usize..=max as usize].fill(true);
        }
        assert!(ranges.windows(2).all(|two| two[0].1 + 1 < two[1].0), "{ranges:?}");
        for (time, plain) in plain.iter().enumerate() {
            assert_eq!(covers(&ranges, time as i64), *plain, "{ranges:?} at {time}");
        }
    }
    let mut ranges = vec![(5, 6)];
    add(&mut ranges, (i64::MIN, i64::MAX));
    assert_eq!(ranges, [(i64::MIN, i64::MAX)]);
}
