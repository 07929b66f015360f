//! A run from its beginning to its end.
//!
//! ```text
//! script ─► pipeline { } ─► agent ─ environment ─ options ─► stages ─► post
//!                                                             │ when, input, agent, environment, options, steps, post
//!        └► node { }, stage { } ─ steps
//! ```
//!
//! What is done in which order is decided here; what touches anything is asked of a [`world::World`].

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::Ordering::Relaxed};

use groovy::{
    interpret::{Interpreter, Program},
    limit::Limits,
    value::{Value, map::Map},
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{
    kind::{Given, Parameter},
    result::Result,
    trigger::{
        declared::{self, Declared},
        given,
    },
};

mod agent;
pub mod changes;
mod condition;
mod declarative;
mod docker;
mod globals;
mod options;
mod retry;
mod spot;
mod stage;
mod step;
mod values;
pub mod world;

use spot::Spot;
use world::{Event, World};

/// What a run begins with.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Start {
    /// The script's name, as errors give it.
    pub name: String,
    /// The script.
    pub script: String,
    /// Values of parameters.
    pub parameters: Vec<(String, Json)>,
    /// Names of parameters that the pipeline itself has: others that the script does not declare are left out. None leaves out nothing.
    pub own: Option<Vec<String>>,
    /// Variables: `BUILD_NUMBER`, `JOB_NAME`, `BRANCH_NAME` ...
    pub environment: Vec<(String, String)>,
    /// How the run before ended.
    pub before: Option<Result>,
    /// Where the script came from, for `checkout scm`; null where it was not in a repository.
    pub scm: Json,
    /// What started it: `user`, `timer`, `scm`, `upstream`.
    pub cause: String,
    /// Commits since the run before, the newest first.
    pub commits: Vec<changes::Commit>,
    /// Bounds of the script.
    #[serde(skip)]
    pub limits: Limits,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Ended {
    /// The result.
    pub result: Result,
    /// Why, where it did not go well; with place and line for errors in the script.
    pub error: Option<String>,
}

/// Carries a script out.
pub fn run(start: Start, world: Arc<dyn World>) -> Ended {
    let failed = |error: String| {
        world.tell(last(&error));
        Ended { result: Result::Failure, error: Some(error) }
    };
    let (program, declared) = match read(&start) {
        Ok(read) => read,
        Err(error) => return failed(error),
    };
    world.tell(Event::Declared(Box::new(declared.shown())));
    let parameters = match parameters(&start, &declared) {
        Ok(parameters) => parameters,
        Err(error) => return failed(error),
    };
    let parameters: Map = parameters.iter().map(|(name, value)| (name.as_str().into(), values::value(value))).collect();
    let limits = start.limits;
    let runner = Arc::new(Runner {
        world: world.clone(),
        parameters,
        state: Mutex::new(State { environment: start.environment.clone(), ..State::default() }),
        start,
        me: OnceLock::new(),
    });
    runner.me.get_or_init(|| Arc::downgrade(&runner));
    let spot: Arc<Spot> = Arc::new(Spot::first());
    let interpreter = Interpreter::new(program, runner.clone(), limits);
    let outcome = interpreter.run(spot);
    let mut state = runner.state();
    match outcome {
        Ok(_) => Ended { result: state.result, error: state.error.take() },
        Err(failure) => {
            let result = match &failure.exception {
                Some(exception) => values::result_of(exception),
                None => Result::Failure,
            };
            state.result = state.result.worse(result);
            let error = if state.error.is_some() { state.error.take() } else { Some(failure.to_string()) };
            let ended = Ended { result: state.result, error: error.clone() };
            drop(state);
            if let Some(error) = error {
                world.tell(last(&error));
            }
            ended
        }
    }
}

/// The text that a run ends with.
fn last(error: &str) -> Event {
    Event::Log { branch: "end".into(), number: 1, stage: None, text: format!("{error}\n") }
}

/// Values of parameters: those that the script declares have their defaults, and of others those that the pipeline knows.
fn parameters(start: &Start, declared: &Declared) -> std::result::Result<Vec<(String, Json)>, String> {
    let is_own = |name: &str| start.own.as_ref().is_some_and(|own| own.iter().any(|known| known == name));
    let known: Vec<&Parameter> = declared.parameters.iter().filter(|parameter| !is_own(&parameter.name)).collect();
    let given: Vec<Given> =
        start.parameters.iter().map(|(name, value)| Given { name: name.clone(), value: value.clone() }).collect();
    let filled = given::fill(&known, &given)?;
    let mut all: Vec<(String, Json)> = start
        .parameters
        .iter()
        .filter(|(name, _)| start.own.is_none() || is_own(name))
        .filter(|(name, _)| !known.iter().any(|parameter| parameter.name == *name))
        .cloned()
        .collect();
    all.extend(filled.into_iter().map(|one| (one.name, one.value)));
    Ok(all)
}

/// The script, with what it declares; what is wrong is told before anything is done.
fn read(start: &Start) -> std::result::Result<(Arc<Program>, Declared), String> {
    let (name, script) = (start.name.clone(), start.script.clone());
    let work = move || {
        let program = Program::read(&name, &script).map_err(|error| error.to_string())?;
        let model = crate::read::read(&program).map_err(|errors| {
            let count = errors.len();
            let texts: Vec<String> = errors.iter().take(50).map(ToString::to_string).collect();
            format!("{}\n{count} error{}", texts.join("\n"), if count == 1 { "" } else { "s" })
        })?;
        let declared = declared::read(&program, model.as_ref());
        Ok((program, declared))
    };
    let thread = std::thread::Builder::new().name("read".into()).stack_size(groovy::limit::STACK).spawn(work);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the script could not be read".into()),
        Err(error) => Err(format!("start a thread: {error}")),
    }
}

