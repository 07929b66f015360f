//! Samples as federation prints them.

use http::HeaderValue;

use super::*;

fn asked(accept: &str) -> Format {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
    Format::asked(&headers)
}

#[test]
fn the_format_is_what_the_client_likes_best() {
    let delimited = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let cases = [
        (String::new(), false, false),
        ("*/*".to_owned(), false, false),
        (format!("{delimited};escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.2"), true, true),
        (format!("text/plain;q=0.9,{delimited};q=0.5"), false, false),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5".into(),
            false,
            true,
        ),
    ];
    for (accept, protobuf, utf8) in cases {
        assert_eq!(asked(&accept), Format { protobuf, utf8 }, "{accept}");
    }
}

fn sample(pairs: &[(&str, &str)], value: Value) -> Newest {
    Newest { labels: Labels::from_pairs(pairs.iter().copied()), time: 1_000, value }
}

const EXTERNAL: &[(&str, &str)] = &[("instance", ""), ("region", "eu")];

fn written(family: &[Newest], format: Format) -> String {
    let external: Vec<_> = EXTERNAL.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    String::from_utf8(write(family, &external, format)).unwrap()
}

const PLAIN: Format = Format { protobuf: false, utf8: false };

#[test]
fn floats_get_the_labels_that_are_missing() {
    let family = [
        sample(&[("__name__", "up"), ("instance", "a:1")], Value::Float(1.0)),
        sample(&[("__name__", "up"), ("region", "us\"\n")], Value::Float(1_234_567.0)),
    ];
    assert_eq!(
        written(&family, PLAIN),
        "# TYPE up untyped\nup{instance=\"a:1\",region=\"eu\"} 1 1000\nup{region=\"us\\\"\\n\",instance=\"\"} 1.234567e+06 1000\n"
    );
}

#[test]
fn names_that_are_not_plain_are_escaped_or_quoted() {
    let family = [sample(&[("__name__", "a.b"), ("c.d", "e")], Value::Float(0.5))];
    assert_eq!(written(&family, PLAIN), "# TYPE a_b untyped\na_b{c_d=\"e\",instance=\"\",region=\"eu\"} 0.5 1000\n");
    assert_eq!(
        written(&family, Format { utf8: true, ..PLAIN }),
        "# TYPE \"a.b\" untyped\n{\"a.b\",\"c.d\"=\"e\",instance=\"\",region=\"eu\"} 0.5 1000\n"
    );
}

#[test]
fn listed_bounds_become_classic_and_exponential_ones_need_protobuf() {
    let custom = FloatHistogram {
        schema: tsdb::histogram::CUSTOM_SCHEMA,
        count: 6.0,
        sum: 10.0,
        positive: tsdb::histogram::Buckets::from_pairs([(0, 1.0), (2, 5.0)]),
        custom: vec![0.5, 1.0].into(),
        ..FloatHistogram::default()
    };
    let family = [sample(&[("__name__", "h"), ("instance", "i"), ("region", "r")], Value::Histogram(custom.into()))];
    let labels = "instance=\"i\",region=\"r\"";
    assert_eq!(
        written(&family, PLAIN),
        format!(
            "# TYPE h histogram\nh_bucket{{{labels},le=\"0.5\"}} 1 1000\nh_bucket{{{labels},le=\"1\"}} 1 1000\nh_bucket{{{labels},le=\"+Inf\"}} 6 1000\nh_sum{{{labels}}} 10 1000\nh_count{{{labels}}} 6 1000\n"
        )
    );
    let exponential = FloatHistogram { count: 1.0, ..FloatHistogram::default() };
    let family = [sample(&[("__name__", "h")], Value::Histogram(exponential.into()))];
    assert_eq!(written(&family, PLAIN), "");
    assert!(!write(&family, &[], Format { protobuf: true, utf8: false }).is_empty());
}
