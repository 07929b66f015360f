//! Steps: those that say where or how others run are done here; what touches something is asked of the world.

use std::sync::{Arc, Weak, atomic::Ordering::Relaxed};

use groovy::{
    fault::{Outcome, Stop, throw},
    host::{Host, Step},
    interpret::{Context, Program, Strand, Work},
    value::{Value, map::Map, show},
};
use serde_json::{Map as Object, Value as Json, json};

use super::{
    Runner, docker,
    globals::{Global, Handle},
    retry::Conditions,
    spot::{Ending, Spot, at},
    values,
    world::{LOST, NOT_RESUMED},
};
use crate::{catalogue, result::Result};

/// Bytes of a script that is loaded.
const LOADED: usize = 1 << 20;

/// Steps that are no part of the catalogue of those that declarative pipelines check.
const OTHERS: &[&str] = &[
    "parallel",
    "stage",
    "pipeline",
    "properties",
    "podTemplate",
    "httpRequest",
    "apply",
    "rollout",
    "readProperties",
    "findFiles",
    "sha256",
    "touch",
    "zip",
    "unzip",
    "validateDeclarativePipeline",
    "ansiColor",
    "release",
    "withDockerRegistry",
    "withDockerContainer",
];

/// Calls that describe something for a step around them, and do nothing: their name is the description's `$class`.
const DESCRIPTIONS: &[&str] = &[
    "usernamePassword",
    "usernameColonPassword",
    "string",
    "text",
    "file",
    "sshUserPrivateKey",
    "certificate",
    "booleanParam",
    "choice",
    "password",
    "run",
    "containerTemplate",
    "envVar",
    "secretEnvVar",
    "emptyDirVolume",
    "logRotator",
    "cron",
    "pollSCM",
    "upstream",
    "agent",
    "kubernetesAgent",
    "nonresumable",
    "scmGit",
    // Extensions of the Git plugin that change nothing of which files are there.
    "cleanAfterCheckout",
    "cleanBeforeCheckout",
    "cloneOption",
    "firstBuildChangelog",
    "localBranch",
    "pruneStaleBranch",
    "pruneTags",
    "submodule",
];

impl Host for Runner {
    fn has_step(&self, name: &str) -> bool {
        catalogue::find(catalogue::STEPS, name).is_some() || OTHERS.contains(&name) || DESCRIPTIONS.contains(&name)
    }

    fn step(&self, strand: &mut Strand, step: Step) -> Outcome {
        let arguments = self.given(&step)?;
        match step.body().cloned() {
            Some(body) => self.block(strand, &step, &arguments, body),
            None => self.plain(strand, &step, arguments),
        }
    }

    fn variable(&self, strand: &mut Strand, name: &str) -> Outcome<Option<Value>> {
        let handle = |what| Some(Value::Foreign(Arc::new(Handle { what, runner: self.me() })));
        Ok(match name {
            "env" => handle(Global::Env),
            "currentBuild" => handle(Global::CurrentBuild),
            "docker" => handle(Global::Docker),
            "params" => Some(Value::Map(self.parameters.clone())),
            "scm" => Some(values::value(&self.start.scm)),
            _ => {
                if let Some(value) = self.parameters.named(name) {
                    return Ok(Some(value));
                }
                let spot = Spot::of(strand);
                self.environment(&spot, name).map(Value::from)
            }
        })
    }

    fn class_call(&self, strand: &mut Strand, class: &str, name: &str, _arguments: &[Value]) -> Outcome<Option<Value>> {
        match (class.rsplit('.').next().unwrap_or(class), name) {
            ("System", "currentTimeMillis") => self.ask_value(strand, "clock", Json::Null).map(Some),
            // What asks the machine or the server is not for scripts.
            (
                "System" | "Thread" | "Runtime" | "File" | "Jenkins" | "Hudson" | "URL" | "Process" | "ProcessBuilder",
                _,
            ) => Err(throw("RejectedAccessException", format!("scripts are not permitted to use {class}.{name}"))),
            _ => Ok(None),
        }
    }

