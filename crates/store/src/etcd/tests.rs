//! What can be told without an etcd.

use super::*;

#[test]
fn the_end_of_a_prefix_is_the_first_key_after_it() {
    for (prefix, expected) in
        [("", &b"\0"[..]), ("/a/", b"/a0"), ("/a", b"/b"), ("\u{7f}", b"\x80"), ("é", b"\xc3\xaa")]
    {
        assert_eq!(end(prefix), expected, "{prefix:?}");
    }
}

#[test]
fn a_range_that_starts_after_its_prefix_is_empty() {
    assert!(range_end_after("/a/x", &end("/a/")));
    assert!(!range_end_after("/b", &end("/a/")));
    assert!(range_end_after("/b", &end("")));
}

#[test]
fn versions_with_early_progress_are_known() {
    for (version, expected) in [
        ("3.4.23", true),
        ("3.4.25", false),
        ("3.5.0", true),
        ("3.5.7", true),
        ("3.5.8", false),
        ("3.5.0-alpha.0", true),
        ("3.6.1", false),
        ("3.7.3", false),
    ] {
        assert_eq!(old(version), expected, "{version}");
    }
}

#[tokio::test]
async fn endpoints_that_cannot_work_are_refused() {
    for endpoints in [&[][..], &["https://localhost:2379"], &["not an endpoint"], &["localhost:2379"]] {
        let endpoints: Vec<_> = endpoints.iter().map(|endpoint: &&str| (*endpoint).to_owned()).collect();
        let error = Client::connect(&endpoints).await.expect_err("connected");
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
}
