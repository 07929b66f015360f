//! Runs the files and compares with the list of evaluations that do not pass yet, which can only shrink.
//!
//! The files lie below `promql/` in the directory that `MADANG_SUITES` names, with their format.

use std::{collections::BTreeMap, collections::BTreeSet, env, fs, path::Path, sync::Arc};

use promql::{
    ast::{At, Expr, Type},
    duration,
    eval::{self, Options, Outcome},
    memory::{Memory, Sample},
    number,
    parse::{self, Features},
    series::{self, Point},
    value::{Answer, Value, VectorSample},
};
use regex::Regex;
use tsdb::{
    histogram::{Buckets, CUSTOM_SCHEMA, FloatHistogram},
    labels::{BUCKET, Builder, Labels, NAME},
};

use crate::compare::Expected;

/// Evaluations in all files.
const EVALUATIONS: usize = 2243;

#[test]
fn upstream_s_evaluations_give_what_they_should() {
    let Some(suites) = env::var_os("MADANG_SUITES") else {
        eprintln!(
            "skipped: MADANG_SUITES does not name the directory of the suites; this run says nothing of evaluation"
        );
        return;
    };
    let not_yet: BTreeSet<&str> = include_str!("not-yet.txt").lines().filter(|line| !line.starts_with('#')).collect();
    let mut files: Vec<_> = fs::read_dir(Path::new(&suites).join("promql"))
        .expect("list promql suite")
        .map(|entry| entry.expect("read promql suite").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    files.sort();
    let (mut count, mut failures, mut surprises) = (0, BTreeMap::new(), Vec::new());
    for file in files {
        let name = file.file_name().expect("file name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("read evaluation file");
        for (line, result) in Script::new(&text).run() {
            count += 1;
            let id = format!("{name}:{line}");
            match result {
                Ok(()) if not_yet.contains(id.as_str()) => {
                    surprises.push(format!("{id} passes: take it off not-yet.txt"))
                }
                Ok(()) => {}
                Err(problem) => {
                    if !not_yet.contains(id.as_str()) {
                        surprises.push(format!("{id} fails: {problem}"));
                    }
                    failures.insert(id, problem);
                }
            }
        }
    }
    eprintln!("{} of {count} evaluations pass", count - failures.len());
    assert!(surprises.is_empty(), "{} surprises:\n{}", surprises.len(), surprises.join("\n"));
    assert_eq!(count, EVALUATIONS);
}

/// What a file says of errors and notes.
#[derive(Debug, Default)]
struct Told {
    fail: Option<Text>,
    warnings: Vec<Text>,
    infos: Vec<Text>,
    no_warning: bool,
    no_info: bool,
}

/// What a text must be.
#[derive(Debug)]
enum Text {
    Any,
    Exactly(String),
    Like(Regex),
}

impl Text {
    fn is(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(expected) => expected == text,
            Self::Like(regex) => regex.is_match(text),
        }
    }
}

struct Script<'a> {
    lines: Vec<&'a str>,
    at: usize,
    memory: Memory,
}

impl<'a> Script<'a> {
    fn new(text: &'a str) -> Self {
        let lines = text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
        Self { lines, at: 0, memory: Memory::default() }
    }

    /// Runs all; gives the line and the outcome of each evaluation.
    fn run(mut self) -> Vec<(usize, Result<(), String>)> {
        let mut results = Vec::new();
        while self.at < self.lines.len() {
            let line = self.lines[self.at];
            self.at += 1;
            let first = line.split_whitespace().next().unwrap_or_default();
            match first {
                "" => {}
                "clear" => self.memory = Memory::default(),
                _ if first.starts_with("load") => self.load(line),
                _ if first.starts_with("eval") => {
                    let number = self.at;
                    results.push((number, self.evaluate(line)));
                }
                _ => panic!("unknown command {line}"),
            }
        }
        results
    }

