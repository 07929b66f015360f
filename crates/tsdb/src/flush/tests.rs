//! Tests of the choice of segments to merge.

use super::*;

fn candidate(first: u64, last: u64, block: i64) -> Candidate {
    Candidate { name: Name { late: false, first, last }, size: 100, first: block, last: block }
}

#[test]
fn four_neighbours_of_a_size_become_one() {
    let of = |spans: &[(u64, u64)]| spans.iter().map(|(first, last)| candidate(*first, *last, 0)).collect::<Vec<_>>();
    let names = |chosen: Option<Vec<Name>>| chosen.map(|names| (names[0].first, names[names.len() - 1].last));
    assert_eq!(names(choose(&of(&[(1, 1), (2, 2), (3, 3)]))), None);
    assert_eq!(names(choose(&of(&[(1, 1), (2, 2), (3, 3), (4, 4)]))), Some((1, 4)));
    assert_eq!(names(choose(&of(&[(1, 4), (5, 5), (6, 6), (7, 7)]))), None);
    assert_eq!(names(choose(&of(&[(1, 4), (5, 8), (9, 12), (13, 16), (17, 17)]))), Some((1, 16)));
}

#[test]
fn segments_of_different_blocks_stay_apart() {
    let mut candidates: Vec<Candidate> = (1..=3).map(|n| candidate(n, n, 0)).collect();
    candidates.push(candidate(4, 4, 1));
    assert!(choose(&candidates).is_none());
    candidates[3].first = 0;
    assert!(choose(&candidates).is_none());
}

#[test]
fn the_number_of_segments_stays_small() {
    let mut have: Vec<Candidate> = Vec::new();
    for number in 1..=1000 {
        have.push(candidate(number, number, 0));
        while let Some(names) = choose(&have) {
            let merged = candidate(names[0].first, names[names.len() - 1].last, 0);
            have.retain(|candidate| !merged.name.covers(candidate.name));
            have.push(merged);
            have.sort_by_key(|candidate| candidate.name.first);
        }
        assert!(have.len() <= 3 * 6, "{} segments after {number} flushes", have.len());
    }
}
