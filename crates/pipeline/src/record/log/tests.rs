//! Logs that are written by several, read by offset, and gone on with.

use super::{super::Records, *};

const ONE: Writer = Writer { step: 1, stage: 10 };
const TWO: Writer = Writer { step: 2, stage: 10 };
const NOBODY: Writer = Writer { step: 0, stage: 0 };

fn record() -> (tempfile::TempDir, Record) {
    let dir = tempfile::tempdir().unwrap();
    let record = Records::new(dir.path().into()).of("a").unwrap();
    record.create().unwrap();
    (dir, record)
}

#[test]
fn steps_side_by_side_have_each_their_own_text() {
    let (_dir, record) = record();
    let mut log = Log::open(&record).unwrap();
    for (writer, text) in [(ONE, "one "), (TWO, "zwei "), (ONE, "two "), (ONE, "three"), (TWO, "drei"), (NOBODY, "!")] {
        log.append(writer, text.as_bytes(), 0, 7).unwrap();
    }
    let whole = "one zwei two threedrei!";
    assert_eq!(read(&record, Whose::All, 0, 100).unwrap(), (whole.into(), whole.len() as u64));
    assert_eq!(read(&record, Whose::All, 4, 4).unwrap().0, b"zwei");
    assert_eq!(read(&record, Whose::Step(1), 0, 100).unwrap(), (b"one two three".to_vec(), 13));
    assert_eq!(read(&record, Whose::Step(1), 2, 4).unwrap(), (b"e tw".to_vec(), 13));
    assert_eq!(read(&record, Whose::Step(2), 5, 100).unwrap(), (b"drei".to_vec(), 9));
    assert_eq!(read(&record, Whose::Step(3), 0, 100).unwrap(), (Vec::new(), 0));
    assert_eq!(read(&record, Whose::Stage(10), 0, 100).unwrap().1, 22);
    assert_eq!(times(&record, 13, 1).unwrap(), [(13, 7)]);
}

#[test]
fn a_log_goes_on_exactly_where_it_was() {
    let (_dir, record) = record();
    let mut log = Log::open(&record).unwrap();
    log.append(ONE, b"one", 3, 1).unwrap();
    log.append(TWO, b"zwei", 4, 1).unwrap();
    log.append(ONE, b"two", 6, 1).unwrap();
    drop(log);
    // As a crash leaves it: an entry whose text is not whole, and half an entry.
    File::options().write(true).open(record.log()).unwrap().set_len(9).unwrap();
    OpenOptions::new().append(true).open(record.log_index()).unwrap().write_all(&[1, 2, 3]).unwrap();
    let mut log = Log::open(&record).unwrap();
    assert_eq!((log.bytes(), log.come(1), log.come(2), log.come(3)), (7, 3, 4, 0));
    log.append(ONE, b" two", 6, 2).unwrap();
    assert_eq!(read(&record, Whose::Step(1), 0, 100).unwrap().0, b"one two");
    assert_eq!(Log::open(&record).unwrap().come(1), 6);
}

#[test]
fn a_log_without_end_is_cut_once() {
    let (_dir, record) = record();
    let file = File::create(record.log()).unwrap();
    file.set_len(LONGEST - 10).unwrap();
    let mut log = Log::open(&record).unwrap();
    log.append(ONE, &[b'x'; 100], 100, 1).unwrap();
    assert!(log.truncated());
    let bytes = log.bytes();
    log.append(ONE, b"more", 104, 1).unwrap();
    assert_eq!((log.bytes(), log.come(1)), (bytes, 104));
    let (text, _) = read(&record, Whose::All, LONGEST - 10, 1000).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("what follows is left out"));
}

#[test]
fn names_have_numbers_that_stay() {
    assert_eq!(number("a"), 0xaf63_dc4c_8601_ec8c);
    assert_ne!(number("0/1"), number("0/2"));
}
