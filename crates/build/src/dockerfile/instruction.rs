//! The instructions, one variant each, and how they are read from a logical line.
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#overview>.

use std::time::Duration;

use super::{
    error::{Lines, suggestion},
    flags::{Flags, Takes},
    heredoc::{self, Heredoc},
    mount::{self, Mount},
    split::{self, Pair},
};

/// The names, in the order of the reference.
const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// One instruction; words are as written, not expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Files, archives, URLs and repositories into the image.
    Add(Copy),
    /// Arguments of the build.
    Arg(Vec<Argument>),
    /// What a container runs by default.
    Cmd(CommandLine),
    /// Files into the image.
    Copy(Copy),
    /// What a container runs; none for `ENTRYPOINT []`.
    Entrypoint(Option<CommandLine>),
    /// Environment variables.
    Env(Vec<Pair>),
    /// Ports, with protocol or as a range.
    Expose(Vec<String>),
    /// How a container is asked whether it is well.
    Healthcheck(Health),
    /// Labels.
    Label(Vec<Pair>),
    /// The author, as people wrote it before labels.
    Maintainer(String),
    /// An instruction for builds that start from this image.
    Onbuild(String),
    /// A process whose changes are kept.
    Run(Run),
    /// What runs command lines that are no arrays.
    Shell(Vec<String>),
    /// The signal that ends a container.
    StopSignal(String),
    /// Who runs what follows.
    User(String),
    /// Directories that are volumes.
    Volume(Vec<String>),
    /// Where what follows runs.
    Workdir(String),
}

/// `ARG name` or `ARG name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The name.
    pub name: String,
    /// What it is where the build does not say.
    pub value: Option<String>,
    /// Where it stands.
    pub lines: Lines,
}

/// A command line: an array, or a line for the shell with its here-documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// `["program", "argument"]`.
    Array(Vec<String>),
    /// What the shell gets.
    Shell {
        /// The line.
        line: String,
        /// What it reads by `<<`.
        heredocs: Vec<Heredoc>,
    },
}

/// What `COPY` and `ADD` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// Paths in the context or in `from`; for `ADD` also URLs and repositories.
    pub sources: Vec<String>,
    /// Files that stand in the Dockerfile itself.
    pub inline: Vec<Inline>,
    /// Where to.
    pub destination: String,
    /// `--from`: a stage, its number, an image or a named context.
    pub from: Option<String>,
    /// `--chown`: `user[:group]`.
    pub owner: Option<String>,
    /// `--chmod`: octal or symbolic.
    pub mode: Option<String>,
    /// `--link`: a layer that depends on nothing below it.
    pub link: bool,
    /// `--parents`: directories of the sources are kept.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--checksum` of a URL or repository.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// A file that stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inline {
    /// The here-document's word.
    pub name: String,
    /// What is in it.
    pub text: String,
    /// Whether variables in it are expanded.
    pub expand: bool,
}

