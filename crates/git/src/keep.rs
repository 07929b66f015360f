//! `.git` beside the files of a checkout, so that other tools see a shallow clone with nothing changed.
//!
//! Specification: <https://git-scm.com/docs/gitrepository-layout>, <https://git-scm.com/docs/index-format>.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::Path,
};

use crate::{
    Error,
    checkout::Done,
    id::{Hasher, Id},
    object::Mode,
    pack::{self, Pack},
};

/// What `.git` says.
#[derive(Debug)]
pub struct Kept<'a> {
    /// Where the repository came from, without user and password.
    pub url: &'a str,
    /// The whole name of the branch or tag, where one was asked for, and what it leads to.
    pub reference: Option<(&'a str, Id)>,
    /// The commit that is checked out.
    pub commit: Id,
    /// Commits whose parents are not there.
    pub shallow: &'a [Id],
}

/// Writes `.git` into `directory`. Blocks.
pub fn write(pack: &Pack, kept: &Kept<'_>, done: &Done, directory: &Path) -> Result<(), Error> {
    let git = directory.join(".git");
    for below in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "info"] {
        fs::create_dir_all(git.join(below))?;
    }
    let format = kept.commit.format();
    let (version, extension) = match format {
        crate::id::Format::Sha1 => (0, String::new()),
        crate::id::Format::Sha256 => (1, "[extensions]\n\tobjectformat = sha256\n".to_owned()),
    };
    // In the configuration a value in quotes escapes quotes and backslashes; control characters are in no URL.
    let url: String = kept.url.chars().filter(|c| !c.is_control()).collect();
    let url = url.replace('\\', "\\\\").replace('"', "\\\"");
    let config = format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n{extension}\
         [remote \"origin\"]\n\turl = \"{url}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    );
    fs::write(git.join("config"), config)?;
    fs::write(git.join("HEAD"), format!("{}\n", kept.commit))?;
    if !kept.shallow.is_empty() {
        let lines: String = kept.shallow.iter().map(|id| format!("{id}\n")).collect();
        fs::write(git.join("shallow"), lines)?;
    }
    if let Some((name, id)) = kept.reference {
        // Names come from the remote: packed, they are text and no path.
        if name.starts_with("refs/") && !name.contains(char::is_whitespace) {
            fs::write(git.join("packed-refs"), format!("# pack-refs with: sorted\n{id} {name}\n"))?;
        }
    }
    let name = format!("objects/pack/pack-{}", pack.trailer());
    let mut copy = BufWriter::new(File::create(git.join(format!("{name}.pack")))?);
    pack.save(&mut copy)?;
    std::io::Write::flush(&mut copy)?;
    let mut index = BufWriter::new(File::create(git.join(format!("{name}.idx")))?);
    pack::write_index(pack, &mut index)?;
    std::io::Write::flush(&mut index)?;
    staged(done, kept.commit.format(), &git.join("index"))
}

/// The index: every file as it was checked out. Sizes and times are left out, and found out by who looks.
fn staged(done: &Done, format: crate::id::Format, path: &Path) -> Result<(), Error> {
    let mut entries: Vec<(&str, u32, &Id)> = Vec::new();
    for (path, mode, id) in &done.files {
        let bits = match mode {
            Mode::File { executable: true } => 0o100_755,
            Mode::Link => 0o120_000,
            _ => 0o100_644,
        };
        entries.push((path, bits, id));
    }
    entries.extend(done.modules.iter().map(|(path, id)| (path.as_str(), 0o160_000, id)));
    entries.sort_unstable();
    let mut out = Vec::new();
    out.extend_from_slice(b"DIRC\0\0\0\x02");
    out.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    for (path, bits, id) in entries {
        let start = out.len();
        out.extend_from_slice(&[0; 24]);
        out.extend_from_slice(&u32::to_be_bytes(bits));
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(id.bytes());
        out.extend_from_slice(&(path.len().min(0xfff) as u16).to_be_bytes());
        out.extend_from_slice(path.as_bytes());
        // At least one zero, up to a multiple of eight.
        let padding = 8 - (out.len() - start) % 8;
        out.resize(out.len() + padding, 0);
    }
    let mut hasher = Hasher::new(format);
    hasher.update(&out);
    let hash = hasher.finish().ok_or_else(|| Error::invalid("an index that collides"))?;
    out.extend_from_slice(hash.bytes());
    Ok(fs::write(path, out)?)
}
