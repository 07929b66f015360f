//! A stage with everything known: what its base image says, what its variables are; what is left to do, and the image it makes.
//!
//! ```text
//! base image, ONBUILD triggers ┐
//! globals, --build-arg         ├─ instruction by instruction ─► actions in order, image configuration, history
//! what a parent stage declared ┘
//! ```
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/>.

mod ports;
mod show;

use std::collections::BTreeMap;

use crate::{
    dockerfile::{
        CommandLine, Copy, Dockerfile, Error, Health, Heredoc, Instruction, Lines, Mount, Network, Pair, Run, Security,
        Step, parse_trigger,
    },
    expand::{self, Mode},
    image::{Config, Empty, Healthcheck, History, Image},
    plan::Plan,
};

/// What `PATH` is where the base image has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What runs command lines that are no arrays.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// What history says of who made it.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Something that changes the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What to do.
    pub kind: Kind,
    /// How progress names it: the instruction with its variables resolved.
    pub title: String,
    /// Where it stands.
    pub lines: Lines,
}

/// The kinds of action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `COPY`, `ADD`: words expanded, the destination absolute; a trailing slash is kept.
    Copy {
        /// What it says.
        copy: Copy,
        /// Whether it is an `ADD`: archives are unpacked, URLs and repositories fetched.
        add: bool,
    },
    /// `RUN`.
    Run(Process),
    /// A directory that `WORKDIR` makes, owned by the user at that point.
    Directory {
        /// Its absolute path.
        path: String,
        /// `user[:group]`, empty for root.
        user: String,
    },
}

/// A process of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// `name=value`: the image's variables and the stage's arguments.
    pub environment: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
    /// `user[:group]`, empty for root.
    pub user: String,
    /// What it sees besides the root file system.
    pub mounts: Vec<Mount>,
    /// A here-document that begins with `#!`: mounted at this path and run.
    pub script: Option<(String, String)>,
    /// What it reaches.
    pub network: Network,
    /// What it may do.
    pub security: Security,
    /// Devices it asks for, as written.
    pub devices: Vec<String>,
}

/// A stage with everything known.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// The image it makes, without layers.
    pub image: Image,
    /// Arguments that stages which start from this one inherit.
    pub arguments: BTreeMap<String, String>,
}

/// What a stage starts from.
#[derive(Clone, Copy, Debug)]
pub enum Base<'a> {
    /// Nothing.
    Scratch,
    /// An image from elsewhere.
    Image(&'a Image),
    /// An earlier stage.
    Stage(&'a Resolved),
}

/// Resolves one stage. `given` are the build's `--build-arg`.
pub fn resolve(
    file: &Dockerfile,
    plan: &Plan,
    stage: usize,
    base: Base<'_>,
    given: &BTreeMap<String, String>,
) -> Result<Resolved, Error> {
    let (image, arguments) = match base {
        Base::Scratch => (Image::default(), BTreeMap::new()),
        Base::Image(image) => (image.clone(), BTreeMap::new()),
        Base::Stage(resolved) => (resolved.image.clone(), resolved.arguments.clone()),
    };
    let mut state = State {
        escape: file.directives.escape,
        globals: &plan.globals,
        given,
        declared: Vec::new(),
        command_is_set: false,
        done: Resolved { actions: Vec::new(), image, arguments },
    };
    if state.config().variable("PATH").is_none() {
        state.config().set_variable("PATH", DEFAULT_PATH);
    }
    let place = file.stages[stage].lines;
    for trigger in std::mem::take(&mut state.config().on_build) {
        let mut step = parse_trigger(&trigger)
            .map_err(|error| Error::new(format!("ONBUILD {trigger}: {}", error.message), place))?;
        step.lines = place;
        state.step(&step)?;
    }
    file.stages[stage].steps.iter().try_for_each(|step| state.step(step))?;
    Ok(state.done)
}

struct State<'a> {
    escape: char,
    globals: &'a BTreeMap<String, String>,
    given: &'a BTreeMap<String, String>,
    /// `ARG`s of this stage, for the history of `RUN`.
    declared: Vec<(String, Option<String>)>,
    command_is_set: bool,
    done: Resolved,
}

