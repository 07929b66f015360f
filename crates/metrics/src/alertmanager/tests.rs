//! Groups, inhibition, silences and what receivers are told, over invented time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use task::{Clock, Task};

use super::{
    alert::{Alert, Fingerprint, Pairs, fingerprint},
    center::{Center, Deliver, Notification},
    config::Config,
    journal::{Journal, Record},
    log::{Entry, Reason, decide},
    matcher::{self, Comparison},
    outside::{Failure, Kept},
    route::{Routes, group_key},
    silence::{Condition, Quota, Refused, Silence, Silences, State as SilenceState},
    state::{Flush, State},
};

fn pairs(text: &str) -> Pairs {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn alert(labels: &str, starts_at: i64, ends_at: i64, updated_at: i64) -> Alert {
    Alert {
        labels: pairs(labels),
        annotations: Pairs::new(),
        starts_at,
        ends_at,
        updated_at,
        generator_url: String::new(),
        timeout: false,
    }
}

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("/etc")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn matchers_are_read_in_both_notations() {
    for (text, expected) in [
        ("foo=bar", "{foo=\"bar\"}"),
        ("{foo=\"bar\", a!=b}", "{foo=\"bar\",a!=\"b\"}"),
        ("foo=~\"a|b\",c!~d", "{foo=~\"a|b\",c!~\"d\"}"),
        ("foo=", "{foo=\"\"}"),
        ("foo=bar baz", "{foo=\"bar baz\"}"),
        ("\"with space\"=\"x\"", "{\"with space\"=\"x\"}"),
        ("f\u{e9}\u{1f642}=x", "{f\u{e9}\u{1f642}=\"x\"}"),
        ("foo=\"a\\\"b\\\\c\\n\"", "{foo=\"a\\\"b\\\\c\\n\"}"),
        ("foo=\"a,b\",c=d,", "{foo=\"a,b\",c=\"d\"}"),
        ("{}", "{}"),
    ] {
        let read = matcher::parse_all(text).map(|matchers| matcher::print(&matchers));
        assert_eq!(read.as_deref(), Ok(expected), "{text}");
    }
    for (text, expected) in [
        ("foo", "bad matcher format: foo"),
        ("foo=\"a", "matcher value contains unescaped double quote: \"a"),
        ("0foo=x{", "bad matcher format: 0foo=x{"),
        ("foo=~(", "error parsing regexp: \"^(?:()$\""),
    ] {
        assert_eq!(matcher::parse_all(text).err().as_deref(), Some(expected), "{text}");
    }
    assert!(matcher::parse_one("{foo=bar}").is_err());
    let whole = matcher::parse_one("a=~\"b\"").unwrap();
    assert_eq!((whole.comparison, whole.matches("b"), whole.matches("bb")), (Comparison::Matches, true, false));
}

const CONFIG: &str = "\
route:
  receiver: default
  group_by: [alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 4h
  routes:
  - matchers: [team=\"a\"]
    receiver: a
    continue: true
    mute_time_intervals: [night]
  - match_re: {team: a|b}
    receiver: b
    group_by: ['...']
    routes:
    - match: {severity: page}
      group_wait: 1s
inhibit_rules:
- source_matchers: [severity=\"page\"]
  target_matchers: [severity=~\"warn|page\"]
  equal: [cluster]
receivers:
- name: default
  webhook_configs: [{url: 'http://127.0.0.1:1/'}]
- name: a
  webhook_configs: [{url: 'http://127.0.0.1:1/'}, {url: 'http://127.0.0.1:1/', send_resolved: false}]
- name: b
  webhook_configs: [{url: 'http://127.0.0.1:1/'}]
time_intervals:
- name: night
  time_intervals:
  - times: [{start_time: '00:00', end_time: '06:00'}]
    location: Europe/Paris
";

#[test]
fn alerts_take_the_routes_that_match() {
    let config = config(CONFIG);
    let routes = Routes::new(config.route.as_ref().unwrap());
    let find = |labels: &str| {
        let labels = pairs(labels);
        let found = routes.find(&labels).into_iter().map(|at| {
            let route = routes.get(at).unwrap();
            let options = &route.options;
            format!("{} {} {}", options.receiver, options.group_wait, group_key(route, &options.group_labels(&labels)))
        });
        found.collect::<Vec<_>>()
    };
    assert_eq!(find("alertname=X"), ["default 30000 {}:{alertname=\"X\"}"]);
    assert_eq!(
        find("alertname=X team=a"),
        ["a 30000 {}/{team=\"a\"}:{alertname=\"X\"}", "b 30000 {}/{team=~\"a|b\"}:{alertname=\"X\", team=\"a\"}"]
    );
    assert_eq!(
        find("severity=page team=b"),
        ["b 1000 {}/{team=~\"a|b\"}/{severity=\"page\"}:{severity=\"page\", team=\"b\"}"]
    );
}

#[test]
fn configurations_are_refused_with_alertmanager_s_words() {
    let base = "receivers: [{name: x}]\nroute: {receiver: x";
    for (text, expected) in [
        ("receivers: [{name: x}]", "no routes provided"),
        ("receivers: [{name: x}]\nroute: {}", "root route must specify a default receiver"),
        (&format!("{base}, matchers: [a=b]}}"), "root route must not have any matchers"),
        (&format!("{base}, continue: true}}"), "cannot have continue in root route"),
        (&format!("{base}, routes: [{{receiver: y}}]}}"), "undefined receiver \"y\" used in route"),
        (&format!("{base}, routes: [{{mute_time_intervals: [n]}}]}}"), "undefined time interval \"n\" used in route"),
        (&format!("{base}, group_by: [a, a]}}"), "duplicated label \"a\" in group_by"),
        (
            &format!("{base}, group_by: [a, ...]}}"),
            "cannot have wildcard group_by (`...`) and other labels at the same time",
        ),
        (&format!("{base}, group_interval: 0s}}"), "group_interval cannot be zero"),
        (&format!("{base}, foo: 1}}"), "field foo not found in type config.plain"),
        ("receivers: [{name: x}, {name: x}]\nroute: {receiver: x}", "notification config name \"x\" is not unique"),
        ("receivers: [{name: x, email_configs: [{to: a@b}]}]\nroute: {receiver: x}", "no global SMTP smarthost set"),
        (
            "receivers: [{name: x, slack_configs: [{}]}]\nroute: {receiver: x}",
            "no Slack API URL nor App token set either inline or in a file",
        ),
        (
            "receivers: [{name: x, pagerduty_configs: [{}]}]\nroute: {receiver: x}",
            "missing service or routing key in PagerDuty config",
        ),
        (
            "receivers: [{name: x, webhook_configs: [{}]}]\nroute: {receiver: x}",
            "one of url or url_file must be configured",
        ),
        ("receivers: [{name: x, webhook_configs: [null]}]\nroute: {receiver: x}", "missing webhook config"),
        ("receivers: [{name: x, opsgenie_configs: [{}]}]\nroute: {receiver: x}", "opsgenie_configs are not supported"),
        (
            "receivers: [{name: x}]\nroute: {receiver: x}\ntime_intervals: [{name: n, time_intervals: [{months: ['5:1']}]}]",
            "end month january is before start month may",
        ),
        (
            "receivers: [{name: x}]\nroute: {receiver: x}\ntime_intervals: [{name: n, time_intervals: [{times: [{start_time: '10:00', end_time: '09:00'}]}]}]",
            "start time cannot be equal or greater than end time",
        ),
        ("", "no route provided in config"),
    ] {
        let error = Config::parse(text, Path::new("")).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_is_shown_reads_again_and_hides_secrets() {
    let text = format!("global:\n  smtp_auth_password: hidden\n  smtp_smarthost: a:25\n{CONFIG}");
    let printed = config(&text).print();
    assert!(!printed.contains("hidden") && printed.contains("smtp_auth_password: <secret>"), "{printed}");
    assert!(!printed.contains("127.0.0.1"), "addresses of webhooks are secrets: {printed}");
    assert!(printed.contains("group_by:\n  - alertname") && printed.contains("name: night"), "{printed}");
    assert!(Config::built_in().receiver("none").is_some());
}

#[test]
fn times_recur_as_configured() {
    let text = "\
receivers: [{name: x}]
route: {receiver: x}
time_intervals:
- name: n
  time_intervals:
  - times: [{start_time: '09:00', end_time: '17:00'}]
    weekdays: ['monday:friday']
    location: America/New_York
  - days_of_month: ['-1']
    months: [february]
    years: ['2024:2025']
";
    let config = config(text);
    let at = |text: &str| {
        let time: jiff::Timestamp = text.parse().unwrap();
        config.times("n").iter().any(|interval| interval.contains(time.as_millisecond()))
    };
    for (time, expected) in [
        ("2024-03-04T14:00:00Z", true),
        ("2024-03-04T13:59:59Z", false),
        ("2024-03-04T21:59:59Z", true),
        ("2024-03-04T22:00:00Z", false),
        ("2024-03-03T15:00:00Z", false),
        ("2024-07-01T13:00:00Z", true),
        ("2024-02-29T03:00:00Z", true),
        ("2025-02-28T03:00:00Z", true),
        ("2024-02-28T03:00:00Z", false),
        ("2026-02-28T03:00:00Z", false),
    ] {
        assert_eq!(at(time), expected, "{time}");
    }
}

#[test]
fn fingerprints_are_prometheus() {
    // As upstream's model package gives them.
    assert_eq!(fingerprint(&Pairs::new()).to_string(), "cbf29ce484222325");
    let labels = Pairs::from([("alertname".to_owned(), "X".to_owned()), ("job".to_owned(), "a b".to_owned())]);
    assert_eq!(fingerprint(&labels).to_string(), "6799b422b2b6dbac");
}

fn prints(names: &[&str]) -> BTreeSet<Fingerprint> {
    names.iter().map(|name| fingerprint(&pairs(&format!("n={name}")))).collect()
}

#[test]
fn notifications_go_out_when_something_changed_or_after_a_while() {
    let entry = |firing: &[&str], resolved: &[&str], at: i64| Entry {
        group: "g".to_owned(),
        receiver: ("r".to_owned(), 0),
        at,
        expires: i64::MAX,
        firing: prints(firing),
        resolved: prints(resolved),
        kept: BTreeMap::new(),
    };
    let hour = 3_600_000;
    for (last, firing, resolved, send_resolved, now, expected) in [
        (None, &["a"][..], &[][..], true, 0, Some(Reason::First)),
        (None, &[], &["a"], true, 0, None),
        (Some(entry(&["a"], &[], 0)), &["a"], &[], true, hour, None),
        (Some(entry(&["a"], &[], 0)), &["a", "b"], &[], true, 1, Some(Reason::NewAlerts)),
        (Some(entry(&[], &["a"], 0)), &["a"], &[], true, 1, Some(Reason::First)),
        (Some(entry(&["a", "b"], &[], 0)), &["a"], &["b"], true, 1, Some(Reason::NewResolved)),
        (Some(entry(&["a", "b"], &[], 0)), &["a"], &["b"], false, 1, None),
        (Some(entry(&["a"], &[], 0)), &[], &["a"], true, 1, Some(Reason::AllResolved)),
        (Some(entry(&[], &["a"], 0)), &[], &["a"], true, 1, None),
        (Some(entry(&["a"], &[], 0)), &["a"], &[], true, 4 * hour + 1, Some(Reason::Repeat)),
    ] {
        let decided = decide(last.as_ref(), &prints(firing), &prints(resolved), send_resolved, 4 * hour, now);
        assert_eq!(decided, expected, "{last:?} {firing:?} {resolved:?}");
    }
}

fn wish(id: &str, value: &str, starts_at: i64, ends_at: i64) -> Silence {
    let condition = Condition { name: "a".to_owned(), value: value.to_owned(), is_regex: false, is_equal: true };
    Silence {
        id: id.to_owned(),
        matchers: vec![condition],
        starts_at,
        ends_at,
        updated_at: 0,
        created_by: "me".to_owned(),
        comment: "c".to_owned(),
        annotations: BTreeMap::new(),
    }
}

#[test]
fn silences_change_in_place_where_that_does_not_rewrite_history() {
    let mut all = Silences::default();
    let quota = Quota { silences: 3, bytes: 1000 };
    let set = |all: &mut Silences, wish: Silence, fresh: &str, now: i64| {
        let changed = all.set(wish, fresh.to_owned(), now, quota)?;
        changed.iter().cloned().for_each(|silence| all.restore(silence));
        Ok::<_, Refused>(changed.last().unwrap().id.clone())
    };
    assert_eq!(set(&mut all, wish("", "x", 0, 10_000), "1", 1000).as_deref(), Ok("1"));
    assert_eq!(all.get("1").unwrap().starts_at, 1000, "it cannot have begun before");
    assert_eq!(set(&mut all, wish("1", "x", 1000, 20_000), "-", 2000).as_deref(), Ok("1"), "another end");
    assert_eq!(all.matching(&pairs("a=x"), 15_000), ["1"]);
    assert_eq!(set(&mut all, wish("1", "y", 1000, 20_000), "2", 3000).as_deref(), Ok("2"), "another condition");
    assert_eq!(all.get("1").unwrap().state(3001), SilenceState::Expired);
    assert_eq!(set(&mut all, wish("9", "x", 0, 10), "3", 0), Err(Refused::NotFound));
    assert!(all.expire("9", 0).is_err());
    assert_eq!(set(&mut all, wish("", "x", 0, 10_000), "3", 4000).as_deref(), Ok("3"));
    let error = set(&mut all, wish("", "x", 0, 10_000), "4", 4000).unwrap_err();
    assert_eq!(error.to_string(), "exceeded maximum number of silences: 3 (limit: 3)");
    let error = set(&mut all, wish("", &"x".repeat(2000), 0, 10_000), "4", 4000).unwrap_err();
    assert!(error.to_string().starts_with("silence exceeded maximum size"), "{error}");
    let error = set(&mut all, wish("", "", 0, 10_000), "4", 4000).unwrap_err();
    assert!(error.to_string().contains("at least one matcher must not match the empty string"), "{error}");
    assert_eq!(all.forget(3000 + super::silence::REMEMBERED + 1), ["1"]);
}

/// A state with alerts put in at a time.
fn state(alerts: Vec<Alert>, now: i64) -> State {
    let mut state = State::new(Arc::new(config(CONFIG)));
    let (alerts, refused) = state.accept(alerts, now);
    assert_eq!(refused, None);
    state.put(alerts, now);
    state
}

fn jobs(flush: &Flush) -> Vec<(usize, Reason, Vec<String>)> {
    let names = |alerts: &[Alert]| alerts.iter().map(|alert| alert.labels["alertname"].clone()).collect();
    flush.jobs.iter().map(|job| (job.place, job.reason, names(&job.alerts))).collect()
}

/// A time of day at which nothing is mute.
const NOON: i64 = 1_709_550_000_000;

#[test]
fn groups_wait_tell_repeat_and_end() {
    let far = NOON + 100 * 3_600_000;
    let mut state = state(vec![alert("alertname=X", NOON, far, NOON)], NOON);
    assert_eq!((state.next_due(), state.flushes(NOON + 29_999).len()), (Some(NOON + 30_000), 0));
    let now = NOON + 30_000;
    let flush = state.flushes(now).remove(0);
    assert_eq!(jobs(&flush), [(0, Reason::First, vec!["X".to_owned()])]);
    assert!(state.flushes(now).is_empty(), "it is being told");
    state.apply(Record::Notified(flush.jobs[0].entry.clone()));
    state.told(&flush, true);
    // Five minutes later nothing has changed; then the alert ends.
    let now = now + 300_000;
    let flush = state.flushes(now).remove(0);
    assert_eq!(jobs(&flush), []);
    state.told(&flush, true);
    state.put(vec![alert("alertname=X", NOON, now, now)], now);
    let now = now + 300_000;
    let flush = state.flushes(now).remove(0);
    assert_eq!(jobs(&flush), [(0, Reason::AllResolved, vec!["X".to_owned()])]);
    // The receiver did not take it: nothing is forgotten.
    state.told(&flush, false);
    assert_eq!(state.alerts.len(), 1);
    let flush = state.flushes(now + 300_000).remove(0);
    assert_eq!(jobs(&flush).len(), 1);
    state.apply(Record::Notified(flush.jobs[0].entry.clone()));
    state.told(&flush, true);
    assert_eq!((state.alerts.len(), state.groups.len(), state.next_due()), (0, 0, None));
}

#[test]
fn an_alert_that_fires_again_while_its_end_is_told_is_not_lost() {
    let mut state = state(vec![alert("alertname=X", NOON, NOON + 1000, NOON)], NOON);
    let now = NOON + 30_000;
    let flush = state.flushes(now).remove(0);
    state.put(vec![alert("alertname=X", now, now + 900_000, now + 1)], now + 1);
    state.told(&flush, true);
    assert_eq!((state.alerts.len(), state.groups.len()), (1, 1));
}

#[test]
fn silences_inhibition_and_times_keep_quiet() {
    let far = NOON + 3_600_000;
    let alerts = vec![
        alert("alertname=W severity=warn cluster=1", NOON, far, NOON),
        alert("alertname=P severity=page cluster=1", NOON, far, NOON),
        alert("alertname=V severity=warn cluster=2", NOON, far, NOON),
    ];
    let mut one = state(alerts, NOON);
    one.silences.restore(Silence {
        matchers: vec![Condition {
            name: "alertname".to_owned(),
            value: "V".to_owned(),
            is_regex: false,
            is_equal: true,
        }],
        ..wish("s", "", 0, far)
    });
    let told: Vec<_> = one.flushes(NOON + 30_000).iter().flat_map(jobs).map(|job| job.2.join(",")).collect();
    assert_eq!(told, ["P"], "a page silences the warning of its cluster, and not itself");
    let muted = one.muted(&pairs("alertname=W severity=warn cluster=1"), NOON);
    assert_eq!(muted.inhibited_by, Some(fingerprint(&pairs("alertname=P severity=page cluster=1"))));
    assert_eq!(one.muted(&pairs("alertname=V"), NOON).silenced_by, ["s"]);
    // Two in the morning in Paris: the route of team a is mute, that of a|b is not.
    let night = NOON - 10 * 3_600_000;
    let mut one = state(vec![alert("alertname=X team=a", night, far, night)], night);
    let flushes = one.flushes(night + 30_000);
    let told: Vec<_> = flushes.iter().map(|flush| (flush.options.receiver.as_str(), flush.jobs.len())).collect();
    assert_eq!(told, [("a", 0), ("b", 1)]);
    assert_eq!(one.groups.values().next().unwrap().muted_by, ["night"]);
}

#[test]
fn places_that_do_not_hear_of_ends_get_only_what_fires() {
    let far = NOON + 3_600_000;
    let mut state = state(
        vec![alert("alertname=X team=a", NOON, far, NOON), alert("alertname=X team=a i=2", NOON, NOON + 1, NOON)],
        NOON,
    );
    let flush = state.flushes(NOON + 30_000).into_iter().find(|flush| flush.options.receiver == "a").unwrap();
    let sizes: Vec<usize> = flush.jobs.iter().map(|job| job.alerts.len()).collect();
    assert_eq!(sizes, [2, 1]);
}

#[test]
fn another_configuration_keeps_alerts_silences_and_times_of_groups() {
    let far = NOON + 3_600_000;
    let mut state = state(vec![alert("alertname=X", NOON, far, NOON)], NOON);
    let flush = state.flushes(NOON + 30_000).remove(0);
    state.apply(Record::Notified(flush.jobs[0].entry.clone()));
    state.configure(Arc::new(config(CONFIG)), NOON + 31_000);
    state.told(&flush, true);
    assert_eq!(state.next_due(), Some(NOON + 330_000));
    let flush = state.flushes(NOON + 330_000).remove(0);
    assert_eq!(jobs(&flush), [], "it was told under the former configuration");
}

#[test]
fn the_journal_survives_torn_ends_and_damage() {
    let dir = tempfile::tempdir().unwrap();
    let record = |name: &str| Record::Forgotten(name.to_owned());
    let (mut journal, records, damaged) = Journal::open(dir.path()).unwrap();
    assert_eq!((records.len(), damaged), (0, 0));
    journal.append(&[record("1"), record("2"), record("3")]).unwrap();
    drop(journal);
    let path = dir.path().join("journal");
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let (mut journal, records, damaged) = Journal::open(dir.path()).unwrap();
        let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!((records.len(), damaged > 0), (lines, cut > 0 && whole[cut - 1] != b'\n'), "cut at {cut}");
        journal.append(&[record("4")]).unwrap();
        let (_, records, damaged) = Journal::open(dir.path()).unwrap();
        assert_eq!((records.len(), damaged), (lines + 1, 0), "what follows a torn end is read");
    }
    let mut broken = whole.clone();
    broken[12] ^= 1;
    std::fs::write(&path, &broken).unwrap();
    let (mut journal, records, damaged) = Journal::open(dir.path()).unwrap();
    assert_eq!((records.len(), damaged), (2, 1), "only what is damaged is lost");
    journal.rewrite(records.into_iter()).unwrap();
    let (_, records, damaged) = Journal::open(dir.path()).unwrap();
    assert_eq!((records, damaged), (vec![record("2"), record("3")], 0));
}

/// A receiver that notes what it takes, and takes nothing while it is out.
#[derive(Default)]
struct Fake {
    taken: Mutex<Vec<String>>,
    out: std::sync::atomic::AtomicBool,
}

struct Handle(Arc<Fake>);

impl Deliver for Handle {
    fn deliver(&self, notification: Notification) -> BoxFuture<'static, Result<Kept, Failure>> {
        let fake = self.0.clone();
        Box::pin(async move {
            if fake.out.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Failure::later("out"));
            }
            let now = notification.flush.now;
            let alerts = notification.job.alerts.iter().map(|alert| {
                format!("{}={}", alert.labels["alertname"], if alert.is_resolved(now) { "resolved" } else { "firing" })
            });
            fake.taken.lock().unwrap().push(alerts.collect::<Vec<_>>().join(","));
            Ok(Kept::new())
        })
    }
}

/// Moves the clock on in small steps, so that every timer has its turn.
async fn pass(clock: &Clock, time: Duration) {
    let steps = (time.as_millis() / 500).max(1);
    for _ in 0..steps {
        clock.advance(Duration::from_millis(500));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(NOON as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_reach_a_receiver_that_was_out() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(noon());
    let fake = Arc::new(Fake::default());
    fake.out.store(true, std::sync::atomic::Ordering::Relaxed);
    let task = Task::root("test");
    let center = Center::open(dir.path(), config(CONFIG), clock.clone(), Quota::default()).unwrap();
    center.start(&task, Arc::new(Handle(fake.clone())));
    let now = center.now();
    center.put(vec![alert("alertname=X", now, now + 36_000_000, now)]).await.unwrap().unwrap();
    pass(&clock, Duration::from_secs(60)).await;
    assert!(fake.taken.lock().unwrap().is_empty());
    fake.out.store(false, std::sync::atomic::Ordering::Relaxed);
    pass(&clock, Duration::from_secs(120)).await;
    assert_eq!(*fake.taken.lock().unwrap(), ["X=firing"]);
    task.drain(Duration::from_secs(5)).await;
}

/// Cuts the journal after each of its lines, as if the process had been killed there, and starts again: what had been
/// accepted before the cut reaches the receiver at least once, and what had been noted as sent does not go again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_every_alert_is_told_at_least_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(noon());
    let fake = Arc::new(Fake::default());
    let task = Task::root("test");
    let center = Center::open(dir.path(), config(CONFIG), clock.clone(), Quota::default()).unwrap();
    center.start(&task, Arc::new(Handle(fake.clone())));
    let now = center.now();
    center.put(vec![alert("alertname=X", now, now + 36_000_000, now)]).await.unwrap().unwrap();
    pass(&clock, Duration::from_secs(40)).await;
    let now = center.now();
    center.put(vec![alert("alertname=X", now - 40_000, now, now)]).await.unwrap().unwrap();
    pass(&clock, Duration::from_secs(330)).await;
    assert_eq!(*fake.taken.lock().unwrap(), ["X=firing", "X=resolved"]);
    task.drain(Duration::from_secs(5)).await;
    drop(center);
    let whole = std::fs::read_to_string(dir.path().join("journal")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    // Accepted, told, ended, its end told, over.
    assert_eq!(lines.len(), 5, "{whole}");
    for (kept, expected) in [(1, &["X=firing"][..]), (2, &[]), (3, &["X=resolved"]), (4, &[]), (5, &[])] {
        let again = tempfile::tempdir().unwrap();
        std::fs::write(again.path().join("journal"), lines[..kept].join("\n") + "\n").unwrap();
        let clock = Clock::manual(noon() + Duration::from_secs(400));
        let fake = Arc::new(Fake::default());
        let task = Task::root("again");
        let center = Center::open(again.path(), config(CONFIG), clock.clone(), Quota::default()).unwrap();
        center.start(&task, Arc::new(Handle(fake.clone())));
        pass(&clock, Duration::from_secs(40)).await;
        assert_eq!(*fake.taken.lock().unwrap(), expected, "after {kept} records");
        task.drain(Duration::from_secs(5)).await;
    }
}

#[test]
fn objects_of_a_cluster_become_routes_of_their_namespace() {
    let object = serde_json::json!({
        "metadata": {"namespace": "shop", "name": "team"},
        "spec": {
            "route": {
                "receiver": "hook", "groupBy": ["alertname"], "groupWait": "5s",
                "matchers": [{"name": "severity", "value": "page", "matchType": "="}],
                "routes": [{"receiver": "chat", "matchers": [{"name": "x", "value": "a|b", "regex": true}], "muteTimeIntervals": ["night"]}],
            },
            "receivers": [
                {"name": "hook", "webhookConfigs": [{"urlSecret": {"name": "s", "key": "url"}, "sendResolved": false}]},
                {"name": "chat", "slackConfigs": [{"apiURL": {"name": "s", "key": "slack"}, "channel": "#x", "titleLink": "http://t"}]},
            ],
            "inhibitRules": [{"sourceMatch": [{"name": "a", "value": "b"}], "targetMatch": [{"name": "c", "value": "d"}], "equal": ["n"]}],
            "muteTimeIntervals": [{"name": "night", "timeIntervals": [{"times": [{"startTime": "00:00", "endTime": "06:00"}], "weekdays": ["Monday:Friday"], "daysOfMonth": [{"start": 1, "end": 5}]}]}],
        },
    });
    let secrets = |namespace: &str, name: &str, key: &str| {
        (namespace == "shop" && name == "s").then(|| format!("http://secret/{key}\n"))
    };
    let mut all = config(CONFIG);
    super::objects::add(&mut all, &object, &secrets).unwrap();
    let routes = Routes::new(all.route.as_ref().unwrap());
    let find = |labels: &str| {
        let found = routes.find(&pairs(labels)).into_iter().filter_map(|at| routes.get(at));
        found.map(|route| route.options.receiver.clone()).collect::<Vec<_>>()
    };
    assert_eq!(find("namespace=shop severity=page"), ["shop/team/hook", "default"][..1]);
    assert_eq!(find("namespace=shop severity=page x=b team=b"), ["shop/team/chat", "b"]);
    assert_eq!(find("namespace=other severity=page"), ["default"]);
    assert_eq!(all.receiver("shop/team/hook").unwrap().webhooks[0].url.0, "http://secret/url");
    assert_eq!(all.receiver("shop/team/chat").unwrap().slacks[0].title_link, "http://t");
    let rule = all.inhibit_rules.last().unwrap();
    assert_eq!(matcher::print(&rule.sources()), "{a=\"b\",namespace=\"shop\"}");
    assert_eq!(all.times("shop/team/night").len(), 1);
    let error = super::objects::add(&mut all, &object, &|_, _, _| None).unwrap_err();
    assert!(error.contains("no key url in Secret s of namespace shop"), "{error}");
}