/// A run under way: the host of its script.
struct Runner {
    world: Arc<dyn World>,
    start: Start,
    parameters: Map,
    state: Mutex<State>,
    /// Itself, for what scripts hold of it.
    me: OnceLock<Weak<Runner>>,
}

#[derive(Default)]
struct State {
    result: Result,
    error: Option<String>,
    /// Variables of the run, with those that `env.NAME = value` set.
    environment: Vec<(String, String)>,
    description: Option<String>,
    display_name: Option<String>,
    /// What is behind names of images that the run has built.
    images: std::collections::BTreeMap<String, String>,
    /// Options of the declarative pipeline.
    fail_fast: bool,
    skip_checkout: bool,
    skip_unstable: bool,
}

impl Runner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the run's result worse.
    fn worsen(&self, result: Result) {
        let mut state = self.state();
        let worse = state.result.worse(result);
        if worse != state.result {
            state.result = worse;
            drop(state);
            self.world.tell(Event::Result(worse));
        }
    }

    /// A line of the log.
    fn log(&self, spot: &Spot, text: &str) {
        let number = spot.told.fetch_add(1, Relaxed) + 1;
        let (branch, stage) = (spot.branch.clone(), spot.stage.as_ref().map(|stage| stage.id.clone()));
        self.world.tell(Event::Log { branch, number, stage, text: format!("{text}\n") });
    }

    /// A variable of the environment here.
    fn environment(&self, spot: &Spot, name: &str) -> Option<String> {
        let own = spot.environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        own.or_else(|| {
            let state = self.state();
            state.environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
        .or_else(|| {
            self.parameters.named(name).filter(|value| !value.is_null()).map(|value| groovy::value::show::text(&value))
        })
    }

    /// All variables of the environment here, the nearest last.
    fn variables(&self, spot: &Spot) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        let mut set = |name: String, value: String| match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => all.push((name, value)),
        };
        for (name, value) in self.parameters.entries() {
            if !matches!(value, Value::Null) {
                set(groovy::value::show::text(&name), groovy::value::show::text(&value));
            }
        }
        for (name, value) in self.state().environment.clone() {
            set(name, value);
        }
        for (name, value) in spot.environment.iter().cloned() {
            set(name, value);
        }
        all
    }
}
