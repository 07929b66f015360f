//! What a run asked and was answered: a line of JSON each, in a file that only grows.
//!
//! ```text
//! asked   {"key":"3","name":"httpRequest","asked":{...}}      before something is done that must not be done twice
//! answer  {"key":"3","name":"httpRequest","answer":{...}}     before the answer is acted upon
//! ```
//!
//! A line counts once it is whole: what a crash left of the last one is cut off when the journal is opened. Answers that hold secrets
//! are never written here; who asks for them again gets them from where they are kept.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::run::world::Answer;

/// Bytes of a journal: a run that answers more has gone wrong.
const LONGEST: u64 = 256 << 20;
/// Bytes of one answer.
const LONGEST_LINE: usize = 40 << 20;

/// What is known of an ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It was about to be done, with what was noted for going on.
    Asked(Json),
    /// It was answered.
    Answered(Answer),
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    key: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
}

/// A journal that is written to.
#[derive(Debug)]
pub struct Journal {
    file: File,
    bytes: u64,
}

impl Journal {
    /// Opens a journal, new or not, with what is in it by key.
    ///
    /// # Errors
    /// It cannot be read or written, or a line before the last is damaged.
    pub fn open(path: &Path) -> io::Result<(Self, HashMap<String, (String, Known)>)> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut known = HashMap::new();
        let mut reader = BufReader::new(&file).take(LONGEST);
        let (mut whole, mut line) = (0_u64, Vec::new());
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            let parsed: Line = serde_json::from_slice(&line).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{} at byte {whole}: {error}", path.display()))
            })?;
            whole += read as u64;
            match (parsed.answer, parsed.asked) {
                (Some(answer), _) => drop(known.insert(parsed.key, (parsed.name, Known::Answered(answer)))),
                (None, asked) => {
                    known.insert(parsed.key, (parsed.name, Known::Asked(asked.unwrap_or_default())));
                }
            }
        }
        file.set_len(whole)?;
        let mut file = file;
        file.seek(SeekFrom::End(0))?;
        Ok((Self { file, bytes: whole }, known))
    }

    /// Notes that something is about to be done; on disk when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn asked(&mut self, key: &str, name: &str, note: &Json) -> io::Result<()> {
        self.line(&Line { key: key.into(), name: name.into(), asked: Some(note.clone()), answer: None })
    }

    /// Notes an answer; on disk when this returns.
    ///
    /// # Errors
    /// It cannot be written, or is too long.
    pub fn answered(&mut self, key: &str, name: &str, answer: &Answer) -> io::Result<()> {
        self.line(&Line { key: key.into(), name: name.into(), asked: None, answer: Some(answer.clone()) })
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if text.len() > LONGEST_LINE || self.bytes + text.len() as u64 > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the answers of a run have at most {LONGEST} bytes, one of them {LONGEST_LINE}"),
            ));
        }
        if let Err(error) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            // Half a line must not stand before the next one.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
