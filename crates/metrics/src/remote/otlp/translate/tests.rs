//! Points as the series that Prometheus makes of them.

use tsdb::column::HistogramValue;

use super::*;
use crate::{
    config::Config,
    remote::otlp::message::{Metric, Request, Resource, Scope},
};

/// Two seconds after the beginning of time, in nanoseconds.
const TIME: u64 = 2_000_000_000;

fn settings(yaml: &str) -> Settings {
    let config = Config::parse(yaml, |_| None).unwrap();
    Settings::new(&config.otlp, Duration::from_mins(5), false, false)
}

fn texts(pairs: &[(&str, &str)]) -> Attributes {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Any::Text((*value).to_owned()))).collect()
}

fn point(attributes: &[(&str, &str)]) -> Point {
    Point { attributes: texts(attributes), time: TIME, ..Point::default() }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), description: "What it is.".to_owned(), data: Some(data) }
}

fn request(resource: &[(&str, &str)], metrics: Vec<Metric>) -> Request {
    let scope = Scope { name: "lib".to_owned(), version: "1".to_owned(), metrics, ..Scope::default() };
    Request { resources: vec![Resource { attributes: texts(resource), scopes: vec![scope] }] }
}

fn gauge(attributes: &[(&str, &str)]) -> Vec<Metric> {
    vec![metric("g", "", Data::Gauge(vec![Number { point: point(attributes), value: 1.0 }]))]
}

/// Series in lines: labels, times and values.
fn lines(request: &Request, settings: &Settings) -> (Vec<String>, Done) {
    let mut lines = Vec::new();
    let done = translate(request, settings, &mut |series| {
        let labels = series.labels.unwrap();
        let floats = series.floats.iter().map(|float| format!(" {}@{}", float.value, float.time));
        lines.push(format!("{labels}{}", floats.collect::<String>()));
        Ok(())
    });
    (lines, done.unwrap())
}

