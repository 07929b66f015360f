//! CronJob: makes a Job each time that its schedule is due.
//!
//! ```text
//! jobs seen ended leave the list of active ones ─► due? ─► too late, or another still runs: not this time
//!                                                       ─► Job named after the minute, so that none is made twice
//! ```
//! [`decide`] holds the rules; `schedule` tells when. A CronJob without time zone goes by UTC.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/>

mod schedule;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{
    cache::Key,
    events::{Recorder, Severity},
    queue::{Next, Queue},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, PostParams, Preconditions, PropagationPolicy},
};
use task::Task;

use self::schedule::Schedule;
use crate::{
    caches::Caches,
    expectations::Written,
    hands::{is_ending, refusal},
    job::decide::is_finished,
    pods::controller_of,
};

const COMPONENT: &str = "cronjob-controller";
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are worth a warning.
const MANY: i64 = 100;

#[derive(Clone)]
struct Controller {
    client: Client,
    events: Recorder,
    caches: Caches,
    written: Arc<Written>,
}

/// When a schedule is due next, after `after`: nothing for one that cannot be read or never comes.
pub fn next_run(schedule: &str, zone: Option<&str>, after: Timestamp) -> Option<Timestamp> {
    let zone = match zone {
        Some(name) => TimeZone::get(name).ok()?,
        None => TimeZone::UTC,
    };
    Schedule::parse(schedule, zone)?.next(after)
}

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let add = queue.clone();
    caches.cron_jobs.listen(move |change| add.add(change.key.clone()));
    let add = queue.clone();
    caches.jobs.listen(move |change| {
        let owner = |job: &Option<Arc<Job>>| job.as_ref().and_then(|job| owner_key(job));
        owner(&change.old).into_iter().chain(owner(&change.new)).for_each(|key| add.add(key));
    });
    let controller = Controller {
        client: client.clone(),
        events: Recorder::new(task, client, COMPONENT, None),
        caches: caches.clone(),
        written: Arc::default(),
    };
    queue.run("cron job", 2, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn owner_key(job: &Job) -> Option<Key> {
    let owner = controller_of(job.metadata.owner_references.as_ref()).filter(|owner| owner.kind == "CronJob")?;
    Some(Key::new(job.metadata.namespace.as_deref().unwrap_or_default(), &owner.name))
}

/// What is worth telling: severity, reason and message.
type Said = (Severity, &'static str, String);

/// What to do about a CronJob.
#[derive(Debug, Default)]
struct Decision {
    status: CronJobStatus,
    said: Vec<Said>,
    /// Jobs to delete: those that the next one replaces, and those past the limits of history.
    delete: Vec<Arc<Job>>,
    /// Make the Job of this time.
    start: Option<Timestamp>,
    /// When the schedule is due next.
    again: Option<Duration>,
}

fn is_complete(job: &Job) -> bool {
    is_finished(job).is_some_and(|end| end.type_ == "Complete")
}

/// Decides; `jobs` are the CronJob's own.
fn decide(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Decision {
    let mut decision = Decision { status: cron.status.clone().unwrap_or_default(), ..Decision::default() };
    let spec = &cron.spec;
    let mut active = decision.status.active.take().unwrap_or_default();
    note_ended(&mut decision, &mut active, jobs);
    decision.delete = outlived(cron, jobs);
    let put = |mut decision: Decision, active: Vec<ObjectReference>| {
        decision.status.active = Some(active).filter(|all| !all.is_empty());
        decision
    };
    if cron.metadata.deletion_timestamp.is_some() {
        return put(decision, active);
    }
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                decision.said.push((
                    Severity::Warning,
                    "UnknownTimeZone",
                    format!("invalid timeZone: {name:?}: {error}"),
                ));
                return put(decision, active);
            }
        },
    };
    if spec.suspend == Some(true) {
        return put(decision, active);
    }
    let Some(schedule) = Schedule::parse(&spec.schedule, zone) else {
        let message = format!("unparseable schedule: {:?}", spec.schedule);
        decision.said.push((Severity::Warning, "UnparseableSchedule", message));
        return put(decision, active);
    };
    decision.again = schedule.next(now).map(|due| Duration::try_from(due.duration_since(now)).unwrap_or_default());
    let Some((due, missed)) = most_recent(cron, &schedule, now) else { return put(decision, active) };
    if missed > MANY {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        decision.said.push((Severity::Warning, "TooManyMissedTimes", message.into()));
    }
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if deadline.is_some_and(|deadline| now.duration_since(due) > deadline) {
        let message = format!("Missed scheduled time to start a job: {due}");
        decision.said.push((Severity::Warning, "MissSchedule", message));
        return put(decision, active);
    }
    let name = job_name(cron, due);
    let started = decision.status.last_schedule_time.as_ref().is_some_and(|last| last.0 == due);
    if started || active.iter().any(|job| job.name.as_ref() == Some(&name)) {
        return put(decision, active);
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            decision.said.push((Severity::Normal, "JobAlreadyActive", message.into()));
        }
        Some("Replace") => {
            let replaced = jobs.iter().filter(|job| active.iter().any(|known| known.uid == job.metadata.uid)).cloned();
            decision.delete.extend(replaced);
            active.clear();
            decision.start = Some(due);
        }
        _ => decision.start = Some(due),
    }
    put(decision, active)
}

