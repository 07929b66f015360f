//! What a build is asked for, and what comes of it.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use oci::{Digest, Reference};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::{
    client::Client,
    dockerfile::{self, Lines, Network, excerpt},
    plan::Platform,
};

/// One build.
pub struct Request {
    /// What can be said in plain data.
    pub options: Options,
    /// The main context.
    pub context: Context,
    /// The Dockerfile.
    pub dockerfile: File,
    /// `--build-context`: contexts by name, which take the place of images and stages of that name.
    pub named: BTreeMap<String, Context>,
    /// Whom to ask for secrets, agents and credentials.
    pub client: Arc<dyn Client>,
    /// What to make.
    pub outputs: Vec<Output>,
}

/// Where a build's files come from.
pub enum Context {
    /// No files.
    Empty,
    /// A directory of this machine. It is read where it is, never left, never written.
    Directory(PathBuf),
    /// A tar archive, plain or compressed.
    Archive(Box<dyn AsyncRead + Send + Unpin>),
    /// The files of an image.
    Image(Reference),
    /// A repository or the URL of an archive or a Dockerfile, as `source` understands it.
    Remote(String),
}

/// The Dockerfile.
#[derive(Clone, Debug)]
pub enum File {
    /// In the main context, by its path there, `Dockerfile` for example.
    InContext(String),
    /// From elsewhere: standard input, or a place outside of the context.
    Text {
        /// Its name, for errors.
        name: String,
        /// What it says.
        text: String,
        /// What `NAME.dockerignore` beside it says; none for the context's own `.dockerignore`.
        ignore: Option<String>,
    },
}

/// The plain part of a request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`.
    pub arguments: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--platform`; none for this machine's.
    pub platform: Option<String>,
    /// `--no-cache`: nothing is taken from the cache.
    pub no_cache: bool,
    /// `--no-cache-filter`: nothing of these stages is taken from the cache.
    pub no_cache_filter: Vec<String>,
    /// `--pull`: registries are asked for base images that are here.
    pub pull: bool,
    /// `--network` for steps that say nothing.
    pub network: NetworkMode,
    /// `--add-host`: names and addresses for `/etc/hosts` of steps.
    pub hosts: Vec<(String, IpAddr)>,
    /// `--allow security.insecure`: steps may ask for all privileges.
    pub allow_insecure: bool,
    /// `--allow network.host`: steps may ask for the machine's network.
    pub allow_host_network: bool,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// `--memory`, in bytes.
    pub memory: Option<i64>,
    /// CPU time a period of 100 ms, in microseconds.
    pub cpu_quota: Option<i64>,
    /// Relative weight of CPU time.
    pub cpu_shares: Option<u64>,
    /// Control group of steps below the group of all pods; empty for one of the builder's.
    pub cgroup_parent: String,
}

/// What a step reaches, as a build says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Other machines, through an address of its own.
    #[default]
    Default,
    /// Nothing.
    None,
    /// What the machine reaches, as the machine.
    Host,
}

impl NetworkMode {
    /// What a step gets that asks for `wanted` in a build of this mode.
    pub fn of_step(self, wanted: Network) -> Self {
        match wanted {
            Network::Default => self,
            Network::None => Self::None,
            Network::Host => Self::Host,
        }
    }
}

/// What to make of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// An image in this machine's store, under these names.
    Image {
        /// Names that it takes over; none for an image that is known by its id alone.
        names: Vec<Reference>,
        /// Whether it is sent to the registries of its names.
        push: bool,
        /// How layers are packed where it is sent.
        compression: Compression,
    },
    /// An archive of an image, written to [`Sink`] of this number.
    Archive {
        /// OCI's layout alone, or docker's with it.
        form: ArchiveForm,
        /// Names in it.
        names: Vec<Reference>,
        /// How layers are packed.
        compression: Compression,
        /// Where to.
        to: Sink,
    },
    /// The files of the target.
    Files {
        /// As an archive; or a directory of this machine, which is made where it is missing.
        to: Sink,
    },
    /// Nothing: the target is built, and is in the cache.
    Nothing,
}

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A file of this machine, written anew.
    File(PathBuf),
    /// A directory of this machine.
    Directory(PathBuf),
}

/// Forms of archives of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveForm {
    /// What `docker load` reads, which is an OCI layout too.
    Docker,
    /// An OCI layout.
    Oci,
}

/// How layers are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    Uncompressed,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// What a build has made.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// The image of the store, where one was asked for.
    pub image: Option<Digest>,
    /// Digest of its manifest.
    pub manifest: Option<Digest>,
    /// The names that it has.
    pub names: Vec<Reference>,
    /// The configuration of the target, as JSON.
    pub config: Vec<u8>,
    /// The platform it is for.
    pub platform: Option<Platform>,
    /// Steps that were carried out, and those whose results were there.
    pub steps: (usize, usize),
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile is wrong, or one of its steps failed.
    #[error("{message}")]
    Dockerfile {
        /// What is wrong.
        message: String,
        /// Where.
        lines: Lines,
        /// The file's name.
        name: String,
        /// The file's text.
        text: String,
        /// The step that failed, where it is not the file that is wrong: its name and the end of what it wrote.
        step: Option<Box<(String, String)>>,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Whoever asked has gone, or the server ends.
    #[error("the build was cancelled")]
    Canceled,
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Error {
    /// An error of a Dockerfile with the file that it is about.
    pub fn in_file(error: dockerfile::Error, name: &str, text: &str) -> Self {
        let message = error.to_string();
        Self::Dockerfile { message, lines: error.lines, name: name.to_owned(), text: text.to_owned(), step: None }
    }

    /// The error as people read it: the lines of the Dockerfile that it is about, then what is wrong.
    pub fn show(&self) -> String {
        let mut shown = String::new();
        if let Self::Dockerfile { lines, name, text, step, .. } = self {
            if let Some(step) = step {
                let (title, output) = step.as_ref();
                shown = format!("------\n > {title}:\n{output}------\n");
            }
            shown.push_str(&excerpt(name, text, *lines));
        }
        shown + &format!("ERROR: failed to build: failed to solve: {self}\n")
    }
}

impl From<crate::progress::Gone> for Error {
    fn from(_: crate::progress::Gone) -> Self {
        Self::Canceled
    }
}
