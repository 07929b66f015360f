//! What a build is asked for, and what comes of it.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use image::pull::Registries;
use oci::{Digest, Reference};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::{
    client::Client,
    dockerfile::{self, Lines, Network, excerpt},
    plan::Platform,
    solve::own_platform,
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
    /// Whose it is.
    pub realm: Realm,
}

/// Whose a build is, and so what of this machine it may use.
#[derive(Clone, Default)]
pub enum Realm {
    /// The machine's own: images that are here count, registries are shown the machine's credentials.
    #[default]
    Machine,
    /// Somebody's who has no rights here. Images are their own, or what registries give for the build's own credentials, and get no names
    /// here: names of outputs are for pushing alone. Neither this machine's loopback nor its settings are reached.
    Confined(Confined),
}

/// What a confined build has.
#[derive(Clone)]
pub struct Confined {
    /// Results, and caches of steps, are shared with builds of this name alone.
    pub name: String,
    /// Mirrors and certificate authorities, without the machine's credentials.
    pub registries: Arc<Registries>,
    /// Finds images that whoever asks has made or fetched here; none where nothing is kept for them.
    pub own: Option<Own>,
}

/// Finds somebody's own image by what they call it: a name or an id.
pub type Own = Arc<dyn Fn(&str) -> Option<Digest> + Send + Sync>;

impl Realm {
    /// What results are shared below; empty for the machine's own.
    pub fn name(&self) -> &str {
        match self {
            Self::Machine => "",
            Self::Confined(confined) => &confined.name,
        }
    }

    /// Whether it is not the machine's own.
    pub fn is_confined(&self) -> bool {
        matches!(self, Self::Confined(_))
    }
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
    /// An image of an OCI layout, a directory of this machine. Not as the main context.
    Layout(PathBuf, image::Which),
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
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--memory`, in bytes.
    pub memory: Option<i64>,
    /// CPU time a period, in microseconds.
    pub cpu_quota: Option<i64>,
    /// The period, in microseconds; 100 ms where nothing is said.
    pub cpu_period: Option<u64>,
    /// Relative weight of CPU time.
    pub cpu_shares: Option<u64>,
    /// Control group of steps below the group of all pods; empty for one of the builder's.
    pub cgroup_parent: String,
    /// `--cache-from`: where results of other machines are.
    pub cache_from: Vec<CachePlace>,
    /// `--cache-to`: where results go.
    pub cache_to: Vec<CacheTo>,
    /// `--cache-to type=inline`: the image itself says which results its layers are.
    pub inline_cache: bool,
}

impl Options {
    /// Whether the image carries its results, as the flag or the argument `BUILDKIT_INLINE_CACHE` says.
    pub fn has_inline_cache(&self) -> bool {
        let argument = self.arguments.get("BUILDKIT_INLINE_CACHE").map(String::as_str);
        self.inline_cache || matches!(argument, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    /// The platforms to build for, each once: this machine's where none is named.
    ///
    /// # Errors
    /// A text that is no platform, in words.
    pub fn platforms(&self) -> Result<Vec<Platform>, String> {
        let own = own_platform();
        let mut platforms = Vec::new();
        for text in self.platform.as_deref().unwrap_or_default().split(',').filter(|text| !text.is_empty()) {
            let platform = Platform::parse(text, &own)?;
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        if platforms.is_empty() {
            platforms.push(own);
        }
        Ok(platforms)
    }

    /// The machines that images of the build are for.
    ///
    /// # Errors
    /// As [`Options::platforms`].
    pub fn machines(&self) -> Result<Vec<oci::index::Machine>, String> {
        Ok(self.platforms()?.iter().map(Platform::machine).collect())
    }
}

/// Where results of steps are kept outside of this machine's cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePlace {
    /// `type=registry`.
    Registry {
        /// The image that holds them.
        reference: String,
    },
    /// `type=local`: an OCI layout.
    Local {
        /// Its directory.
        path: PathBuf,
        /// The name in it; `latest` without it.
        tag: Option<String>,
        /// The manifest, instead of a name.
        digest: Option<Digest>,
    },
}

/// Fields of a flag: `type=registry,ref=NAME`.
pub type Fields = BTreeMap<String, String>;

fn cache_place(fields: &Fields, directory: &str) -> Result<CachePlace, String> {
    let field = |name: &str| fields.get(name).filter(|value| !value.is_empty());
    match field("type").map_or("registry", String::as_str) {
        "registry" => {
            let reference = field("ref").ok_or("type=registry: ref=NAME is wanted")?.clone();
            Ok(CachePlace::Registry { reference })
        }
        "local" => {
            let path = field(directory).ok_or_else(|| format!("type=local: {directory}=DIR is wanted"))?;
            let digest = field("digest").map(|text| text.parse().map_err(|_| format!("digest {text:?}: no digest")));
            Ok(CachePlace::Local { path: path.into(), tag: field("tag").cloned(), digest: digest.transpose()? })
        }
        other => Err(format!("type={other}: results of steps are kept in a registry or a directory (local)")),
    }
}

impl CachePlace {
    /// What `--cache-from` says: the fields of `type=registry,ref=NAME`, or of `type=local,src=DIR`.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn from(fields: &Fields) -> Result<Self, String> {
        cache_place(fields, "src")
    }
}

impl CacheTo {
    /// What `--cache-to` says: the fields of `type=registry,ref=NAME,mode=max`, or of `type=local,dest=DIR`.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn from(fields: &Fields) -> Result<Self, String> {
        let field = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.is_empty());
        Ok(Self {
            place: cache_place(fields, "dest")?,
            all: match field("mode") {
                None | Some("min") => false,
                Some("max") => true,
                Some(other) => return Err(format!("mode={other}: min or max is wanted")),
            },
            compression: match field("compression") {
                None | Some("gzip") => Compression::Gzip,
                Some("zstd") => Compression::Zstd,
                Some("uncompressed") => Compression::Uncompressed,
                Some(other) => return Err(format!("compression={other}: gzip, zstd or uncompressed is wanted")),
            },
            may_fail: matches!(field("ignore-error"), Some("true" | "1")),
        })
    }
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry { reference } => f.write_str(reference),
            Self::Local { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// Where results go, and which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheTo {
    /// Where.
    pub place: CachePlace,
    /// `mode=max`: results of all steps, and not of those alone that the outcome consists of.
    pub all: bool,
    /// How layers are packed.
    pub compression: Compression,
    /// `ignore-error`: whether the build goes on where it cannot be written.
    pub may_fail: bool,
}

/// A bound of a step's processes, as `--ulimit` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc` and the like, in lower case.
    pub name: String,
    /// The bound that applies; [`u64::MAX`] for none.
    pub soft: u64,
    /// How far processes may raise it.
    pub hard: u64,
}

