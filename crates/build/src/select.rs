//! What a `COPY` or `ADD` takes: from words with wildcards to paths, and a walk over what is there.
//!
//! ```text
//! word ─ resolve ─► Picks ─ walk ─► entries: hashed for the cache's key, copied into a layer
//! ```
//!
//! Wildcards are Go's `filepath.Match`, as in BuildKit: each stays within one name. `--exclude` and `--parents` take patterns as
//! `.dockerignore` has them. <https://docs.docker.com/reference/dockerfile/#copy---parents>

use std::{
    ffi::{CStr, OsStr, OsString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use crate::{
    ignore::Ignore,
    path::clean,
    tree::{self, Root, Tree},
};

/// How deep directories may stand in one another: as many are open at a time.
const DEEPEST: usize = 512;
/// The most entries of one instruction.
const MOST: u64 = 10_000_000;

/// One thing to take.
#[derive(Clone, Debug)]
pub struct Pick {
    /// Where it is, from the root, without links.
    pub path: PathBuf,
    /// The name that it has in a directory that it is put into.
    pub name: OsString,
    /// Whether it is a directory, of which the contents are meant.
    pub directory: bool,
    /// Only what these patterns match, below it.
    pub include: Option<Ignore>,
    /// Nothing that these patterns match, below it.
    pub exclude: Ignore,
}

/// Something found on a walk.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Its path below the pick; empty for the pick itself.
    pub path: &'a Path,
    /// Its status, owners as they count.
    pub status: Stat,
    /// The directory it is in.
    pub parent: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a CStr,
    /// Whether it is there only because something below it is taken.
    pub implied: bool,
}

impl Entry<'_> {
    /// Its kind.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.status.st_mode)
    }

    /// Opens a regular file for reading.
    pub fn open(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOATIME;
        match rustix::fs::openat(self.parent, self.name, flags, Mode::empty()) {
            // Only for the owner and for who may act as the owner.
            Err(rustix::io::Errno::PERM) => {
                rustix::fs::openat(self.parent, self.name, flags.difference(OFlags::NOATIME), Mode::empty())
            }
            other => other,
        }
    }
}

/// What is to be taken from a word.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The word.
    pub source: &'a str,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: &'a [String],
}

/// Finds what a word means. A word with wildcards may mean nothing; one without must be there.
pub fn resolve(tree: &Tree, root: &Root, wanted: Wanted<'_>) -> anyhow::Result<Vec<Pick>> {
    let exclude = Ignore::of(wanted.exclude.iter().map(String::as_str)).context("--exclude")?;
    let (place, include) = if wanted.parents {
        let (place, pattern) = match wanted.source.split_once("/./") {
            Some((place, pattern)) => (place, pattern),
            None => match wanted.source.strip_prefix("./") {
                Some(pattern) => ("/", pattern),
                None => ("/", wanted.source),
            },
        };
        let pattern = clean(pattern);
        if !has_wildcard(place) && !has_wildcard(&pattern) {
            let required = Path::new("/").join(place.trim_start_matches('/')).join(&pattern);
            find(tree, root, &required)?;
        }
        let include = if pattern.is_empty() { None } else { Some(pattern) };
        (place, include.map(|pattern| Ignore::of([pattern.as_str()])).transpose().context("--parents")?)
    } else {
        (wanted.source, None)
    };
    let clean = clean(place);
    let mut picks = Vec::new();
    for (path, name) in matching(tree, root, &clean)? {
        // A link is what it leads to, as long as that is within.
        let (real, status) = find(tree, root, &path)?;
        let directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        if !directory && exclude.ignores(&name.to_string_lossy()) {
            continue;
        }
        picks.push(Pick { path: real, name, directory, include: include.clone(), exclude: exclude.clone() });
    }
    Ok(picks)
}

/// The path and status of something that counts.
fn find(tree: &Tree, root: &Root, path: &Path) -> anyhow::Result<(PathBuf, Stat)> {
    let shown = || path.display().to_string();
    let real = root.real_path(path, true).with_context(shown)?;
    let status = root.status(&real, false).with_context(shown)?;
    let Some(status) = status else { bail!("{:?}: not found", shown()) };
    let relative = real.strip_prefix("/").unwrap_or(&real);
    let directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    if !relative.as_os_str().is_empty()
        && tree.ignore.ignores(&relative.to_string_lossy())
        && !(directory && tree.ignore.takes_back())
    {
        bail!("{:?}: not found: a pattern of the .dockerignore file excludes it", shown());
    }
    Ok((real, status))
}

