//! What is promised of appending, reading, deleting and keeping.

use std::{sync::Arc, time::Duration};

use tsdb::{
    batch::{Batch, Durability, Of, Reject, Zero},
    column::{HistogramValue, Value},
    exemplars::Refused,
    histogram::{Buckets, Histogram, ResetHint, Span},
    matcher::{Matcher, Op},
    options::{Bounds, Options},
    record::Metadata,
    sample::{Exemplar, STALE_NAN, is_stale},
};

use crate::world::{World, labels, same, small};

fn histogram(count: u64) -> HistogramValue {
    HistogramValue::Integer(Arc::new(Histogram {
        reset: ResetHint::Unknown,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 1,
        count: count + 1,
        sum: count as f64,
        positive: Buckets { spans: vec![Span { offset: 0, length: 2 }], values: vec![count as i64, -(count as i64)] },
        negative: Buckets::default(),
        custom: Arc::default(),
    }))
}

#[test]
fn samples_are_seen_after_their_commit_and_after_a_restart() {
    let mut world = World::new(Options::default());
    let (a, b) = (world.series(&[("x", "a")]), world.series(&[("x", "b")]));
    let mut batch = Batch::default();
    for time in 0..300 {
        batch.clear();
        batch.float(a, time * 1000, time as f64);
        batch.float(b, time * 1000 + 1, 0.5);
        assert_eq!(world.commit(&batch).stored, 2);
    }
    let before = world.all();
    assert_eq!(before.iter().map(|series| series.1.len()).collect::<Vec<_>>(), [300, 300]);
    world.restart();
    assert!(same(&world.all(), &before));
    world.db().flush().expect("the flush succeeds");
    assert!(same(&world.all(), &before));
    assert_eq!(world.files("wal").len(), 1);
    world.restart();
    assert!(same(&world.all(), &before));
    let some = world.select(&[Matcher::equal("x", "a")], 10_000, 20_000);
    assert_eq!((some.len(), some[0].1.len(), some[0].1[0].0), (1, 11, 10_000));
    assert_eq!(world.series(&[("x", "a")]), a);
    assert_eq!(world.put(a, 299_000, 299.0).repeated, 1);
    assert_eq!(world.put(a, 298_000, 1.0).rejected, [(Of::Float(0), Reject::OutOfOrder)]);
    assert_eq!(world.put(a, 300_000, 1.0).stored, 1);
}

#[test]
fn a_sample_again_is_no_error_but_another_one_for_its_time_is() {
    let world = World::new(Options::default());
    let x = world.series(&[("x", "a")]);
    assert_eq!(world.put(x, 1000, 1.0).stored, 1);
    assert_eq!(world.put(x, 1000, 1.0).repeated, 1);
    assert_eq!(world.put(x, 1000, 2.0).rejected, [(Of::Float(0), Reject::Duplicate)]);
    assert_eq!(world.put(x, 999, 1.0).rejected, [(Of::Float(0), Reject::OutOfOrder)]);
    assert_eq!(world.put(x, 2000, STALE_NAN).stored, 1);
    assert_eq!(world.put(x, 2000, STALE_NAN).repeated, 1);
    assert_eq!(world.put_histogram(x, 2000, histogram(3)).rejected, [(Of::Histogram(0), Reject::Duplicate)]);
    let mut batch = Batch::default();
    for time in [3000, 3000, 2500, 4000] {
        batch.float(x, time, 5.0);
    }
    let outcome = world.commit(&batch);
    assert_eq!((outcome.stored, outcome.repeated), (2, 1));
    assert_eq!(outcome.rejected, [(Of::Float(2), Reject::OutOfOrder)]);
    let floats = world.floats();
    assert_eq!(floats.iter().map(|sample| sample.0).collect::<Vec<_>>(), [1000, 2000, 3000, 4000]);
    assert!(is_stale(floats[1].1));
}

