//! Sources: a repository of the cluster, or one elsewhere, and commits of it.
//!
//! ```text
//! Source ── resolve(branch, tag, commit) ─► Found ── file ─► a script
//!    │                                        └──── archive ─► pieces of a tar, for a Pod's workspace
//!    └─ a Repository of the run's namespace: asked in this process; anything else: over HTTPS, HTTP or SSH ([`crate::login`])
//! ```
//!
//! A run reads repositories of its own namespace and of no other, by whatever address they are named.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use client::cache::Key;
use git::{
    changes::{self, How},
    clone::{self, Options, Resolved},
    id::Id,
    remote::{Remote, Ways},
};
use tokio::sync::mpsc;

use crate::{
    kind::Spec,
    login::{self, Login},
    operate::Inner,
    repositories::{HOST, Repositories},
    run::changes::Commit,
};

/// Bytes of a piece of an archive.
const PIECE: usize = 64 << 10;

/// A repository.
#[derive(Clone)]
pub struct Source {
    /// Its address.
    pub url: String,
    own: Option<(Key, Repositories)>,
    ways: Ways,
    authorization: Option<String>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({})", self.url)
    }
}

/// A commit of it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its id.
    pub commit: String,
    /// The branch or tag that led there: `refs/heads/main`.
    pub branch: Option<String>,
    resolved: Resolved,
}

/// Where a pipeline's script and sources are; `None` for one that has only a script.
///
/// # Errors
/// The repository or the credentials are not there.
pub(crate) async fn of(inner: &Inner, namespace: &str, spec: &Spec) -> Result<Option<Source>> {
    match (&spec.repository, &spec.git) {
        (Some(repository), _) => Ok(Some(own(inner, Key::new(namespace, &repository.name)).await?)),
        (None, Some(git)) => at(inner, namespace, &git.url, git.credentials_id.as_deref()).await.map(Some),
        (None, None) => Ok(None),
    }
}

async fn own(inner: &Inner, key: Key) -> Result<Source> {
    let (url, exchange) = inner.repositories.exchange(&key).await?;
    let ways = exchange.into();
    Ok(Source { url, own: Some((key, inner.repositories.clone())), ways, authorization: None })
}

/// The repository at an address.
///
/// # Errors
/// It is one of another namespace, or its credentials are not there.
pub(crate) async fn at(inner: &Inner, namespace: &str, url: &str, credentials: Option<&str>) -> Result<Source> {
    if let Some(key) = of_cluster(url, &inner.settings.url) {
        if *key.namespace != *namespace {
            bail!("{url} is of another namespace: a run reads the repositories of its own");
        }
        return own(inner, key).await;
    }
    let Login { authorization, ways } = login::of(&inner.client, namespace, url, credentials).await?;
    Ok(Source { url: url.to_owned(), own: None, ways, authorization })
}

/// The repository of the cluster that an address names.
fn of_cluster(url: &str, console: &str) -> Option<Key> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let (host, path) = rest.split_once('/')?;
    let name = host.split(':').next().unwrap_or(host);
    let within = [HOST, "git.madang-system.svc", "git.madang-system.svc.cluster.local", "git.madang-system"];
    let path = if within.contains(&name) {
        path
    } else if console.split("://").last().map(|own| own.trim_end_matches('/')) == Some(host) {
        path.strip_prefix("git/")?
    } else {
        return None;
    };
    let (namespace, name) = path.trim_end_matches('/').split_once('/')?;
    Some(Key::new(namespace, name.strip_suffix(".git").unwrap_or(name)))
}

impl Source {
    async fn remote(&self) -> Result<Remote> {
        Ok(Remote::open(&self.url, self.authorization.as_deref(), &self.ways).await?)
    }

    /// What a branch, a tag or a commit leads to; the default branch where the name is empty.
    ///
    /// # Errors
    /// It leads nowhere, or the repository cannot be reached.
    pub async fn resolve(&self, name: &str) -> Result<Found> {
        let resolved = clone::resolve(&self.remote().await?, name).await?;
        Ok(Found { commit: resolved.commit().to_string(), branch: resolved.reference.clone(), resolved })
    }

