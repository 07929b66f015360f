//! Which files sources pick.

use std::{os::unix::fs::symlink, path::Path, sync::atomic::AtomicBool};

use rustix::fs::{Mode, OFlags};

use super::{Wanted, resolve, walk};
use crate::{ignore::Ignore, tree::Tree};

fn tree(at: &Path, ignore: &str) -> Tree {
    let directory = rustix::fs::open(at, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    Tree::context(directory, Ignore::parse(ignore).unwrap(), Vec::new())
}

fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in ["a.txt", "b.txt", "c.md", "src/main.go", "src/lib/x.go", "src/lib/y.txt", "docs/z.md"] {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "text").unwrap();
    }
    symlink("/etc", dir.path().join("outside")).unwrap();
    symlink("src/lib", dir.path().join("inside")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    dir
}

/// What a word takes: for files their names, for directories what is in them.
fn taken(ignore: &str, source: &str, parents: bool, exclude: &[&str]) -> Result<Vec<String>, String> {
    let dir = sample();
    let tree = tree(dir.path(), ignore);
    let root = tree.open().unwrap();
    let exclude: Vec<String> = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
    let wanted = Wanted { source, parents, exclude: &exclude };
    let picks = resolve(&tree, &root, wanted).map_err(|error| format!("{error:#}"))?;
    let mut all = Vec::new();
    for pick in picks {
        walk(&tree, &root, &pick, &AtomicBool::new(false), &mut |entry| {
            let below = entry.path.to_str().unwrap();
            if pick.directory && !below.is_empty() {
                all.push(below.to_owned());
            } else if !pick.directory {
                all.push(pick.name.to_str().unwrap().to_owned());
            }
            Ok(())
        })
        .map_err(|error| format!("{error:#}"))?;
    }
    Ok(all)
}

#[test]
fn words_mean_files_and_the_contents_of_directories() {
    type Case<'a> = (&'a str, &'a str, bool, &'a [&'a str], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        ("", "a.txt", false, &[], &["a.txt"]),
        ("", "/a.txt", false, &[], &["a.txt"]),
        ("", "../a.txt", false, &[], &["a.txt"]),
        ("", "*.txt", false, &[], &["a.txt", "b.txt"]),
        ("", "[ac].*", false, &[], &["a.txt", "c.md"]),
        ("", "none*", false, &[], &[]),
        ("", "src", false, &[], &["lib", "lib/x.go", "lib/y.txt", "main.go"]),
        ("", "s*/lib", false, &[], &["x.go", "y.txt"]),
        ("", "inside", false, &[], &["x.go", "y.txt"]),
        ("", "src", false, &["**/*.go"], &["lib", "lib/y.txt"]),
        ("", "*.txt", false, &["b*"], &["a.txt"]),
        ("*.txt", "*.*", false, &[], &["c.md"]),
        ("src\n!src/lib/x.go", "src", false, &[], &["lib", "lib/x.go"]),
        ("", "src/lib/x.go", true, &[], &["src", "src/lib", "src/lib/x.go"]),
        ("", "src/./lib/x.go", true, &[], &["lib", "lib/x.go"]),
        ("", "./src/**/*.go", true, &[], &["src", "src/lib", "src/lib/x.go", "src/main.go"]),
        ("", "src/*", true, &["**/*.txt"], &["src", "src/lib", "src/lib/x.go", "src/main.go"]),
    ];
    for (ignore, source, parents, exclude, wanted) in cases {
        let found = taken(ignore, source, *parents, exclude).unwrap();
        assert_eq!(found, *wanted, "{source} parents {parents} exclude {exclude:?} ignore {ignore:?}");
    }
}

#[test]
fn what_is_not_in_the_context_is_not_found() {
    for (ignore, source, parents) in [
        ("", "none", false),
        ("", "outside/passwd", false),
        ("", "outside", false),
        ("", "a.txt/b", false),
        ("", "loop", false),
        ("a.txt", "a.txt", false),
        ("src", "src", false),
        ("", "src/none", true),
    ] {
        assert!(taken(ignore, source, parents, &[]).is_err(), "{source} ignoring {ignore:?}");
    }
}