#[test]
fn samples_within_the_window_may_come_late() {
    let mut world = World::new(Options { out_of_order: Duration::from_secs(60), ..Options::default() });
    let (x, y) = (world.series(&[("x", "a")]), world.series(&[("y", "a")]));
    assert_eq!(world.put(x, 100_000, 1.0).late, 0);
    assert_eq!(world.put(x, 40_000, 2.0).late, 1);
    assert_eq!(world.put(x, 40_000, 2.0).repeated, 1);
    assert_eq!(world.put(x, 39_999, 2.0).rejected, [(Of::Float(0), Reject::TooOld)]);
    assert_eq!(world.put_histogram(x, 50_000, histogram(3)).late, 1);
    // A series without samples takes anything.
    assert_eq!(world.put(y, 10_000, 1.0).late, 0);
    let before = world.all();
    assert_eq!(before[0].1.iter().map(|sample| sample.0).collect::<Vec<_>>(), [40_000, 50_000, 100_000]);
    world.restart();
    assert!(same(&world.all(), &before));
    world.db().flush().expect("the flush succeeds");
    assert_eq!(world.files("head").iter().filter(|name| name.ends_with(".late")).count(), 1);
    assert!(same(&world.all(), &before));
    world.restart();
    assert!(same(&world.all(), &before));
}

#[test]
fn histograms_and_floats_of_one_series_come_back_in_order() {
    let mut world = World::new(Options::default());
    let x = world.series(&[("x", "a")]);
    for n in 0..50u64 {
        let time = n as i64 * 1000;
        match n % 4 {
            0 => world.put(x, time, n as f64),
            1 => world.put_histogram(x, time, HistogramValue::Float(histogram(n).to_float())),
            2 if n > 30 => world.put_histogram(x, time, HistogramValue::stale_integer()),
            _ => world.put_histogram(x, time, histogram(n)),
        };
    }
    let before = world.all();
    assert_eq!(before[0].1.len(), 50);
    assert!(matches!(&before[0].1[1].1, Value::Histogram(HistogramValue::Float(_))));
    assert!(matches!(&before[0].1[2].1, Value::Histogram(value) if value.same(&histogram(2))));
    world.restart();
    assert!(same(&world.all(), &before));
    world.db().flush().expect("the flush succeeds");
    world.restart();
    assert!(same(&world.all(), &before));
    let HistogramValue::Integer(sound) = histogram(3) else { panic!("it is one of integers") };
    let bad = HistogramValue::Integer(Arc::new(Histogram { count: 1, ..(*sound).clone() }));
    assert_eq!(world.put_histogram(x, 100_000, bad).rejected, [(Of::Histogram(0), Reject::Invalid)]);
}

#[test]
fn a_counter_begins_with_zero_when_it_was_created() {
    let world = World::new(Options::default());
    let x = world.series(&[("x", "a")]);
    for (created, time) in [(500, 1000), (500, 2000), (2500, 3000)] {
        let mut batch = Batch::default();
        batch.start(x, created, Zero::Float);
        batch.float(x, time, 7.0);
        assert_eq!(world.commit(&batch).stored, 1);
    }
    assert_eq!(world.floats(), [(500, 0.0), (1000, 7.0), (2000, 7.0), (2500, 0.0), (3000, 7.0)]);
}

#[test]
fn exemplars_are_kept_up_to_their_number() {
    let mut world = World::new(Options { exemplars: 3, ..Options::default() });
    let x = world.series(&[("x", "a")]);
    let exemplar = |value: f64| Exemplar {
        labels: labels(&[("trace_id", &value.to_string())]),
        value,
        timestamp: Some(value as i64 * 1000),
    };
    let mut batch = Batch::default();
    for value in [1.0, 2.0, 3.0, 4.0] {
        batch.exemplar(x, exemplar(value));
    }
    assert_eq!(world.commit(&batch).exemplars, []);
    let mut batch = Batch::default();
    batch.exemplar(x, exemplar(4.0));
    batch.exemplar(x, exemplar(3.5));
    batch.exemplar(x, Exemplar { labels: labels(&[("t", &"x".repeat(200))]), ..exemplar(9.0) });
    let refused = [(0, Refused::Duplicate), (1, Refused::OutOfOrder), (2, Refused::TooLong)];
    assert_eq!(world.commit(&batch).exemplars, refused);
    let matchers = [Matcher::equal("x", "a")];
    let want = vec![(labels(&[("x", "a")]), vec![exemplar(2.0), exemplar(3.0), exemplar(4.0)])];
    for _ in 0..2 {
        assert_eq!(world.db().exemplars(&[&matchers], 0, i64::MAX), want);
        world.restart();
        assert_eq!(world.db().exemplars(&[&matchers], 0, i64::MAX), want);
        world.put(x, 77, 1.0);
        world.db().flush().expect("the flush succeeds");
    }
    assert_eq!(world.db().exemplars(&[&matchers], 3000, 3000)[0].1, [exemplar(3.0)]);
}

