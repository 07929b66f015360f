//! How a pod's containers ended, as its shim wrote it down: one JSON object a line, synced before it is announced.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::Exit;

/// Name of the file in the sandbox's directory.
pub const FILE: &str = "exits";

/// Bytes read at most: thousands of restarts.
const LIMIT: u64 = 16 << 20;

/// The exits of a pod's containers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exits(HashMap<String, Exit>);

#[derive(serde::Deserialize)]
struct Line {
    id: String,
    code: i32,
    #[serde(default)]
    signal: i32,
    #[serde(default)]
    oom: bool,
    finished_at: u64,
}

impl Exits {
    /// Reads them from a sandbox's directory; none where there is no file. A last line that a crash cut is left out.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        match fs::File::open(dir.join(FILE)) {
            Ok(file) => io::Read::read_to_end(&mut io::Read::take(file, LIMIT), &mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self::parse(&text))
    }

    fn parse(text: &[u8]) -> Self {
        let lines = text.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        let lines = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let exit = |line: &Line| Exit {
            code: line.code,
            signal: Some(line.signal).filter(|&signal| signal != 0),
            oom: line.oom,
            finished_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(line.finished_at),
        };
        Self(lines.map(|line| (line.id.clone(), exit(&line))).collect())
    }

    /// How a container ended; its last end where a name was used again.
    pub fn get(&self, id: &str) -> Option<Exit> {
        self.0.get(id).copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Exit)> {
        self.0.iter().map(|(id, exit)| (id.as_str(), *exit))
    }
}

#[cfg(test)]
mod tests;
