//! `COPY`, `ADD` and `WORKDIR`, one construct or interaction each.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use crate::place::{Place, as_root};

/// What is in the context of all cases.
const FILES: &[(&str, &str)] = &[
    ("a.txt", "a"),
    ("b.txt", "b"),
    ("c.md", "c"),
    ("dir/one", "1"),
    ("dir/sub/two", "2"),
    ("dir/link", "-> one"),
    ("out", "-> dir/one"),
    ("etc/passwd", "web:x:7:8:::\n"),
    ("etc/group", "staff:x:20:\n"),
];

fn prepare(context: &Path) {
    fs::set_permissions(context.join("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(context.join("dir/sub"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(context.join("dir/one"), fs::Permissions::from_mode(0o640)).unwrap();
    // Whoever owns a context, it counts as root's.
    std::os::unix::fs::chown(context.join("a.txt"), Some(1234), Some(1234)).unwrap();
}

type Case = (&'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    ("COPY a.txt /", &["a.txt 644 0:0 a"]),
    ("COPY a.txt /x", &["x 644 0:0 a"]),
    ("COPY a.txt /x/", &["x 755 0:0 dir", "x/a.txt 644 0:0 a"]),
    ("COPY a.txt b.txt /x/y/", &["x 755 0:0 dir", "x/y 755 0:0 dir", "x/y/a.txt 644 0:0 a", "x/y/b.txt 644 0:0 b"]),
    // A directory's contents; the directory itself is made with the default mode.
    (
        "COPY dir /d",
        &["d 755 0:0 dir", "d/link 777 0:0 -> one", "d/one 640 0:0 1", "d/sub 750 0:0 dir", "d/sub/two 644 0:0 2"],
    ),
    ("COPY dir/sub /d/", &["d 755 0:0 dir", "d/two 644 0:0 2"]),
    ("COPY *.txt /t/", &["t 755 0:0 dir", "t/a.txt 644 0:0 a", "t/b.txt 644 0:0 b"]),
    ("COPY none* a.txt /t/", &["t 755 0:0 dir", "t/a.txt 644 0:0 a"]),
    // A link in the context is what it leads to.
    ("COPY out /f", &["f 640 0:0 1"]),
    ("COPY --chmod=600 a.txt /x", &["x 600 0:0 a"]),
    ("COPY --chmod=u=rwX,go=rX dir/sub /x/", &["x 755 0:0 dir", "x/two 644 0:0 2"]),
    ("COPY --chmod=750 dir/sub /x/", &["x 750 0:0 dir", "x/two 750 0:0 2"]),
    ("COPY --chown=5 a.txt /x", &["x 644 5:5 a"]),
    ("COPY --chown=5:6 a.txt /y/x", &["y 755 5:6 dir", "y/x 644 5:6 a"]),
    (
        "COPY etc /etc\nCOPY --chown=web:staff a.txt /x",
        &["etc 755 0:0 dir", "etc/group 644 0:0 staff:x:20:", "etc/passwd 644 0:0 web:x:7:8:::", "x 644 7:20 a"],
    ),
    ("COPY --link a.txt /x/", &["x 755 0:0 dir", "x/a.txt 644 0:0 a"]),
    (
        "COPY --parents dir/sub/two /p/",
        &["p 755 0:0 dir", "p/dir 700 0:0 dir", "p/dir/sub 750 0:0 dir", "p/dir/sub/two 644 0:0 2"],
    ),
    ("COPY --parents dir/./sub/two /p/", &["p 755 0:0 dir", "p/sub 750 0:0 dir", "p/sub/two 644 0:0 2"]),
    ("COPY --exclude=sub --exclude=l* dir /d", &["d 755 0:0 dir", "d/one 640 0:0 1"]),
    ("COPY <<one <<two /h/\n1\none\n2\ntwo", &["h 755 0:0 dir", "h/one 644 0:0 1", "h/two 644 0:0 2"]),
    ("ARG v=x\nCOPY <<e /h\n$v\ne", &["h 644 0:0 x"]),
    // A link in the destination is followed, within the root.
    (
        "COPY --from=links / /\nCOPY a.txt /abs/x",
        &["abs 777 0:0 -> /real", "real 755 0:0 dir", "real/x 644 0:0 a", "up 777 0:0 -> ../../../real"],
    ),
    (
        "COPY --from=links / /\nCOPY a.txt /up/",
        &["abs 777 0:0 -> /real", "real 755 0:0 dir", "real/a.txt 644 0:0 a", "up 777 0:0 -> ../../../real"],
    ),
    // Later files take the place of earlier ones, directories merge.
    ("COPY a.txt /x\nCOPY b.txt /x", &["x 644 0:0 b"]),
    (
        "COPY dir/sub /d/\nCOPY --chown=3 dir /d/",
        &[
            "d 755 0:0 dir",
            "d/link 777 3:3 -> one",
            "d/one 640 3:3 1",
            "d/sub 750 3:3 dir",
            "d/sub/two 644 3:3 2",
            "d/two 644 0:0 2",
        ],
    ),
    ("COPY --from=base /a.txt /x", &["x 644 9:9 a"]),
    ("COPY --from=0 /a.txt /x", &["x 644 9:9 a"]),
    ("WORKDIR /w/x\nCOPY a.txt .", &["w 755 0:0 dir", "w/x 755 0:0 dir", "w/x/a.txt 644 0:0 a"]),
    ("USER 5:6\nWORKDIR /w", &["w 755 5:6 dir"]),
    ("ADD dir.tar /t", &["t 755 0:0 dir", "t/inner 755 3:4 dir", "t/inner/file 600 3:4 packed"]),
    ("ADD dir.tar.gz /t/", &["t 755 0:0 dir", "t/inner 755 3:4 dir", "t/inner/file 600 3:4 packed"]),
    ("ADD dir.tbz /t/", &["t 755 0:0 dir", "t/inner 755 3:4 dir", "t/inner/file 600 3:4 packed"]),
    ("ADD dir.txz /t/", &["t 755 0:0 dir", "t/inner 755 3:4 dir", "t/inner/file 600 3:4 packed"]),
    ("COPY dir.tar.gz /t.gz\nCOPY --chmod=600 a.txt /t.gz", &["t.gz 600 0:0 a"]),
    ("ADD --chown=1:2 dir.tar /t", &["t 755 1:2 dir", "t/inner 755 1:2 dir", "t/inner/file 600 1:2 packed"]),
    ("ADD a.txt not.tar.gz /t/", &["t 755 0:0 dir", "t/a.txt 644 0:0 a", "t/not.tar.gz 644 0:0 no archive"]),
];

#[test]
fn files_are_put_where_the_reference_says() {
    as_root(async {
        let place = Place::new().await;
        let context = place.context("context", FILES);
        prepare(&context);
        pack(&place, &context);
        let stages = "FROM scratch AS base\nCOPY --chown=9 a.txt /\nFROM scratch AS links\nCOPY links /\nCOPY links2/real /real\n";
        place.context("context/links", &[("abs", "-> /real"), ("up", "-> ../../../real")]);
        place.context("context/links2", &[("real/", "")]);
        let mut wrong = Vec::new();
        for (instructions, wanted) in CASES {
            let dockerfile = format!("{stages}FROM scratch\n{instructions}\n");
            match place.files(place.request(&dockerfile, &context)).await {
                Ok(found) if found == *wanted => {}
                found => wrong.push(format!("{instructions}\n  wanted {wanted:?}\n  found  {found:?}")),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// Archives for `ADD`, with owners of their own.
fn pack(place: &Place, context: &Path) {
    let inner = place.context("packed", &[("inner/file", "packed")]);
    fs::set_permissions(inner.join("inner/file"), fs::Permissions::from_mode(0o600)).unwrap();
    let kinds =
        [("dir.tar", "--no-auto-compress"), ("dir.tar.gz", "--gzip"), ("dir.tbz", "--bzip2"), ("dir.txz", "--xz")];
    for (name, flag) in kinds {
        let done = Command::new("tar")
            .args(["--create", flag, "--numeric-owner", "--owner=3", "--group=4", "--directory"])
            .arg(&inner)
            .arg("--file")
            .arg(context.join(name))
            .arg("inner")
            .status()
            .unwrap();
        assert!(done.success());
    }
    fs::write(context.join("not.tar.gz"), "no archive").unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    as_root(async {
        let place = Place::new().await;
        let context = place.context("context", FILES);
        for (instruction, wanted) in [
            ("COPY none /", "not found"),
            ("COPY a.txt b.txt /x", "must be a directory and end with a /"),
            ("COPY --chown=nobody a.txt /", "failed to find user"),
            ("COPY --link --chown=web a.txt /", "use numeric uid"),
            ("COPY --chmod=999 a.txt /", "invalid chmod parameter"),
            ("COPY a.txt /x\nCOPY dir /x", "cannot copy to non-directory"),
            ("COPY dir /x\nCOPY a.txt /y\nCOPY dir/sub /y/", "not a directory"),
            ("COPY https://example.org/x /", "can't be a URL for COPY"),
            ("COPY --from=later a.txt /\nFROM scratch AS later", "needs to be defined before"),
        ] {
            let dockerfile = format!("FROM scratch\n{instruction}\n");
            let error = place.files(place.request(&dockerfile, &context)).await.unwrap_err();
            assert!(error.contains(wanted), "{instruction}: {error}");
        }
        let error = place.files(place.request("FROM scratch\n\nCOPY none /\n", &context)).await.unwrap_err();
        assert!(error.contains("   3 | >>> COPY none /"), "{error}");
    });
}

#[test]
fn holes_and_further_names_of_files_are_kept() {
    as_root(async {
        let place = Place::new().await;
        let context = place.context("context", &[("one", "1")]);
        fs::hard_link(context.join("one"), context.join("two")).unwrap();
        let sparse = fs::File::create(context.join("sparse")).unwrap();
        sparse.set_len(64 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();
        drop(sparse);
        place.files(place.request("FROM scratch\nCOPY . /\n", &context)).await.unwrap();
        let out = fs::read_dir(place.directory.path()).unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            path.file_name().unwrap().to_str().unwrap().starts_with("out-").then_some(path)
        });
        let out = out.last().unwrap();
        let status = |name: &str| fs::metadata(out.join(name)).unwrap();
        assert_eq!(status("one").ino(), status("two").ino());
        assert_eq!(status("sparse").len(), 64 << 20);
        assert!(status("sparse").blocks() * 512 < 1 << 20, "{} blocks", status("sparse").blocks());
        assert!(fs::read(out.join("sparse")).unwrap().ends_with(b"end"));
    });
}
