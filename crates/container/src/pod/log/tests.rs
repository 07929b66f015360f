//! Tests of `log`: cases as data where there are many.

use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    log: Log,
}

fn fixture(max_bytes: u64, max_files: u32, terminal: bool) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log").to_str().unwrap().to_owned();
    let log = Log::open(protocol::Log { path, max_bytes, max_files }, terminal).unwrap();
    Fixture { directory, log }
}

impl Fixture {
    /// Records without their stamps.
    fn records(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.split_terminator('\n').map(|line| line[clock::STAMP + 1..].to_owned()).collect()
    }
}

#[test]
fn lines_are_records_however_they_arrive() {
    let mut fixture = fixture(0, 1, false);
    fixture.log.write(Stream::Out, b"one\ntw");
    fixture.log.write(Stream::Err, b"error\n\n");
    fixture.log.write(Stream::Out, b"o\nthree\r\nlast");
    fixture.log.finish(Stream::Out);
    fixture.log.finish(Stream::Err);
    assert_eq!(
        fixture.records("0.log"),
        ["stdout F one", "stderr F error", "stderr F ", "stdout F two", "stdout F three\r", "stdout P last"]
    );
}

#[test]
fn a_terminal_adds_carriage_returns_that_are_taken_off() {
    let mut fixture = fixture(0, 1, true);
    fixture.log.write(Stream::Out, b"one\r\ntwo\r");
    fixture.log.write(Stream::Out, b"\n");
    assert_eq!(fixture.records("0.log"), ["stdout F one", "stdout F two"]);
}

#[test]
fn long_lines_come_in_parts() {
    let mut fixture = fixture(0, 1, false);
    let mut line = vec![b'x'; LINE * 2 + 5];
    line.push(b'\n');
    for chunk in line.chunks(1000) {
        fixture.log.write(Stream::Out, chunk);
    }
    let records = fixture.records("0.log");
    let shape: Vec<_> = records.iter().map(|record| (&record[..8], record.len() - 9)).collect();
    assert_eq!(shape, [("stdout P", LINE), ("stdout P", LINE), ("stdout F", 5)]);
}

#[test]
fn a_line_of_exactly_the_limit_is_whole() {
    let mut fixture = fixture(0, 1, false);
    let mut line = vec![b'x'; LINE];
    line.push(b'\n');
    fixture.log.write(Stream::Out, &line);
    let records = fixture.records("0.log");
    assert_eq!(records.len(), 1);
    assert!(records[0].starts_with("stdout F x"));
}

#[test]
fn full_files_move_up_and_the_oldest_goes() {
    let mut fixture = fixture(200, 3, false);
    for number in 0..20 {
        fixture.log.write(Stream::Out, format!("line {number:02} {}\n", "x".repeat(20)).as_bytes());
    }
    assert!(!fixture.directory.path().join("0.log.3").exists());
    let mut all = Vec::new();
    for name in ["0.log.2", "0.log.1", "0.log"] {
        let size = fs::metadata(fixture.directory.path().join(name)).unwrap().len();
        assert!(size <= 200, "{name} has {size} bytes");
        all.extend(fixture.records(name));
    }
    let numbers: Vec<u32> = all.iter().map(|record| record[14..16].parse().unwrap()).collect();
    assert_eq!(numbers.last(), Some(&19));
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

#[test]
fn one_file_begins_anew_under_its_name() {
    let mut fixture = fixture(100, 1, false);
    for number in 0..5 {
        fixture.log.write(Stream::Out, format!("line {number}\n").as_bytes());
    }
    assert_eq!(fixture.records("0.log").last().map(String::as_str), Some("stdout F line 4"));
    assert_eq!(fs::read_dir(fixture.directory.path()).unwrap().count(), 1);
}

#[test]
fn a_link_in_place_of_the_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let spec = protocol::Log { path: path.to_str().unwrap().into(), max_bytes: 0, max_files: 1 };
    assert!(Log::open(spec, false).is_err());
}
