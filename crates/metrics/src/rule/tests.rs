//! Rules over invented time.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use promql::{
    ast::Expr,
    matcher::Matcher,
    value::{Answer, Value, VectorSample},
};
use tsdb::labels::{Labels, NAME};

use super::{
    alert::{self, ALERTNAME, Alerts, Holds, Notice, State, Wanted},
    file::{self, Reading},
    group::{Ground, Group, Surroundings, Work},
    order,
    restore::{Before, active_since},
    schedule,
};

const MINUTE: i64 = 60_000;

fn wanted(instance: &str) -> Wanted {
    Wanted { labels: Labels::from_pairs([("instance", instance)]), annotations: Labels::empty(), value: 1.0 }
}

fn states(alerts: &Alerts) -> String {
    let texts = alerts.iter().map(|(labels, alert)| format!("{}={}", labels.get("instance"), alert.state.name()));
    texts.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_alert_waits_fires_goes_on_and_ends() {
    let holds = Holds { hold: 2 * MINUTE, keep_firing: 3 * MINUTE, limit: 0 };
    let mut alerts = Alerts::new();
    let steps: [(i64, &[&str], &str); 12] = [
        (0, &["a", "b"], "a=pending b=pending"),
        (1, &["a"], "a=pending"),
        (2, &["a", "b"], "a=firing b=pending"),
        (3, &["b"], "a=firing b=pending"),
        (5, &["a", "b"], "a=firing b=firing"),
        (6, &[], "a=firing b=firing"),
        (8, &[], "a=firing b=firing"),
        (9, &[], "a=inactive b=inactive"),
        (10, &["a"], "a=pending b=inactive"),
        (11, &[], "b=inactive"),
        (24, &[], "b=inactive"),
        (25, &[], ""),
    ];
    for (minute, instances, expected) in steps {
        let answer = instances.iter().map(|instance| wanted(instance)).collect();
        alert::advance(&mut alerts, answer, minute * MINUTE, holds).unwrap();
        assert_eq!(states(&alerts), expected, "minute {minute}");
    }
}

#[test]
fn too_many_alerts_and_two_of_the_same_labels_are_errors() {
    let mut alerts = Alerts::new();
    let holds = Holds { limit: 1, ..Holds::default() };
    let error = alert::advance(&mut alerts, vec![wanted("a"), wanted("b")], 0, holds).unwrap_err();
    assert_eq!(error, "exceeded limit of 1 with 2 alerts");
    assert!(alerts.is_empty());
    let error = alert::advance(&mut alerts, vec![wanted("a"), wanted("a")], 0, holds).unwrap_err();
    assert_eq!(error, "vector contains metrics with the same labelset after applying alert labels");
}

#[test]
fn alerts_are_sent_when_they_fire_again_after_a_while_and_when_they_end() {
    let mut alerts = Alerts::new();
    let send = |alerts: &mut Alerts, minute: i64, instances: &[&str]| {
        let answer = instances.iter().map(|instance| wanted(instance)).collect();
        alert::advance(alerts, answer, minute * MINUTE, Holds { hold: MINUTE, ..Holds::default() }).unwrap();
        alert::due(alerts, minute * MINUTE, 2 * MINUTE, MINUTE, "http://g")
    };
    assert_eq!(send(&mut alerts, 0, &["a"]), vec![], "pending alerts are not sent");
    let first = send(&mut alerts, 1, &["a"]);
    assert_eq!((first[0].starts_at, first[0].ends_at), (MINUTE, MINUTE + 4 * 2 * MINUTE));
    assert_eq!(send(&mut alerts, 3, &["a"]), vec![], "not again so soon");
    assert_eq!(send(&mut alerts, 4, &["a"]).len(), 1, "but after the delay");
    let last = send(&mut alerts, 5, &[]);
    assert_eq!((last.len(), last[0].ends_at), (1, 5 * MINUTE), "its end at once");
    assert_eq!(send(&mut alerts, 8, &[]).len(), 1, "and its end again, in case it was not heard");
}

#[test]
fn time_that_nobody_looked_does_not_count() {
    let hold = 30 * MINUTE;
    let before = |seen: i64, active: i64| Before { seen_at: seen * MINUTE, active_at: active * 60 };
    for (now, before, grace, expected, why) in [
        (100, before(90, 50), 10, 50, "it fired before"),
        (100, before(90, 85), 10, 95, "ten minutes down are added to five that it was active"),
        (100, before(90, 62), 10, 80, "two minutes were left: the grace period counts instead"),
    ] {
        assert_eq!(active_since(before, now * MINUTE, hold, grace * MINUTE), expected * MINUTE, "{why}");
    }
}

#[test]
fn groups_are_due_at_their_own_place_of_the_interval() {
    let interval = Duration::from_secs(60);
    let (a, b) = (schedule::place("f", "a"), schedule::place("f", "b"));
    let slot = |place| schedule::slot(place, interval, 1_000_000_000_000_000);
    assert_ne!(slot(a), slot(b));
    assert!((0..60_000_000_000).contains(&(1_000_000_000_000_000 - slot(a))));
    assert_eq!(slot(a), schedule::slot(a, interval, slot(a)), "a slot is its own");
    let second = 1_000_000_000;
    assert_eq!(schedule::next(0, interval, 5 * second), (60 * second, 0));
    assert_eq!(schedule::next(0, interval, 125 * second), (120 * second, 1), "one was missed");
    assert_eq!(schedule::next(0, interval, 190 * second), (180 * second, 2));
}

#[test]
fn files_are_read_strictly_and_all_that_is_wrong_is_told() {
    let text = "\
groups:
- name: a
  limit: 3
  query_offset: 1m
  labels: {team: x}
  rules:
  - record: job:x:sum
    expr: sum by (job) (x)
  - alert: B
    expr: up == 0
    for: 5m
    keep_firing_for: 1m
    annotations: {summary: '{{ $value }}'}
";
    let file = file::parse(text, &Reading::default()).unwrap();
    assert_eq!((file.groups[0].rules.len(), file.groups[0].rules[1].hold.0), (2, Duration::from_mins(5)));
    for (text, expected) in [
        ("groups:\n- name: a\n  foo: 1\n", "field foo not found in type rulefmt.RuleGroup"),
        ("groups:\n- name: ''\n  rules: []\n", "2:3: Groupname must not be empty"),
        ("groups:\n- name: a\n- name: a\n", "3:3: groupname: \"a\" is repeated in the same file"),
        (
            "groups:\n- name: a\n  rules:\n  - alert: B\n    expr: sum(\n",
            "5:11: group \"a\", rule 1, \"B\": could not parse expression: ",
        ),
        (
            "groups:\n- name: a\n  rules:\n  - record: r\n    alert: B\n    expr: x\n",
            "only one of 'record' and 'alert' must be set",
        ),
        (
            "groups:\n- name: a\n  rules:\n  - record: r\n    for: 1m\n    expr: x\n",
            "4:13: group \"a\", rule 1, \"r\": invalid field 'for' in recording rule",
        ),
        (
            "groups:\n- name: a\n  rules:\n  - alert: B\n    expr: x\n    labels: {a: '{{ foo }}'}\n",
            "group \"a\", rule 1, \"B\": label \"a\": template: __alert_B:1: function \"foo\" not defined",
        ),
        ("groups:\n- name: a\n  interval: soon\n", "not a valid duration string: \"soon\""),
    ] {
        let problems = file::parse(text, &Reading::default()).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
    }
    let lenient = Reading { lenient: true, ..Reading::default() };
    assert!(file::parse("groups:\n- name: a\n  foo: 1\nbar: 2\n", &lenient).is_ok());
}

/// Series by label set with their last samples; answers what a test sets.
#[derive(Default)]
struct Fake {
    answers: BTreeMap<String, Vec<(&'static str, f64)>>,
    series: RefCell<Vec<(String, i64, f64)>>,
    sent: RefCell<Vec<Notice>>,
    before: Vec<(Labels, i64, f64)>,
}

impl Ground for Fake {
    fn each(&self, count: usize, work: &Work<'_>) {
        (0..count).for_each(|at| work(self, at));
    }

    fn query(&self, expr: &Expr, time: i64) -> Result<Answer, String> {
        let query = expr.to_string();
        let Some(answer) = self.answers.get(&query) else { return Err(format!("no answer to {query}")) };
        let vector = answer.iter().map(|(instance, value)| VectorSample {
            labels: Labels::from_pairs([(NAME, "x"), ("instance", instance)]),
            value: Value::Float(*value),
        });
        Ok(Answer::Vector(time, vector.collect()))
    }

    fn append(&self, samples: &[(Labels, i64, Value)]) -> Result<Vec<String>, String> {
        let samples = samples.iter().map(|(labels, time, value)| (labels.to_string(), *time, value.float().unwrap()));
        self.series.borrow_mut().extend(samples);
        Ok(Vec::new())
    }

    fn last(&self, matchers: &[Matcher], _: i64, _: i64) -> Result<Vec<(Labels, i64, f64)>, String> {
        let found =
            self.before.iter().filter(|(labels, ..)| matchers.iter().all(|matcher| matcher.matches_labels(labels)));
        Ok(found.cloned().collect())
    }

    fn send(&self, notices: Vec<Notice>) {
        self.sent.borrow_mut().extend(notices);
    }
}

fn group(text: &str, restored: bool) -> Group {
    let file = file::parse(text, &Reading::default()).unwrap();
    Group::new("f", &file.groups[0], &Surroundings::default(), restored).unwrap()
}

const GROUP: &str = "\
groups:
- name: g
  rules:
  - record: r
    expr: x
    labels: {l: v}
  - alert: A
    expr: y > 0
    for: 20m
    labels: {severity: '{{ $labels.instance }}'}
    annotations: {summary: 'is {{ $value }}'}
";

#[test]
fn an_evaluation_writes_series_and_the_ends_of_those_that_went() {
    let group = group(GROUP, true);
    let around = Surroundings::default();
    let mut fake = Fake::default();
    fake.answers.insert("x".to_owned(), vec![("a", 1.0), ("b", 2.0)]);
    fake.answers.insert("y > 0".to_owned(), vec![("a", 7.0)]);
    group.evaluate(&around, 0, &fake, &|| false);
    let text = |fake: &Fake| {
        let mut lines: Vec<_> =
            fake.series.borrow_mut().drain(..).map(|(labels, _, value)| format!("{labels} {value}")).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        text(&fake),
        [
            "{__name__=\"ALERTS\", alertname=\"A\", alertstate=\"pending\", instance=\"a\", severity=\"a\"} 1",
            "{__name__=\"ALERTS_FOR_STATE\", alertname=\"A\", instance=\"a\", severity=\"a\"} 0",
            "{__name__=\"r\", instance=\"a\", l=\"v\"} 1",
            "{__name__=\"r\", instance=\"b\", l=\"v\"} 2",
        ]
    );
    fake.answers.insert("x".to_owned(), vec![("a", 1.0)]);
    group.evaluate(&around, 20 * MINUTE, &fake, &|| false);
    let lines = text(&fake);
    assert!(lines.contains(&"{__name__=\"r\", instance=\"b\", l=\"v\"} NaN".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("alertstate=\"pending\"") && line.ends_with("NaN")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("alertstate=\"firing\"") && line.ends_with(" 1")), "{lines:?}");
    let sent = fake.sent.borrow();
    assert_eq!((sent.len(), sent[0].annotations.get("summary"), sent[0].labels.get(ALERTNAME)), (1, "is 7", "A"));
    assert_eq!(sent[0].generator_url, "/graph?g0.expr=y+%3E+0&g0.tab=1");
    drop(sent);
    // What fails is told, and its series stay as they are.
    fake.answers.remove("x");
    group.evaluate(&around, 21 * MINUTE, &fake, &|| false);
    assert_eq!(group.rules[0].state().outcome, Some(Err("no answer to x".to_owned())));
    assert!(!text(&fake).iter().any(|line| line.contains("\"r\"")));
}

#[test]
fn a_changed_group_takes_the_state_of_its_rules_along() {
    let around = Surroundings::default();
    let mut fake = Fake::default();
    fake.answers.insert("x".to_owned(), vec![("a", 1.0)]);
    fake.answers.insert("y > 0".to_owned(), vec![("a", 7.0)]);
    let old = group(GROUP, true);
    old.evaluate(&around, 0, &fake, &|| false);
    fake.series.borrow_mut().clear();
    let text = GROUP.replace("  - record: r\n    expr: x\n    labels: {l: v}\n", "");
    let new = group(&text, true);
    assert!(!new.same(&old));
    new.take_state(&old);
    new.evaluate(&around, 20 * MINUTE, &fake, &|| false);
    assert_eq!(states(&new.rules[0].state().alerts), "a=firing", "it was active already");
    let lines: Vec<_> = fake.series.borrow().iter().map(|(labels, _, value)| format!("{labels} {value}")).collect();
    assert!(lines.contains(&"{__name__=\"r\", instance=\"a\", l=\"v\"} NaN".to_owned()), "{lines:?}");
}

#[test]
fn after_a_restart_an_alert_is_active_since_before() {
    let group = group(GROUP, false);
    let around = Surroundings::default();
    let mut fake = Fake::default();
    fake.answers.insert("x".to_owned(), vec![]);
    fake.answers.insert("y > 0".to_owned(), vec![("a", 7.0)]);
    let labels = [(NAME, "ALERTS_FOR_STATE"), (ALERTNAME, "A"), ("instance", "a"), ("severity", "a")];
    fake.before.push((Labels::from_pairs(labels), 95 * MINUTE, 60.0 * 70.0));
    group.evaluate(&around, 100 * MINUTE, &fake, &|| false);
    assert!(fake.series.borrow().is_empty(), "what was before is not written over");
    group.evaluate(&around, 101 * MINUTE, &fake, &|| false);
    group.restore(&around, 101 * MINUTE, &fake);
    let state = group.rules[1].state();
    let alert = state.alerts.values().next().unwrap();
    assert_eq!((alert.active_at, alert.state), (70 * MINUTE, State::Pending));
    group.evaluate(&around, 102 * MINUTE, &fake, &|| false);
    assert_eq!(states(&group.rules[1].state().alerts), "a=firing");
    assert!(!fake.series.borrow().is_empty());
}

#[test]
fn rules_that_read_nothing_of_each_other_run_side_by_side() {
    for (text, expected) in [
        (
            "[{record: a, expr: x}, {record: b, expr: y}, {record: c, expr: a + b}, {record: d, expr: z}]",
            vec![0..2, 2..4],
        ),
        ("[{record: a, expr: b}, {record: b, expr: x}]", vec![0..1, 1..2]),
        ("[{record: a, expr: x}, {alert: B, expr: '{__name__=~\"a|c\"}'}]", vec![0..1, 1..2]),
        ("[{record: a, expr: x}, {record: b, expr: '{job=\"c\"}'}]", vec![0..1, 1..2]),
        ("[{alert: A, expr: x}, {alert: B, expr: y}, {record: n, expr: count(ALERTS)}]", vec![0..2, 2..3]),
        ("[{record: a, expr: x}, {alert: B, expr: y, annotations: {s: '{{ query \"a\" }}'}}]", vec![0..1, 1..2]),
    ] {
        let group = group(&format!("groups: [{{name: g, rules: {text}}}]"), true);
        assert_eq!(order::batches(&group.rules), expected, "{text}");
    }
}

#[test]
fn objects_of_a_cluster_are_groups_of_rules() {
    let object = serde_json::json!({
        "metadata": {"namespace": "shop", "name": "rules", "uid": "1"},
        "spec": {"groups": [{"name": "g", "interval": "30s", "partial_response_strategy": "warn", "rules": [
            {"record": "one", "expr": 1},
            {"alert": "Down", "expr": "up == 0", "for": "5m", "labels": {"severity": "page"}},
        ]}]},
    });
    let file = super::objects::groups(&object, &Reading::default()).unwrap();
    assert_eq!(super::objects::name(&object), "shop-rules-1.yaml");
    assert_eq!((file.groups[0].rules[0].expr.as_str(), file.groups[0].rules[1].hold.0), ("1", Duration::from_mins(5)));
    let mut wrong = object;
    wrong["spec"]["groups"][0]["rules"][1]["expr"] = "up ==".into();
    assert!(super::objects::groups(&wrong, &Reading::default()).unwrap_err()[0].contains("could not parse expression"));
}
