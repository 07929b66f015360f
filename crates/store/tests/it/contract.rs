//! What every implementation promises, as a table of cases that each run against a store under a prefix of their own.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use store::{Batch, Compare, Entry, Error, Event, Op, Outcome, Page, Revision, Store, Txn, Watch};

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
type Case = (&'static str, fn(Subject) -> Running);

/// The cases, in the order they run in: the last ones compact.
const CASES: &[Case] = &[
    ("an absent key reads as nothing", |s| Box::pin(absent(s))),
    ("a put is read back with its revisions", |s| Box::pin(put(s))),
    ("a key made anew starts its versions again", |s| Box::pin(recreate(s))),
    ("values and keys are any bytes and any text", |s| Box::pin(contents(s))),
    ("a transaction writes all under one revision", |s| Box::pin(atomic(s))),
    ("a conflict writes nothing and tells what is there", |s| Box::pin(conflict(s))),
    ("a transaction that changes nothing makes no revision", |s| Box::pin(nothing(s))),
    ("of many creations of one key one wins", |s| Box::pin(race(s))),
    ("wrong requests are refused and harmless", |s| Box::pin(wrong(s))),
    ("a range has the keys of its prefix in order", |s| Box::pin(range(s))),
    ("a range goes on where a page ended", |s| Box::pin(pages(s))),
    ("a range of many keys is whole", |s| Box::pin(many(s))),
    ("a range at a revision shows the past", |s| Box::pin(past(s))),
    ("a revision in the future cannot be read", |s| Box::pin(future(s))),
    ("a watch tells of changes with what was before", |s| Box::pin(watch(s))),
    ("a watch resumes from a revision", |s| Box::pin(resume(s))),
    ("a watch sees only its prefix", |s| Box::pin(prefix(s))),
    ("a watch from the future waits for it", |s| Box::pin(watch_future(s))),
    ("a watch of everything sees everything", |s| Box::pin(everything(s))),
    ("a watch of a long history sees all of it in order", |s| Box::pin(history(s))),
    ("a quiet watch reports progress when it is asked", |s| Box::pin(progress(s))),
    ("many watches see the same", |s| Box::pin(watches(s))),
    ("a watch sees what many writers write, in order", |s| Box::pin(concurrent(s))),
    ("compaction forgets the past and nothing else", |s| Box::pin(compact(s))),
    ("a watch with nothing to read survives a compaction", |s| Box::pin(compact_watch(s))),
];

/// Runs all cases against one store.
pub async fn check(store: Store) {
    for (number, (name, case)) in CASES.iter().enumerate() {
        println!("  {name}");
        let subject = Subject { store: store.clone(), prefix: format!("/contract/{number:02}/") };
        let running = tokio::time::timeout(Duration::from_secs(60), case(subject));
        running.await.unwrap_or_else(|_| panic!("{name}: took too long"));
    }
}

/// A store and the part of it that belongs to one case.
#[derive(Clone)]
struct Subject {
    store: Store,
    prefix: String,
}

impl Subject {
    fn key(&self, name: &str) -> Arc<str> {
        format!("{}{name}", self.prefix).into()
    }

    async fn get(&self, name: &str) -> Option<Entry> {
        self.store.get(&self.key(name)).await.expect("get").0
    }

    async fn commit(&self, compare: &[(&str, Revision)], ops: &[(&str, Option<&str>)]) -> Outcome {
        self.store.commit(self.txn(compare, ops)).await.expect("commit")
    }

    fn txn(&self, compare: &[(&str, Revision)], ops: &[(&str, Option<&str>)]) -> Txn {
        let compare = compare.iter().map(|(key, at)| Compare { key: self.key(key), mod_revision: *at }).collect();
        let op = |(key, value): &(&str, Option<&str>)| match value {
            Some(value) => Op::Put { key: self.key(key), value: Bytes::copy_from_slice(value.as_bytes()) },
            None => Op::Delete { key: self.key(key) },
        };
        Txn { compare, ops: ops.iter().map(op).collect() }
    }

    async fn put(&self, name: &str, value: &str) -> Revision {
        committed(self.commit(&[], &[(name, Some(value))]).await)
    }

    async fn delete(&self, name: &str) -> Revision {
        committed(self.commit(&[], &[(name, None)]).await)
    }

    async fn range(&self, from: Option<&str>, at: Option<Revision>, limit: usize) -> Page {
        let from = from.map(|from| self.key(from));
        self.store.range(&self.prefix, from.as_deref(), at, limit).await.expect("range")
    }

    async fn watch(&self, after: Revision) -> Watch {
        self.store.watch(&self.prefix, after).await.expect("watch")
    }

    async fn revision(&self) -> Revision {
        self.store.revision().await.expect("revision")
    }

    /// The name of a key below the prefix.
    fn name<'a>(&self, key: &'a str) -> &'a str {
        key.strip_prefix(&self.prefix).expect("a key of this case")
    }

    fn names(&self, page: &Page) -> Vec<String> {
        page.entries.iter().map(|entry| self.name(&entry.key).to_owned()).collect()
    }
}

