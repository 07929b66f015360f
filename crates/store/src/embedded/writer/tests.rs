//! Groups: what the transactions of one group see of each other.

use super::{
    super::record::{Record, group},
    *,
};

fn txn(compare: &[(&str, u64)], puts: &[&str], deletes: &[&str]) -> Work {
    let compare =
        compare.iter().map(|(key, at)| Compare { key: (*key).into(), mod_revision: Revision::new(*at) }).collect();
    let put = |key: &&str| Op::Put { key: (*key).into(), value: "v".into() };
    let delete = |key: &&str| Op::Delete { key: (*key).into() };
    Work::Txn(Txn { compare, ops: puts.iter().map(put).chain(deletes.iter().map(delete)).collect() })
}

/// Gathers a group upon an index where `/a` was written at revision 2; outcomes in short, the group and its frame.
fn gather(works: Vec<Work>) -> (Vec<String>, Group, Frame) {
    let mut index = Index::new();
    index.apply(2, vec![Op::Put { key: "/a".into(), value: "old".into() }]);
    let mut frame = Frame::new();
    let requests = works.into_iter().map(|work| Request { work, reply: oneshot::channel().0 }).collect();
    let group = Group::gather(&index, &mut frame, requests);
    let entry = |entry: &Option<Entry>| match entry {
        Some(entry) => format!("{}@{} v{}", entry.key, entry.mod_revision, entry.version),
        None => "-".into(),
    };
    let short = |(_, outcome): &(_, Result<Outcome>)| match outcome {
        Ok(Outcome::Committed(revision)) => format!("committed {revision}"),
        Ok(Outcome::Conflict(current)) => {
            format!("conflict {}", current.iter().map(entry).collect::<Vec<_>>().join(" "))
        }
        Err(error) => error.to_string(),
    };
    (group.replies.iter().map(short).collect(), group, frame)
}

#[test]
fn transactions_of_a_group_see_those_before_them() {
    let (outcomes, group, _) = gather(vec![
        txn(&[("/a", 2)], &["/a"], &[]),
        txn(&[("/a", 2)], &["/a"], &[]),
        txn(&[("/a", 3)], &[], &["/a"]),
        txn(&[("/a", 3), ("/b", 0)], &["/b"], &[]),
        txn(&[("/a", 0)], &["/a"], &[]),
        txn(&[], &["/a"], &[]),
        txn(&[("/a", 0)], &[], &[]),
    ]);
    let expected = [
        "committed 3",
        "conflict /a@3 v2",
        "committed 4",
        "conflict - -",
        "committed 5",
        "committed 6",
        "conflict /a@6 v2",
    ];
    assert_eq!(outcomes, expected);
    assert_eq!((group.writes.len(), group.revision), (4, 6));
}

#[test]
fn a_group_that_changes_nothing_writes_nothing() {
    let (outcomes, group, frame) =
        gather(vec![txn(&[("/a", 1)], &["/a"], &[]), txn(&[], &[], &["/b", "/c"]), txn(&[("/a", 2)], &[], &[])]);
    assert_eq!(outcomes, ["conflict /a@2 v1", "committed 2", "committed 2"]);
    assert!(group.writes.is_empty());
    assert_eq!(frame.len(), 0);
}

#[test]
fn only_what_changes_something_is_written_down() {
    let (_, _, mut frame) = gather(vec![
        txn(&[], &["/b"], &["/absent"]),
        txn(&[], &[], &["/b", "/absent"]),
        txn(&[], &[], &["/b"]),
        Work::Compact(Revision::new(3)),
    ]);
    let payload = frame.payload()[crate::embedded::frame::HEADER..].to_vec();
    let records: Vec<_> = group(&payload).map(|record| record.expect("a record")).collect();
    let expected = [
        Record::Txn(3, vec![Op::Put { key: "/b".into(), value: "v".into() }]),
        Record::Txn(4, vec![Op::Delete { key: "/b".into() }]),
        Record::Compact(3),
    ];
    assert_eq!(records, expected);
}

#[test]
fn compactions_go_forward_only() {
    let (outcomes, ..) = gather(vec![
        Work::Compact(Revision::new(3)),
        txn(&[], &["/b"], &[]),
        Work::Compact(Revision::new(3)),
        Work::Compact(Revision::new(3)),
        Work::Compact(Revision::new(2)),
    ]);
    let expected = [
        "revision 3 is in the future",
        "committed 3",
        "committed 3",
        "revision was compacted: the oldest one that can be read is 3",
        "revision was compacted: the oldest one that can be read is 3",
    ];
    assert_eq!(outcomes, expected);
}

#[test]
fn a_group_whose_writing_failed_fails_all_of_it() {
    let (_, mut group, _) = gather(vec![txn(&[], &["/b"], &[]), txn(&[("/b", 0)], &["/b"], &[])]);
    group.fail(&Error::Full("the disk".into()));
    assert!(group.writes.is_empty());
    assert!(group.replies.iter().all(|(_, outcome)| matches!(outcome, Err(Error::Full(_)))));
}

#[test]
fn a_closed_queue_takes_nothing_and_ends_after_what_it_has() {
    let queue = Queue::default();
    let _waiting = queue.submit(txn(&[], &["/a"], &[])).expect("submit");
    queue.close();
    assert!(matches!(queue.submit(txn(&[], &["/a"], &[])), Err(Error::Unavailable(_))));
    assert_eq!(queue.take().map(|requests| requests.len()), Some(1));
    assert!(queue.take().is_none());
}

#[test]
fn a_group_ends_when_it_is_large_and_the_queue_when_it_is_full() {
    let queue = Queue::default();
    let large = || {
        let op = Op::Put { key: "/a".into(), value: vec![0; 1 << 20].into() };
        Work::Txn(Txn { compare: vec![], ops: vec![op] })
    };
    let mut waiting = Vec::new();
    let error = loop {
        match queue.submit(large()) {
            Ok(answer) => waiting.push(answer),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Unavailable(_)));
    assert_eq!(waiting.len(), WAITING / (1 << 20));
    assert_eq!(queue.take().expect("a group").len(), 1);
    assert!(queue.submit(large()).is_ok());
}