/// Whether a word holds a wildcard that is not escaped.
pub fn has_wildcard(text: &str) -> bool {
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// The paths that a clean word means, with the name of each, in order.
fn matching(tree: &Tree, root: &Root, word: &str) -> anyhow::Result<Vec<(PathBuf, OsString)>> {
    let all: Vec<&str> = word.split('/').filter(|part| !part.is_empty()).collect();
    let plain = all.iter().position(|part| has_wildcard(part)).unwrap_or(all.len());
    let begin: PathBuf = std::iter::once("/").chain(all[..plain].iter().copied()).collect();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    if plain == all.len() {
        let name = name(&begin);
        return Ok(vec![(begin, name)]);
    }
    // Links on the way are followed, links that a wildcard meets are not.
    let begin = root.real_path(&begin, true).with_context(|| format!("{word:?}"))?;
    let mut found = vec![begin];
    for pattern in &all[plain..] {
        let glob = Glob::parse(pattern).with_context(|| format!("{word:?}: syntax error in pattern"))?;
        let mut next = Vec::new();
        for path in found {
            let directory = root.status(&path, false)?;
            if !directory.is_some_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory) {
                continue;
            }
            for name in root.names(&path)? {
                let name = OsStr::from_bytes(name.to_bytes());
                if glob.matches(&name.to_string_lossy()) {
                    next.push(path.join(name));
                }
            }
        }
        found = next;
    }
    let counts = |path: &PathBuf| {
        let relative = path.strip_prefix("/").unwrap_or(path).to_string_lossy();
        !tree.ignore.ignores(&relative) || tree.ignore.takes_back()
    };
    Ok(found.into_iter().filter(counts).map(|path| (path.clone(), name(&path))).collect())
}

/// One name's pattern.
struct Glob(Vec<Token>);

enum Token {
    Just(char),
    AnyOne,
    Any,
    Class { other: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    fn parse(text: &str) -> Option<Self> {
        let (mut tokens, mut rest) = (Vec::new(), text.chars().peekable());
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::AnyOne,
                '\\' => Token::Just(rest.next()?),
                '[' => {
                    let other = rest.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        let mut from = rest.next()?;
                        if from == ']' && !ranges.is_empty() {
                            break;
                        }
                        if from == '\\' {
                            from = rest.next()?;
                        }
                        let mut to = from;
                        if rest.next_if_eq(&'-').is_some() {
                            to = rest.next()?;
                            if to == '\\' {
                                to = rest.next()?;
                            }
                        }
                        ranges.push((from, to));
                    }
                    Token::Class { other, ranges }
                }
                c => Token::Just(c),
            });
        }
        Some(Self(tokens))
    }

    /// Time is the product of both lengths: places reached are a set.
    fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let mut reached = vec![false; name.len() + 1];
        reached[0] = true;
        for token in &self.0 {
            let mut next = vec![false; name.len() + 1];
            let mut before = false;
            for at in 0..=name.len() {
                before |= reached[at];
                next[at] = match token {
                    Token::Any => before,
                    _ if at == 0 => false,
                    Token::AnyOne => reached[at - 1],
                    Token::Just(c) => reached[at - 1] && name[at - 1] == *c,
                    Token::Class { other, ranges } => {
                        let within = ranges.iter().any(|(from, to)| (*from..=*to).contains(&name[at - 1]));
                        reached[at - 1] && within != *other
                    }
                };
            }
            reached = next;
        }
        reached.last() == Some(&true)
    }
}