fn committed(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(current) => panic!("conflict with {current:?}"),
    }
}

/// Batches until there were `count` events, checked to be in order.
async fn events(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut through = Revision::ABSENT;
    while events.len() < count {
        let batch = watch.next().await.expect("next batch");
        check_order(&batch, through);
        through = batch.revision;
        events.extend(batch.events);
    }
    assert_eq!(events.len(), count, "more events than expected: {events:?}");
    events
}

fn check_order(batch: &Batch, after: Revision) {
    assert!(batch.revision >= after, "{} after {after}", batch.revision);
    let mut last = after;
    for event in &batch.events {
        assert!(event.revision() > after || after == Revision::ABSENT, "revision {last} came in two batches");
        assert!(event.revision() >= last && event.revision() <= batch.revision, "{event:?} in {batch:?}");
        last = event.revision();
    }
}

/// One line for an event: what happened to which key, at which revision after `base`, and what was before.
fn line(s: &Subject, base: Revision, event: &Event) -> String {
    let at = |revision: Revision| revision.get() - base.get();
    let text = |entry: &Entry| String::from_utf8_lossy(&entry.value).into_owned();
    let prev = event.prev().map_or("-".into(), text);
    match event {
        Event::Put { entry, .. } => {
            format!(
                "{} put {} {} v{} (was {prev})",
                at(entry.mod_revision),
                s.name(&entry.key),
                text(entry),
                entry.version
            )
        }
        Event::Delete { key, revision, .. } => format!("{} delete {} (was {prev})", at(*revision), s.name(key)),
    }
}

fn lines(s: &Subject, base: Revision, events: &[Event]) -> Vec<String> {
    events.iter().map(|event| line(s, base, event)).collect()
}

async fn absent(s: Subject) {
    let (entry, revision) = s.store.get(&s.key("a")).await.expect("get");
    assert_eq!(entry, None);
    assert!(revision >= Revision::INITIAL);
    let page = s.range(None, None, 0).await;
    assert_eq!((page.entries.len(), page.more, page.count), (0, false, 0));
}

async fn put(s: Subject) {
    let before = s.revision().await;
    let first = s.put("a", "1").await;
    assert_eq!(first.get(), before.get() + 1);
    assert_eq!(s.revision().await, first);
    let second = s.put("a", "2").await;
    let entry = s.get("a").await.expect("entry");
    let expected = Entry {
        key: s.key("a"),
        value: Bytes::from_static(b"2"),
        create_revision: first,
        mod_revision: second,
        version: 2,
    };
    assert_eq!(entry, expected);
}

async fn recreate(s: Subject) {
    s.put("a", "1").await;
    s.put("a", "2").await;
    s.delete("a").await;
    assert_eq!(s.get("a").await, None);
    let again = s.put("a", "3").await;
    let entry = s.get("a").await.expect("entry");
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version), (again, again, 1));
}

