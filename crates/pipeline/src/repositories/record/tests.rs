//! What pushes leave in a status.

use git::id::Id;

use super::*;

fn id(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn references(all: &[(&str, char)]) -> BTreeMap<String, String> {
    all.iter().map(|(name, digit)| (format!("refs/heads/{name}"), id(*digit))).collect()
}

fn pusher(name: &str, branch: &str, old: Option<char>, new: Option<char>) -> Pusher {
    let of = |digit: Option<char>| digit.and_then(|digit| Id::parse(&id(digit)));
    let update = Update { name: format!("refs/heads/{branch}"), old: of(old), new: of(new) };
    Pusher { user: name.to_owned(), options: Vec::new(), updates: vec![update] }
}

#[test]
fn a_push_is_told_once_with_who_did_it() {
    let now = references(&[("main", '1')]);
    let seen = [pusher("kim", "main", None, Some('1'))];
    let status = pushed(&Status::default(), &now, &seen, "t").unwrap();
    assert_eq!((status.sequence, status.pushes.len()), (1, 1));
    assert_eq!(status.pushes[0].user.as_deref(), Some("kim"));
    assert_eq!(status.pushes[0].updates[0].new.as_deref(), Some(id('1').as_str()));
    assert_eq!(status.references, now);
    assert_eq!(pushed(&status, &now, &seen, "t"), None, "told again");
}

#[test]
fn what_was_pushed_before_the_server_was_killed_is_told_without_a_name() {
    let before = Status { references: references(&[("main", '1'), ("old", '2')]), sequence: 7, ..Status::default() };
    let now = references(&[("main", '3'), ("new", '4')]);
    let status = pushed(&before, &now, &[], "t").unwrap();
    assert_eq!(status.sequence, 8);
    let told: Vec<(&str, bool, bool)> = status.pushes[0]
        .updates
        .iter()
        .map(|change| (change.reference.as_str(), change.old.is_some(), change.new.is_some()))
        .collect();
    assert_eq!(
        told,
        [("refs/heads/old", true, false), ("refs/heads/main", true, true), ("refs/heads/new", false, true)]
    );
}

#[test]
fn two_pushes_between_two_turns_are_two() {
    let now = references(&[("main", '2')]);
    let seen = [pusher("kim", "main", None, Some('1')), pusher("lee", "main", Some('1'), Some('2'))];
    let status = pushed(&Status::default(), &now, &seen, "t").unwrap();
    let users: Vec<_> = status.pushes.iter().map(|push| (push.number, push.user.as_deref().unwrap())).collect();
    assert_eq!(users, [(1, "kim"), (2, "lee")]);
}

#[test]
fn only_the_last_pushes_stay() {
    let mut status = Status::default();
    for n in 0..60 {
        let digit = char::from_digit(n % 9 + 1, 10).unwrap();
        status = pushed(&status, &references(&[("main", digit)]), &[], "t").unwrap();
    }
    assert_eq!((status.sequence, status.pushes.len(), status.pushes[0].number), (60, MOST_PUSHES, 11));
}

#[test]
fn patterns_name_branches() {
    let patterns = ["main".to_owned(), "release/*".to_owned(), "*-lts-*".to_owned()];
    for (reference, protected) in [
        ("refs/heads/main", true),
        ("refs/heads/mains", false),
        ("refs/tags/main", false),
        ("refs/heads/release/1", true),
        ("refs/heads/release", false),
        ("refs/heads/1-lts-2", true),
    ] {
        assert_eq!(is_protected(&patterns, reference), protected, "{reference}");
    }
}
