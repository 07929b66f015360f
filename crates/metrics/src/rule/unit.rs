//! Tests that users write for their rules: series are put in, rules are evaluated, alerts and expressions are compared.
//!
//! Files and messages are those of `promtool test rules`. Each test has series of its own, in memory. See <https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/>.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
    time::Duration,
};

use promql::{
    ast::Expr,
    eval::{self, Options},
    histogram_text,
    limit::Limits,
    matcher::Matcher,
    memory::{Memory, Sample as Kept},
    parse::{self, Features},
    series::{self, Point},
    value::{Answer, Value},
};
use regex::Regex;
use tsdb::labels::{Labels, quote};

use super::{
    alert::{ALERTNAME, Notice, State},
    file::{self, Reading},
    group::{Ground, Group, Surroundings, Work, millis, vector},
};
use crate::{
    config::{self, units::Span},
    template::calendar,
    yaml::{self, Fields, Record},
};

/// How files are tested.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Only tests whose names match one of these are run, if there are any.
    pub run: Vec<Regex>,
    /// The parts of the query language that are switched on.
    pub features: Features,
    /// Whether unknown fields in files of rules are passed over.
    pub lenient: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct File {
    rule_files: Vec<String>,
    evaluation_interval: Span,
    group_eval_order: Vec<String>,
    tests: Vec<Test>,
    fuzzy_compare: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Test {
    interval: Span,
    input_series: Vec<Series>,
    alert_rule_test: Vec<AlertTest>,
    promql_expr_test: Vec<ExprTest>,
    external_labels: BTreeMap<String, String>,
    external_url: String,
    name: String,
    start_timestamp: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Series {
    series: String,
    values: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct AlertTest {
    eval_time: Span,
    alertname: String,
    exp_alerts: Vec<Expected>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Expected {
    exp_labels: BTreeMap<String, String>,
    exp_annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct ExprTest {
    expr: String,
    eval_time: Span,
    exp_samples: Vec<Sample>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Sample {
    labels: String,
    value: f64,
    histogram: String,
}

impl Record for File {
    const TYPE: &'static str = "main.unitTestFile";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("rule_files", &mut self.rule_files);
        fields.field("evaluation_interval", &mut self.evaluation_interval);
        fields.field("group_eval_order", &mut self.group_eval_order);
        fields.field("tests", &mut self.tests);
        fields.field("fuzzy_compare", &mut self.fuzzy_compare);
    }
}

impl Record for Test {
    const TYPE: &'static str = "main.testGroup";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("interval", &mut self.interval);
        fields.field("input_series", &mut self.input_series);
        fields.field("alert_rule_test", &mut self.alert_rule_test);
        fields.field("promql_expr_test", &mut self.promql_expr_test);
        fields.field("external_labels", &mut self.external_labels);
        fields.field("external_url", &mut self.external_url);
        fields.field("name", &mut self.name);
        fields.field("start_timestamp", &mut self.start_timestamp);
    }
}

impl Record for Series {
    const TYPE: &'static str = "main.series";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("series", &mut self.series);
        fields.field("values", &mut self.values);
    }
}

impl Record for AlertTest {
    const TYPE: &'static str = "main.alertTestCase";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("eval_time", &mut self.eval_time);
        fields.field("alertname", &mut self.alertname);
        fields.field("exp_alerts", &mut self.exp_alerts);
    }
}

impl Record for Expected {
    const TYPE: &'static str = "main.alert";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("exp_labels", &mut self.exp_labels);
        fields.field("exp_annotations", &mut self.exp_annotations);
    }
}

impl Record for ExprTest {
    const TYPE: &'static str = "main.promqlTestCase";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("expr", &mut self.expr);
        fields.field("eval_time", &mut self.eval_time);
        fields.field("exp_samples", &mut self.exp_samples);
    }
}

impl Record for Sample {
    const TYPE: &'static str = "main.sample";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("labels", &mut self.labels);
        fields.field("value", &mut self.value);
        fields.field("histogram", &mut self.histogram);
    }
}

