//! `madang load`, `madang pull`, `madang images`: the node's images, over `<run-dir>/images.sock`.
//!
//! ```text
//! GET  /images            a JSON list
//! POST /images/load       an archive ─► JSON lines: the images, or an error
//! POST /images/pull?NAME  ─► JSON lines: progress of layers, then the image, or an error
//! ```
//!
//! The socket belongs to root alone. A command that is interrupted ends what it began; nothing half-made stays.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use clap::Args;
use futures::TryStreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use image::pull::{Credentials, Progress, Registries};
use oci::Reference;
use serde::{Deserialize, Serialize};
use serve::{Body, body};
use task::Task;
use tokio::{io::AsyncReadExt, net::UnixStream};

use crate::{
    config::Place,
    rows::{self, Field, Row},
    sockets,
};

pub mod engine;

const SOCKET: &str = "images.sock";
/// The header with credentials for a registry.
const AUTH: &str = "x-registry-auth";
/// Bytes read from a file at a time.
const PIECE: usize = 256 * 1024;

/// An image as commands show it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shown {
    id: String,
    names: Vec<String>,
    digests: Vec<String>,
    size: u64,
    created: Option<String>,
}

impl Shown {
    fn of(image: &image::Image) -> Self {
        Self {
            id: image.id.to_string(),
            names: image.names.clone(),
            digests: image.digests.clone(),
            size: image.size,
            created: image.config.created().clone(),
        }
    }
}

/// One line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Layer { digest: String, done: u64, total: u64 },
    Image(Shown),
    Error(String),
}

