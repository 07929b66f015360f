//! A build as `madang build` asks for it: one line of JSON, and a context behind it where that is an archive; the answer is lines of
//! JSON, events and then the end.
//!
//! ```text
//! {"options": ..., "context": ..., ...}\n ARCHIVE        ──►
//!                                                        ◄── {"event": ...}\n ... {"built": ...} | {"failed": "..."}\n
//! ```

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::image::{Which, pull::Credentials};
use base64::{Engine, engine::general_purpose::STANDARD};
use git::ssh::{agent::Keys, keys::Key};
use oci::{Digest, Reference};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::{
    client::{Given, Held, Ssh},
    progress::Event,
    request::{self, ArchiveForm, Built, Compression, Error, Options, Output, Sink},
};

/// The largest first line, in bytes.
pub const LARGEST: usize = 64 << 20;

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// Plain options.
    pub options: Options,
    /// The main context.
    pub context: Context,
    /// The Dockerfile.
    pub dockerfile: File,
    /// `--build-context`.
    #[serde(default)]
    pub named: BTreeMap<String, Context>,
    /// Secrets by id, their bytes in base64.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// SSH agents by id.
    #[serde(default)]
    pub agents: BTreeMap<String, Agent>,
    /// Keys of hosts that are believed over SSH, as in `known_hosts`.
    #[serde(default)]
    pub known_hosts: Option<String>,
    /// Credentials by registry, as docker's clients send them with a request.
    #[serde(default)]
    pub credentials: BTreeMap<String, serde_json::Value>,
    /// What to make.
    pub outputs: Vec<Made>,
}

/// An SSH agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agent {
    /// Its socket; absolute.
    Socket(PathBuf),
    /// The private keys that it has, without passphrases.
    Keys(Vec<String>),
}

/// A context.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// No files.
    Empty,
    /// A directory, with its device and inode: whoever asks may see another one under that path.
    Directory {
        /// Absolute.
        path: PathBuf,
        /// Its device.
        device: u64,
        /// Its inode.
        inode: u64,
    },
    /// What follows the first line. One context at most.
    Archive,
    /// An image's files.
    Image(String),
    /// A URL or a repository.
    Remote(String),
    /// An image of an OCI layout, a directory as above.
    Layout {
        /// Absolute.
        path: PathBuf,
        /// Its device.
        device: u64,
        /// Its inode.
        inode: u64,
        /// A tag, or a digest.
        which: String,
    },
}

/// The Dockerfile.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum File {
    /// Its path in the context.
    Context(String),
    /// Its text.
    Text {
        /// Its name.
        name: String,
        /// What it says.
        text: String,
        /// What is ignored, where a file beside it says so.
        ignore: Option<String>,
    },
}

/// An output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Made {
    /// An image of the store.
    Image {
        /// Names.
        names: Vec<String>,
        /// Whether it is pushed.
        push: bool,
        /// How layers are packed.
        compression: Compression,
    },
    /// An archive or a directory of an image.
    Archive {
        /// Whether docker can read it.
        docker: bool,
        /// Names in it.
        names: Vec<String>,
        /// How layers are packed.
        compression: Compression,
        /// Where to; absolute.
        to: PathBuf,
        /// Whether that is a directory.
        directory: bool,
    },
    /// Files.
    Files {
        /// Where to; absolute.
        to: PathBuf,
        /// Whether that is a directory.
        directory: bool,
    },
    /// Nothing but the cache.
    Nothing,
}

/// A line of the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Something happened.
    Event(Event),
    /// The end, successful.
    Built {
        /// The image's id.
        image: Option<String>,
        /// Digest of its manifest.
        manifest: Option<String>,
        /// Its names.
        names: Vec<String>,
    },
    /// The end, with what is to be shown.
    Failed(String),
}

impl Line {
    /// The end of a build.
    pub fn end(built: &Result<Built, Error>) -> Self {
        match built {
            Ok(built) => Self::Built {
                image: built.image.as_ref().map(ToString::to_string),
                manifest: built.manifest.as_ref().map(ToString::to_string),
                names: built.names.iter().map(ToString::to_string).collect(),
            },
            Err(error) => Self::Failed(error.show()),
        }
    }
}

impl Context {
    /// A directory of this machine.
    pub fn directory(path: &Path) -> std::io::Result<Self> {
        let path = path.canonicalize()?;
        let status = path.metadata()?;
        if !status.is_dir() {
            return Err(std::io::ErrorKind::NotADirectory.into());
        }
        Ok(Self::Directory { device: status.dev(), inode: status.ino(), path })
    }

    /// An image of a layout on this machine.
    pub fn layout(path: &Path, which: &Which) -> std::io::Result<Self> {
        let which = match which {
            Which::Digest(digest) => digest.to_string(),
            Which::Tag(tag) => tag.clone(),
        };
        Ok(match Self::directory(path)? {
            Self::Directory { path, device, inode } => Self::Layout { path, device, inode, which },
            other => other,
        })
    }

    fn take(self, rest: &mut Option<Box<dyn AsyncRead + Send + Unpin>>) -> Result<request::Context, Error> {
        Ok(match self {
            Self::Empty => request::Context::Empty,
            Self::Directory { path, device, inode } => {
                let same = path.metadata().is_ok_and(|status| (status.dev(), status.ino()) == (device, inode));
                if !same {
                    return Err(Error::Invalid(format!(
                        "context {}: the server sees no such directory, or another one; send it as an archive",
                        path.display()
                    )));
                }
                request::Context::Directory(path)
            }
            Self::Archive => match rest.take() {
                Some(rest) => request::Context::Archive(rest),
                None => return Err(Error::Invalid("more than one context is an archive".into())),
            },
            Self::Image(name) => request::Context::Image(name_of(&name)?),
            Self::Remote(text) => request::Context::Remote(text),
            Self::Layout { path, device, inode, which } => {
                // No tag has a colon.
                let which = which.parse().map(Which::Digest).unwrap_or(Which::Tag(which));
                match (Self::Directory { path, device, inode }).take(rest)? {
                    request::Context::Directory(path) => request::Context::Layout(path, which),
                    other => other,
                }
            }
        })
    }
}

