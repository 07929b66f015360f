//! A commit of a remote in a directory: everything together.
//!
//! ```text
//! resolve   branch, tag, `HEAD` or id ─► commit                      one request, two
//! check_out fetch of depth 1 ─► pack ─► files ─► submodules, likewise, each from its own remote
//! ```

use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

use crate::{
    Error, Limits,
    checkout::{self, Room},
    id::Id,
    keep,
    modules::{self, Module},
    object::{self, Commit, Kind},
    pack::Pack,
    remote::{Reference, Remote, Ways},
};

/// Submodules within submodules.
const DEEPEST: usize = 16;

/// What a name leads to at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The whole name; none for an id.
    pub reference: Option<String>,
    /// What it leads to: a commit, or an annotated tag.
    pub id: Id,
    /// The commit, where the remote says what an annotated tag leads to.
    pub commit: Option<Id>,
}

impl Resolved {
    /// The commit, as far as it is known without fetching.
    pub fn commit(&self) -> &Id {
        self.commit.as_ref().unwrap_or(&self.id)
    }
}

/// How to check out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only what is in this directory.
    pub subdirectory: String,
    /// Whether `.git` is kept; only without a subdirectory.
    pub keep: bool,
    /// Whether submodules stay empty.
    pub skip_modules: bool,
    /// Whether files have the commit's time instead of the present one.
    pub commit_time: bool,
    /// A directory for packs while they are needed.
    pub scratch: PathBuf,
    /// Bounds.
    pub limits: Limits,
}

/// Finds out what a name leads to, as `git checkout` would: `HEAD` where it is empty, an id as it is, then what has the
/// whole name below `refs/`, then a branch, then a tag.
pub async fn resolve(remote: &Remote, name: &str) -> Result<Resolved, Error> {
    if let Some(id) = Id::parse(name) {
        return Ok(Resolved { reference: None, id, commit: Some(id) });
    }
    if name.is_empty() || name == "HEAD" {
        let found = remote.references(&["HEAD".to_owned()]).await?;
        let head = found.into_iter().find(|reference| reference.name == "HEAD");
        let head = head.ok_or_else(|| Error::NoReference("HEAD".to_owned()))?;
        return Ok(Resolved { reference: head.symbolic, id: head.id, commit: Some(head.id) });
    }
    if name.contains(|c: char| c.is_control() || c.is_whitespace()) || name.starts_with('-') {
        return Err(Error::NoReference(format!("{name:?}")));
    }
    let candidates = [
        format!("refs/{}", name.strip_prefix("refs/").unwrap_or(name)),
        format!("refs/heads/{}", name.strip_prefix("refs/heads/").unwrap_or(name)),
        format!("refs/tags/{}", name.strip_prefix("refs/tags/").unwrap_or(name)),
    ];
    let found = remote.references(&candidates).await?;
    let chosen = candidates.iter().find_map(|name| found.iter().find(|reference| reference.name == *name));
    let Reference { name, id, peeled, .. } = chosen.ok_or_else(|| Error::NoReference(name.to_owned()))?.clone();
    let commit = peeled.or_else(|| name.starts_with("refs/heads/").then_some(id));
    Ok(Resolved { reference: Some(name), id, commit })
}

/// Fetches what was resolved and writes its files into `directory`, which is empty. The id of the commit.
pub async fn check_out(
    remote: Remote,
    resolved: &Resolved,
    directory: &Path,
    options: &Options,
    ways: &Ways,
) -> Result<Id, Error> {
    let mut state = State { room: Room::new(&options.limits), modules: options.limits.modules };
    one(remote, resolved.clone(), directory.to_owned(), options.clone(), ways.clone(), &mut state, 0).await
}

struct State {
    room: Room,
    modules: u32,
}