/// Walks over what is picked, in the order of names, a directory before what is in it.
pub fn walk(
    tree: &Tree,
    root: &Root,
    pick: &Pick,
    stop: &AtomicBool,
    visit: &mut dyn FnMut(&Entry<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut walk = Walk { tree, pick, stop, visit, pending: Vec::new(), seen: 0 };
    let parent = pick.path.parent().unwrap_or(Path::new("/"));
    let opened = root.open(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let name = match pick.path.file_name() {
        Some(name) => std::ffi::CString::new(name.as_bytes())?,
        None => c".".to_owned(),
    };
    let full = pick.path.strip_prefix("/").unwrap_or(&pick.path).to_owned();
    walk.entry(opened.as_fd(), &name, PathBuf::new(), full, 0)
}

struct Walk<'a> {
    tree: &'a Tree,
    pick: &'a Pick,
    stop: &'a AtomicBool,
    visit: &'a mut dyn FnMut(&Entry<'_>) -> anyhow::Result<()>,
    /// Directories above that were not taken so far.
    pending: Vec<(OwnedFd, std::ffi::CString, PathBuf, Stat)>,
    seen: u64,
}

impl Walk<'_> {
    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: PathBuf,
        full: PathBuf,
        depth: usize,
    ) -> anyhow::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            bail!("canceled");
        }
        self.seen += 1;
        if depth > DEEPEST {
            bail!("{}: directories stand more than {DEEPEST} deep", full.display());
        }
        if self.seen > MOST {
            bail!("{}: more than {MOST} files", self.pick.path.display());
        }
        let top = path.as_os_str().is_empty();
        let relative = path.to_string_lossy();
        let included = top || self.pick.include.as_ref().is_none_or(|include| include.ignores(&relative));
        let included = included && !(top && self.pick.include.is_some() && self.pick.directory);
        let excluded = !top && self.pick.exclude.ignores(&relative);
        let ignored = !full.as_os_str().is_empty() && self.tree.ignore.ignores(&full.to_string_lossy());
        let taken = included && !excluded && !ignored;
        let below = (!excluded || self.pick.exclude.takes_back())
            && (!ignored || self.tree.ignore.takes_back())
            && (taken || self.pick.include.is_some() || excluded || ignored);
        if !taken && !below {
            return Ok(());
        }
        let mut status = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            // Gone while we look; what was asked for by name was found before.
            Err(rustix::io::Errno::NOENT) if !top => return Ok(()),
            Err(error) => return Err(error).with_context(|| full.display().to_string()),
        };
        if self.tree.is_context() {
            (status.st_uid, status.st_gid) = (0, 0);
        }
        let directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        if taken {
            for (parent, name, path, status) in std::mem::take(&mut self.pending) {
                let entry = Entry { path: &path, status, parent: parent.as_fd(), name: &name, implied: true };
                (self.visit)(&entry)?;
            }
            let entry = Entry { path: &path, status, parent, name, implied: false };
            (self.visit)(&entry).with_context(|| format!("/{}", full.display()))?;
        }
        if !directory || !below {
            return Ok(());
        }
        let pending = self.pending.len();
        if !taken {
            self.pending.push((rustix::io::fcntl_dupfd_cloexec(parent, 3)?, name.to_owned(), path.clone(), status));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty())
            .with_context(|| format!("open /{}", full.display()))?;
        for name in tree::names(&opened)? {
            let part = OsStr::from_bytes(name.to_bytes());
            self.entry(opened.as_fd(), &name, path.join(part), full.join(part), depth + 1)?;
        }
        self.pending.truncate(pending);
        Ok(())
    }
}

/// Extended attributes that are copied: capabilities of programs and those of users. In the order of their names.
pub fn attributes(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    use std::os::fd::AsRawFd as _;
    // The calls for attributes know no directories; a descriptor's link in /proc stands for one.
    let path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    let path = OsString::from_vec([path.as_slice(), name.to_bytes()].concat());
    let mut names = vec![0; 4096];
    let length = loop {
        match rustix::fs::llistxattr(&path, &mut names[..]) {
            Ok(length) => break length,
            Err(rustix::io::Errno::RANGE) if names.len() < 1 << 16 => names.resize(1 << 16, 0),
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if name != b"security.capability" && !name.starts_with(b"user.") {
            continue;
        }
        let mut value = vec![0; 1 << 16];
        match rustix::fs::lgetxattr(&path, OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(rustix::io::Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        found.push((OsStr::from_bytes(name).to_owned(), value));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
