//! Getting the layers of an image: fetched, unpacked while they arrive, finished from the lowest up.
//!
//! ```text
//! layer 0   turn ─ fetch+unpack ─ finish ─┐
//! layer 1   turn ─ fetch+unpack ──────────┴ finish ─┐
//! layer 2   turn ─ (already here) ──────────────────┴ done
//! ```
//!
//! Whoever has the turn of a chain id does the work; another pull of the same layer waits and finds it. Finishing needs
//! only lower layers, so that two pulls never wait for each other.

use std::{fs::File, io::Read, os::fd::AsFd, path::PathBuf};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use oci::{Digest, digest::Verifier};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, XattrFlags},
    io::Errno,
};
use tokio::sync::{mpsc, oneshot};

use super::{BlobWriter, Lease, Store, blocking, files, records::LayerRecord, state::Layer};
use crate::{
    pull::{self, fetch::Fetcher},
    unpack::{self, Job, Report},
};

/// Overlayfs's mark for a directory that hides the ones below.
const OPAQUE: &str = "trusted.overlay.opaque";

/// A layer that an image wants.
#[derive(Clone, Debug)]
pub(crate) struct LayerPlan {
    /// Digest as in the manifest.
    pub blob: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Digest of the archive within.
    pub diff_id: Digest,
    /// Chain ids of the layers below, lowest first.
    pub parents: Vec<Digest>,
    /// Its own chain id.
    pub chain: Digest,
}

/// Where blobs come from that are not here.
pub(crate) enum Source<'a> {
    /// Nowhere: they have been stored before.
    Stored,
    /// A registry.
    Registry(&'a Fetcher<'a>),
}

/// What the thread that writes and unpacks gets.
enum Part {
    Data(Bytes),
    /// The blob is complete. Without it, the other side has given up.
    End,
}

/// An unpacked layer that has no number yet. Dropped, it goes to the trash.
struct Staged {
    store: Store,
    directory: PathBuf,
    report: Option<Report>,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Not there any more when it was finished.
        if self.directory.exists() && self.store.0.files.discard(&self.directory).is_ok() {
            self.store.0.files.empty_trash();
        }
    }
}

impl Store {
    /// Makes sure that all these layers (lowest first) and their blobs are here. Held by `lease` from then on.
    pub(crate) async fn ensure_layers(
        &self,
        plans: &[LayerPlan],
        source: &Source<'_>,
        lease: &Lease,
    ) -> Result<(), pull::Error> {
        let mut below: Option<oneshot::Receiver<()>> = None;
        let mut work = Vec::with_capacity(plans.len());
        for plan in plans {
            lease.hold(&plan.chain);
            lease.hold(&plan.blob);
            let (done, next) = oneshot::channel();
            work.push(self.ensure_layer(plan, source, below.replace(next), done));
        }
        futures::future::try_join_all(work).await.map(drop)
    }

    async fn ensure_layer(
        &self,
        plan: &LayerPlan,
        source: &Source<'_>,
        below: Option<oneshot::Receiver<()>>,
        done: oneshot::Sender<()>,
    ) -> Result<(), pull::Error> {
        let chain_turn = self.0.turns.take(format!("layer {}", plan.chain)).await;
        let present = self.state().layers.contains_key(&plan.chain);
        let staged = if present && self.blob(&plan.blob).is_some() {
            None
        } else {
            let _permit = self.0.permits.acquire().await.map_err(|error| anyhow!(error))?;
            let _blob_turn = self.0.turns.take(format!("blob {}", plan.blob)).await;
            let staged = if present { None } else { Some(self.stage().await?) };
            let here = match (self.blob(&plan.blob), source) {
                (None, Source::Registry(fetcher)) => self.link_twin(fetcher.reference(), &plan.blob).await?,
                (here, _) => here,
            };
            match (here, source) {
                (Some(path), _) => self.unpack_stored(plan, path, staged).await?,
                (None, Source::Registry(fetcher)) => self.unpack_fetched(plan, fetcher, staged).await?,
                (None, Source::Stored) => return Err(anyhow!("blob {} is missing", plan.blob).into()),
            }
        };
        if let Some(below) = below {
            // An error there ends all.
            below.await.map_err(|_| anyhow!("a lower layer failed"))?;
        }
        if let Some(staged) = staged {
            self.finish_layer(plan, staged).await?;
        }
        drop(chain_turn);
        let _ = done.send(());
        Ok(())
    }

