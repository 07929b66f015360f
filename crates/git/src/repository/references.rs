//! References: names and what they lead to.
//!
//! Specification: <https://git-scm.com/docs/git-check-ref-format>, <https://git-scm.com/docs/git-pack-refs>.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::{Reader, replace};
use crate::{Error, id::Id, object::Kind};

/// References that a repository may have.
const MOST: usize = 1_000_000;
/// How deep folders of loose references may lie.
const DEEPEST: usize = 32;

/// What a reference leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// An object.
    pub id: Id,
    /// What an annotated tag leads to.
    pub peeled: Option<Id>,
}

/// A change of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Its whole name.
    pub name: String,
    /// What it led to as the client saw it; none where it was not there.
    pub old: Option<Id>,
    /// What it leads to now; none where it goes.
    pub new: Option<Id>,
}

/// All references of a repository.
#[derive(Clone, Debug, Default)]
pub struct References {
    head: String,
    named: BTreeMap<String, Target>,
}

impl References {
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let head = fs::read_to_string(path.join("HEAD"))?;
        let head = head.trim().strip_prefix("ref: ").unwrap_or("refs/heads/main").trim().to_owned();
        let mut references = Self { head, named: BTreeMap::new() };
        match fs::read_to_string(path.join("packed-refs")) {
            Ok(text) => references.packed(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        references.loose(path, "refs", 0)?;
        Ok(references)
    }

    fn packed(&mut self, text: &str) -> Result<(), Error> {
        let mut last: Option<String> = None;
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let broken = || Error::invalid(format!("packed-refs has a line that is none: {line:?}"));
            if let Some(peeled) = line.strip_prefix('^') {
                let target = last.as_ref().and_then(|name| self.named.get_mut(name)).ok_or_else(broken)?;
                target.peeled = Some(Id::parse(peeled).ok_or_else(broken)?);
                continue;
            }
            let (id, name) = line.split_once(' ').ok_or_else(broken)?;
            let id = Id::parse(id).ok_or_else(broken)?;
            self.named.insert(name.to_owned(), Target { id, peeled: None });
            last = Some(name.to_owned());
        }
        Ok(())
    }

    /// Those in files of their own, as a repository that was copied here has them. They win.
    fn loose(&mut self, path: &Path, below: &str, depth: usize) -> Result<(), Error> {
        let entries = match fs::read_dir(path.join(below)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{below}/{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < DEEPEST {
                self.loose(path, &name, depth + 1)?;
            } else if kind.is_file() && valid_name(&name) {
                let text = fs::read_to_string(entry.path())?;
                if let Some(id) = Id::parse(text.trim()) {
                    self.named.insert(name, Target { id, peeled: None });
                }
            }
        }
        Ok(())
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let mut text = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
        for (name, target) in &self.named {
            text += &format!("{} {name}\n", target.id);
            if let Some(peeled) = target.peeled {
                text += &format!("^{peeled}\n");
            }
        }
        replace(&path.join("packed-refs"), text.as_bytes())?;
        // From here on the file has them all; those that lay beside it would win when it is read again.
        for below in ["heads", "tags", "notes", "remotes"] {
            match fs::remove_dir_all(path.join("refs").join(below)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        // `git` takes a directory without it for no repository.
        fs::create_dir_all(path.join("refs/heads"))
    }

    /// The branch that a clone checks out, whole: it need not be there yet.
    pub fn head(&self) -> &str {
        &self.head
    }

    pub(super) fn set_head(&mut self, name: String) -> Result<(), Error> {
        if !valid_name(&name) {
            return Err(Error::invalid(format!("{name:?} is no name of a branch")));
        }
        self.head = name;
        Ok(())
    }

    /// What a name leads to.
    pub fn get(&self, name: &str) -> Option<Target> {
        self.named.get(name).copied()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Target)> {
        self.named.iter().map(|(name, target)| (name.as_str(), *target))
    }

    /// Makes one change, or says why not, in words that `git push` shows.
    pub(super) fn apply(&mut self, update: &Update, reader: &mut Reader) -> Result<Result<(), String>, Error> {
        if !valid_name(&update.name) || !update.name.starts_with("refs/") {
            return Ok(Err("funny refname".to_owned()));
        }
        if self.named.get(&update.name).map(|target| target.id) != update.old {
            return Ok(Err("fetch first: the reference was changed meanwhile".to_owned()));
        }
        let Some(new) = update.new else {
            if update.name == self.head {
                return Ok(Err("deletion of the current branch prohibited".to_owned()));
            }
            return Ok(match self.named.remove(&update.name) {
                Some(_) => Ok(()),
                None => Err("there is no such reference".to_owned()),
            });
        };
        let Some(kind) = reader.kind(&new)? else {
            return Ok(Err(format!("missing necessary objects: {new}")));
        };
        if update.name.starts_with("refs/heads/") && kind != Kind::Commit {
            return Ok(Err(format!("a branch leads to a commit, not to a {}", kind.name())));
        }
        if let Some(other) = self.in_the_way(&update.name) {
            return Ok(Err(format!("there is {other} already, which is a folder of this or the other way round")));
        }
        if self.named.len() >= MOST && !self.named.contains_key(&update.name) {
            return Ok(Err(format!("there are {MOST} references already")));
        }
        let peeled = if kind == Kind::Tag { Some(reader.peel(&new)?) } else { None };
        self.named.insert(update.name.clone(), Target { id: new, peeled });
        Ok(Ok(()))
    }

    /// `a/b` and `a` are not both names: they would be a file and a folder.
    fn in_the_way(&self, name: &str) -> Option<String> {
        let above = name.match_indices('/').map(|(at, _)| &name[..at]).find(|above| self.named.contains_key(*above));
        let below = || {
            let folder = format!("{name}/");
            let next = self.named.range(folder.clone()..).next().map(|(name, _)| name);
            next.filter(|name| name.starts_with(&folder)).cloned()
        };
        above.map(str::to_owned).or_else(below)
    }
}

/// Whether this may be the name of a reference.
pub fn valid_name(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let refused = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    name.len() <= 1024
        && name.contains('/')
        && name.split('/').all(part)
        && !name.contains(refused)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
}
