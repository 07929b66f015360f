//! `docker build`: options as fields of a `Build` object.

use serde_json::{Map, Value as Json, json};

use super::words::{Options, Word};

const WHAT: &str = "docker.build";

/// What is to be built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The context's directory, from where the step is taken.
    pub context: String,
    /// The Dockerfile, from where the step is taken; the context's own without it.
    pub file: Option<String>,
    /// Values of `ARG`; those without one are the step's variables of that name.
    pub arguments: Vec<(String, Option<String>)>,
    /// The stage.
    pub target: Option<String>,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// The platform.
    pub platform: Option<String>,
    /// Whether steps reach nothing.
    pub unconnected: bool,
    /// Whether nothing is taken from the cache.
    pub no_cache: bool,
    /// Images that hold results.
    pub cache_from: Vec<String>,
    /// Further names.
    pub tags: Vec<String>,
}

impl Wanted {
    /// What a line of arguments says; with `context` it ends with the context's directory.
    ///
    /// # Errors
    /// An option is not known, or cannot be had here.
    pub fn parse(line: &str, context: bool) -> Result<Self, String> {
        let mut options = Options::new(line, WHAT)?;
        let mut wanted = Self::default();
        let mut plain = Vec::new();
        while let Some(word) = options.next() {
            let (name, given) = match word {
                Word::Plain(word) => {
                    plain.push(word);
                    continue;
                }
                Word::Option(name, given) => (name, given),
            };
            match &*name {
                "--build-arg" => {
                    let value = options.value(&name, given)?;
                    wanted.arguments.push(match value.split_once('=') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => (value, None),
                    });
                }
                "-f" | "--file" => wanted.file = Some(options.value(&name, given)?),
                "--target" => wanted.target = Some(options.value(&name, given)?),
                "-t" | "--tag" => wanted.tags.push(options.value(&name, given)?),
                "--label" => {
                    let value = options.value(&name, given)?;
                    let (label, value) = value.split_once('=').unwrap_or((&value, ""));
                    wanted.labels.push((label.to_owned(), value.to_owned()));
                }
                "--platform" => wanted.platform = Some(options.value(&name, given)?),
                "--network" => match &*options.value(&name, given)? {
                    "default" | "bridge" => {}
                    "none" => wanted.unconnected = true,
                    other => return Err(format!("{WHAT}: steps have no network {other:?}: none or default")),
                },
                "--cache-from" => wanted.cache_from.push(cached(&options.value(&name, given)?)?),
                "--no-cache" => wanted.no_cache = given.as_deref() != Some("false"),
                // The newest image of a name is asked for anyway; what goes along a build is removed anyway.
                "--pull" | "--rm" | "--force-rm" | "-q" | "--quiet" | "--load" | "--compress" | "--squash" => {}
                "--progress" | "--provenance" | "--sbom" | "--builder" | "--ulimit" | "--shm-size" | "-m"
                | "--memory" | "--memory-swap" | "--cpuset-cpus" | "--cpu-shares" | "-c" | "--cpu-quota"
                | "--cpu-period" => drop(options.value(&name, given)?),
                "--push" => return Err(format!("{WHAT}: {name}: say push() of the image")),
                "--secret" | "--ssh" => {
                    return Err(format!(
                        "{WHAT}: {name}: run the docker client in sh, which has a socket to build through"
                    ));
                }
                other => return Err(format!("{WHAT}: the option {other} is not known here")),
            }
        }
        match (context, plain.as_slice()) {
            (true, [one]) if one == "-" || one.contains("://") => {
                Err(format!("{WHAT}: the context is a directory of the workspace, not {one:?}"))
            }
            (true, [one]) => Ok(Self { context: one.clone(), ..wanted }),
            (false, []) => Ok(wanted),
            (true, []) => Err(format!("{WHAT}: its arguments end with the directory of the context: '-f x .'")),
            (_, several) => Err(format!("{WHAT}: {:?} is one word too many", several[several.len() - 1])),
        }
    }

    /// The fields of a `Build` object's `spec` that say this.
    pub fn spec(&self, variable: impl Fn(&str) -> Option<String>) -> Map<String, Json> {
        let mut spec = Map::new();
        let mut set = |name: &str, value: Json| drop(spec.insert(name.to_owned(), value));
        let arguments = self.arguments.iter().filter_map(|(name, value)| {
            // One that is given no value, and is no variable, is as if it were not named.
            let value = value.clone().or_else(|| variable(name))?;
            Some(json!({"name": name, "value": value}))
        });
        set("args", arguments.collect());
        if let Some(target) = &self.target {
            set("target", json!(target));
        }
        if !self.labels.is_empty() {
            set("labels", self.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect());
        }
        if let Some(platform) = &self.platform {
            set("platform", json!(platform));
        }
        if self.unconnected {
            set("network", json!("None"));
        }
        if self.no_cache {
            set("noCache", json!(true));
        }
        if !self.cache_from.is_empty() {
            set("cacheFrom", json!(self.cache_from));
        }
        spec
    }
}

/// An image of `--cache-from`: its name, or `type=registry,ref=NAME`.
fn cached(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let fields: Vec<(&str, &str)> = text.split(',').filter_map(|field| field.split_once('=')).collect();
    let field = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    match (field("type").as_deref(), field("ref")) {
        (Some("registry"), Some(name)) => Ok(name),
        _ => Err(format!("{WHAT}: --cache-from {text}: results are taken from registries: type=registry,ref=NAME")),
    }
}

/// Where a Dockerfile is, given the step's directory and the context's: in the context by this path, or beside it.
pub fn within(directory: &str, context: &str, file: &str) -> Option<String> {
    let context = absolute(directory, context)?;
    let file = absolute(directory, file)?;
    let rest = file.strip_prefix(&context)?;
    match context.as_str() {
        "/" => Some(rest.to_owned()),
        _ => rest.strip_prefix('/').map(str::to_owned),
    }
}

/// A path without `.` and `..`; none where it leads above the root.
pub fn absolute(directory: &str, path: &str) -> Option<String> {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}
