//! The control service: builds, what they tell, the worker, the cache's use, the history.
//!
//! <https://github.com/moby/buildkit/blob/v0.34.0/api/services/control/control.proto>

use std::collections::HashMap;

use build::cache::Prune;
use futures::StreamExt;
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::{Status, body::Body};

use super::{
    bridge, export,
    frontend::{self, Asked},
    grpc::{Answers, duplex, refuse, streamed, unary},
    jobs, session,
    wire::{
        BuildkitVersion, DiskUsageRequest, DiskUsageResponse, Empty, HistoryEvent, HistoryRequest, InfoResponse,
        ListWorkersResponse, Platform, PruneRequest, SolveRequest, SolveResponse, StatusRequest, StatusResponse,
        UpdateHistoryRequest, UsageRecord, WorkerRecord,
    },
};
use crate::Engine;

const CONTROL: &str = "/moby.buildkit.v1.Control/";
const BRIDGE: &str = "/moby.buildkit.v1.frontend.LLBBridge/";
/// The version of BuildKit whose protocol this is.
const VERSION: &str = "v0.34.0";

/// Answers a call.
pub async fn answer(engine: Engine, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if let Some(method) = path.strip_prefix(BRIDGE) {
        return bridge::answer(engine, method, request).await;
    }
    match path.strip_prefix(CONTROL) {
        Some("Solve") => {
            unary(request, |asked: tonic::Request<SolveRequest>| async move {
                let exporter_response = solve(&engine, asked.into_inner()).await?;
                Ok(SolveResponse { exporter_response })
            })
            .await
        }
        Some("Status") => {
            streamed(request, |asked: tonic::Request<StatusRequest>| async move {
                status(&engine, &asked.get_ref().reference).await
            })
            .await
        }
        Some("Session") => {
            let offer = session::Offer::read(request.headers())
                .and_then(|offer| engine.buildkit().sessions.admit(&offer).map(|()| offer));
            let offer = match offer {
                Ok(offer) => offer,
                Err(error) => return refuse(&Status::invalid_argument(error.message)),
            };
            duplex(request, move |messages| async move {
                Ok(engine.buildkit().sessions.inside(engine.task(), offer, messages))
            })
            .await
        }
        Some("ListWorkers") => {
            unary(request, |_: tonic::Request<Empty>| async move { Ok(ListWorkersResponse { record: vec![worker()] }) })
                .await
        }
        Some("Info") => {
            unary(request, |_: tonic::Request<Empty>| async move { Ok(InfoResponse { version: Some(version()) }) })
                .await
        }
        Some("DiskUsage") => {
            unary(request, |asked: tonic::Request<DiskUsageRequest>| async move {
                refuse_filters(&asked.get_ref().filter)?;
                Ok(DiskUsageResponse { record: usage(&engine) })
            })
            .await
        }
        Some("Prune") => {
            streamed(
                request,
                |asked: tonic::Request<PruneRequest>| async move { prune(&engine, asked.into_inner()).await },
            )
            .await
        }
        Some("ListenBuildHistory") => {
            streamed(request, |asked: tonic::Request<HistoryRequest>| async move {
                Ok(history(&engine, &asked.into_inner()))
            })
            .await
        }
        Some("UpdateBuildHistory") => {
            unary(request, |asked: tonic::Request<UpdateHistoryRequest>| async move {
                let UpdateHistoryRequest { reference, pinned, delete, finalize } = asked.into_inner();
                match (delete, pinned) {
                    (true, _) if engine.buildkit().jobs.forget(&reference) => Ok(Empty {}),
                    (true, _) => Err(Status::not_found(format!("no such build {reference}"))),
                    (false, true) => Err(Status::unimplemented("builds are not pinned: the last ones are kept")),
                    (false, false) => match finalize {
                        true => Err(Status::unimplemented("no traces are kept of builds")),
                        false => Ok(Empty {}),
                    },
                }
            })
            .await
        }
        _ => refuse(&Status::unimplemented(format!("{path} is not there"))),
    }
}

fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "github.com/moby/buildkit".to_owned(),
        version: VERSION.to_owned(),
        revision: String::new(),
    }
}

/// The one worker: this engine.
pub fn worker() -> WorkerRecord {
    let own = oci::index::Machine::host();
    // With a snapshotter's name clients know that all exporters, and pushes by the builder, are there.
    let labels = [
        ("org.mobyproject.buildkit.worker.executor", "madang"),
        ("org.mobyproject.buildkit.worker.snapshotter", "overlayfs"),
        ("org.mobyproject.buildkit.worker.network", "host"),
    ];
    WorkerRecord {
        id: "madang".to_owned(),
        labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        platforms: vec![Platform { architecture: own.architecture, os: own.os, variant: String::new() }],
        version: Some(version()),
    }
}

/// A build from its beginning to its exports.
async fn solve(engine: &Engine, request: SolveRequest) -> Result<HashMap<String, String>, Status> {
    let job = engine.buildkit().jobs.begin(request)?;
    // However it ends, also by the client's going: its followers have to hear of it.
    let mut ending = Ending { engine, job: &job, outcome: Err(Status::cancelled("context canceled")) };
    let outcome = carry_out(engine, &job).await;
    ending.outcome.clone_from(&outcome);
    drop(ending);
    outcome
}

