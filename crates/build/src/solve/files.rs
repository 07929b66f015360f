//! Steps that put files into a layer: `COPY`, `ADD`, `WORKDIR`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use image::unpack;
use rustix::fs::{Mode, OFlags};

use super::{Done, Failure, Solve, State, Step};
use crate::{
    cache::Noted,
    content,
    copy::{Copier, Target},
    dockerfile::Copy,
    ignore::Ignore,
    key::{Fields, Key},
    mode::ModeChange,
    request::Realm,
    run::databases,
    select::{self, Pick, Wanted},
    source::{self, Fetching, Remote},
    tree::{Root, Tree, overlay},
};

/// Something to copy, found and hashed.
struct Found {
    tree: Arc<Tree>,
    picks: Vec<Pick>,
    /// Whether archives among it are unpacked.
    unpack: bool,
}

/// Numbers of an owner as `--chown` has it: of a user alone, its primary group, or for a number the group of that number.
fn owner(root: &Root, text: &str) -> anyhow::Result<(u32, u32)> {
    let (user, group) = text.split_once(':').map_or((text, ""), |(user, group)| (user, group));
    let databases = databases(root)?;
    let entry = |database: &str, name: &str| {
        database.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then(|| (fields.nth(1).map(str::to_owned), fields.next().map(str::to_owned)))
        })
    };
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u32>().ok());
    let (uid, primary) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) if user.is_empty() => (0, 0),
        Err(_) => {
            let (uid, gid) = entry(&databases.passwd, user)
                .with_context(|| format!("failed to find user {user:?} in the image's /etc/passwd"))?;
            let uid = number(uid).with_context(|| format!("user {user:?} has no number in the image's /etc/passwd"))?;
            (uid, number(gid).unwrap_or(uid))
        }
    };
    let gid = match group.parse::<u32>() {
        Ok(gid) => gid,
        Err(_) if group.is_empty() => primary,
        Err(_) => {
            let (gid, _) = entry(&databases.group, group)
                .with_context(|| format!("failed to find group {group:?} in the image's /etc/group"))?;
            number(gid).with_context(|| format!("group {group:?} has no number in the image's /etc/group"))?
        }
    };
    Ok((uid, gid))
}

/// Whether an owner is numbers alone.
fn is_numeric(text: &str) -> bool {
    text.split(':').all(|part| part.is_empty() || part.parse::<u32>().is_ok())
}

