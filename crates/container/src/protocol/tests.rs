//! Tests of `protocol`: cases as data where there are many.

use std::{io::Write, os::fd::AsFd, os::unix::net::UnixStream};

use super::*;

fn request(number: u64, id: &str) -> Request {
    Request { number, call: Some(Call::Start(Target { id: id.into(), force: false })) }
}

#[test]
fn frames_come_whole_however_they_are_cut() {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    let bytes = [encode(&request(1, "a"), 0), encode(&request(2, &"b".repeat(10_000)), 0)].concat();
    let mut incoming = Incoming::default();
    let mut found = Vec::new();
    for piece in bytes.chunks(7) {
        writer.write_all(piece).unwrap();
        incoming.receive(&reader).unwrap();
        while let Some((message, _)) = incoming.take::<Request>().unwrap() {
            found.push(message);
        }
    }
    assert_eq!(found, [request(1, "a"), request(2, &"b".repeat(10_000))]);
}

#[test]
fn descriptors_stay_with_their_frame() {
    let (writer, reader) = UnixStream::pair().unwrap();
    let (one, _keep) = UnixStream::pair().unwrap();
    send(&writer, &encode(&request(1, "none"), 0), &[]).unwrap();
    send(&writer, &encode(&request(2, "two"), 2), &[one.as_fd(), one.as_fd()]).unwrap();
    send(&writer, &encode(&request(3, "one"), 1), &[one.as_fd()]).unwrap();
    let mut incoming = Incoming::default();
    let mut counts = Vec::new();
    while counts.len() < 3 {
        incoming.receive(&reader).unwrap();
        while let Some((_, descriptors)) = incoming.take::<Request>().unwrap() {
            counts.push(descriptors.len());
        }
    }
    assert_eq!(counts, [0, 2, 1]);
}

#[test]
fn a_frame_longer_than_the_limit_is_refused() {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.write_all(&[0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]).unwrap();
    let mut incoming = Incoming::default();
    incoming.receive(&reader).unwrap();
    assert!(incoming.take::<Request>().is_err());
}

#[test]
fn a_frame_that_announces_missing_descriptors_is_refused() {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.write_all(&encode(&request(1, "a"), 1)).unwrap();
    let mut incoming = Incoming::default();
    incoming.receive(&reader).unwrap();
    assert!(incoming.take::<Request>().is_err());
}

#[test]
fn garbage_is_refused_and_does_not_panic() {
    let mut state = 1u32;
    for length in 0..200u32 {
        let (mut writer, reader) = UnixStream::pair().unwrap();
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        for _ in 0..length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.push((state >> 24) as u8);
        }
        writer.write_all(&bytes).unwrap();
        let mut incoming = Incoming::default();
        incoming.receive(&reader).unwrap();
        let _ = incoming.take::<Request>();
    }
}
