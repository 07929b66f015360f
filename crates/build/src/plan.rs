//! Which stages a build needs, what each starts from, and in which order they can be built.
//!
//! ```text
//! ARG before FROM, --build-arg ─► values ─► base names ─► graph of stages ─ from the target ─► those that are needed
//! ```
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#from>, `#understand-how-arg-and-from-interact`.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dockerfile::{Copy, Dockerfile, Error, Instruction, Lines, Mount, Step},
    expand::{self, Mode},
};

/// Where an image runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `v8`; empty where there is none.
    pub variant: String,
}

impl Platform {
    /// Reads `os/architecture[/variant]`, or `os` or an architecture alone.
    pub fn parse(text: &str, own: &Self) -> Result<Self, String> {
        let word =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
        if parts.len() > 3 || !parts.iter().all(|part| word(part)) {
            return Err(format!("{text:?}: a platform is written os/architecture or os/architecture/variant"));
        }
        let (os, rest) = match parts[0].as_str() {
            "linux" | "windows" | "darwin" | "freebsd" => (parts[0].clone(), &parts[1..]),
            _ if parts.len() == 1 => ("linux".to_owned(), &parts[..]),
            _ => (parts[0].clone(), &parts[1..]),
        };
        let architecture = match rest.first().map(String::as_str) {
            None => own.architecture.clone(),
            Some("x86_64" | "x86-64") => "amd64".to_owned(),
            Some("aarch64") => "arm64".to_owned(),
            Some("i386" | "i686") => "386".to_owned(),
            Some(other) => other.to_owned(),
        };
        let variant = rest.get(1).filter(|variant| !(architecture == "arm64" && *variant == "v8")).cloned();
        Ok(Self { os, architecture, variant: variant.unwrap_or_default() })
    }
}

impl Platform {
    /// As registries' indexes are asked.
    pub fn machine(&self) -> oci::index::Machine {
        let variants = if self.variant.is_empty() {
            let host = oci::index::Machine::host();
            if host.architecture == self.architecture { host.variants } else { Vec::new() }
        } else {
            vec![self.variant.clone()]
        };
        oci::index::Machine { os: self.os.clone(), architecture: self.architecture.clone(), variants }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// What the caller of a build says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The stage to build: a name or a number; the last where none is given.
    pub target: Option<String>,
    /// `--build-arg`.
    pub arguments: BTreeMap<String, String>,
    /// The platform that builds.
    pub build: Platform,
    /// The platform that the image is for.
    pub platform: Platform,
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// Another stage, by its place in the file.
    Stage(usize),
    /// An image, by its name as written.
    Image(String),
}

/// A stage as it takes part in a build.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it starts from.
    pub base: Origin,
    /// The platform of its base, where it is not the target's.
    pub platform: Option<Platform>,
    /// Stages and images that its steps copy from or mount.
    pub needs: BTreeSet<Origin>,
}

/// The graph of stages.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of the file.
    pub stages: Vec<Node>,
    /// The one to build.
    pub target: usize,
    /// The platform that the image is for.
    pub platform: Platform,
    /// Values of `ARG`s before the first `FROM` and of the predefined ones.
    pub globals: BTreeMap<String, String>,
}

impl Plan {
    /// Finds out what the target needs.
    pub fn new(file: &Dockerfile, options: &Options) -> Result<Self, Error> {
        let target = target(file, options)?;
        let globals = globals(file, options)?;
        let escape = file.directives.escape;
        let lookup = |name: &str| globals.get(name).cloned();
        let mut stages = Vec::new();
        for (at, stage) in file.stages.iter().enumerate() {
            let fail = |message: String| Error::new(message, stage.lines);
            let word =
                |text: &str| expand::word(text, escape, Mode::Plain, &lookup).map_err(|error| fail(error.to_string()));
            let base = word(&stage.base)?;
            if base.is_empty() {
                return Err(fail(format!("base name ({}) should not be blank", stage.base)));
            }
            let base = match named(file, at, &base) {
                Some(earlier) => Origin::Stage(earlier),
                None if base == "scratch" => Origin::Scratch,
                None => Origin::Image(base),
            };
            let platform = match &stage.platform {
                None => None,
                Some(written) => {
                    let text = word(written)?;
                    if text.is_empty() {
                        return Err(fail(format!("empty platform value from expression {written}")));
                    }
                    let parsed = Platform::parse(&text, &options.platform);
                    Some(parsed.map_err(|error| fail(format!("failed to parse platform {written}: {error}")))?)
                }
            };
            let mut needs = BTreeSet::new();
            for step in &stage.steps {
                needs.extend(sources(file, at, step)?);
            }
            stages.push(Node { base, platform, needs });
        }
        Ok(Self { stages, target, platform: options.platform.clone(), globals })
    }

    /// The stages that the target needs, itself last; each after those it starts from and copies from.
    pub fn order(&self) -> Vec<usize> {
        // A stage needs only earlier ones, so that one pass backwards finds all.
        let mut needed = vec![false; self.stages.len()];
        needed[self.target] = true;
        for at in (0..=self.target).rev() {
            if needed[at] {
                self.stages[at].before().for_each(|earlier| needed[earlier] = true);
            }
        }
        (0..=self.target).filter(|at| needed[*at]).collect()
    }

