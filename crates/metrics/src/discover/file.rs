//! Groups in files. The kernel says when a directory changes; at long intervals files are read even if it does not.
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config>.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::inotify;
use tokio::{io::AsyncReadExt, net::unix::pipe};
use tsdb::labels::Builder;

use super::{Teller, changes, listed};
use crate::{
    config::{self, discovery::File},
    scrape::target::Group,
};

/// Bytes of a file at most.
const LARGEST: u64 = 64 << 20;
/// How long the writer of a file has for the rest.
const QUIET: Duration = Duration::from_millis(50);

/// Watches directories. The kernel's queue is read like a pipe.
struct Watch(pipe::Receiver);

impl Watch {
    fn new() -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        pipe::Receiver::from_owned_fd_unchecked(fd).map(Self)
    }

    fn add(&self, patterns: &[String]) {
        let flags = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ATTRIB;
        for pattern in patterns {
            let dir = Path::new(pattern).parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // One that was removed and made again is watched again; adding one twice does nothing.
            if let Err(error) = inotify::add_watch(&self.0, dir, flags) {
                tracing::debug!(dir = %dir.display(), %error, "directory cannot be watched; looked at in intervals");
            }
        }
    }

    /// Waits until something happens in one of the directories.
    async fn changed(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.0.read(&mut buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Tells of the groups in files, until it is dropped.
pub async fn run(settings: File, teller: Teller) {
    let mut watch = Watch::new().inspect_err(|error| tracing::warn!(%error, "files cannot be watched")).ok();
    let interval = settings.refresh_interval.0.max(Duration::from_secs(1));
    let mut told: BTreeMap<PathBuf, Vec<Group>> = BTreeMap::new();
    loop {
        if let Some(watch) = &watch {
            watch.add(&settings.files);
        }
        let changed = look(&settings.files, &mut told, &|| teller.failed());
        if !changed.is_empty() {
            teller.tell(changed).await;
        }
        let Some(watch) = &mut watch else {
            tokio::time::sleep(interval).await;
            continue;
        };
        match tokio::time::timeout(interval, watch.changed()).await {
            Err(_) => {}
            Ok(Ok(())) => tokio::time::sleep(QUIET).await,
            Ok(Err(error)) => {
                tracing::warn!(%error, "files cannot be watched; looked at in intervals");
                tokio::time::sleep(interval).await;
            }
        }
    }
}

/// Reads the files; says what has changed. A file that cannot be read keeps its groups; `failed` hears of it.
pub fn look(patterns: &[String], told: &mut BTreeMap<PathBuf, Vec<Group>>, failed: &(dyn Fn() + Sync)) -> Vec<Group> {
    let mut there: BTreeSet<PathBuf> = BTreeSet::new();
    for pattern in patterns {
        match config::glob(pattern) {
            Ok(files) => there.extend(files),
            Err(error) => {
                failed();
                tracing::error!(pattern, error, "files with targets");
            }
        }
    }
    let mut changed = Vec::new();
    for file in &there {
        match read(file) {
            Ok(found) => {
                let before = told.insert(file.clone(), found.clone()).unwrap_or_default();
                changed.extend(changes(&before, &found));
            }
            Err(error) => {
                failed();
                tracing::error!(file = %file.display(), error, "targets cannot be read; those known stay");
            }
        }
    }
    let gone: Vec<PathBuf> = told.keys().filter(|file| !there.contains(*file)).cloned().collect();
    for file in gone {
        let before = told.remove(&file).unwrap_or_default();
        changed.extend(changes(&before, &[]));
    }
    changed
}

fn read(file: &Path) -> Result<Vec<Group>, String> {
    let size = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > LARGEST {
        return Err(format!("larger than {LARGEST} bytes"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let name = file.to_string_lossy();
    let json = name.to_ascii_lowercase().ends_with(".json");
    let mut groups = listed::read(&text, json, &name)?;
    for group in &mut groups {
        let mut labels = Builder::new(&group.labels);
        labels.set("__meta_filepath", &name);
        group.labels = labels.labels();
    }
    Ok(groups)
}
