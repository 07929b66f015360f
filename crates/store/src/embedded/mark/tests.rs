//! The end mark: the newest whole copy counts.

use super::*;

const ID: StoreId = StoreId([7; 16]);

#[test]
fn the_last_write_is_what_it_says() {
    let dir = tempfile::tempdir().expect("temporary directory");
    assert_eq!(Mark::read(dir.path()).expect("read"), None);
    let mut mark = Mark::create(dir.path(), Said { id: ID, sequence: 0 }).expect("create");
    for sequence in 0..5 {
        mark.write(sequence).expect("write");
        assert_eq!(Mark::read(dir.path()).expect("read"), Some(Said { id: ID, sequence }));
    }
    let mut again = Mark::open(dir.path(), ID).expect("open");
    again.write(9).expect("write");
    assert_eq!(Mark::read(dir.path()).expect("read"), Some(Said { id: ID, sequence: 9 }));
}

#[test]
fn a_torn_copy_leaves_the_one_before() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut mark = Mark::create(dir.path(), Said { id: ID, sequence: 0 }).expect("create");
    mark.write(1).expect("write");
    mark.write(2).expect("write");
    let path = dir.path().join(NAME);
    let bytes = std::fs::read(&path).expect("read");
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x40;
        std::fs::write(&path, &broken).expect("write");
        let said = Mark::read(dir.path()).expect("read").expect("one copy");
        assert!(said.id == ID && (1..=2).contains(&said.sequence), "{said:?} with byte {at} flipped");
    }
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).expect("write");
        let said = Mark::read(dir.path()).expect("read");
        let copies = usize::from(length >= LENGTH) + usize::from(length >= SLOT + LENGTH);
        assert_eq!(said.is_some(), copies > 0, "of {length} bytes");
    }
}