    /// Commits that lead from one to another; none where the server does not tell histories without files.
    ///
    /// # Errors
    /// The repository cannot be reached, or does not have the old commit any more.
    pub async fn changes(&self, old: &str, new: &str, scratch: &Path) -> Result<Vec<Commit>> {
        let (Some(old), Some(new)) = (Id::parse(old), Id::parse(new)) else { return Ok(Vec::new()) };
        if old == new {
            return Ok(Vec::new());
        }
        tokio::fs::create_dir_all(scratch).await.context("make a directory for the history")?;
        let told = changes::between(&self.remote().await?, old, new, scratch).await;
        remove(scratch).await?;
        let kind = |how: How| match how {
            How::Added => "add",
            How::Modified => "edit",
            How::Removed => "delete",
        };
        Ok(told?
            .unwrap_or_default()
            .into_iter()
            .map(|change| Commit {
                id: change.id.to_string(),
                author: change.author,
                email: change.email,
                time: change.time,
                message: change.message,
                paths: change.paths.into_iter().map(|(how, path)| (kind(how).to_owned(), path)).collect(),
            })
            .collect())
    }

    /// A text file of a commit. `scratch` is a directory that need not be there.
    ///
    /// # Errors
    /// It is not there, too long or no text.
    pub async fn file(&self, found: &Found, path: &str, scratch: &Path, most: usize) -> Result<String> {
        let bytes = match &self.own {
            Some((key, repositories)) => repositories.file(key, &found.commit, path, most).await?,
            None => {
                let place = self.check_out(found, scratch, false).await?;
                let file = crate::record::Record::below(&place, path).context("the script's path leads elsewhere")?;
                let read = tokio::task::spawn_blocking(move || match std::fs::symlink_metadata(&file) {
                    Ok(there) if !there.is_file() => Ok(None),
                    Ok(there) if there.len() > most as u64 => Err(std::io::Error::other("it is too long")),
                    Ok(_) => std::fs::read(&file).map(Some),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                });
                let read = read.await?;
                remove(scratch).await?;
                read?
            }
        };
        let bytes = bytes.with_context(|| format!("there is no {path} in {} at {}", self.url, found.commit))?;
        String::from_utf8(bytes).ok().with_context(|| format!("{path} is no UTF-8"))
    }

    /// Files of a commit in a directory below `scratch`.
    async fn check_out(&self, found: &Found, scratch: &Path, keep: bool) -> Result<std::path::PathBuf> {
        remove(scratch).await?;
        let (place, packs) = (scratch.join("files"), scratch.join("packs"));
        for directory in [&place, &packs] {
            tokio::fs::create_dir_all(directory).await.context("make a directory for the sources")?;
        }
        let options = Options { keep, scratch: packs, ..Options::default() };
        clone::check_out(self.remote().await?, &found.resolved, &place, &options, &self.ways).await?;
        Ok(place)
    }

    /// Files of a commit, `.git` with them, as pieces of a tar.
    ///
    /// # Errors
    /// The repository cannot be reached. What goes wrong later ends the pieces early, and is given by the task.
    pub async fn archive(
        &self,
        found: &Found,
        scratch: &Path,
    ) -> Result<(mpsc::Receiver<Bytes>, tokio::task::JoinHandle<std::io::Result<()>>)> {
        let place = self.check_out(found, scratch, true).await?;
        Ok(packed(place))
    }

    /// Files of a commit below one of its directories, without `.git`; likewise.
    ///
    /// # Errors
    /// The repository cannot be reached, or there is no such directory in it.
    pub async fn archive_of(
        &self,
        found: &Found,
        scratch: &Path,
        below: &str,
    ) -> Result<(mpsc::Receiver<Bytes>, tokio::task::JoinHandle<std::io::Result<()>>)> {
        let place = self.check_out(found, scratch, false).await?;
        let below = below.to_owned();
        let place = tokio::task::spawn_blocking(move || inside(&place, &below)).await??;
        Ok(packed(place))
    }
}

