//! The forms of the reference, and what is none of them.

use super::*;

fn read(text: &str) -> Repository {
    Repository::parse(text).unwrap().unwrap_or_else(|| panic!("{text} is no repository"))
}

#[test]
fn fragments_name_a_reference_and_a_directory() {
    for (text, url, reference, directory) in [
        ("https://h/u/r.git", "https://h/u/r.git", "", ""),
        ("https://h/u/r.git#v1", "https://h/u/r.git", "v1", ""),
        ("https://h/u/r.git#v1:docs", "https://h/u/r.git", "v1", "docs"),
        ("https://h/u/r.git#:docs/../a/./b/", "https://h/u/r.git", "", "a/b"),
        ("https://h/u/r.git#pull/42/head", "https://h/u/r.git", "pull/42/head", ""),
        ("http://user:pass@h:81/r.git#a:../../b", "http://user:pass@h:81/r.git", "a", "b"),
        ("git@github.com:u/r.git#v1:d", "git@github.com:u/r.git", "v1", "d"),
        ("ssh://git@h/u/r#x", "ssh://git@h/u/r", "x", ""),
        ("git://h/u/r", "git://h/u/r", "", ""),
        ("github.com/u/r#d4f088e", "https://github.com/u/r", "d4f088e", ""),
    ] {
        let found = read(text);
        assert_eq!(
            (found.url.as_str(), found.reference.as_str(), found.subdirectory.as_str()),
            (url, reference, directory),
            "{text}"
        );
        assert_eq!(found.ambiguous, text.starts_with("github"), "{text}");
    }
}

#[test]
fn queries_say_the_same_more_clearly() {
    let found =
        read("https://h/r.git?branch=main&subdir=a%2Fb&checksum=abc123&keep-git-dir&submodules=false&mtime=commit");
    let expected = Repository {
        url: "https://h/r.git".into(),
        reference: "refs/heads/main".into(),
        subdirectory: "a/b".into(),
        checksum: Some("abc123".into()),
        keep_git_dir: Some(true),
        submodules: Some(false),
        commit_time: true,
        ..Repository::default()
    };
    assert_eq!(found, expected);
    assert_eq!(read("https://h/r.git?tag=v1").reference, "refs/tags/v1");
    assert_eq!(read("https://h/r.git?ref=pull/1/head").reference, "pull/1/head");
    for wrong in [
        "https://h/r.git?tag=a&branch=b",
        "https://h/r.git?tag=a&tag=a",
        "https://h/r.git?ref=a#b",
        "https://h/r.git?subdir=a#:b",
        "https://h/r.git?tag",
        "https://h/r.git?nothing=1",
        "https://h/r.git?submodules=2",
        "https://h/r.git?mtime=now",
    ] {
        assert!(Repository::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn files_and_paths_are_no_repositories() {
    for text in [
        "https://h/archive.tar.gz",
        "https://h/r.git/file",
        "https://host.git",
        "./github.com/a",
        "../r.git",
        "r.git",
        "src/main.c",
        "user@file",
        "a b@h:c",
        "ftp://h/r.git",
        "",
    ] {
        assert_eq!(Repository::parse(text).unwrap(), None, "{text}");
    }
    assert!(super::super::is_remote("https://h/a"));
    assert!(!super::super::is_remote("github.com/u/r"));
    assert!(super::super::is_remote_context("github.com/u/r"));
    assert!(!super::super::is_remote("é"));
}

#[test]
fn flags_and_queries_must_agree() {
    let mut one = read("https://h/r.git?checksum=abc&keep-git-dir=false");
    assert!(one.clone().agree(Some("abd"), None).is_err());
    assert!(one.clone().agree(None, Some(true)).is_err());
    one.agree(Some("abc"), Some(false)).unwrap();
    for wrong in ["", "xyz", "sha256:00", &"a".repeat(65)] {
        assert!(read("https://h/r.git").agree(Some(wrong), None).is_err(), "{wrong}");
    }
}

#[test]
fn names_come_from_paths_and_headers_and_are_never_paths() {
    for (url, name) in [
        ("https://h/a/b.txt?x=/c#d", Some("b.txt")),
        ("https://h/a/", Some("a")),
        ("https://h/a%20b+c", Some("a b+c")),
        ("https://h", None),
        ("https://h/", None),
        ("https://h/..", None),
        ("https://h/%2e%2e", None),
        ("https://h/a%2f..%2Fpasswd", Some("passwd")),
        ("https://h/a%00", None),
    ] {
        assert_eq!(file_name(url).as_deref(), name, "{url}");
    }
    for (header, name) in [
        ("attachment; filename=\"x.tar\"", Some("x.tar")),
        ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
        ("attachment; filename=a; filename*=UTF-8''%C3%A9", Some("é")),
        ("attachment", None),
        ("attachment; filename=..", None),
    ] {
        assert_eq!(disposition(header).as_deref(), name, "{header}");
    }
}

#[test]
fn passwords_are_not_shown() {
    assert_eq!(without_password("https://u:p@h/r.git#x"), "https://u:xxxxx@h/r.git#x");
    assert_eq!(without_password("https://u@h/a:b@c"), "https://u@h/a:b@c");
    assert_eq!(without_password("git@h:p"), "git@h:p");
}