/// Runs the tests of a file; tells all that went wrong, and patterns of files that stand for none as warnings.
pub fn test(path: &Path, settings: &Settings, warnings: &mut Vec<String>) -> Result<(), Vec<String>> {
    let one = |error: String| vec![error];
    let text = fs::read_to_string(path).map_err(|error| one(format!("read {}: {error}", path.display())))?;
    let mut file = File::default();
    yaml::read(&text, &mut file).map_err(one)?;
    let mut rule_files = Vec::new();
    for name in &file.rule_files {
        let pattern = path.parent().unwrap_or(Path::new("")).join(name);
        let found = config::glob(&pattern.display().to_string()).map_err(one)?;
        if found.is_empty() {
            warnings.push(format!("  WARNING: no file match pattern {}", pattern.display()));
        }
        rule_files.extend(found);
    }
    if file.evaluation_interval.is_zero() {
        file.evaluation_interval = Span(Duration::from_mins(1));
    }
    let mut order = BTreeMap::new();
    for (i, name) in file.group_eval_order.iter().enumerate() {
        if order.insert(name.as_str(), i).is_some() {
            return Err(one(format!("group name repeated in evaluation order: {name}")));
        }
    }
    let mut problems = Vec::new();
    for test in &file.tests {
        if !settings.run.is_empty() && !settings.run.iter().any(|run| run.is_match(&test.name)) {
            continue;
        }
        let mut test = test.clone();
        if test.interval.is_zero() {
            test.interval = file.evaluation_interval;
        }
        let reading = Reading { features: settings.features, lenient: settings.lenient, ..Reading::default() };
        let around = Surroundings {
            external_labels: Labels::from_pairs(&test.external_labels),
            external_url: test.external_url.clone(),
            interval: test.interval.0,
            reading,
            ..Surroundings::default()
        };
        let mut groups = Vec::new();
        let mut wrong = Vec::new();
        for path in &rule_files {
            let name = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|error| one(format!("{name}: {error}")))?;
            match file::parse(&text, &around.reading) {
                Err(errors) => wrong.extend(errors.into_iter().map(|error| format!("{name}: {error}"))),
                Ok(file) => {
                    for source in &file.groups {
                        match Group::new(&name, source, &around, true) {
                            Ok(group) => groups.push(group),
                            Err(error) => wrong.push(format!("{name}: {error}")),
                        }
                    }
                }
            }
        }
        if !wrong.is_empty() {
            problems.extend(wrong);
            continue;
        }
        groups.sort_by_key(|group| order.get(group.name.as_str()).copied().unwrap_or(0));
        let step = file.evaluation_interval.0;
        match Bench::new(&test, around, groups, step, file.fuzzy_compare) {
            Ok(mut bench) => problems.extend(bench.run(&test)),
            Err(error) => problems.push(error),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Where a test is carried out.
struct Bench {
    memory: RefCell<Memory>,
    options: Options,
    around: Surroundings,
    groups: Vec<Group>,
    /// The first time, in milliseconds since 1970.
    start: i64,
    step: i64,
    fuzzy: bool,
    /// Samples that are still to come, the next last.
    pending: Vec<(i64, Labels, Value)>,
}

impl Ground for Bench {
    fn each(&self, count: usize, work: &Work<'_>) {
        (0..count).for_each(|at| work(self, at));
    }

    fn query(&self, expr: &Expr, time: i64) -> Result<Answer, String> {
        let outcome = eval::instant(&*self.memory.borrow(), expr, time, &self.options);
        outcome.map(|outcome| outcome.answer).map_err(|error| error.to_string())
    }

    fn append(&self, samples: &[(Labels, i64, Value)]) -> Result<Vec<String>, String> {
        let mut memory = self.memory.borrow_mut();
        for (labels, time, value) in samples {
            let sample = match value {
                Value::Float(value) => Kept::Float(*value),
                Value::Histogram(histogram) => Kept::Histogram(histogram.clone()),
            };
            memory.add(labels, *time, 0, sample);
        }
        Ok(Vec::new())
    }

    fn last(&self, _: &[Matcher], _: i64, _: i64) -> Result<Vec<(Labels, i64, f64)>, String> {
        Ok(Vec::new())
    }

    fn send(&self, _: Vec<Notice>) {}
}

/// A time as `start_timestamp` gives it: seconds since 1970, or RFC 3339.
fn start_of(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok((seconds * 1000.0).round() as i64);
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| time.as_millisecond()).map_err(|_| format!("cannot parse {} to a valid timestamp", quote(text)))
}

impl Bench {
    fn new(test: &Test, around: Surroundings, groups: Vec<Group>, step: Duration, fuzzy: bool) -> Result<Self, String> {
        let start = start_of(&test.start_timestamp)?;
        let interval = millis(test.interval.0);
        let mut pending = Vec::new();
        for input in &test.input_series {
            let text = format!("{} {}", input.series, input.values);
            let (labels, points) = series::parse(&text).map_err(|error| error.to_string())?;
            for (i, point) in points.into_iter().enumerate() {
                let value = match point {
                    Point::Omitted => continue,
                    Point::Float(value) => Value::Float(value),
                    Point::Histogram(histogram, _) => Value::Histogram(histogram),
                };
                pending.push((start + i as i64 * interval, labels.clone(), value));
            }
        }
        pending.sort_by_key(|sample| std::cmp::Reverse(sample.0));
        let options = Options {
            subquery_step: millis(step),
            features: around.reading.features,
            limits: Limits { time: Duration::from_secs(100), ..Limits::default() },
            ..Options::default()
        };
        let memory = RefCell::default();
        Ok(Self { memory, options, around, groups, start, step: millis(step), fuzzy, pending })
    }

    /// Puts in the samples up to a time.
    fn load_until(&mut self, time: i64) -> Result<(), String> {
        let mut samples = Vec::new();
        while self.pending.last().is_some_and(|sample| sample.0 <= time) {
            if let Some((time, labels, value)) = self.pending.pop() {
                samples.push((labels, time, value));
            }
        }
        match self.append(&samples)?.first() {
            Some(refused) => Err(format!("append the series of a test: {refused}")),
            None => Ok(()),
        }
    }

    fn run(&mut self, test: &Test) -> Vec<String> {
        let of_test = if test.name.is_empty() { String::new() } else { format!(" (in TestGroup {})", test.name) };
        if let Some(case) = test.alert_rule_test.iter().find(|case| case.alertname.is_empty()) {
            return vec![format!(
                "an item under alert_rule_test misses required attribute alertname at eval_time {}{of_test}",
                case.eval_time
            )];
        }
        let alert_times: BTreeSet<i64> = test.alert_rule_test.iter().map(|case| millis(case.eval_time.0)).collect();
        let expr_times = test.promql_expr_test.iter().map(|case| millis(case.eval_time.0));
        let longest = alert_times.iter().copied().chain(expr_times).max().unwrap_or(0);
        let mut alert_times = alert_times.into_iter().peekable();
        let mut problems = Vec::new();
        let mut since = 0;
        while since <= longest {
            let now = self.start + since;
            if let Err(error) = self.load_until(now) {
                problems.push(error);
                return problems;
            }
            let mut failed = Vec::new();
            for group in &self.groups {
                group.evaluate(&self.around, now, self, &|| false);
                for rule in &group.rules {
                    if let Some(Err(error)) = rule.state().outcome {
                        let time = calendar::print_duration(now.saturating_mul(1_000_000));
                        failed.push(format!("    rule: {}, time: {time}, err: {error}", rule.name));
                    }
                }
            }
            if !failed.is_empty() {
                problems.extend(failed);
                return problems;
            }
            while let Some(time) = alert_times.next_if(|time| (since..since + self.step).contains(time)) {
                let cases = test.alert_rule_test.iter().filter(|case| millis(case.eval_time.0) == time);
                problems.extend(cases.filter_map(|case| self.check_alert(test, case)));
            }
            since += self.step;
        }
        problems.extend(test.promql_expr_test.iter().filter_map(|case| self.check_expr(case)));
        problems
    }

    fn check_alert(&self, test: &Test, case: &AlertTest) -> Option<String> {
        let rules = self.groups.iter().flat_map(|group| &group.rules);
        let rules = rules.filter(|rule| rule.alerting.is_some() && rule.name == case.alertname);
        let mut got: Vec<(Labels, Labels)> = Vec::new();
        for rule in rules {
            let state = rule.state();
            let firing = state.alerts.into_iter().filter(|(_, alert)| alert.state == State::Firing);
            got.extend(firing.map(|(labels, alert)| (labels, alert.annotations)));
        }
        let expected = case.exp_alerts.iter().map(|alert| {
            let mut labels = alert.exp_labels.clone();
            labels.insert(ALERTNAME.to_owned(), case.alertname.clone());
            (Labels::from_pairs(&labels), Labels::from_pairs(&alert.exp_annotations))
        });
        let mut expected: Vec<_> = expected.collect();
        got.sort();
        expected.sort();
        if got == expected {
            return None;
        }
        let name = if test.name.is_empty() { String::new() } else { format!("    name: {},\n", test.name) };
        Some(format!(
            "{name}    alertname: {}, time: {}, \n        exp:{}, \n        got:{}",
            case.alertname,
            case.eval_time,
            alerts_text(&expected),
            alerts_text(&got)
        ))
    }

    fn check_expr(&self, case: &ExprTest) -> Option<String> {
        let place = format!("    expr: {}, time: {}", quote(&case.expr), case.eval_time);
        let asked = parse::parse(&case.expr, self.around.reading.features)
            .map_err(|error| error.to_string())
            .and_then(|expr| self.query(&expr, self.start + millis(case.eval_time.0)))
            .and_then(vector);
        let got = match asked {
            Ok(got) => got,
            Err(error) => return Some(format!("{place}, err: {error}")),
        };
        let mut got: Vec<Parsed> = got
            .into_iter()
            .map(|sample| match sample.value {
                Value::Float(value) => Parsed { labels: sample.labels, value, histogram: String::new() },
                Value::Histogram(histogram) => {
                    Parsed { labels: sample.labels, value: 0.0, histogram: histogram_text::for_tests(&histogram) }
                }
            })
            .collect();
        let mut expected = Vec::new();
        for sample in &case.exp_samples {
            match Parsed::of(sample) {
                Ok(parsed) => expected.push(parsed),
                Err(error) => return Some(format!("{place}, err: labels {}: {error}", quote(&sample.labels))),
            }
        }
        expected.sort_by(|a, b| a.labels.cmp(&b.labels));
        got.sort_by(|a, b| a.labels.cmp(&b.labels));
        let same =
            expected.len() == got.len() && expected.iter().zip(&got).all(|(one, other)| one.is(other, self.fuzzy));
        (!same)
            .then(|| format!("{place},\n        exp: {}\n        got: {}", samples_text(&expected), samples_text(&got)))
    }
}

struct Parsed {
    labels: Labels,
    value: f64,
    histogram: String,
}

impl Parsed {
    fn of(sample: &Sample) -> Result<Self, String> {
        let (labels, points) = match sample.labels.trim() {
            "" => (Labels::empty(), Vec::new()),
            text => series::parse(text).map_err(|error| error.to_string())?,
        };
        if !points.is_empty() {
            return Err("unexpected values behind the labels".to_owned());
        }
        if sample.histogram.is_empty() {
            return Ok(Self { labels, value: sample.value, histogram: String::new() });
        }
        let text = format!("{{}} {}", sample.histogram);
        let (_, points) = series::parse(&text).map_err(|error| error.to_string())?;
        match points.as_slice() {
            [Point::Histogram(histogram, _)] => {
                let histogram = histogram_text::for_tests(histogram);
                Ok(Self { labels, value: sample.value, histogram })
            }
            [_] => Err("expected histogram, got something else".to_owned()),
            points => Err(format!("expected 1 value, got {}", points.len())),
        }
    }

    fn is(&self, other: &Self, fuzzy: bool) -> bool {
        let (a, b) = (self.value, other.value);
        let near = a == b || fuzzy && (a.next_down() == b || a.next_up() == b);
        self.labels == other.labels && self.histogram == other.histogram && (near || !self.histogram.is_empty())
    }
}

/// A number with an exponent, as `strconv`'s format `E` writes it.
fn with_exponent(value: f64) -> String {
    if !value.is_finite() {
        return promql::number::plain(value);
    }
    let text = format!("{value:E}");
    let (digits, exponent) = text.split_once('E').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}E{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn samples_text(samples: &[Parsed]) -> String {
    let texts: Vec<String> = samples
        .iter()
        .map(|sample| {
            let value =
                if sample.histogram.is_empty() { with_exponent(sample.value) } else { sample.histogram.clone() };
            format!("{} {value}", sample.labels)
        })
        .collect();
    if texts.is_empty() { "nil".to_owned() } else { texts.join(", ") }
}

fn alerts_text(alerts: &[(Labels, Labels)]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut out = "[".to_owned();
    for (i, (labels, annotations)) in alerts.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(
            out,
            "{comma}\n            {i}:\n              Labels:{labels}\n              Annotations:{annotations}"
        )
        .expect("strings grow");
    }
    out.push_str("\n            ]");
    out
}
