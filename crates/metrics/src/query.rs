//! Queries with their bounds: how many at a time, how long, how many samples.
//!
//! An evaluation is work for a processor: it runs on a thread that may block and is told to end when whoever asked goes.

use std::{sync::Arc, time::Duration};

use promql::{
    ast::Expr,
    eval::{self, Options, Outcome},
    limit::{Canceller, EvalError, Limits},
    parse::{self, Features, ParseError},
};
use tokio::sync::Semaphore;

use crate::{
    settings,
    storage::Storage,
    summary::{self, Summary},
};

/// A query that has read so many samples is large: allocators keep what it has freed.
const LARGE: u64 = 1_000_000;

/// Evaluates queries. Clones share their bounds.
#[derive(Clone, Debug)]
pub struct Engine {
    storage: Storage,
    settings: settings::Query,
    room: Arc<Semaphore>,
    times: Arc<Times>,
    trimming: Arc<Semaphore>,
}

/// How long parts of queries take.
#[derive(Debug, Default)]
struct Times {
    waiting: Summary,
    evaluating: Summary,
}

/// What differs from query to query.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// How far back selectors look, if not as usual.
    pub lookback: Option<Duration>,
    /// The longest time, if shorter than usual.
    pub timeout: Option<Duration>,
    /// The step of subqueries that give none: the interval of evaluation. A minute if none.
    pub subquery_step: Option<Duration>,
}

/// The times at which a query is evaluated, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// One time.
    At(i64),
    /// Steps from a time to another.
    Range {
        /// The first time.
        start: i64,
        /// No step is later.
        end: i64,
        /// Between two steps.
        step: i64,
    },
}

/// Cancels when it is dropped: the future that waited has gone.
struct Hold(Canceller);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Engine {
    /// Queries over `storage`.
    pub fn new(storage: Storage, settings: settings::Query) -> Self {
        Self {
            storage,
            settings,
            room: Arc::new(Semaphore::new(settings.concurrency.max(1))),
            times: Arc::default(),
            trimming: Arc::new(Semaphore::new(1)),
        }
    }

    /// The parts of the language that are switched on.
    pub fn features(&self) -> Features {
        self.settings.features
    }

    /// How far back selectors usually look.
    pub fn lookback(&self) -> Duration {
        self.settings.lookback
    }

    /// Reads an expression.
    pub fn parse(&self, query: &str) -> Result<Expr, ParseError> {
        parse::parse(query, self.settings.features)
    }

    /// Evaluates an expression. Waits for room first; dropping the future ends the evaluation.
    pub async fn run(&self, expr: Expr, when: When, asked: Asked) -> Result<Outcome, EvalError> {
        let time = asked.timeout.map_or(self.settings.timeout, |timeout| timeout.min(self.settings.timeout));
        let started = std::time::Instant::now();
        let Ok(Ok(permit)) = tokio::time::timeout(time, self.room.clone().acquire_owned()).await else {
            return Err(EvalError::TimedOut("query queue"));
        };
        self.times.waiting.note(started.elapsed());
        let canceller = Canceller::default();
        let options = Options {
            lookback: millis(asked.lookback.unwrap_or(self.settings.lookback)),
            subquery_step: asked.subquery_step.map_or(60_000, millis),
            features: self.settings.features,
            use_start_times: false,
            limits: Limits {
                samples: self.settings.samples,
                time: time.saturating_sub(started.elapsed()),
                canceller: canceller.clone(),
            },
        };
        let (storage, times) = (self.storage.clone(), self.times.clone());
        let hold = Hold(canceller);
        let evaluated = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let began = std::time::Instant::now();
            let outcome = match when {
                When::At(time) => eval::instant(&storage, &expr, time, &options),
                When::Range { start, end, step } => eval::range(&storage, &expr, start, end, step, &options),
            };
            times.evaluating.note(began.elapsed());
            outcome
        })
        .await;
        drop(hold);
        if let (Some(give_back), Ok(Ok(outcome))) = (self.settings.give_back, &evaluated)
            && outcome.statistics.read >= LARGE
            && let Ok(turn) = self.trimming.clone().try_acquire_owned()
        {
            // Nobody waits for it; one is enough at a time.
            tokio::task::spawn_blocking(move || {
                give_back();
                drop(turn);
            });
        }
        evaluated.unwrap_or_else(|error| Err(EvalError::Failed(format!("unexpected error: {error}"))))
    }

    /// Adds what queries tell of themselves, in the text format.
    pub fn expose(&self, out: &mut String) {
        let most = self.settings.concurrency.max(1);
        let under_way = most.saturating_sub(self.room.available_permits());
        for (name, help, value) in [
            ("prometheus_engine_queries", "Queries that are evaluated now.", under_way),
            ("prometheus_engine_queries_concurrent_max", "Queries that are evaluated at a time at most.", most),
        ] {
            summary::head(name, "gauge", help, out);
            out.push_str(&format!("{name} {value}\n"));
        }
        let name = "prometheus_engine_query_duration_seconds";
        summary::head(name, "summary", "How long parts of queries take.", out);
        for (slice, times) in [("queue_time", &self.times.waiting), ("inner_eval", &self.times.evaluating)] {
            times.write(name, &format!("slice=\"{slice}\","), &[0.5, 0.9, 0.99], out);
        }
    }

    /// Evaluates a query at one time (milliseconds since 1970), as rules and templates do.
    pub async fn instant(&self, expr: &Expr, time: i64, asked: Asked) -> Result<Outcome, EvalError> {
        self.run(expr.clone(), When::At(time), asked).await
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
