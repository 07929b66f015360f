//! Where a branch of a run is: its agent, directory, variables, timers, stage.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use groovy::{
    fault::{Exception, Outcome, Stop, throw},
    interpret::Strand,
    value::{Value, map::Map},
};
use serde_json::Value as Json;

use super::{
    Runner, values,
    world::{Answer, Ask, Place},
};
use crate::result::Result;

/// Where a branch is.
#[derive(Clone)]
pub(super) struct Spot {
    /// What keys of its asks begin with.
    pub branch: String,
    /// Asks and branches counted.
    pub count: Arc<AtomicU64>,
    /// Texts told.
    pub told: Arc<AtomicU64>,
    pub agent: Option<String>,
    pub container: Option<String>,
    pub directory: String,
    pub environment: Vec<(String, String)>,
    pub timers: Vec<String>,
    pub stage: Option<Arc<StageState>>,
    /// The registry of `docker.withRegistry`.
    pub registry: Option<Registry>,
    /// Whether an agent around it is opened again when it is lost: what fails for that is no result yet.
    pub retried: bool,
    /// Why the branch is to end, if it is.
    pub ended: Arc<Ending>,
}

/// A registry that a script has named.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Registry {
    /// As names of images have it.
    pub host: String,
    /// The id of credentials for it; empty where there are none.
    pub credentials: String,
}

/// A stage under way.
#[derive(Debug)]
pub(super) struct StageState {
    pub id: String,
    pub path: String,
    pub result: Mutex<Result>,
}

/// Whether branches are to end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub now: AtomicBool,
    pub parent: Option<Arc<Ending>>,
}

impl Ending {
    pub fn is(&self) -> bool {
        self.now.load(Relaxed) || self.parent.as_ref().is_some_and(|parent| parent.is())
    }
}

impl Spot {
    pub fn first() -> Self {
        Self {
            branch: String::new(),
            count: Arc::default(),
            told: Arc::default(),
            agent: None,
            container: None,
            directory: String::new(),
            environment: Vec::new(),
            timers: Vec::new(),
            stage: None,
            registry: None,
            retried: false,
            ended: Arc::default(),
        }
    }

    /// Of a strand.
    pub fn of(strand: &Strand) -> Arc<Spot> {
        match strand.context.clone().downcast::<Spot>() {
            Ok(spot) => spot,
            // Nothing else is ever hung there.
            Err(_) => Arc::new(Spot::first()),
        }
    }

    pub fn key(&self) -> String {
        let number = self.count.fetch_add(1, Relaxed);
        if self.branch.is_empty() { number.to_string() } else { format!("{}/{number}", self.branch) }
    }

    /// A branch of this one.
    pub fn branch(&self, ended: &Arc<Ending>) -> Spot {
        Spot { branch: self.key(), count: Arc::default(), told: Arc::default(), ended: ended.clone(), ..self.clone() }
    }

    pub fn place(&self, runner: &Runner) -> Place {
        Place {
            agent: self.agent.clone(),
            container: self.container.clone(),
            directory: self.directory.clone(),
            environment: runner.variables(self),
            timers: self.timers.clone(),
            stage: self.stage.as_ref().map(|stage| stage.path.clone()),
            stage_id: self.stage.as_ref().map(|stage| stage.id.clone()),
        }
    }
}

/// Does something at another spot.
pub(super) fn at<T>(strand: &mut Strand, spot: Spot, work: impl FnOnce(&mut Strand) -> Outcome<T>) -> Outcome<T> {
    let before = std::mem::replace(&mut strand.context, Arc::new(spot));
    let result = work(strand);
    strand.context = before;
    result
}

impl Runner {
    /// Asks the world, and waits.
    pub(super) fn ask(&self, strand: &mut Strand, name: &str, arguments: Json) -> Outcome<Json> {
        let spot = Spot::of(strand);
        let ending = name.ends_with(".end");
        if spot.ended.is() && !ending {
            return Err(interrupted("ended since another branch failed", Result::Aborted));
        }
        let ask = Ask { key: spot.key(), name: name.to_string(), arguments, place: spot.place(self) };
        let answer = strand.outside(|| self.world.ask(&ask));
        match answer {
            Answer::Done(value) => Ok(value),
            Answer::Failed { class, message } => Err(throw(&class, message)),
            Answer::Interrupted { message, result } => Err(interrupted(&message, result)),
            Answer::Gone(reason) => Err(Stop::Ended(reason)),
        }
    }

    /// The same, with a value of the script's as answer.
    pub(super) fn ask_value(&self, strand: &mut Strand, name: &str, arguments: Json) -> Outcome {
        let answer = self.ask(strand, name, arguments)?;
        Ok(values::value(&answer))
    }
}

/// The exception of a branch that is ended from outside.
pub(super) fn interrupted(message: &str, result: Result) -> Stop {
    let detail: Map =
        [("result", result.name())].into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Stop::Throw(
        Value::Exception(Arc::new(Exception {
            class: "FlowInterruptedException".into(),
            message: Some(message.into()),
            cause: Value::Null,
            detail: Value::Map(detail),
        })),
        None,
    )
}