impl Solve<'_> {
    pub(super) async fn directory(
        &self,
        step: &Step<'_>,
        state: State,
        path: &str,
        user: &str,
    ) -> Result<Done, Failure> {
        let mut fields = Fields::new("directory");
        fields.add(&state.key).add(path).add(user);
        let key = fields.finish();
        let _turn = self.inner.cache.turn(&key).await;
        if let Some(found) = self.find(step, &state, &[&key]).await? {
            return Ok((found, true));
        }
        let begun = self.begin(&state, false).await?;
        let (lowers, draft, path, user) =
            (state.lowers(&self.inner.empty), begun.0.clone(), PathBuf::from(path), user.to_owned());
        let stop = self.stop.clone();
        self.blocking(move || {
            let root = Root::new(overlay(&lowers, Some((&draft.upper, &draft.work)))?);
            let owner = if user.is_empty() { None } else { Some(owner(&root, &user)?) };
            let target = Target { destination: "/".into(), owner, ..Target::default() };
            let mut copier = Copier::new(&root, &target, &stop)?;
            let path = root.real_path(&path, true)?;
            copier.make_directories(&path)?;
            copier.finish()
        })
        .await?;
        Ok((self.note(step, state, begun, vec![key]).await?, false))
    }

    /// Blocks a thread of those that many steps share.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let _permit = self.inner.files.acquire().await?;
        self.tracker.spawn_blocking(work).await?
    }

    /// What is copied, without looking at files. None where that says nothing of the contents.
    fn by_name(
        &self,
        fields: &dyn Fn(&str) -> Fields,
        copy: &Copy,
        origins: &BTreeMap<String, Arc<Tree>>,
    ) -> Option<Key> {
        let tree = origins.get(copy.from.as_ref()?)?;
        let mut key = fields("copy by name");
        key.add(tree.identity()?).list(&copy.sources);
        Some(key.finish())
    }

    pub(super) async fn copy(
        &self,
        step: &Step<'_>,
        state: State,
        copy: &Copy,
        add: bool,
        origins: &BTreeMap<String, Arc<Tree>>,
    ) -> Result<Done, Failure> {
        check(copy, add)?;
        let mode = copy.mode.as_deref().map(ModeChange::parse).transpose().map_err(anyhow::Error::msg)?;
        let fields = |kind: &str| {
            let mut fields = Fields::new(kind);
            // With --link the layer does not depend on what is below.
            if !copy.link {
                fields.add(&state.key);
            }
            fields.add(&copy.destination).number(u64::from(add)).number(u64::from(copy.link));
            fields.add(copy.owner.as_deref().unwrap_or_default()).add(copy.mode.as_deref().unwrap_or_default());
            fields.number(u64::from(copy.parents)).list(&copy.exclude);
            fields.number(copy.unpack.map_or(2, u64::from));
            fields.list(copy.inline.iter().flat_map(|file| [&file.name, &file.text]));
            fields
        };
        // What a following step's key is made from must tell what is below, with --link too.
        let chained = |mut state: State, found: &State| {
            let mut next = Fields::new("linked");
            next.add(&state.key).add(&found.key);
            state = found.clone();
            state.key = next.finish();
            state
        };
        let finish = |found: State| if copy.link { chained(state.clone(), &found) } else { found };
        let quick = self.by_name(&fields, copy, origins);
        let _turn = match &quick {
            Some(key) => Some(self.inner.cache.turn(key).await),
            None => None,
        };
        if let Some(key) = &quick
            && let Some(found) = self.find(step, &state, &[key]).await?
        {
            return Ok((finish(found), true));
        }
        let (found, hash) = self.look(copy, add, origins).await?;
        let mut key = fields("copy");
        key.list(&hash);
        let key = key.finish();
        let _second = self.inner.cache.turn(&key).await;
        let keys: Vec<Key> = quick.into_iter().chain([key]).collect();
        if let Some(found) = self.find(step, &state, &keys.iter().collect::<Vec<_>>()).await? {
            return Ok((finish(found), true));
        }
        let begun = self.begin(&state, copy.link).await?;
        let work = Work {
            lowers: if copy.link { None } else { Some(state.lowers(&self.inner.empty)) },
            upper: begun.0.upper.clone(),
            work: begun.0.work.clone(),
            found,
            mode,
            copy: copy.clone(),
            store: self.inner.store().clone(),
            scratch: self.scratch.to_owned(),
            stop: self.stop.clone(),
        };
        self.blocking(move || work.carry_out()).await?;
        let made = self.note(step, state.clone(), begun, keys).await?;
        Ok((finish(made), false))
    }

    /// Finds and hashes what is copied.
    async fn look(
        &self,
        copy: &Copy,
        add: bool,
        origins: &BTreeMap<String, Arc<Tree>>,
    ) -> anyhow::Result<(Vec<Found>, Vec<Key>)> {
        let tree = match &copy.from {
            None => self.context.clone(),
            Some(name) => origins.get(name).with_context(|| format!("--from={name}: not there"))?.clone(),
        };
        let (mut found, mut hashes) = (Vec::new(), Vec::new());
        for word in &copy.sources {
            let remote = add && source::is_remote(word);
            let (tree, source, unpack) = match remote {
                false => (tree.clone(), word.clone(), add && copy.unpack != Some(false)),
                true => {
                    let (tree, source) = self.fetch(copy, word).await?;
                    (tree, source, copy.unpack == Some(true))
                }
            };
            let (memory, stop) = (self.inner.memory.clone(), self.stop.clone());
            let (parents, exclude) = (copy.parents && !remote, copy.exclude.clone());
            let looked = self
                .blocking(move || {
                    let root = tree.open()?;
                    let wanted = Wanted { source: &source, parents, exclude: &exclude };
                    let picks = select::resolve(&tree, &root, wanted)?;
                    let mut hashes = Vec::new();
                    for pick in &picks {
                        hashes.push(content::digest(&memory, &tree, &root, pick, &stop)?);
                    }
                    Ok((Found { tree, picks, unpack }, hashes))
                })
                .await
                .context("failed to compute cache key")?;
            found.push(looked.0);
            hashes.extend(looked.1);
        }
        Ok((found, hashes))
    }

    /// The files of a source that is elsewhere, and what of them is meant.
    async fn fetch(&self, copy: &Copy, word: &str) -> anyhow::Result<(Arc<Tree>, String)> {
        let remote = Remote { text: word.to_owned(), checksum: copy.checksum.clone(), keep_git_dir: copy.keep_git_dir };
        let mut all = self.fetched.lock().await;
        let known = format!("{remote:?}");
        let fetched = match all.get(&known) {
            Some(fetched) => fetched.clone(),
            None => {
                let how = Fetching {
                    directory: self.inner.settings.dir.join("sources"),
                    trust: self.inner.settings.trust,
                    registries: match self.realm {
                        Realm::Machine => self.inner.settings.registries.clone(),
                        Realm::Confined(confined) => confined.registries.clone(),
                    },
                    client: self.client.clone(),
                    abroad: self.realm.is_confined(),
                };
                let fetched = Arc::new(source::fetch(&how, &remote).await?);
                all.insert(known, fetched.clone());
                fetched
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&fetched.directory, flags, Mode::empty())
            .with_context(|| format!("open {}", fetched.directory.display()))?;
        // A name is a name, whatever wildcards it seems to hold.
        let escape = |name: &str| {
            name.chars().flat_map(|c| if "\\*?[".contains(c) { vec!['\\', c] } else { vec![c] }).collect::<String>()
        };
        let source = fetched.file.as_deref().map_or_else(|| "/".to_owned(), escape);
        Ok((Arc::new(Tree::context(directory, Ignore::default(), vec![fetched.clone()])), source))
    }

    /// A stage that begins with the files of a context.
    pub(super) async fn context_as_base(&self, tree: Arc<Tree>) -> anyhow::Result<State> {
        let (memory, stop, source) = (self.inner.memory.clone(), self.stop.clone(), tree.clone());
        let pick = Pick {
            path: PathBuf::from("/"),
            name: Default::default(),
            directory: true,
            include: None,
            exclude: Ignore::default(),
        };
        let picked = pick.clone();
        let hash = self.blocking(move || content::digest(&memory, &source, &source.open()?, &picked, &stop)).await?;
        let mut key = Fields::new("context");
        key.add(hash);
        let key = key.finish();
        let state = State::scratch();
        let _turn = self.inner.cache.turn(&key).await;
        if let Some((record, root, held)) = self.inner.cache.find(&key) {
            return Ok(state.with(record.layer, root, &record, held));
        }
        let (draft, held) = self.begin(&state, true).await?;
        let (upper, stop) = (draft.upper.clone(), self.stop.clone());
        self.blocking(move || {
            let root = Root::new(open_directory(&upper)?);
            let target = Target { destination: "/".into(), ..Target::default() };
            let mut copier = Copier::new(&root, &target, &stop)?;
            copier.copy(&tree, &tree.open()?, &pick)?;
            copier.finish()
        })
        .await?;
        self.inner.store().end_draft(&draft).await?;
        let noted = Noted { next: key.clone(), title: "context", bytes: 0, created: None, found_by: Vec::new() };
        let record = self.inner.cache.note(std::slice::from_ref(&key), draft.number, noted).await?;
        Ok(state.with(draft.number, draft.upper, &record, held))
    }
}