    fn block(&mut self) -> Vec<&'a str> {
        let rest = &self.lines[self.at..];
        let end = rest.iter().position(|line| line.is_empty()).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_vec()
    }

    fn load(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let gap = duration::parse(words[1]).expect("step of load");
        let mut classic: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
        let mut starts: Option<Vec<Option<i64>>> = None;
        for line in self.block() {
            let name_end = line.find([' ', '\t']).unwrap_or(line.len());
            if line[..name_end].ends_with("@st") {
                starts = Some(start_times(line[name_end..].trim()));
                continue;
            }
            let (labels, points) = series::parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let starts = starts.take();
            for (i, point) in points.iter().enumerate() {
                let time = i as i64 * gap;
                let start = starts.as_ref().and_then(|starts| starts[i]).map_or(0, |start| time + start);
                match point {
                    Point::Omitted => {}
                    Point::Float(value) => {
                        self.memory.add(&labels, time, start, Sample::Float(*value));
                        if words[0].ends_with("_with_nhcb") {
                            Classic::note(&mut classic, &labels, time, *value);
                        }
                    }
                    Point::Histogram(histogram, _) => {
                        self.memory.add(&labels, time, start, Sample::Histogram(histogram.clone()));
                    }
                }
            }
        }
        for (labels, times) in classic {
            for (time, classic) in times {
                self.memory.add(&labels, time, 0, Sample::Histogram(Arc::new(classic.native())));
            }
        }
    }

    fn evaluate(&mut self, line: &str) -> Result<(), String> {
        let instant =
            Regex::new(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$").expect("regex");
        let range = Regex::new(r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$")
            .expect("regex");
        let time = |text: &str| duration::parse(text).expect("time of evaluation");
        let (mode, query, mut grid, is_range) = if let Some(parts) = instant.captures(line) {
            let at = parts.get(2).map_or(0, |at| time(at.as_str()));
            (parts.get(1), parts.get(3), (at, at, 0), false)
        } else {
            let parts = range.captures(line).unwrap_or_else(|| panic!("unknown evaluation {line}"));
            (parts.get(1), parts.get(5), (time(&parts[2]), time(&parts[3]), time(&parts[4])), true)
        };
        let query = query.map_or("", |query| query.as_str());
        let mut expected = Expected::default();
        let mut told = Told::default();
        match mode.map(|mode| mode.as_str()) {
            Some("fail") => told.fail = Some(Text::Any),
            Some("warn") => told.warnings.push(Text::Any),
            Some("info") => told.infos.push(Text::Any),
            Some("ordered") => expected.ordered = true,
            _ => {}
        }
        let mut at = grid.0;
        for line in self.block() {
            if let Some(text) = line.strip_prefix("expected_fail_message ") {
                told.fail = Some(Text::Exactly(text.trim().to_owned()));
            } else if let Some(text) = line.strip_prefix("expected_fail_regexp ") {
                told.fail = Some(Text::Like(Regex::new(text.trim()).expect("regex")));
            } else if let Some(rest) = line.strip_prefix("expect range vector ") {
                let words: Vec<_> = rest.split_whitespace().collect();
                grid = (time(words[1]), time(words[3]), time(words[5]));
                at = grid.1;
            } else if let Some(text) = line.strip_prefix("expect string ") {
                expected.text = Some(unquote(text));
            } else if let Some(rest) = line.strip_prefix("expect ") {
                told.expect(rest, &mut expected.ordered);
            } else if let Some(value) = number::parse(line) {
                expected.scalar = Some(value);
            } else {
                expected.series.push(series::parse(line).unwrap_or_else(|error| panic!("{line}: {error}")));
            }
        }
        expected.grid = grid;
        let options = Options {
            features: Features { type_and_unit: false, ..Features::ALL },
            use_start_times: true,
            ..Options::default()
        };
        let expr = parse::parse(query, options.features).map_err(|error| error.to_string())?;
        let result = if is_range {
            eval::range(&self.memory, &expr, grid.0, grid.1, grid.2, &options)
        } else {
            eval::instant(&self.memory, &expr, at, &options)
        };
        match (&told.fail, result) {
            (None, Err(error)) => Err(format!("error: {error}")),
            (Some(text), Err(error)) if text.is(&error.to_string()) => Ok(()),
            (Some(text), Err(error)) => Err(format!("expected error {text:?}, got {error}")),
            (Some(_), Ok(outcome)) => Err(format!("expected an error, got {:?}", outcome.answer)),
            (None, Ok(outcome)) => {
                told.check(query, &outcome)?;
                let answer = if expected.text.is_none() && matches!(outcome.answer, Answer::Text(..)) {
                    return Err("unexpected string".to_owned());
                } else {
                    outcome.answer
                };
                expected.check(&answer)?;
                let subject = Subject { memory: &self.memory, options: &options, expr: &expr, expected: &expected };
                if is_range { Ok(()) } else { subject.other_ways(query, at, &told) }
            }
        }
    }
}

/// An evaluation that has passed, to be made in other ways that must give the same.
struct Subject<'a> {
    memory: &'a Memory,
    options: &'a Options,
    expr: &'a Expr,
    expected: &'a Expected,
}