#[test]
fn what_is_kept_and_how_late_samples_may_come_changes_while_it_is_open() {
    let world = World::new(Options { exemplars: 3, ..small() });
    let x = world.series(&[("x", "a")]);
    for second in 0..100 {
        world.put(x, second * 1000, 1.0);
    }
    let (mut batch, shown) = (Batch::default(), [Matcher::equal("x", "a")]);
    for value in [1.0, 2.0, 3.0] {
        batch.exemplar(x, Exemplar { labels: labels(&[]), value, timestamp: Some(value as i64) });
    }
    assert_eq!(world.commit(&batch).exemplars, []);
    world.db().compact().expect("compaction succeeds");
    assert_eq!(world.put(x, 99_500, 2.0).stored, 1);
    assert_eq!(world.put(x, 98_500, 2.0).rejected, [(Of::Float(0), Reject::OutOfOrder)]);

    let bounds = Bounds {
        out_of_order: Duration::from_secs(2),
        exemplars: 1,
        retention: Duration::from_secs(30),
        ..world.db().bounds()
    };
    world.db().set_bounds(bounds);
    assert_eq!(world.db().bounds(), bounds);
    assert_eq!(world.put(x, 98_500, 2.0).late, 1);
    let left = world.db().exemplars(&[&shown], 0, i64::MAX);
    assert_eq!(left[0].1.iter().map(|exemplar| exemplar.value).collect::<Vec<_>>(), [3.0]);
    world.db().compact().expect("compaction succeeds");
    let first = world.floats()[0].0;
    assert!((40_000..70_000).contains(&first), "{first}");
}

#[test]
fn metadata_outlives_restarts() {
    let mut world = World::new(Options::default());
    let x = world.series(&[("__name__", "a_total")]);
    let metadata = Metadata { kind: "counter".into(), unit: String::new(), help: "How many.".into() };
    let mut batch = Batch::default();
    batch.metadata(x, metadata.clone());
    batch.float(x, 1, 1.0);
    world.commit(&batch);
    for _ in 0..2 {
        world.restart();
        let have = world.db().metadata(&[]);
        assert_eq!(have.len(), 1);
        assert_eq!(*have[0].1, metadata);
        world.db().flush().expect("the flush succeeds");
    }
}

#[test]
fn deleted_samples_are_gone_and_stay_gone() {
    let mut world = World::new(small());
    let (x, y) = (world.series(&[("x", "a")]), world.series(&[("x", "b")]));
    for second in 0..60 {
        world.put(x, second * 1000, second as f64);
        world.put(y, second * 1000, second as f64);
    }
    world.db().compact().expect("compaction succeeds");
    assert!(world.files("blocks").len() > 1);
    world.db().delete(&[Matcher::equal("x", "a")], 5_000, 54_000).expect("the deletion succeeds");
    world.put(x, 60_000, 60.0);
    let times = |world: &World| {
        let all = world.select(&[Matcher::equal("x", "a")], i64::MIN, i64::MAX);
        all[0].1.iter().map(|sample| sample.0 / 1000).collect::<Vec<_>>()
    };
    let want = [0, 1, 2, 3, 4, 55, 56, 57, 58, 59, 60];
    assert_eq!(times(&world), want);
    world.restart();
    assert_eq!(times(&world), want);
    world.db().flush().expect("the flush succeeds");
    world.restart();
    assert_eq!(times(&world), want);
    world.db().clean_deleted().expect("cleaning succeeds");
    let deleted = |world: &World| {
        world.files("blocks").iter().any(|block| world.path().join("blocks").join(block).join("deleted").exists())
    };
    assert!(!deleted(&world));
    for second in 61..120 {
        world.put(y, second * 1000, 0.0);
    }
    world.db().compact().expect("compaction succeeds");
    assert_eq!(times(&world), want);
    assert_eq!(world.select(&[Matcher::equal("x", "b")], i64::MIN, i64::MAX)[0].1.len(), 119);
}