#[test]
fn a_service_is_a_job_and_what_else_is_known_of_it_is_target_info() {
    let identity = [("service.name", "shop"), ("service.namespace", "eu"), ("service.instance.id", "7")];
    let resource = [identity.as_slice(), &[("host.name", "n1")]].concat();
    let (found, _) = lines(&request(&resource, gauge(&[("http.route", "/")])), &settings(""));
    assert_eq!(
        found,
        [
            r#"{__name__="g", http_route="/", instance="7", job="eu/shop"} 1@2000"#,
            r#"{__name__="target_info", host_name="n1", instance="7", job="eu/shop"} 1@2000"#,
        ]
    );
    let (found, _) = lines(&request(&identity, gauge(&[])), &settings(""));
    assert_eq!(found.len(), 1, "nothing else is known: {found:?}");
    let keep = settings("otlp: {keep_identifying_resource_attributes: true}");
    let (found, _) = lines(&request(&resource, gauge(&[])), &keep);
    assert!(found[1].contains(r#"service_name="shop""#), "{found:?}");
}

#[test]
fn attributes_of_resources_and_scopes_become_labels_where_that_is_configured() {
    let resource = [("service.name", "shop"), ("host.name", "n1"), ("os", "x")];
    let of = |yaml: &str| lines(&request(&resource, gauge(&[])), &settings(yaml)).0.remove(0);
    assert_eq!(
        of("otlp: {promote_resource_attributes: [host.name]}"),
        r#"{__name__="g", host_name="n1", job="shop"} 1@2000"#
    );
    assert_eq!(
        of("otlp: {promote_all_resource_attributes: true, ignore_resource_attributes: [service.name]}"),
        r#"{__name__="g", host_name="n1", job="shop", os="x"} 1@2000"#
    );
    assert_eq!(
        of("otlp: {promote_scope_metadata: true}"),
        r#"{__name__="g", job="shop", otel_scope_name="lib", otel_scope_version="1"} 1@2000"#
    );
    let (found, _) =
        lines(&request(&[], gauge(&[("http.route", "/")])), &settings("otlp: {translation_strategy: NoTranslation}"));
    assert_eq!(found, [r#"{__name__="g", "http.route"="/"} 1@2000"#]);
}

#[test]
fn attributes_that_become_the_same_label_are_joined_and_told() {
    let (found, done) = lines(&request(&[], gauge(&[("a.b", "1"), ("a_b", "2")])), &settings(""));
    assert_eq!(found, [r#"{__name__="g", a_b="1;2"} 1@2000"#]);
    assert_eq!(done.warnings[0].category, "label_name_collision");
    assert!(done.warnings[0].text.contains(r#""a.b", "a_b" collide as label "a_b""#), "{:?}", done.warnings);
}

#[test]
fn sums_count_from_a_beginning_or_are_refused() {
    let sum = |temporality, monotonic| {
        let points = vec![Number { point: point(&[]), value: 3.0 }];
        vec![metric("requests", "", Data::Sum { points, temporality, monotonic })]
    };
    let all = |metrics| lines(&request(&[], metrics), &settings(""));
    assert_eq!(all(sum(Temporality::Cumulative, true)).0, [r#"{__name__="requests_total"} 3@2000"#]);
    assert_eq!(all(sum(Temporality::Cumulative, false)).0, [r#"{__name__="requests"} 3@2000"#]);
    for temporality in [Temporality::Delta, Temporality::Unspecified] {
        let (found, done) = all(sum(temporality, true));
        assert_eq!(found, [] as [String; 0]);
        assert_eq!(done.errors, [r#"invalid temporality and type combination for metric "requests""#]);
    }
    let kept = Settings { delta: true, ..settings("") };
    assert_eq!(lines(&request(&[], sum(Temporality::Delta, true)), &kept).0.len(), 1);
}

fn explicit(bounds: &[f64], counts: &[u64]) -> Explicit {
    let count = counts.iter().sum();
    Explicit { point: point(&[]), count, sum: Some(4.5), counts: counts.to_vec(), bounds: bounds.to_vec() }
}

fn histogram(points: Vec<Explicit>) -> Vec<Metric> {
    vec![metric("time", "s", Data::Histogram { points, temporality: Temporality::Cumulative })]
}

#[test]
fn histograms_with_bounds_are_classic_ones() {
    let mut point = explicit(&[0.5, 1.0], &[1, 2, 3]);
    let example = |value| message::Exemplar { value: Some(value), trace: vec![0xab], ..message::Exemplar::default() };
    point.point.exemplars = [0.1, 0.7, 9.0].map(example).to_vec();
    let mut with = Vec::new();
    let request = request(&[], histogram(vec![point]));
    let (found, _) = lines(&request, &settings(""));
    assert_eq!(
        found,
        [
            r#"{__name__="time_seconds_sum"} 4.5@2000"#,
            r#"{__name__="time_seconds_count"} 6@2000"#,
            r#"{__name__="time_seconds_bucket", le="0.5"} 1@2000"#,
            r#"{__name__="time_seconds_bucket", le="1"} 3@2000"#,
            r#"{__name__="time_seconds_bucket", le="+Inf"} 6@2000"#,
        ]
    );
    translate(&request, &settings(""), &mut |series| {
        with.extend(series.exemplars.into_iter().map(|exemplar| exemplar.unwrap().value));
        Ok(())
    })
    .unwrap();
    assert_eq!(with, [0.1, 0.7, 9.0]);
}

fn native(request: &Request, settings: &Settings) -> Histogram {
    let mut found = None;
    let done = translate(request, settings, &mut |mut series| {
        if let Some(Timed { value: HistogramValue::Integer(histogram), .. }) = series.histograms.pop() {
            found = Some(Histogram::clone(&histogram));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(done.errors, [] as [String; 0]);
    let found = found.expect("a histogram");
    found.check().unwrap();
    found
}

fn counts(histogram: &Histogram) -> Vec<(i32, f64)> {
    histogram.to_float().positive.indexed().filter(|bucket| bucket.1 != 0.0).collect()
}

#[test]
fn histograms_with_bounds_keep_them_where_that_is_configured() {
    let custom = settings("otlp: {convert_histograms_to_nhcb: true}");
    let found = native(&request(&[], histogram(vec![explicit(&[0.5, 1.0, 2.0], &[0, 2, 0, 3])])), &custom);
    assert_eq!((found.schema, found.count, found.sum), (CUSTOM_SCHEMA, 5, 4.5));
    assert_eq!(&*found.custom, [0.5, 1.0, 2.0]);
    assert_eq!(counts(&found), [(1, 2.0), (3, 3.0)]);
}

fn exponential(scale: i32, offset: i32, counts: &[u64]) -> Request {
    let points = vec![Exponential {
        point: point(&[]),
        count: counts.iter().sum::<u64>() + 1,
        sum: Some(1.0),
        scale,
        zero_count: 1,
        positive: message::Buckets { offset, counts: counts.to_vec() },
        negative: message::Buckets::default(),
    }];
    request(&[], vec![metric("size", "By", Data::Exponential { points, temporality: Temporality::Cumulative })])
}

#[test]
fn exponential_histograms_are_native_ones() {
    // Bucket 0 is (1, 2], which is named 1 here.
    let found = native(&exponential(0, 0, &[4, 0, 5]), &settings(""));
    assert_eq!((found.schema, found.zero_count, found.count), (0, 1, 10));
    assert_eq!(counts(&found), [(1, 4.0), (3, 5.0)]);
    let wide = native(&exponential(0, -3, &[1, 0, 0, 0, 0, 0, 2]), &settings(""));
    assert_eq!(counts(&wide), [(-2, 1.0), (4, 2.0)]);
    assert_eq!(wide.positive.spans.len(), 2);
    // Two levels finer than any that is kept: four buckets are one.
    let fine = native(&exponential(10, -1, &[1, 2, 3, 4, 5, 6]), &settings(""));
    assert_eq!((fine.schema, counts(&fine)), (8, vec![(0, 1.0), (1, 14.0), (2, 6.0)]));
}

#[test]
fn scales_and_indexes_that_no_histogram_has_are_refused() {
    let errors = |request: &Request| lines(request, &settings("")).1.errors;
    assert!(errors(&exponential(-5, 0, &[1]))[0].contains("Scale must be >= -4, was -5"));
    assert!(errors(&exponential(0, i32::MAX, &[1]))[0].contains("out of range"));
    assert_eq!(errors(&exponential(i32::MAX, i32::MIN, &[1, 1])), [] as [String; 0]);
}

#[test]
fn summaries_are_quantiles_with_count_and_sum() {
    let points = vec![Quantiles { point: point(&[]), count: 2, sum: 3.0, values: vec![(0.5, 1.5), (0.99, 2.0)] }];
    let (found, _) = lines(&request(&[], vec![metric("wait", "s", Data::Summary(points))]), &settings(""));
    assert_eq!(
        found,
        [
            r#"{__name__="wait_seconds_sum"} 3@2000"#,
            r#"{__name__="wait_seconds_count"} 2@2000"#,
            r#"{__name__="wait_seconds", quantile="0.5"} 1.5@2000"#,
            r#"{__name__="wait_seconds", quantile="0.99"} 2@2000"#,
        ]
    );
}

#[test]
fn a_point_without_value_ends_its_series() {
    let mut metrics = gauge(&[]);
    if let Some(Data::Gauge(points)) = &mut metrics[0].data {
        points[0].point.flags = 1;
    }
    let mut ended = Vec::new();
    translate(&request(&[], metrics), &settings(""), &mut |series| {
        ended.extend(series.floats.iter().map(|float| tsdb::sample::is_stale(float.value)));
        Ok(())
    })
    .unwrap();
    assert_eq!(ended, [true]);
}

#[test]
fn what_stands_for_too_much_is_refused() {
    let long = "x".repeat(1 << 20);
    let points = vec![Explicit { point: point(&[("a", &long)]), ..explicit(&[1.0; 200], &[1; 201]) }];
    let refused = translate(&request(&[], histogram(points)), &settings(""), &mut |_| Ok(()));
    assert!(refused.unwrap_err().to_string().contains("labels of a request are too long"));
    let mut metrics = gauge(&[]);
    if let Some(Data::Gauge(points)) = &mut metrics[0].data {
        let mut late = points[0].clone();
        late.point.time = i64::MAX as u64;
        points.push(late);
    }
    let far = translate(&request(&[("service.name", "a"), ("b", "c")], metrics), &settings(""), &mut |_| Ok(()));
    assert!(far.unwrap_err().to_string().contains("too far apart"));
}

#[test]
fn values_of_attributes_are_written_as_labels() {
    let map = Any::Map(vec![("b".to_owned(), Any::Text("<x>".to_owned())), ("a".to_owned(), Any::Int(-1))]);
    for (value, expected) in [
        (Any::Bool(true), "true"),
        (Any::Float(1.0), "1"),
        (Any::Float(1e21), "1e+21"),
        (Any::Float(1e-7), "1e-7"),
        (Any::Float(f64::INFINITY), "json: unsupported value: +Inf"),
        (Any::Bytes(vec![1, 2]), "AQI="),
        (Any::List(vec![Any::Empty, Any::Float(0.5), map]), r#"[null,0.5,{"a":-1,"b":"\u003cx\u003e"}]"#),
        (Any::List(vec![Any::Float(f64::NAN)]), ""),
    ] {
        assert_eq!(text(&value), expected, "{value:?}");
    }
}