    /// The platform of a stage: what its `FROM` says, else that of the stage that it starts from, else the target's.
    pub fn platform_of(&self, mut at: usize) -> &Platform {
        loop {
            match (&self.stages[at].platform, &self.stages[at].base) {
                (Some(platform), _) => return platform,
                // Stages start from earlier ones alone.
                (None, Origin::Stage(earlier)) if *earlier < at => at = *earlier,
                (None, _) => return &self.platform,
            }
        }
    }

    /// The images that the target needs, each with the platform of the stage that needs it.
    pub fn images(&self) -> BTreeSet<(&str, &Platform)> {
        let mut images = BTreeSet::new();
        for at in self.order() {
            let stage = &self.stages[at];
            for origin in stage.needs.iter().chain([&stage.base]) {
                if let Origin::Image(name) = origin {
                    images.insert((name.as_str(), self.platform_of(at)));
                }
            }
        }
        images
    }
}

impl Node {
    /// The stages that must be there before this one.
    pub fn before(&self) -> impl Iterator<Item = usize> {
        std::iter::once(&self.base).chain(&self.needs).filter_map(|origin| match origin {
            Origin::Stage(at) => Some(*at),
            Origin::Scratch | Origin::Image(_) => None,
        })
    }
}

/// The stage before `at` that has a name; the last of several.
fn named(file: &Dockerfile, at: usize, name: &str) -> Option<usize> {
    file.stages[..at]
        .iter()
        .rposition(|stage| stage.name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name)))
}

fn target(file: &Dockerfile, options: &Options) -> Result<usize, Error> {
    let last = file.stages.len() - 1;
    let Some(wanted) = &options.target else { return Ok(last) };
    let numbered = wanted.parse().ok().filter(|at| *at <= last);
    named(file, file.stages.len(), wanted).or(numbered).ok_or_else(|| {
        let names: Vec<&str> = file.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let known =
            if names.is_empty() { "no stage has a name".to_owned() } else { format!("there are {}", names.join(", ")) };
        Error::new(format!("target stage {wanted:?} could not be found; {known}"), file.stages[last].lines)
    })
}

/// Predefined arguments and those before the first `FROM`.
fn globals(file: &Dockerfile, options: &Options) -> Result<BTreeMap<String, String>, Error> {
    let (build, platform) = (&options.build, &options.platform);
    let target = options.target.clone().or_else(|| file.stages.last().and_then(|stage| stage.name.clone()));
    let predefined = [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", build.variant.clone()),
        ("TARGETPLATFORM", platform.to_string()),
        ("TARGETOS", platform.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", platform.architecture.clone()),
        ("TARGETVARIANT", platform.variant.clone()),
        ("TARGETSTAGE", target.unwrap_or_else(|| "default".to_owned())),
    ];
    let mut globals: BTreeMap<String, String> = predefined
        .into_iter()
        .map(|(name, value)| (name.to_owned(), options.arguments.get(name).cloned().unwrap_or(value)))
        .collect();
    for argument in &file.arguments {
        let value = match (options.arguments.get(&argument.name), &argument.value) {
            (Some(given), _) => given.clone(),
            (None, None) => continue,
            (None, Some(default)) => {
                let lookup = |name: &str| globals.get(name).cloned();
                expand::word(default, file.directives.escape, Mode::Plain, &lookup)
                    .map_err(|error| Error::new(error.to_string(), argument.lines))?
            }
        };
        globals.insert(argument.name.clone(), value);
    }
    Ok(globals)
}

/// What a step copies from or mounts, besides the context.
pub fn sources(file: &Dockerfile, at: usize, step: &Step) -> Result<Vec<Origin>, Error> {
    match &step.instruction {
        Instruction::Copy(Copy { from: Some(from), .. }) => Ok(vec![origin(file, at, from, step.lines)?]),
        Instruction::Run(run) => {
            // The rest of a mount may hold variables, and is read when they are known.
            let froms = run.mounts.iter().filter_map(|mount| Mount::origin(mount));
            froms.map(|from| origin(file, at, &from, step.lines)).collect()
        }
        _ => Ok(Vec::new()),
    }
}

/// What `--from` means in a stage: an earlier stage's name or number, or an image.
pub fn origin(file: &Dockerfile, at: usize, from: &str, lines: Lines) -> Result<Origin, Error> {
    if let Some(earlier) = named(file, at, from) {
        return Ok(Origin::Stage(earlier));
    }
    if from == "scratch" {
        return Ok(Origin::Scratch);
    }
    let later = named(file, file.stages.len(), from).or_else(|| from.parse().ok());
    match later {
        None => Ok(Origin::Image(from.to_owned())),
        Some(earlier) if earlier < at => Ok(Origin::Stage(earlier)),
        Some(_) => {
            let own = file.stages[at].name.clone().unwrap_or_else(|| format!("stage-{at}"));
            let message =
                format!("cannot copy from stage {from:?}, it needs to be defined before current stage {own:?}");
            Err(Error::new(message, lines))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
