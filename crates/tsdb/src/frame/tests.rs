//! Tests of records in files.

use super::*;
use crate::random::Random;

fn file() -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut random = Random::new(11);
    let (mut file, mut payloads) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let payload: Vec<u8> = (0..random.below(50)).map(|_| random.next() as u8).collect();
        put(&mut file, 3, |out| out.extend_from_slice(&payload));
        payloads.push(payload);
    }
    (file, payloads)
}

fn records(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let (mut records, mut lost) = (Vec::new(), 0);
    for piece in Pieces::of(bytes) {
        match piece {
            Piece::Record { kind, payload } => {
                assert_eq!(kind, 3);
                records.push(payload.to_vec());
            }
            Piece::Damage { length, .. } => lost += length,
        }
    }
    (records, lost)
}

#[test]
fn a_file_cut_anywhere_keeps_its_whole_records() {
    let (file, payloads) = file();
    for end in 0..=file.len() {
        let (have, lost) = records(&file[..end]);
        assert_eq!(have, payloads[..have.len()]);
        let whole: usize = have.iter().map(|payload| payload.len() + HEAD).sum();
        assert_eq!(whole + lost, end);
        assert!(end - whole < HEAD + 50);
    }
}

#[test]
fn a_flipped_bit_costs_one_record() {
    let (file, payloads) = file();
    for at in 0..file.len() {
        let mut bytes = file.clone();
        bytes[at] ^= 0x10;
        let (have, lost) = records(&bytes);
        assert_eq!(have.len(), payloads.len() - 1, "bit at {at}");
        assert!(lost >= HEAD);
        assert!(have.iter().all(|payload| payloads.contains(payload)));
    }
}
