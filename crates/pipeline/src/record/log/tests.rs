//! Logs that are written by several and read by offset.

use super::{super::Records, *};

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
    for (step, text) in [(1, "one "), (2, "zwei "), (1, "two "), (1, "three"), (2, "drei"), (0, "!")] {
        log.append(step, text.as_bytes(), 7).unwrap();
    }
    let whole = "one zwei two threedrei!";
    assert_eq!(read(&record, 0, 100).unwrap(), (whole.into(), whole.len() as u64));
    assert_eq!(read(&record, 4, 4).unwrap().0, b"zwei");
    assert_eq!(read_step(&record, 1, 0, 100).unwrap(), (b"one two three".to_vec(), 13));
    assert_eq!(read_step(&record, 1, 2, 4).unwrap(), (b"e tw".to_vec(), 13));
    assert_eq!(read_step(&record, 2, 5, 100).unwrap(), (b"drei".to_vec(), 9));
    assert_eq!(read_step(&record, 3, 0, 100).unwrap(), (Vec::new(), 0));
}

#[test]
fn a_log_goes_on_after_it_was_closed() {
    let (_dir, record) = record();
    Log::open(&record).unwrap().append(1, b"one", 1).unwrap();
    // Half an entry, as a crash leaves it.
    OpenOptions::new().append(true).open(record.log_index()).unwrap().write_all(&[1, 2, 3]).unwrap();
    let mut log = Log::open(&record).unwrap();
    assert_eq!(log.bytes(), 3);
    log.append(1, b" two", 2).unwrap();
    assert_eq!(read_step(&record, 1, 0, 100).unwrap().0, b"one two");
}

#[test]
fn a_log_without_end_is_cut_once() {
    let (_dir, record) = record();
    let file = File::create(record.log()).unwrap();
    file.set_len(LONGEST - 10).unwrap();
    let mut log = Log::open(&record).unwrap();
    log.append(1, &[b'x'; 100], 1).unwrap();
    assert!(log.truncated());
    let bytes = log.bytes();
    log.append(1, b"more", 1).unwrap();
    assert_eq!(log.bytes(), bytes);
    let (text, _) = read(&record, LONGEST - 10, 1000).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("what follows is left out"));
}
