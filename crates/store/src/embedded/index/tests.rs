//! The index against the plainest model of it: a map for every revision.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;

use super::{super::random::Random, *};

/// All entries at a revision: value, created, modified, version.
type State = BTreeMap<String, (Bytes, u64, u64, u64)>;

/// What a model does next: some puts and deletions of distinct keys.
fn ops(random: &mut Random, state: &State) -> Vec<Op> {
    let mut ops = Vec::new();
    for _ in 0..random.below(4) + 1 {
        let key = format!("/{}/{}", random.below(3), random.below(12));
        if ops.iter().any(|op: &Op| **op.key() == *key) {
            continue;
        }
        if random.below(3) == 0 {
            // Deletions of absent keys are left out before the index sees them.
            if state.contains_key(&key) {
                ops.push(Op::Delete { key: key.into() });
            }
        } else {
            ops.push(Op::Put { key: key.into(), value: random.bytes(20).into() });
        }
    }
    ops
}

fn apply(state: &mut State, revision: u64, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Delete { key } => drop(state.remove(&**key)),
            Op::Put { key, value } => {
                let (_, created, _, version) = state.get(&**key).cloned().unwrap_or((Bytes::new(), revision, 0, 0));
                state.insert(key.to_string(), (value.clone(), created, revision, version + 1));
            }
        }
    }
}

fn read(index: &Index, prefix: &str, revision: u64, steps: usize) -> State {
    let mut page = Collected::default();
    let mut last: Option<Arc<str>> = None;
    loop {
        let start = last.as_deref().map_or(Bound::Included(prefix), Bound::Excluded);
        match index.collect(prefix, start, revision, 0, steps, &mut page) {
            Next::After(key) => last = Some(key),
            Next::Done => break,
        }
    }
    assert_eq!(page.count as usize, page.entries.len());
    let plain = |entry: Entry| {
        let revisions = (entry.create_revision.get(), entry.mod_revision.get(), entry.version);
        (entry.key.to_string(), (entry.value, revisions.0, revisions.1, revisions.2))
    };
    page.entries.into_iter().map(plain).collect()
}

/// What the model says happened at a revision.
fn expected(before: &State, after: &State, revision: u64, ops: &[Op], prefix: &str) -> Vec<Event> {
    let entry = |state: &State, key: &Arc<str>| {
        state.get(&**key).map(|(value, created, modified, version)| Entry {
            key: key.clone(),
            value: value.clone(),
            create_revision: Revision::new(*created),
            mod_revision: Revision::new(*modified),
            version: *version,
        })
    };
    let event = |op: &Op| {
        let prev = entry(before, op.key());
        match entry(after, op.key()) {
            Some(entry) => Event::Put { entry, prev },
            None => Event::Delete { key: op.key().clone(), revision: Revision::new(revision), prev },
        }
    };
    ops.iter().filter(|op| op.key().starts_with(prefix)).map(event).collect()
}

#[test]
fn every_revision_reads_as_it_was_until_it_is_compacted() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let mut index = Index::new();
        let mut states = vec![State::new(), State::new()];
        let mut history = vec![Vec::new(), Vec::new()];
        for _ in 0..150 {
            let revision = states.len() as u64;
            let mut state = states.last().expect("a state").clone();
            let ops = ops(&mut random, &state);
            if ops.is_empty() {
                continue;
            }
            apply(&mut state, revision, &ops);
            index.apply(revision, ops.clone());
            states.push(state);
            history.push(ops);
            if random.below(20) == 0 {
                index.compact(random.below(revision) + 1);
            }
            if random.below(3) == 0 {
                index.sweep(random.below(30) as usize);
            }
            let at = random.below(revision - index.compacted() + 1) + index.compacted();
            let steps = random.below(40) as usize + 1;
            assert_eq!(read(&index, "/", at, steps), states[at as usize], "seed {seed}, revision {at} of {revision}");
        }
        let revision = index.revision();
        for at in index.compacted()..=revision {
            assert_eq!(read(&index, "/", at, 7), states[at as usize], "seed {seed}, revision {at}");
            let prefix = ["/", "/1/", "/2/1"][random.below(3) as usize];
            let (mut through, mut found) = (at, Vec::new());
            while through < revision {
                let (events, next) = index.changes(prefix, through, 3, random.below(5) as usize + 1);
                assert!(next > through && events.iter().all(|event| event.revision().get() <= next));
                (through, found) = (next, [found, events].concat());
            }
            let model = (at + 1..=revision).flat_map(|revision| {
                let (before, after) = (&states[revision as usize - 1], &states[revision as usize]);
                expected(before, after, revision, &history[revision as usize], prefix)
            });
            assert_eq!(found, model.collect::<Vec<_>>(), "seed {seed}, changes of {prefix} after {at}");
            assert_eq!(index.first_change(prefix, at), found.first().map(|event| event.revision().get()));
        }
    }
}

#[test]
fn what_is_swept_is_free() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut index = Index::new();
        let mut state = State::new();
        for revision in 2..400 {
            let mut ops = ops(&mut random, &state);
            ops.push(Op::Put { key: "/always".into(), value: Bytes::new() });
            apply(&mut state, revision, &ops);
            index.apply(revision, ops);
        }
        index.compact(random.below(300) + 50);
        while index.sweep(13) {}
        let (total, superseded) = index.weight();
        let compacted = index.compacted();
        let again = Index::at(index.revision(), compacted, Place::default(), index.into_keys());
        // An index built of what is left has the same weight, so nothing was forgotten and nothing counted twice.
        assert_eq!(again.weight(), (total, superseded), "seed {seed}");
        let mut all = again;
        all.compact(all.revision());
        while all.sweep(1000) {}
        let live: u64 = state.values().map(|(value, ..)| OVERHEAD + value.len() as u64).sum();
        assert_eq!((all.weight(), all.len()), ((live, 0), state.len()), "seed {seed}");
    }
}

#[test]
fn an_index_made_of_its_keys_is_the_same() {
    let mut random = Random(7);
    let mut index = Index::new();
    let mut state = State::new();
    for revision in 2..200 {
        let mut ops = ops(&mut random, &state);
        ops.push(Op::Put { key: "/always".into(), value: Bytes::new() });
        apply(&mut state, revision, &ops);
        index.apply(revision, ops);
    }
    index.compact(50);
    let all = |index: &Index| index.changes("", 50, usize::MAX, usize::MAX);
    let (before, weight) = (all(&index), read(&index, "", 60, 1000));
    let again = Index::at(index.revision(), 50, index.place(), index.into_keys());
    let mut after = all(&again);
    // Only the order within a revision is not kept by the keys alone.
    let by_key = |events: &mut Vec<Event>| events.sort_by_key(|event| (event.revision(), event.key().clone()));
    let mut before = before;
    by_key(&mut before.0);
    by_key(&mut after.0);
    assert_eq!(after, before);
    assert_eq!(read(&again, "", 60, 1000), weight);
}
