//! What a run leaves on disk.
//!
//! ```text
//! <data-dir>/pipelines/UID/          one directory a run, named by the object's UID: a new object of the same name is another run
//!   start.json      what it began with: script, parameters, variables ([`crate::run::Start`] as JSON). Written once, synced
//!   journal         what was asked and answered, by key: a line each, synced before the answer is acted upon ([`journal`])
//!   log             its log: text, secrets masked, only ever appended to ([`log`])
//!   log.index       which bytes of it are which step's ([`log`])
//!   artifacts/      files that were archived, under their paths in the workspace
//!   stashes/        NAME.tar: files that were stashed; gone when the run has ended, unless `preserveStashes` keeps them
//!   reports/        test reports as they were read
//! ```
//!
//! The object's status tells the story in short; this tells it whole, and this is what a run goes on from after a restart: the script
//! is interpreted again with the answers of `journal`, and asks only what is not answered there.
//!
//! Names that come from a script (of stashes, of artifacts) never reach the file system unchecked: [`Record::below`] is the only way to a
//! path made of them. The directory goes with its object ([`Records::remove`]).

use std::{
    fs,
    io::{self, Write as _},
    path::{Component, Path, PathBuf},
};

pub mod journal;

pub mod log;

/// The records of all runs.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
}

/// The record of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    dir: PathBuf,
}

impl Records {
    /// Records in a directory, which need not be there yet.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The record of the run with this UID; `None` where that cannot name a directory.
    pub fn of(&self, uid: &str) -> Option<Record> {
        is_plain(uid).then(|| Record { dir: self.dir.join(uid) })
    }

    /// UIDs of all runs that have a record.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn all(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        Ok(names.collect::<io::Result<Vec<String>>>()?.into_iter().filter(|name| is_plain(name)).collect())
    }

    /// Removes a run's record with all that is in it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        let Some(record) = self.of(uid) else { return Ok(()) };
        match fs::remove_dir_all(&record.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Record {
    /// Makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.dir.is_dir()
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the run began with.
    pub fn start(&self) -> PathBuf {
        self.dir.join("start.json")
    }

    /// What was asked and answered.
    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Which bytes of the log are whose.
    pub fn log_index(&self) -> PathBuf {
        self.dir.join("log.index")
    }

    /// Files that were archived.
    pub fn artifacts(&self) -> PathBuf {
        self.dir.join("artifacts")
    }

    /// Files that were stashed.
    pub fn stashes(&self) -> PathBuf {
        self.dir.join("stashes")
    }

    /// Test reports.
    pub fn reports(&self) -> PathBuf {
        self.dir.join("reports")
    }

    /// A path below one of the directories, made of what a script says; `None` where that leads elsewhere.
    pub fn below(directory: &Path, path: &str) -> Option<PathBuf> {
        let path = Path::new(path);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let named = path.components().any(|part| matches!(part, Component::Normal(_)));
        let short = path.as_os_str().len() <= 4096 && path.components().all(|part| part.as_os_str().len() <= 255);
        (plain && named && short).then(|| directory.join(path))
    }

    /// Writes a file whole or not at all, and syncs it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let parent = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&beside, path)?;
        fs::File::open(parent)?.sync_all()
    }
}

/// Whether a UID can name a directory.
fn is_plain(uid: &str) -> bool {
    !uid.is_empty() && uid.len() <= 128 && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_names_stays_below_its_directory() {
        let found = |path: &str| Record::below(Path::new("/r/artifacts"), path);
        assert_eq!(found("a/b.txt"), Some("/r/artifacts/a/b.txt".into()));
        for path in ["", ".", "..", "a/../b", "/etc/passwd", &"a/".repeat(3000), &"a".repeat(256)] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn a_record_is_made_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().join("pipelines"));
        assert!(records.all().unwrap().is_empty());
        let record = records.of("a-1").unwrap();
        record.create().unwrap();
        record.write(&record.start(), b"{}").unwrap();
        assert_eq!(fs::read(record.start()).unwrap(), b"{}");
        assert_eq!(records.all().unwrap(), ["a-1"]);
        records.remove("a-1").unwrap();
        records.remove("a-1").unwrap();
        assert!(!record.is_there());
        assert!(records.of("../x").is_none());
    }
}