/// What of an instruction contradicts itself.
fn check(copy: &Copy, add: bool) -> anyhow::Result<()> {
    if let Some(owner) = copy.owner.as_ref().filter(|owner| copy.link && !is_numeric(owner)) {
        bail!(
            "--chown={owner}: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead"
        );
    }
    if copy.checksum.is_some() {
        if !add {
            bail!("checksum can't be specified for COPY");
        }
        if copy.sources.len() != 1 {
            bail!("checksum can't be specified for multiple sources");
        }
        if !source::is_remote(&copy.sources[0]) {
            bail!("checksum requires HTTP(S) or Git sources");
        }
    }
    if let Some(remote) = copy.sources.iter().find(|word| !add && source::address::is_web(word)) {
        bail!("source can't be a URL for COPY: {remote}");
    }
    Ok(())
}

fn open_directory(path: &Path) -> anyhow::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

/// The blocking part of a copy.
struct Work {
    /// None for a layer of its own.
    lowers: Option<Vec<PathBuf>>,
    upper: PathBuf,
    work: PathBuf,
    found: Vec<Found>,
    mode: Option<ModeChange>,
    copy: Copy,
    store: image::Store,
    scratch: PathBuf,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Work {
    fn carry_out(self) -> anyhow::Result<()> {
        let root = Root::new(match &self.lowers {
            Some(lowers) => overlay(lowers, Some((&self.upper, &self.work))).context("mount the layers")?,
            None => open_directory(&self.upper)?,
        });
        let owner = self.copy.owner.as_deref().map(|text| owner(&root, text)).transpose()?;
        let target =
            Target { destination: self.copy.destination.clone(), owner, mode: self.mode.clone(), replace: false };
        let unpacked = Target { mode: None, replace: true, ..target.clone() };
        let mut copier = Copier::new(&root, &target, &self.stop)?;
        for found in &self.found {
            let source = found.tree.open()?;
            for pick in &found.picks {
                if found.unpack
                    && !pick.directory
                    && let Some(archive) = self.unpack(&source, pick)?
                {
                    let mut copier = Copier::new(&root, &unpacked, &self.stop)?;
                    let place = root.real_path(Path::new(&unpacked.destination), true)?;
                    copier.make_directories(&place)?;
                    let tree = Tree::layers(vec![archive.path().to_owned()], String::new(), Vec::new());
                    let whole = Pick { path: PathBuf::from("/"), directory: true, include: None, ..pick.clone() };
                    copier.copy(&tree, &tree.open()?, &whole)?;
                    copier.finish()?;
                    continue;
                }
                copier.copy(&found.tree, &source, pick)?;
            }
        }
        for file in &self.copy.inline {
            copier.file(&file.name, file.text.as_bytes())?;
        }
        copier.finish()
    }

    /// What is in an archive; none where it is no archive.
    fn unpack(&self, source: &Root, pick: &Pick) -> anyhow::Result<Option<tempfile::TempDir>> {
        let open = || -> anyhow::Result<File> { Ok(File::from(source.open(&pick.path, OFlags::RDONLY)?)) };
        let mut head = Vec::new();
        open()?.take(512).read_to_end(&mut head)?;
        if !may_be_archive(&head) {
            return Ok(None);
        }
        let directory = tempfile::Builder::new().prefix("archive-").tempdir_in(&self.scratch)?;
        match self.store.unpack_archive(open()?, directory.path()) {
            Ok(_) => Ok(Some(directory)),
            Err(unpack::Error::NotArchive(_)) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("unpack {}", pick.path.display())),
        }
    }
}

