//! What a run asks of its world, and what it tells it.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{result::Result, trigger::declared::Declared};

/// The class of a failure of an agent: its Pod, or a process in it, is gone.
pub const LOST: &str = "AgentOfflineException";
/// The class of a failure of what was under way when the server ended, and cannot be gone on with.
pub const NOT_RESUMED: &str = "StepNotResumedException";

/// What is around a run.
///
/// An ask may wait as long as it takes. Its key is the same whenever the same script goes the same way again: a world that keeps answers
/// by key can run a script again after a restart, and go on where it was.
pub trait World: Send + Sync {
    /// Does something.
    fn ask(&self, ask: &Ask) -> Answer;

    /// Notes something.
    fn tell(&self, event: Event);

    /// Ends what is asked, now and later, below a key's beginning: a branch whose sibling failed.
    fn interrupt(&self, below: &str, reason: &str);
}

/// Something that is asked.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Ask {
    /// Which ask of the run it is.
    pub key: String,
    /// What: a step's name, or one of
    ///
    /// | name | arguments | answer |
    /// |---|---|---|
    /// | `agent` | `kind`, its settings | `id`, `workspace` |
    /// | `agent.end` | `id` | |
    /// | `credentials` | `id`, `variable` or the binding's fields | `variables`: names with values, `secrets` |
    /// | `timer` | `seconds` | `id`: what is asked under it is interrupted when time is up |
    /// | `timer.end` | `id` | |
    /// | `lock`, `lock.end` | `resource` or `label`, `quantity` | `id` |
    /// | `clock` | | milliseconds since 1970 |
    pub name: String,
    /// With what, by name.
    pub arguments: Json,
    /// Where.
    pub place: Place,
}

/// Where a step is taken.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Place {
    /// On which agent; none outside of one.
    pub agent: Option<String>,
    /// In which container of it, where that is said.
    pub container: Option<String>,
    /// In which directory, from the workspace.
    pub directory: String,
    /// With which variables.
    pub environment: Vec<(String, String)>,
    /// Timers that it is under.
    pub timers: Vec<String>,
    /// The stage's path.
    pub stage: Option<String>,
    /// The stage's id, which no other stage of the run has.
    pub stage_id: Option<String>,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Answer {
    /// It was done.
    Done(Json),
    /// It failed: an exception's class and message.
    Failed {
        /// The class: `AbortException`.
        class: String,
        /// What happened.
        message: String,
    },
    /// It was ended by a person, a timer, a sibling.
    Interrupted {
        /// Why.
        message: String,
        /// What the run's result becomes.
        result: Result,
    },
    /// The run itself ends here: the world goes away.
    Gone(String),
}

/// What a run says of itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Event {
    /// A stage has begun.
    Began {
        /// Its id, the same whenever the same script goes the same way again.
        id: String,
        /// The id of the stage around it.
        parent: Option<String>,
        /// Whether it is one of several side by side.
        branch: bool,
        /// Its names from the outermost, divided by slashes.
        path: String,
        /// Its name.
        name: String,
    },
    /// A stage has ended.
    Finished {
        /// Its id.
        id: String,
        /// Its path.
        path: String,
        /// How; none where it was skipped.
        result: Option<Result>,
        /// Why it was skipped, or failed.
        reason: Option<String>,
    },
    /// Text for the log.
    Log {
        /// The branch that says it.
        branch: String,
        /// Which of the branch's texts it is, counted from 1: a text that is known already is told again after a restart.
        number: u64,
        /// The stage's id.
        stage: Option<String>,
        /// With its line end.
        text: String,
    },
    /// A secret that no log shows.
    Secret(String),
    /// The run's result so far.
    Result(Result),
    /// What the run calls itself.
    Described {
        /// Its name.
        name: Option<String>,
        /// Its description.
        description: Option<String>,
    },
    /// What the script says of its pipeline.
    Declared(Box<Declared>),
}
