//! What metrics are made of: the data base and the parts around it, started in one order and drained in the other.
//!
//! ```text
//!   open    data base
//!   show    parts, each started by whoever composes them: scrape, rules, alerts, remote
//!   answer  requests, as soon as the data base is open
//!   close   what was appended is on disk
//! ```

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use http::{Request, Response};
use jiff::Timestamp;
use serve::Body;
use task::Task;
use tokio::sync::{Notify, Semaphore};
use tsdb::{Db, labels::Labels, recover::Report};

use crate::{
    config::{Config, storage::Otlp},
    query::Engine,
    remote::{Room, otlp},
    settings::Settings,
    shown::Parts,
    storage::Storage,
    web::{
        self,
        door::Door,
        exposed::Counters,
        notices::{self, Notices},
    },
};

/// The configuration that is in force.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// It as YAML, without secrets.
    pub text: String,
    /// Labels that everything gets that leaves this data base.
    pub external: Labels,
    /// How what comes by OTLP is translated.
    pub otlp: Otlp,
    /// Whether the last attempt to read it went well.
    pub successful: bool,
    /// When it was read last and that went well.
    pub at: Option<Timestamp>,
}

/// Metrics: storage, queries and the HTTP API. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    storage: Storage,
    engine: Engine,
    parts: RwLock<Arc<Parts>>,
    loaded: RwLock<Arc<Loaded>>,
    /// One reading of the configuration at a time.
    reloading: tokio::sync::Mutex<()>,
    counters: Counters,
    room: Room,
    otlp: otlp::Counters,
    reads: Arc<Semaphore>,
    notices: Notices,
    quitting: AtomicBool,
    quit: Notify,
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
        let reads = settings.web.remote_read_concurrency.max(1);
        Ok(Self(Arc::new(Inner {
            engine: Engine::new(storage.clone(), settings.query),
            settings,
            storage,
            parts: RwLock::default(),
            loaded: RwLock::new(Arc::new(Loaded { successful: true, ..Loaded::default() })),
            reloading: tokio::sync::Mutex::default(),
            counters: Counters::default(),
            room: Room::default(),
            otlp: otlp::Counters::default(),
            reads: Arc::new(Semaphore::new(reads)),
            notices: Notices::default(),
            quitting: AtomicBool::new(false),
            quit: Notify::new(),
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

    /// The configuration that is in force.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.0.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says which configuration is in force.
    pub fn load(&self, config: &Config) {
        let loaded = Loaded {
            text: config.print(),
            external: config.global.external_labels.clone(),
            otlp: config.otlp.clone(),
            successful: true,
            at: Some(Timestamp::now()),
        };
        *self.0.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
    }

    /// Reads the configuration anew and has all parts take it over; the old one stays in force if that fails.
    pub async fn reload(&self) -> Result<()> {
        let _one = self.0.reloading.lock().await;
        let reloaded = self.reread().await;
        self.0.counters.reloaded(reloaded.is_ok());
        self.0.notices.set(notices::CONFIGURATION, reloaded.is_err());
        if reloaded.is_err() {
            let mut loaded = self.0.loaded.write().unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut loaded).successful = false;
        }
        reloaded
    }

    async fn reread(&self) -> Result<()> {
        let file = self.0.settings.config.clone();
        let read = tokio::task::spawn_blocking(move || {
            file.map_or_else(|| Ok(Config::standard()), |file| Config::load(&file)).map_err(anyhow::Error::msg)
        });
        let config = Arc::new(read.await??);
        let mut failed = None;
        for (name, apply) in &self.parts().apply {
            // The others take it over all the same, as Prometheus does it.
            if let Err(error) = apply(config.clone()).await {
                tracing::error!("{name}: take the configuration over: {error:#}");
                failed.get_or_insert_with(|| error.context(*name));
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.load(&config);
        Ok(())
    }

    /// Ends all parts and closes the data base; what was appended is on disk afterwards.
    pub async fn close(self, deadline: Duration) -> Result<()> {
        self.0.task.drain(deadline).await;
        self.show(|parts| *parts = Parts::default());
        let storage = self.0.storage.clone();
        storage.watch(Vec::new());
        storage.read_elsewhere(Vec::new());
        drop(self);
        Ok(tokio::task::spawn_blocking(move || storage.close()).await??)
    }

    /// Asks the program to end; whether this is the first time.
    pub fn quit(&self) -> bool {
        let first = !self.0.quitting.swap(true, Ordering::AcqRel);
        self.0.quit.notify_one();
        first
    }

    /// Ends once somebody has asked the program to.
    pub async fn quit_asked(&self) {
        self.0.quit.notified().await;
    }

    /// What requests of remote write and read may hold.
    pub fn room(&self) -> &Room {
        &self.0.room
    }

    /// What became of requests of OTLP.
    pub fn otlp(&self) -> &otlp::Counters {
        &self.0.otlp
    }

    /// Turns of remote reads.
    pub fn reads(&self) -> &Arc<Semaphore> {
        &self.0.reads
    }

    /// Counters of requests and queries.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What is wrong now.
    pub fn notices(&self) -> &Notices {
        &self.0.notices
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
