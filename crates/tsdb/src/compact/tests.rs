//! Tests of the choice of blocks.

use super::*;

fn extents(spans: &[(i64, i64)]) -> Vec<Extent> {
    spans.iter().map(|(min, max)| Extent { min: *min, max: *max, size: 10 }).collect()
}

#[test]
fn blocks_that_fill_a_range_or_lie_before_the_newest_become_one() {
    let ranges = [20, 60, 180];
    let cases: &[(&[(i64, i64)], Option<&[usize]>)] = &[
        (&[], None),
        (&[(0, 20)], None),
        (&[(0, 20), (20, 40)], None),
        (&[(0, 20), (20, 40), (40, 60)], None),
        (&[(0, 20), (20, 40), (40, 60), (60, 80)], Some(&[0, 1, 2])),
        (&[(0, 20), (40, 60), (60, 80)], Some(&[0, 1])),
        (&[(0, 20), (60, 80), (80, 100), (120, 140)], Some(&[1, 2])),
        (&[(0, 60), (60, 120), (120, 180), (180, 200)], Some(&[0, 1, 2])),
        (&[(0, 60), (60, 80), (80, 100)], None),
        (&[(0, 20), (10, 30), (30, 50)], Some(&[0, 1])),
        (&[(0, 60), (10, 30), (20, 80), (80, 100)], Some(&[0, 1, 2])),
        (&[(-60, -40), (-40, -20), (0, 20)], Some(&[0, 1])),
    ];
    for (spans, want) in cases {
        assert_eq!(choose(&extents(spans), &ranges).as_deref(), *want, "{spans:?}");
    }
}

#[test]
fn what_is_too_old_or_too_much_is_dropped() {
    let blocks = extents(&[(0, 20), (20, 40), (40, 60), (60, 80)]);
    assert_eq!(expired(&blocks, 0, 0, 0), [0usize; 0]);
    assert_eq!(expired(&blocks, 41, 0, 0), [0]);
    assert_eq!(expired(&blocks, 40, 0, 0), [0, 1]);
    assert_eq!(expired(&blocks, 0, 25, 0), [0, 1]);
    assert_eq!(expired(&blocks, 0, 25, 15), [0, 1, 2]);
    assert_eq!(expired(&blocks, 0, 40, 0), [0usize; 0]);
}