/// Takes Jobs that have ended or gone off the list of active ones, and notes the last success.
fn note_ended(decision: &mut Decision, active: &mut Vec<ObjectReference>, jobs: &[Arc<Job>]) {
    for job in jobs {
        let known = active.iter().any(|reference| reference.uid == job.metadata.uid);
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let Some(end) = is_finished(job) else {
            if !known {
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                decision.said.push((Severity::Warning, "UnexpectedJob", message));
            }
            continue;
        };
        if known {
            active.retain(|reference| reference.uid != job.metadata.uid);
            let message = format!("Saw completed job: {name}, condition: {}", end.type_);
            decision.said.push((Severity::Normal, "SawCompletedJob", message));
        }
        let completed = job.status.as_ref().and_then(|status| status.completion_time.as_ref());
        if let Some(time) = completed.filter(|_| is_complete(job)) {
            let last = &mut decision.status.last_successful_time;
            if last.as_ref().is_none_or(|last| last.0 < time.0) {
                *last = Some(time.clone());
            }
        }
    }
    active.retain(|reference| {
        let there = jobs.iter().any(|job| job.metadata.uid == reference.uid);
        if !there {
            let message = format!("Active job went missing: {}", reference.name.as_deref().unwrap_or_default());
            decision.said.push((Severity::Normal, "MissingJob", message));
        }
        there
    });
}

/// Ended Jobs past the limits of history, oldest first.
fn outlived(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let mut doomed = Vec::new();
    let limits = [(true, cron.spec.successful_jobs_history_limit), (false, cron.spec.failed_jobs_history_limit)];
    for (complete, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let mut ended: Vec<&Arc<Job>> =
            jobs.iter().filter(|job| is_finished(job).is_some() && is_complete(job) == complete).collect();
        ended.sort_by_key(|job| {
            let started = job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
            (started.is_none(), started, job.metadata.name.clone())
        });
        let surplus = ended.len().saturating_sub(limit);
        doomed.extend(ended[..surplus].iter().map(|job| Arc::clone(job)));
    }
    doomed
}

/// The last time up to now at which the schedule was due and nothing was made, and how many there were.
fn most_recent(cron: &CronJob, schedule: &Schedule, now: Timestamp) -> Option<(Timestamp, i64)> {
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let mut earliest = last.or(cron.metadata.creation_timestamp.as_ref())?.0;
    if let Some(deadline) = cron.spec.starting_deadline_seconds {
        earliest = earliest.max(now.checked_sub(SignedDuration::from_secs(deadline)).unwrap_or(earliest));
    }
    let first = schedule.next(earliest).filter(|first| *first <= now)?;
    let Some(second) = schedule.next(first).filter(|second| *second <= now) else { return Some((first, 1)) };
    // Of a long time without a turn not every single time is looked at.
    let period = second.duration_since(first).as_secs().max(1);
    let missed = now.duration_since(first).as_secs() / period + 1;
    let near = first.checked_add(SignedDuration::from_secs((missed - 2).saturating_mul(period))).ok()?;
    let mut recent = first;
    let mut next = schedule.next(near.min(now));
    while let Some(due) = next.filter(|due| *due <= now) {
        recent = due;
        next = schedule.next(due);
    }
    Some((recent, missed))
}

/// The name of the Job of a time: the same each time that it is made.
fn job_name(cron: &CronJob, due: Timestamp) -> String {
    format!("{}-{}", cron.metadata.name.as_deref().unwrap_or_default(), due.as_second() / 60)
}

