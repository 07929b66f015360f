//! Tests of columns.

use super::*;

#[test]
fn of_samples_at_one_time_the_first_stays() {
    let mut columns = Columns { times: vec![5, 1, 5, 3], values: vec![1.0, 2.0, 3.0, 4.0], histograms: Vec::new() };
    columns.histograms.push((3, HistogramValue::stale_float()));
    columns.histograms.push((2, HistogramValue::stale_float()));
    columns.arrange();
    assert_eq!((columns.times.as_slice(), columns.values.as_slice()), (&[1, 3, 5][..], &[2.0, 4.0, 1.0][..]));
    assert_eq!(columns.histograms.iter().map(|sample| sample.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn removed_samples_are_gone_from_every_column() {
    let mut columns = Columns { times: vec![1, 3, 5], values: vec![1.0, 2.0, 3.0], histograms: Vec::new() };
    columns.histograms.push((4, HistogramValue::stale_integer()));
    columns.remove(|time| (3..5).contains(&time));
    assert_eq!((columns.times, columns.values, columns.histograms), (vec![1, 5], vec![1.0, 3.0], vec![]));
}

#[test]
fn disorder_is_seen_wherever_it_is() {
    for length in [0, 1, 2, 63, 64, 65, 128, 129, 130] {
        let times: Vec<i64> = (0..length).collect();
        assert!(ascending(&times), "{length}");
        for at in 1..times.len() {
            let mut other = times.clone();
            other[at] = other[at - 1];
            assert!(!ascending(&other), "{length} {at}");
        }
    }
}
