//! What a layer looks like once unpacked.

use std::{
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use image::{
    Unpacker,
    unpack::{Error, Job, Limits, Report},
};
use oci::Digest;

use crate::{
    archive::{Header, Tar, gzip, seal, zstd},
    place::{Place, child, is_root},
};

pub fn unpack(unpacker: &Unpacker, directory: &Path, limits: &Limits, bytes: &[u8]) -> Result<Report, Error> {
    std::fs::create_dir_all(directory).unwrap();
    let mut job = Job::start(unpacker, directory, limits).unwrap();
    for piece in bytes.chunks(10_000) {
        job.feed(piece);
    }
    job.finish()
}

/// Unpacks `layer` in the confined child, and gives the directory to `look`.
fn check(layer: &[u8], look: impl Fn(&Path, Report)) {
    if !is_root() {
        return;
    }
    let place = Place::new();
    for (name, unpacker) in [("child", child()), ("here", Unpacker::InProcess)] {
        let directory = place.path(name);
        let report = unpack(&unpacker, &directory, &Limits::default(), layer).unwrap();
        look(&directory, report);
    }
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_kind_of_entry_is_made_with_its_metadata() {
    let layer = Tar::new()
        .header(Header { path: "./", kind: b'5', mode: 0o750, uid: 7, gid: 8, ..Default::default() })
        .header(Header { path: "bin/", kind: b'5', mode: 0o1777, mtime: 5, ..Default::default() })
        .entry(Header { path: "bin/su", mode: 0o4755, uid: 1, gid: 3_000_000_000, ..Default::default() }, b"su")
        .hard_link("bin/su2", "bin/su")
        .symlink("sh", "/bin/su")
        .device("null", b'3', (1, 3))
        .device("disk", b'4', (8, 1))
        .header(Header { path: "pipe", kind: b'6', mode: 0o622, ..Default::default() })
        .pax(&[
            ("SCHILY.xattr.user.color", b"blue"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            ("mtime", b"1234567890.25"),
            ("path", "имя".as_bytes()),
        ])
        .file("stand-in", "pax")
        .finish();
    check(&layer, |root, report| {
        assert_eq!(report.diff_id, Digest::sha256(&layer));
        assert_eq!((report.inodes, report.bytes), (10, 5));
        assert!(report.opaque.is_empty() && report.implied.is_empty());
        let of = |name: &str| root.join(name).symlink_metadata().unwrap();
        let top = root.metadata().unwrap();
        assert_eq!((top.mode() & 0o7777, top.uid(), top.gid()), (0o750, 7, 8));
        assert_eq!((of("bin").mode() & 0o7777, of("bin").mtime()), (0o1777, 5));
        let su = of("bin/su");
        assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.nlink()), (0o4755, 1, 3_000_000_000, 2));
        assert_eq!(su.ino(), of("bin/su2").ino());
        assert_eq!(std::fs::read_link(root.join("sh")).unwrap(), Path::new("/bin/su"));
        assert_eq!(of("sh").mtime(), 1_000_000_000);
        assert!(of("null").file_type().is_char_device() && of("disk").file_type().is_block_device());
        assert_eq!(of("null").rdev(), rustix::fs::makedev(1, 3));
        assert!(of("pipe").file_type().is_fifo());
        let file = root.join("имя");
        assert_eq!((of("имя").mtime(), of("имя").mtime_nsec()), (1_234_567_890, 250_000_000));
        let attribute = |name: &str| {
            let mut value = [0; 64];
            rustix::fs::getxattr(&file, name, &mut value[..]).map(|length| value[..length].to_vec())
        };
        assert_eq!(attribute("user.color").unwrap(), b"blue");
        assert_eq!(attribute("security.capability").unwrap().len(), 20);
        assert!(attribute("trusted.overlay.opaque").is_err(), "overlayfs's own marks are not the image's to set");
    });
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let layer = Tar::new()
        .file("a/.wh.gone", "")
        // The layer's own file stays, before and after its whiteout.
        .file("a/.wh.early", "")
        .file("a/early", "early")
        .file("a/late", "late")
        .file("a/.wh.late", "")
        // A directory made anew hides the old one.
        .file("a/.wh.d1", "")
        .file("a/d1/x", "x")
        .directory("a/d2/")
        .file("a/.wh.d2", "")
        .file("b/.wh..wh..opq", "")
        .file("b/kept", "kept")
        // Below a whiteout, another one.
        .file(".wh.c", "")
        .file("c/.wh.d", "")
        .file(".wh..wh.plnk/1.2", "")
        .file(".wh..wh.aufs", "")
        .finish();
    check(&layer, |root, report| {
        let whiteout = |name: &str| {
            let metadata = root.join(name).symlink_metadata().unwrap();
            metadata.file_type().is_char_device() && metadata.rdev() == 0
        };
        assert!(whiteout("a/gone") && whiteout("c/d"));
        assert_eq!((text(root.join("a/early")), text(root.join("a/late"))), ("early".into(), "late".into()));
        assert_eq!(text(root.join("a/d1/x")), "x");
        let opaque: Vec<_> = report.opaque.iter().map(|path| String::from_utf8_lossy(path)).collect();
        assert_eq!(opaque, ["a/d1", "a/d2", "b", "c"]);
        let implied: Vec<_> = report.implied.iter().map(|path| String::from_utf8_lossy(path)).collect();
        assert_eq!(implied, ["", "a", "a/d1", "b", "c"]);
        assert!(!root.join(".wh..wh.aufs").exists());
    });
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let layer = Tar::new()
        .file("a", "first")
        .file("a", "second")
        .file("d/x/y", "gone")
        .directory("d/x/z/")
        .symlink("d", "/elsewhere")
        .directory("e/")
        .file("e/kept", "kept")
        .header(Header { path: "e/", kind: b'5', mode: 0o700, ..Default::default() })
        .file("f", "a file")
        .directory("f/")
        .hard_link("a", "./a")
        .finish();
    check(&layer, |root, _| {
        assert_eq!(text(root.join("a")), "second");
        assert!(root.join("d").is_symlink());
        assert_eq!(text(root.join("e/kept")), "kept");
        assert_eq!(root.join("e").metadata().unwrap().mode() & 0o7777, 0o700);
        assert!(root.join("f").is_dir());
    });
}

#[test]
fn compressions_are_recognised_and_the_diff_id_is_of_the_archive() {
    let archive = Tar::new().file("hello", &"hello ".repeat(100_000)).finish();
    let (head, tail) = archive.split_at(300_000);
    let members = [gzip(head), gzip(tail)].concat();
    let skippable = [b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec(), zstd(head), zstd(tail)].concat();
    for packed in [archive.clone(), gzip(&archive), members, zstd(&archive), skippable] {
        check(&packed, |root, report| {
            assert_eq!(report.diff_id, Digest::sha256(&archive));
            assert_eq!(text(root.join("hello")).len(), 600_000);
        });
    }
}

#[test]
fn bytes_after_the_end_count_for_the_diff_id() {
    let archive = Tar::new().file("a", "a").raw(&[0; 10_240]).finish();
    check(&gzip(&archive), |_, report| assert_eq!(report.diff_id, Digest::sha256(&archive)));
    // And some writers leave out the end.
    let archive = Tar::new().file("a", "a").0;
    check(&archive, |root, report| {
        assert_eq!(text(root.join("a")), "a");
        assert_eq!(report.diff_id, Digest::sha256(&archive));
    });
}

/// A file of 3 MiB with "abc" at 1 MiB and "xyz" at its end.
fn sparse_check(layer: &[u8]) {
    check(layer, |root, report| {
        let path = root.join("sparse");
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len(), 3 << 20);
        assert_eq!((&content[1 << 20..][..4], &content[(3 << 20) - 3..]), (&b"abc\0"[..], &b"xyz"[..]));
        assert_eq!(content.iter().filter(|&&byte| byte != 0).count(), 6);
        assert!(path.metadata().unwrap().blocks() < 64, "holes take no space");
        assert_eq!(text(root.join("after")), "after");
        assert_eq!(report.bytes, 11);
    });
}

