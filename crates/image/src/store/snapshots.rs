//! Writable directories of containers, on top of an image's layers.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};

use super::{Store, blocking, files, records::SnapshotRecord};
use crate::image::{Image, Snapshot, Usage};

/// Uses of an image closer together than this are not written down.
const USE_STEP: Duration = Duration::from_secs(60);

impl Store {
    /// Makes the writable directories of a container. `container` is up to 128 of `[A-Za-z0-9_.-]`. Made again for the
    /// same container, it is the same.
    pub async fn snapshot(&self, image: &Image, container: &str) -> anyhow::Result<Snapshot> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if container.is_empty() || container.len() > 128 || !container.bytes().all(named) || container.starts_with('.')
        {
            bail!("snapshot for container {container:?}: not a name for one");
        }
        if let Some(snapshot) = self.find_snapshot(container) {
            return Ok(snapshot);
        }
        let (store, image, container) = (self.clone(), image.clone(), container.to_owned());
        blocking(move || {
            let record = {
                let mut state = store.state();
                let Some(entry) = state.images.get_mut(&image.id) else { bail!("image {} is gone", image.id) };
                let now = SystemTime::now();
                if now.duration_since(entry.used).is_ok_and(|since| since >= USE_STEP) {
                    entry.used = now;
                    let path = store.0.files.root().join(files::IMAGES).join(image.id.hex());
                    // Only the order of garbage collection depends on it.
                    let _ = std::fs::File::open(path).and_then(|file| file.set_modified(now));
                }
                let record = SnapshotRecord { image: image.id.clone(), chains: entry.record.chains.clone() };
                // From here on the layers are in use; taken back below if the directories cannot be made.
                state.snapshots.insert(container.clone(), record.clone());
                record
            };
            let made = store.make_snapshot(&image, &container, &record);
            if made.is_err() {
                store.state().snapshots.remove(&container);
            }
            made.with_context(|| format!("snapshot for container {container}"))
        })
        .await
    }

    fn make_snapshot(&self, image: &Image, container: &str, record: &SnapshotRecord) -> anyhow::Result<Snapshot> {
        let temporary = self.0.files.temporary();
        std::fs::create_dir(&temporary)?;
        let upper = temporary.join("upper");
        std::fs::create_dir(&upper)?;
        std::fs::create_dir(temporary.join("work"))?;
        // The root of an overlay looks like its uppermost directory.
        match image.layers.first() {
            Some(top) => {
                let top = top.metadata()?;
                if rustix::process::geteuid().is_root() {
                    chown(&upper, Some(top.uid()), Some(top.gid()))?;
                }
                std::fs::set_permissions(&upper, PermissionsExt::from_mode(top.mode() & 0o7777))?;
            }
            None => std::fs::set_permissions(&upper, PermissionsExt::from_mode(0o755))?,
        }
        std::fs::write(temporary.join("snapshot.json"), serde_json::to_vec(record)?)?;
        std::fs::rename(&temporary, self.0.files.snapshot(container))?;
        self.find_snapshot(container).context("its layers are gone")
    }

    /// The snapshot of a container, made by this process or one before it.
    pub fn find_snapshot(&self, container: &str) -> Option<Snapshot> {
        let state = self.state();
        let record = state.snapshots.get(container)?;
        let layers = record.chains.iter().rev().map(|chain| state.layers.get(chain));
        let lowers: Option<Vec<_>> =
            layers.map(|layer| layer.map(|layer| self.0.files.layer_root(layer.number))).collect();
        let directory = self.0.files.snapshot(container);
        Some(Snapshot { lowers: lowers?, upper: directory.join("upper"), work: directory.join("work") })
    }

    /// Containers that have a snapshot.
    pub fn snapshots(&self) -> Vec<String> {
        self.state().snapshots.keys().cloned().collect()
    }

    /// Removes a container's directories, which must not be mounted any more. None there is no error.
    pub async fn release(&self, container: &str) -> anyhow::Result<()> {
        let (store, container) = (self.clone(), container.to_owned());
        let orphaned = blocking(move || {
            let Some(record) = store.state().snapshots.remove(&container) else { return Ok(false) };
            store.0.files.discard(&store.0.files.snapshot(&container))?;
            store.0.files.empty_trash();
            Ok(!store.state().images.contains_key(&record.image))
        })
        .await?;
        if orphaned {
            self.sweep_layers().await?;
        }
        Ok(())
    }

    /// Space that a container has written.
    pub async fn snapshot_usage(&self, container: &str) -> anyhow::Result<Usage> {
        let Some(snapshot) = self.find_snapshot(container) else { bail!("container {container} has no snapshot") };
        blocking(move || Ok(Usage::below(&snapshot.upper))).await
    }
}