    fn print(&self, strand: &mut Strand, text: &str) -> Outcome<()> {
        let spot = Spot::of(strand);
        self.log(&spot, text.strip_suffix('\n').unwrap_or(text));
        Ok(())
    }
}

impl Runner {
    fn me(&self) -> Weak<Runner> {
        self.me.get().cloned().unwrap_or_default()
    }

    /// A step's arguments by name: one without is the step's first.
    fn given(&self, step: &Step) -> Outcome<Map> {
        let named = match step.names() {
            Some(names) => names.entries().into_iter().collect(),
            None => Map::default(),
        };
        let first = catalogue::find(catalogue::STEPS, &step.name).and_then(|signature| signature.parameters.first());
        match (step.bare(), first) {
            ([], _) => {}
            ([Value::Map(map)], Some(first)) if !step.named && first.kind != catalogue::Kind::Any => {
                return Ok(map.entries().into_iter().collect());
            }
            ([value], Some(first)) => drop(named.insert(first.name.into(), value.clone())),
            ([value], None) => drop(named.insert("value".into(), value.clone())),
            (_, _) => {
                let message = format!("{} takes one argument without a name at most", step.name);
                return Err(throw("IllegalArgumentException", message));
            }
        }
        if let Some(signature) = catalogue::find(catalogue::STEPS, &step.name) {
            for parameter in signature.parameters.iter().filter(|parameter| parameter.required) {
                if named.named(parameter.name).is_none() {
                    let message = format!("{} needs the argument {:?}", step.name, parameter.name);
                    return Err(throw("IllegalArgumentException", message));
                }
            }
        }
        Ok(named)
    }

    /// Steps without a block.
    fn plain(&self, strand: &mut Strand, step: &Step, arguments: Map) -> Outcome {
        let text = |name: &str| arguments.named(name).map(|value| show::text(&value)).unwrap_or_default();
        let spot = Spot::of(strand);
        if DESCRIPTIONS.contains(&&*step.name) {
            arguments.insert("$class".into(), Value::from(step.name.as_str()));
            return Ok(Value::Map(arguments));
        }
        match step.name.as_str() {
            "echo" => {
                self.log(&spot, &text("message"));
                Ok(Value::Null)
            }
            "error" => Err(throw("AbortException", text("message"))),
            "unstable" => {
                self.log(&spot, &format!("WARNING: {}", text("message")));
                self.mark(&spot, Result::Unstable);
                Ok(Value::Null)
            }
            "isUnix" => Ok(Value::Bool(true)),
            "parallel" => self.parallel(strand, &arguments),
            "load" => self.load(strand, &text("path")),
            "library" => {
                let message = "library: there are no shared libraries here: load a file of the workspace, or keep the functions in the script";
                Err(throw("AbortException", message))
            }
            "mail" => {
                let message =
                    "mail: there is no mail server here: ask one that sends mail with httpRequest, or send it in sh";
                Err(throw("AbortException", message))
            }
            "pipeline" | "stage" | "node" | "podTemplate" => {
                Err(throw("IllegalArgumentException", format!("{} needs a block", step.name)))
            }
            // Settings of the job that are the Pipeline object's.
            "properties" => Ok(Value::Null),
            "sleep" => {
                let time = arguments.named("time").unwrap_or_default();
                let seconds = groovy::operator::to_double(&time).unwrap_or(0.0) * unit(&text("unit"), 1.0)?;
                self.ask_value(strand, "sleep", json!({ "seconds": seconds }))
            }
            "readJSON" => {
                let source = match arguments.named("text") {
                    Some(text) => show::text(&text),
                    None => show::text(&self.ask_value(strand, "readFile", json!({ "file": text("file") }))?),
                };
                match serde_json::from_str::<Json>(&source) {
                    Ok(value) => Ok(values::value(&value)),
                    Err(error) => Err(throw("JsonException", format!("readJSON: {error}"))),
                }
            }
            "writeJSON" => {
                let value = values::json(&arguments.named("json").unwrap_or_default());
                let pretty = arguments.named("pretty").is_some_and(|value| groovy::operator::truth(&value));
                let out = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
                let out = out.map_err(|error| throw("JsonException", format!("writeJSON: {error}")))?;
                if arguments.named("returnText").is_some_and(|value| groovy::operator::truth(&value)) {
                    return Ok(Value::from(out));
                }
                self.ask_value(strand, "writeFile", json!({ "file": text("file"), "text": out }))
            }
            name => {
                self.needs_agent(&spot, name)?;
                let asked = match values::json(&Value::Map(arguments)) {
                    Json::Object(fields) => fields,
                    _ => Object::new(),
                };
                let answer = self.ask(strand, name, Json::Object(asked))?;
                // A step may tell of failed tests.
                if let Some(result) = answer.get("result").and_then(Json::as_str).and_then(Result::named)
                    && matches!(name, "junit" | "build")
                {
                    self.mark(&spot, result);
                }
                Ok(values::value(&answer))
            }
        }
    }