impl Subject<'_> {
    /// At other times with `@` set to the first, and as the middle step of a range.
    fn other_ways(&self, query: &str, at: i64, told: &Told) -> Result<(), String> {
        let mut fixed = self.expr.clone();
        if fix_time(&mut fixed, at) {
            let times = if at == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
            for time in times {
                let outcome = eval::instant(self.memory, &fixed, time, self.options)
                    .map_err(|error| format!("as {fixed} at {time}: {error}"))?;
                told.check(query, &outcome).map_err(|error| format!("as {fixed} at {time}: {error}"))?;
                self.expected.check(&outcome.answer).map_err(|error| format!("as {fixed} at {time}: {error}"))?;
            }
        }
        let context = ["start(", "end(", "step(", "range("].iter().any(|word| query.contains(word));
        let series = matches!(self.expr.value_type(), Type::Scalar | Type::Vector);
        if context || !series || self.expected.ordered || self.expected.text.is_some() {
            return Ok(());
        }
        let outcome = eval::range(self.memory, self.expr, at - 60_000, at + 60_000, 60_000, self.options)
            .map_err(|error| format!("as a range: {error}"))?;
        let Answer::Matrix(streams) = outcome.answer else { return Err("a range gave no matrix".to_owned()) };
        let samples = streams.into_iter().filter_map(|stream| {
            let float = stream.floats.iter().find(|point| point.0 == at).map(|point| Value::Float(point.1));
            let histogram = stream.histograms.into_iter().find(|point| point.0 == at);
            let value = float.or(histogram.map(|point| Value::Histogram(point.1)))?;
            Some(VectorSample { labels: stream.labels, value })
        });
        let samples: Vec<_> = samples.collect();
        let answer = match samples.as_slice() {
            [VectorSample { value: Value::Float(value), .. }] if self.expr.value_type() == Type::Scalar => {
                Answer::Scalar(at, *value)
            }
            _ => Answer::Vector(at, samples),
        };
        self.expected.check(&answer).map_err(|error| format!("as a range: {error}"))
    }
}

/// Sets `@` on all selectors and subqueries that have none, but not within subqueries; says whether the value is then the
/// same at all times.
fn fix_time(expr: &mut Expr, at: i64) -> bool {
    let time = Some(At::Time(at));
    match expr {
        Expr::Selector(selector) => selector.shift.at = selector.shift.at.or(time),
        Expr::Matrix(matrix) => matrix.selector.shift.at = matrix.selector.shift.at.or(time),
        Expr::Subquery(subquery) => {
            subquery.shift.at = subquery.shift.at.or(time);
            return !varies(&subquery.expr);
        }
        Expr::Call(call) if TIMES.contains(&call.function.name) => return false,
        _ => {}
    }
    let mut same = true;
    for child in expr.children_mut() {
        same &= fix_time(child, at);
    }
    same
}

fn varies(expr: &Expr) -> bool {
    matches!(expr, Expr::Call(call) if TIMES.contains(&call.function.name)) || expr.children().into_iter().any(varies)
}