impl State<'_> {
    fn config(&mut self) -> &mut Config {
        &mut self.done.image.config
    }

    /// A variable's value: an argument's or, where it was set later, the image's.
    fn variable(&self, name: &str) -> Option<String> {
        let argument = self.done.arguments.get(name).map(String::as_str);
        argument.or_else(|| self.done.image.config.variable(name)).map(str::to_owned)
    }

    fn word_in(&self, text: &str, mode: Mode) -> Result<String, String> {
        let escape = if mode == Mode::Text { '\\' } else { self.escape };
        expand::word(text, escape, mode, &|name| self.variable(name)).map_err(|error| error.to_string())
    }

    fn word(&self, text: &str) -> Result<String, String> {
        self.word_in(text, Mode::Plain)
    }

    fn all(&self, texts: &[String]) -> Result<Vec<String>, String> {
        texts.iter().map(|text| self.word(text)).collect()
    }

    fn pairs(&self, pairs: &[Pair]) -> Result<Vec<Pair>, String> {
        pairs.iter().map(|pair| Ok(Pair { name: self.word(&pair.name)?, value: self.word(&pair.value)? })).collect()
    }

    fn note(&mut self, created_by: String, layer: bool) {
        let comment = COMMENT.to_owned();
        let history = History { created_by, comment, empty_layer: !layer, ..History::default() };
        self.done.image.history.push(history);
    }

    fn act(&mut self, kind: Kind, title: String, lines: Lines) {
        self.done.actions.push(Action { kind, title, lines });
    }

    fn step(&mut self, step: &Step) -> Result<(), Error> {
        self.take(step).map_err(|message| Error::new(message, step.lines))
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        match &step.instruction {
            Instruction::Add(copy) => self.copy(copy, true, step)?,
            Instruction::Copy(copy) => self.copy(copy, false, step)?,
            Instruction::Run(run) => self.run(run, step)?,
            Instruction::Arg(arguments) => {
                let mut noted = Vec::new();
                for argument in arguments {
                    let value = match (self.given.get(&argument.name), &argument.value) {
                        (Some(given), _) => Some(given.clone()),
                        (None, Some(default)) => Some(self.word(default)?),
                        (None, None) => self.globals.get(&argument.name).cloned(),
                    };
                    noted.push(
                        value
                            .as_ref()
                            .map_or_else(|| argument.name.clone(), |value| format!("{}={value}", argument.name)),
                    );
                    if let Some(value) = &value {
                        self.done.arguments.insert(argument.name.clone(), value.clone());
                    }
                    self.declared.push((argument.name.clone(), value));
                }
                self.note(format!("ARG {}", noted.join(" ")), false);
            }
            Instruction::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                for pair in &pairs {
                    self.config().set_variable(&pair.name, &pair.value);
                    // From here on the variable hides the argument.
                    self.done.arguments.remove(&pair.name);
                }
                self.note(format!("ENV{}", show::pairs(&pairs)), false);
            }
            Instruction::Label(pairs) => {
                let pairs = self.pairs(pairs)?;
                self.config().labels.extend(pairs.iter().map(|pair| (pair.name.clone(), pair.value.clone())));
                self.note(format!("LABEL{}", show::pairs(&pairs)), false);
            }
            Instruction::Cmd(line) => {
                let arguments = self.arguments(line);
                self.note(format!("CMD {}", show::quoted(&arguments)), false);
                self.config().cmd = Some(arguments);
                self.config().args_escaped = true;
                self.command_is_set = true;
            }
            Instruction::Entrypoint(line) => {
                let arguments = line.as_ref().map(|line| self.arguments(line));
                self.note(format!("ENTRYPOINT {}", show::quoted(arguments.as_deref().unwrap_or_default())), false);
                self.config().entrypoint = arguments;
                // A base image's command was meant for its own entry point.
                if !self.command_is_set {
                    self.config().cmd = None;
                }
            }
            Instruction::Expose(written) => {
                let mut words = Vec::new();
                for text in written {
                    let split = expand::words(text, self.escape, Mode::Plain, &|name| self.variable(name));
                    words.extend(split.map_err(|error| error.to_string())?);
                }
                let ports = words.iter().map(|word| ports::parse(word)).collect::<Result<Vec<_>, _>>()?.concat();
                self.note(format!("EXPOSE [{}]", ports.join(" ")), false);
                self.config().exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
            }
            Instruction::Healthcheck(health) => {
                let check = healthcheck(health);
                self.note(format!("HEALTHCHECK {}", show::health(&check)), false);
                self.config().healthcheck = Some(check);
            }
            Instruction::Maintainer(author) => {
                self.done.image.author = Some(author.clone());
                self.note(format!("MAINTAINER {author}"), false);
            }
            Instruction::Onbuild(trigger) => self.config().on_build.push(trigger.clone()),
            Instruction::Shell(words) => {
                self.note(format!("SHELL [{}]", words.join(" ")), false);
                self.config().shell.clone_from(words);
            }
            Instruction::StopSignal(written) => {
                let signal = self.word(written)?;
                if !show::is_signal(&signal) {
                    return Err(format!("invalid signal: {signal}"));
                }
                self.note(format!("STOPSIGNAL {signal}"), false);
                self.config().stop_signal = signal;
            }
            Instruction::User(written) => {
                let user = self.word(written)?;
                self.note(format!("USER {user}"), false);
                self.config().user = user;
            }
            Instruction::Volume(written) => {
                let volumes = self.all(written)?;
                if volumes.iter().any(String::is_empty) {
                    return Err("VOLUME specified can not be an empty string".to_owned());
                }
                self.note(format!("VOLUME [{}]", volumes.join(" ")), false);
                self.config().volumes.extend(volumes.into_iter().map(|path| (path, Empty {})));
            }
            Instruction::Workdir(written) => {
                let path = absolute(&self.done.image.config.working_dir, &self.word(written)?);
                self.config().working_dir.clone_from(&path);
                let made = path != "/";
                self.note(format!("WORKDIR {path}"), made);
                if made {
                    let user = self.config().user.clone();
                    self.act(Kind::Directory { path: path.clone(), user }, format!("WORKDIR {path}"), step.lines);
                }
            }
        }
        Ok(())
    }

    /// The words that run: an array as it is, a line by the shell.
    fn arguments(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Array(words) => words.clone(),
            CommandLine::Shell { line, heredocs } => self.by_shell(with_documents(line, heredocs)),
        }
    }

    fn by_shell(&self, line: String) -> Vec<String> {
        let shell = &self.done.image.config.shell;
        let mut arguments = if shell.is_empty() { DEFAULT_SHELL.map(str::to_owned).to_vec() } else { shell.clone() };
        arguments.push(line);
        arguments
    }

    fn run(&mut self, run: &Run, step: &Step) -> Result<(), String> {
        let (mut script, mut title) = (None, step.text.clone());
        let arguments = match &run.command {
            // Nothing but a here-document: it is the script.
            CommandLine::Shell { line, heredocs } if heredocs.len() == 1 && is_document(line, &heredocs[0]) => {
                let text = heredocs[0].text();
                title = format!("{title} ({})", show::summary(&text));
                if text.starts_with("#!") {
                    let path = format!("/dev/pipes/{}", heredocs[0].name);
                    script = Some((path.clone(), text));
                    self.by_shell(path)
                } else {
                    self.by_shell(text)
                }
            }
            line => self.arguments(line),
        };
        let mut config = self.done.image.config.clone();
        self.done.arguments.iter().for_each(|(name, value)| config.set_variable(name, value));
        let mounts = run.mounts(&|text| self.word(text))?;
        let process = Process {
            arguments: arguments.clone(),
            environment: config.env,
            working_dir: absolute(&config.working_dir, ""),
            user: config.user,
            mounts,
            script,
            network: run.network,
            security: run.security,
            devices: run.devices.clone(),
        };
        self.act(Kind::Run(process), title, step.lines);
        let declared = show::declared(&self.declared, &|name| self.variable(name));
        self.note(format!("RUN {declared}{} # buildkit", arguments.join(" ")), true);
        Ok(())
    }

    fn copy(&mut self, copy: &Copy, add: bool, step: &Step) -> Result<(), String> {
        let option = |text: &Option<String>| text.as_ref().map(|text| self.word(text)).transpose();
        let mut copy = Copy {
            sources: self.all(&copy.sources)?,
            destination: self.word(&copy.destination)?,
            owner: option(&copy.owner)?,
            mode: option(&copy.mode)?,
            exclude: self.all(&copy.exclude)?,
            checksum: option(&copy.checksum)?,
            ..copy.clone()
        };
        for inline in copy.inline.iter_mut().filter(|inline| inline.expand) {
            inline.text = self.word_in(&inline.text, Mode::Text)?;
        }
        let noted = show::copy(&copy, add);
        // Where files go into a directory, the slash at the end says so.
        let directory = copy.destination.ends_with('/')
            || matches!(copy.destination.as_str(), "." | "..")
            || copy.destination.ends_with("/.");
        let working_dir = self.done.image.config.working_dir.clone();
        copy.destination = absolute(&working_dir, &copy.destination);
        if directory && copy.destination != "/" {
            copy.destination.push('/');
        }
        let many = copy.sources.len() + copy.inline.len() > 1;
        if many && !copy.destination.ends_with('/') {
            return Err(format!(
                "When using {} with more than one source file, the destination must be a directory and end with a /",
                if add { "ADD" } else { "COPY" }
            ));
        }
        let title = self.word_in(&step.text, Mode::Raw).unwrap_or_else(|_| step.text.clone());
        self.act(Kind::Copy { copy, add }, title, step.lines);
        self.note(noted, true);
        Ok(())
    }
}

/// A path from where the stage is, without `.` and `..`.
fn absolute(working_dir: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{working_dir}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn is_document(line: &str, document: &Heredoc) -> bool {
    let rest = line.trim().strip_prefix("<<").map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    rest.is_some_and(|rest| rest.trim().trim_matches(['"', '\'']) == document.name)
}

/// The line with its here-documents below it, for a shell to read.
fn with_documents(line: &str, documents: &[Heredoc]) -> String {
    documents.iter().fold(line.to_owned(), |line, document| format!("{line}\n{}{}", document.content, document.name))
}

fn healthcheck(health: &Health) -> Healthcheck {
    let Health::Check(probe) = health else {
        return Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() };
    };
    let test = match &probe.command {
        CommandLine::Array(words) => [&["CMD".to_owned()][..], words].concat(),
        CommandLine::Shell { line, .. } => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    let nanoseconds = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Healthcheck {
        test,
        interval: nanoseconds(probe.interval),
        timeout: nanoseconds(probe.timeout),
        start_period: nanoseconds(probe.start_period),
        start_interval: nanoseconds(probe.start_interval),
        retries: probe.retries.into(),
    }
}

#[cfg(test)]
mod tests;