#[test]
fn sparse_files_of_every_format_have_their_holes() {
    let (at, end, size) = (1_u64 << 20, (3_u64 << 20) - 3, 3_u64 << 20);
    let mut block = Header { path: "sparse", kind: b'S', size: 6, ..Default::default() }.block();
    block[257..265].copy_from_slice(b"ustar  \0");
    let put = |block: &mut [u8], field: usize, number: u64| {
        block[field..field + 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
    };
    // One piece in the header, the other in an extension block.
    for (field, number) in [(386, at), (398, 3), (483, size)] {
        put(&mut block, field, number);
    }
    block[482] = 1;
    seal(&mut block);
    let mut extension = [0; 512];
    put(&mut extension, 0, end);
    put(&mut extension, 12, 3);
    sparse_check(&Tar::new().raw(&block).raw(&extension).padded(b"abcxyz").file("after", "after").finish());

    let size = size.to_string();
    let (at, end) = (at.to_string(), end.to_string());
    let list = format!("{at},3,{end},3");
    let oldest = [
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", at.as_bytes()),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", end.as_bytes()),
        ("GNU.sparse.numbytes", b"3"),
    ];
    sparse_check(&Tar::new().pax(&oldest).file("sparse", "abcxyz").file("after", "after").finish());
    let older = [
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.map", list.as_bytes()),
        ("GNU.sparse.name", b"sparse"),
    ];
    sparse_check(&Tar::new().pax(&older).file("GNUSparseFile.1/sparse", "abcxyz").file("after", "after").finish());
    let newest = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    let mut content = format!("2\n{at}\n3\n{end}\n3\n").into_bytes();
    content.resize(512, 0);
    content.extend_from_slice(b"abcxyz");
    let header = Header { path: "GNUSparseFile.1/sparse", ..Default::default() };
    sparse_check(&Tar::new().pax(&newest).entry(header, &content).file("after", "after").finish());
}

