//! What filters leave out. Histories are walked in `tests/it/served.rs`, against `git`.

use super::*;

fn omits(filter: &str, kind: Kind, depth: u32, size: u64) -> bool {
    Filter::parse(filter).unwrap().omits(kind, depth, &mut || Ok(size)).unwrap()
}

#[test]
fn filters_leave_out_files_by_size_and_trees_by_depth() {
    for (filter, kind, depth, size, omitted) in [
        ("blob:none", Kind::Blob, 1, 1, true),
        ("blob:none", Kind::Tree, 1, 1, false),
        ("blob:limit=1k", Kind::Blob, 1, 1023, false),
        ("blob:limit=1k", Kind::Blob, 1, 1024, true),
        ("blob:limit=0", Kind::Blob, 1, 0, true),
        ("tree:0", Kind::Tree, 0, 1, true),
        ("tree:1", Kind::Tree, 0, 1, false),
        ("tree:1", Kind::Blob, 1, 1, true),
        ("object:type=commit", Kind::Tree, 0, 1, true),
        ("combine:blob:none+tree:3", Kind::Blob, 1, 1, true),
        ("combine:blob%3anone+tree:3", Kind::Tree, 2, 1, false),
    ] {
        assert_eq!(omits(filter, kind, depth, size), omitted, "{filter} {kind:?} at {depth}");
    }
}

#[test]
fn filters_that_are_not_served_say_which_are() {
    for filter in [
        "",
        "blob",
        "blob:some",
        "blob:limit=",
        "blob:limit=99999999999999g",
        "tree:x",
        "sparse:oid=main",
        "object:type=x",
    ] {
        let error = Filter::parse(filter).unwrap_err().to_string();
        assert!(error.contains("blob:none"), "{filter}: {error}");
    }
    let nested = format!("combine:{}", vec!["blob:none"; 17].join("+"));
    assert!(Filter::parse(&nested).is_err());
    assert!(Filter::parse("combine:combine:blob:none").is_err());
}
