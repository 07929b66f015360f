//! Builds that clients follow: what each was asked for, has told, has made, and how it ended.
//!
//! ```text
//! begin (Solve) ─▶ running: told grows, results come ─▶ returned ─▶ ended, kept for the history
//! ```
//!
//! `Status`, and the calls of a client's own part of a build, name a build by its reference and may come before it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use oci::Digest;
use prost::Message as _;
use tokio::sync::Notify;
use tonic::{Code, Status};

use super::wire::{BridgeResult, HistoryRecord, RpcStatus, SolveRequest, StatusResponse};

/// Ended builds that are kept.
const KEPT: usize = 50;
/// Builds at a time.
const MOST: usize = 500;
/// Bytes of what one build has told that are kept; the oldest output goes first.
const TOLD: usize = 16 << 20;
/// How long calls wait for the build that they name.
const PATIENCE: Duration = Duration::from_secs(30);

/// All builds.
#[derive(Default)]
pub struct Jobs {
    table: Mutex<Table>,
    changed: Notify,
}

#[derive(Default)]
struct Table {
    jobs: HashMap<String, Arc<Job>>,
    /// Ended ones, the oldest first.
    ended: VecDeque<String>,
}

/// One build.
pub struct Job {
    /// What the client asked for.
    pub request: SolveRequest,
    created: Timestamp,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    told: VecDeque<StatusResponse>,
    /// How many went before the first of `told`.
    dropped: usize,
    bytes: usize,
    results: HashMap<String, Arc<Made>>,
    returned: Option<Result<BridgeResult, RpcStatus>>,
    ended: Option<Ended>,
    completed_steps: i32,
    cached_steps: i32,
    /// The Dockerfile's name and text.
    source: Option<(String, String)>,
    /// The descriptor of the cache that was written to the client, as JSON.
    cache_manifest: Option<String>,
}

#[derive(Clone)]
struct Ended {
    at: Timestamp,
    response: HashMap<String, String>,
    error: Option<RpcStatus>,
}

/// What a frontend has made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The image's id.
    pub id: Digest,
    /// Its configuration.
    pub config: Vec<u8>,
    /// Whether the image was in the store before.
    pub was_here: bool,
    /// The platform it is for.
    pub platform: Option<build::plan::Platform>,
}

impl Jobs {
    /// Begins a build.
    pub fn begin(&self, request: SolveRequest) -> Result<Arc<Job>, Status> {
        let reference = request.reference.clone();
        let mut table = self.lock();
        if reference.is_empty() || reference.len() > 256 {
            return Err(Status::invalid_argument("a build needs a reference"));
        }
        if table.jobs.len() >= MOST + KEPT {
            return Err(Status::resource_exhausted(format!("there are {MOST} builds already")));
        }
        if table.jobs.contains_key(&reference) {
            return Err(Status::already_exists(format!("job ID {reference} exists")));
        }
        let job = Arc::new(Job { request, created: Timestamp::now(), state: Mutex::default(), changed: Notify::new() });
        table.jobs.insert(reference, job.clone());
        drop(table);
        self.changed.notify_waiters();
        Ok(job)
    }

    /// The build of a reference, once it has begun.
    pub async fn wait(&self, reference: &str) -> Result<Arc<Job>, Status> {
        let found = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(job) = self.lock().jobs.get(reference) {
                    return job.clone();
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, found).await;
        waited.map_err(|_| Status::not_found(format!("no such job {reference}")))
    }

    /// A build has ended.
    pub fn end(&self, job: &Job, outcome: &Result<HashMap<String, String>, Status>) {
        {
            let mut state = job.lock();
            let (response, error) = match outcome {
                Ok(response) => (response.clone(), None),
                Err(status) => (HashMap::new(), Some(rpc_status(status))),
            };
            state.ended = Some(Ended { at: Timestamp::now(), response, error });
            state.results.clear();
        }
        job.changed.notify_waiters();
        let mut table = self.lock();
        table.ended.push_back(job.request.reference.clone());
        while table.ended.len() > KEPT {
            if let Some(oldest) = table.ended.pop_front() {
                table.jobs.remove(&oldest);
            }
        }
    }

    /// Forgets an ended build.
    pub fn forget(&self, reference: &str) -> bool {
        let mut table = self.lock();
        let known = table.ended.len();
        table.ended.retain(|other| other != reference);
        known != table.ended.len() && table.jobs.remove(reference).is_some()
    }

