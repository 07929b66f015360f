//! Cases of want, beside upstream's rules.

use serde_json::{Value, json};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn level(available: u64, capacity: u64) -> Level {
    Level { available, capacity }
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap()
}

#[test]
fn thresholds_are_upstreams() {
    let plenty = Observed { memory: level(1 << 30, 4 << 30), disk: level(50, 100), inodes: level(50, 100) };
    assert!(met(&plenty).is_empty());
    let none = Observed { inodes: level(0, 0), ..plenty };
    assert!(met(&none).is_empty());
    let short = Observed { memory: level(99 << 20, 4 << 30), disk: level(14, 100), inodes: level(4, 100) };
    let signals: Vec<Signal> = met(&short).iter().map(|met| met.signal).collect();
    assert_eq!(signals, [Signal::Memory, Signal::Disk, Signal::Inodes]);
}

#[test]
fn conditions_stay_for_five_minutes_after_the_want_has_gone() {
    let mut memory = Memory::default();
    let want = [Met { signal: Signal::Inodes, threshold: 5, available: 4 }];
    assert_eq!(memory.note(&[], at(0)), Pressures::default());
    assert_eq!(memory.note(&want, at(10)), Pressures { memory: false, disk: true });
    assert_eq!(memory.note(&[], at(309)), Pressures { memory: false, disk: true });
    assert_eq!(memory.note(&[], at(310)), Pressures::default());
}

#[test]
fn pods_above_their_requests_go_first_then_those_of_less_priority() {
    let candidate = |uid: &str, priority, used, requested| Candidate {
        uid: uid.into(),
        priority,
        used,
        requested,
        ..Default::default()
    };
    let modest = candidate("modest", 0, 90, 100);
    let greedy = candidate("greedy", 1000, 110, 100);
    let greedier = candidate("greedier", 1000, 130, 100);
    let lowly = candidate("lowly", 10, 101, 100);
    let order = |list: &[&Candidate]| {
        let list: Vec<Candidate> = list.iter().map(|one| (*one).clone()).collect();
        first(&list).map(|found| found.uid.clone()).unwrap_or_default()
    };
    assert_eq!(order(&[&modest, &greedy]), "greedy");
    assert_eq!(order(&[&greedy, &greedier]), "greedier");
    assert_eq!(order(&[&greedier, &lowly]), "lowly");
    assert_eq!(order(&[]), "");
}

#[test]
fn messages_say_what_was_wanting_and_who_used_too_much() {
    let met = Met { signal: Signal::Memory, threshold: 100 << 20, available: 50 << 20 };
    let candidate = Candidate {
        containers: vec![("a".into(), 64 << 20, 32 << 20), ("b".into(), 1 << 20, 32 << 20)],
        ..Default::default()
    };
    let wanted = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
                  Container a was using 64Mi, request is 32Mi, has larger consumption of memory. ";
    assert_eq!(explain(&met, &candidate), wanted);
}

#[test]
fn under_pressure_only_those_begin_who_may() {
    let (memory, disk) = (Pressures { memory: true, disk: false }, Pressures { memory: true, disk: true });
    let effortless = pod(json!({"containers": [{"name": "a"}]}));
    let burstable = pod(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}));
    let tolerant = pod(json!({"containers": [{"name": "a"}],
        "tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}]}));
    let critical = pod(json!({"containers": [{"name": "a"}], "priority": 2_000_001_000}));
    let cases = [
        (&effortless, Pressures::default(), true),
        (&effortless, memory, false),
        (&burstable, memory, true),
        (&tolerant, memory, true),
        (&burstable, disk, false),
        (&tolerant, disk, false),
        (&critical, disk, true),
    ];
    for (index, (pod, pressures, admitted)) in cases.into_iter().enumerate() {
        assert_eq!(admits(pod, pressures).is_ok(), admitted, "{index}");
    }
    let why = admits(&effortless, disk).unwrap_err();
    assert_eq!(why, "The node had condition: [MemoryPressure DiskPressure]. ");
}

#[test]
fn pods_that_write_more_than_they_may_have_to_go() {
    let limited = pod(json!({
        "containers": [
            {"name": "a", "resources": {"limits": {"ephemeral-storage": "10Ki"}}},
            {"name": "b", "resources": {"limits": {"ephemeral-storage": "10Ki"}}},
        ],
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "4Ki"}}, {"name": "m", "emptyDir": {"medium": "Memory"}}],
    }));
    assert!(is_limited(&limited));
    assert!(!is_limited(&pod(json!({"containers": [{"name": "a"}], "volumes": [{"name": "v", "emptyDir": {}}]}))));
    let of = |a: u64, b: u64, v: u64| {
        let written = Written { containers: vec![("a".into(), a), ("b".into(), b)], volumes: vec![("v".into(), v)] };
        exceeds(&limited, &written)
    };
    assert_eq!(of(10 << 10, 6 << 10, 4 << 10), None);
    assert_eq!(of(0, 0, 5 << 10).unwrap(), "Usage of EmptyDir volume \"v\" exceeds the limit \"4Ki\". ");
    let whole = "Pod ephemeral local storage usage exceeds the total limit of containers 20Ki. ";
    assert_eq!(of(10 << 10, 10 << 10, 1).unwrap(), whole);
    let own = "Container a exceeded its local ephemeral storage limit \"10Ki\". ";
    assert_eq!(of(11 << 10, 0, 0).unwrap(), own);
}

#[test]
fn images_give_way_when_the_disk_is_nearly_full() {
    assert_eq!(images_may_take(level(1600, 10_000), 5000), None);
    assert_eq!(images_may_take(level(1000, 10_000), 5000), Some(4000));
    assert_eq!(images_may_take(level(100, 10_000), 500), Some(0));
    assert_eq!(images_may_take(level(11 << 30, 1 << 40), 50 << 30), None);
    assert_eq!(images_may_take(level(9 << 30, 1 << 40), 50 << 30), Some(44 << 30));
}

#[test]
fn a_large_disk_need_not_be_15_percent_empty() {
    let large = Observed { disk: level(5 << 30, 1 << 40), ..Observed::default() };
    assert!(met(&large).is_empty());
    let full = Observed { disk: level(3 << 30, 1 << 40), ..Observed::default() };
    assert_eq!(met(&full)[0].threshold, 4 << 30);
}