    /// Refuses a step that needs an agent where there is none.
    pub(super) fn needs_agent(&self, spot: &Spot, name: &str) -> Outcome<()> {
        let free = matches!(
            name,
            "input"
                | "build"
                | "milestone"
                | "lock"
                | "mail"
                | "httpRequest"
                | "library"
                | "readTrusted"
                | "apply"
                | "rollout"
                | "release"
                | "tool"
        );
        if free || spot.agent.is_some() {
            return Ok(());
        }
        let message = format!("the step {name} needs an agent: wrap it in node {{ }}, or give the stage an agent");
        Err(throw("AbortException", message))
    }

    /// `load`: a file of the workspace, run as a part of the script.
    fn load(&self, strand: &mut Strand, path: &str) -> Outcome {
        let text = show::text(&self.ask_value(strand, "readFile", json!({ "file": path }))?);
        if text.len() > LOADED {
            return Err(throw("IllegalArgumentException", format!("load: {path} has more than {LOADED} bytes")));
        }
        let name = path.to_string();
        // Reading goes as deep as the text does: on a stack of its own.
        let thread = std::thread::Builder::new().name("load".into()).stack_size(groovy::limit::STACK);
        let read = thread.spawn(move || Program::read(&name, &text).map_err(|error| error.to_string()));
        let program = match read.map(std::thread::JoinHandle::join) {
            Ok(Ok(Ok(program))) => program,
            Ok(Ok(Err(error))) => return Err(throw("IllegalArgumentException", format!("load: {error}"))),
            _ => return Err(throw("IllegalStateException", format!("load: {path} could not be read"))),
        };
        strand.load(program)
    }

    /// Makes the stage's and the run's result worse.
    pub(super) fn mark(&self, spot: &Spot, result: Result) {
        if let Some(stage) = &spot.stage {
            let mut own = stage.result.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *own = own.worse(result);
        }
        // What a failed sibling ended is not what the run ends with: the failure is.
        if !(result == Result::Aborted && spot.ended.is()) {
            self.worsen(result);
        }
    }

    /// Steps with a block.
    fn block(&self, strand: &mut Strand, step: &Step, arguments: &Map, body: Value) -> Outcome {
        if step.name == "pipeline" {
            return match &body {
                Value::Closure(closure) => self.declarative(strand, closure),
                _ => Ok(Value::Null),
            };
        }
        self.wrap(strand, &step.name, arguments, &mut |strand| strand.call_value(&body, Vec::new()))
    }