/// What is in a directory, as pieces of a tar.
fn packed(place: std::path::PathBuf) -> (mpsc::Receiver<Bytes>, tokio::task::JoinHandle<std::io::Result<()>>) {
    let (sender, pieces) = mpsc::channel(16);
    let task = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Builder::new(Pieces::new(sender));
        archive.follow_symlinks(false);
        archive.append_dir_all("", &place)?;
        let mut pieces = archive.into_inner()?;
        std::io::Write::flush(&mut pieces)
    });
    (pieces, task)
}

/// A directory of a checkout that a script names; links do not lead out of it.
fn inside(place: &Path, below: &str) -> std::io::Result<std::path::PathBuf> {
    let none =
        || std::io::Error::new(std::io::ErrorKind::NotFound, format!("there is no directory {below:?} in the sources"));
    let root = std::fs::canonicalize(place)?;
    let found = if below.trim_matches(['.', '/']).is_empty() && !below.contains("..") {
        root.clone()
    } else {
        let named = crate::record::Record::below(place, below).ok_or_else(none)?;
        std::fs::canonicalize(named).map_err(|_| none())?
    };
    if found.starts_with(&root) && found.is_dir() { Ok(found) } else { Err(none()) }
}

/// Removes a directory, if it is there.
pub(crate) async fn remove(place: &Path) -> Result<()> {
    match tokio::fs::remove_dir_all(place).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Bytes that are written, as pieces.
pub(crate) struct Pieces {
    sender: mpsc::Sender<Bytes>,
    filled: Vec<u8>,
}

impl Pieces {
    /// To whoever takes them.
    pub fn new(sender: mpsc::Sender<Bytes>) -> Self {
        Self { sender, filled: Vec::with_capacity(PIECE) }
    }
}

impl Drop for Pieces {
    /// The last piece; who has gone misses nothing.
    fn drop(&mut self) {
        let _ = std::io::Write::flush(self);
    }
}

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.filled.extend_from_slice(bytes);
        if self.filled.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.filled.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.filled, Vec::with_capacity(PIECE));
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.sender.blocking_send(piece.into()).map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_the_sources_is_one_within_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("files/a/b")).unwrap();
        std::fs::create_dir_all(dir.path().join("other")).unwrap();
        std::os::unix::fs::symlink("../other", dir.path().join("files/out")).unwrap();
        let place = dir.path().join("files");
        let root = std::fs::canonicalize(&place).unwrap();
        for (below, expected) in
            [("", Some("")), (".", Some("")), ("./", Some("")), ("a/b", Some("a/b")), ("./a/", Some("a"))]
        {
            assert_eq!(
                inside(&place, below).ok(),
                expected.map(|rest| root.join(rest)).map(|path| path.components().collect()),
                "{below}"
            );
        }
        for below in ["out", "..", "../other", "/etc", "a/../..", "none"] {
            assert!(inside(&place, below).is_err(), "{below}");
        }
    }

    #[test]
    fn addresses_of_the_cluster_are_known() {
        for (url, found) in [
            ("https://git.madang.internal/shop/shop.git", Some("shop/shop")),
            ("http://git.madang-system.svc/shop/shop", Some("shop/shop")),
            ("http://me:token@127.0.0.1:3000/git/shop/shop.git", Some("shop/shop")),
            ("http://127.0.0.1:3000/other/shop/shop.git", None),
            ("http://127.0.0.1:4000/git/shop/shop.git", None),
            ("https://example.org/git.madang.internal/shop.git", None),
            ("ssh://git.madang.internal/a/b", None),
        ] {
            assert_eq!(of_cluster(url, "http://127.0.0.1:3000").map(|key| key.to_string()).as_deref(), found, "{url}");
        }
    }
}
