//! A run's log while it is written: masked, with everybody who follows it told how long it is.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    mask::Masker,
    record::{
        Record,
        log::{Log, Writer, number},
    },
};

/// A log that is written to by the branches and steps of a run.
#[derive(Debug)]
pub struct Book {
    inner: Mutex<Inner>,
    length: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    secrets: Vec<String>,
    /// Of steps that write now, with how much of their own log they have read.
    open: HashMap<u64, (Writer, Masker, u64)>,
}

/// Who writes a step's output.
pub fn of_step(key: &str, stage: Option<&str>) -> Writer {
    Writer { step: number(key), stage: stage.map(number).unwrap_or_default() }
}

fn now() -> u64 {
    Timestamp::now().as_millisecond().unsigned_abs()
}

impl Book {
    /// Opens a run's log, new or not.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(record: &Record) -> io::Result<Self> {
        let log = Log::open(record)?;
        let length = watch::Sender::new(log.bytes());
        Ok(Self { inner: Mutex::new(Inner { log, secrets: Vec::new(), open: HashMap::new() }), length })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self, inner: &Inner) {
        self.length.send_replace(inner.log.bytes());
    }

    /// How long the log is, and whether there was more than it may hold.
    pub fn length(&self) -> (u64, bool) {
        let inner = self.inner();
        (inner.log.bytes(), inner.log.truncated())
    }

    /// Tells whenever it has grown; ends with the run.
    pub fn followed(&self) -> watch::Receiver<u64> {
        self.length.subscribe()
    }

    /// From now on a text is masked.
    pub fn secret(&self, secret: &str) {
        let mut inner = self.inner();
        inner.secrets.push(secret.to_owned());
        inner.open.values_mut().for_each(|(_, masker, _)| masker.add(secret));
    }

    /// The `number`th text of a branch, unless it is there already.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn text(&self, branch: &str, number: u64, stage: Option<&str>, text: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let writer = of_step(&format!("branch {branch}"), stage);
        if inner.log.come(writer.step) >= number {
            return Ok(());
        }
        let mut masker = Masker::default();
        inner.secrets.iter().for_each(|secret| masker.add(secret));
        let mut masked = masker.write(text.as_bytes());
        masked.extend(masker.finish());
        inner.log.append(writer, &masked, number, now())?;
        self.shown(&inner);
        Ok(())
    }

    /// A step begins to write, or goes on: from where in its own log.
    pub fn begin(&self, writer: Writer) -> u64 {
        let mut inner = self.inner();
        let come = inner.log.come(writer.step);
        let mut masker = Masker::default();
        inner.secrets.iter().for_each(|secret| masker.add(secret));
        inner.open.insert(writer.step, (writer, masker, come));
        come
    }

    /// What a step has written.
    ///
    /// # Errors
    /// It cannot be written here.
    pub fn write(&self, writer: Writer, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        let Inner { log, open, .. } = &mut *inner;
        let Some((writer, masker, read)) = open.get_mut(&writer.step) else { return Ok(()) };
        let masked = masker.write(bytes);
        *read += bytes.len() as u64;
        if masked.is_empty() {
            return Ok(());
        }
        log.append(*writer, &masked, *read - masker.held() as u64, now())?;
        self.shown(&inner);
        Ok(())
    }

    /// A step writes no more.
    ///
    /// # Errors
    /// What was held back cannot be written.
    pub fn end(&self, writer: Writer) -> io::Result<()> {
        let mut inner = self.inner();
        let Some((writer, mut masker, read)) = inner.open.remove(&writer.step) else { return Ok(()) };
        let masked = masker.finish();
        if !masked.is_empty() {
            inner.log.append(writer, &masked, read, now())?;
            self.shown(&inner);
        }
        Ok(())
    }

    /// Text with secrets masked.
    pub fn masked(&self, text: &str) -> String {
        let inner = self.inner();
        let mut masker = Masker::default();
        inner.secrets.iter().for_each(|secret| masker.add(secret));
        let mut masked = masker.write(text.as_bytes());
        masked.extend(masker.finish());
        String::from_utf8_lossy(&masked).into_owned()
    }

    /// All of it is on disk when this returns.
    ///
    /// # Errors
    /// It cannot be synced.
    pub fn sync(&self) -> io::Result<()> {
        self.inner().log.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        Records,
        log::{Whose, read},
    };

    fn book() -> (tempfile::TempDir, Record) {
        let dir = tempfile::tempdir().unwrap();
        let record = Records::new(dir.path().into()).of("a").unwrap();
        record.create().unwrap();
        (dir, record)
    }

    fn all(record: &Record) -> String {
        String::from_utf8(read(record, Whose::All, 0, 10_000).unwrap().0).unwrap()
    }

    #[test]
    fn a_secret_that_is_split_over_writes_and_a_restart_is_masked() {
        let (_dir, record) = book();
        let writer = of_step("1", Some("0"));
        let book = Book::open(&record).unwrap();
        book.secret("hunter2");
        assert_eq!(book.begin(writer), 0);
        book.write(writer, b"pass hun").unwrap();
        // Killed here: what was held back is read again from the step's own log.
        drop(book);
        let book = Book::open(&record).unwrap();
        book.secret("hunter2");
        assert_eq!(book.begin(writer), 5);
        book.write(writer, b"hunte").unwrap();
        book.write(writer, b"r2 done\n").unwrap();
        book.end(writer).unwrap();
        assert_eq!(all(&record), "pass **** done\n");
        assert_eq!(Book::open(&record).unwrap().begin(writer), 18);
    }

    #[test]
    fn a_text_that_is_told_again_is_written_once() {
        let (_dir, record) = book();
        let book = Book::open(&record).unwrap();
        let mut followed = book.followed();
        book.text("", 1, None, "one\n").unwrap();
        assert!(followed.has_changed().unwrap());
        assert_eq!(*followed.borrow_and_update(), 4);
        book.text("3", 1, Some("2"), "branch\n").unwrap();
        drop(book);
        let book = Book::open(&record).unwrap();
        for number in 1..=2 {
            book.text("", number, None, &format!("{number}\n")).unwrap();
            book.text("3", 1, Some("2"), "branch\n").unwrap();
        }
        assert_eq!(all(&record), "one\nbranch\n2\n");
    }
}
