//! Names, and what stands in the files. What `git` makes of it is in `tests/it/served.rs`.

use super::*;

#[test]
fn names_of_references_are_as_git_allows_them() {
    for name in ["refs/heads/main", "refs/heads/a/b.c", "refs/tags/v1.0", "refs/heads/한글"] {
        assert!(valid_name(name), "{name}");
    }
    for name in [
        "main",
        "refs//x",
        "refs/heads/.x",
        "refs/heads/x.lock",
        "refs/heads/a..b",
        "refs/heads/a b",
        "refs/heads/x/",
        "refs/heads/x.",
        "refs/heads/a~b",
        "refs/heads/a^",
        "refs/heads/a:b",
        "refs/heads/@{x",
        "refs/heads/a\\b",
        "refs/heads/a\nb",
        "refs/../../x",
        "refs/heads/*",
    ] {
        assert!(!valid_name(name), "{name}");
    }
}

#[test]
fn an_empty_repository_has_a_branch_to_come_and_is_made_once() {
    let place = tempfile::tempdir().unwrap();
    Repository::create(place.path(), "trunk", Format::Sha256).unwrap();
    Repository::create(place.path(), "other", Format::Sha1).unwrap();
    let repository = Repository::open(place.path(), Limits::default()).unwrap();
    assert_eq!((repository.format(), repository.references().head()), (Format::Sha256, "refs/heads/trunk"));
    repository.set_head("next").unwrap();
    assert!(repository.set_head("../../x").is_err());
    let again = Repository::open(place.path(), Limits::default()).unwrap();
    assert_eq!(again.references().head(), "refs/heads/next");
}

#[test]
fn references_that_were_copied_here_are_read_and_a_damaged_list_is_named() {
    let place = tempfile::tempdir().unwrap();
    Repository::create(place.path(), "main", Format::Sha1).unwrap();
    let (one, two) = ("1".repeat(40), "2".repeat(40));
    fs::write(
        place.path().join("packed-refs"),
        format!("# pack-refs with: peeled\n{one} refs/heads/a\n{one} refs/tags/t\n^{two}\n"),
    )
    .unwrap();
    fs::create_dir_all(place.path().join("refs/heads/deep")).unwrap();
    fs::write(place.path().join("refs/heads/a"), format!("{two}\n")).unwrap();
    fs::write(place.path().join("refs/heads/deep/b"), format!("{one}\n")).unwrap();
    let references = References::load(place.path()).unwrap();
    let shown: Vec<String> =
        references.iter().map(|(name, target)| format!("{name} {}", &target.id.to_string()[..1])).collect();
    assert_eq!(shown, ["refs/heads/a 2", "refs/heads/deep/b 1", "refs/tags/t 1"]);
    assert_eq!(references.get("refs/tags/t").unwrap().peeled.unwrap().to_string(), two);
    fs::write(place.path().join("packed-refs"), "nonsense\n").unwrap();
    assert!(References::load(place.path()).unwrap_err().to_string().contains("nonsense"));
}