async fn contents(s: Subject) {
    let long = vec![0xabu8; 1_000_000];
    for (key, value) in
        [("empty", &b""[..]), ("bytes", &[0, 255, 10, 13, 0]), ("한글 key\u{10348}", b"x"), ("long", &long)]
    {
        let txn = Txn::put(s.key(key), Bytes::copy_from_slice(value), Revision::ABSENT);
        committed(s.store.commit(txn).await.expect("commit"));
        assert_eq!(s.get(key).await.expect("entry").value, value, "{key}");
    }
}

async fn atomic(s: Subject) {
    let b = s.put("b", "1").await;
    let revision = committed(
        s.commit(&[("a", Revision::ABSENT), ("b", b)], &[("a", Some("1")), ("b", None), ("c", Some("1"))]).await,
    );
    assert_eq!(revision.get(), b.get() + 1);
    let page = s.range(None, None, 0).await;
    assert_eq!(s.names(&page), ["a", "c"]);
    assert!(page.entries.iter().all(|entry| entry.mod_revision == revision));
}

async fn conflict(s: Subject) {
    let a = s.put("a", "1").await;
    let before = s.revision().await;
    let compare = [("b", Revision::ABSENT), ("a", Revision::ABSENT), ("c", a)];
    let outcome = s.commit(&compare, &[("b", Some("1")), ("c", Some("1"))]).await;
    let Outcome::Conflict(current) = outcome else { panic!("committed: {outcome:?}") };
    assert_eq!(current, [None, s.get("a").await, None]);
    let stale = s.commit(&[("a", Revision::new(a.get() - 1))], &[("a", None)]).await;
    assert_eq!(stale, Outcome::Conflict(vec![s.get("a").await]));
    assert_eq!(s.revision().await, before);
    assert_eq!(s.names(&s.range(None, None, 0).await), ["a"]);
}

async fn nothing(s: Subject) {
    let a = s.put("a", "1").await;
    assert_eq!(s.delete("b").await, a);
    assert_eq!(committed(s.commit(&[("a", a)], &[]).await), a);
    assert_eq!(s.revision().await, a);
    let next = committed(s.commit(&[], &[("b", None), ("a", Some("2"))]).await);
    let mut watch = s.watch(a).await;
    assert_eq!(lines(&s, a, &events(&mut watch, 1).await), ["1 put a 2 v2 (was 1)"]);
    assert_eq!(next.get(), a.get() + 1);
}

async fn race(s: Subject) {
    let attempts: Vec<_> = (0..20)
        .map(|number| {
            let store = s.store.clone();
            let txn = Txn::put(s.key("a"), number.to_string(), Revision::ABSENT);
            async move { (number, store.commit(txn).await.expect("commit")) }
        })
        .collect();
    let outcomes = together(attempts).await;
    let winners: Vec<_> = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Committed(_))).collect();
    assert_eq!(winners.len(), 1);
    let entry = s.get("a").await.expect("entry");
    assert_eq!(entry.value, winners[0].0.to_string());
    for (_, outcome) in outcomes {
        match outcome {
            Outcome::Committed(revision) => assert_eq!(revision, entry.mod_revision),
            Outcome::Conflict(current) => assert_eq!(current, [Some(entry.clone())]),
        }
    }
}

async fn wrong(s: Subject) {
    let before = s.revision().await;
    let refused = |txn| async { s.store.commit(txn).await.expect_err("a wrong transaction was committed") };
    let twice = s.txn(&[], &[("a", Some("1")), ("a", None)]);
    assert!(matches!(refused(twice).await, Error::Invalid(_)));
    let empty = Txn { compare: vec![], ops: vec![Op::Delete { key: "".into() }] };
    assert!(matches!(refused(empty).await, Error::Invalid(_)));
    let large = Txn::put(s.key("a"), vec![0; 2_000_000], Revision::ABSENT);
    assert!(matches!(refused(large).await, Error::TooLarge { .. }));
    let ops = (0..200).map(|number| Op::Delete { key: s.key(&number.to_string()) }).collect();
    assert!(matches!(refused(Txn { compare: vec![], ops }).await, Error::TooLarge { .. }));
    assert_eq!(s.revision().await, before);
}