    /// What steps with a block do around it.
    pub(super) fn wrap(
        &self,
        strand: &mut Strand,
        name: &str,
        arguments: &Map,
        call: &mut dyn FnMut(&mut Strand) -> Outcome,
    ) -> Outcome {
        let text = |name: &str| arguments.named(name).map(|value| show::text(&value)).unwrap_or_default();
        let mut spot = (*Spot::of(strand)).clone();
        match name {
            "stage" => self.scripted_stage(strand, &text("value"), call),
            "node" => self.on_agent(strand, "node", json!({ "label": text("label") }), true, call),
            "podTemplate" => {
                self.on_agent(strand, "podTemplate", values::json(&Value::Map(arguments.clone())), false, call)
            }
            "parallel" => {
                // `parallel a: { }, { }` has no name for the last.
                Err(throw("IllegalArgumentException", "parallel takes names with blocks"))
            }
            "script" | "timestamps" | "ansiColor" => call(strand),
            "dir" => {
                let path = text("path");
                spot.directory = match (path.starts_with('/'), spot.directory.is_empty()) {
                    (true, _) | (_, true) => path,
                    _ => format!("{}/{path}", spot.directory),
                };
                at(strand, spot, call)
            }
            "ws" => {
                spot.directory = text("dir");
                at(strand, spot, call)
            }
            "container" => {
                spot.container = Some(text("name"));
                at(strand, spot, call)
            }
            "withEnv" => {
                for variable in strand_items(strand, arguments.named("overrides"))? {
                    let Some((name, value)) = variable.split_once('=') else {
                        return Err(throw(
                            "IllegalArgumentException",
                            format!("withEnv: {variable:?} is not NAME=value"),
                        ));
                    };
                    self.set(&mut spot, name, value);
                }
                at(strand, spot, call)
            }
            "withCredentials" => {
                let bindings = values::json(&arguments.named("bindings").unwrap_or_default());
                self.credentials(strand, &mut spot, json!({ "bindings": bindings }))?;
                at(strand, spot, call)
            }
            "retry" => {
                let count = groovy::operator::to_long(&arguments.named("count").unwrap_or_default())?;
                let conditions = Conditions::of(arguments.named("conditions"))?;
                self.retry(strand, count, conditions, |strand, _| call(strand))
            }
            "timeout" => {
                let time = groovy::operator::to_double(&arguments.named("time").unwrap_or_default()).unwrap_or(0.0);
                self.timeout(strand, time * unit(&text("unit"), 60.0)?, call)
            }
            "catchError" | "warnError" => self.catch(strand, name, arguments, call),
            "waitUntil" => {
                let mut pause = 0.25;
                loop {
                    let value = call(strand)?;
                    if groovy::operator::truth(&value) {
                        return Ok(Value::Null);
                    }
                    self.ask(strand, "sleep", json!({ "seconds": pause }))?;
                    pause = f64::min(pause * 1.2, 15.0);
                }
            }
            "withDockerRegistry" => {
                let (url, credentials) = docker::registry_of(arguments);
                self.with_registry(strand, &url, &credentials, call)
            }
            "withDockerContainer" => {
                let image = Some(text("image")).filter(|image| !image.is_empty()).unwrap_or_else(|| text("value"));
                self.inside(strand, &image, &text("args"), |strand, _| call(strand))
            }
            "lock" => {
                let taken = self.ask(strand, "lock", values::json(&Value::Map(arguments.clone())))?;
                if let Some(variable) = arguments.named("variable") {
                    let name = taken.get("resource").and_then(Json::as_str).unwrap_or_default().to_string();
                    self.set(&mut spot, &show::text(&variable), &name);
                }
                let result = at(strand, spot, call);
                let ended = self.ask(strand, "lock.end", taken);
                let value = result?;
                ended?;
                Ok(value)
            }
            name => Err(throw("IllegalArgumentException", format!("{name} has no block"))),
        }
    }

