//! Groups of rules, and how one is evaluated: rule after rule, so that a rule sees what those before it made; those that read
//! nothing of each other side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use promql::{
    ast::Expr,
    matcher::Matcher,
    parse,
    value::{Answer, Value, VectorSample},
};
use tsdb::{
    labels::{Builder, Labels, NAME, quote},
    sample::STALE_NAN,
};

use super::{
    alert::{self, ALERTNAME, ALERTS_FOR_STATE, Alerts, Holds, Notice, Wanted},
    file::{self, Reading},
    order,
    restore::{self, Before},
};
use crate::template::prometheus::{self, Context};

/// What rules stand on: series to look at, a place for those that they make, and somebody who takes alerts.
pub trait Ground {
    /// Evaluates an expression at a time (milliseconds since 1970).
    fn query(&self, expr: &Expr, time: i64) -> Result<Answer, String>;

    /// Appends samples; tells what was not taken, in the words of storage.
    fn append(&self, samples: &[(Labels, i64, Value)]) -> Result<Vec<String>, String>;

    /// The last sample of each float series that matches, between two times.
    fn last(&self, matchers: &[Matcher], from: i64, to: i64) -> Result<Vec<(Labels, i64, f64)>, String>;

    /// Takes alerts that are to be sent.
    fn send(&self, notices: Vec<Notice>);

    /// Does so many pieces of work, by their numbers, side by side where it can; returns when all are done.
    fn each(&self, count: usize, work: &Work<'_>);
}

/// A piece of work by its number.
pub type Work<'a> = dyn Fn(&dyn Ground, usize) + Sync + 'a;

/// What is the same for all groups.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Labels of this server, for templates.
    pub external_labels: Labels,
    /// Where the web interface is reached from outside.
    pub external_url: String,
    /// How often groups are evaluated that do not say.
    pub interval: Duration,
    /// How far back queries of groups look that do not say.
    pub query_offset: Duration,
    /// After how long alerts are sent again.
    pub resend_delay: Duration,
    /// How long the server may have been down for `for` to go on.
    pub outage_tolerance: Duration,
    /// How long no alert fires after a restart that would not have fired before.
    pub grace_period: Duration,
    /// How rules are read.
    pub reading: Reading,
}

impl Default for Surroundings {
    /// Prometheus' own.
    fn default() -> Self {
        Self {
            external_labels: Labels::empty(),
            external_url: String::new(),
            interval: Duration::from_mins(1),
            query_offset: Duration::ZERO,
            resend_delay: Duration::from_mins(1),
            outage_tolerance: Duration::from_hours(1),
            grace_period: Duration::from_mins(10),
            reading: Reading::default(),
        }
    }
}

/// A group.
#[derive(Debug)]
pub struct Group {
    /// The file, or the object, that it stands in.
    pub file: String,
    /// Its name.
    pub name: String,
    /// How often it is evaluated.
    pub interval: Duration,
    /// How far back its queries look.
    pub query_offset: Duration,
    /// Most series or alerts of a rule; without end if 0.
    pub limit: usize,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Runs of rules that may be evaluated side by side.
    batches: Vec<Range<usize>>,
    /// What it was made of.
    source: file::Group,
    state: Mutex<GroupState>,
}

/// What changes of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupState {
    /// How long the last evaluation took.
    pub took: Duration,
    /// When it began, in milliseconds since 1970.
    pub evaluated_at: Option<i64>,
    /// How many samples it made.
    pub samples: usize,
    /// How long looking for states from before took.
    pub restored_in: Option<Duration>,
    /// Evaluations that were due.
    pub scheduled: u64,
    /// Of those, how many were left out.
    pub missed: u64,
    /// Series of rules that are gone; their ends are still to be written.
    stale: Vec<Labels>,
    /// Whether states from before were looked for.
    restored: bool,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// The metric or alert.
    pub name: String,
    /// The expression.
    pub expr: Expr,
    /// Labels that are added.
    pub labels: Labels,
    /// What an alerting rule has besides.
    pub alerting: Option<Alerting>,
    state: Mutex<RuleState>,
}

/// What an alerting rule has besides.
#[derive(Debug)]
pub struct Alerting {
    /// How long the expression must be true.
    pub hold: Duration,
    /// How long an alert goes on.
    pub keep_firing: Duration,
    /// What alerts say, as templates.
    pub annotations: Labels,
}