    /// All builds, the newest first: only running ones, or those of a reference.
    pub fn records(&self, active_only: bool, reference: &str) -> Vec<HistoryRecord> {
        let jobs: Vec<Arc<Job>> = self.lock().jobs.values().cloned().collect();
        let mut jobs: Vec<_> = jobs
            .into_iter()
            .filter(|job| !job.request.internal && (reference.is_empty() || job.request.reference == reference))
            .filter(|job| !active_only || job.lock().ended.is_none())
            .collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.created));
        jobs.iter().map(|job| job.record()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to what followers see.
    pub fn tell(&self, answer: StatusResponse) {
        let mut state = self.lock();
        state.bytes += answer.encoded_len();
        state.told.push_back(answer);
        while state.bytes > TOLD
            && let Some(oldest) = state.told.pop_front()
        {
            state.bytes -= oldest.encoded_len();
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Counts steps that have ended, for the history.
    pub fn count(&self, (completed, cached): (i32, i32)) {
        let mut state = self.lock();
        state.completed_steps += completed;
        state.cached_steps += cached;
    }

    /// What was told from a place on, and the next place; none once the build has ended and all was told.
    pub async fn told(&self, from: usize) -> Option<(Vec<StatusResponse>, usize)> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.lock();
                let first = from.max(state.dropped);
                let next = state.dropped + state.told.len();
                if first < next {
                    return Some((state.told.iter().skip(first - state.dropped).cloned().collect(), next));
                }
                if state.ended.is_some() {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Keeps what was made, until the build ends.
    pub fn keep(&self, id: &str, made: Arc<Made>) {
        self.lock().results.insert(id.to_owned(), made);
    }

    /// What was made before.
    pub fn made(&self, id: &str) -> Result<Arc<Made>, Status> {
        let found = self.lock().results.get(id).cloned();
        found.ok_or_else(|| Status::not_found(format!("no such reference {id}")))
    }

    /// The Dockerfile that warnings are about.
    pub fn source(&self) -> Option<(String, String)> {
        self.lock().source.clone()
    }

    /// Sets it: its name and text.
    pub fn set_source(&self, name: &str, text: &str) {
        self.lock().source = Some((name.to_owned(), text.to_owned()));
    }

    /// What was written to a cache of the client, by its descriptor.
    pub fn cache_manifest(&self) -> Option<String> {
        self.lock().cache_manifest.clone()
    }

    /// Sets it.
    pub fn set_cache_manifest(&self, descriptor: String) {
        self.lock().cache_manifest = Some(descriptor);
    }

    /// The client's own part has ended.
    pub fn hand_over(&self, result: Result<BridgeResult, RpcStatus>) {
        self.lock().returned.get_or_insert(result);
        self.changed.notify_waiters();
    }

    /// Waits for the end of the client's own part.
    pub async fn returned(&self) -> Result<BridgeResult, RpcStatus> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(returned) = self.lock().returned.clone() {
                return returned;
            }
            changed.await;
        }
    }

    fn record(&self) -> HistoryRecord {
        let state = self.lock();
        let ended = state.ended.clone();
        HistoryRecord {
            reference: self.request.reference.clone(),
            frontend: self.request.frontend.clone(),
            attributes: self.request.attributes.clone(),
            exporters: self.request.exporters.clone(),
            error: ended.as_ref().and_then(|ended| ended.error.clone()),
            created_at: Some(self.created.into()),
            completed_at: ended.as_ref().map(|ended| ended.at.into()),
            exporter_response: ended.map(|ended| ended.response).unwrap_or_default(),
            cached_steps: state.cached_steps,
            total_steps: state.completed_steps,
            completed_steps: state.completed_steps,
        }
    }
}

/// A status as messages carry it.
pub fn rpc_status(status: &Status) -> RpcStatus {
    let details = RpcStatus::decode(status.details()).map(|inner| inner.details).unwrap_or_default();
    RpcStatus { code: status.code() as i32, message: status.message().to_owned(), details }
}

/// A status that a message carried.
pub fn status(carried: &RpcStatus) -> Status {
    let code = match Code::from(carried.code) {
        Code::Ok => Code::Unknown,
        code => code,
    };
    Status::with_details(code, carried.message.clone(), carried.encode_to_vec().into())
}