fn name_of(text: &str) -> Result<Reference, Error> {
    Reference::parse(text).map_err(|error| Error::Invalid(format!("invalid reference {text:?}: {error}")))
}

fn names_of(names: &[String]) -> Result<Vec<Reference>, Error> {
    names.iter().map(|name| name_of(name)).collect()
}

impl Ask {
    /// The request; `rest` is what follows the first line.
    pub fn request(self, rest: Box<dyn AsyncRead + Send + Unpin>) -> Result<request::Request, Error> {
        let mut rest = Some(rest);
        let sink = |to: PathBuf, directory: bool| {
            if !to.is_absolute() {
                return Err(Error::Invalid(format!("output {}: the path is not absolute", to.display())));
            }
            Ok(if directory { Sink::Directory(to) } else { Sink::File(to) })
        };
        let mut outputs = Vec::new();
        for made in self.outputs {
            outputs.push(match made {
                Made::Image { names, push, compression } => {
                    Output::Image { names: names_of(&names)?, push, compression }
                }
                Made::Archive { docker, names, compression, to, directory } => Output::Archive {
                    form: if docker { ArchiveForm::Docker } else { ArchiveForm::Oci },
                    names: names_of(&names)?,
                    compression,
                    to: sink(to, directory)?,
                },
                Made::Files { to, directory } => Output::Files { to: sink(to, directory)? },
                Made::Nothing => Output::Nothing,
            });
        }
        let ssh = Ssh { known_hosts: self.known_hosts, ..Ssh::default() };
        let mut client = Given { ssh, ..Given::default() };
        for (id, agent) in self.agents {
            let held = match agent {
                Agent::Socket(path) => Held::Socket(path),
                Agent::Keys(texts) => {
                    let keys: Result<Keys, _> = texts.iter().map(|text| Key::parse(text, None)).collect();
                    Held::Keys(keys.map_err(|error| Error::Invalid(format!("SSH agent {id}: {error}")))?)
                }
            };
            client.agents.insert(id, held);
        }
        for (id, text) in self.secrets {
            let bytes = STANDARD.decode(text).map_err(|error| Error::Invalid(format!("secret {id}: {error}")))?;
            client.secrets.insert(id, bytes);
        }
        for (registry, document) in self.credentials {
            let known = Credentials::parse(document.to_string().as_bytes());
            let known = known.map_err(|error| Error::Invalid(format!("credentials for {registry}: {error:#}")))?;
            client.credentials.extend(known.map(|known| (registry, known)));
        }
        let mut named = BTreeMap::new();
        for (name, context) in self.named {
            named.insert(name, context.take(&mut rest)?);
        }
        Ok(request::Request {
            options: self.options,
            context: self.context.take(&mut rest)?,
            dockerfile: match self.dockerfile {
                File::Context(path) => request::File::InContext(path),
                File::Text { name, text, ignore } => request::File::Text { name, text, ignore },
            },
            named,
            client: Arc::new(client),
            outputs,
            realm: request::Realm::Machine,
        })
    }
}

/// `oci-layout://DIR[:TAG][@DIGEST]` as clients write it; none where it is something else. Without a tag or digest `latest` is meant.
pub fn layout(text: &str) -> Option<(PathBuf, Which)> {
    let mut path = text.strip_prefix("oci-layout://")?;
    let mut which = Which::Tag("latest".to_owned());
    let digest = path.rsplit_once('@').and_then(|(before, digest)| Some((before, digest.parse::<Digest>().ok()?)));
    let tag = |path: &str| {
        let (before, tag) = path.rsplit_once(':')?;
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let good = tag.len() <= 128
            && tag.bytes().next().is_some_and(word)
            && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
        good.then(|| (before.len(), tag.to_owned()))
    };
    if let Some((before, digest)) = digest {
        which = Which::Digest(digest);
        path = before;
    }
    if let Some((length, tag)) = tag(path) {
        path = &path[..length];
        // A digest says more than a tag.
        if matches!(which, Which::Tag(_)) {
            which = Which::Tag(tag);
        }
    }
    Some((PathBuf::from(path), which))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_has_a_directory_and_a_tag_or_a_digest() {
        let digest = Digest::sha256(b"x");
        let tag = |tag: &str| Which::Tag(tag.to_owned());
        for (text, path, which) in [
            ("oci-layout:///a/b", "/a/b", tag("latest")),
            ("oci-layout:///a/b:1.3", "/a/b", tag("1.3")),
            ("oci-layout://a:b/c", "a:b/c", tag("latest")),
            ("oci-layout:///a/@/b", "/a/@/b", tag("latest")),
            (&format!("oci-layout:///a@{digest}"), "/a", Which::Digest(digest.clone())),
            (&format!("oci-layout:///a:v1@{digest}"), "/a", Which::Digest(digest.clone())),
            ("oci-layout:///a@sha256:zz", "/a@sha256", tag("zz")),
        ] {
            assert_eq!(layout(text), Some((PathBuf::from(path), which)), "{text}");
        }
        assert_eq!(layout("docker-image://a"), None);
    }
}