#[test]
fn a_file_of_more_than_8_gib_has_its_size_in_another_form() {
    // As a hole of 9 GiB, so that the test is quick; both ways to write the number.
    let size = 9_u64 << 30;
    let binary = {
        let mut block = Header { path: "large", kind: b'S', size: 1, ..Default::default() }.block();
        block[257..265].copy_from_slice(b"ustar  \0");
        for (field, number) in [(386, size - 1), (398, 1), (483, size)] {
            block[field..field + 4].copy_from_slice(&[0x80, 0, 0, 0]);
            block[field + 4..field + 12].copy_from_slice(&number.to_be_bytes());
        }
        seal(&mut block);
        Tar::new().raw(&block).padded(b"x").finish()
    };
    let list = format!("{},1", size - 1);
    let records = [
        ("GNU.sparse.realsize", size.to_string().into_bytes()),
        ("GNU.sparse.numblocks", b"1".to_vec()),
        ("GNU.sparse.map", list.into_bytes()),
        ("size", b"1".to_vec()),
    ];
    let records: Vec<_> = records.iter().map(|(key, value)| (*key, value.as_slice())).collect();
    let decimal = Tar::new().pax(&records).file("large", "x").finish();
    for layer in [binary, decimal] {
        check(&layer, |root, _| assert_eq!(root.join("large").metadata().unwrap().len(), size));
    }
}

#[test]
fn long_names_come_in_every_format() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let target = "t".repeat(300);
    let gnu = Tar::new()
        .entry(Header { path: "././@LongLink", kind: b'L', ..Default::default() }, format!("{long}\0").as_bytes())
        .entry(Header { path: "././@LongLink", kind: b'K', ..Default::default() }, format!("{target}\0").as_bytes())
        .symlink("short", "short")
        .finish();
    let pax = Tar::new()
        .pax(&[("path", long.as_bytes()), ("linkpath", target.as_bytes())])
        .symlink("short", "short")
        .finish();
    for layer in [gnu, pax] {
        check(&layer, |root, _| {
            assert_eq!(std::fs::read_link(root.join(&long)).unwrap(), Path::new(&target));
        });
    }
    let mut block = Header { path: "file", size: 1, ..Default::default() }.block();
    block[345..345 + 150].fill(b'p');
    seal(&mut block);
    check(&Tar::new().raw(&block).padded(b"1").finish(), |root, _| {
        assert_eq!(text(root.join("p".repeat(150)).join("file")), "1");
    });
}