#[test]
fn the_head_becomes_blocks_and_blocks_become_larger() {
    let mut world = World::new(small());
    let x = world.series(&[("x", "a")]);
    for tenth in 0..3000 {
        world.put(x, tenth * 100, tenth as f64 / 8.0);
        if tenth % 500 == 0 {
            world.db().compact().expect("compaction succeeds");
        }
    }
    world.db().compact().expect("compaction succeeds");
    let floats = world.floats();
    assert_eq!(floats.len(), 3000);
    assert!(floats.iter().enumerate().all(|(n, sample)| *sample == (n as i64 * 100, n as f64 / 8.0)));
    // 300 s: three of 90 s, at most two of 30 s and two of 10 s; the head has what is left.
    let blocks = world.files("blocks").len();
    assert!((4..=8).contains(&blocks), "{blocks} blocks");
    world.restart();
    assert_eq!(world.floats(), floats);
    // What blocks have, the head does not take any more.
    assert_eq!(world.put(world.series(&[("x", "b")]), 100_000, 1.0).rejected, [(Of::Float(0), Reject::OutOfBounds)]);
}

#[test]
fn late_samples_get_into_blocks() {
    let mut world = World::new(Options { out_of_order: Duration::from_secs(100), ..small() });
    let x = world.series(&[("x", "a")]);
    for second in 0..100 {
        world.put(x, second * 1000, 1.0);
    }
    world.db().compact().expect("compaction succeeds");
    for second in 0..99 {
        assert_eq!(world.put(x, second * 1000 + 500, 2.0).late, 1);
    }
    let before = world.all();
    assert_eq!(before[0].1.len(), 199);
    for second in 100..130 {
        world.put(x, second * 1000, 1.0);
    }
    world.db().compact().expect("compaction succeeds");
    assert!(world.files("head").iter().all(|name| !name.ends_with(".late")));
    let after = world.select(&[], i64::MIN, 99_999);
    assert!(same(&after, &before));
    world.restart();
    assert!(same(&world.select(&[], i64::MIN, 99_999), &before));
}

#[test]
fn a_single_sample_of_long_ago_is_no_burden() {
    let world = World::new(small());
    let (x, y) = (world.series(&[("x", "a")]), world.series(&[("y", "a")]));
    world.put(x, 5, 1.0);
    for second in 0..30 {
        world.put(y, 1_700_000_000_000 + second * 1000, 1.0);
    }
    world.db().compact().expect("compaction succeeds");
    let all = world.all();
    assert_eq!(all.iter().map(|series| series.1.len()).collect::<Vec<_>>(), [1, 30]);
}

#[test]
fn old_blocks_are_dropped_by_time_and_by_size() {
    let world =
        World::new(Options { retention: Duration::from_secs(50), largest_block: Duration::from_secs(10), ..small() });
    let x = world.series(&[("x", "a")]);
    for second in 0..200 {
        world.put(x, second * 1000, 1.0);
    }
    world.db().compact().expect("compaction succeeds");
    let first = world.floats()[0].0;
    assert!((120_000..=150_000).contains(&first), "from {first}");

    let world = World::new(Options { retention_bytes: 6000, largest_block: Duration::from_secs(10), ..small() });
    let x = world.series(&[("x", "a")]);
    for second in 0..400 {
        world.put(x, second * 1000, 1.0 / (second as f64 + 1.0));
    }
    world.db().compact().expect("compaction succeeds");
    let floats = world.floats();
    assert!(floats[0].0 > 100_000 && floats.len() > 20, "{} samples from {}", floats.len(), floats[0].0);
}

