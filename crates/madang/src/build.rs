//! `madang build`: an image from a Dockerfile, with the flags of `docker build` and `docker buildx build`.
//!
//! ```text
//! flags ─ ask ─► <run-dir>/docker.sock, POST /madang/build ─► events ─► progress; the end: id, files, errors
//! ```
//!
//! The server reads a context's directory itself, where it sees the same one; otherwise the directory goes along as an archive.
//! Flags: <https://docs.docker.com/reference/cli/docker/buildx/build/>.

mod ask;
mod output;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use build::wire::{self, Line};
use bytes::Bytes;
use clap::Args;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serve::body;
use task::Task;
use tokio::net::UnixStream;

use crate::{
    config::Place,
    progress::{Display, Mode},
};

const SOCKET: &str = "docker.sock";
/// Bytes of a context sent at a time.
const PIECE: usize = 256 << 10;

/// Build an image from a Dockerfile.
#[derive(Args, Debug)]
pub struct Build {
    #[command(flatten)]
    place: Place,
    /// A directory, the URL of an archive or a repository, or - for an archive or a Dockerfile on standard input
    #[arg(value_name = "PATH | URL | -")]
    context: String,
    /// Name of the Dockerfile [default: PATH/Dockerfile]; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Name and optionally a tag: NAME:TAG (repeatable)
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<String>,
    /// Value of an ARG: NAME=VALUE, or NAME for the environment's (repeatable)
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    arguments: Vec<String>,
    /// Further context: NAME=PATH, URL or docker-image://IMAGE (repeatable)
    #[arg(long = "build-context", value_name = "NAME=PLACE")]
    contexts: Vec<String>,
    /// Stage to build
    #[arg(long)]
    target: Option<String>,
    /// Label of the image: NAME=VALUE (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Do not use the cache
    #[arg(long)]
    no_cache: bool,
    /// Do not use the cache for these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Ask registries for base images that are here
    #[arg(long)]
    pull: bool,
    /// Where the result goes: type=image|registry|docker|oci|tar|local|cacheonly,dest=...,name=... (repeatable)
    #[arg(short, long = "output", value_name = "OUTPUT")]
    outputs: Vec<String>,
    /// Short for --output=type=registry
    #[arg(long)]
    push: bool,
    /// Short for --output=type=docker, which is what happens anyway
    #[arg(long)]
    load: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    progress: Mode,
    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,
    /// Secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME] (repeatable)
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,
    /// SSH agent for RUN --mount=type=ssh: default or ID[=SOCKET|KEY[,KEY]] (repeatable)
    #[arg(long = "ssh", value_name = "AGENT")]
    agents: Vec<String>,
    /// Platform of the image: linux/arm64; several, with commas, make an index, which is pushed or written with type=oci
    #[arg(long)]
    platform: Option<String>,
    /// Network of RUN: default, none or host
    #[arg(long, default_value = "default")]
    network: String,
    /// Line of /etc/hosts for RUN: HOST:IP (repeatable)
    #[arg(long = "add-host", value_name = "HOST:IP")]
    hosts: Vec<String>,
    /// What steps may ask for: network.host, security.insecure (repeatable)
    #[arg(long = "allow", value_name = "ENTITLEMENT")]
    allowed: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what came out to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Memory of steps: 512m
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Relative weight of steps' CPU time
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// Microseconds of CPU time that steps have in 100 milliseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// The period of --cpu-quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Size of /dev/shm of steps: 64m
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Bound of steps' processes: nofile=1024:2048 (repeatable)
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<String>,
    /// Where results of other machines are: type=registry,ref=NAME or type=local,src=DIR (repeatable)
    #[arg(long = "cache-from", value_name = "CACHE")]
    cache_from: Vec<String>,
    /// Where results go: type=registry,ref=NAME[,mode=max], type=local,dest=DIR or type=inline (repeatable)
    #[arg(long = "cache-to", value_name = "CACHE")]
    cache_to: Vec<String>,
    /// Control group below which steps run
    #[arg(long, value_name = "GROUP", default_value = "")]
    cgroup_parent: String,
    /// Taken for docker's sake; nothing of a step ever stays
    #[arg(long, hide = true)]
    rm: bool,
    /// Likewise
    #[arg(long, hide = true)]
    force_rm: bool,
}

/// What a build has come to.
struct End {
    image: Option<String>,
    manifest: Option<String>,
    names: Vec<String>,
}