/// How a rule did the last time.
#[derive(Clone, Debug, Default)]
pub struct RuleState {
    /// The alerts.
    pub alerts: Alerts,
    /// Whether it was evaluated, and what went wrong then.
    pub outcome: Option<Result<(), String>>,
    /// How long it took.
    pub took: Duration,
    /// When it was, in milliseconds since 1970.
    pub evaluated_at: Option<i64>,
    /// How often it was evaluated.
    pub evaluations: u64,
    /// How often that failed.
    pub failures: u64,
    /// The series that it made.
    series: BTreeSet<Labels>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Rule {
    fn new(source: &file::Rule, group_labels: &BTreeMap<String, String>, reading: &Reading) -> Result<Self, String> {
        let expr = parse::parse(&source.expr, reading.features).map_err(|error| error.to_string())?;
        let labels = Labels::from_pairs(group_labels.iter().chain(&source.labels));
        let alerting = (!source.alert.is_empty()).then(|| Alerting {
            hold: source.hold.0,
            keep_firing: source.keep_firing_for.0,
            annotations: Labels::from_pairs(&source.annotations),
        });
        let name = if source.alert.is_empty() { &source.record } else { &source.alert };
        Ok(Self { name: name.clone(), expr, labels, alerting, state: Mutex::default() })
    }

    /// How long it took the last time.
    pub fn took(&self) -> Duration {
        lock(&self.state).took
    }

    /// How it does.
    pub fn state(&self) -> RuleState {
        lock(&self.state).clone()
    }

    /// The samples that it makes at a time, and the alerts that are to be sent.
    fn evaluate(&self, group: &Group, around: &Surroundings, now: i64, ground: &dyn Ground) -> Result<Made, String> {
        let time = now - millis(group.query_offset);
        let vector = vector(ground.query(&self.expr, time)?)?;
        match &self.alerting {
            None => self.record(group, vector, time),
            Some(alerting) => self.alert(alerting, group, around, (now, time), vector, ground),
        }
    }

    fn record(&self, group: &Group, vector: Vec<VectorSample>, time: i64) -> Result<Made, String> {
        let mut seen = BTreeSet::new();
        let mut samples = Vec::with_capacity(vector.len());
        for sample in vector {
            let mut builder = Builder::new(&sample.labels);
            builder.set(NAME, &self.name);
            for (name, value) in &self.labels {
                builder.set(name, value);
            }
            let labels = builder.labels();
            if !seen.insert(labels.clone()) {
                return Err("vector contains metrics with the same labelset after applying rule labels".to_owned());
            }
            samples.push((labels, time, sample.value));
        }
        if group.limit > 0 && samples.len() > group.limit {
            return Err(format!("exceeded limit of {} with {} series", group.limit, samples.len()));
        }
        Ok(Made { samples, notices: Vec::new() })
    }

    fn alert(
        &self,
        alerting: &Alerting,
        group: &Group,
        around: &Surroundings,
        (now, time): (i64, i64),
        vector: Vec<VectorSample>,
        ground: &dyn Ground,
    ) -> Result<Made, String> {
        let template = format!("__alert_{}", self.name);
        let query = |text: &str| {
            let expr = parse::parse(text, around.reading.features).map_err(|error| error.to_string())?;
            self::vector(ground.query(&expr, now)?)
        };
        let context = Context { time: now, query: &query, external_url: &around.external_url, html: false };
        let mut wanted = Vec::with_capacity(vector.len());
        for sample in vector {
            let dot = prometheus::data(&sample.labels, &around.external_labels, &around.external_url, &sample.value);
            let expand = |text: &str| {
                prometheus::expand(&template, text, &dot, context).unwrap_or_else(|error| {
                    tracing::warn!(rule = self.name, "expand a template of an alert: {error}");
                    format!("<error expanding template: {error}>")
                })
            };
            let mut builder = Builder::new(&sample.labels);
            builder.remove(NAME);
            for (name, text) in &self.labels {
                builder.set(name, &expand(text));
            }
            let labels = builder.set(ALERTNAME, &self.name).labels();
            let annotations = alerting.annotations.iter().map(|(name, text)| (name, expand(text)));
            let annotations = Labels::from_pairs(annotations);
            wanted.push(Wanted { labels, annotations, value: sample.value.float().unwrap_or(0.0) });
        }
        let restored = lock(&group.state).restored;
        let mut state = lock(&self.state);
        let (hold, keep_firing) = (millis(alerting.hold), millis(alerting.keep_firing));
        alert::advance(&mut state.alerts, wanted, now, Holds { hold, keep_firing, limit: group.limit })?;
        let samples = if restored { alert::samples(&self.name, &self.labels, &state.alerts) } else { Vec::new() };
        let samples = samples.into_iter().map(|(labels, value)| (labels, time, Value::Float(value))).collect();
        let url = format!("{}{}", around.external_url, table_link(&self.expr.to_string()));
        let (resend, interval) = (millis(around.resend_delay), millis(group.interval));
        let notices = alert::due(&mut state.alerts, now, resend, interval, &url);
        Ok(Made { samples, notices })
    }
}

/// The path that shows an expression in a table.
fn table_link(expr: &str) -> String {
    let mut escaped = String::new();
    for byte in expr.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            b' ' => escaped.push('+'),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("/graph?g0.expr={escaped}&g0.tab=1")
}

struct Made {
    samples: Vec<(Labels, i64, Value)>,
    notices: Vec<Notice>,
}

/// What a rule can work with of an answer.
pub(super) fn vector(answer: Answer) -> Result<Vec<VectorSample>, String> {
    match answer {
        Answer::Vector(_, vector) => Ok(vector),
        Answer::Scalar(_, value) => Ok(vec![VectorSample { labels: Labels::empty(), value: Value::Float(value) }]),
        Answer::Text(..) | Answer::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
    }
}

impl Group {
    /// A group of a file that was read before. With `restored`, nothing from before is looked for.
    pub fn new(file: &str, source: &file::Group, around: &Surroundings, restored: bool) -> Result<Self, String> {
        let of = |rule| Rule::new(rule, &source.labels, &around.reading);
        let rules = source.rules.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            file: file.to_owned(),
            name: source.name.clone(),
            interval: source.interval(around.interval),
            query_offset: source.query_offset.map_or(around.query_offset, |offset| offset.0),
            limit: usize::try_from(source.limit).unwrap_or(0),
            batches: order::batches(&rules),
            rules,
            source: source.clone(),
            state: Mutex::new(GroupState { restored, ..GroupState::default() }),
        })
    }

    /// How long it took the last time.
    pub fn took(&self) -> Duration {
        lock(&self.state).took
    }

    /// What names it in metrics.
    pub fn key(&self) -> String {
        format!("{};{}", self.file, self.name)
    }

    /// How it does.
    pub fn state(&self) -> GroupState {
        lock(&self.state).clone()
    }

    /// Notes that evaluations were due, of which some were left out.
    pub fn note_scheduled(&self, missed: u64) {
        let mut state = lock(&self.state);
        state.scheduled += missed + 1;
        state.missed += missed;
    }

    /// Whether states from before have been looked for.
    pub fn is_restored(&self) -> bool {
        lock(&self.state).restored
    }

    /// Whether another is the same, but for its state.
    pub fn same(&self, other: &Self) -> bool {
        let key = |group: &Self| (group.file.clone(), group.interval, group.query_offset, group.limit);
        key(self) == key(other) && self.source == other.source
    }

    /// Takes the state of the rules of a group that this one replaces; of rules that are gone, the series end.
    pub fn take_state(&self, from: &Self) {
        let mut state = lock(&from.state).clone();
        let key = |rule: &Rule| (rule.name.clone(), rule.labels.clone());
        let mut left: Vec<&Rule> = from.rules.iter().collect();
        for rule in &self.rules {
            let Some(at) = left.iter().position(|old| key(old) == key(rule)) else { continue };
            let old = lock(&left.remove(at).state).clone();
            let mut own = lock(&rule.state);
            own.series = old.series;
            if rule.alerting.is_some() {
                own.alerts = old.alerts;
            }
        }
        state.stale.extend(left.iter().flat_map(|rule| lock(&rule.state).series.clone()));
        *lock(&self.state) = state;
    }

    /// Evaluates all rules at a time, in milliseconds since 1970. Ends early when `stopped` says so. Blocks the thread.
    pub fn evaluate(&self, around: &Surroundings, now: i64, ground: &dyn Ground, stopped: &dyn Fn() -> bool) {
        let started = Instant::now();
        let total = AtomicUsize::new(0);
        for batch in &self.batches {
            if stopped() {
                return;
            }
            ground.each(batch.len(), &|ground, at| {
                let made = self.evaluate_now(&self.rules[batch.start + at], around, now, ground);
                total.fetch_add(made, Ordering::Relaxed);
            });
        }
        self.end_stale(now, ground);
        let mut state = lock(&self.state);
        (state.took, state.evaluated_at, state.samples) = (started.elapsed(), Some(now), total.into_inner());
    }

    /// Evaluates a rule, notes how that went, and gives the number of its samples.
    fn evaluate_now(&self, rule: &Rule, around: &Surroundings, now: i64, ground: &dyn Ground) -> usize {
        let started = Instant::now();
        let outcome = self.evaluate_rule(rule, around, now, ground);
        let mut state = lock(&rule.state);
        state.evaluations += 1;
        state.failures += u64::from(outcome.is_err());
        (state.took, state.evaluated_at) = (started.elapsed(), Some(now));
        if let Err(error) = &outcome {
            tracing::warn!(group = self.name, rule = rule.name, "evaluate a rule: {error}");
        }
        let made = outcome.as_ref().copied().unwrap_or(0);
        state.outcome = Some(outcome.map(|_| ()));
        made
    }

    fn evaluate_rule(
        &self,
        rule: &Rule,
        around: &Surroundings,
        now: i64,
        ground: &dyn Ground,
    ) -> Result<usize, String> {
        let made = rule.evaluate(self, around, now, ground)?;
        if !made.notices.is_empty() {
            ground.send(made.notices);
        }
        let mut samples = made.samples;
        let count = samples.len();
        let series: BTreeSet<Labels> = samples.iter().map(|sample| sample.0.clone()).collect();
        let time = now - millis(self.query_offset);
        let ended = lock(&rule.state).series.difference(&series).cloned().collect::<Vec<_>>();
        samples.extend(ended.into_iter().map(|labels| (labels, time, Value::Float(STALE_NAN))));
        let refused = if samples.is_empty() { Vec::new() } else { ground.append(&samples)? };
        lock(&rule.state).series = series;
        match refused.first() {
            Some(first) => Err(first.clone()),
            None => Ok(count),
        }
    }

    /// Writes the ends of series whose rules are gone.
    fn end_stale(&self, now: i64, ground: &dyn Ground) {
        let stale = lock(&self.state).stale.clone();
        if stale.is_empty() {
            return;
        }
        let time = now - millis(self.query_offset);
        let ends: Vec<_> = stale.into_iter().map(|labels| (labels, time, Value::Float(STALE_NAN))).collect();
        match ground.append(&ends) {
            Ok(_) => lock(&self.state).stale.clear(),
            Err(error) => tracing::warn!(group = self.name, "end series of rules that are gone: {error}"),
        }
    }

    /// Ends all series of a group that is gone.
    pub fn end_all(&self, now: i64, ground: &dyn Ground) {
        let series = self.rules.iter().flat_map(|rule| std::mem::take(&mut lock(&rule.state).series));
        let series: Vec<Labels> = series.collect();
        lock(&self.state).stale.extend(series);
        self.end_stale(now, ground);
    }

    /// Looks up since when alerts were active before a restart; done once, after the second evaluation.
    pub fn restore(&self, around: &Surroundings, now: i64, ground: &dyn Ground) {
        let started = Instant::now();
        let (tolerance, grace) = (millis(around.outage_tolerance), millis(around.grace_period));
        for rule in &self.rules {
            let Some(alerting) = &rule.alerting else { continue };
            if alerting.hold < around.grace_period {
                continue;
            }
            let mut matchers = vec![Matcher::equal(NAME, ALERTS_FOR_STATE), Matcher::equal(ALERTNAME, &rule.name)];
            let fixed = rule.labels.iter().filter(|(name, value)| *name != ALERTNAME && !value.contains("{{"));
            matchers.extend(fixed.map(|(name, value)| Matcher::equal(name, value)));
            let found = match ground.last(&matchers, now - tolerance, now) {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(group = self.name, rule = rule.name, "restore states of alerts: {error}");
                    continue;
                }
            };
            let mut state = lock(&rule.state);
            for (labels, seen_at, value) in found {
                let labels = labels.without(|name| name == NAME);
                if value.is_nan() {
                    continue;
                }
                if let Some(alert) = state.alerts.get_mut(&labels) {
                    let before = Before { seen_at, active_at: value as i64 };
                    alert.active_at = restore::active_since(before, now, millis(alerting.hold), grace);
                }
            }
        }
        let mut state = lock(&self.state);
        (state.restored, state.restored_in) = (true, Some(started.elapsed()));
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "group {} of {}", quote(&self.name), self.file)
    }
}
