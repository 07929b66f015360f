//! Frames: what is written is found, and anything else is not.

use std::io::Write;

use super::{super::random::Random, *};

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(bytes).expect("write");
    file
}

/// Frames of random payloads after each other; the bytes, and where each begins.
fn frames(random: &mut Random, id: StoreId, count: u64) -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    let (mut bytes, mut written, mut seal) = (Vec::new(), Vec::new(), 0);
    let mut frame = Frame::new();
    for sequence in 1..=count {
        let payload = random.bytes(10_000);
        frame.clear();
        frame.payload().extend_from_slice(&payload);
        let (sealed, next) = frame.seal(Kind::Group, id, sequence, sequence + 1, seal);
        assert_eq!(sealed.len() % BLOCK, 0);
        written.push((bytes.len() as u64, payload));
        bytes.extend_from_slice(sealed);
        seal = next;
    }
    (bytes, written)
}

#[test]
fn frames_are_read_one_after_the_other() {
    let id = StoreId([3; 16]);
    let (bytes, written) = frames(&mut Random(1), id, 200);
    let file = file(&bytes);
    let mut reader = Reader::new(&file).expect("open");
    let (mut at, mut seal) = (0, 0);
    for (sequence, (offset, payload)) in (1..).zip(&written) {
        assert_eq!(at, *offset);
        let Found::Frame(header, found) = reader.at(at).expect("read") else { panic!("no frame {sequence}") };
        assert!(found == payload);
        let facts = (header.kind, header.id, header.sequence, header.revision, header.previous);
        assert_eq!(facts, (Kind::Group, id, sequence, sequence + 1, seal));
        seal = header.seal;
        at += header.extent();
    }
    assert!(matches!(reader.at(at).expect("read"), Found::Nothing));
    assert!(reader.blank(at).expect("read"));
    // Backwards as well: the window goes anywhere.
    for (offset, payload) in written.iter().rev() {
        let Found::Frame(_, found) = reader.at(*offset).expect("read") else { panic!("no frame at {offset}") };
        assert!(found == payload);
    }
}

#[test]
fn every_flipped_bit_of_a_frame_is_noticed() {
    let (bytes, _) = frames(&mut Random(5), StoreId([9; 16]), 1);
    let length = HEADER + Header::parse(&bytes).expect("header").length as usize;
    let mut random = Random(6);
    let places = (0..HEADER * 8).chain((0..2000).map(|_| random.below(length as u64 * 8) as usize));
    for bit in places {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let file = file(&broken);
        let mut reader = Reader::new(&file).expect("open");
        assert!(!matches!(reader.at(0).expect("read"), Found::Frame(..)), "bit {bit}");
    }
}

#[test]
fn a_frame_that_is_cut_is_torn() {
    let (bytes, _) = frames(&mut Random(2), StoreId([9; 16]), 1);
    let length = HEADER + Header::parse(&bytes).expect("header").length as usize;
    for cut in (0..length).step_by(97).chain([HEADER - 1, HEADER, length - 1]) {
        let file = file(&bytes[..cut]);
        let mut reader = Reader::new(&file).expect("open");
        match reader.at(0).expect("read") {
            Found::Nothing => assert!(cut < HEADER),
            Found::Torn(_) => assert!(cut >= HEADER),
            Found::Frame(..) => panic!("a frame of {length} bytes was read from {cut}"),
        }
    }
    // What is missing of the padding does not matter.
    let file = file(&bytes[..length]);
    assert!(matches!(Reader::new(&file).expect("open").at(0).expect("read"), Found::Frame(..)));
}

#[test]
fn any_bytes_at_all_are_read_without_harm() {
    let mut random = Random(3);
    for _ in 0..300 {
        let (mut bytes, _) = frames(&mut random, StoreId([1; 16]), 4);
        for _ in 0..random.below(30) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        // Headers whose checksum is right and whose length is anything.
        let block = random.below(bytes.len() as u64 / BLOCK as u64) as usize * BLOCK;
        let length = (random.next() as u32 >> random.below(32)).to_le_bytes();
        bytes[block + 40..block + 44].copy_from_slice(&length);
        let checksum = crc32fast::hash(&bytes[block..block + 60]).to_le_bytes();
        bytes[block + 60..block + 64].copy_from_slice(&checksum);
        bytes.truncate(bytes.len() - random.below(5000) as usize);
        let file = file(&bytes);
        let mut reader = Reader::new(&file).expect("open");
        for _ in 0..10 {
            let offset = random.below(bytes.len() as u64 + 9000);
            let _ = reader.at(offset).expect("read");
            reader.blank(offset).expect("read");
        }
        assert!(reader.find(0, |header| header.sequence == u64::MAX).expect("read").is_none());
        assert!(reader.window.len() <= PAYLOAD + HEADER, "a length that lies was believed");
    }
}

#[test]
fn the_next_frame_is_found_behind_damage() {
    let id = StoreId([4; 16]);
    let (mut bytes, written) = frames(&mut Random(8), id, 20);
    let broken = written[7].0 as usize;
    bytes[broken..broken + HEADER].fill(0xee);
    let file = file(&bytes);
    let mut reader = Reader::new(&file).expect("open");
    let (offset, header) = reader.find(written[7].0, |header| header.id == id).expect("read").expect("a frame");
    assert_eq!((offset, header.sequence), (written[8].0, 9));
    // A frame of another store inside of a payload is no frame of this one.
    assert!(reader.find(0, |header| header.id == StoreId([5; 16])).expect("read").is_none());
}