    async fn stage(&self) -> anyhow::Result<Staged> {
        let store = self.clone();
        blocking(move || {
            let directory = store.0.files.temporary();
            let staged = Staged { directory, report: None, store };
            std::fs::create_dir_all(staged.directory.join("fs")).context("make a layer's directory")?;
            Ok(staged)
        })
        .await
    }

    fn start(&self, staged: &Staged) -> anyhow::Result<Job> {
        Ok(Job::start(&self.0.options.unpacker, &staged.directory.join("fs"), &self.0.options.limits)?)
    }

    async fn unpack_stored(
        &self,
        plan: &LayerPlan,
        blob: PathBuf,
        staged: Option<Staged>,
    ) -> Result<Option<Staged>, pull::Error> {
        let Some(mut staged) = staged else { return Ok(None) };
        let (store, plan) = (self.clone(), plan.clone());
        let work = move || {
            let mut job = store.start(&staged)?;
            let mut file = File::open(&blob).with_context(|| format!("open blob {}", plan.blob))?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let length = file.read(&mut buffer).with_context(|| format!("read blob {}", plan.blob))?;
                if length == 0 || job.is_broken() {
                    break;
                }
                job.feed(&buffer[..length]);
            }
            staged.report = Some(checked(job, &plan)?);
            Ok(staged)
        };
        Ok(Some(blocking(work).await?))
    }

    async fn unpack_fetched(
        &self,
        plan: &LayerPlan,
        fetcher: &Fetcher<'_>,
        staged: Option<Staged>,
    ) -> Result<Option<Staged>, pull::Error> {
        let (sender, mut receiver) = mpsc::channel::<Part>(8);
        let (store, wanted) = (self.clone(), plan.clone());
        let worker = tokio::task::spawn_blocking(move || -> anyhow::Result<Option<Staged>> {
            let verifier = Verifier::new(wanted.blob.clone(), Some(wanted.size));
            let mut writer = BlobWriter::new(&store.0.files, verifier).context("write a blob")?;
            let mut job = staged.as_ref().map(|staged| store.start(staged)).transpose()?;
            loop {
                match receiver.blocking_recv() {
                    Some(Part::Data(bytes)) => {
                        writer.write(&bytes)?;
                        if let Some(job) = &mut job {
                            job.feed(&bytes);
                        }
                    }
                    Some(Part::End) => break,
                    None => return Err(anyhow!("fetching blob {} was given up", wanted.blob)),
                }
            }
            let written = writer.finish()?;
            let report = job.map(|job| checked(job, &wanted)).transpose()?;
            written.publish(&store.0.files, &wanted.blob)?;
            Ok(staged.map(|mut staged| {
                staged.report = report;
                staged
            }))
        });
        let mut stream = fetcher.blob(&plan.blob, plan.size);
        let fetched = loop {
            match stream.chunk().await {
                Ok(Some(bytes)) => {
                    if sender.send(Part::Data(bytes)).await.is_err() {
                        break Ok(());
                    }
                }
                Ok(None) => {
                    let _ = sender.send(Part::End).await;
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        drop(sender);
        let unpacked = worker.await.map_err(|error| anyhow!("unpack {}: {error}", plan.blob))?;
        fetched?;
        Ok(unpacked?)
    }

    /// Gives the layer what depends on those below it, puts it onto the disk and under its number.
    async fn finish_layer(&self, plan: &LayerPlan, staged: Staged) -> anyhow::Result<()> {
        let (store, plan) = (self.clone(), plan.clone());
        blocking(move || {
            let report = staged.report.as_ref().context("a layer without a report")?;
            let files = &store.0.files;
            let parents: Vec<PathBuf> = {
                let state = store.state();
                let numbers = plan.parents.iter().rev().map(|chain| state.layers.get(chain).map(|layer| layer.number));
                let numbers: Option<Vec<u64>> = numbers.collect();
                numbers.context("a lower layer is gone")?.into_iter().map(|number| files.layer_root(number)).collect()
            };
            let root = unpack::open_root(&staged.directory.join("fs"))?;
            mark(&root, report, &parents).with_context(|| format!("finish layer {}", plan.diff_id))?;
            let record = LayerRecord {
                chain: plan.chain.clone(),
                diff_id: plan.diff_id.clone(),
                bytes: report.bytes,
                inodes: report.inodes,
            };
            std::fs::write(staged.directory.join("layer.json"), serde_json::to_vec(&record)?)?;
            store.sync().context("flush layers")?;
            let number = {
                let mut state = store.state();
                state.next_layer += 1;
                state.next_layer - 1
            };
            std::fs::rename(&staged.directory, files.layer(number)).context("name a layer")?;
            files::sync_directory(&files.root().join(files::LAYERS))?;
            store.state().layers.insert(plan.chain.clone(), Layer { number, record });
            Ok(())
        })
        .await
    }
}

/// The report, if the layer is the one that was wanted.
fn checked(job: Job, plan: &LayerPlan) -> anyhow::Result<Report> {
    let report = job.finish().with_context(|| format!("unpack layer {}", plan.blob))?;
    if report.diff_id != plan.diff_id {
        anyhow::bail!(
            "unpack layer {}: its archive has digest {}, the image's configuration says {}",
            plan.blob,
            report.diff_id,
            plan.diff_id
        );
    }
    Ok(report)
}

/// Sets opaque marks, and makes implied directories look like the topmost of `parents` that has them.
fn mark(root: impl AsFd, report: &Report, parents: &[PathBuf]) -> anyhow::Result<()> {
    let root = root.as_fd();
    let open = |path: &[u8]| unpack::resolve(root, path, OFlags::RDONLY | OFlags::DIRECTORY);
    let shown = |path: &[u8]| format!("directory {:?}", String::from_utf8_lossy(path));
    let parents: Vec<_> = parents.iter().map(|parent| unpack::open_root(parent)).collect::<Result<_, _>>()?;
    for path in &report.implied {
        let directory = match open(path) {
            Ok(directory) => directory,
            // Replaced later by something else.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(error).with_context(|| shown(path)),
        };
        let likeness = parents.iter().find_map(|parent| {
            let found = unpack::resolve(parent.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
            let stat = rustix::fs::statat(&found, "", AtFlags::EMPTY_PATH).ok()?;
            Some((parent, stat))
        });
        let (mode, owner) = match &likeness {
            Some((_, stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                (Mode::from_raw_mode(stat.st_mode & 0o7777), Some((stat.st_uid, stat.st_gid)))
            }
            _ => (Mode::from(0o755), None),
        };
        if let Some((uid, gid)) = owner
            && rustix::process::geteuid().is_root()
        {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::fchown(&directory, Some(uid), Some(gid)).with_context(|| shown(path))?;
        }
        rustix::fs::fchmod(&directory, mode).with_context(|| shown(path))?;
    }
    for path in &report.opaque {
        let directory = match open(path) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(error).with_context(|| shown(path)),
        };
        match rustix::fs::fsetxattr(&directory, OPAQUE, b"y", XattrFlags::empty()) {
            Ok(()) => {}
            // Without root there is no overlay mount either.
            Err(Errno::PERM) if !rustix::process::geteuid().is_root() => {}
            Err(error) => return Err(error).with_context(|| format!("mark {} opaque", shown(path))),
        }
    }
    Ok(())
}