impl Build {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let outputs = output::outputs(&self.outputs, &self.tags, self.push, self.load)?;
        let (mut ask, mut input) = self.ask(outputs.iter().map(|output| output.made.clone()).collect())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let first = runtime.block_on(self.send(&ask, input.take()));
        let end = match first {
            // The server sees other directories than this process.
            Err(error) if error.is::<Elsewhere>() => {
                let directory = ask::as_archive(&mut ask)?;
                runtime.block_on(self.send(&ask, Some(directory)))?
            }
            first => first?,
        };
        outputs.into_iter().try_for_each(output::Wanted::deliver)?;
        let id = end.image.clone().or(end.manifest.clone()).unwrap_or_default();
        if let Some(file) = &self.iidfile {
            std::fs::write(file, &id).with_context(|| format!("write {}", file.display()))?;
        }
        if let Some(file) = &self.metadata_file {
            let text = serde_json::to_vec_pretty(&metadata(&end))?;
            std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
        }
        if self.quiet && !id.is_empty() {
            println!("{id}");
        }
        Ok(())
    }

    /// Sends the request and shows what comes back.
    async fn send(&self, ask: &wire::Ask, input: Option<Box<dyn Read + Send>>) -> Result<End> {
        let path = self.place.run_dir.join(SOCKET);
        let stream = UnixStream::connect(&path).await.with_context(|| {
            format!("connect to {}: is `madang server` running, with this --run-dir, and are you root?", path.display())
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let task = Task::root("command");
        task.spawn("connection", async move { drop(connection.await) });
        let (pieces, body) = body::channel(4);
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        let feed = tokio::task::spawn_blocking(move || -> Result<()> {
            // A server that answers early takes no more.
            if pieces.blocking_send(Ok(line.into())).is_err() {
                return Ok(());
            }
            let Some(mut input) = input else { return Ok(()) };
            loop {
                let mut piece = vec![0; PIECE];
                let length = input.read(&mut piece).context("read the context")?;
                piece.truncate(length);
                if length == 0 || pieces.blocking_send(Ok(Bytes::from(piece))).is_err() {
                    return Ok(());
                }
            }
        });
        let request = Request::post("http://engine/madang/build").body(body)?;
        let response = sender.send_request(request).await.context("ask the server")?;
        if !response.status().is_success() {
            let bytes = response.into_body().collect().await.context("answer of the server")?.to_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let message = serde_json::from_slice::<serde_json::Value>(&bytes)
                .ok()
                .and_then(|value| Some(value["message"].as_str()?.to_owned()))
                .unwrap_or(text);
            if message.ends_with("send it as an archive") {
                return Err(Elsewhere(message).into());
            }
            bail!("{message}");
        }
        let end = self.follow(response.into_body()).await?;
        feed.await??;
        Ok(end)
    }

    async fn follow(&self, mut body: hyper::body::Incoming) -> Result<End> {
        let mut display = Display::stderr(if self.quiet { Mode::Quiet } else { self.progress });
        let mut frames = display.interval().map(tokio::time::interval);
        let mut left = Vec::new();
        loop {
            let frame = async {
                match &mut frames {
                    Some(frames) => drop(frames.tick().await),
                    None => std::future::pending().await,
                }
            };
            let piece = tokio::select! {
                piece = body.frame() => piece,
                () = frame => {
                    display.tick()?;
                    continue;
                }
            };
            let Some(piece) = piece else { bail!("the server ended the connection before the build was done") };
            let Ok(piece) = piece.context("answer of the server")?.into_data() else { continue };
            left.extend_from_slice(&piece);
            while let Some(end) = left.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = left.drain(..=end).collect();
                match serde_json::from_slice(&line).context("answer of the server")? {
                    Line::Event(event) => display.event(&event)?,
                    Line::Built { image, manifest, names } => {
                        display.end()?;
                        return Ok(End { image, manifest, names });
                    }
                    Line::Failed(shown) => {
                        display.end()?;
                        std::io::stderr().write_all(shown.as_bytes())?;
                        std::process::exit(1);
                    }
                }
            }
        }
    }
}

/// The server does not see the context's directory.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Elsewhere(String);

fn metadata(end: &End) -> serde_json::Value {
    let mut all = BTreeMap::new();
    if let Some(manifest) = &end.manifest {
        all.insert("containerimage.digest", manifest.clone());
    }
    if let Some(image) = &end.image {
        all.insert("containerimage.config.digest", image.clone());
    }
    if !end.names.is_empty() {
        all.insert("image.name", end.names.join(","));
    }
    serde_json::json!(all)
}
