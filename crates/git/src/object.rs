//! What objects say: commits, tags, trees.
//!
//! Specification: <https://git-scm.com/book/en/v2/Git-Internals-Git-Objects>.

use crate::{
    Error,
    id::{Format, Id},
};

/// The kinds of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A version of everything.
    Commit,
    /// A directory.
    Tree,
    /// A file.
    Blob,
    /// A name with a message.
    Tag,
}

impl Kind {
    /// Its name in what is hashed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// What is needed of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its directory.
    pub tree: Id,
    /// What it follows.
    pub parents: Vec<Id>,
    /// When it was made: seconds since 1970.
    pub time: i64,
}

/// What is in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A file, executable or not.
    File {
        /// Whether it may be run.
        executable: bool,
    },
    /// A symbolic link; its content is the target.
    Link,
    /// A directory.
    Directory,
    /// A commit of another repository.
    Module,
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is.
    pub mode: Mode,
    /// Its name, checked: no path, no `..`, no `.git`.
    pub name: &'a str,
    /// Its content.
    pub id: Id,
}

fn headers(content: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let lines = content.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(' '))
}

impl Commit {
    /// Reads one.
    pub fn parse(content: &[u8]) -> Result<Self, Error> {
        let mut commit = Self { tree: Id::new(&[0; 20]).expect("20 bytes"), parents: Vec::new(), time: 0 };
        let mut tree = None;
        for (name, value) in headers(content) {
            match name {
                "tree" if tree.is_none() => tree = Id::parse(value),
                "parent" => commit.parents.extend(Id::parse(value)),
                "committer" => {
                    let seconds = value.rsplit(' ').nth(1).and_then(|seconds| seconds.parse().ok());
                    commit.time = seconds.unwrap_or_default();
                }
                _ => {}
            }
        }
        commit.tree = tree.ok_or_else(|| Error::invalid("a commit without a tree"))?;
        Ok(commit)
    }
}

/// What a tag names.
pub fn tagged(content: &[u8]) -> Result<Id, Error> {
    headers(content)
        .find(|(name, _)| *name == "object")
        .and_then(|(_, id)| Id::parse(id))
        .ok_or_else(|| Error::invalid("a tag without an object"))
}

/// The entries of a tree, in its order, which is by name.
pub fn tree(content: &[u8], format: Format) -> Result<Vec<Entry<'_>>, Error> {
    let broken = || Error::invalid("a damaged tree");
    let (mut entries, mut rest) = (Vec::<Entry<'_>>::new(), content);
    while !rest.is_empty() {
        let space = rest.iter().take(8).position(|byte| *byte == b' ').ok_or_else(broken)?;
        let end = rest.iter().position(|byte| *byte == 0).filter(|end| *end > space).ok_or_else(broken)?;
        let (mode, name) = (&rest[..space], &rest[space + 1..end]);
        let raw = rest.get(end + 1..end + 1 + format.length()).ok_or_else(broken)?;
        let mode = match mode {
            b"40000" | b"040000" => Mode::Directory,
            b"120000" => Mode::Link,
            b"160000" => Mode::Module,
            b"100755" => Mode::File { executable: true },
            mode if mode.len() == 6 && mode.starts_with(b"100") => {
                Mode::File { executable: mode[3].wrapping_sub(b'0') & 1 == 1 }
            }
            mode => return Err(Error::invalid(format!("unknown mode {} in a tree", String::from_utf8_lossy(mode)))),
        };
        let name = std::str::from_utf8(name)
            .map_err(|_| Error::invalid(format!("a name that is not UTF-8: {}", String::from_utf8_lossy(name))))?;
        if let Some(why) = refused(name) {
            return Err(Error::invalid(format!("a tree names {name:?}: {why}")));
        }
        let id = Id::new(raw).ok_or_else(broken)?;
        entries.push(Entry { mode, name, id });
        rest = &rest[end + 1 + format.length()..];
    }
    Ok(entries)
}

/// Why a name may not be in a tree.
fn refused(name: &str) -> Option<&'static str> {
    // What HFS+ drops when it compares names.
    let ignored = |c: &char| matches!(*c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let plain: String = name.chars().filter(|c| !ignored(c)).collect::<String>().to_ascii_lowercase();
    let plain = plain.trim_end_matches(['.', ' ']);
    match name {
        "" => Some("a name is not empty"),
        "." | ".." => Some("a name is no path"),
        _ if name.contains('/') => Some("a name is no path"),
        _ if name.len() > 255 => Some("a name has at most 255 bytes"),
        _ if plain == ".git" || plain == "git~1" => Some("the repository itself is not in it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
