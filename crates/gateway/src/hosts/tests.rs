//! Patterns, what two of them share, and which of many is found first.

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::of(Some(text))
}

#[test]
fn patterns_match_whole_labels() {
    let cases = [
        ("example.com", "example.com", true),
        ("EXAMPLE.com", "example.com", true),
        ("example.com", "www.example.com", false),
        ("*.example.com", "www.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", "badexample.com", false),
        ("", "anything", true),
        ("*", "anything", true),
    ];
    for (text, host, expected) in cases {
        assert_eq!(pattern(text).matches(host), expected, "{text} {host}");
    }
}

#[test]
fn two_patterns_share_the_narrower_one() {
    let cases = [
        ("", "a.com", Some("a.com")),
        ("a.com", "a.com", Some("a.com")),
        ("a.com", "b.com", None),
        ("*.a.com", "www.a.com", Some("www.a.com")),
        ("*.a.com", "a.com", None),
        ("*.a.com", "*.b.a.com", Some("*.b.a.com")),
        ("*.a.com", "*.b.com", None),
        ("", "", Some("")),
    ];
    for (one, other, expected) in cases {
        let expected = expected.map(pattern);
        assert_eq!(pattern(one).and(&pattern(other)), expected, "{one} {other}");
        assert_eq!(pattern(other).and(&pattern(one)), expected, "{other} {one}");
    }
}

#[test]
fn the_most_exact_pattern_is_found_first() {
    let mut hosts = Hosts::default();
    for text in ["", "*.com", "*.a.com", "www.a.com"] {
        hosts.entry(pattern(text), || text);
    }
    let found = |host| hosts.matching(host).copied().collect::<Vec<_>>();
    assert_eq!(found("www.a.com"), ["www.a.com", "*.a.com", "*.com", ""]);
    assert_eq!(found("a.com"), ["*.com", ""]);
    assert_eq!(found("b"), [""]);
}

#[test]
fn hosts_are_bared_and_nonsense_is_refused() {
    let cases = [
        ("a.com", Some("a.com")),
        ("a.com:80", Some("a.com")),
        ("a.com.", Some("a.com")),
        ("a.com:", Some("a.com")),
        ("[::1]:80", Some("[::1]")),
        ("[::1]", Some("[::1]")),
        ("10.0.0.1:8080", Some("10.0.0.1")),
        ("", None),
        (":80", None),
        ("a.com:99999", None),
        ("a.com:x", None),
        ("a b", None),
        ("user@a.com", None),
        ("a.com/x", None),
        ("[::1", None),
        ("a,b", None),
    ];
    for (text, expected) in cases {
        assert_eq!(bare(text), expected, "{text}");
    }
}
