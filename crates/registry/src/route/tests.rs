//! Paths lead where the specification says, and nowhere else.

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn paths_of_the_specification_are_known() {
    let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
    let cases = [
        ("/v2".to_owned(), Route::Root),
        ("/v2/".into(), Route::Root),
        ("/v2/_catalog".into(), Route::Catalog),
        ("/token".into(), Route::Token),
        ("/v2/a/tags/list".into(), Route::Tags("a".into())),
        ("/v2/a/b/blobs/uploads/".into(), Route::Uploads("a/b".into())),
        ("/v2/a/b/blobs/uploads/x".into(), Route::Upload("a/b".into(), "x".into())),
        (format!("/v2/a/blobs/sha256:{HEX}"), Route::Blob("a".into(), digest.clone())),
        (format!("/v2/a/blobs/sha256%3A{HEX}"), Route::Blob("a".into(), digest.clone())),
        (format!("/v2/a/referrers/sha256:{HEX}"), Route::Referrers("a".into(), digest.clone())),
        (format!("/v2/a/manifests/sha256:{HEX}"), Route::Manifest("a".into(), Target::Digest(digest))),
        ("/v2/a/manifests/v1.0".into(), Route::Manifest("a".into(), Target::Tag("v1.0".into()))),
        // Names that look like parts of the protocol.
        ("/v2/tags/list/tags/list".into(), Route::Tags("tags/list".into())),
        ("/v2/blobs/manifests/manifests/x".into(), Route::Manifest("blobs/manifests".into(), Target::Tag("x".into()))),
    ];
    for (path, expected) in cases {
        assert_eq!(Route::parse(&path).unwrap(), expected, "{path}");
    }
}

#[test]
fn names_never_leave_the_grammar() {
    let long = "a".repeat(256);
    let cases = [
        "/v2/../etc/passwd/tags/list",
        "/v2/a/../b/manifests/x",
        "/v2/%2e%2e/a/manifests/x",
        "/v2/a%2f..%2fb/manifests/x",
        "/v2/a/manifests/..",
        "/v2/a/manifests/%2e%2e%2fx",
        "/v2/a/manifests/x%00",
        "/v2/a/manifests/",
        "/v2/a/blobs/sha256:..",
        "/v2/a/blobs/../../x",
        "/v2/a/blobs/md5:0123",
        "/v2/A/tags/list",
        "/v2//tags/list",
        "/v2/a//b/tags/list",
        "/v2/a/tags/list/",
        "/v2/tags/list",
        "/v2x/a/tags/list",
        "/v2/a%/tags/list",
        "/v2/%ff/tags/list",
        &format!("/v2/{long}/tags/list"),
        "/",
        "",
    ];
    for path in cases {
        assert!(Route::parse(path).is_err(), "{path}");
    }
}

#[test]
fn queries_are_decoded() {
    let uri: Uri = "/x?scope=repository%3Aa%3Apull&scope=b+c&n=5&empty=&flag".parse().unwrap();
    let query = query(&uri);
    assert_eq!(parameter(&query, "scope"), Some("repository:a:pull"));
    assert_eq!(query[1].1, "b c");
    assert_eq!(parameter(&query, "n"), Some("5"));
    assert_eq!((parameter(&query, "empty"), parameter(&query, "flag")), (None, None));
}
