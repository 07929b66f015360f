//! Patterns as the reference and Go's `filepath.Match` describe them.

use super::*;

/// Lines of a file, paths that do not count, paths that do.
const CASES: &[(&str, &[&str], &[&str])] = &[
    ("", &[], &["a", "a/b"]),
    ("# a comment\n\n  \n", &[], &["# a comment", "a"]),
    ("*/temp*", &["a/temp", "a/temporary.txt", "a/temp/b"], &["temp", "a/b/temp"]),
    ("*/*/temp*", &["a/b/temporary.txt"], &["a/temp", "temp"]),
    ("temp?", &["tempa", "tempb"], &["temp", "tempab"]),
    ("**/*.go", &["a.go", "a/b.go", "a/b/c.go"], &["a.gox", "a/go"]),
    ("**", &["a", "a/b"], &[]),
    ("a/**", &["a/b", "a/b/c"], &["b", "ab"]),
    ("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "a/b/c"], &["a/xb", "b"]),
    ("**/b", &["b", "a/b", "a/b/c"], &["ab"]),
    ("*.md\n!README.md", &["a.md"], &["README.md"]),
    ("*.md\n!README*.md\nREADME-secret.md", &["a.md", "README-secret.md"], &["README.md"]),
    ("*.md\nREADME-secret.md\n!README*.md", &["a.md"], &["README.md", "README-secret.md"]),
    ("a\n!a/b", &["a", "a/c"], &["a/b", "a/b/c"]),
    ("/a/", &["a", "a/b"], &["b/a"]),
    ("./a/../b", &["b"], &["a"]),
    ("[a-c]x\n[^a-c]y", &["ax", "cx", "dy"], &["dx", "ay", "/y"]),
    ("a\\*", &["a*"], &["ab"]),
    ("*", &["a", "a/b"], &[]),
    ("*\n!b", &["a"], &["b", "b/c"]),
    (".", &[], &["a"]),
    ("! b", &[], &["b"]),
    ("a.b+c$d", &["a.b+c$d"], &["aXb+c$d"]),
    ("ünïcode/?", &["ünïcode/é"], &["ünïcode/éé"]),
];

#[test]
fn the_last_line_that_matches_a_path_or_what_is_above_it_decides() {
    for (text, out, inside) in CASES {
        let ignore = Ignore::parse(text).unwrap();
        for path in *out {
            assert!(ignore.ignores(path), "{text:?} leaves {path} in");
        }
        for path in *inside {
            assert!(!ignore.ignores(path), "{text:?} takes {path} out");
        }
    }
}

#[test]
fn a_pattern_that_cannot_be_read_is_refused_with_its_line() {
    for (text, line, reason) in [
        ("a\n!", 2, "an exclamation mark without a pattern"),
        ("[a", 1, "syntax error in pattern"),
        ("x\n\n[z-a]", 3, "syntax error in pattern"),
        ("a\\", 1, "syntax error in pattern"),
        ("[]", 1, "syntax error in pattern"),
    ] {
        let error = Ignore::parse(text).unwrap_err();
        assert_eq!((error.line, error.reason), (line, reason), "{text:?}");
    }
    assert!(Ignore::parse(&"*".repeat(LONGEST + 1)).is_err());
}

#[test]
fn many_stars_against_a_long_path_take_no_exponential_time() {
    let ignore = Ignore::parse(&format!("{}b", "*a".repeat(500))).unwrap();
    assert!(!ignore.ignores(&"a".repeat(2000)));
}
