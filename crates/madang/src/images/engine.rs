//! `madang push`, `save`, `tag` and `rmi`: commands that speak with the engine's socket, as docker's own client does.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use oci::{Reference, query::encoded};
use serde_json::Value;
use serve::{Body, body};

use super::{AUTH, block_on, credentials, send_to, size};
use crate::config::Place;

const SOCKET: &str = "docker.sock";
/// Largest refusal that is read.
const REFUSAL: usize = 1 << 20;

/// Send an image to a registry.
#[derive(Args, Debug)]
pub struct Push {
    #[command(flatten)]
    place: Place,
    /// Push all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Print only the name
    #[arg(short, long)]
    quiet: bool,
    /// Such as `registry.madang.internal/team/app:1.2`
    name: String,
}

/// Write images to an archive.
#[derive(Args, Debug)]
pub struct Save {
    #[command(flatten)]
    place: Place,
    /// The archive; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
}

/// Give an image another name.
#[derive(Args, Debug)]
pub struct Tag {
    #[command(flatten)]
    place: Place,
    /// The image: a name or an id
    source: String,
    /// The name
    target: String,
}

/// Remove names, and images with their last name.
#[derive(Args, Debug)]
pub struct Remove {
    #[command(flatten)]
    place: Place,
    /// Also where containers that do not run were made from them
    #[arg(short, long)]
    force: bool,
    /// Accepted as docker has it: images have no untagged parents here
    #[arg(long)]
    no_prune: bool,
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
}

impl Push {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let reference: Reference = self.name.parse()?;
        if self.all_tags && self.name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
            bail!("tag can't be used with --all-tags/-a");
        }
        let repository = reference.repository();
        let tag = if self.all_tags { String::new() } else { format!("?tag={}", reference.tag().unwrap_or("latest")) };
        let request = Request::post(format!("http://engine/images/{repository}/push{tag}"))
            .header(AUTH, credentials(&reference)?)
            .body(body::empty())?;
        let mut shown = Shown { live: io::stderr().is_terminal() && !self.quiet, ..Shown::default() };
        block_on(lines(&self.place, request, |line| {
            if !self.quiet {
                shown.line(line);
            }
        }))?;
        if self.quiet {
            println!("{reference}");
        }
        Ok(())
    }
}

impl Save {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if self.output.is_none() && io::stdout().is_terminal() {
            bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
        }
        let query: Vec<String> = self.images.iter().map(|name| format!("names={}", encoded(name))).collect();
        let request = Request::get(format!("http://engine/images/get?{}", query.join("&"))).body(body::empty())?;
        block_on(async {
            let mut answer = ask(&self.place, request).await?;
            // Beside its place until it is whole, so that a broken connection leaves nothing that looks like an archive.
            let partial = self.output.as_ref().map(|path| {
                let mut name = path.clone().into_os_string();
                name.push(".partial");
                PathBuf::from(name)
            });
            let mut output: Box<dyn Write> = match &partial {
                Some(path) => Box::new(File::create(path).with_context(|| format!("create {}", path.display()))?),
                None => Box::new(io::stdout().lock()),
            };
            let copied = async {
                while let Some(frame) = answer.frame().await {
                    if let Ok(piece) = frame.context("answer of the server")?.into_data() {
                        output.write_all(&piece).context("write the archive")?;
                    }
                }
                output.flush().context("write the archive")
            };
            let copied = copied.await;
            if let (Some(partial), Some(path)) = (&partial, &self.output) {
                match &copied {
                    Ok(()) => std::fs::rename(partial, path).with_context(|| format!("write {}", path.display()))?,
                    Err(_) => drop(std::fs::remove_file(partial)),
                }
            }
            copied
        })
    }
}

impl Tag {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let target: Reference = self.target.parse()?;
        let Some(tag) = target.tag() else { bail!("refusing to create a tag with a digest reference") };
        let url = format!("http://engine/images/{}/tag?repo={}&tag={tag}", self.source, encoded(&target.repository()));
        let request = Request::post(url).body(body::empty())?;
        block_on(async { ask(&self.place, request).await.map(drop) })
    }
}

