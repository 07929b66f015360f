//! Tables of what targets expose, right and wrong; bent input.

use prost::Message;
use tsdb::{
    column::HistogramValue,
    labels::{Builder, Labels, NAME},
    sample::NORMAL_NAN_BITS,
};

use super::{
    custom::Classic,
    negotiate::{Format, accept, format},
    number::{open_metrics, parse},
    protobuf::{self, Item, Measured, Options},
    text::{Event, Lines},
};
use crate::config::scrape::{DEFAULT_PROTOCOLS, Escaping, Protocol};

/// What a text says, a line each.
fn said(open: bool, text: &str) -> Result<Vec<String>, String> {
    let mut reader = Lines::new(open);
    let mut all = Vec::new();
    for line in text.split('\n') {
        if line.is_empty() && open {
            continue;
        }
        all.push(match reader.read(line.as_bytes())? {
            Event::Nothing => continue,
            Event::End => "end".to_owned(),
            Event::Kind(name, kind) => format!("{name} is {}", kind.name()),
            Event::Help(name, help) => format!("{name}: {help}"),
            Event::Unit(name, unit) => format!("{name} in {unit}"),
            Event::Sample(series, rest) => {
                let labels = reader.labels(series).labels();
                let time = rest.time.map(|time| format!(" @{time}")).unwrap_or_default();
                let exemplar = rest.exemplar.map(|text| {
                    let exemplar = reader.exemplar(text).unwrap();
                    format!(" # {} {} {:?}", exemplar.labels, exemplar.value, exemplar.timestamp)
                });
                let without = labels.without(|name| name == NAME);
                format!("{}{without} {}{time}{}", labels.metric(), rest.value, exemplar.unwrap_or_default())
            }
        });
    }
    reader.finish()?;
    Ok(all)
}

#[test]
fn text_is_read_as_prometheus_reads_it() {
    let cases: &[(&str, &[&str])] = &[
        ("a 1", &["a{} 1"]),
        ("a{} 1", &["a{} 1"]),
        ("a{b=\"c\"} 1", &["a{b=\"c\"} 1"]),
        ("a{b=\"c\",} 1", &["a{b=\"c\"} 1"]),
        ("a { b = \"c\" , d = \"e\" } \t 1 \t 1234 ", &["a{b=\"c\", d=\"e\"} 1 @1234"]),
        (" a:b_9{} -1.5e3", &["a:b_9{} -1500"]),
        ("a +Inf\nb -inf\nc NaN\nd nan", &["a{} inf", "b{} -inf", "c{} NaN", "d{} NaN"]),
        ("a 1e309x", &[]),
        (
            "# HELP a what\\n it \\\\ \"is\"\n# TYPE a counter\na 1",
            &["a: what\n it \\ \"is\"", "a is counter", "a{} 1"],
        ),
        ("#HELP a b\n# a comment\n#\n\n# HELPER a b\n#\tTYPE\ta gauge", &["a is gauge"]),
        ("# HELP a", &["a: "]),
        (
            "# TYPE s summary\ns{quantile=\"0\"} 1\ns{quantile=\"1.0e-1\"} 2",
            &["s is summary", "s{quantile=\"0.0\"} 1", "s{quantile=\"0.1\"} 2"],
        ),
        (
            "# TYPE h histogram\nh_bucket{le=\"1000000\"} 1\nh_bucket{le=\"+Inf\"} 2",
            &["h is histogram", "h_bucket{le=\"1e+06\"} 1", "h_bucket{le=\"+Inf\"} 2"],
        ),
        ("{\"my.metric\",\"a.b\"=\"c\",d=\"e\"} 1", &["my.metric{\"a.b\"=\"c\", d=\"e\"} 1"]),
        ("{a=\"b\",\"q\\\"uoted\"} 1", &["q\"uoted{a=\"b\"} 1"]),
        ("# HELP \"my.metric\" text", &["my.metric: text"]),
        ("a{b=\"x\\\"y\\\\z\\n\\t\"} 1", &["a{b=\"x\\\"y\\\\z\\n\\\\t\"} 1"]),
        ("a{b=\"\"} 1", &["a{} 1"]),
        ("a 12345678901234567890", &["a{} 12345678901234567000"]),
        ("a 0.1 9223372036854775807", &["a{} 0.1 @9223372036854775807"]),
    ];
    for (text, wanted) in cases {
        match said(false, text) {
            Ok(found) => assert_eq!(found, *wanted, "{text:?}"),
            Err(error) => assert!(wanted.is_empty(), "{text:?}: {error}"),
        }
    }
}

