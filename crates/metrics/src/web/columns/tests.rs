//! Columns, byte by byte: <https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries> says what they stand for.

use http::HeaderMap;
use promql::value::Stream;
use tsdb::labels::Labels;

use super::{fits, pieces, takes};

fn stream(pairs: &[(&str, &str)], floats: &[(i64, f64)]) -> Stream {
    Stream { labels: Labels::from_pairs(pairs.iter().copied()), floats: floats.to_vec(), histograms: Vec::new() }
}

fn f64_at(bytes: &[u8], at: usize) -> f64 {
    f64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn even_points_have_one_time_and_uneven_ones_have_all() {
    let even = stream(&[("a", "é\"")], &[(1000, 1.5), (2000, f64::NAN), (3000, -2.0)]);
    let gap = stream(&[], &[(1000, 1.0), (3000, 3.0)]);
    let none = stream(&[], &[]);
    assert!(fits(&[even.clone(), gap.clone()]));
    let bytes: Vec<u8> = pieces(vec![even, gap, none], 1000, &["careful".into()], &[]).flatten().collect();
    assert_eq!(&bytes[..8], b"columns1");
    let labels = "{\"a\":\"é\\\"\"}";
    let padded = labels.len().next_multiple_of(8);
    assert_eq!([8, 12, 16, 20].map(|at| u32_at(&bytes, at)), [padded as u32, 3, 0, 0]);
    assert_eq!(f64_at(&bytes, 24), 1000.0);
    assert_eq!(std::str::from_utf8(&bytes[32..32 + padded]).unwrap().trim_end(), labels);
    let values = 32 + padded;
    assert_eq!((f64_at(&bytes, values), f64_at(&bytes, values + 16)), (1.5, -2.0));
    assert!(f64_at(&bytes, values + 8).is_nan());
    let second = values + 24;
    assert_eq!([0, 4, 8].map(|at| u32_at(&bytes, second + at)), [8, 2, 2]);
    let times = second + 24 + 8;
    assert_eq!([0, 8, 16, 24].map(|at| f64_at(&bytes, times + at)), [1000.0, 3000.0, 1.0, 3.0]);
    let third = times + 32;
    assert_eq!([0, 4, 8].map(|at| u32_at(&bytes, third + at)), [8, 0, 0]);
    let end = third + 24 + 8;
    assert_eq!(u32_at(&bytes, end), u32::MAX);
    assert_eq!(&bytes[end + 8..], b"{\"warnings\":[\"careful\"],\"infos\":[]}");
    assert_eq!(u32_at(&bytes, end + 4) as usize, bytes.len() - end - 8);
}

#[test]
fn only_who_names_them_gets_columns() {
    let cases = [
        ("application/vnd.madang.columns, application/json;q=0.9", true),
        ("application/json, Application/Vnd.Madang.Columns;q=0.5", true),
        ("application/json", false),
        ("*/*", false),
        ("", false),
    ];
    for (value, expected) in cases {
        let mut headers = HeaderMap::new();
        headers.insert("accept", value.parse().unwrap());
        assert_eq!(takes(&headers), expected, "{value}");
    }
    assert!(!takes(&HeaderMap::new()));
}
