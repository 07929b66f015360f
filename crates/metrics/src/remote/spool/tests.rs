//! Queues on disk: what is kept, given out again and dropped.

use tsdb::options::Options;

use super::*;

struct Place {
    db: Db,
    spool: Spool,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (db, _) = Db::open(&dir.path().join("db"), Options::default()).unwrap();
        let spool = Spool::open(&dir.path().join("spool")).unwrap();
        Self { db, spool, dir }
    }

    fn append(&self, name: &str, time: i64, value: f64) {
        let series = self.db.series(&Labels::from_pairs([("__name__", name)])).unwrap();
        let mut batch = Batch::default();
        batch.float(series, time, value);
        let described = Metadata { kind: "gauge".into(), ..Metadata::default() };
        batch.metadata(series, described);
        let outcome = self.db.commit(&batch, Durability::Logged).unwrap();
        self.spool.appended(&self.db, &batch, &outcome, Durability::Logged).unwrap();
    }

    fn reopened(self) -> Self {
        let Self { db, spool, dir } = self;
        drop(spool);
        let spool = Spool::open(&dir.path().join("spool")).unwrap();
        Self { db, spool, dir }
    }
}

/// Everything that is left, as name, time and value.
fn rest(follower: &mut Follower) -> Vec<(String, i64, f64)> {
    let mut found = Vec::new();
    while let Some(record) = follower.read_next().unwrap() {
        for (number, time, value) in record.floats {
            let labels = follower.labels(number).unwrap();
            assert_eq!(follower.metadata(number).unwrap().kind, "gauge");
            found.push((labels.metric().to_owned(), time, value));
        }
    }
    found
}

#[test]
fn a_destination_goes_on_where_it_was_after_a_restart() {
    let place = Place::new();
    let mut follower = place.spool.follow("a");
    place.append("one", 1, 1.0);
    place.append("two", 2, 2.0);
    place.append("one", 3, 3.0);
    assert!(follower.read_next().unwrap().is_some());
    place.spool.done("a", follower.at()).unwrap();
    let place = place.reopened();
    place.append("one", 4, 4.0);
    let mut follower = place.spool.follow("a");
    let expected = [("two", 2, 2.0), ("one", 3, 3.0), ("one", 4, 4.0)].map(|(n, t, v)| (n.to_owned(), t, v));
    assert_eq!(rest(&mut follower), expected);
    assert_eq!(follower.read_next().unwrap(), None);
    let mut late = place.spool.follow("b");
    place.append("two", 5, 5.0);
    assert_eq!(rest(&mut late), [("two".to_owned(), 5, 5.0)]);
}

#[test]
fn a_destination_that_nothing_was_taken_by_is_known_after_a_restart() {
    let place = Place::new();
    place.spool.begin("a").unwrap();
    place.append("one", 1, 1.0);
    let place = place.reopened();
    place.spool.begin("a").unwrap();
    assert_eq!(rest(&mut place.spool.follow("a")), [("one".to_owned(), 1, 1.0)]);
}

#[test]
fn a_torn_end_costs_nothing_that_was_told() {
    let place = Place::new();
    let mut follower = place.spool.follow("a");
    place.spool.done("a", follower.at()).unwrap();
    place.append("one", 1, 1.0);
    let file = path(&place.dir.path().join("spool"), 1);
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_slice(&[40, 0, 0, 0, 1, 2, 3, 4, 5, 6]);
    fs::write(&file, bytes).unwrap();
    let place = place.reopened();
    place.append("one", 2, 2.0);
    assert_eq!(rest(&mut place.spool.follow("a")), [("one".to_owned(), 1, 1.0), ("one".to_owned(), 2, 2.0)]);
    drop(follower.read_next());
}

#[test]
fn files_go_when_nobody_wants_them() {
    let place = Place::new();
    let dir = place.dir.path().join("spool");
    place.spool.done("a", place.spool.follow("a").at()).unwrap();
    place.spool.done("b", place.spool.follow("b").at()).unwrap();
    place.append("one", 1, 1.0);
    let place = place.reopened();
    let end = *place.spool.end().borrow();
    place.spool.done("a", end).unwrap();
    assert!(path(&dir, 1).exists());
    place.spool.keep(&["a".to_owned()]).unwrap();
    assert!(!path(&dir, 1).exists() && !dir.join("b.at").exists());
}

#[test]
fn what_was_not_taken_is_not_sent() {
    let place = Place::new();
    let mut follower = place.spool.follow("a");
    place.append("one", 10, 1.0);
    place.append("one", 5, 2.0);
    place.append("one", 11, 3.0);
    assert_eq!(rest(&mut follower), [("one".to_owned(), 10, 1.0), ("one".to_owned(), 11, 3.0)]);
}