#[test]
fn open_metrics_is_read_as_prometheus_reads_it() {
    let text = "# HELP foo_seconds What\n# TYPE foo_seconds counter\n# UNIT foo_seconds seconds\nfoo_seconds_total{a=\"b\"} 17.0 1520879607.789 # {id=\"counter\"} 5 1520879608.1\nfoo_seconds_created 1520872607.123\n# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 3 # {trace=\"x y\",b=\"\"} 0.5\n# EOF\n";
    let wanted = [
        "foo_seconds: What",
        "foo_seconds is counter",
        "foo_seconds in seconds",
        "foo_seconds_total{a=\"b\"} 17 @1520879607789 # {id=\"counter\"} 5 Some(1520879608100)",
        "foo_seconds_created{} 1520872607.123",
        "i is info",
        "i_info{v=\"1\"} 1",
        "h is histogram",
        "h_bucket{le=\"1.0\"} 3 # {trace=\"x y\"} 0.5 None",
        "end",
    ];
    assert_eq!(said(true, text).unwrap(), wanted);
    assert_eq!(said(true, "# EOF").unwrap(), ["end"]);
}

#[test]
fn what_is_wrong_is_refused_with_the_reason() {
    let cases = [
        (false, "a", "expected value after metric"),
        (false, "a{", "expected label name"),
        (false, "a{b}", "expected equal"),
        (false, "a{b=c} 1", "expected label value"),
        (false, "a{b=\"c} 1", "expected label value"),
        (false, "a{b='c'} 1", "expected label value"),
        (false, "9a 1", "expected a valid start token"),
        (false, "a x", "strconv.ParseFloat: parsing \"x\": invalid syntax"),
        (false, "a 0x1p-2", "unsupported character in float"),
        (false, "a 1_000", "unsupported character in float"),
        (false, "a 1 x", "expected timestamp or new record"),
        (false, "a 1 1 1", "expected next entry after timestamp"),
        (false, "a 1 -1", "expected timestamp or new record"),
        (false, "a 1 99999999999999999999", "value out of range"),
        (false, "# TYPE a foo", "invalid metric type \"foo\""),
        (false, "# TYPE 9 counter", "expected metric name after TYPE"),
        (false, "{a=\"b\"} 1", "metric name not set"),
        (false, "a{\"b\"} 1", "metric name already set"),
        (false, "a{,} 1", "expected label name"),
        (false, "a 1\r", "invalid syntax"),
        (true, "a 1\n", "data does not end with # EOF"),
        (true, "# EOF\na 1", "unexpected data after # EOF"),
        (true, "a  1\n# EOF", "expected value after metric"),
        (true, "a 1 \n# EOF", "expected timestamp"),
        (true, "a{b=\"c\" d=\"e\"} 1\n# EOF", "expected comma or brace close"),
        (true, "# UNIT a_b c\n# EOF", "unit \"c\" not a suffix of metric \"a_b\""),
        (true, "# TYPE a untyped\n# EOF", "invalid metric type \"untyped\""),
        (true, "a 1 NaN\n# EOF", "invalid timestamp"),
        (true, "a 1 # {b=\"c\"}\n# EOF", "expected value after exemplar labels"),
        (true, "a 1 # {\"b\"} 1\n# EOF", "expected label name"),
        (true, "#HELP a b\n# EOF", "expected a valid start token"),
        (true, "# comment\n# EOF", "expected a valid start token"),
    ];
    for (open, text, wanted) in cases {
        let error = said(open, text).expect_err(text);
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
    let mut reader = Lines::new(false);
    assert!(reader.read(b"a{b=\"\xff\"} 1").unwrap_err().contains("UTF-8"));
    assert!(reader.read(&vec![b'a'; 2 << 20]).unwrap_err().contains("longer than"));
}

/// No input, however it is bent, makes the readers panic or run on.
#[test]
fn bent_input_is_read_or_refused_and_nothing_worse() {
    let seeds = [
        "# HELP a b\n# TYPE a histogram\na_bucket{le=\"0.1\",x=\"\\\"\\\\\\n\"} 1.5e3 123\n",
        "{\"my.metric\",\"a.b\"=\"c\"} NaN 1 # {id=\"x\"} 5 1.5\n# UNIT a_s s\n# EOF\n",
        "a{b=\"c\",} +Inf 1520879607.789 # {} 1\n# EOF",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    for round in 0..30_000 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => {
                    bytes.remove(at);
                    if bytes.is_empty() {
                        bytes.push(b'a');
                    }
                }
                2 => bytes.insert(at, b"{}\"\\,= \n#"[random(9)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        for open in [false, true] {
            let mut reader = Lines::new(open);
            for line in bytes.split(|byte| *byte == b'\n') {
                match reader.read(line) {
                    Ok(Event::Sample(series, rest)) => {
                        let _ = reader.labels(series).labels();
                        if let Some(text) = rest.exemplar {
                            assert!(reader.exemplar(text).is_some(), "{}", String::from_utf8_lossy(line));
                        }
                        // The short way reads the same.
                        let again = reader.rest(line, line.len() - line.len() + position(line, series)).unwrap();
                        assert_eq!(again.value.to_bits(), rest.value.to_bits());
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
        let _ = protobuf::split(&bytes);
        let _ = protobuf::family(&bytes, Options { native: true, classic: true, convert: true }, &mut |_| Ok(()));
    }
}

fn position(line: &[u8], series: &str) -> usize {
    series.as_ptr() as usize - line.as_ptr() as usize + series.len()
}

#[test]
fn numbers_are_the_nearest_floats() {
    for text in [
        "0",
        "1",
        "-1",
        "0.1",
        "123456.789",
        "9007199254740991",
        "9007199254740993",
        "1e22",
        "1.7976931348623157e308",
        "4.9e-324",
        "0.3",
        "2.675",
        "100000000000000000000",
        ".5",
        "5.",
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
    }
    assert_eq!(parse(b"NaN").unwrap().to_bits(), NORMAL_NAN_BITS);
    assert_eq!(parse(b"-0").unwrap().to_bits(), (-0.0f64).to_bits());
    for text in ["", "-", ".", "1e", "+nan", "1e400", "--1", "1.2.3", "0x10", " 1", "1 ", "infinit"] {
        assert_eq!(parse(text.as_bytes()), None, "{text}");
    }
    for (value, text) in [
        (1e6, "1e+06"),
        (123_456.0, "123456.0"),
        (1_234_567.0, "1.234567e+06"),
        (1e-5, "1e-05"),
        (0.25, "0.25"),
        (0.0, "0.0"),
        (-1.0, "-1.0"),
        (f64::INFINITY, "+Inf"),
        (1e21, "1e+21"),
    ] {
        assert_eq!(open_metrics(value), text);
    }
}

#[test]
fn formats_are_negotiated_as_prometheus_does() {
    let header = accept(&DEFAULT_PROTOCOLS, &Escaping::AllowUtf8);
    assert_eq!(
        header,
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
    );
    let text = Protocol::Text004;
    for (kind, fallback, wanted) in [
        ("text/plain; version=0.0.4; charset=utf-8", &Protocol::Unset, Ok(Format::Text)),
        ("application/openmetrics-text; version=1.0.0", &Protocol::Unset, Ok(Format::OpenMetrics)),
        (
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            &Protocol::Unset,
            Ok(Format::Protobuf),
        ),
        ("", &text, Ok(Format::Text)),
        ("text/html", &text, Ok(Format::Text)),
        ("application/openmetrics-text; version=2.0.0", &text, Ok(Format::Text)),
        ("", &Protocol::Unset, Err("blank Content-Type")),
        ("text/html", &Protocol::Unset, Err("unsupported Content-Type \"text/html\"")),
        ("text//plain;", &Protocol::Unset, Err("cannot parse Content-Type")),
        ("application/openmetrics-text; version=2.0.0", &Protocol::Unset, Err("openmetrics2 feature flag")),
    ] {
        match (format(kind, fallback), wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{kind}"),
            (Err(error), Err(wanted)) => assert!(error.contains(wanted), "{kind}: {error}"),
            (found, wanted) => panic!("{kind}: {found:?}, but {wanted:?}"),
        }
    }
}

#[test]
fn classic_histograms_become_native_ones() {
    let mut classic = Classic::default();
    for (bound, count) in [(0.1, 1.0), (1.0, 3.0), (f64::INFINITY, 4.0), (0.5, 2.0)] {
        classic.bucket(bound, count);
    }
    classic.count(4.0);
    classic.sum(2.5);
    let Ok(HistogramValue::Integer(histogram)) = classic.convert() else { panic!("an integer histogram") };
    assert_eq!(&*histogram.custom, [0.1, 0.5, 1.0]);
    assert_eq!((histogram.count, histogram.sum), (4, 2.5));
    assert_eq!(histogram.positive.values, [1, 0, 0, 0]);
    classic.clear();
    classic.bucket(1.0, 1.5);
    classic.count(2.0);
    assert!(matches!(classic.convert(), Ok(HistogramValue::Float(_))));
    for (parts, wanted) in [
        (&[(1.0, 3.0), (2.0, 2.0)][..], "count is not cumulative: 2 < 3"),
        (&[(1.0, -1.0)], "bucket count must be non-negative"),
        (&[(f64::INFINITY, 3.0)], "count mismatch"),
    ] {
        classic.clear();
        parts.iter().for_each(|part| classic.bucket(part.0, part.1));
        classic.count(9.0);
        assert!(classic.convert().unwrap_err().contains(wanted));
    }
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(int64, tag = "6")]
    time: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

fn read(family: &Family, options: Options) -> Result<Vec<(Labels, Measured, Option<i64>)>, String> {
    let bytes = family.encode_length_delimited_to_vec();
    let (body, length) = protobuf::split(&bytes)?.ok_or("not whole")?;
    assert_eq!(length, bytes.len());
    assert_eq!(protobuf::split(&bytes[..bytes.len() - 1])?, None);
    let mut all = Vec::new();
    protobuf::family(body, options, &mut |item| {
        if let Item::Sample { mut labels, value, time, .. } = item {
            all.push((labels.labels(), value, time));
        }
        Ok(())
    })?;
    Ok(all)
}

fn name(labels: &[(&str, &str)]) -> Labels {
    let mut builder = Builder::default();
    labels.iter().for_each(|(name, value)| {
        builder.set(name, value);
    });
    builder.labels()
}

#[test]
fn protocol_buffers_give_native_and_classic_histograms() {
    let histogram = Histogram {
        count: 4,
        sum: 5.0,
        bucket: vec![Bucket { count: 1, bound: 0.5 }, Bucket { count: 3, bound: 1.0 }],
        schema: 3,
        zero_threshold: 0.001,
        zero_count: 1,
        positive_span: vec![Span { offset: 1, length: 2 }],
        positive_delta: vec![1, 1],
    };
    let label = vec![Pair { name: "a".into(), value: "b".into() }];
    let metric = Metric { label, time: 7, histogram: Some(histogram.clone()) };
    let family = Family { name: "h".into(), kind: 4, metric: vec![metric.clone()] };
    let native = read(&family, Options { native: true, ..Options::default() }).unwrap();
    let [(labels, Measured::Histogram(HistogramValue::Integer(value)), Some(7))] = &native[..] else {
        panic!("one native histogram: {native:?}")
    };
    assert_eq!(*labels, name(&[(NAME, "h"), ("a", "b")]));
    assert_eq!((value.count, value.schema, &value.positive.values[..]), (4, 3, &[1, 1][..]));
    let both = read(&family, Options { native: true, classic: true, convert: false }).unwrap();
    assert_eq!(both.len(), 1 + 5);
    let classic = read(&family, Options::default()).unwrap();
    let text: Vec<String> = classic.iter().map(|(labels, value, _)| format!("{labels} {value:?}")).collect();
    assert_eq!(
        text,
        [
            "{__name__=\"h_count\", a=\"b\"} Float(4.0)",
            "{__name__=\"h_sum\", a=\"b\"} Float(5.0)",
            "{__name__=\"h_bucket\", a=\"b\", le=\"0.5\"} Float(1.0)",
            "{__name__=\"h_bucket\", a=\"b\", le=\"1.0\"} Float(3.0)",
            "{__name__=\"h_bucket\", a=\"b\", le=\"+Inf\"} Float(4.0)",
        ]
    );
    let converted = read(&family, Options { convert: true, ..Options::default() }).unwrap();
    assert!(matches!(&converted[..], [(_, Measured::Histogram(_), _)]), "{converted:?}");
    let wrong = Histogram { positive_delta: vec![1], ..histogram };
    let family = Family { metric: vec![Metric { histogram: Some(wrong), ..metric }], ..family };
    let error = read(&family, Options { native: true, ..Options::default() }).unwrap_err();
    assert_eq!(error, "histogram \"h\": positive side: spans require 2 buckets, have 1");
}
