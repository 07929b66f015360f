//! Choices and ejections.

use super::*;

fn looks(seen: &[(u32, bool)]) -> impl Fn(usize) -> Look {
    let seen = seen.to_vec();
    move |index| Look { active: seen[index].0, well: seen[index].1 }
}

#[test]
fn the_least_busy_endpoint_gets_the_request() {
    let cases: [(&[(u32, bool)], &[usize], Option<usize>); 7] = [
        (&[], &[], None),
        (&[(9, false)], &[0], Some(0)),
        (&[(3, true), (1, true), (2, true)], &[], Some(1)),
        (&[(3, true), (1, false), (2, true)], &[], Some(2)),
        (&[(3, true), (1, true), (2, true)], &[1], Some(2)),
        (&[(3, true), (1, false), (2, false)], &[], Some(1)),
        (&[(3, true), (1, true)], &[0, 1], Some(1)),
    ];
    for (seen, tried, expected) in cases {
        for random in 0..20 {
            assert_eq!(choose(seen.len(), looks(seen), tried, random), expected, "{seen:?} {tried:?}");
        }
    }
}

#[test]
fn equals_share_requests() {
    let mut counts = [0; 4];
    for random in 0..100 {
        counts[choose(4, looks(&[(0, true); 4]), &[], random).unwrap()] += 1;
    }
    assert_eq!(counts, [25; 4]);
}

#[test]
fn of_many_the_better_of_two_is_taken() {
    let mut seen = vec![(5, true); 20];
    seen[7] = (1, true);
    assert_eq!(choose(20, looks(&seen), &[], (7 << 32) | 3), Some(7));
    assert_eq!(choose(20, looks(&seen), &[], (9 << 32) | 7), Some(7));
    seen[3] = (0, false);
    assert_eq!(choose(20, looks(&seen), &[], (9 << 32) | 3), Some(9));
}

#[test]
fn failures_in_a_row_eject_longer_and_longer() {
    let mut health = Health::default();
    for now in 0..3 {
        assert!(health.is_in(now));
        health = health.after(Outcome::Lost, now);
    }
    assert_eq!((health.until, health.ejections), (10_002, 1));
    assert!(!health.is_in(5_000));
    // What was under way changes nothing; the first failure afterwards ejects for longer.
    assert_eq!(health.after(Outcome::Lost, 5_000), health);
    health = health.after(Outcome::Ill, 10_002);
    assert_eq!((health.until, health.ejections), (30_002, 2));
    health = health.after(Outcome::Well, 30_100);
    assert_eq!(health.ejections, 2);
    health = health.after(Outcome::Well, 90_000);
    assert_eq!(health.ejections, 0);
    for _ in 0..100 {
        health = health.after(Outcome::Ill, health.until);
    }
    assert!(health.until < u64::MAX / 2);
}

#[test]
fn answers_between_failures_keep_an_endpoint_in() {
    let mut health = Health::default();
    for now in 0..100 {
        health = health.after(Outcome::Ill, now).after(Outcome::Ill, now).after(Outcome::Well, now);
    }
    assert!(health.is_in(100));
}
