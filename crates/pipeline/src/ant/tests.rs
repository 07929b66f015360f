//! Patterns and paths.

use super::*;

#[test]
fn patterns_fit_as_in_ant() {
    for (pattern, path, expected) in [
        ("*.xml", "a.xml", true),
        ("*.xml", "b/a.xml", false),
        ("**/*.xml", "a.xml", true),
        ("**/*.xml", "b/c/a.xml", true),
        ("target/**", "target/a/b", true),
        ("target/", "target/a/b", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/x/y/c", false),
        ("release-?.*", "release-1.2", true),
        ("feature/*", "feature/x/y", false),
        ("master", "master", true),
        ("*a*b*c", "xxaxxbxxc", true),
        ("*a*b*c", "xxaxxcxxb", false),
    ] {
        assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
    }
    assert!(fits_any("a.txt, **/*.xml", "x/y.xml"));
    assert!(!fits_any("", "x"));
    // Many stars come to an end.
    assert!(!fits(&format!("{}b", "**/a/".repeat(200)), &format!("{}c", "a/".repeat(400))));
    assert!(!fits(&"*a".repeat(500), &"a".repeat(499)));
}