#[test]
fn a_series_that_ended_is_forgotten_and_its_reference_refused() {
    let mut world = World::new(small());
    let (x, y) = (world.series(&[("x", "a")]), world.series(&[("y", "a")]));
    world.put(x, 0, 1.0);
    for second in 0..100 {
        world.put(y, second * 1000, 1.0);
        if second % 50 == 0 {
            world.db().flush().expect("the flush succeeds");
        }
    }
    world.db().compact().expect("compaction succeeds");
    assert_eq!(world.put(x, 200_000, 1.0).rejected, [(Of::Float(0), Reject::Unknown)]);
    let z = world.series(&[("z", "a")]);
    assert_eq!(world.put(z, 150_000, 3.0).stored, 1);
    let x = world.series(&[("x", "a")]);
    assert_eq!(world.put(x, 160_000, 4.0).stored, 1);
    let before = world.all();
    assert_eq!(before.iter().map(|series| series.1.len()).collect::<Vec<_>>(), [2, 100, 1]);
    world.restart();
    assert!(same(&world.all(), &before));
    for second in 200..300 {
        world.put(y, second * 1000, 1.0);
    }
    world.db().compact().expect("compaction succeeds");
    world.restart();
    assert_eq!(world.all().iter().map(|series| series.1.len()).collect::<Vec<_>>(), [2, 200, 1]);
}

#[test]
fn a_snapshot_has_everything_and_can_be_opened() {
    let world = World::new(small());
    let x = world.series(&[("x", "a")]);
    for second in 0..55 {
        world.put(x, second * 1000, second as f64);
    }
    world.db().compact().expect("compaction succeeds");
    world.put(x, 55_000, 5.5);
    let whole = world.db().snapshot(true).expect("the snapshot succeeds");
    let blocks = world.db().snapshot(false).expect("the snapshot succeeds");
    world.put(x, 60_000, 0.0);
    let before = world.select(&[], i64::MIN, 59_999);
    let (db, report) = tsdb::Db::open(&whole, small()).expect("the snapshot opens");
    assert_eq!(report.losses, []);
    assert!(same(&crate::world::select(&db, &[], i64::MIN, i64::MAX), &before));
    let (db, _) = tsdb::Db::open(&blocks, small()).expect("the snapshot opens");
    assert!(crate::world::select(&db, &[], i64::MIN, i64::MAX)[0].1.len() < 56);
}

#[test]
fn a_selection_does_not_change_under_its_reader() {
    let world = World::new(small());
    let x = world.series(&[("x", "a")]);
    for second in 0..40 {
        world.put(x, second * 1000, 1.0);
    }
    let selection = world.db().select(&[], i64::MIN, i64::MAX).expect("the selection succeeds");
    for second in 40..90 {
        world.put(x, second * 1000, 1.0);
    }
    world.db().compact().expect("compaction succeeds");
    world.db().delete(&[], i64::MIN, i64::MAX).expect("the deletion succeeds");
    world.db().clean_deleted().expect("cleaning succeeds");
    let mut columns = tsdb::column::Columns::default();
    selection.read(0, &mut tsdb::select::Cursor::default(), &mut columns).expect("the series is read");
    assert_eq!(columns.len(), 40);
    assert!(world.all().is_empty());
}

#[test]
fn matchers_find_series_in_head_and_blocks() {
    let world = World::new(small());
    for second in 0..30 {
        let mut batch = Batch::default();
        for name in ["one", "two", "three"] {
            batch.float(world.series(&[("__name__", name), ("l", &name.len().to_string())]), second * 1000, 1.0);
        }
        world.commit(&batch);
    }
    world.db().compact().expect("compaction succeeds");
    let cases: &[(Op, &str, &str, usize)] = &[
        (Op::Equal, "__name__", "one", 1),
        (Op::NotEqual, "__name__", "one", 2),
        (Op::Regex, "__name__", "t.*", 2),
        (Op::NotRegex, "l", "3|4", 1),
        (Op::Equal, "absent", "", 3),
        (Op::Regex, "absent", ".+", 0),
        (Op::Regex, "l", "3", 2),
    ];
    for (op, name, value, count) in cases {
        let matcher = Matcher::new(*op, name, value).expect("the expression is sound");
        let found = world.select(std::slice::from_ref(&matcher), i64::MIN, i64::MAX);
        assert_eq!(found.len(), *count, "{matcher:?}");
        assert!(found.iter().all(|series| series.1.len() == 30));
    }
}