/// One repository; it calls itself for submodules.
fn one<'a>(
    remote: Remote,
    resolved: Resolved,
    directory: PathBuf,
    options: Options,
    ways: Ways,
    state: &'a mut State,
    depth: usize,
) -> BoxFuture<'a, Result<Id, Error>> {
    Box::pin(async move {
        let path = options.scratch.join(format!("pack-{depth}-{}", state.modules));
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
        // It is needed only as long as it is open.
        std::fs::remove_file(&path)?;
        let mut writer = tokio::fs::File::from_std(file.try_clone()?);
        let fetched = remote.fetch(&[resolved.id], Some(1), &mut writer, &options.limits).await?;
        drop(writer);
        let (url, format) = (remote.url().to_owned(), remote.format);
        let (mut room, place, below) = (state.room, directory.clone(), options.clone());
        let work = tokio::task::spawn_blocking(move || {
            let pack = Pack::read(file, format, below.limits)?;
            let (commit, tree, time) = commit(&pack, resolved.id)?;
            let tree = checkout::subdirectory(&pack, &tree, &below.subdirectory)?;
            let time = below.commit_time.then_some(time);
            let done = checkout::write(&pack, &tree, &place, time, &mut room)?;
            if below.keep {
                let reference = resolved.reference.as_deref().map(|name| (name, resolved.id));
                let kept = keep::Kept { url: &url, reference, commit, shallow: &fetched.shallow };
                keep::write(&pack, &kept, &done, &place)?;
            }
            // Of a subdirectory, submodules are named by the file at the top.
            let mut listed = done.gitmodules;
            if !below.subdirectory.is_empty() {
                listed = listed_above(&pack, commit, &below.subdirectory)?;
            }
            Ok::<_, Error>((commit, url, done.modules, listed, room))
        });
        let (commit, url, found, listed, room) =
            work.await.map_err(|error| Error::Io(std::io::Error::other(error)))??;
        state.room = room;
        if options.skip_modules {
            return Ok(commit);
        }
        if depth == DEEPEST && !found.is_empty() {
            return Err(Error::TooLarge { what: "the depth of submodules", limit: DEEPEST as u64 });
        }
        for (path, id) in found {
            state.modules = state
                .modules
                .checked_sub(1)
                .ok_or(Error::TooLarge { what: "the number of submodules", limit: options.limits.modules.into() })?;
            let module = listed.iter().find(|module| module.path == path);
            let module = module.ok_or_else(|| Error::invalid(format!("no url for submodule {path} in .gitmodules")))?;
            let address = modules::address(&url, &module.url)?;
            if modules::is_secret(&url) && !modules::is_secret(&address) {
                return Err(Error::invalid(format!("submodule {path}: {address} is less safe than {url}")));
            }
            let inner = Remote::open(&address, None, &ways).await?;
            let wanted = Resolved { reference: None, id, commit: Some(id) };
            let options = Options { subdirectory: String::new(), keep: false, ..options.clone() };
            one(inner, wanted, directory.join(&path), options, ways.clone(), state, depth + 1).await?;
        }
        Ok(commit)
    })
}

/// The commit behind an id, tags followed; its tree and time.
fn commit(pack: &Pack, id: Id) -> Result<(Id, Id, i64), Error> {
    let mut at = id;
    for _ in 0..DEEPEST {
        match pack.get(&at)? {
            (Kind::Commit, content) => {
                let commit = Commit::parse(&content)?;
                return Ok((at, commit.tree, commit.time));
            }
            (Kind::Tag, content) => at = object::tagged(&content)?,
            (kind, _) => return Err(Error::invalid(format!("{id} leads to a {}, not to a commit", kind.name()))),
        }
    }
    Err(Error::TooLarge { what: "a chain of tags", limit: DEEPEST as u64 })
}

/// What the `.gitmodules` at the top says of a subdirectory, paths relative to that.
fn listed_above(pack: &Pack, commit: Id, subdirectory: &str) -> Result<Vec<Module>, Error> {
    let commit = Commit::parse(&pack.expect(&commit, Kind::Commit)?)?;
    let content = pack.expect(&commit.tree, Kind::Tree)?;
    let entries = object::tree(&content, commit.tree.format())?;
    let Some(entry) = entries.iter().find(|entry| entry.name == ".gitmodules") else { return Ok(Vec::new()) };
    if !matches!(entry.mode, object::Mode::File { .. }) {
        return Ok(Vec::new());
    }
    let text = pack.expect(&entry.id, Kind::Blob)?;
    if text.len() as u64 > modules::LARGEST {
        return Err(Error::TooLarge { what: ".gitmodules", limit: modules::LARGEST });
    }
    let prefix: Vec<&str> = subdirectory.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let prefix = format!("{}/", prefix.join("/"));
    let listed = modules::parse(&String::from_utf8_lossy(&text)).into_iter();
    Ok(listed
        .filter_map(|module| Some(Module { path: module.path.strip_prefix(&prefix)?.to_owned(), url: module.url }))
        .collect())
}
