//! What metrics are made of: the data base and the parts around it, started in one order and drained in the other.
//!
//! ```text
//!   open    data base
//!   show    parts, each started by whoever composes them: scrape, rules, alerts, remote
//!   answer  requests, as soon as the data base is open
//!   close   what was appended is on disk
//! ```

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result};
use http::{Request, Response};
use jiff::Timestamp;
use serve::Body;
use task::Task;
use tsdb::{Db, recover::Report};

use crate::{
    query::Engine,
    settings::Settings,
    shown::Parts,
    storage::Storage,
    web::{self, door::Door},
};

/// Metrics: storage, queries and the HTTP API. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    storage: Storage,
    engine: Engine,
    parts: RwLock<Arc<Parts>>,
    task: Task,
    started: Timestamp,
    report: Report,
}

impl Metrics {
    /// Opens the data base; parts run below `task`. Blocks the thread.
    pub fn open(task: &Task, settings: Settings) -> Result<Self> {
        let (db, report) = Db::open(&settings.dir, settings.storage.clone())
            .with_context(|| format!("open metrics in {}", settings.dir.display()))?;
        let storage = Storage::new(db);
        Ok(Self(Arc::new(Inner {
            engine: Engine::new(storage.clone(), settings.query),
            settings,
            storage,
            parts: RwLock::default(),
            task: task.child("metrics"),
            started: Timestamp::now(),
            report,
        })))
    }

    /// The task below which parts run.
    pub fn task(&self) -> &Task {
        &self.0.task
    }

    /// Where samples go to and come from.
    pub fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// Evaluates queries.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Changes which parts show something.
    pub fn show(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.0.parts.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut parts));
    }

    /// Answers a request that came in by `door`.
    pub async fn answer(&self, door: &Door, request: Request<Body>) -> Response<Body> {
        web::answer(self, door, request).await
    }

    /// The parts that show something now.
    pub fn parts(&self) -> Arc<Parts> {
        self.0.parts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it was started with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// When it was started.
    pub fn started(&self) -> Timestamp {
        self.0.started
    }

    /// What the start found.
    pub fn report(&self) -> &Report {
        &self.0.report
    }
}