async fn range(s: Subject) {
    for name in ["b/2", "a", "b", "b/1", "c", "b0"] {
        s.put(name, name).await;
    }
    s.delete("c").await;
    let page = s.range(None, None, 0).await;
    assert_eq!(s.names(&page), ["a", "b", "b/1", "b/2", "b0"]);
    assert_eq!((page.more, page.count, page.revision), (false, 5, s.revision().await));
    let part = s.store.range(&s.key("b/"), None, None, 0).await.expect("range");
    assert_eq!(s.names(&part), ["b/1", "b/2"]);
    // A start key outside of the prefix.
    let start = s.store.range(&s.key("b/"), Some(&s.key("a")), None, 0).await.expect("range");
    assert_eq!(s.names(&start), ["b/1", "b/2"]);
    let past = s.store.range(&s.key("b/"), Some(&s.key("c")), None, 0).await.expect("range");
    assert_eq!((past.entries.len(), past.count, past.more), (0, 0, false));
    let all = s.store.range("", None, None, 0).await.expect("range");
    assert!(all.entries.iter().any(|entry| entry.key == s.key("b/1")));
}

async fn pages(s: Subject) {
    for number in 0..10 {
        s.put(&format!("{number}"), "x").await;
    }
    let first = s.range(None, None, 4).await;
    assert_eq!((s.names(&first).join(""), first.more, first.count), ("0123".into(), true, 10));
    s.delete("5").await;
    s.put("55", "x").await;
    let second = s.range(Some("3\0"), Some(first.revision), 4).await;
    assert_eq!((s.names(&second).join(""), second.more, second.count), ("4567".into(), true, 6));
    assert_eq!(second.revision, first.revision);
    let last = s.range(Some("7\0"), Some(first.revision), 4).await;
    assert_eq!((s.names(&last).join(""), last.more, last.count), ("89".into(), false, 2));
    let exact = s.range(Some("8"), Some(first.revision), 2).await;
    assert_eq!((exact.entries.len(), exact.more, exact.count), (2, false, 2));
}

async fn many(s: Subject) {
    for chunk in 0..25 {
        let put = |number: u32| Op::Put { key: s.key(&format!("{:05}", chunk * 100 + number)), value: "v".into() };
        committed(s.store.commit(Txn { compare: vec![], ops: (0..100).map(put).collect() }).await.expect("commit"));
    }
    let page = s.range(None, None, 0).await;
    assert_eq!((page.entries.len(), page.more, page.count), (2500, false, 2500));
    assert!(page.entries.is_sorted_by(|one, two| one.key < two.key));
    let part = s.range(Some("00100"), None, 2300).await;
    assert_eq!((part.entries.len(), part.more, part.count), (2300, true, 2400));
    assert_eq!(s.name(&part.entries[2299].key), "02399");
}

