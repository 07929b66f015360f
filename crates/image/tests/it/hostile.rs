//! Archives that want more than to be unpacked.

use std::os::unix::fs::MetadataExt;

use image::{
    Unpacker,
    unpack::{Error, Job, Limits},
};

use crate::{
    archive::{Header, Tar, gzip, zstd},
    layers::unpack,
    place::{Place, child, is_root},
};

/// Bounds that a test reaches quickly.
fn limits() -> Limits {
    Limits { entries: 200, bytes: 64 << 20, ratio: 100, ratio_floor: 1 << 20, file: 1 << 40, ..Limits::default() }
}

/// Unpacks both ways, next to a file that must stay as it is. Returns what became of it the first way.
fn attack(layer: &[u8]) -> Result<(), Error> {
    if !is_root() {
        return Err(Error::Hostile("skipped".into()));
    }
    let mut outcomes = Vec::new();
    for unpacker in [child(), Unpacker::InProcess] {
        let place = Place::new();
        std::fs::write(place.path("outside"), "untouched").unwrap();
        let outcome = unpack(&unpacker, &place.path("layer"), &limits(), layer).map(drop);
        assert_eq!(std::fs::read_to_string(place.path("outside")).unwrap(), "untouched");
        let outside = place.path("outside").metadata().unwrap();
        assert_eq!((outside.mode() & 0o7777, outside.nlink()), (0o644, 1));
        let names: Vec<_> =
            std::fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "nothing new beside it: {names:?}");
        outcomes.push(outcome);
    }
    // How far one was read when it was stopped is chance.
    let told = |outcome: &Result<(), Error>| {
        let text = format!("{outcome:?}");
        text.split(|letter: char| letter.is_ascii_digit()).collect::<Vec<_>>().join("")
    };
    assert_eq!(told(&outcomes[0]), told(&outcomes[1]), "confined or not");
    outcomes.remove(0)
}

#[track_caller]
fn refused(layer: &[u8], reason: &str) {
    if is_root() {
        let error = attack(layer).unwrap_err();
        assert!(error.to_string().contains(reason), "{error} does not say {reason:?}");
    }
}

#[track_caller]
fn harmless(layer: &[u8]) {
    if is_root() {
        attack(layer).unwrap();
    }
}

#[test]
fn names_cannot_lead_out() {
    for path in ["../outside", "a/../../outside", "/../outside", "..", "a/..", "./../outside"] {
        refused(&Tar::new().file(path, "mine").finish(), "leads out of the layer");
    }
    refused(&Tar::new().pax(&[("path", b"../outside")]).file("x", "mine").finish(), "leads out of the layer");
    harmless(&Tar::new().file("/etc/passwd", "mine").file("//outside", "mine").finish());
    refused(&Tar::new().pax(&[("path", b"a\0b")]).file("x", "").finish(), "NUL");
    refused(&Tar::new().file("a/.wh...", "").finish(), "whiteout without a name");
    refused(&Tar::new().file("a/.wh.", "").finish(), "whiteout without a name");
    refused(&Tar::new().file("a/.wh..", "").finish(), "whiteout without a name");
    refused(&Tar::new().file("./", "content").finish(), "in place of the root");
    refused(&Tar::new().symlink("/", "/").finish(), "in place of the root");
}

