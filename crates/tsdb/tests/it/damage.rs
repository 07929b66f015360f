//! Damaged files: the start goes on, the damage is reported, and nothing is there that was never written.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tsdb::{Db, batch::Batch, column::Value, labels::Labels};

use crate::world::{Everything, Random, World, select, small};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the directory is made");
    for entry in fs::read_dir(from).expect("the directory is there") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the file is copied");
        }
    }
}

fn files(below: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).expect("the directory is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

/// Whether all of `have` was written.
fn part_of(have: &Everything, written: &Everything) {
    let written: BTreeMap<_, _> = written.iter().map(|(labels, samples)| (labels, samples)).collect();
    for (labels, samples) in have {
        let all = written.get(labels).unwrap_or_else(|| panic!("{labels} was never written"));
        let all: BTreeMap<i64, &Value> = all.iter().map(|(time, value)| (*time, value)).collect();
        for (time, value) in samples {
            assert!(
                all.get(time).is_some_and(|have| have.same(value)),
                "{value:?} of {labels} was not written at {time}"
            );
        }
    }
}

fn count(everything: &Everything) -> usize {
    everything.iter().map(|series| series.1.len()).sum()
}

fn filled(rounds: i64) -> World {
    let world = World::new(small());
    let names: Vec<Labels> =
        (0..10).map(|n| Labels::from_pairs([("n", n.to_string()), ("j", "job".to_owned())])).collect();
    for round in 0..rounds {
        let mut batch = Batch::default();
        for (nth, labels) in names.iter().enumerate() {
            let series = world.db().series(labels).expect("there is room");
            batch.float(series, round * 100, (round * (nth as i64 + 1)) as f64 / 10.0);
        }
        world.commit(&batch);
    }
    world
}

#[test]
fn a_log_cut_at_any_byte_of_its_last_record_keeps_all_others() {
    let mut world = filled(30);
    world.stop();
    let log = world.path().join("wal").join(world.files("wal").pop().expect("there is a log"));
    let bytes = fs::read(&log).expect("the log is read");
    let written = {
        world.start();
        let all = world.all();
        world.stop();
        all
    };
    let last = bytes.windows(4).rposition(|four| four == b"mdR1").expect("there is a record");
    for end in last..=bytes.len() {
        let place = TempDir::new().expect("there is a place for temporary files");
        copy(world.path(), place.path());
        fs::write(place.path().join("wal").join(log.file_name().expect("a name")), &bytes[..end])
            .expect("it is written");
        let (db, report) = Db::open(place.path(), small()).expect("the data base opens");
        let have = select(&db, &[], i64::MIN, i64::MAX);
        let whole = end == bytes.len();
        assert_eq!(report.losses.is_empty(), whole || end == last, "cut at {end}");
        assert_eq!(count(&have), if whole { 300 } else { 290 }, "cut at {end}");
        part_of(&have, &written);
    }
}

#[test]
fn a_start_survives_damage_to_any_file() {
    let mut world = filled(120);
    world.db().compact().expect("compaction succeeds");
    let names: Vec<Labels> =
        (0..10).map(|n| Labels::from_pairs([("n", n.to_string()), ("j", "job".to_owned())])).collect();
    for round in 400..420 {
        let mut batch = Batch::default();
        for labels in &names {
            batch.float(world.db().series(labels).expect("there is room"), round * 100, round as f64);
        }
        world.commit(&batch);
    }
    world.db().compact().expect("compaction succeeds");
    for labels in &names {
        world.put(world.db().series(labels).expect("there is room"), 43_000, 0.25);
    }
    let written = world.all();
    world.stop();
    let mut all = Vec::new();
    files(world.path(), &mut all);
    all.retain(|path| !path.ends_with("lock"));
    assert!(all.len() > 4, "{all:?}");
    let mut random = Random::new(41);
    let mut lost = 0;
    for round in 0..150 {
        let place = TempDir::new().expect("there is a place for temporary files");
        copy(world.path(), place.path());
        let victim = &all[round % all.len()];
        let target = place.path().join(victim.strip_prefix(world.path()).expect("it lies below"));
        let mut bytes = fs::read(&target).expect("the file is read");
        if bytes.is_empty() {
            continue;
        }
        match random.below(3) {
            0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
            1 => {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            _ => {
                let at = random.below(bytes.len() as u64) as usize;
                let end = (at + 1 + random.below(64) as usize).min(bytes.len());
                bytes[at..end].fill(0);
            }
        }
        fs::write(&target, bytes).expect("the file is written");
        let (db, report) = Db::open(place.path(), small()).expect("the data base opens");
        let have = select(&db, &[], i64::MIN, i64::MAX);
        part_of(&have, &written);
        lost += usize::from(count(&have) < count(&written));
        // It works as before.
        let series = db.series(&Labels::from_pairs([("new", "one")])).expect("there is room");
        let mut batch = Batch::default();
        batch.float(series, 50_000_000, 1.0);
        db.commit(&batch, tsdb::batch::Durability::Synced).expect("the commit succeeds");
        db.compact().expect("compaction succeeds");
        let found = select(&db, &[tsdb::matcher::Matcher::equal("new", "one")], 0, i64::MAX);
        assert_eq!(count(&found), 1, "{:?}", report.losses);
        drop(db);
        let (_, report) = Db::open(place.path(), small()).expect("the data base opens again");
        let again = report.losses.iter().filter(|loss| !loss.file.starts_with(place.path().join("series"))).count();
        assert_eq!(again, 0, "{:?}", report.losses);
    }
    assert!(lost > 40, "only {lost} of 150 damages cost anything");
}
