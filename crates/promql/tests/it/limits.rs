//! Queries that must end: too many samples, too long, cancelled, impossible.

use std::{sync::Arc, time::Duration};

use promql::{
    eval::{self, Options, Outcome},
    limit::{Canceller, EvalError, Limits},
    parse::{Features, parse},
    value::Answer,
};
use tsdb::{histogram::FloatHistogram, labels::Labels};

use promql::memory::{Memory, Sample};

const MINUTE: i64 = 60_000;

fn memory(series: usize, samples: i64) -> Memory {
    let mut memory = Memory::default();
    for i in 0..series {
        let labels = Labels::from_pairs([("__name__", "m"), ("i", i.to_string().as_str()), ("ns", ["a", "b"][i % 2])]);
        for step in 0..samples {
            memory.add(&labels, step * MINUTE, 0, Sample::Float((step * 60) as f64));
        }
    }
    memory
}

fn run(memory: &Memory, query: &str, limits: Limits) -> Result<Outcome, EvalError> {
    let expr = parse(query, Features::ALL).expect("query");
    let options = Options { limits, features: Features::ALL, ..Options::default() };
    eval::range(memory, &expr, 0, 60 * MINUTE, MINUTE, &options)
}

#[test]
fn a_query_that_would_hold_too_many_samples_ends_with_upstream_s_error() {
    let memory = memory(50, 61);
    let few = || Limits { samples: 2000, ..Limits::default() };
    for query in
        ["m", "rate(m[5m])", "m + m", "sort(m)", "max_over_time(m[10m:1m])", "topk(3, m)", "count_values(\"v\", m)"]
    {
        let error = run(&memory, query, few()).expect_err(query);
        assert!(matches!(error, EvalError::TooManySamples(_)), "{query}: {error}");
        let text = "query processing would load too many samples into memory in expression evaluation";
        assert_eq!(error.to_string(), text);
    }
    // What is folded as it comes needs no more than its groups.
    for query in ["sum by (ns) (rate(m[5m]))", "count(m)", "max(m * 2)"] {
        let outcome = run(&memory, query, few()).unwrap_or_else(|error| panic!("{query}: {error}"));
        assert!(outcome.statistics.peak <= 2000 && outcome.statistics.read == 50 * 61, "{:?}", outcome.statistics);
    }
}

#[test]
fn a_query_of_many_steps_over_nothing_is_bounded_too() {
    let memory = memory(1, 1);
    let expr = parse("vector(1)", Features::ALL).expect("query");
    let error = eval::range(&memory, &expr, 0, i64::MAX / 8, 1, &Options::default()).expect_err("endless");
    assert!(matches!(error, EvalError::TooManySamples(_)), "{error}");
    assert!(eval::instant(&memory, &expr, i64::MIN, &Options::default()).is_err());
    for query in ["m offset 290y", "m @ 9e14", "rate(m[290y])", "m[290y:1ms]", "max_over_time(m[290y:1ms])"] {
        let expr = parse(query, Features::ALL).expect("query");
        let _ = eval::instant(&memory, &expr, i64::MAX / 8, &Options::default());
    }
}

#[test]
fn a_query_ends_when_its_time_is_up_or_its_client_has_gone() {
    let memory = memory(10, 61);
    let late = Limits { time: Duration::ZERO, ..Limits::default() };
    let error = run(&memory, "sum(m)", late).expect_err("late");
    assert_eq!(error.to_string(), "query timed out in expression evaluation");
    let canceller = Canceller::default();
    canceller.cancel();
    let gone = Limits { canceller, ..Limits::default() };
    let error = run(&memory, "sum(m)", gone).expect_err("cancelled");
    assert_eq!(error.to_string(), "query was canceled in expression evaluation");
}

#[test]
fn a_range_vector_has_no_range_query() {
    let error = run(&memory(1, 1), "m[5m]", Limits::default()).expect_err("range vector");
    let text = "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector";
    assert_eq!(error.to_string(), text);
}

