//! Packs that are written here, whole and damaged.

use std::io::{Seek, Write};

use flate2::{Compression, write::ZlibEncoder};

use super::*;

/// An object to pack: its number, what stands before its content, the content.
struct Packed {
    kind: u8,
    base: Vec<u8>,
    content: Vec<u8>,
}

fn plain(kind: u8, content: &[u8]) -> Packed {
    Packed { kind, base: Vec::new(), content: content.to_vec() }
}

fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn packed(objects: &[Packed]) -> (Vec<u8>, Vec<u64>) {
    let mut out = b"PACK\0\0\0\x02".to_vec();
    out.extend_from_slice(&(objects.len() as u32).to_be_bytes());
    let mut offsets = Vec::new();
    for object in objects {
        offsets.push(out.len() as u64);
        let mut size = object.content.len() as u64;
        let mut byte = object.kind << 4 | (size & 0xf) as u8;
        size >>= 4;
        while size > 0 {
            out.push(byte | 0x80);
            byte = (size & 0x7f) as u8;
            size >>= 7;
        }
        out.push(byte);
        out.extend_from_slice(&object.base);
        out.extend_from_slice(&deflated(&object.content));
    }
    let mut hasher = Hasher::new(Format::Sha1);
    hasher.update(&out);
    out.extend_from_slice(hasher.finish().unwrap().bytes());
    (out, offsets)
}

fn read(bytes: &[u8], limits: Limits) -> Result<Pack, Error> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    Pack::read(file, Format::Sha1, limits)
}

/// Copies five bytes of the base from its first and inserts an exclamation mark.
const DELTA: &[u8] = &[5, 6, 0x90, 5, 1, b'!'];

fn blob(content: &[u8]) -> Id {
    identify(Format::Sha1, Kind::Blob, content).unwrap()
}

#[test]
fn objects_are_built_from_others_by_offset_and_by_id() {
    let hello = blob(b"hello");
    let later = Packed { kind: 7, base: blob(b"hello!").bytes().to_vec(), content: vec![6, 7, 0x90, 6, 1, b'?'] };
    let named = Packed { kind: 7, base: hello.bytes().to_vec(), content: DELTA.to_vec() };
    // A base may stand behind what is built from it.
    let (bytes, _) = packed(&[later, named, plain(3, b"hello")]);
    let pack = read(&bytes, Limits::default()).unwrap();
    assert_eq!(pack.len(), 3);
    assert_eq!(pack.get(&blob(b"hello!?")).unwrap().1.as_slice(), b"hello!?");
    assert_eq!(pack.get(&hello).unwrap().1.as_slice(), b"hello");
    let mut copy = Vec::new();
    assert_eq!(pack.copy(&blob(b"hello!"), &mut copy, 6).unwrap(), 6);
    assert_eq!(copy, b"hello!");
    assert!(matches!(pack.copy(&blob(b"hello!"), &mut copy, 5), Err(Error::TooLarge { .. })));

    let first = plain(3, b"hello");
    let (start, offsets) = packed(&[plain(3, b"hello")]);
    let back = (start.len() as u64 - 20 - offsets[0]) as u8;
    let (bytes, _) = packed(&[first, Packed { kind: 6, base: vec![back], content: DELTA.to_vec() }]);
    let pack = read(&bytes, Limits::default()).unwrap();
    assert_eq!(pack.expect(&blob(b"hello!"), Kind::Blob).unwrap().as_slice(), b"hello!");
    assert!(pack.expect(&blob(b"hello!"), Kind::Tree).is_err());
    assert!(pack.get(&blob(b"other")).is_err());
}

#[test]
fn every_damaged_byte_is_noticed() {
    let named = Packed { kind: 7, base: blob(b"hello").bytes().to_vec(), content: DELTA.to_vec() };
    let (bytes, _) = packed(&[plain(3, b"hello"), named, plain(2, b"")]);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        assert!(read(&damaged, Limits::default()).is_err(), "byte {at}");
        assert!(read(&bytes[..at], Limits::default()).is_err(), "cut at {at}");
    }
}

#[test]
fn objects_without_a_base_and_in_a_circle_are_refused() {
    let lost = Packed { kind: 7, base: vec![9; 20], content: DELTA.to_vec() };
    let error = read(&packed(&[lost]).0, Limits::default()).unwrap_err();
    assert!(error.to_string().contains("which it lacks"), "{error}");
    for back in [0, 1, 13, 0x7f] {
        let itself = Packed { kind: 6, base: vec![back], content: DELTA.to_vec() };
        assert!(read(&packed(&[plain(3, b"hello"), itself]).0, Limits::default()).is_err(), "{back}");
    }
}

#[test]
fn instructions_that_reach_outside_are_refused() {
    let limit = 100;
    for delta in [
        &[5, 6, 0x91, 1, 5, 1, b'!'][..],
        &[5, 6, 0x90, 5, 2, b'!'],
        &[5, 6, 0x90, 5, 0],
        &[5, 6, 0x90, 5],
        &[5, 5, 0x90, 5, 1, b'!'],
        &[4, 6, 0x90, 5, 1, b'!'],
        &[5, 0x80],
        &[5, 6, 0xff, 0xff],
        &[],
        &[0xff; 10],
    ] {
        assert!(delta::apply(b"hello", delta, limit).is_err(), "{delta:?}");
    }
    assert_eq!(delta::apply(b"hello", DELTA, limit).unwrap(), b"hello!");
    assert!(matches!(delta::apply(b"hello", DELTA, 5), Err(Error::TooLarge { .. })));
}

#[test]
fn bombs_are_bounded() {
    let zeros = vec![0; 1 << 20];
    let (bytes, _) = packed(&[plain(3, &zeros)]);
    let limits = Limits { unpacked: 1 << 19, ..Limits::default() };
    assert!(matches!(read(&bytes, limits), Err(Error::TooLarge { .. })));
    let (bytes, _) = packed(&[plain(2, &zeros)]);
    let limits = Limits { object: 1 << 19, ..Limits::default() };
    assert!(matches!(read(&bytes, limits), Err(Error::TooLarge { .. })));
    let (bytes, _) = packed(&[plain(3, b"a"), plain(3, b"b")]);
    let limits = Limits { objects: 1, ..Limits::default() };
    assert!(matches!(read(&bytes, limits), Err(Error::TooLarge { .. })));
    // An object that says that it is short, and is not.
    let mut lies = packed(&[plain(3, b"a")]).0[..12].to_vec();
    lies.push(3 << 4 | 1);
    lies.extend_from_slice(&deflated(&zeros));
    let mut hasher = Hasher::new(Format::Sha1);
    hasher.update(&lies);
    lies.extend_from_slice(hasher.finish().unwrap().bytes());
    assert!(read(&lies, Limits::default()).unwrap_err().to_string().contains("longer"));
}