async fn past(s: Subject) {
    let one = s.put("a", "1").await;
    let two = s.put("b", "1").await;
    let three = s.put("a", "2").await;
    let four = s.delete("a").await;
    let mut seen = Vec::new();
    for revision in [one, two, three, four] {
        let page = s.range(None, Some(revision), 0).await;
        let text = |entry: &Entry| format!("{}={}", s.name(&entry.key), String::from_utf8_lossy(&entry.value));
        assert_eq!((page.revision, page.count), (revision, page.entries.len() as u64));
        seen.push(page.entries.iter().map(text).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(seen, ["a=1", "a=1 b=1", "a=2 b=1", "b=1"]);
}

async fn future(s: Subject) {
    let asked = Revision::new(s.revision().await.get() + 1000);
    let error = s.store.range(&s.prefix, None, Some(asked), 0).await.expect_err("the future was read");
    assert!(matches!(error, Error::FutureRevision { .. }), "{error}");
    let error = s.store.compact(asked).await.expect_err("the future was compacted");
    assert!(matches!(error, Error::FutureRevision { .. }), "{error}");
}

async fn watch(s: Subject) {
    let base = s.revision().await;
    let mut watch = s.watch(base).await;
    s.put("a", "1").await;
    assert_eq!(lines(&s, base, &events(&mut watch, 1).await), ["1 put a 1 v1 (was -)"]);
    s.put("a", "2").await;
    s.commit(&[], &[("b", Some("1")), ("a", None), ("c", Some("1"))]).await;
    s.put("a", "3").await;
    let expected = [
        "2 put a 2 v2 (was 1)",
        "3 put b 1 v1 (was -)",
        "3 delete a (was 2)",
        "3 put c 1 v1 (was -)",
        "4 put a 3 v1 (was -)",
    ];
    assert_eq!(lines(&s, base, &events(&mut watch, 5).await), expected);
}

async fn resume(s: Subject) {
    let base = s.revision().await;
    let first = s.put("a", "1").await;
    let second = s.put("a", "2").await;
    s.delete("a").await;
    let all = ["1 put a 1 v1 (was -)", "2 put a 2 v2 (was 1)", "3 delete a (was 2)"];
    for (after, left) in [(base, 0), (first, 1), (second, 2)] {
        let mut watch = s.watch(after).await;
        assert_eq!(lines(&s, base, &events(&mut watch, 3 - left).await), all[left..]);
    }
}

async fn prefix(s: Subject) {
    let base = s.revision().await;
    let mut watch = s.store.watch(&s.key("in/"), base).await.expect("watch");
    for name in ["in", "in/a", "in0", "i", "inside", "in/b/c"] {
        s.put(name, "1").await;
    }
    let seen = events(&mut watch, 2).await;
    assert_eq!(lines(&s, base, &seen), ["2 put in/a 1 v1 (was -)", "6 put in/b/c 1 v1 (was -)"]);
}

async fn watch_future(s: Subject) {
    let base = s.revision().await;
    let mut watch = s.watch(Revision::new(base.get() + 2)).await;
    for value in ["1", "2", "3"] {
        s.put("a", value).await;
    }
    assert_eq!(lines(&s, base, &events(&mut watch, 1).await), ["3 put a 3 v3 (was 2)"]);
}

async fn everything(s: Subject) {
    let base = s.revision().await;
    let mut watch = s.store.watch("", base).await.expect("watch");
    s.put("a", "1").await;
    s.delete("a").await;
    let expected = ["1 put a 1 v1 (was -)", "2 delete a (was 1)"];
    assert_eq!(lines(&s, base, &events(&mut watch, 2).await), expected);
}

async fn history(s: Subject) {
    let base = s.revision().await;
    let commits: Vec<_> = (0..3000)
        .map(|number| {
            let store = s.store.clone();
            let key = s.key(&format!("{}", number % 7));
            let txn = Txn { compare: vec![], ops: vec![Op::Put { key, value: Bytes::from(number.to_string()) }] };
            async move { committed(store.commit(txn).await.expect("commit")) }
        })
        .collect();
    let mut revisions = together(commits).await;
    revisions.sort_unstable();
    let mut watch = s.watch(base).await;
    let seen: Vec<_> = events(&mut watch, 3000).await.iter().map(Event::revision).collect();
    assert_eq!(seen, revisions);
}

async fn progress(s: Subject) {
    s.put("a", "1").await;
    let mut watch = s.watch(s.revision().await).await;
    let prompt = watch.prompt();
    let base = s.revision().await;
    prompt.ask();
    let batch = watch.next().await.expect("next batch");
    assert_eq!((batch.revision, batch.events), (base, vec![]), "nothing happened yet");
    for _ in 0..3 {
        let other = Txn::put("/contract/elsewhere", "1", Revision::ABSENT);
        let gone = Txn { compare: vec![], ops: vec![Op::Delete { key: "/contract/elsewhere".into() }] };
        committed(s.store.commit(other).await.expect("commit"));
        let revision = committed(s.store.commit(gone).await.expect("commit"));
        prompt.ask();
        loop {
            let batch = watch.next().await.expect("next batch");
            assert_eq!(batch.events, []);
            if batch.revision >= revision {
                break;
            }
        }
    }
    let next = s.put("a", "2").await;
    prompt.ask();
    assert_eq!(events(&mut watch, 1).await[0].revision(), next);
}

async fn watches(s: Subject) {
    let base = s.revision().await;
    let mut watches = Vec::new();
    for _ in 0..20 {
        watches.push(s.watch(base).await);
    }
    s.put("a", "1").await;
    drop(watches.split_off(15));
    s.put("a", "2").await;
    for watch in &mut watches {
        let expected = ["1 put a 1 v1 (was -)", "2 put a 2 v2 (was 1)"];
        assert_eq!(lines(&s, base, &events(watch, 2).await), expected);
    }
}

async fn concurrent(s: Subject) {
    let base = s.revision().await;
    let mut watch = s.watch(base).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let s = s.clone();
            async move {
                let name = format!("{writer}");
                for round in 0..50 {
                    s.put(&name, &round.to_string()).await;
                }
            }
        })
        .collect();
    let (_, seen) = tokio::join!(together(writers), events(&mut watch, 400));
    for writer in 0..8 {
        let of_writer = seen.iter().filter(|event| s.name(event.key()) == writer.to_string());
        let values: Vec<_> = of_writer.map(|event| line(&s, base, event)).collect();
        assert_eq!(values.len(), 50);
        for (round, value) in values.iter().enumerate() {
            let expected = format!("put {writer} {round} v{} ", round + 1);
            assert!(value.contains(&expected), "{value} is not {expected}");
        }
    }
}

