//! How repositories are written: `https://host/path.git#ref:directory`, `?branch=...`, `git@host:path`.
//!
//! Specification: <https://docs.docker.com/build/concepts/context/#url-fragments>, `#url-queries`.

use anyhow::{Result, bail};

use crate::path::clean;

/// A repository, and what of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// `https://host/path.git`, without what follows.
    pub url: String,
    /// A branch, a tag, another reference, a commit; empty for the default branch.
    pub reference: String,
    /// Of the files, only what is in this directory.
    pub subdirectory: String,
    /// The commit that it must be, or how that begins.
    pub checksum: Option<String>,
    /// Whether `.git` is kept.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched; they are where nothing is said.
    pub submodules: Option<bool>,
    /// Whether files have the commit's time.
    pub commit_time: bool,
    /// Whether it could as well be a path: `github.com/user/repository`, allowed for contexts alone.
    pub ambiguous: bool,
    /// Whether the remote is not asked what the reference leads to, since the checksum says it.
    pub by_commit: bool,
}

/// Whether it is a URL of the web, a repository's included.
pub fn is_web(text: &str) -> bool {
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// Whether a repository is behind SSH.
///
/// # Errors
/// It is, and the address is wrong.
pub fn over_ssh(url: &str) -> Result<bool> {
    Ok(git::ssh::address::Address::parse(url)?.is_some())
}

/// The text with `xxxxx` in the place of a password.
pub fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:xxxxx@{host}{}", &rest[end..])
        }
        _ => text.to_owned(),
    }
}

impl Repository {
    /// Reads one; none where the text is no repository, an error where it is one with a wrong query.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if text.starts_with("./") || text.starts_with("../") || text.chars().any(|c| c.is_control()) {
            return Ok(None);
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut repository = Self::default();
        if place.starts_with("github.com/") {
            repository.ambiguous = true;
            repository.url = format!("https://{place}");
        } else if let Some((scheme, path)) = place.split_once("://") {
            match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" if !path.contains('/') || !path.ends_with(".git") => return Ok(None),
                "http" | "https" | "git" | "ssh" => place.clone_into(&mut repository.url),
                _ => return Ok(None),
            }
        } else if is_secure_copy(place) {
            place.clone_into(&mut repository.url);
        } else {
            return Ok(None);
        }
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        reference.clone_into(&mut repository.reference);
        repository.subdirectory = clean(directory);
        repository.read(query)?;
        Ok(Some(repository))
    }

    fn read(&mut self, query: &str) -> Result<()> {
        let (mut seen, mut tag, mut branch) = (Vec::new(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decoded(key), decoded(value));
            if seen.contains(&key) {
                bail!("query {key:?} has multiple values");
            }
            let switch = || match value.as_str() {
                "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => bail!("invalid {key} value: {value:?}"),
            };
            let switches = matches!(key.as_str(), "keep-git-dir" | "submodules" | "fetch-by-commit");
            if value.is_empty() && !switches {
                bail!("query {key:?} has no value");
            }
            match key.as_str() {
                "keep-git-dir" => self.keep_git_dir = Some(switch()?),
                "submodules" => self.submodules = Some(switch()?),
                "fetch-by-commit" => self.by_commit = switch()?,
                "checksum" | "commit" => self.checksum = Some(value),
                "mtime" => match value.as_str() {
                    "checkout" => self.commit_time = false,
                    "commit" => self.commit_time = true,
                    _ => bail!("invalid mtime value: {value:?} (must be \"checkout\" or \"commit\")"),
                },
                "ref" => self.refer(value)?,
                "tag" => tag = Some(format!("refs/tags/{}", value.trim_start_matches("refs/tags/"))),
                "branch" => branch = Some(format!("refs/heads/{}", value.trim_start_matches("refs/heads/"))),
                "subdir" => {
                    let directory = clean(&value);
                    if !self.subdirectory.is_empty() && self.subdirectory != directory {
                        bail!("subdir conflicts: {:?} vs {directory:?}", self.subdirectory);
                    }
                    self.subdirectory = directory;
                }
                _ => bail!("unexpected query {key:?}"),
            }
            seen.push(key);
        }
        if tag.is_some() && branch.is_some() {
            bail!("branch conflicts with tag");
        }
        tag.or(branch).map_or(Ok(()), |name| self.refer(name))
    }

    fn refer(&mut self, name: String) -> Result<()> {
        if !self.reference.is_empty() && self.reference != name {
            bail!("ref conflicts: {:?} vs {name:?}", self.reference);
        }
        self.reference = name;
        Ok(())
    }

    /// Brings together what the flags of `ADD` say and what the address says.
    pub fn agree(&mut self, checksum: Option<&str>, keep_git_dir: Option<bool>) -> Result<()> {
        if let (Some(flag), Some(query)) = (keep_git_dir, self.keep_git_dir)
            && flag != query
        {
            bail!("inconsistent keep-git-dir configuration");
        }
        self.keep_git_dir = self.keep_git_dir.or(keep_git_dir);
        if let (Some(flag), Some(query)) = (checksum, &self.checksum)
            && flag != query
        {
            bail!("checksum mismatch {flag:?} != {query:?}");
        }
        self.checksum = self.checksum.take().or_else(|| checksum.map(str::to_owned));
        if let Some(checksum) = &self.checksum
            && (checksum.is_empty() || checksum.len() > 64 || !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            bail!("invalid checksum {checksum} for Git URL, expected hex commit hash");
        }
        Ok(())
    }
}

/// `user@host:path`.
fn is_secure_copy(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    word(user, "-_") && word(host, "-.") && !path.is_empty()
}

/// Undoes percent-encoding, and `+` for a blank.
fn decoded(text: &str) -> String {
    let (bytes, mut at, mut out) = (text.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let (byte, length) = match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (byte, 3),
            None if bytes[at] == b'+' => (b' ', 1),
            None => (bytes[at], 1),
        };
        out.push(byte);
        at += length;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The name of the file that a URL leads to; none where its path is trivial.
pub fn file_name(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (_, path) = rest.split_once('/')?;
    // A plus is a plus in paths.
    let path = decoded(&path.replace('+', "%2B"));
    plain_name(path.trim_end_matches('/').rsplit('/').next()?)
}

/// The file name that `Content-Disposition` gives.
pub fn disposition(header: &str) -> Option<String> {
    let parameters = header.split(';').skip(1).filter_map(|part| part.trim().split_once('='));
    let (mut plain, mut extended) = (None, None);
    for (name, value) in parameters {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "filename" => plain = Some(value.to_owned()),
            "filename*" => extended = value.split_once("''").map(|(_, value)| decoded(&value.replace('+', "%2B"))),
            _ => {}
        }
    }
    plain_name(extended.or(plain)?.rsplit(['/', '\\']).next()?)
}

fn plain_name(name: &str) -> Option<String> {
    let bad = name.is_empty() || name == "." || name == ".." || name.len() > 255 || name.chars().any(char::is_control);
    (!bad).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
