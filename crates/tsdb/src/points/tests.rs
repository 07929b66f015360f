//! Points in blocks come out as they went in.

use super::Points;
use crate::column::Columns;

fn read(points: &Points, slot: u32, min: i64, max: i64) -> Vec<(i64, f64)> {
    let mut columns = Columns::default();
    points.read(slot, min, max, &mut columns);
    columns.times.into_iter().zip(columns.values).collect()
}

#[test]
fn series_that_are_appended_to_by_turns_are_read_apart() {
    let mut points = Points::default();
    points.reach(3);
    for round in 0..100i64 {
        assert!(points.push(0, 1000 + round * 10, round as f64));
        if round % 3 == 0 {
            assert!(points.push(2, -5000 + round, -(round as f64)));
        }
    }
    let zero: Vec<(i64, f64)> = (0..100).map(|round| (1000 + round * 10, round as f64)).collect();
    assert_eq!(read(&points, 0, i64::MIN, i64::MAX), zero);
    for (min, max) in [(1000, 1000), (1001, 1009), (1070, 1090), (1075, 1985), (0, 999), (1990, 9999), (1991, 9999)] {
        let within: Vec<(i64, f64)> = zero.iter().copied().filter(|point| (min..=max).contains(&point.0)).collect();
        assert_eq!(read(&points, 0, min, max), within, "{min} to {max}");
    }
    assert_eq!(read(&points, 2, i64::MIN, i64::MAX).len(), 34);
    assert_eq!(read(&points, 1, i64::MIN, i64::MAX), []);
    assert_eq!((points.has(0), points.has(1), points.has(7)), (true, false, false));
    assert_eq!(points.slots().collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn what_is_too_far_behind_the_first_point_is_not_taken() {
    let mut points = Points::default();
    points.reach(1);
    assert!(points.push(0, 5, 1.0));
    assert!(!points.push(0, 5 + (1 << 32), 2.0));
    assert!(!points.push(0, 4, 2.0));
    assert!(!points.push(1, 5, 2.0));
    assert!(points.push(0, 4 + (1 << 32), 3.0));
    assert_eq!(read(&points, 0, i64::MIN, i64::MAX), [(5, 1.0), (4 + (1 << 32), 3.0)]);
}

#[test]
fn memory_of_points_that_were_taken_out_is_used_again() {
    let mut points = Points::default();
    points.reach(20_000);
    for turn in 0..4 {
        for slot in 0..20_000 {
            assert!(points.push(slot, turn, f64::from(slot)));
        }
        let taken = points.take();
        assert!(!points.has(5));
        assert_eq!(read(&taken, 19_999, 0, 10), [(turn, 19_999.0)]);
        assert_eq!((taken.pool.pieces.len(), points.pool.spare.len()), (5, 0));
        points.recycle(taken);
        assert_eq!(points.pool.spare.len(), 5);
    }
}