    /// Sets a variable; `PATH+NAME=value` goes before what there is.
    pub(super) fn set(&self, spot: &mut Spot, name: &str, value: &str) {
        if let Some((name, _)) = name.split_once('+') {
            // What only the agent knows, its PATH before all, is put together there: `PATH+`.
            let (known, later) = (self.environment(spot, name), self.environment(spot, &format!("{name}+")));
            let (name, before) = match (known, later) {
                (Some(known), _) => (name.to_string(), Some(known)),
                (None, later) => (format!("{name}+"), later),
            };
            let value = match before {
                Some(before) if !before.is_empty() => format!("{value}:{before}"),
                _ => value.to_string(),
            };
            spot.environment.push((name, value));
        } else {
            spot.environment.push((name.to_string(), value.to_string()));
        }
    }

    /// Variables and secrets of credentials.
    pub(super) fn credentials(&self, strand: &mut Strand, spot: &mut Spot, asked: Json) -> Outcome<()> {
        let answer = self.ask(strand, "credentials", asked)?;
        let texts = |name: &str| answer.get(name).cloned().unwrap_or_default();
        for secret in texts("secrets").as_array().into_iter().flatten().filter_map(Json::as_str) {
            self.world.tell(super::world::Event::Secret(secret.to_string()));
        }
        for (name, value) in texts("variables").as_object().into_iter().flatten() {
            spot.environment.push((name.clone(), value.as_str().unwrap_or_default().to_string()));
        }
        Ok(())
    }

    pub(super) fn timeout(
        &self,
        strand: &mut Strand,
        seconds: f64,
        call: impl FnOnce(&mut Strand) -> Outcome,
    ) -> Outcome {
        let timer = self.ask(strand, "timer", json!({ "seconds": seconds }))?;
        let mut spot = (*Spot::of(strand)).clone();
        spot.timers.extend(timer.get("id").and_then(Json::as_str).map(str::to_string));
        let result = at(strand, spot, call);
        let ended = self.ask(strand, "timer.end", timer);
        let value = result?;
        ended?;
        Ok(value)
    }

    fn catch(
        &self,
        strand: &mut Strand,
        name: &str,
        arguments: &Map,
        call: impl FnOnce(&mut Strand) -> Outcome,
    ) -> Outcome {
        let (exception, place) = match call(strand) {
            Err(Stop::Throw(exception, place)) => (exception, place),
            result => return result.map(|_| Value::Null),
        };
        let result = values::result_of(&exception);
        let interruptions = arguments.named("catchInterruptions").is_none_or(|value| groovy::operator::truth(&value));
        if !interruptions && result == Result::Aborted {
            return Err(Stop::Throw(exception, place));
        }
        let spot = Spot::of(strand);
        if let Some(message) = arguments.named("message") {
            self.log(&spot, &show::text(&message));
        }
        let shown = message_of(strand, &exception)?;
        self.log(&spot, &format!("ERROR: {shown}"));
        let default = match (name, result) {
            ("warnError", _) => Result::Unstable,
            (_, Result::Aborted) => Result::Aborted,
            _ => Result::Failure,
        };
        let wanted = |field: &str| match arguments.named(field).filter(|value| !value.is_null()) {
            Some(value) => {
                let text = show::text(&value);
                Result::named(&text).ok_or_else(|| throw("IllegalArgumentException", format!("{text} is no result")))
            }
            None => Ok(default),
        };
        let build = wanted("buildResult")?;
        let stage_result = match arguments.named("stageResult") {
            Some(_) => wanted("stageResult")?,
            None => build,
        };
        if let Some(stage) = &spot.stage {
            let mut own = stage.result.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *own = own.worse(stage_result);
        }
        self.worsen(build);
        Ok(Value::Null)
    }

