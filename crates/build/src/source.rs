//! Sources of `ADD` and contexts that are elsewhere: files of the web, and git repositories.
//!
//! ```text
//! word ─ address ─► web: asked whether it has changed ─┐
//!               └─► git: what does the name lead to? ──┴─► kept from an earlier build, or fetched ─► a directory
//! ```
//!
//! What was fetched is kept by what it is (a file's digest, a commit), never by where it came from, and the oldest goes when
//! there is too much. What came with credentials is not kept.
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#add>,
//! <https://docs.docker.com/build/concepts/context/>.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};

use crate::client::Client;

pub mod address;
mod kept;
mod repository;
mod web;

pub use kept::Guard;

/// The time one source may take.
const LONGEST: Duration = Duration::from_secs(3600);
/// Bytes of a file of the web.
const LARGEST: u64 = 16 << 30;
/// Bytes of everything that is kept.
const KEPT: u64 = 4 << 30;

/// A source as `ADD` writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// The word, variables expanded.
    pub text: String,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
}

/// What a source is on this machine, until dropped.
#[derive(Debug)]
pub struct Fetched {
    /// A directory that nobody else writes to, and that must not be written to.
    pub directory: PathBuf,
    /// The one file in it that is meant; none for all that is in it.
    pub file: Option<String>,
    /// What it is: equal names are equal contents. A digest, or a commit and what was taken of it.
    pub identity: String,
    /// Keeps the directory where it is.
    pub guard: Guard,
}

/// A context from elsewhere.
#[derive(Debug)]
pub enum Fetch {
    /// Files.
    Directory(Fetched),
    /// An archive of files, plain or compressed.
    Archive(Fetched),
    /// A Dockerfile, and no files.
    Dockerfile(String),
}

/// Where and how sources are fetched.
#[derive(Clone)]
pub struct Fetching {
    /// A directory for what is kept between builds and for what is under way.
    pub directory: PathBuf,
    /// Whose certificate authorities and proxies.
    pub trust: ::image::pull::Trust,
    /// Where the cluster's own servers are, and what is configured for hosts.
    pub registries: Arc<::image::pull::Registries>,
    /// Whom to ask for credentials.
    pub client: Arc<dyn Client>,
    /// Whether nothing of this machine itself is reached.
    pub abroad: bool,
}

impl std::fmt::Debug for Fetching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetching").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Fetching {
    fn web(&self) -> anyhow::Result<::image::pull::web::Web> {
        let pull = ::image::pull::Pull {
            registries: self.registries.clone(),
            trust: self.trust,
            abroad: self.abroad,
            ..::image::pull::Pull::default()
        };
        ::image::pull::web::Web::new(&pull)
    }

    /// The first of the secrets that there is, with whether it is a token.
    async fn credentials(&self, names: &[(String, bool)]) -> anyhow::Result<Option<(String, bool)>> {
        for (name, token) in names {
            if let Some(secret) = self.client.secret(name).await? {
                let text = String::from_utf8(secret).ok().with_context(|| format!("secret {name} is not text"))?;
                return Ok(Some((text.trim().to_owned(), *token)));
            }
        }
        Ok(None)
    }
}

/// Whether a word of `ADD` names something outside of the context.
pub fn is_remote(text: &str) -> bool {
    address::is_web(text) || matches!(address::Repository::parse(text), Ok(Some(repository)) if !repository.ambiguous)
}

/// Whether a context's name is a place elsewhere and no directory.
pub fn is_remote_context(text: &str) -> bool {
    address::is_web(text) || matches!(address::Repository::parse(text), Ok(Some(_)) | Err(_))
}

/// Fetches a source of `ADD`.
pub async fn fetch(how: &Fetching, remote: &Remote) -> anyhow::Result<Fetched> {
    let shown = address::without_password(&remote.text);
    let work = async {
        match address::Repository::parse(&remote.text)? {
            Some(mut repository) => {
                repository.agree(remote.checksum.as_deref(), remote.keep_git_dir)?;
                repository::fetch(how, &repository).await
            }
            None if address::is_web(&remote.text) => {
                if remote.keep_git_dir == Some(true) {
                    bail!("--keep-git-dir is for git repositories");
                }
                web::fetch(how, &remote.text, remote.checksum.as_deref()).await
            }
            None => bail!("neither a URL nor a repository"),
        }
    };
    match tokio::time::timeout(LONGEST, work).await {
        Ok(done) => done.with_context(|| format!("fetch {shown}")),
        Err(_) => bail!("fetch {shown}: not done within {} seconds", LONGEST.as_secs()),
    }
}

/// Fetches a context: a repository, an archive, or a Dockerfile alone.
pub async fn fetch_context(how: &Fetching, text: &str) -> anyhow::Result<Fetch> {
    let fetched = fetch(how, &Remote { text: text.to_owned(), ..Remote::default() }).await?;
    let Some(file) = &fetched.file else { return Ok(Fetch::Directory(fetched)) };
    let path = fetched.directory.join(file);
    let work = tokio::task::spawn_blocking(move || web::look(&path));
    Ok(match work.await?? {
        web::Looks::Archive => Fetch::Archive(fetched),
        web::Looks::Text(text) => Fetch::Dockerfile(text),
    })
}
