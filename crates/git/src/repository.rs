//! A bare repository on disk, in the layout that `git` itself uses: copied in or out, it is a repository.
//!
//! ```text
//! HEAD          the branch that a clone checks out
//! packed-refs   all references; one file, replaced as a whole, so that a push happens or does not
//! objects/pack  pack and index by the pack's hash; whole and closed: what an object names is there too
//! ```
//!
//! A push is on disk before it is answered: pack and index are synced, then renamed, then the references are. What was
//! interrupted leaves files named `tmp-*`, which opening removes.
//!
//! Specification: <https://git-scm.com/docs/gitrepository-layout>.

mod read;
mod references;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
};

pub(crate) use read::Place;
pub use read::Reader;
pub use references::{References, Target, Update, valid_name};

use crate::{
    Error, Limits,
    id::{Format, Id},
    pack::{self, Pack, stored::Stored},
};

/// A repository that is served.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
    format: Format,
    limits: Limits,
    packs: RwLock<Arc<Vec<Arc<Stored>>>>,
    references: RwLock<Arc<References>>,
    /// Held by who changes something.
    writer: Mutex<()>,
}

/// Packs beyond which they are made one.
const MOST_PACKS: usize = 24;

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Replaces a file, so that it is the old one or the new one whatever happens.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().expect("files have a directory");
    let mut new = tempfile::Builder::new().prefix("tmp-").tempfile_in(directory)?;
    new.write_all(content)?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    sync_directory(directory)
}

impl Repository {
    /// Makes an empty repository whose clones check out `branch`. Where there is one already nothing changes. Blocks.
    pub fn create(path: &Path, branch: &str, format: Format) -> Result<(), Error> {
        if path.join("HEAD").exists() {
            return Ok(());
        }
        fs::create_dir_all(path.join("objects/pack"))?;
        fs::create_dir_all(path.join("refs/heads"))?;
        let (version, extension) = match format {
            Format::Sha1 => (0, ""),
            Format::Sha256 => (1, "[extensions]\n\tobjectformat = sha256\n"),
        };
        let config =
            format!("[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n{extension}");
        replace(&path.join("config"), config.as_bytes())?;
        // Last: it is what makes this a repository.
        replace(&path.join("HEAD"), format!("ref: refs/heads/{branch}\n").as_bytes())?;
        Ok(())
    }