    /// `parallel a: { }, b: { }, failFast: true`
    fn parallel(&self, strand: &mut Strand, arguments: &Map) -> Outcome {
        let fail_fast = arguments.named("failFast").is_some_and(|value| groovy::operator::truth(&value));
        let mut branches: Vec<(String, Box<dyn FnOnce(&mut Strand) -> Outcome + Send + '_>)> = Vec::new();
        for (name, value) in arguments.entries() {
            let name = show::text(&name);
            match value {
                Value::Closure(_) => {
                    let own = name.clone();
                    // A branch is a stage of its own, as people see it.
                    let work = move |strand: &mut Strand| {
                        self.branch_stage(strand, &own, |strand| strand.call_value(&value, Vec::new()))
                    };
                    branches.push((name, Box::new(work)));
                }
                _ if name == "failFast" => {}
                _ => return Err(throw("IllegalArgumentException", format!("branch {name:?} of parallel is no block"))),
            }
        }
        let names: Vec<String> = branches.iter().map(|(name, _)| name.clone()).collect();
        let values = self.side_by_side(strand, fail_fast, branches)?;
        Ok(Value::Map(names.into_iter().map(Value::from).zip(values).collect()))
    }

    /// Branches, of which the first failure is the failure of all.
    pub(super) fn side_by_side(
        &self,
        strand: &mut Strand,
        fail_fast: bool,
        branches: Vec<(String, Box<dyn FnOnce(&mut Strand) -> Outcome + Send + '_>)>,
    ) -> Outcome<Vec<Value>> {
        let here = Spot::of(strand);
        let ended = Arc::new(Ending { parent: Some(here.ended.clone()), ..Ending::default() });
        let first: std::sync::Mutex<Option<(usize, Stop)>> = std::sync::Mutex::default();
        let keys: Vec<Spot> = branches.iter().map(|_| here.branch(&ended)).collect();
        let prefixes: Vec<String> = keys.iter().map(|spot| format!("{}/", spot.branch)).collect();
        let (first_ref, ended_ref, prefixes_ref) = (&first, &ended, &prefixes);
        let works: Vec<(Context, Work<'_>)> = branches
            .into_iter()
            .zip(keys)
            .enumerate()
            .map(|(index, ((name, work), spot))| {
                let context: Context = Arc::new(spot);
                let work: Work<'_> = Box::new(move |strand: &mut Strand| {
                    let result = work(strand);
                    if let Err(stop) = &result {
                        let mut first = first_ref.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        if first.is_none() {
                            *first = Some((index, stop.clone()));
                            drop(first);
                            if fail_fast && !ended_ref.now.swap(true, Relaxed) {
                                let spot = Spot::of(strand);
                                self.log(&spot, &format!("Failed in branch {name}"));
                                for (_, prefix) in prefixes_ref.iter().enumerate().filter(|(other, _)| *other != index)
                                {
                                    self.world.interrupt(prefix, &format!("branch {name} failed"));
                                }
                            }
                        }
                    }
                    result
                });
                (context, work)
            })
            .collect();
        let results = strand.branches(works)?;
        let first = first.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, stop)) = first {
            return Err(stop);
        }
        results.into_iter().collect()
    }
}

/// Strings of a list, or of one string's lines.
fn strand_items(strand: &mut Strand, value: Option<Value>) -> Outcome<Vec<String>> {
    let items = match value {
        Some(Value::List(list)) => list.items(),
        Some(value) => vec![value],
        None => Vec::new(),
    };
    items.iter().map(|item| strand.show(item)).collect()
}

/// An exception's message, without its class where it is a step's own failure.
pub(super) fn message_of(strand: &mut Strand, exception: &Value) -> Outcome<String> {
    match exception {
        Value::Exception(exception)
            if matches!(&*exception.class, "AbortException" | "FlowInterruptedException" | LOST | NOT_RESUMED) =>
        {
            Ok(exception.message.as_ref().map(ToString::to_string).unwrap_or_default())
        }
        value => strand.show(value),
    }
}

/// How many seconds a unit of time has.
fn unit(name: &str, default: f64) -> Outcome<f64> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "" => default,
        "NANOSECONDS" => 1e-9,
        "MICROSECONDS" => 1e-6,
        "MILLISECONDS" => 1e-3,
        "SECONDS" => 1.0,
        "MINUTES" => 60.0,
        "HOURS" => 3600.0,
        "DAYS" => 86_400.0,
        other => return Err(throw("IllegalArgumentException", format!("{other} is no unit of time"))),
    })
}
