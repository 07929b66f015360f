//! Sources of `ADD` that are not in the context: URLs and git repositories.
//!
//! ```text
//! word of ADD ─ is_remote ─► fetch ─► a directory of this machine, and what is in it
//! ```
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#add>.

use std::path::PathBuf;

/// A source as `ADD` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The word, variables expanded.
    pub text: String,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
}

/// What a source is on this machine, until dropped.
#[derive(Debug)]
pub struct Fetched {
    /// A directory that nobody else writes to.
    pub directory: PathBuf,
    /// The one file in it that is meant; none for all that is in it.
    pub file: Option<String>,
    /// Removes the directory, where it is not kept for other builds.
    pub guard: Option<tempfile::TempDir>,
}

/// Whether a word of `ADD` names something outside of the context.
pub fn is_remote(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let scheme = ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|scheme| lower.starts_with(scheme));
    scheme || lower.starts_with("github.com/")
}

/// Where and how sources are fetched.
#[derive(Clone, Debug)]
pub struct Fetching {
    /// A directory for what is kept between builds and for what is under way.
    pub directory: PathBuf,
    /// Whose certificate authorities and proxies.
    pub trust: ::image::pull::Trust,
}

/// Fetches a source.
pub async fn fetch(how: &Fetching, remote: &Remote) -> anyhow::Result<Fetched> {
    anyhow::bail!("{}: remote sources cannot be fetched into {}", remote.text, how.directory.display())
}
