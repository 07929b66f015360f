//! Paths in all spellings.

use super::*;

#[test]
fn prefixes_are_of_whole_segments() {
    let cases = [
        ("/foo", "/foo", true),
        ("/foo", "/foo/", true),
        ("/foo", "/foo/bar", true),
        ("/foo", "/foobar", false),
        ("/foo/", "/foo", true),
        ("/foo/", "/foo/bar", true),
        ("/", "/anything", true),
        ("/", "*", false),
    ];
    for (wanted, path, expected) in cases {
        assert_eq!(prefix(wanted).matches(path), expected, "{wanted} {path}");
    }
}

#[test]
fn regular_expressions_are_of_the_whole_path_and_bounded() {
    assert!(PathMatch::Regex(whole("/a[0-9]+").unwrap()).matches("/a12"));
    assert!(!PathMatch::Regex(whole("/a[0-9]+").unwrap()).matches("/a12/b"));
    assert!(!PathMatch::Regex(whole("/a|/b").unwrap()).matches("/ab"));
    assert!(whole("(").is_err());
    assert!(whole("(?:a{1000}){1000}").is_err());
}

#[test]
fn dot_segments_are_resolved_and_do_not_lead_out() {
    let cases = [
        ("/", Some("/")),
        ("/a/b", Some("/a/b")),
        ("/a/./b", Some("/a/b")),
        ("/a/../b", Some("/b")),
        ("/a/%2e%2E/b", Some("/b")),
        ("/a/.%2e/b", Some("/b")),
        ("/a/b/..", Some("/a/")),
        ("/a/.", Some("/a/")),
        ("/..", None),
        ("/a/../../b", None),
        ("/a/..b", Some("/a/..b")),
        ("/a/...", Some("/a/...")),
        ("/.well-known/x", Some("/.well-known/x")),
        ("/a//b", Some("/a//b")),
        ("/a/%2Fb", Some("/a/%2Fb")),
    ];
    for (path, expected) in cases {
        assert_eq!(resolved(path).as_deref(), expected, "{path}");
    }
}

#[test]
fn a_replaced_prefix_leaves_the_rest() {
    let cases = [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/bar", "/foo", "/", "/bar"),
        ("/foo", "/foo", "/", "/"),
        ("/bar", "/", "/xyz", "/xyz/bar"),
    ];
    for (path, matched, with, expected) in cases {
        assert_eq!(replaced(path, prefix(matched).prefix(), with), expected, "{path} {matched} {with}");
    }
}

#[test]
fn parameters_are_found_decoded() {
    let cases = [
        ("a=1&b=2", "b", Some("2")),
        ("a=1&a=2", "a", Some("1")),
        ("a", "a", Some("")),
        ("a=x%20y+z", "a", Some("x y z")),
        ("%61=1", "a", Some("1")),
        ("a=%zz", "a", Some("%zz")),
        ("a=%ff", "a", None),
        ("b=1", "a", None),
    ];
    for (query, name, expected) in cases {
        assert_eq!(parameter(query, name).as_deref(), expected, "{query} {name}");
    }
}