/// What `RUN` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub command: CommandLine,
    /// `--mount`, as written; [`Mount::parse`] reads them once variables are known.
    pub mounts: Vec<String>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`, as written.
    pub devices: Vec<String>,
}

/// What a step reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// What the build has.
    #[default]
    Default,
    /// Nothing.
    None,
    /// The machine's own.
    Host,
}

/// What a step may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// What a container may.
    #[default]
    Sandbox,
    /// Everything; the build must have allowed it.
    Insecure,
}

/// What `HEALTHCHECK` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// No check, not even the base image's.
    None,
    /// A command, and when.
    Check(Probe),
}

/// A health check; durations and counts that are not given are zero, as in the image's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What runs.
    pub command: CommandLine,
    /// Time between two checks.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How long failures do not count after the start.
    pub start_period: Duration,
    /// Time between two checks until then.
    pub start_interval: Duration,
    /// After how many failures the container is unhealthy.
    pub retries: u32,
}

/// A logical line as read.
pub(super) enum Read {
    From { base: String, name: Option<String>, platform: Option<String> },
    Step(Instruction),
}

impl Instruction {
    /// Its name, in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// Whether here-documents may follow a logical line: after `RUN`, `COPY`, `ADD` and those within `ONBUILD`, if not in JSON form.
pub(super) fn takes_heredocs(line: &str) -> bool {
    // The escape character matters to flags alone; one that is not the file's makes no difference to what is asked here.
    let (mut name, _, mut rest) = split::command(line, '\\');
    if name.eq_ignore_ascii_case("ONBUILD") {
        (name, _, rest) = split::command(rest, '\\');
    }
    ["RUN", "COPY", "ADD"].iter().any(|taking| name.eq_ignore_ascii_case(taking))
        && !matches!(split::json(rest), Ok(Some(_)))
}

/// Reads one instruction.
pub(super) fn read(line: &str, heredocs: Vec<Heredoc>, escape: char, lines: Lines) -> Result<Read, String> {
    let (written, flags, rest) = split::command(line, escape);
    let name = written.to_ascii_uppercase();
    let none = |flags: &[String]| Flags::parse(flags, &[]).map(drop);
    let at_least_one = || format!("{name} requires at least one argument");
    Ok(Read::Step(match name.as_str() {
        "FROM" => return from(rest, &flags),
        "ADD" => Instruction::Add(copy(&name, rest, &flags, heredocs)?),
        "COPY" => Instruction::Copy(copy(&name, rest, &flags, heredocs)?),
        "RUN" => Instruction::Run(run(rest, &flags, heredocs)?),
        "ARG" => {
            none(&flags)?;
            Instruction::Arg(arguments(rest, escape, lines)?)
        }
        "CMD" => {
            none(&flags)?;
            Instruction::Cmd(command_line(rest, heredocs)?)
        }
        "ENTRYPOINT" => {
            none(&flags)?;
            let line = command_line(rest, heredocs)?;
            Instruction::Entrypoint(Some(line).filter(|line| !line.is_empty()))
        }
        "ENV" => {
            none(&flags)?;
            Instruction::Env(split::pairs(&name, rest, escape)?)
        }
        "LABEL" => {
            none(&flags)?;
            Instruction::Label(split::pairs(&name, rest, escape)?)
        }
        "EXPOSE" => {
            none(&flags)?;
            let mut ports = Some(split::fields(rest)).filter(|ports| !ports.is_empty()).ok_or_else(at_least_one)?;
            ports.sort();
            Instruction::Expose(ports)
        }
        "HEALTHCHECK" => Instruction::Healthcheck(health(rest, &flags)?),
        "MAINTAINER" => {
            none(&flags)?;
            Instruction::Maintainer(one(&name, rest)?)
        }
        "ONBUILD" => {
            none(&flags)?;
            Instruction::Onbuild(trigger(rest, line, &heredocs)?)
        }
        "SHELL" => {
            none(&flags)?;
            match split::json(rest)? {
                Some(words) if words.is_empty() => return Err(at_least_one()),
                Some(words) => Instruction::Shell(words),
                None if rest.is_empty() => return Err(at_least_one()),
                None => return Err(format!("SHELL requires the arguments to be in JSON form: {}", line.trim())),
            }
        }
        "STOPSIGNAL" => Instruction::StopSignal(one(&name, rest)?),
        "USER" => {
            none(&flags)?;
            Instruction::User(one(&name, rest)?)
        }
        "VOLUME" => {
            none(&flags)?;
            let paths = list(rest)?;
            if paths.is_empty() {
                return Err(at_least_one());
            }
            let paths: Vec<String> = paths.iter().map(|path| path.trim().to_owned()).collect();
            if paths.iter().any(String::is_empty) {
                return Err("VOLUME specified can not be an empty string".to_owned());
            }
            Instruction::Volume(paths)
        }
        "WORKDIR" => {
            none(&flags)?;
            Instruction::Workdir(one(&name, rest)?)
        }
        _ => return Err(format!("unknown instruction: {written}{}", suggestion(written, NAMES))),
    }))
}

fn one(name: &str, rest: &str) -> Result<String, String> {
    if rest.is_empty() { Err(format!("{name} requires exactly one argument")) } else { Ok(rest.to_owned()) }
}

fn list(rest: &str) -> Result<Vec<String>, String> {
    Ok(split::json(rest)?.unwrap_or_else(|| split::fields(rest)))
}

fn from(rest: &str, flags: &[String]) -> Result<Read, String> {
    let words = split::fields(rest);
    let (base, name) = match words.as_slice() {
        [base] => (base, None),
        [base, r#as, name] if r#as.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
                && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
            if !valid {
                return Err(format!(
                    "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
                ));
            }
            (base, Some(lower))
        }
        _ => return Err("FROM requires either one or three arguments".to_owned()),
    };
    let flags = Flags::parse(flags, &[("platform", Takes::One)])?;
    Ok(Read::From { base: base.clone(), name, platform: flags.text("platform") })
}

fn copy(name: &str, rest: &str, flags: &[String], heredocs: Vec<Heredoc>) -> Result<Copy, String> {
    let mut words = list(rest)?;
    if words.len() < 2 {
        return Err(format!(
            "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
        ));
    }
    let common = [("chown", Takes::One), ("chmod", Takes::One), ("link", Takes::Bool), ("exclude", Takes::Many)];
    let own: &[(&'static str, Takes)] = if name == "COPY" {
        &[("from", Takes::One), ("parents", Takes::Bool)]
    } else {
        &[("checksum", Takes::One), ("keep-git-dir", Takes::Bool), ("unpack", Takes::Bool)]
    };
    let flags = Flags::parse(flags, &[&common[..], own].concat())?;
    let destination = words.pop().unwrap_or_default();
    if heredoc::parse(&destination).ok().flatten().is_some() {
        return Err(format!("{name} cannot accept a heredoc as a destination"));
    }
    let mut copy = Copy {
        destination,
        from: flags.text("from"),
        owner: flags.text("chown"),
        mode: flags.text("chmod"),
        link: flags.bool("link").unwrap_or(false),
        parents: flags.bool("parents").unwrap_or(false),
        exclude: flags.all("exclude"),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.bool("keep-git-dir"),
        unpack: flags.bool("unpack"),
        ..Copy::default()
    };
    for word in words {
        match heredoc::parse(&word).ok().flatten().and_then(|found| heredocs.iter().find(|one| one.name == found.name))
        {
            Some(one) => copy.inline.push(Inline { name: one.name.clone(), text: one.text(), expand: one.expand }),
            None => copy.sources.push(word),
        }
    }
    Ok(copy)
}

fn run(rest: &str, flags: &[String], heredocs: Vec<Heredoc>) -> Result<Run, String> {
    let known = [("mount", Takes::Many), ("network", Takes::One), ("security", Takes::One), ("device", Takes::Many)];
    let flags = Flags::parse(flags, &known)?;
    let mounts = flags.all("mount");
    mounts.iter().try_for_each(|mount| mount::check(mount))?;
    let network = match flags.get("network") {
        None | Some("default") => Network::Default,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => return Err(format!("invalid network mode {other:?}")),
    };
    let security = match flags.get("security") {
        None | Some("sandbox") => Security::Sandbox,
        Some("insecure") => Security::Insecure,
        Some(other) => return Err(format!("security {other:?} is not valid")),
    };
    let command = command_line(rest, heredocs)?;
    if command.is_empty() {
        return Err("RUN requires at least one argument".to_owned());
    }
    Ok(Run { command, mounts, network, security, devices: flags.all("device") })
}

impl Run {
    /// The mounts, with variables in them expanded by `expand`.
    pub fn mounts(&self, expand: &dyn Fn(&str) -> Result<String, String>) -> Result<Vec<Mount>, String> {
        self.mounts.iter().map(|mount| Mount::parse(mount, expand)).collect()
    }
}

impl CommandLine {
    fn is_empty(&self) -> bool {
        match self {
            Self::Array(words) => words.is_empty(),
            Self::Shell { line, .. } => line.is_empty(),
        }
    }
}

fn command_line(rest: &str, heredocs: Vec<Heredoc>) -> Result<CommandLine, String> {
    Ok(match split::json(rest)? {
        Some(words) => CommandLine::Array(words),
        None => CommandLine::Shell { line: rest.to_owned(), heredocs },
    })
}

fn arguments(rest: &str, escape: char, lines: Lines) -> Result<Vec<Argument>, String> {
    let words = split::words(rest, escape);
    if words.is_empty() {
        return Err("ARG requires at least one argument".to_owned());
    }
    let argument = |word: String| match word.split_once('=') {
        Some(("", _)) => Err("ARG names can not be blank".to_owned()),
        Some((name, value)) => Ok(Argument { name: name.to_owned(), value: Some(value.to_owned()), lines }),
        None => Ok(Argument { name: word, value: None, lines }),
    };
    words.into_iter().map(argument).collect()
}

fn health(rest: &str, flags: &[String]) -> Result<Health, String> {
    let (kind, rest) =
        rest.split_once(char::is_whitespace).map_or((rest, ""), |(kind, rest)| (kind, rest.trim_start()));
    match kind.to_ascii_uppercase().as_str() {
        "" => Err("HEALTHCHECK requires at least one argument".to_owned()),
        "NONE" if rest.is_empty() => Flags::parse(flags, &[]).map(|_| Health::None),
        "NONE" => Err("HEALTHCHECK NONE takes no arguments".to_owned()),
        "CMD" => {
            const DURATIONS: [&str; 4] = ["interval", "timeout", "start-period", "start-interval"];
            let known: Vec<_> = DURATIONS.into_iter().chain(["retries"]).map(|name| (name, Takes::One)).collect();
            let flags = Flags::parse(flags, &known)?;
            let command = command_line(rest, Vec::new())?;
            if command.is_empty() {
                return Err("Missing command after HEALTHCHECK CMD".to_owned());
            }
            let [interval, timeout, start_period, start_interval] =
                DURATIONS.map(|name| flags.text(name).map_or(Ok(Duration::ZERO), |text| interval(name, &text)));
            let retries = match flags.text("retries") {
                None => 0,
                Some(text) => match text.parse::<i32>() {
                    Ok(retries) => {
                        u32::try_from(retries).map_err(|_| format!("--retries cannot be negative ({retries})"))?
                    }
                    Err(error) => return Err(format!("--retries {text:?}: {error}")),
                },
            };
            Ok(Health::Check(Probe {
                command,
                interval: interval?,
                timeout: timeout?,
                start_period: start_period?,
                start_interval: start_interval?,
                retries,
            }))
        }
        _ => Err(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")),
    }
}

/// A duration as Go writes it: `1m30s`, `500ms`, `1.5h`.
fn interval(name: &str, text: &str) -> Result<Duration, String> {
    let invalid = || format!("--{name}: invalid duration {text:?}; write for instance 30s or 1m30s");
    let (mut rest, mut seconds) = (text.strip_prefix('+').unwrap_or(text), 0.0_f64);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(invalid()),
            };
        rest = &rest[unit..];
    }
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
    if !duration.is_zero() && duration < Duration::from_millis(1) {
        return Err(format!("Interval {name:?} cannot be less than 1ms"));
    }
    Ok(duration)
}

fn trigger(rest: &str, line: &str, heredocs: &[Heredoc]) -> Result<String, String> {
    let (name, ..) = split::command(rest, '\\');
    match name.to_ascii_uppercase().as_str() {
        "" => return Err("ONBUILD requires at least one argument".to_owned()),
        "ONBUILD" => return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
        name @ ("MAINTAINER" | "FROM") => return Err(format!("{name} isn't allowed as an ONBUILD trigger")),
        name if !NAMES.contains(&name) => {
            return Err(format!("unknown instruction: {name}{}", suggestion(name, NAMES)));
        }
        _ => {}
    }
    let line = line.trim();
    let mut expression = line["ONBUILD".len()..].trim_start().to_owned();
    for document in heredocs {
        expression.push('\n');
        expression.push_str(&document.content);
        expression.push_str(&document.name);
    }
    Ok(expression)
}
