//! Shortest and longest matches, from both ends.

use super::*;

#[test]
fn a_prefix_is_cut_at_its_shortest_or_longest_match() {
    for (pattern, text, shortest, longest) in [
        ("a*", "aabb", "abb", ""),
        ("*b", "aabb", "b", ""),
        ("?", "aabb", "abb", "abb"),
        ("x", "aabb", "aabb", "aabb"),
        ("", "aabb", "aabb", "aabb"),
        ("*/", "a/b/c", "b/c", "c"),
        ("\\*", "*a", "a", "a"),
        ("*é", "aéé", "é", ""),
        ("a*b", "a\nb", "a\nb", "a\nb"),
    ] {
        let wildcard = Wildcard::parse(pattern).unwrap();
        assert_eq!(wildcard.trim_prefix(text, false).unwrap(), shortest, "{pattern} shortest of {text}");
        assert_eq!(wildcard.trim_prefix(text, true).unwrap(), longest, "{pattern} longest of {text}");
    }
}

#[test]
fn a_suffix_is_cut_at_its_shortest_or_longest_match() {
    for (pattern, text, shortest, longest) in [
        ("/*", "a/b/c", "a/b", "a"),
        ("*", "abc", "abc", ""),
        ("c", "abc", "ab", "ab"),
        (".tar.*", "x.tar.tar.gz", "x.tar", "x"),
        ("\\?", "a?", "a", "a"),
    ] {
        let wildcard = Wildcard::parse(pattern).unwrap();
        assert_eq!(wildcard.trim_suffix(text, false).unwrap(), shortest, "{pattern} shortest of {text}");
        assert_eq!(wildcard.trim_suffix(text, true).unwrap(), longest, "{pattern} longest of {text}");
    }
}

#[test]
fn a_match_is_replaced_once_or_everywhere() {
    for (pattern, text, by, first, all) in [
        ("b", "abcb", "X", "aXcb", "aXcX"),
        ("a*", "xaay", "-", "x-", "x-"),
        ("?", "abc", "-", "-bc", "---"),
        ("", "ab", "-", "-ab", "-a-b-"),
        ("z", "ab", "-", "ab", "ab"),
    ] {
        let wildcard = Wildcard::parse(pattern).unwrap();
        assert_eq!(wildcard.replace(text, by, false, 100).unwrap(), first, "{pattern} once in {text}");
        assert_eq!(wildcard.replace(text, by, true, 100).unwrap(), all, "{pattern} in all of {text}");
    }
    assert_eq!(Wildcard::parse("a").unwrap().replace("aaaa", "xxxxxxxx", true, 10), None, "too long");
}

#[test]
fn what_would_take_too_long_is_given_up() {
    let wildcard = Wildcard::parse(&"*a".repeat(2000)).unwrap();
    assert_eq!(wildcard.trim_prefix(&"a".repeat(100_000), true), None);
}

#[test]
fn only_wildcards_and_what_ends_a_substitution_are_escaped() {
    assert_eq!(Wildcard::parse("a\\b").unwrap_err(), "invalid escape '\\b'");
    assert_eq!(Wildcard::parse("a\\").unwrap_err(), "it ends within an escape");
}
