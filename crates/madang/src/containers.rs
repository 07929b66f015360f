//! `madang run, ps, logs, exec, start, stop, kill, rm, inspect`: clients of the engine's socket, flags as in `docker`.

mod client;
mod limits;
mod run;
mod session;

use std::io::Write as _;

use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use http_body_util::BodyExt as _;
use oci::query::encoded;
use serde_json::{Value, json};

use crate::{
    config::Place,
    rows::{self, Field, Row},
};
use client::{Client, Frames};

pub use run::{Exec, Run};

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Does something with each of several containers; the names of those for which it was done are printed.
fn each<F: Future<Output = Result<()>>>(names: &[String], mut work: impl FnMut(String) -> F) -> Result<()> {
    block_on(async {
        let mut failed = 0;
        for name in names {
            match work(name.clone()).await {
                Ok(()) => println!("{name}"),
                Err(error) => {
                    eprintln!("madang: {error:#}");
                    failed += 1;
                }
            }
        }
        if failed > 0 { bail!("{failed} of {} containers: see above", names.len()) } else { Ok(()) }
    })
}

/// List containers.
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    place: Place,
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// What each has written, too
    #[arg(short, long)]
    size: bool,
    /// The last N, whatever they do
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<u32>,
    /// The last one
    #[arg(short, long)]
    latest: bool,
    /// NAME=VALUE, such as status=exited (repeatable)
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// json, or a template such as '{{.Names}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Fields of a container in a list, and their titles.
const FIELDS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Networks", "NETWORKS"),
    ("Mounts", "MOUNTS"),
    ("Size", "SIZE"),
];
const USUAL: &[&str] = &["ID", "Image", "Command", "CreatedAt", "Status", "Ports", "Names"];