/// Whether a file that begins like this may be an archive, plain or compressed: worth a process of its own to find out.
fn may_be_archive(head: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"];
    if magic.iter().any(|magic| head.starts_with(magic)) {
        return true;
    }
    let Some(header) = head.get(..512) else { return false };
    // The checksum of a tar header counts itself as blanks.
    let sum = |byte: &dyn Fn(u8) -> i64| -> i64 {
        header.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { byte(*b) }).sum()
    };
    let written: String = header[148..156].iter().map(|&byte| char::from(byte)).collect();
    let written = i64::from_str_radix(written.trim_matches([' ', '\0']), 8);
    written.is_ok_and(|written| written == sum(&|b| i64::from(b)) || written == sum(&|b| i64::from(b as i8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_or_names_of_the_image() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:\nweb:x:1000:50:::\n").unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nstaff:x:20:\n").unwrap();
        let root = Root::new(open_directory(dir.path()).unwrap());
        for (text, wanted) in [
            ("0", (0, 0)),
            ("55", (55, 55)),
            ("55:7", (55, 7)),
            ("web", (1000, 50)),
            ("web:staff", (1000, 20)),
            ("web:3", (1000, 3)),
            (":staff", (0, 20)),
        ] {
            assert_eq!(owner(&root, text).unwrap(), wanted, "{text}");
        }
        assert!(owner(&root, "nobody").is_err());
        assert!(owner(&root, "web:nobody").is_err());
    }

    #[test]
    fn only_what_looks_like_an_archive_is_looked_into() {
        assert!(!may_be_archive(b"#!/bin/sh\n"));
        assert!(!may_be_archive(&[0; 512]));
        assert!(may_be_archive(b"\x1f\x8b\x08"));
        let mut header = [0_u8; 512];
        header[0] = b'a';
        let sum = u32::from(b'a') + 8 * 32;
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header[155] = b' ';
        assert!(may_be_archive(&header));
    }
}