impl Remove {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let mut failed = Vec::new();
        for image in &self.images {
            let url = format!("http://engine/images/{image}?force={}&noprune={}", self.force, self.no_prune);
            let request = Request::delete(url).body(body::empty())?;
            let removed = block_on(async {
                let answer = ask(&self.place, request).await?;
                let text = answer.into_body().collect().await.context("answer of the server")?.to_bytes();
                serde_json::from_slice::<Vec<BTreeMap<String, String>>>(&text).context("answer of the server")
            });
            match removed {
                Ok(done) => done.iter().flatten().for_each(|(what, name)| println!("{what}: {name}")),
                Err(error) => failed.push(format!("{error:#}")),
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => bail!(failed.join("\n")),
        }
    }
}

/// Images that fit filters, and a name or repository.
pub fn list(place: &Place, filters: &[String], name: Option<&str>) -> Result<Vec<super::Shown>> {
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for text in filters {
        let Some((name, value)) = text.split_once('=') else { bail!("--filter {text}: expected NAME=VALUE") };
        wanted.entry(name).or_default().push(value);
    }
    wanted.entry("reference").or_default().extend(name);
    wanted.retain(|_, values| !values.is_empty());
    let url = format!("http://engine/images/json?filters={}", encoded(&serde_json::to_string(&wanted)?));
    let request = Request::get(url).body(body::empty())?;
    let text = block_on(async {
        let answer = ask(place, request).await?;
        Ok(answer.into_body().collect().await.context("answer of the server")?.to_bytes())
    })?;
    let found: Vec<Value> = serde_json::from_slice(&text).context("answer of the server")?;
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let created = |value: &Value| Some(jiff::Timestamp::from_second(value.as_i64()?).ok()?.to_string());
    let image = |value: Value| super::Shown {
        id: value["Id"].as_str().unwrap_or_default().to_owned(),
        names: words(&value["RepoTags"]),
        digests: words(&value["RepoDigests"]),
        size: value["Size"].as_u64().unwrap_or(0),
        created: created(&value["Created"]),
    };
    Ok(found.into_iter().map(image).collect())
}

/// Asks the engine; a refusal is an error with what it says.
async fn ask(place: &Place, request: Request<Body>) -> Result<Response<Incoming>> {
    let answer = send_to(&place.run_dir.join(SOCKET), request).await?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let text = http_body_util::Limited::new(answer.into_body(), REFUSAL).collect().await;
    let text = text.map(|body| body.to_bytes()).unwrap_or_default();
    let said: Value = serde_json::from_slice(&text).unwrap_or_default();
    match said["message"].as_str() {
        Some(message) => bail!("{message}"),
        None => bail!("the engine answers {status}"),
    }
}

/// Reads the messages of an answer, one a line; an error among them is the outcome.
async fn lines(place: &Place, request: Request<Body>, mut each: impl FnMut(&Value)) -> Result<()> {
    let mut answer = ask(place, request).await?;
    let mut left = Vec::new();
    while let Some(frame) = answer.frame().await {
        let Ok(piece) = frame.context("answer of the server")?.into_data() else { continue };
        left.extend_from_slice(&piece);
        while let Some(end) = left.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = left.drain(..=end).collect();
            let line: Value = serde_json::from_slice(&line).context("answer of the server")?;
            if let Some(error) = line["error"].as_str() {
                bail!("{error}");
            }
            each(&line);
        }
    }
    Ok(())
}

/// Messages as they are printed: one line a layer, drawn anew on a terminal.
#[derive(Default)]
struct Shown {
    live: bool,
    layers: Vec<(String, String)>,
}

impl Shown {
    fn line(&mut self, line: &Value) {
        let Some(status) = line["status"].as_str() else { return };
        let Some(id) = line["id"].as_str() else { return println!("{status}") };
        let detail = &line["progressDetail"];
        let text = match (detail["current"].as_u64(), detail["total"].as_u64()) {
            (Some(current), Some(total)) => format!("{status} {}/{}", size(current), size(total)),
            _ => status.to_owned(),
        };
        if !self.live {
            // How far something is says nothing in a log.
            if detail["current"].is_null() {
                println!("{id}: {text}");
            }
            return;
        }
        let mut error = io::stderr().lock();
        let drawn = match self.layers.iter().position(|(known, _)| known == id) {
            Some(at) => {
                self.layers[at].1 = text;
                let up = self.layers.len() - at;
                write!(error, "\x1b[{up}A\r\x1b[2K{id}: {}\x1b[{up}B\r", self.layers[at].1)
            }
            None => {
                self.layers.push((id.to_owned(), text.clone()));
                writeln!(error, "{id}: {text}")
            }
        };
        // Standard error that is gone hinders nobody.
        let _ = drawn.and_then(|()| error.flush());
    }
}