/// Serves the socket until `task` ends.
pub fn serve(task: &Task, run_dir: &Path, store: &image::Store, registries: &Arc<Registries>) -> Result<()> {
    let path = run_dir.join(SOCKET);
    let listener = sockets::listen_on(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (below, store, registries) = (task.child("images"), store.clone(), registries.clone());
    let worker = below.clone();
    task.spawn(
        "images",
        serve::http::serve_unix(below, listener, serve::http::Limits::default(), move |request| {
            let (worker, store, registries) = (worker.clone(), store.clone(), registries.clone());
            async move { answer(&worker, &store, registries, request) }
        }),
    );
    Ok(())
}

fn answer(task: &Task, store: &image::Store, registries: Arc<Registries>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (sender, lines) = body::channel(16);
    let say = move |line: Line| {
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Ok(text.into())
    };
    let store = store.clone();
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/images") => {
            let all: Vec<Shown> = store.list().iter().map(Shown::of).collect();
            Response::new(body::full(serde_json::to_vec(&all).unwrap_or_default()))
        }
        (&Method::POST, "/images/load") => {
            task.spawn("load", async move {
                let archive = tokio_util::io::StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
                match store.load(archive).await {
                    Ok(images) => {
                        for image in images {
                            let _ = sender.send(say(Line::Image(Shown::of(&image)))).await;
                        }
                    }
                    Err(error) => drop(sender.send(say(Line::Error(format!("{error:#}")))).await),
                }
            });
            Response::new(lines)
        }
        (&Method::POST, "/images/pull") => {
            let name = parts.uri.query().unwrap_or_default().to_owned();
            let credentials = brought(&parts.headers);
            task.spawn("pull", async move {
                let done = match credentials {
                    Ok(credentials) => {
                        let how = image::pull::Pull { credentials, registries, ..Default::default() };
                        pull(&store, how, &name, &sender, &say).await
                    }
                    Err(error) => Err(error),
                };
                let line = match done {
                    Ok(image) => Line::Image(Shown::of(&image)),
                    Err(error) => Line::Error(format!("{error:#}")),
                };
                let _ = sender.send(say(line)).await;
            });
            Response::new(lines)
        }
        _ => {
            let mut response = Response::new(body::full("no such path\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

type Piece = std::result::Result<bytes::Bytes, body::Error>;

/// Credentials that a request brings, as docker's clients send them.
fn brought(headers: &http::HeaderMap) -> Result<Vec<Credentials>> {
    let Some(header) = headers.get(AUTH) else { return Ok(Vec::new()) };
    let document = URL_SAFE.decode(header).context("credentials that are not base64")?;
    Ok(Credentials::parse(&document)?.into_iter().collect())
}

/// What the user has for an image's registry, as a request brings it.
fn credentials(reference: &Reference) -> Result<String> {
    let known = image::pull::user::credentials(reference, |name| std::env::var(name).ok())?;
    let document = known.map_or_else(|| serde_json::json!({}), |known| known.document());
    Ok(URL_SAFE.encode(document.to_string()))
}

async fn pull(
    store: &image::Store,
    how: image::pull::Pull,
    name: &str,
    sender: &tokio::sync::mpsc::Sender<Piece>,
    say: &(impl Fn(Line) -> Piece + Clone + Send + Sync + 'static),
) -> Result<image::Image> {
    let reference: Reference = name.parse()?;
    let (progress, say) = (sender.clone(), say.clone());
    let told = move |progress_of: Progress| {
        let line =
            Line::Layer { digest: progress_of.layer.to_string(), done: progress_of.done, total: progress_of.total };
        // A reader that is slower than the network misses some of them.
        let _ = progress.try_send(say(line));
    };
    let how = image::pull::Pull { progress: Some(Arc::new(told)), ..how };
    let pulled = store.pull(&reference, &how);
    tokio::select! {
        done = pulled => Ok(done?),
        () = sender.closed() => bail!("the command that asked for {name} has gone"),
    }
}

/// Load images from an archive of `docker save` or an OCI layout, plain or compressed.
#[derive(Args, Debug)]
pub struct Load {
    #[command(flatten)]
    place: Place,
    /// The archive; standard input without it
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// Fetch an image from a registry.
#[derive(Args, Debug)]
pub struct Pull {
    #[command(flatten)]
    place: Place,
    /// Such as `nginx`, `registry.example.org/team/app:1.2` or `NAME@sha256:...`
    name: String,
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
}

/// List images.
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    place: Place,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Accepted as docker has it: images have no untagged parents here
    #[arg(short, long)]
    all: bool,
    /// Print digests too
    #[arg(long)]
    digests: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// NAME=VALUE, such as dangling=true or reference=PATTERN (repeatable)
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// json, or a template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only images of this repository, or with this name
    name: Option<String>,
}

/// Fields of an image in a list, and their titles.
const FIELDS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedAt", "CREATED"),
    ("Size", "SIZE"),
];

impl Load {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if self.input.is_none() && std::io::stdin().is_terminal() {
            bail!("requested load from stdin, but stdin is empty: name an archive with --input");
        }
        let (sender, archive) = body::channel(4);
        let quiet = self.quiet;
        block_on(async move {
            let input = self.input.clone();
            let feed = async move {
                let mut file = match &input {
                    Some(path) => {
                        tokio::fs::File::open(path).await.with_context(|| format!("open {}", path.display()))?
                    }
                    None => {
                        tokio::fs::File::from_std(std::fs::File::open("/dev/stdin").context("open standard input")?)
                    }
                };
                loop {
                    let mut piece = bytes::BytesMut::with_capacity(PIECE);
                    if file.read_buf(&mut piece).await.context("read archive")? == 0
                        || sender.send(Ok(piece.freeze())).await.is_err()
                    {
                        return Ok(());
                    }
                }
            };
            let request = Request::post("http://images/images/load").body(archive)?;
            let (fed, shown) = tokio::join!(feed, follow(&self.place, request, |_| {}));
            fed.and(shown).map(|images: Vec<Shown>| {
                for image in images.iter().filter(|_| !quiet) {
                    match image.names.as_slice() {
                        [] => println!("Loaded image ID: {}", image.id),
                        names => names.iter().for_each(|name| println!("Loaded image: {name}")),
                    }
                }
            })
        })
    }
}

impl Pull {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        for image in block_on(fetch(&self.place, &self.name, self.quiet))? {
            for name in image.digests.iter().filter(|_| !self.quiet) {
                println!("{name}");
            }
            if self.quiet {
                println!("{}", self.name);
            }
        }
        Ok(())
    }
}

/// Has an image fetched, and says on a terminal how far that is, unless it is to be quiet.
pub async fn fetch(place: &Place, name: &str, quiet: bool) -> Result<Vec<Shown>> {
    let live = !quiet && std::io::stderr().is_terminal();
    let mut layers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let reference: Reference = name.parse().with_context(|| format!("pull {name:?}"))?;
    let mut request = Request::post(format!("http://images/images/pull?{name}"));
    match credentials(&reference) {
        Ok(shown) => request = request.header(AUTH, shown),
        // The registry may need none.
        Err(error) => eprintln!("WARNING: credentials are left out: {error:#}"),
    }
    let request = request.body(body::empty())?;
    let pulled = follow(place, request, |line| {
        let Line::Layer { digest, done, total } = line else { return };
        layers.insert(digest.clone(), (*done, *total));
        if live {
            let (done, total) = layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
            eprint!("\r{} layers, {} of {}\x1b[K", layers.len(), size(done), size(total));
            let _ = std::io::stderr().flush();
        }
    });
    let pulled = pulled.await;
    if live {
        eprint!("\r\x1b[K");
    }
    pulled
}

impl List {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        // The engine knows filters; without them its socket need not be there.
        let images: Vec<Shown> = if self.filter.is_empty() && self.name.is_none() {
            let request = Request::get("http://images/images").body(body::empty())?;
            let text = block_on(async {
                let response = send(&self.place, request).await?;
                Ok(response.into_body().collect().await.context("answer of the server")?.to_bytes())
            })?;
            serde_json::from_slice(&text).context("answer of the server")?
        } else {
            engine::list(&self.place, &self.filter, self.name.as_deref())?
        };
        let rows: Vec<Row> = images.iter().flat_map(|image| self.rows(image)).collect();
        if self.quiet && self.format.is_none() {
            for image in &images {
                println!("{}", self.id(&image.id));
            }
            return Ok(());
        }
        let usual: Vec<&str> =
            FIELDS.iter().map(|(name, _)| *name).filter(|name| *name != "Digest" || self.digests).collect();
        print!("{}", rows::text(self.format.as_deref(), FIELDS, &usual, &rows)?);
        Ok(())
    }

    fn id(&self, id: &str) -> String {
        let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
        if self.no_trunc { id.to_owned() } else { hex.chars().take(12).collect() }
    }

    /// A row for each name.
    fn rows(&self, image: &Shown) -> Vec<Row> {
        let known = image.digests.first().and_then(|name| name.split_once('@'));
        let mut names: Vec<(&str, &str)> = image.names.iter().filter_map(|name| name.rsplit_once(':')).collect();
        if names.is_empty() {
            names.push((known.map_or("<none>", |(name, _)| name), "<none>"));
        }
        let created = image.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let row = |(repository, tag): (&str, &str)| {
            let field = |(name, _): &(&'static str, &'static str)| Field {
                name,
                text: match *name {
                    "Repository" => repository.to_owned(),
                    "Tag" => tag.to_owned(),
                    "Digest" => known.map_or("<none>", |(_, digest)| digest).to_owned(),
                    "ID" => self.id(&image.id),
                    "CreatedAt" => {
                        created.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
                    }
                    _ => size(image.size),
                },
            };
            FIELDS.iter().map(field).collect()
        };
        names.into_iter().map(row).collect()
    }
}

/// A size as docker prints it: thousands, three digits.
pub fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if amount < 1000.0 {
            break;
        }
        (amount, unit) = (amount / 1000.0, next);
    }
    if amount < 10.0 && unit != "B" {
        format!("{amount:.2}{unit}")
    } else if amount < 100.0 && unit != "B" {
        format!("{amount:.1}{unit}")
    } else {
        format!("{amount:.0}{unit}")
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn send(place: &Place, request: Request<Body>) -> Result<Response<hyper::body::Incoming>> {
    send_to(&place.run_dir.join(SOCKET), request).await
}

async fn send_to(path: &Path, request: Request<Body>) -> Result<Response<hyper::body::Incoming>> {
    let stream = UnixStream::connect(path).await.with_context(|| {
        format!("connect to {}: is `madang server` running, with this --run-dir, and are you root?", path.display())
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let task = Task::root("command");
    task.spawn("connection", async move { drop(connection.await) });
    sender.send_request(request).await.context("ask the server")
}

/// Sends a request and reads the lines of its answer; returns the images in it, or the error that it ends with.
async fn follow(place: &Place, request: Request<Body>, mut each: impl FnMut(&Line)) -> Result<Vec<Shown>> {
    let mut response = send(place, request).await?;
    let (mut left, mut images) = (Vec::new(), Vec::new());
    while let Some(frame) = response.frame().await {
        let Ok(piece) = frame.context("answer of the server")?.into_data() else { continue };
        left.extend_from_slice(&piece);
        while let Some(end) = left.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = left.drain(..=end).collect();
            match serde_json::from_slice(&line).context("answer of the server")? {
                Line::Image(image) => images.push(image),
                Line::Error(error) => bail!(error),
                line => each(&line),
            }
        }
    }
    Ok(images)
}
