//! Records: what is written is read, and anything else is refused without harm.

use bytes::Bytes;

use super::{super::random::Random, *};

fn records(random: &mut Random) -> Vec<Record> {
    let record = |random: &mut Random| match random.below(5) {
        0 => Record::Compact(random.next() >> random.below(64)),
        _ => {
            let op = |random: &mut Random| {
                let key = format!("/k{}", random.next() >> random.below(64)).into();
                match random.below(3) {
                    0 => Op::Delete { key },
                    _ => Op::Put { key, value: Bytes::from(random.bytes(300)) },
                }
            };
            Record::Txn(random.next() >> random.below(64), (0..random.below(5)).map(|_| op(random)).collect())
        }
    };
    (0..random.below(10)).map(|_| record(random)).collect()
}

fn write(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        match record {
            Record::Txn(revision, ops) => put_txn(&mut out, *revision, ops),
            Record::Compact(revision) => put_compact(&mut out, *revision),
        }
    }
    out
}

#[test]
fn what_was_written_is_read() {
    let mut random = Random(1);
    for _ in 0..500 {
        let written = records(&mut random);
        let read: Result<Vec<_>, _> = group(&write(&written)).collect();
        assert_eq!(read, Ok(written));
    }
}

#[test]
fn versions_heads_and_ends_are_read_as_written() {
    let mut random = Random(2);
    for _ in 0..500 {
        let value = (random.below(4) != 0).then(|| Bytes::from(random.bytes(100)));
        let version = Version {
            modified: random.next(),
            created: random.next(),
            version: random.next() >> random.below(64),
            value,
        };
        let mut out = Vec::new();
        put_version(&mut out, "/a key", &version);
        put_version(&mut out, "/b", &version);
        let read: Vec<_> = versions(&out).collect();
        assert_eq!(read, [Ok(("/a key", version.clone())), Ok(("/b", version))]);

        let at = Place { sequence: random.next(), seal: random.next() as u32, segment: random.next(), position: 4096 };
        let written = Head { revision: random.next(), compacted: random.next(), at };
        out.clear();
        put_head(&mut out, &written);
        assert_eq!(head(&out), Ok(written));
        out.push(0);
        assert_eq!(head(&out), Err(Malformed));
        out.clear();
        put_end(&mut out, 5, u64::MAX);
        assert_eq!(end(&out), Ok((5, u64::MAX)));
    }
}

#[test]
fn a_part_of_a_payload_is_read_up_to_the_last_whole_record() {
    let mut random = Random(3);
    for _ in 0..100 {
        let written = records(&mut random);
        let bytes = write(&written);
        for length in 0..bytes.len() {
            let read: Vec<_> = group(&bytes[..length]).collect();
            let whole = read.iter().filter(|record| record.is_ok()).count();
            assert!(read[..whole].iter().flatten().eq(&written[..whole]));
            // Nothing follows the first error.
            assert!(read.len() <= whole + 1);
        }
    }
}

#[test]
fn any_bytes_at_all_are_read_without_harm() {
    let mut random = Random(4);
    for _ in 0..20_000 {
        let mut bytes = match random.below(2) {
            0 => random.bytes(200),
            // Nearly right is where mistakes hide.
            _ => {
                let written = records(&mut random);
                write(&written)
            }
        };
        for _ in 0..random.below(4) {
            if !bytes.is_empty() {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
        }
        group(&bytes).for_each(drop);
        versions(&bytes).for_each(drop);
        let _ = (head(&bytes), end(&bytes));
    }
}

#[test]
fn lengths_that_lie_are_refused_without_reserving_memory() {
    // A put whose value claims to be as long as memory, a key of that length, and a number that never ends.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let value = [&[1, 5, 1, 1, 1, b'k'][..], &huge].concat();
    let key = [&[1, 5, 1, 1][..], &huge].concat();
    let many = [&[1, 5][..], &huge, &[2, 1, b'k']].concat();
    let endless = [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for bytes in [&value[..], &key, &many, &endless] {
        assert_eq!(group(bytes).collect::<Vec<_>>(), [Err(Malformed)]);
    }
    let empty_key = [2, 0];
    assert!(group(&[&[1, 5, 1][..], &empty_key].concat()).all(|record| record.is_err()));
    let not_text = [1, 5, 1, 2, 1, 0xff];
    assert!(group(&not_text).all(|record| record.is_err()));
}
