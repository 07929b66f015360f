//! Readers of metrics: queries, what targets expose, what others write, and files of the data base.

use std::{sync::Arc, time::Duration};

use metrics::{
    config::storage::Otlp,
    format::negotiate::Format,
    proto::Writer,
    remote::{
        message,
        otlp::{self, translate},
        request::{self, Item, Sent, Value, Version},
    },
    scrape::{fetch::Intake, ledger::Ledger, terms::Terms},
};
use promql::parse::{Features, parse, parse_selector};
use tsdb::labels::Labels;

use crate::targets::{about, kind};

/// Words of queries.
pub const QUERY: &[&str] = &[
    "sum",
    "rate(",
    "by (",
    "without(",
    ")",
    "{",
    "}",
    "[5m]",
    "[5m:1m]",
    " offset ",
    " @ ",
    "start()",
    "end()",
    "=~\"",
    "!~'",
    "\"",
    "`",
    " and ",
    " or ",
    " unless ",
    " on (",
    " ignoring(",
    " group_left",
    " bool ",
    "histogram_quantile(",
    "info(",
    "1e9",
    "0x1F",
    "NaN",
    "Inf",
    "-",
    "^",
    "%",
    "atan2",
    "limitk(",
    " anchored",
    " smoothed",
    " fill(0)",
    "step()",
    "\\",
    "#",
    "\n",
    "é",
];

/// Words of expositions.
pub const EXPOSITION: &[&str] = &[
    "# TYPE ",
    "# HELP ",
    "# UNIT ",
    "# EOF",
    " counter",
    " gauge",
    " histogram",
    " summary",
    " untyped",
    " gaugehistogram",
    "a",
    "_total",
    "_bucket",
    "_sum",
    "_count",
    "_created",
    "{",
    "}",
    "le=\"",
    "\"",
    ",",
    "+Inf",
    "NaN",
    " 1",
    " 1.5",
    " 17",
    " # {",
    "\\",
    "\n",
    "\0",
    "{\"a.b\"",
    "0x",
    "1e",
    "é",
];

/// A query; one that is read is printed as something that reads as the same.
pub fn query(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let selector =
        parse_selector(&text).map_or_else(|error| kind(&error.message), |matchers| about(matchers.len()).to_string());
    match parse(&text, Features::ALL) {
        Err(error) => {
            assert!(error.place.end <= text.len() && error.place.start <= error.place.end, "{error}");
            format!("error {} {selector}", kind(&error.message))
        }
        Ok(expr) => {
            let printed = expr.to_string();
            let again = parse(&printed, Features::ALL)
                .unwrap_or_else(|error| panic!("{text} is printed as {printed}: {error}"));
            assert_eq!(again.to_string(), printed, "{text}");
            format!("{} {} {selector}", expr.value_type().name(), about(expr.selectors().len()))
        }
    }
}

/// An answer of a target, in pieces of several sizes: what is made of it does not depend on them.
fn taken(input: &[u8], format: Format, options: impl Fn(&mut Terms)) -> String {
    let mut found = Vec::new();
    for piece in [input.len().max(1), 7] {
        let mut terms = Terms::new(Labels::from_pairs([("job", "fuzz")]));
        options(&mut terms);
        let mut ledger = Ledger::new(terms);
        ledger.begin(1_700_000_000_000);
        let mut intake = Intake::new(Ok(format), None);
        let taken = input.chunks(piece).try_for_each(|piece| intake.take(piece, &mut ledger));
        let ended = taken.and_then(|()| intake.finish(&mut ledger));
        let outcome = ended.map_or_else(|failed| kind(failed.reason()), |_| "well".to_owned());
        let tally = ledger.tally();
        found.push(format!("{outcome} {} {}", about(tally.scraped), about(tally.added)));
    }
    assert_eq!(found[0], found[1]);
    found.swap_remove(0)
}

/// Both forms of text.
pub fn exposition(input: &[u8]) -> String {
    let plain = taken(input, Format::Text, |_| {});
    let open = taken(input, Format::OpenMetrics, |terms| terms.histograms.convert = true);
    format!("{plain} {open}")
}

/// Families as protocol buffers.
pub fn families(input: &[u8]) -> String {
    taken(input, Format::Protobuf, |terms| {
        terms.histograms.native = true;
        terms.histograms.classic = true;
    })
}