/// Bounds that there are: <https://man7.org/linux/man-pages/man2/getrlimit.2.html>.
pub const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Ulimit {
    /// Reads `NAME=SOFT[:HARD]`; -1 is no bound.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, bounds) =
            text.split_once('=').ok_or_else(|| format!("ulimit {text:?}: NAME=SOFT[:HARD] is wanted"))?;
        let bound = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            text => text.parse().map_err(|_| format!("ulimit {name}: {text:?} is no number")),
        };
        let (soft, hard) = bounds.split_once(':').unwrap_or((bounds, bounds));
        Self::new(name, bound(soft)?, bound(hard)?)
    }

    /// A bound.
    ///
    /// # Errors
    /// There is no such bound, or the first number is larger than the second.
    pub fn new(name: &str, soft: u64, hard: u64) -> Result<Self, String> {
        if !ULIMITS.contains(&name) {
            return Err(format!("invalid ulimit type: {name}"));
        }
        if soft > hard {
            return Err(format!("ulimit soft limit must be less than or equal to hard limit: {name}: {soft} > {hard}"));
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
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
    /// An image of each platform in this machine's store, without a name, for who puts them together: [`Built::parts`].
    Parts,
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
    /// With [`Output::Parts`]: the platforms, in the order in which they were asked for.
    pub parts: Vec<Part>,
}

/// What was built for one platform of several.
#[derive(Clone, Debug)]
pub struct Part {
    /// The platform.
    pub platform: Platform,
    /// The image of the store.
    pub image: Digest,
    /// Its configuration, as JSON.
    pub config: Vec<u8>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_named_as_buildx_names_them() {
        let fields = |text: &str| -> Fields {
            text.split(',').filter_map(|pair| pair.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
        };
        let registry = CachePlace::Registry { reference: "r.io/a:c".into() };
        assert_eq!(CachePlace::from(&fields("type=registry,ref=r.io/a:c")), Ok(registry.clone()));
        let local = CachePlace::Local { path: "/c".into(), tag: Some("t".into()), digest: None };
        assert_eq!(CachePlace::from(&fields("type=local,src=/c,tag=t")), Ok(local));
        let to = CacheTo::from(&fields("type=registry,ref=r.io/a:c,mode=max,compression=zstd,ignore-error=true"));
        let wanted = CacheTo { place: registry, all: true, compression: Compression::Zstd, may_fail: true };
        assert_eq!(to, Ok(wanted));
        for wrong in ["type=gha", "type=registry", "type=local,dest=/c", "type=local,src=/c,digest=x"] {
            assert!(CachePlace::from(&fields(wrong)).is_err(), "{wrong}");
        }
        for wrong in
            ["type=inline", "type=local,src=/c", "type=registry,ref=a,mode=all", "type=registry,ref=a,compression=lz4"]
        {
            assert!(CacheTo::from(&fields(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ulimits_have_one_or_two_numbers() {
        let read = |text: &str| Ulimit::parse(text).map(|limit| (limit.name, limit.soft, limit.hard));
        assert_eq!(read("nofile=1024:2048"), Ok(("nofile".to_owned(), 1024, 2048)));
        assert_eq!(read("core=0"), Ok(("core".to_owned(), 0, 0)));
        assert_eq!(read("memlock=-1"), Ok(("memlock".to_owned(), u64::MAX, u64::MAX)));
        for wrong in ["nofile", "nofile=x", "nofile=2:1", "files=1", "nofile=-1:5", "nofile=1:2:3"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