/// The Job of a time.
fn job_of(cron: &CronJob, due: Timestamp) -> Job {
    let template = &cron.spec.job_template;
    let mut job = Job { spec: template.spec.clone(), ..Job::default() };
    let meta = template.metadata.clone().unwrap_or_default();
    let zone = cron.spec.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    let local = due.to_zoned(zone);
    let format = if local.offset().is_zero() { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    let mut annotations: BTreeMap<String, String> = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.into(), local.strftime(format).to_string());
    job.metadata.name = Some(job_name(cron, due));
    job.metadata.namespace = cron.metadata.namespace.clone();
    job.metadata.labels = meta.labels;
    job.metadata.annotations = Some(annotations);
    job.metadata.creation_timestamp = None;
    job.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "batch/v1".into(),
        kind: "CronJob".into(),
        name: cron.metadata.name.clone().unwrap_or_default(),
        uid: cron.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    job
}

fn owns(cron: &CronJob, job: &Job) -> bool {
    controller_of(job.metadata.owner_references.as_ref())
        .is_some_and(|owner| Some(&owner.uid) == cron.metadata.uid.as_ref())
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> kube::Result<Next> {
        self.caches.jobs.ready().await;
        self.caches.cron_jobs.ready().await;
        let Some(cron) = self.caches.cron_jobs.get(key) else {
            self.written.forget(key);
            return Ok(Next::Done);
        };
        if self.written.outdated(key, cron.metadata.resource_version.as_deref()) {
            return Ok(Next::Done);
        }
        let mut jobs = self.caches.jobs.list_in(&key.namespace);
        jobs.retain(|job| owns(&cron, job));
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        // A Job that was made a moment ago may not have come to the cache yet.
        for reference in cron.status.iter().flat_map(|status| status.active.iter().flatten()) {
            if !jobs.iter().any(|job| job.metadata.uid == reference.uid) {
                match api.get(reference.name.as_deref().unwrap_or_default()).await {
                    Ok(job) if job.metadata.uid == reference.uid => jobs.push(Arc::new(job)),
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let mut decision = decide(&cron, &jobs, Timestamp::now());
        let about = cron.object_ref(&());
        for (severity, reason, message) in decision.said.drain(..) {
            self.events.say(&about, severity, reason, message);
        }
        for job in &decision.delete {
            self.delete(&api, &about, job).await?;
        }
        if let Some(due) = decision.start
            && let Some(job) = self.start(&api, &about, &cron, due).await?
        {
            let reference = ObjectReference { field_path: None, ..job.object_ref(&()) };
            decision.status.active.get_or_insert_default().push(reference);
            decision.status.last_schedule_time = Some(Time(due));
        }
        if cron.status.clone().unwrap_or_default() != decision.status {
            let mut whole = (*cron).clone();
            whole.status = Some(decision.status);
            let api: Api<CronJob> = Api::namespaced(self.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &whole).await {
                Ok(written) => self.written.note(key, written.metadata.resource_version.as_deref()),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(decision.again.map_or(Next::Done, Next::After))
    }

    async fn delete(&self, api: &Api<Job>, about: &ObjectReference, job: &Job) -> kube::Result<()> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: job.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => {
                self.events.say(about, Severity::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
                Ok(())
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => {
                let message = format!("Deleted job: {}", refusal(&error));
                self.events.say(about, Severity::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }

    /// Makes the Job of a time. `None` if its name is taken by a stranger or the namespace ends.
    async fn start(
        &self,
        api: &Api<Job>,
        about: &ObjectReference,
        cron: &CronJob,
        due: Timestamp,
    ) -> kube::Result<Option<Job>> {
        let wanted = job_of(cron, due);
        match api.create(&PostParams::default(), &wanted).await {
            Ok(job) => {
                let name = job.metadata.name.as_deref().unwrap_or_default();
                self.events.say(about, Severity::Normal, "SuccessfulCreate", format!("Created job {name}"));
                Ok(Some(job))
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let there = api.get(wanted.metadata.name.as_deref().unwrap_or_default()).await?;
                Ok(owns(cron, &there).then_some(there))
            }
            Err(error) if is_ending(&error) => Ok(None),
            Err(error) => {
                let message = format!("Error creating job: {}", refusal(&error));
                self.events.say(about, Severity::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
