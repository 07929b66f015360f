//! Messages of both versions, whole and broken.

use super::*;

fn series_of(each: impl Fn(&[u8], &mut Vec<Series>) -> Result<(), Wrong>, bytes: &[u8]) -> Result<Vec<Series>, Wrong> {
    let mut found = Vec::new();
    each(bytes, &mut found)?;
    Ok(found)
}

fn v1(bytes: &[u8]) -> Result<Vec<Series>, Wrong> {
    let each = |bytes: &[u8], found: &mut Vec<Series>| {
        each_v1(bytes, |series| {
            found.push(series);
            Ok(())
        })
    };
    series_of(each, bytes)
}

fn v2(bytes: &[u8]) -> Result<Vec<Series>, Wrong> {
    let each = |bytes: &[u8], found: &mut Vec<Series>| {
        each_v2(bytes, |series| {
            found.push(series);
            Ok(())
        })
    };
    series_of(each, bytes)
}

#[test]
fn version_one_is_read() {
    let mut request = Writer::default();
    request.message(1, |series| {
        for (name, value) in [("job", "a"), ("__name__", "up"), ("empty", "")] {
            series.message(1, |pair| {
                pair.text(1, name);
                pair.text(2, value);
            });
        }
        series.message(2, |sample| {
            sample.double(1, 1.5);
            sample.varint(2, 1_000);
        });
    });
    let found = v1(&request.0).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].labels.as_ref().unwrap().to_string(), "{__name__=\"up\", job=\"a\"}");
    assert_eq!(found[0].floats, [Timed { time: 1_000, value: 1.5, start: 0 }]);
}

fn referring(refs: &[u64]) -> Vec<u8> {
    let mut request = Writer::default();
    for symbol in ["", "__name__", "up", "job", "a", "trace", "x"] {
        request.text(4, symbol);
    }
    request.message(5, |series| {
        series.varints(1, refs.iter().copied());
        series.message(2, |sample| {
            sample.double(1, 2.0);
            sample.varint(2, 5);
            sample.varint(3, 1);
        });
        series.message(4, |exemplar| {
            exemplar.varints(1, [5, 6]);
            exemplar.double(2, 0.25);
            exemplar.varint(3, 4);
        });
        series.message(5, |metadata| {
            metadata.varint(1, 1);
            metadata.varint(3, 4);
        });
    });
    request.0
}

#[test]
fn version_two_is_read() {
    let found = v2(&referring(&[3, 4, 1, 2])).unwrap();
    let series = &found[0];
    assert_eq!(series.labels.as_ref().unwrap().to_string(), "{__name__=\"up\", job=\"a\"}");
    assert_eq!(series.floats, [Timed { time: 5, value: 2.0, start: 1 }]);
    assert_eq!(series.exemplars[0].as_ref().unwrap().labels.to_string(), "{trace=\"x\"}");
    let metadata = series.metadata.as_ref().unwrap().as_ref().unwrap();
    assert_eq!((metadata.kind.as_str(), metadata.help.as_str()), ("counter", "a"));
}

#[test]
fn wrong_references_are_named() {
    for (refs, expected) in [
        (&[1u64, 2, 3][..], "parsing labels for series: invalid labelRefs length 3"),
        (&[1, 99], "parsing labels for series: labelRefs 1 (name) and 99 (value) outside of symbols table (size 7)"),
        (&[3, 4], "invalid metric name or labels, got {job=\"a\"}"),
        (&[1, 2, 3, 4, 3, 2], "invalid labels for series, labels {__name__=\"up\", job=\"a\"}, duplicated label job"),
    ] {
        let found = v2(&referring(refs)).unwrap();
        assert!(found[0].labels.as_ref().unwrap_err().starts_with(&expected[..30]), "{:?}", found[0].labels);
    }
}

#[test]
fn histograms_come_back_as_they_went() {
    let integer = HistogramValue::Integer(
        Histogram {
            reset: ResetHint::NoReset,
            schema: 3,
            zero_threshold: 0.001,
            zero_count: 2,
            count: 7,
            sum: 12.5,
            positive: Buckets { spans: vec![Span { offset: -2, length: 2 }], values: vec![3, -1] },
            ..Histogram::default()
        }
        .into(),
    );
    let float = HistogramValue::Float(
        FloatHistogram {
            schema: tsdb::histogram::CUSTOM_SCHEMA,
            count: 1.5,
            positive: Buckets { spans: vec![Span { offset: 0, length: 1 }], values: vec![1.5] },
            custom: vec![0.5, 1.0].into(),
            ..FloatHistogram::default()
        }
        .into(),
    );
    for value in [integer, float] {
        let mut out = Writer::default();
        write_histogram(&mut out, 42, &value);
        let read = histogram(&out.0).unwrap();
        assert_eq!((read.time, read.value), (42, value));
    }
}

#[test]
fn small_requests_that_stand_for_much_are_refused() {
    let long = "x".repeat(600_000);
    let mut request = Writer::default();
    for symbol in ["", "__name__", &long] {
        request.text(4, symbol);
    }
    let mut several = request.clone();
    request.message(5, |series| series.varints(1, [1, 2, 2, 2]));
    assert!(matches!(v2(&request.0), Err(Wrong::Large("labels of a series are too long"))));
    for _ in 0..300 {
        several.message(5, |series| series.varints(1, [1, 2]));
    }
    assert!(matches!(v2(&several.0), Err(Wrong::Large("labels of a request are too long"))));
    let mut many = Writer::default();
    let mut symbols = Vec::new();
    for _ in 0..=SYMBOLS {
        symbols.extend_from_slice(&[0x22, 0]);
    }
    many.0 = symbols;
    assert!(matches!(v2(&many.0), Err(Wrong::Large("a request has too many symbols"))));
}

#[test]
fn torn_requests_are_refused_at_any_place() {
    let whole = referring(&[1, 2, 3, 4]);
    for end in 0..whole.len() {
        // Where a field ends a shorter request is sound; nothing may panic.
        let _ = v2(&whole[..end]);
        let _ = v1(&whole[..end]);
    }
    assert!(v2(&whole[..whole.len() - 1]).is_err());
}