/// Both versions of remote write.
pub fn remote_write(input: &[u8]) -> String {
    let count =
        |read: &dyn Fn(&mut dyn FnMut(message::Series) -> Result<(), message::Wrong>) -> Result<(), message::Wrong>| {
            let (mut series, mut samples) = (0, 0);
            let outcome = read(&mut |found| {
                series += 1;
                samples += found.floats.len() + found.histograms.len() + found.exemplars.len();
                Ok(())
            });
            let outcome = outcome.map_or_else(|wrong| kind(&wrong.to_string()), |()| "well".to_owned());
            format!("{outcome} {} {}", about(series), about(samples))
        };
    let one = count(&|take| message::each_v1(input, take));
    let two = count(&|take| message::each_v2(input, take));
    format!("{one} {two}")
}

/// A request of OTLP, as protocol buffers and as JSON, and the series that are made of it.
pub fn otlp(input: &[u8]) -> String {
    let settings = translate::Settings::new(&Otlp::standard(), Duration::from_mins(5), true, false);
    let told = |read: Result<otlp::message::Request, String>| match read {
        Err(wrong) => kind(&wrong),
        Ok(request) => {
            let mut series = 0;
            let done = translate::translate(&request, &settings, &mut |found| {
                let labels = found.labels.unwrap_or_else(|wrong| panic!("{wrong}"));
                assert!(labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()), "{labels}");
                series += 1;
                Ok(())
            });
            match done {
                Ok(done) => format!("{} {} {}", about(series), about(done.warnings.len()), about(done.errors.len())),
                Err(wrong) => kind(&wrong.to_string()),
            }
        }
    };
    let binary = told(otlp::message::read(input).map_err(|wrong| wrong.to_string()));
    format!("{binary} {}", told(otlp::json::read(input)))
}

/// A sum and a histogram as protocol buffers.
fn otlp_requests() -> Vec<Vec<u8>> {
    let mut request = Writer::default();
    request.message(1, |resource| {
        resource.message(2, |scope| {
            scope.message(2, |metric| {
                metric.text(1, "requests");
                metric.message(7, |sum| {
                    sum.message(1, |point| {
                        point.double(3, f64::from_bits(1_000_000));
                        point.double(4, 2.5);
                        point.message(7, |pair| {
                            pair.text(1, "http.route");
                            pair.message(2, |any| any.text(1, "/"));
                        });
                    });
                    sum.varint(2, 2);
                    sum.varint(3, 1);
                });
            });
            scope.message(2, |metric| {
                metric.text(1, "size");
                metric.message(10, |histogram| {
                    histogram.message(1, |point| {
                        point.sint(6, 2);
                        point.message(8, |buckets| {
                            buckets.sint(1, -2);
                            buckets.varints(2, [1, 0, 3]);
                        });
                    });
                    histogram.varint(2, 2);
                });
            });
        });
    });
    vec![request.0]
}

/// Inputs of a target that whoever writes its format makes, beside those of its folder.
pub fn made(target: &str) -> Vec<Vec<u8>> {
    match target {
        "remote-write" => requests(),
        "otlp" => otlp_requests(),
        "log" => tsdb::probe::logs(),
        "record" => tsdb::probe::records(),
        "chunk" => tsdb::probe::chunks(),
        "prometheus-chunk" => tsdb::probe::prometheus_chunks(),
        _ => Vec::new(),
    }
}

/// Requests that are as they should be.
fn requests() -> Vec<Vec<u8>> {
    let series = |n: u8| {
        Arc::new(Sent { labels: Labels::from_pairs([("__name__", "a"), ("n", &n.to_string())]), metadata: None })
    };
    let items: Vec<Item> =
        (0..4).map(|n| Item { series: series(n % 2), time: i64::from(n), value: Value::Float(f64::from(n)) }).collect();
    vec![request::write(Version::One, &items), request::write(Version::Two, &items)]
}

fn told(read: Result<usize, String>) -> String {
    read.map_or_else(|error| kind(&error), |count| about(count).to_string())
}

/// A file of the log.
pub fn log(input: &[u8]) -> String {
    let (records, samples, damages) = tsdb::probe::log(input);
    format!("{} {} {}", about(records), about(samples), about(damages))
}

/// A record of the log, behind its checksum.
pub fn record(input: &[u8]) -> String {
    told(tsdb::probe::record(input))
}

/// A chunk of a segment or block.
pub fn chunk(input: &[u8]) -> String {
    told(tsdb::probe::chunk(input))
}

/// The index of a block.
pub fn index(input: &[u8]) -> String {
    told(tsdb::probe::index(input))
}

/// A chunk of Prometheus' own blocks.
pub fn prometheus_chunk(input: &[u8]) -> String {
    told(tsdb::probe::prometheus_chunk(input))
}
