//! Records on disk: written whole and synced before anyone is told, or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes of a record that are read at most.
const LIMIT: u64 = 64 << 20;

/// Writes `value` to `path`, which only root may read: environments hold secrets.
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let text = serde_json::to_vec(value).with_context(|| format!("encode {}", path.display()))?;
    let wrote = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&temporary, path)?;
        sync_directory(path.parent().unwrap_or(Path::new("/")))
    };
    wrote().with_context(|| format!("write {}", path.display()))
}

/// Reads a record; `None` where there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, LIMIT), &mut text)
        .with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).map(Some).with_context(|| format!("decode {}", path.display()))
}

/// Makes a directory that only root may enter; one that is there is left.
pub fn private_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make directory {}", path.display()))
}

/// Removes a directory and all in it: under another name first, so that a crash leaves no half of it.
pub fn remove_directory(path: &Path) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".gone");
    let gone = path.with_file_name(name);
    match fs::rename(path, &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => done.with_context(|| format!("remove {}", path.display()))?,
    }
    sync_directory(path.parent().unwrap_or(Path::new("/"))).with_context(|| format!("remove {}", path.display()))?;
    fs::remove_dir_all(&gone).with_context(|| format!("remove {}", gone.display()))
}

/// Directories in a directory, those being removed swept away.
pub fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("read directory {}", path.display()))? {
        let entry = entry.with_context(|| format!("read directory {}", path.display()))?;
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().as_encoded_bytes().ends_with(b".gone") {
            fs::remove_dir_all(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Runs what touches the disk away from the event loop.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("work on the disk")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_what_was_being_removed_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two.gone"));
        private_directory(&one).unwrap();
        private_directory(&two).unwrap();
        write(&one.join("record.json"), &vec![1, 2]).unwrap();
        assert_eq!(read::<Vec<u32>>(&one.join("record.json")).unwrap(), Some(vec![1, 2]));
        assert_eq!(directories(dir.path()).unwrap(), std::slice::from_ref(&one));
        assert!(!two.exists());
        remove_directory(&one).unwrap();
        remove_directory(&one).unwrap();
        assert!(read::<Vec<u32>>(&one.join("record.json")).unwrap().is_none());
    }
}