#[test]
fn histograms_count_as_many_samples_as_they_are_large() {
    let mut memory = Memory::default();
    let buckets = tsdb::histogram::Buckets::from_pairs((0..160).map(|i| (i, 1.0)));
    let large = Arc::new(FloatHistogram { count: 160.0, positive: buckets, ..FloatHistogram::default() });
    let labels = Labels::from_pairs([("__name__", "h")]);
    for step in 0..61 {
        memory.add(&labels, step * MINUTE, 0, Sample::Histogram(large.clone()));
    }
    let limits = || Limits { samples: 3000, ..Limits::default() };
    assert!(matches!(run(&memory, "h", limits()), Err(EvalError::TooManySamples(_))));
    let outcome = run(&memory, "h", Limits::default()).expect("histograms");
    let Answer::Matrix(streams) = outcome.answer else { panic!("no matrix") };
    assert_eq!(streams[0].histograms.len(), 61);
}

#[test]
fn names_are_dropped_at_once_where_that_is_not_delayed() {
    let mut memory = Memory::default();
    for name in ["a", "b"] {
        memory.add(&Labels::from_pairs([("__name__", name), ("x", "1")]), 0, 0, Sample::Float(1.0));
    }
    let instant = |query: &str, delayed: bool| {
        let features = Features { delayed_name_removal: delayed, ..Features::ALL };
        let expr = parse(query, features).expect("query");
        eval::instant(&memory, &expr, 0, &Options { features, ..Options::default() })
    };
    let same = "vector cannot contain metrics with the same labelset";
    for delayed in [false, true] {
        for query in ["abs({x=\"1\"})", "-{x=\"1\"}", "{x=\"1\"} + 1", "rate({x=\"1\"}[5m]) or abs({x=\"1\"})"] {
            assert_eq!(instant(query, delayed).expect_err(query).to_string(), same, "{query}");
        }
    }
    // Until the end, what belongs to different metrics can be told apart.
    for query in ["sum(abs({x=\"1\"}))", "sum by (x) (max_over_time({x=\"1\"}[5m]))", "count({x=\"1\"} + 1)"] {
        assert!(instant(query, true).is_ok() && instant(query, false).is_err(), "{query}");
    }
    // One metric has no second one, and these keep the names.
    for query in ["sum(max_over_time(a{x=\"1\"}[5m]))", "sum(last_over_time({x=\"1\"}[5m]))"] {
        assert!(instant(query, false).is_ok(), "{query}");
    }
}

#[test]
fn the_deepest_queries_that_are_read_are_evaluated_on_a_thread_of_usual_size() {
    let nested = |open: &str, close: &str| open.repeat(96) + "m" + &close.repeat(96);
    for (query, reads) in [
        (nested("(", ")"), true),
        (nested("-(", ")"), false),
        (nested("abs(", ")"), true),
        (nested("sum by (i) (", ")"), true),
        (nested("m + (", ")"), false),
        (nested("label_replace(", ", \"a\", \"b\", \"c\", \"d\")"), true),
        (nested("max_over_time((", ")[1m:1m])"), false),
        (nested("histogram_quantile(0.5, ", ")"), true),
        (nested("topk(1, ", ")"), true),
        (nested("and_on(", ")"), false),
        ("m".to_owned() + &" or m".repeat(96), true),
        ("m".to_owned() + &" + m".repeat(96), true),
        ("1".to_owned() + &" ^ 1".repeat(96), true),
    ] {
        let evaluate = move || match parse(&query, Features::ALL) {
            Ok(expr) => {
                let options = Options { features: Features::ALL, ..Options::default() };
                eval::range(&memory(2, 3), &expr, 0, 2 * MINUTE, MINUTE, &options)
                    .unwrap_or_else(|error| panic!("{query}: {error}"));
            }
            Err(error) => assert!(!reads, "{query}: {error}"),
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(evaluate).expect("thread").join().expect("evaluated");
    }
}

#[test]
fn a_side_with_duplicates_is_refused_only_where_the_other_side_has_something() {
    let memory = memory(4, 2);
    for (query, refused) in [
        ("nothing + on (ns) m", false),
        ("m * on (ns) group_right nothing", false),
        ("m * on (ns) group_left m", true),
        ("nothing + on (ns) fill (0) m", true),
    ] {
        let outcome = run(&memory, query, Limits::default());
        let told = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(told.contains("found duplicate series"), refused, "{query}: {told}");
    }
}