#[test]
fn symbolic_links_stay_within_the_layer() {
    // Written below the layer's root, where such a link leads to for a container.
    harmless(&Tar::new().directory("outside").symlink("link", "../..").file("link/outside/x", "mine").finish());
    harmless(&Tar::new().directory("tmp").symlink("link", "/tmp").file("link/x", "mine").finish());
    // To nowhere: not made up.
    refused(&Tar::new().symlink("link", "..").file("link/../outside", "mine").finish(), "leads out of the layer");
    refused(&Tar::new().symlink("link", "/gone").file("link/x", "mine").finish(), "not a directory");
    refused(&Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "mine").finish(), "symbolic links");
    // A file in place of a link replaces it and does not follow it.
    let place = Place::new();
    let target = place.path("outside");
    std::fs::write(&target, "untouched").unwrap();
    harmless(&Tar::new().symlink("link", target.to_str().unwrap()).file("link", "mine").finish());
    harmless(&Tar::new().symlink("link", target.to_str().unwrap()).directory("link").finish());
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "untouched");
    // Nor does a change of mode or time.
    harmless(
        &Tar::new()
            .header(Header {
                path: "link",
                link: target.to_str().unwrap(),
                kind: b'2',
                mode: 0o777,
                uid: 5,
                ..Default::default()
            })
            .finish(),
    );
    assert_eq!(target.metadata().unwrap().mode() & 0o7777, 0o644);
    assert_eq!(target.metadata().unwrap().uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn hard_links_stay_within_the_layer() {
    refused(&Tar::new().hard_link("mine", "../outside").finish(), "leads out of the layer");
    refused(&Tar::new().hard_link("mine", "/etc/passwd").finish(), "not in this layer");
    refused(&Tar::new().symlink("up", "..").hard_link("mine", "up/outside").finish(), "not in this layer");
    refused(&Tar::new().symlink("etc", "/etc").hard_link("mine", "etc/passwd").finish(), "not in this layer");
    refused(&Tar::new().directory("d").hard_link("mine", "d").finish(), "a directory");
    refused(&Tar::new().hard_link("mine", "").finish(), "the root");
    refused(&Tar::new().file(".wh.x", "").hard_link("mine", "x").finish(), "not in this layer");
    // A link to a link is the link.
    harmless(&Tar::new().symlink("link", "/etc/passwd").hard_link("mine", "link").file("mine", "mine").finish());
}

#[test]
fn devices_are_made_but_overlays_mark_is_not() {
    harmless(&Tar::new().device("sda", b'4', (8, 0)).device("mem", b'3', (1, 1)).finish());
    refused(&Tar::new().device("hidden", b'3', (0, 0)).finish(), "overlayfs's mark");
    refused(&Tar::new().device("far", b'3', (5000, 0)).finish(), "out of range");
    // Content written "to" a device replaces it.
    harmless(&Tar::new().device("null", b'3', (1, 3)).file("null", "content").finish());
}

#[test]
fn damaged_archives_are_refused() {
    let good = Tar::new().file("a", &"a".repeat(5000)).file("b", "b");
    let bytes = good.clone().finish();
    refused(&bytes[..3000], "truncated");
    refused(&bytes[..700], "truncated");
    refused(&bytes[..100], "truncated");
    let packed = gzip(&bytes);
    refused(&packed[..packed.len() - 9], "read layer");
    let packed = zstd(&bytes);
    refused(&packed[..packed.len() - 4], "read layer");
    let mut flipped = gzip(&bytes);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    refused(&flipped, "");
    refused(b"<html>this is no layer, though long enough to be looked at</html>", "truncated");
    refused(&[b'x'; 2048], "checksum");
    refused(&Tar::new().raw(&[0; 512]).file("a", "a").finish(), "an empty header");
    let mut sum = bytes.clone();
    sum[0] = b'z';
    refused(&sum, "checksum");
    refused(&Tar::new().header(Header { path: "a", kind: b'Z', ..Default::default() }).finish(), "unknown kind");
    refused(&Tar::new().symlink("a", "").finish(), "empty link");
    refused(&Tar::new().file("a", "").file("a/b", "").finish(), "not a directory");
}

#[test]
fn headers_are_bounded() {
    let huge = "x".repeat(2 << 20);
    refused(&Tar::new().pax(&[("comment", huge.as_bytes())]).file("a", "").finish(), "extended header is larger");
    let announced = Header { path: "x", kind: b'x', size: 1 << 40, ..Default::default() };
    refused(&Tar::new().header(announced).finish(), "extended header is larger");
    let announced = Header { path: "x", kind: b'L', size: 1 << 62, ..Default::default() };
    refused(&Tar::new().header(announced).finish(), "long name is larger");
    refused(&Tar::new().pax(&[("path", "p/".repeat(5000).as_bytes())]).file("a", "").finish(), "a path of");
    refused(&Tar::new().pax(&[("path", "p".repeat(300).as_bytes())]).file("a", "").finish(), "name too long");
    let attribute = vec![b'v'; 70 << 10];
    refused(&Tar::new().pax(&[("SCHILY.xattr.user.a", &attribute)]).file("a", "").finish(), "extended attribute");
    for body in ["5 a=b\n", "99 a=b\n", "0 a=b\n", "6 =bb\n", "x a=b\n", "99999999999999999999999 a=b\n", "6 a=bb"] {
        let header = Header { path: "x", kind: b'x', ..Default::default() };
        refused(&Tar::new().entry(header, body.as_bytes()).file("a", "").finish(), "extended header");
    }
    refused(&Tar::new().pax(&[("size", b"-1")]).file("a", "").finish(), "no number");
    refused(&Tar::new().pax(&[("size", b"9223372036854775807")]).file("a", "").finish(), "more than");
    refused(
        &Tar::new().header(Header { path: "a", uid: 1 << 40, ..Default::default() }).finish(),
        "owner out of range",
    );
    refused(
        &Tar::new().header(Header { path: "a", uid: 0xffff_ffff, ..Default::default() }).finish(),
        "owner out of range",
    );
}

#[test]
fn sparse_maps_are_checked() {
    let sparse = |map: &str, size: &str, content: &str| {
        let blocks = (map.split(',').count() / 2).to_string();
        let records = [
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.numblocks", blocks.as_bytes()),
            ("GNU.sparse.map", map.as_bytes()),
        ];
        Tar::new().pax(&records).file("s", content).finish()
    };
    harmless(&sparse("0,1,5,1", "10", "ab"));
    refused(&sparse("5,1,0,1", "10", "ab"), "overlap or lie outside");
    refused(&sparse("0,2", "1", "ab"), "overlap or lie outside");
    refused(&sparse("9223372036854775807,9223372036854775807", "10", "ab"), "sparse map");
    refused(&sparse("0,1", "10", "ab"), "does not fit");
    refused(&sparse("0,1,2", "10", "a"), "another length");
    refused(&sparse("0,1", "9000000000000000000", "a"), "more than");
    let endless = "9".repeat(512);
    let records = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")];
    refused(&Tar::new().pax(&records).file("s", &endless).finish(), "endless number");
    refused(&Tar::new().pax(&records).file("s", "1\n").finish(), "without an end");
}

#[test]
fn bombs_are_stopped() {
    let zeros = Tar::new().file("zeros", &"\0".repeat(40 << 20)).finish();
    refused(&zstd(&zeros), "expands more than 100 times");
    refused(&gzip(&zeros), "expands more than 100 times");
    let twice = Tar::new().file("a", &"\0".repeat(40 << 20)).file("b", &"\0".repeat(40 << 20)).finish();
    refused(&twice, "larger than 67108864 bytes");
    // Bytes after the end of the archive are bytes too.
    refused(&gzip(&Tar::new().raw(&[0; 10 << 20]).finish()), "expands more than 100 times");
    let many = (0..300).fold(Tar::new(), |tar, number| tar.file(&format!("f{number}"), ""));
    refused(&many.finish(), "more than 200 entries");
    let deep = Tar::new().pax(&[("path", "d/".repeat(250).as_bytes())]).file("x", "");
    refused(&deep.finish(), "more than 200 entries");
}

#[test]
fn a_layer_that_never_ends_stops_when_the_job_is_dropped() {
    if !is_root() {
        return;
    }
    for unpacker in [child(), Unpacker::InProcess] {
        let place = Place::new();
        std::fs::create_dir(place.path("layer")).unwrap();
        let mut job = Job::start(&unpacker, &place.path("layer"), &limits()).unwrap();
        job.feed(&Header { path: "endless", size: 1 << 30, ..Default::default() }.block());
        job.feed(&[b'x'; 100_000]);
        drop(job);
    }
}

#[test]
fn an_unpacker_that_cannot_start_or_says_nothing_is_this_machines_fault() {
    let place = Place::new();
    let program = |name: &str| Unpacker::Child { program: name.into(), arguments: Vec::new() };
    let error = Job::start(&program("/gone"), place.0.path(), &limits()).err().unwrap();
    assert!(error.to_string().contains("start /gone"), "{error}");
    let outcome = unpack(&program("/bin/true"), place.0.path(), &limits(), &[0; 1 << 20]);
    assert!(matches!(&outcome, Err(Error::Machine(text)) if text.contains("without a report")), "{outcome:?}");
}
