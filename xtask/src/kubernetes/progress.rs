//! How far the suite has come, from what its runner prints while it runs.
//!
//! ```text
//! Will run 433 of 7290 specs        how many there are
//! SSS•SSSS•                         a dot for each that passed, as it ends; S and P for what was left out
//! • [FAILED] [6.161 seconds]        one that failed; its name is on the next line
//! ```

use std::time::{Duration, Instant};

/// How often a line is printed at most.
const OFTEN: Duration = Duration::from_secs(15);

/// What was heard so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Tests that are to run.
    pub total: usize,
    /// Tests that ended, failed ones included.
    pub ended: usize,
    /// Names of those that failed.
    pub failed: Vec<String>,
    line: Vec<u8>,
    name_next: bool,
}

const DOT: &[u8] = "•".as_bytes();
/// Bytes of a line that are looked at.
const LINE: usize = 4096;

impl Heard {
    /// Takes in the next bytes, which end anywhere.
    pub fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                self.line_ended(line.trim());
                continue;
            }
            if self.line.len() < LINE {
                self.line.push(byte);
            }
            let marks = |byte: &u8| matches!(byte, b'S' | b'P') || DOT.contains(byte);
            if self.line.ends_with(DOT) && self.line.iter().all(marks) {
                self.ended += 1;
                // Long rows of marks are one line.
                self.line.clear();
            } else if self.line.len() == LINE && self.line.iter().all(marks) {
                self.line.clear();
            }
        }
    }

    fn line_ended(&mut self, line: &str) {
        if std::mem::take(&mut self.name_next) {
            self.failed.push(line.to_owned());
        } else if let Some(how) = line.strip_prefix('[').and_then(|rest| rest.split_once("] [")) {
            // The dot before it was counted already.
            self.name_next =
                matches!(how.0, "FAILED" | "PANICKED" | "TIMEDOUT" | "INTERRUPTED") && how.1.ends_with("seconds]");
        } else if let Some(rest) = line.strip_prefix("Will run ") {
            self.total = rest.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        }
    }
}

/// Prints lines from time to time.
#[derive(Debug)]
pub struct Progress {
    part: &'static str,
    heard: Heard,
    started: Instant,
    printed: Instant,
    told: usize,
}

impl Progress {
    /// Of the part of this name, from now on.
    pub fn new(part: &'static str) -> Self {
        let now = Instant::now();
        Self { part, heard: Heard::default(), started: now, printed: now, told: 0 }
    }

    /// Takes in the next bytes, and prints where there is something to say.
    pub fn take(&mut self, bytes: &[u8]) {
        let before = self.heard.ended;
        self.heard.take(bytes);
        for name in &self.heard.failed[self.told..] {
            eprintln!("{}: failed: {name}", self.part);
        }
        self.told = self.heard.failed.len();
        let done = self.heard.ended == self.heard.total && self.heard.ended > before;
        if done || self.printed.elapsed() > OFTEN {
            self.printed = Instant::now();
            let (heard, time) = (&self.heard, self.started.elapsed().as_secs());
            let (part, failed) = (self.part, heard.failed.len());
            eprintln!("{part}: {} of {}, {failed} failed, {}:{:02}", heard.ended, heard.total, time / 60, time % 60);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Heard;

    const TEXT: &str = "Will run 3 of 20 specs\nRunning in parallel across 4 processes\nSSSS•SSP\n-----\n\
        • [FAILED] [6.161 seconds]\n[sig-node] Pods [It] should run\n  list: • one\n  [FAILED] in [It]\n-----\nSS•SS\n";

    #[test]
    fn tests_are_counted_as_they_end_wherever_reads_are_cut() {
        for size in [1, 2, 3, 7, 1000] {
            let mut heard = Heard::default();
            TEXT.as_bytes().chunks(size).for_each(|chunk| heard.take(chunk));
            assert_eq!((heard.total, heard.ended), (3, 3), "in pieces of {size}");
            assert_eq!(heard.failed, ["[sig-node] Pods [It] should run"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_row_of_marks_has_any_length() {
        let mut heard = Heard::default();
        heard.take("S".repeat(100_000).as_bytes());
        heard.take("•S•\n".as_bytes());
        assert_eq!(heard.ended, 2);
    }
}