async fn compact(s: Subject) {
    let one = s.put("a", "1").await;
    let two = s.put("a", "2").await;
    s.put("b", "1").await;
    s.delete("b").await;
    s.put("c", "1").await;
    let last = s.put("a", "3").await;
    s.store.compact(last).await.expect("compact");
    for old in [one, two] {
        let error = s.store.range(&s.prefix, None, Some(old), 0).await.expect_err("the past was read");
        assert!(matches!(error, Error::Compacted { oldest } if oldest == last), "{error}");
    }
    for old in [Revision::new(1), one, two] {
        let outcome = async { s.store.watch(&s.prefix, old).await?.next().await };
        let error = outcome.await.expect_err("the past was watched");
        assert!(matches!(error, Error::Compacted { oldest } if oldest == last), "{error}");
    }
    let again = s.store.compact(last).await.expect_err("compacted twice");
    assert!(matches!(again, Error::Compacted { oldest } if oldest == last), "{again}");
    let page = s.range(None, Some(last), 0).await;
    assert_eq!(s.names(&page), ["a", "c"]);
    let entry = s.get("a").await.expect("entry");
    assert_eq!((entry.create_revision, entry.version, &entry.value[..]), (one, 3, &b"3"[..]));
    let mut watch = s.watch(last).await;
    s.delete("c").await;
    assert_eq!(lines(&s, last, &events(&mut watch, 1).await), ["1 delete c (was 1)"]);
}

async fn compact_watch(s: Subject) {
    let quiet = s.put("quiet", "1").await;
    let mut watch = s.store.watch(&s.key("quiet"), quiet).await.expect("watch");
    for _ in 0..10 {
        s.put("loud", "1").await;
    }
    s.store.compact(s.revision().await).await.expect("compact");
    let base = s.revision().await;
    s.put("quiet", "2").await;
    assert_eq!(lines(&s, base, &events(&mut watch, 1).await), ["1 put quiet 2 v2 (was 1)"]);
}

/// Runs futures concurrently; their results in order.
async fn together<F>(futures: Vec<F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut set = tokio::task::JoinSet::new();
    for (number, future) in futures.into_iter().enumerate() {
        set.spawn(async move { (number, future.await) });
    }
    let mut results = set.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}