#[test]
fn two_data_bases_do_not_share_a_directory() {
    let world = World::new(Options::default());
    let error = tsdb::Db::open(world.path(), Options::default()).expect_err("it is in use");
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn a_synced_commit_returns_even_if_there_was_nothing_to_write() {
    let world = World::new(Options { sync: Duration::from_hours(1), ..Options::default() });
    let x = world.series(&[("x", "a")]);
    let mut batch = Batch::default();
    batch.float(x, 1, 1.0);
    for stored in [1, 0, 0] {
        let outcome = world.db().commit(&batch, Durability::Synced).expect("the commit succeeds");
        assert_eq!(outcome.stored, stored);
    }
    let empty = world.db().commit(&Batch::default(), Durability::Synced).expect("the commit succeeds");
    assert_eq!(empty.stored, 0);
}

#[test]
fn names_values_and_counts_are_those_of_head_and_blocks() {
    let world = World::new(small());
    let early = world.series(&[("__name__", "old"), ("only", "early"), ("n", "1")]);
    world.put(early, 0, 1.0);
    for second in 0..60 {
        let mut batch = Batch::default();
        for n in ["1", "2", "3"] {
            batch.float(world.series(&[("__name__", "new"), ("n", n)]), second * 1000, 1.0);
        }
        world.commit(&batch);
    }
    world.db().compact().expect("compaction succeeds");
    let db = world.db();
    let all = (i64::MIN, i64::MAX);
    let names = |matchers: &[Matcher], (min, max)| db.label_names(matchers, min, max).expect("names are found");
    let values =
        |name, matchers: &[Matcher], (min, max)| db.label_values(name, matchers, min, max).expect("values are found");
    let old = [Matcher::equal("__name__", "old")];
    let second = [Matcher::equal("n", "2")];
    assert_eq!(names(&[], all), ["__name__", "n", "only"]);
    assert_eq!(names(&second, all), ["__name__", "n"]);
    assert_eq!(names(&old, (0, 1)), ["__name__", "n", "only"]);
    assert_eq!(values("__name__", &[], all), ["new", "old"]);
    assert_eq!(values("n", &second, all), ["2"]);
    assert_eq!(values("n", &old, all), ["1"]);
    assert_eq!(values("absent", &[], all), [""; 0]);
    let counts = db.cardinality(2);
    assert_eq!(counts.series_by_metric[0].value, 3);
    assert_eq!(counts.series_by_pair[0].name, "__name__=new");
    assert_eq!(counts.values_by_name[0].name, "n");
    let sizes = db.sizes();
    assert_eq!((sizes.min, sizes.max), (0, 59_000));
    assert_eq!(sizes.blocks, db.block_list().len());
    assert!(sizes.blocks > 0 && sizes.block_bytes > 0 && sizes.head_bytes > 0);
}

#[test]
fn what_is_exported_to_prometheus_blocks_comes_back_when_it_is_imported() {
    let world = World::new(small());
    for second in 0..45u64 {
        let mut batch = Batch::default();
        let time = second as i64 * 1000;
        batch.float(world.series(&[("__name__", "a"), ("n", "1")]), time, second as f64 / 3.0);
        batch.float(world.series(&[("__name__", "a"), ("n", "ö")]), time, if second == 40 { STALE_NAN } else { 1.0 });
        batch.histogram(world.series(&[("__name__", "h")]), time, histogram(second));
        let float = HistogramValue::Float(histogram(second).to_float());
        batch.histogram(world.series(&[("__name__", "f")]), time, float);
        world.commit(&batch);
    }
    world.db().compact().expect("compaction succeeds");
    let out = world.path().join("out");
    let blocks = world.db().export(&out, i64::MIN, i64::MAX).expect("the export succeeds");
    assert_eq!(blocks.len(), 5);
    let other = World::new(small());
    assert_eq!(other.db().import(&out).expect("the import succeeds"), 5);
    assert!(same(&other.all(), &world.all()));
    other.db().compact().expect("compaction succeeds");
    assert!(same(&other.all(), &world.all()));
    // A damaged block is refused, and nothing of the others is taken.
    let index = blocks[3].join("index");
    let mut bytes = std::fs::read(&index).expect("the index is read");
    bytes[20] ^= 1;
    std::fs::write(&index, bytes).expect("the index is written");
    let third = World::new(small());
    let error = third.db().import(&out).expect_err("it is damaged");
    assert!(error.to_string().contains("checksum"), "{error}");
    assert!(third.all().is_empty() && third.files("blocks").is_empty());
}
