//! What must outlive this process: alerts, silences, and which notifications went out, in one file of lines.
//!
//! Each line is a checksum and a record; the last record of a thing counts. A record is on disk before anybody hears of it.
//! What is damaged is left out and reported, a torn end is cut off. When most of it is old the file is written anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    alert::{Alert, Fingerprint},
    log::Entry,
    silence::Silence,
};

/// Something that must not be lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Record {
    /// An alert as it is now.
    Alert(Alert),
    /// An alert that is over, its end told.
    Over(Fingerprint),
    /// A silence as it is now.
    Silence(Silence),
    /// A silence that is forgotten.
    Forgotten(String),
    /// A notification that went out.
    Notified(Entry),
}

/// The file grows by so much beyond twice its content before it is written anew.
const SLACK: u64 = 4 << 20;

/// The file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
    /// Its size when it was last written anew.
    fresh: u64,
}

fn line(record: &Record) -> io::Result<String> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())))
}

fn parse(line: &[u8]) -> Option<Record> {
    let line = std::str::from_utf8(line).ok()?;
    let (sum, json) = line.split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (crc32fast::hash(json.as_bytes()) == sum).then(|| serde_json::from_str(json).ok())?
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

impl Journal {
    /// Opens the file in a directory, which is made where it is absent; gives its records, and how many were damaged.
    pub fn open(dir: &Path) -> io::Result<(Self, Vec<Record>, usize)> {
        fs::create_dir_all(dir)?;
        let path = dir.join("journal");
        let file = open(&path)?;
        let bytes = fs::read(&path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
            file.sync_data()?;
        }
        let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let parsed: Vec<Option<Record>> = lines.map(parse).collect();
        let damaged = parsed.iter().filter(|record| record.is_none()).count() + usize::from(whole < bytes.len());
        let records: Vec<Record> = parsed.into_iter().flatten().collect();
        File::open(dir)?.sync_all()?;
        Ok((Self { path, file, size: whole as u64, fresh: whole as u64 }, records, damaged))
    }

    /// Adds records; they are on disk afterwards, or nothing of them is there.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for record in records {
            text.push_str(&line(record)?);
        }
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line would hide the next one.
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += text.len() as u64;
        Ok(())
    }

    /// Whether most of the file is old.
    pub fn is_grown(&self) -> bool {
        self.size > 2 * self.fresh + SLACK
    }

    /// Writes the file anew, with these records only.
    pub fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let mut text = String::new();
        let mut size = 0;
        for record in records {
            text.push_str(&line(&record)?);
            if text.len() > 1 << 20 {
                file.write_all(text.as_bytes())?;
                size += text.len() as u64;
                text.clear();
            }
        }
        file.write_all(text.as_bytes())?;
        size += text.len() as u64;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        self.file = open(&self.path)?;
        (self.size, self.fresh) = (size, size);
        Ok(())
    }
}