/// Functions whose value depends on the time at which they are evaluated.
const TIMES: &[&str] = &[
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

impl Told {
    fn expect(&mut self, rest: &str, ordered: &mut bool) {
        let (what, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let text = text.trim();
        let text = match (text.strip_prefix("msg:"), text.strip_prefix("regex:")) {
            (Some(exactly), _) => Text::Exactly(exactly.trim().to_owned()),
            (_, Some(like)) => Text::Like(Regex::new(like.trim()).expect("regex")),
            _ => Text::Any,
        };
        match what {
            "fail" => self.fail = Some(text),
            "warn" => self.warnings.push(text),
            "info" => self.infos.push(text),
            "no_warn" => self.no_warning = true,
            "no_info" => self.no_info = true,
            "ordered" => *ordered = true,
            _ => panic!("unknown expectation {rest}"),
        }
    }

    fn check(&self, query: &str, outcome: &Outcome) -> Result<(), String> {
        let (warnings, infos) = outcome.notes.texts(query, usize::MAX);
        for (name, expected, none, found) in
            [("warning", &self.warnings, self.no_warning, warnings), ("info", &self.infos, self.no_info, infos)]
        {
            if none && !found.is_empty() {
                return Err(format!("unexpected {name}: {found:?}"));
            }
            if let Some(missing) = expected.iter().find(|text| !found.iter().any(|found| text.is(found))) {
                return Err(format!("expected {name} {missing:?}, got {found:?}"));
            }
            if !expected.is_empty()
                && let Some(other) = found.iter().find(|found| !expected.iter().any(|text| text.is(found)))
            {
                return Err(format!("unexpected {name} {other}"));
            }
        }
        Ok(())
    }
}

fn unquote(text: &str) -> String {
    let expr = parse::parse(text, Features::default()).expect("expected string");
    match expr {
        promql::ast::Expr::Text(text) => text.value,
        _ => panic!("no string: {text}"),
    }
}

/// Start times relative to their samples, in milliseconds.
fn start_times(text: &str) -> Vec<Option<i64>> {
    let item = Regex::new(r"^([+-]?\d+[a-w]*)(?:([+-]\d+[a-w]*))?(?:x(\d+))?$").expect("regex");
    let time = |text: &str| {
        let length = duration::parse(text.trim_start_matches(['+', '-'])).expect("start time");
        if text.starts_with('-') { -length } else { length }
    };
    let mut times = Vec::new();
    for word in text.split_whitespace() {
        if let Some(count) = word.strip_prefix('_') {
            let count = count.strip_prefix('x').map_or(1, |count| count.parse().expect("count"));
            times.extend(std::iter::repeat_n(None, count));
            continue;
        }
        let parts = item.captures(word).unwrap_or_else(|| panic!("start time {word}"));
        let (mut value, step) = (time(&parts[1]), parts.get(2).map_or(0, |step| time(step.as_str())));
        let count: usize = parts.get(3).map_or(0, |count| count.as_str().parse().expect("count"));
        for _ in 0..=count {
            times.push(Some(value));
            value += step;
        }
    }
    times
}

/// A classic histogram that becomes a native one.
#[derive(Debug, Default)]
struct Classic {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    fn note(all: &mut BTreeMap<Labels, BTreeMap<i64, Self>>, labels: &Labels, time: i64, value: f64) {
        let name = labels.metric();
        let suffix = ["_bucket", "_count", "_sum"].into_iter().find(|suffix| name.ends_with(suffix));
        let Some(suffix) = suffix else { return };
        let bound = labels.get(BUCKET).parse::<f64>();
        if suffix == "_bucket" && bound.as_ref().is_ok_and(|bound| bound.is_nan()) {
            return;
        }
        let base = Builder::new(labels).set(NAME, &name[..name.len() - suffix.len()]).remove(BUCKET).labels();
        let Ok(bound) = (if suffix == "_bucket" { bound } else { Ok(0.0) }) else { return };
        let classic = all.entry(base).or_default().entry(time).or_default();
        match suffix {
            "_bucket" => classic.buckets.push((bound, value)),
            "_count" => classic.count = Some(value),
            _ => classic.sum = value,
        }
    }

    fn native(mut self) -> FloatHistogram {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = self.count.or(self.buckets.last().map(|bucket| bucket.1)).unwrap_or(0.0);
        if self.buckets.last().is_none_or(|bucket| bucket.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut before = 0.0;
        let counts = self.buckets.iter().map(|(_, count)| {
            let own = count - before;
            before = *count;
            own
        });
        let positive = Buckets::from_pairs((0..).zip(counts.collect::<Vec<_>>()));
        let custom: Vec<f64> = self.buckets.iter().map(|bucket| bucket.0).filter(|bound| bound.is_finite()).collect();
        let mut native = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count,
            sum: self.sum,
            positive,
            custom: custom.into(),
            ..FloatHistogram::default()
        };
        native.compact(2);
        native
    }
}