/// `{"NAME": ["VALUE"]}` of `NAME=VALUE`.
fn filters(list: &[String]) -> Result<String> {
    let mut found = serde_json::Map::new();
    for text in list {
        let Some((name, value)) = text.split_once('=') else { bail!("--filter {text}: expected NAME=VALUE") };
        let values = found.entry(name).or_insert_with(|| json!([]));
        values.as_array_mut().into_iter().for_each(|values| values.push(value.into()));
    }
    Ok(encoded(&Value::from(found).to_string()))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

impl List {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let limit = if self.latest { Some(1) } else { self.last };
        let limit = limit.map_or_else(String::new, |limit| format!("&limit={limit}"));
        let sized = self.size || self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let path = format!(
            "/containers/json?all={}&size={}&filters={}{limit}",
            u8::from(self.all),
            u8::from(sized),
            filters(&self.filter)?
        );
        let list = block_on(Client::new(&self.place).json(Method::GET, &path, None))?;
        let rows: Vec<Row> = list.as_array().into_iter().flatten().map(|one| self.row(one)).collect();
        if self.quiet && self.format.is_none() {
            for row in &rows {
                println!("{}", row.first().map_or("", |id| &id.text));
            }
            return Ok(());
        }
        let usual = if self.size { [USUAL, &["Size"]].concat() } else { USUAL.to_vec() };
        print!("{}", rows::text(self.format.as_deref(), FIELDS, &usual, &rows)?);
        Ok(())
    }

    fn row(&self, one: &Value) -> Row {
        let short = |text: &str, length: usize| {
            if self.no_trunc || text.chars().count() <= length {
                text.to_owned()
            } else {
                text.chars().take(length - 1).chain(['…']).collect()
            }
        };
        let id = text(one, "Id");
        let created = one["Created"].as_i64().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let names = one["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let labels = one["Labels"].as_object().into_iter().flatten();
        let networks = one["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
        let mounts = one["Mounts"].as_array().into_iter().flatten();
        let mount = |mount: &Value| {
            let name = text(mount, "Name");
            short(if name.is_empty() { text(mount, "Source") } else { name }, 15)
        };
        let size = |name: &str| crate::images::size(one[name].as_u64().unwrap_or(0));
        FIELDS
            .iter()
            .map(|(name, _)| {
                let text = match *name {
                    "ID" if self.no_trunc => id.to_owned(),
                    "ID" => id.chars().take(12).collect(),
                    "Image" => text(one, "Image").to_owned(),
                    "Command" => format!("\"{}\"", short(text(one, "Command"), 20)),
                    "CreatedAt" => {
                        created.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
                    }
                    "Status" => text(one, "Status").to_owned(),
                    "State" => text(one, "State").to_owned(),
                    "Ports" => ports(&one["Ports"]),
                    "Names" => names.clone().map(|name| name.trim_start_matches('/')).collect::<Vec<_>>().join(","),
                    "Labels" => {
                        let pair =
                            |(name, value): (&String, &Value)| format!("{name}={}", value.as_str().unwrap_or_default());
                        labels.clone().map(pair).collect::<Vec<_>>().join(",")
                    }
                    "Networks" => networks.clone().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(","),
                    "Mounts" => mounts.clone().map(mount).collect::<Vec<_>>().join(","),
                    _ => format!("{} (virtual {})", size("SizeRw"), size("SizeRootFs")),
                };
                Field { name, text }
            })
            .collect()
    }
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`.
fn ports(list: &Value) -> String {
    let one = |port: &Value| {
        let inside = format!("{}/{}", port["PrivatePort"], text(port, "Type"));
        match port["PublicPort"].as_u64() {
            Some(public) => format!("{}:{public}->{inside}", text(port, "IP")),
            None => inside,
        }
    };
    list.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}

/// Print what a container has said.
#[derive(Args, Debug)]
pub struct Logs {
    #[command(flatten)]
    place: Place,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Nothing older: a time, or a duration such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Nothing younger
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Lines from the end
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    tail: String,
    /// Put each line's time in front of it
    #[arg(short, long)]
    timestamps: bool,
    /// Name or id
    container: String,
}

impl Logs {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let client = Client::new(&self.place);
        let time = |name: &str, time: &Option<String>| {
            time.as_ref().map_or_else(String::new, |time| format!("&{name}={}", encoded(time)))
        };
        let path = format!(
            "/containers/{}/logs?stdout=1&stderr=1&follow={}&timestamps={}&tail={}{}{}",
            encoded(&self.container),
            u8::from(self.follow),
            u8::from(self.timestamps),
            encoded(&self.tail),
            time("since", &self.since),
            time("until", &self.until),
        );
        block_on(async {
            let shown =
                client.json(Method::GET, &format!("/containers/{}/json", encoded(&self.container)), None).await?;
            let terminal = shown["Config"]["Tty"].as_bool().unwrap_or(false);
            let mut body = client.stream(Method::GET, &path).await?;
            let mut frames = Frames::default();
            while let Some(frame) = body.frame().await {
                let Ok(piece) = frame?.into_data() else { continue };
                if terminal {
                    std::io::stdout().lock().write_all(&piece)?;
                } else {
                    session::show(&mut frames, &piece)?;
                }
            }
            Ok(())
        })
    }
}

/// Start containers that do not run.
#[derive(Args, Debug)]
pub struct Start {
    #[command(flatten)]
    place: Place,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Start {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let client = Client::new(&self.place);
        each(&self.containers, async |name| {
            client.json(Method::POST, &format!("/containers/{}/start", encoded(&name)), None).await.map(drop)
        })
    }
}

/// Stop containers.
#[derive(Args, Debug)]
pub struct Stop {
    #[command(flatten)]
    place: Place,
    /// Signal to send first
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds until a container is killed
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Stop {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let client = Client::new(&self.place);
        let time = self.time.map_or_else(String::new, |time| format!("&t={time}"));
        let signal = self.signal.as_deref().map_or_else(String::new, |signal| format!("&signal={}", encoded(signal)));
        each(&self.containers, async |name| {
            let path = format!("/containers/{}/stop?{time}{signal}", encoded(&name));
            client.json(Method::POST, &path, None).await.map(drop)
        })
    }
}

/// Send containers a signal.
#[derive(Args, Debug)]
pub struct Kill {
    #[command(flatten)]
    place: Place,
    /// Which
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Kill {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let client = Client::new(&self.place);
        each(&self.containers, async |name| {
            let path = format!("/containers/{}/kill?signal={}", encoded(&name), encoded(&self.signal));
            client.json(Method::POST, &path, None).await.map(drop)
        })
    }
}

/// Remove containers.
#[derive(Args, Debug)]
pub struct Remove {
    #[command(flatten)]
    place: Place,
    /// Also those that run
    #[arg(short, long)]
    force: bool,
    /// With their anonymous volumes
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Remove {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let client = Client::new(&self.place);
        each(&self.containers, async |name| {
            let (force, volumes) = (u8::from(self.force), u8::from(self.volumes));
            let path = format!("/containers/{}?force={force}&v={volumes}", encoded(&name));
            client.json(Method::DELETE, &path, None).await.map(drop)
        })
    }
}

/// Print all that is known of containers, as JSON.
#[derive(Args, Debug)]
pub struct Inspect {
    #[command(flatten)]
    place: Place,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Inspect {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let client = Client::new(&self.place);
        let found: Vec<Value> = block_on(async {
            let mut found = Vec::new();
            for name in &self.containers {
                found.push(client.json(Method::GET, &format!("/containers/{}/json", encoded(name)), None).await?);
            }
            Ok(found)
        })?;
        println!("{}", serde_json::to_string_pretty(&found)?);
        Ok(())
    }
}