struct Ending<'a> {
    engine: &'a Engine,
    job: &'a jobs::Job,
    outcome: Result<HashMap<String, String>, Status>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.engine.buildkit().jobs.end(self.job, &self.outcome);
    }
}

async fn carry_out(engine: &Engine, job: &std::sync::Arc<jobs::Job>) -> Result<HashMap<String, String>, Status> {
    let request = &job.request;
    let result = match (request.frontend.as_str(), &request.definition) {
        // The client runs the build and says what its result is.
        ("", None) => job.returned().await.map_err(|error| jobs::status(&error))?,
        ("", Some(_)) => {
            return Err(Status::unimplemented("definitions (LLB) are not carried out: only Dockerfiles are built"));
        }
        (frontend, _) => {
            let asked = Asked {
                frontend: frontend.to_owned(),
                attributes: request.attributes.clone(),
                inputs: request.inputs.clone(),
                entitlements: request.entitlements.clone(),
                session: request.session.clone(),
                cache_imports: Vec::new(),
            };
            bridge::result_of(job, frontend::build(engine, job, asked).await?, true)
        }
    };
    let made = match (&result.reference, &result.references) {
        (Some(reference), _) if !reference.id.is_empty() => vec![job.made(&reference.id)?],
        (_, Some(map)) => {
            let refs = bridge::names_of(&result).into_iter().filter_map(|name| map.refs.get(&name));
            refs.map(|reference| job.made(&reference.id)).collect::<Result<_, _>>()?
        }
        _ => Vec::new(),
    };
    match made.as_slice() {
        [] if request.exporters.is_empty() => Ok(HashMap::new()),
        // As upstream: an empty result has nothing to write.
        [] => Err(Status::invalid_argument("the result of the build is empty")),
        made => export::all(engine, job, made).await,
    }
}

/// Records of the cache, in the order in which they would be removed.
fn usage(engine: &Engine) -> Vec<UsageRecord> {
    let cache = engine.builder().cache();
    // Titles tell what others build.
    if engine.view().is_some() {
        return Vec::new();
    }
    let record = |(id, record): (String, build::cache::Record)| UsageRecord {
        id,
        in_use: cache.is_in_use(record.layer),
        size: i64::try_from(record.bytes).unwrap_or(i64::MAX),
        created_at: Some(record.created.into()),
        last_used_at: Some(record.used.into()),
        usage_count: i64::try_from(record.uses).unwrap_or(i64::MAX),
        description: record.title,
        record_type: "regular".to_owned(),
        ..UsageRecord::default()
    };
    cache.list().into_iter().map(|(key, found)| record((key.to_string(), found))).collect()
}

/// Nothing is filtered but by age, which has a field of its own.
fn refuse_filters(filters: &[String]) -> Result<(), Status> {
    // Clients send an empty one where nothing is filtered.
    match filters.iter().find(|filter| !filter.is_empty()) {
        None => Ok(()),
        Some(filter) => Err(Status::unimplemented(format!("the cache is not filtered by {filter}"))),
    }
}

async fn prune(engine: &Engine, asked: PruneRequest) -> Result<Answers<UsageRecord>, Status> {
    refuse_filters(&asked.filter)?;
    if engine.view().is_some() {
        return Err(Status::permission_denied("the cache is shared with others and is not pruned through this socket"));
    }
    let bound = asked.max_used_space.max(asked.reserved_space);
    let what = Prune {
        keep: u64::try_from(bound).ok().filter(|bound| *bound > 0),
        unused_for: std::time::Duration::from_nanos(u64::try_from(asked.keep_duration).unwrap_or(0)),
    };
    let before = usage(engine);
    let pruned = engine.builder().cache().prune(what).await;
    let pruned = pruned.map_err(|error| Status::unknown(format!("{error:#}")))?;
    let gone = before.into_iter().filter(move |record| pruned.keys.iter().any(|key| *key == *record.id));
    Ok(Box::pin(futures::stream::iter(gone.map(Ok).collect::<Vec<_>>())))
}

/// What a build tells, from its first step on, until it has ended.
async fn status(engine: &Engine, reference: &str) -> Result<Answers<StatusResponse>, Status> {
    let job = engine.buildkit().jobs.wait(reference).await?;
    let told = futures::stream::unfold((job, 0), |(job, from)| async move {
        let (answers, next) = job.told(from).await?;
        Some((futures::stream::iter(answers.into_iter().map(Ok)), (job, next)))
    });
    Ok(Box::pin(told.flatten()))
}

/// Builds that there are and were. Nobody is told of later ones: who wants to know asks again.
fn history(engine: &Engine, asked: &HistoryRequest) -> Answers<HistoryEvent> {
    let mut records = engine.buildkit().jobs.records(asked.active_only, &asked.reference);
    if let Ok(limit @ 1..) = usize::try_from(asked.limit) {
        records.truncate(limit);
    }
    let events = records.into_iter().map(|record| {
        let kind = i32::from(record.completed_at.is_some());
        Ok(HistoryEvent { kind, record: Some(record) })
    });
    let events = futures::stream::iter(events.collect::<Vec<_>>());
    match asked.early_exit {
        true => Box::pin(events),
        false => Box::pin(events.chain(futures::stream::pending())),
    }
}