    /// Opens one. Blocks.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, Error> {
        let config = fs::read_to_string(path.join("config"))?;
        let format = match config.lines().filter_map(|line| line.trim().strip_prefix("objectformat")).next_back() {
            None => Format::Sha1,
            Some(value) => Format::parse(value.trim_start_matches([' ', '=', '\t']).trim())
                .ok_or_else(|| Error::invalid(format!("{}: unknown object format", path.display())))?,
        };
        let folder = path.join("objects/pack");
        let mut packs = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let place = entry?.path();
            let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("tmp-") {
                fs::remove_file(&place)?;
            } else if name.ends_with(".idx") {
                packs.push(Arc::new(Stored::open(&place, format)?));
            }
        }
        // Large ones first: most objects are found there.
        packs.sort_by_key(|pack| std::cmp::Reverse(pack.count()));
        let references = References::load(path)?;
        Ok(Self {
            path: path.to_owned(),
            format,
            limits,
            packs: RwLock::new(Arc::new(packs)),
            references: RwLock::new(Arc::new(references)),
            writer: Mutex::default(),
        })
    }

    /// The hash that names its objects.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bounds of what it takes.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes of its packs.
    pub fn size(&self) -> u64 {
        self.packs.read().expect("packs lock").iter().map(|pack| pack.length()).sum()
    }

    /// References as they are now.
    pub fn references(&self) -> Arc<References> {
        self.references.read().expect("references lock").clone()
    }

    /// Objects as they are now; what comes later is not seen.
    pub fn reader(&self) -> Reader {
        Reader::new(self.packs.read().expect("packs lock").clone(), self.format, self.limits.object)
    }

    /// A file in which a pack can be taken in; it is gone when it is dropped.
    pub fn incoming(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new().prefix("tmp-").tempfile_in(self.path.join("objects/pack"))
    }

    /// Keeps a pack that came in: everything that its objects name must be in it or here. Blocks.
    pub fn keep(&self, file: tempfile::NamedTempFile) -> Result<(), Error> {
        let pack = Pack::read(file.reopen()?, self.format, self.limits)?;
        if pack.is_empty() {
            return Ok(());
        }
        if self.size() + file.as_file().metadata()?.len() > self.limits.repository {
            return Err(Error::TooLarge { what: "the repository", limit: self.limits.repository });
        }
        self.reader().closed(&pack)?;
        let _writer = self.writer.lock().expect("writer lock");
        let stored = self.publish(file, &pack)?;
        let mut packs = Vec::clone(&self.packs.read().expect("packs lock"));
        packs.push(stored);
        *self.packs.write().expect("packs lock") = Arc::new(packs);
        Ok(())
    }

    /// Index beside pack, both on disk, under their names.
    fn publish(&self, file: tempfile::NamedTempFile, pack: &Pack) -> Result<Arc<Stored>, Error> {
        let folder = self.path.join("objects/pack");
        let index = tempfile::Builder::new().prefix("tmp-").tempfile_in(&folder)?;
        let mut writer = BufWriter::new(index.as_file());
        pack::write_index(pack, &mut writer)?;
        writer.flush()?;
        drop(writer);
        file.as_file().sync_all()?;
        index.as_file().sync_all()?;
        let name = folder.join(format!("pack-{}", pack.trailer()));
        file.persist(name.with_extension("pack")).map_err(|error| error.error)?;
        // Last: a pack is there when its index is.
        index.persist(name.with_extension("idx")).map_err(|error| error.error)?;
        sync_directory(&folder)?;
        Ok(Arc::new(Stored::open(&name.with_extension("idx"), self.format)?))
    }

    /// Changes references. With `atomic` all of them or none; else each that can be. What became of each, in order. Blocks.
    pub fn update(&self, updates: &[Update], atomic: bool) -> Result<Vec<Result<(), String>>, Error> {
        let _writer = self.writer.lock().expect("writer lock");
        let mut reader = self.reader();
        let mut references = References::clone(&self.references());
        let mut done = Vec::with_capacity(updates.len());
        for update in updates {
            done.push(references.apply(update, &mut reader)?);
        }
        if atomic && done.iter().any(Result::is_err) {
            for each in done.iter_mut().filter(|each| each.is_ok()) {
                *each = Err("atomic push failed: another reference was refused".to_owned());
            }
            return Ok(done);
        }
        if done.iter().any(Result::is_ok) {
            references.save(&self.path)?;
            // Clones check out the first branch that was pushed, where the one that was meant never came.
            if references.get(references.head()).is_none()
                && let Some(branch) = updates
                    .iter()
                    .find(|update| update.name.starts_with("refs/heads/") && references.get(&update.name).is_some())
            {
                references.set_head(branch.name.clone())?;
                replace(&self.path.join("HEAD"), format!("ref: {}\n", branch.name).as_bytes())?;
            }
            *self.references.write().expect("references lock") = Arc::new(references);
        }
        Ok(done)
    }

    /// Names the branch that clones check out. Blocks.
    pub fn set_head(&self, branch: &str) -> Result<(), Error> {
        let _writer = self.writer.lock().expect("writer lock");
        let mut references = References::clone(&self.references());
        references.set_head(format!("refs/heads/{branch}"))?;
        replace(&self.path.join("HEAD"), format!("ref: refs/heads/{branch}\n").as_bytes())?;
        *self.references.write().expect("references lock") = Arc::new(references);
        Ok(())
    }

    /// Whether there are so many packs that [`Repository::repack`] is due.
    pub fn scattered(&self) -> bool {
        self.packs.read().expect("packs lock").len() > MOST_PACKS
    }

    /// Makes one pack of all. Objects that nothing leads to any more stay: runs name commits that were pushed away. Blocks.
    pub fn repack(&self) -> Result<(), Error> {
        let _writer = self.writer.lock().expect("writer lock");
        let before = self.packs.read().expect("packs lock").clone();
        let mut ids = std::collections::HashSet::new();
        for pack in before.iter() {
            pack.each(|id| {
                ids.insert(id);
            })?;
        }
        let file = self.incoming()?;
        let mut out = BufWriter::with_capacity(256 << 10, file.as_file());
        pack::output::write(&mut self.reader(), ids.into_iter().collect(), true, &mut |piece| {
            Ok(out.write_all(piece)?)
        })?;
        out.flush()?;
        drop(out);
        let pack = Pack::read(file.reopen()?, self.format, self.limits)?;
        let name = format!("pack-{}", pack.trailer());
        let stored = self.publish(file, &pack)?;
        *self.packs.write().expect("packs lock") = Arc::new(vec![stored]);
        // Whoever reads the old ones has them open.
        for entry in fs::read_dir(self.path.join("objects/pack"))? {
            let place = entry?.path();
            let stem = place.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if stem.starts_with("pack-") && stem != name {
                fs::remove_file(&place)?;
            }
        }
        Ok(sync_directory(&self.path.join("objects/pack"))?)
    }

    /// Whether there is such an object.
    pub fn has(&self, id: &Id) -> Result<bool, Error> {
        self.reader().has(id)
    }
}

#[cfg(test)]
mod tests;
