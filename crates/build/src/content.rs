//! What files are, as the cache's key has it: names, kinds, modes, owners, contents, attributes; no times.
//!
//! Contents are remembered by device, inode, size and both times of a file, so that a build with nothing changed reads no file.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    sync::{Mutex, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use oci::digest::{Algorithm, Hasher};
use rustix::fs::FileType;

use crate::{
    key::{Fields, Key},
    select::{Entry, Pick, attributes, walk},
    tree::{Root, Tree},
};

/// Files that are remembered.
const MOST: usize = 1 << 20;
/// A file that was changed so shortly before is not remembered: another change may have the same time.
const SETTLED: Duration = Duration::from_millis(100);

/// What is known of files' contents.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<(u64, u64), (Stamp, Key)>>);

/// Size, and the times of the last changes of content and of anything.
type Stamp = (u64, (i64, i64), (i64, i64));

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u64), (Stamp, Key)>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The hash of a file's content.
    fn content(&self, entry: &Entry<'_>, remember: bool) -> anyhow::Result<Key> {
        let status = &entry.status;
        let inode = (status.st_dev, status.st_ino);
        let stamp = |size: i64, m: (i64, i64), c: (i64, i64)| (size as u64, m, c);
        let now = stamp(
            status.st_size,
            (status.st_mtime, status.st_mtime_nsec as i64),
            (status.st_ctime, status.st_ctime_nsec as i64),
        );
        if remember && let Some((_, hash)) = self.lock().get(&inode).filter(|(known, _)| *known == now) {
            return Ok(hash.clone());
        }
        let mut file = File::from(entry.open()?);
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => hasher.update(&buffer[..length]),
            }
        }
        let hash = hasher.finish().hex().to_owned();
        let after = file.metadata()?;
        let changed =
            stamp(after.size() as i64, (after.mtime(), after.mtime_nsec()), (after.ctime(), after.ctime_nsec()));
        if changed != now {
            bail!("it changes while it is read");
        }
        let last = SystemTime::UNIX_EPOCH + Duration::new(status.st_ctime.max(0) as u64, status.st_ctime_nsec as u32);
        let settled = SystemTime::now().duration_since(last).is_ok_and(|since| since > SETTLED);
        if remember && settled {
            let mut known = self.lock();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(inode, (now, hash.clone()));
        }
        Ok(hash)
    }
}

/// The hash of what is picked. Blocks the thread.
pub fn digest(memory: &Memory, tree: &Tree, root: &Root, pick: &Pick, stop: &AtomicBool) -> anyhow::Result<Key> {
    let mut fields = Fields::new("files");
    fields.number(u64::from(pick.directory));
    if !pick.directory {
        fields.add(pick.name.as_bytes());
    }
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    walk(tree, root, pick, stop, &mut |entry| {
        let status = &entry.status;
        let kind = entry.kind();
        fields.add(entry.path.as_os_str().as_bytes());
        fields.number(u64::from(status.st_mode));
        fields.number(status.st_uid).number(status.st_gid);
        match kind {
            FileType::RegularFile => {
                if status.st_nlink > 1 {
                    // Which names are the same file.
                    let first = links
                        .entry((status.st_dev, status.st_ino))
                        .or_insert_with(|| entry.path.as_os_str().as_bytes().to_vec());
                    fields.add(&*first);
                }
                fields.add(memory.content(entry, tree.is_context()).context("read")?);
            }
            FileType::Symlink => {
                fields.add(rustix::fs::readlinkat(entry.parent, entry.name, Vec::new())?.as_bytes());
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                fields.number(status.st_rdev);
            }
            _ => {}
        }
        if kind != FileType::Symlink {
            for (name, value) in attributes(entry.parent, entry.name)? {
                fields.add(name.as_bytes()).add(value);
            }
        }
        Ok(())
    })?;
    Ok(fields.finish())
}
