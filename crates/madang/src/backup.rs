//! `madang backup` and `madang restore`.
//!
//! A backup is taken by the role that has the store open, and streamed over `<data-dir>/store/backup.sock`; a restore works on
//! files, while no server runs.

use std::{
    fs,
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use store::Store;
use task::Task;
use tokio::io::AsyncWriteExt;

use crate::{
    config::{Config, Place},
    sockets,
};

fn socket(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("store/backup.sock")
}

/// Answers each connection with a whole backup. One that is cut short does not pass the check at the other end.
pub fn serve(task: &Task, config: &Config, store: Store) -> Result<()> {
    let path = socket(&config.data_dir);
    let listener = sockets::listen_on(&path)?;
    let parent = task.clone();
    task.spawn("backups", async move {
        while let Some(Ok((mut client, _))) = parent.until_cancelled(listener.accept()).await {
            let store = store.clone();
            parent.spawn("backup", async move {
                let done = match store.backup(&mut client).await {
                    Ok(_) => client.shutdown().await.map_err(anyhow::Error::from),
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = done {
                    tracing::warn!(error = format!("{error:#}"), "backup");
                }
            });
        }
    });
    Ok(())
}

/// Write all objects of the running server to one file.
#[derive(Args, Debug)]
pub struct Backup {
    #[command(flatten)]
    place: Place,
    /// The file to write; must not exist
    file: PathBuf,
}

impl Backup {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let path = socket(&self.place.data_dir);
        let mut source = UnixStream::connect(&path).with_context(|| {
            format!(
                "connect to {}: is `madang server` running, with this --data-dir, and are you root?",
                path.display()
            )
        })?;
        let named = || format!("write {}", self.file.display());
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file).with_context(named)?;
        let written = io::copy(&mut source, &mut file).and_then(|bytes| {
            file.flush()?;
            file.sync_all()?;
            Ok(bytes)
        });
        match written.with_context(named) {
            Ok(bytes) => {
                println!("{}: {bytes} bytes", self.file.display());
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_file(&self.file);
                Err(error)
            }
        }
    }
}

/// Make a store from a backup, or from what is readable of a damaged one.
///
/// The server must not run. The present store is kept beside the new one, as `store.before-restore`.
#[derive(Args, Debug)]
pub struct Restore {
    #[command(flatten)]
    place: Place,
    /// A file that `madang backup` wrote; without it, all that is readable of the present store is kept
    file: Option<PathBuf>,
}

impl Restore {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let (store, kept) = (self.place.data_dir.join("store"), self.place.data_dir.join("store.before-restore"));
        let new = self.place.data_dir.join("store.new");
        if kept.exists() {
            bail!("{} is there from an earlier restore: move it away or remove it first", kept.display());
        }
        let lock = fs::File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(self.place.data_dir.join("lock"))
            .with_context(|| format!("open {}", self.place.data_dir.join("lock").display()))?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("the server is running: stop it before restoring");
        }
        if new.exists() {
            fs::remove_dir_all(&new).with_context(|| format!("remove {}", new.display()))?;
        }
        match &self.file {
            Some(file) => {
                let restored = Store::restore(file, &new).with_context(|| format!("restore {}", file.display()))?;
                println!("{} objects restored, up to revision {}", restored.entries, restored.revision);
            }
            None => {
                let salvaged = Store::salvage(&store, &new).with_context(|| format!("read {}", store.display()))?;
                println!("{} objects kept, up to revision {}", salvaged.entries, salvaged.revision);
                for lost in &salvaged.lost {
                    println!("lost: {lost}");
                }
                if salvaged.lost.is_empty() {
                    println!("nothing was lost");
                }
            }
        }
        if store.exists() {
            let owner = fs::metadata(&store)?;
            give_like(&new, &owner)?;
            fs::rename(&store, &kept).with_context(|| format!("keep {}", store.display()))?;
        }
        fs::rename(&new, &store).with_context(|| format!("put {} in place", store.display()))?;
        if kept.exists() {
            println!("the store as it was is kept in {}", kept.display());
        }
        Ok(())
    }
}

/// Gives a directory and its files to the owner of another.
fn give_like(dir: &std::path::Path, owner: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    for path in entries.iter().map(PathBuf::as_path).chain([dir]) {
        chown(path, Some(owner.uid()), Some(owner.gid())).with_context(|| format!("give away {}", path.display()))?;
    }
    Ok(())
}
