//! What a Job needs next, from its object and its pods: a pure function.
//!
//! ```text
//! pod ends ─► its uid noted in the status (uncounted) ─► its finalizer removed ─► its uid becomes a count
//! criteria met ─► SuccessCriteriaMet | FailureTarget, active pods deleted ─► all counted and gone ─► Complete | Failed
//! ```

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    FINALIZER,
    backoff::{Backoff, finished},
    indexes::Indexes,
    policy::{Meaning, has_failed, meaning, replaces_only_ended, success},
};
use crate::{
    hands::BURST,
    pods::{count, deletion_order, is_active, is_ready, phase},
};

/// The annotation with a pod's completion index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The annotation with the number of failures of an index before this pod.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The annotation with the number of failures of an index that a policy ignored.
pub const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Pods whose end may stand uncounted in the status at a time.
const UNCOUNTED: usize = 500;

/// What is known.
#[derive(Debug)]
pub struct Known<'a> {
    /// The object.
    pub job: &'a Job,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// Uids of pods whose finalizer was removed, though the cache does not show it yet.
    pub stripped: &'a HashSet<String>,
    /// Whether all pods that were created and deleted before have been seen as such.
    pub met: bool,
    /// Failures since the last success, as of the last turn.
    pub backoff: &'a Backoff,
    /// The time.
    pub now: Timestamp,
}

/// A pod to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// Its completion index, of an indexed Job.
    pub index: Option<i32>,
    /// Failures of the index before it, counted and ignored, where the Job limits them for each index.
    pub failures: Option<(i32, i32)>,
}

/// What to do.
#[derive(Debug)]
pub struct Decision {
    /// Failures since the last success.
    pub backoff: Backoff,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Pods to make.
    pub create: Vec<New>,
    /// The status to be written before finalizers are removed.
    pub status: JobStatus,
    /// Pods whose finalizer is to be removed then.
    pub strip: Vec<Arc<Pod>>,
    /// The condition that ends the Job, once nothing is uncounted and no pod still ends.
    pub finish: Option<JobCondition>,
    /// Whether the Job has just been suspended or resumed.
    pub suspended: Option<bool>,
    /// When time alone changes something.
    pub again: Option<Duration>,
}

/// The condition of that type, if it holds.
pub fn holds<'a>(status: Option<&'a JobStatus>, kind: &str) -> Option<&'a JobCondition> {
    let all = status?.conditions.as_deref()?;
    all.iter().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// Whether the Job has ended, one way or the other.
pub fn is_finished(job: &Job) -> Option<&JobCondition> {
    holds(job.status.as_ref(), "Complete").or_else(|| holds(job.status.as_ref(), "Failed"))
}

/// A pod's completion index.
pub fn index_of(pod: &Pod) -> Option<i32> {
    number(pod, INDEX).filter(|index| *index >= 0)
}

fn number(pod: &Pod, annotation: &str) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(annotation)?.parse().ok()
}

/// Whether the pod still waits to be counted.
pub fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

const MET: &str = "SuccessCriteriaMet";
const TARGET: &str = "FailureTarget";

/// Decides.
pub fn decide(known: &Known) -> Decision {
    Turn::new(known).decide()
}

/// The state of one decision.
struct Turn<'a> {
    known: &'a Known<'a>,
    spec: JobSpec,
    status: JobStatus,
    uncounted: UncountedTerminatedPods,
    indexed: bool,
    active: Vec<Arc<Pod>>,
    succeeded: i32,
    failed: i32,
    done_before: Indexes,
    done: Indexes,
    failed_indexes: Option<Indexes>,
    /// The last failed pod of each index that waits for a new one: it is kept until that one knows its count of failures.
    kept: BTreeMap<i32, Arc<Pod>>,
    backoff: Backoff,
    again: Option<Duration>,
}

impl<'a> Turn<'a> {
    fn new(known: &'a Known<'a>) -> Self {
        let spec = known.job.spec.clone().unwrap_or_default();
        let mut status = known.job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
        let active: Vec<Arc<Pod>> = known.pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        let mut turn = Self {
            known,
            indexed: spec.completion_mode.as_deref() == Some("Indexed"),
            active,
            succeeded: 0,
            failed: 0,
            done_before: Indexes::default(),
            done: Indexes::default(),
            failed_indexes: None,
            kept: BTreeMap::new(),
            backoff: Backoff::default(),
            again: None,
            spec,
            status,
            uncounted,
        };
        turn.count();
        turn
    }

    fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn tracked(&self, pod: &Pod) -> bool {
        has_finalizer(pod) && !self.known.stripped.contains(uid(pod))
    }

    /// The pod's index, if it is one that counts; `Some(None)` of a Job without indexes.
    fn counts(&self, pod: &Pod) -> Option<Option<i32>> {
        if !self.indexed {
            return Some(None);
        }
        index_of(pod).filter(|index| *index < self.completions()).map(Some)
    }

    fn meaning(&self, pod: &Pod) -> Meaning {
        meaning(self.spec.pod_failure_policy.as_ref(), pod)
    }

    fn wake(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |sooner| sooner.min(after)));
    }

    fn count(&mut self) {
        let listed = |list: &Option<Vec<String>>, pod: &Pod| list.iter().flatten().any(|known| known == uid(pod));
        let fresh = |list: &Option<Vec<String>>, test: &dyn Fn(&Pod) -> bool| -> Vec<Arc<Pod>> {
            let pods = self.known.pods.iter();
            pods.filter(|pod| self.tracked(pod) && !listed(list, pod) && self.counts(pod).is_some() && test(pod))
                .cloned()
                .collect()
        };
        let succeeded = fresh(&self.uncounted.succeeded, &|pod| phase(pod) == "Succeeded");
        let failed = fresh(&self.uncounted.failed, &|pod| has_failed(&self.spec, pod));
        let size = |list: &Option<Vec<String>>| i32::try_from(list.as_ref().map_or(0, Vec::len)).unwrap_or(i32::MAX);
        let weighing = count(&failed, |pod| self.meaning(pod) != Meaning::Ignored);
        self.backoff = self.known.backoff.after(&succeeded, &failed);
        self.succeeded =
            self.status.succeeded.unwrap_or(0) + count(&succeeded, |_| true) + size(&self.uncounted.succeeded);
        self.failed = self.status.failed.unwrap_or(0) + weighing + size(&self.uncounted.failed);
        if !self.indexed {
            return;
        }
        let completions = self.completions();
        let known = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        self.done_before = known(&self.status.completed_indexes);
        self.done = self.done_before.clone();
        let tracked: Vec<&Arc<Pod>> = self.known.pods.iter().filter(|pod| self.tracked(pod)).collect();
        let of = |pod: &Pod| index_of(pod).filter(|index| *index < completions);
        let new: Vec<i32> = tracked.iter().filter(|pod| phase(pod) == "Succeeded").filter_map(|pod| of(pod)).collect();
        self.done.extend(new);
        self.succeeded = self.done.count();
        let Some(limit) = self.spec.backoff_limit_per_index else { return };
        let mut failed = known(&self.status.failed_indexes);
        let lost = |pod: &Pod| {
            has_failed(&self.spec, pod)
                && match self.meaning(pod) {
                    Meaning::FailsIndex => true,
                    Meaning::Ignored => false,
                    Meaning::Counts | Meaning::FailsJob(_) => number(pod, FAILURES).unwrap_or(0) >= limit,
                }
        };
        failed.extend(tracked.iter().filter(|pod| lost(pod)).filter_map(|pod| of(pod)));
        let busy: HashSet<i32> = self.active.iter().filter_map(|pod| index_of(pod)).collect();
        let all_failures = |pod: &Pod| number(pod, FAILURES).unwrap_or(0) + number(pod, IGNORED).unwrap_or(0);
        let mut kept: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        for pod in tracked {
            let Some(index) = of(pod).filter(|_| has_failed(&self.spec, pod)) else { continue };
            if self.done.has(index) || failed.has(index) || busy.contains(&index) {
                continue;
            }
            if kept.get(&index).is_none_or(|other| all_failures(other) <= all_failures(pod)) {
                kept.insert(index, pod.clone());
            }
        }
        (self.failed_indexes, self.kept) = (Some(failed), kept);
    }

    /// Why the Job is to end, if it is.
    fn verdict(&mut self) -> Option<JobCondition> {
        let now = self.known.now;
        if let Some(met) = holds(self.known.job.status.as_ref(), MET) {
            return Some(met.clone());
        }
        if let Some(target) = holds(self.known.job.status.as_ref(), TARGET) {
            let (reason, message) = (target.reason.as_deref(), target.message.as_deref());
            return Some(condition("Failed", reason.unwrap_or_default(), message.unwrap_or_default(), now));
        }
        let failed = |reason: &str, message: &str| Some(condition(TARGET, reason, message, now));
        let fatal =
            self.known.pods.iter().filter(|pod| has_failed(&self.spec, pod)).find_map(|pod| match self.meaning(pod) {
                Meaning::FailsJob(message) => Some(message),
                _ => None,
            });
        if let Some(message) = fatal {
            return failed("PodFailurePolicy", &message);
        }
        if self.failed > self.spec.backoff_limit.unwrap_or(6) || self.restarted_too_often() {
            return failed("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        let started = self.status.start_time.as_ref().map(|time| time.0).filter(|_| !self.suspended());
        if let (Some(limit), Some(started)) = (self.spec.active_deadline_seconds, started) {
            let left = SignedDuration::from_secs(limit).saturating_sub(now.duration_since(started));
            match Duration::try_from(left) {
                Ok(left) if !left.is_zero() => self.wake(left),
                _ => return failed("DeadlineExceeded", "Job was active longer than specified deadline"),
            }
        }
        if !self.indexed {
            return None;
        }
        if let Some(lost) = &self.failed_indexes {
            let count = lost.count();
            if self.spec.max_failed_indexes.is_some_and(|limit| count > limit) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return failed("MaxFailedIndexesExceeded", message);
            }
            if count > 0 && count + self.done.count() >= self.completions() {
                return failed("FailedIndexes", "Job has failed indexes");
            }
        }
        let message = success(self.spec.success_policy.as_ref(), self.completions(), &self.done)?;
        Some(condition(MET, "SuccessPolicy", &message, now))
    }

    /// Whether containers that are restarted in place have been so more often than the Job allows.
    fn restarted_too_often(&self) -> bool {
        let template = self.spec.template.spec.as_ref();
        if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let running = self.known.pods.iter().filter(|pod| matches!(phase(pod), "Running" | "Pending"));
        let statuses = running.filter_map(|pod| pod.status.as_ref()).flat_map(|status| {
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
        });
        let restarts: i32 = statuses.map(|status| status.restart_count).sum();
        match self.spec.backoff_limit.unwrap_or(6) {
            0 => restarts > 0,
            limit => restarts >= limit,
        }
    }

    fn decide(mut self) -> Decision {
        let now = self.known.now;
        let first_start = self.status.start_time.is_none() && !self.suspended();
        if first_start {
            self.status.start_time = Some(Time(now));
        }
        let ending =
            |pod: &Pod| pod.metadata.deletion_timestamp.is_some() && !matches!(phase(pod), "Succeeded" | "Failed");
        let mut terminating = count(self.known.pods, ending);
        let mut ready = count(&self.active, is_ready);
        let mut active = i32::try_from(self.active.len()).unwrap_or(i32::MAX);
        let (mut delete, mut create, mut suspended) = (Vec::new(), Vec::new(), None);
        let mut verdict = self.verdict();
        if verdict.is_some() {
            delete.clone_from(&self.active);
            // Pods that are not in the cache yet may still have to be counted.
            if !self.known.met {
                verdict = None;
            }
        } else {
            let managed = self.known.met && self.known.job.metadata.deletion_timestamp.is_none();
            if managed {
                (delete, create) = self.manage(active, terminating);
            }
            let left = active - i32::try_from(delete.len()).unwrap_or(0) + i32::try_from(create.len()).unwrap_or(0);
            let complete = match self.spec.completions {
                None => self.succeeded > 0,
                Some(wanted) => self.succeeded >= wanted,
            };
            if complete && left == 0 && delete.is_empty() {
                verdict = Some(condition(MET, "CompletionsReached", "Reached expected number of succeeded pods", now));
            } else if managed {
                suspended = self.note_suspension();
            }
        }
        ready -= count(&delete, is_ready);
        let deleted = i32::try_from(delete.len()).unwrap_or(0);
        active += i32::try_from(create.len()).unwrap_or(0) - deleted;
        terminating += deleted;
        self.status.active = Some(active).filter(|count| *count > 0);
        self.status.ready = Some(ready);
        self.status.terminating = Some(terminating);
        let (strip, all) = self.track(verdict.as_ref());
        let finish = verdict.map(|verdict| self.announce(verdict));
        self.status.uncounted_terminated_pods = Some(self.uncounted);
        let finish = finish.filter(|_| all);
        Decision {
            backoff: self.backoff,
            delete,
            create,
            status: self.status,
            strip,
            finish,
            suspended,
            again: self.again,
        }
    }

    /// Puts the interim condition into the status and returns the final one.
    fn announce(&mut self, verdict: JobCondition) -> JobCondition {
        let now = self.known.now;
        let (reason, message) =
            (verdict.reason.clone().unwrap_or_default(), verdict.message.clone().unwrap_or_default());
        let last = match verdict.type_.as_str() {
            MET => "Complete",
            TARGET => "Failed",
            _ => return verdict,
        };
        let conditions = self.status.conditions.get_or_insert_default();
        if !conditions.iter().any(|known| known.type_ == verdict.type_) {
            conditions.push(verdict);
        }
        condition(last, &reason, &message, now)
    }

    /// Notes in the status whether the Job is suspended; returns it if that is new.
    fn note_suspension(&mut self) -> Option<bool> {
        let now = self.known.now;
        let suspended = self.suspended();
        let wanted = if suspended { "True" } else { "False" };
        let (reason, message) =
            if suspended { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
        if !suspended && self.status.conditions.is_none() {
            return None;
        }
        let conditions = self.status.conditions.get_or_insert_default();
        let new = JobCondition { status: wanted.into(), ..condition("Suspended", reason, message, now) };
        match conditions.iter_mut().find(|condition| condition.type_ == "Suspended") {
            Some(known) if known.status == wanted => return None,
            Some(known) => *known = new,
            None if !suspended => return None,
            None => conditions.push(new),
        }
        // The deadline counts the time that a Job is active without a break.
        self.status.start_time = (!suspended).then_some(Time(now));
        Some(suspended)
    }

    /// Which pods to delete and to make, so that as many run as should.
    fn manage(&mut self, active: i32, terminating: i32) -> (Vec<Arc<Pod>>, Vec<New>) {
        if self.suspended() {
            return (self.active.clone(), Vec::new());
        }
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.spec.completions {
            None if self.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => (completions - self.succeeded).min(parallelism).max(0),
        };
        let mut surplus = self.surplus(usize::try_from(active - wanted).unwrap_or(0));
        if !surplus.is_empty() {
            surplus.truncate(BURST);
            return (surplus, Vec::new());
        }
        let held = if replaces_only_ended(&self.spec) { terminating } else { 0 };
        let lacking = usize::try_from(wanted - held - active).unwrap_or(0).min(BURST);
        if lacking == 0 {
            return (Vec::new(), Vec::new());
        }
        let per_index = self.failed_indexes.is_some();
        if !per_index {
            let left = self.backoff.left(self.known.now);
            if !left.is_zero() {
                self.wake(left);
                return (Vec::new(), Vec::new());
            }
        }
        if !self.indexed {
            return (Vec::new(), vec![New { index: None, failures: None }; lacking]);
        }
        let mut taken = self.done.clone();
        taken.extend(self.active.iter().filter_map(|pod| index_of(pod)));
        if replaces_only_ended(&self.spec) {
            let ending = self.known.pods.iter().filter(|pod| {
                pod.metadata.deletion_timestamp.is_some() && !matches!(phase(pod), "Succeeded" | "Failed")
            });
            taken.extend(ending.filter_map(|pod| index_of(pod)));
        }
        if let Some(failed) = &self.failed_indexes {
            let completions = self.completions();
            taken.extend((0..completions).filter(|index| failed.has(*index)));
        }
        let mut new = Vec::new();
        for index in taken.missing(lacking, self.completions()) {
            let Some(before) = self.kept.get(&index).cloned().filter(|_| per_index) else {
                new.push(New { index: Some(index), failures: per_index.then_some((0, 0)) });
                continue;
            };
            let (counted, ignored) = (number(&before, FAILURES).unwrap_or(0), number(&before, IGNORED).unwrap_or(0));
            let backoff = Backoff { failures: counted + ignored + 1, last: Some(finished(&before)) };
            let left = backoff.left(self.known.now);
            if !left.is_zero() {
                self.wake(left);
                continue;
            }
            let failures = match self.meaning(&before) {
                Meaning::Ignored => (counted, ignored + 1),
                _ => (counted + 1, ignored),
            };
            new.push(New { index: Some(index), failures: Some(failures) });
        }
        (Vec::new(), new)
    }

    /// Active pods that are too many, at least `least` of them: of an indexed Job all whose index is not one or is
    /// another's too, then the least useful ones.
    fn surplus(&self, least: usize) -> Vec<Arc<Pod>> {
        let mut order = self.active.clone();
        order.sort_by(|a, b| deletion_order(a, b, |_| 0));
        let (mut doomed, mut rest) = (Vec::new(), Vec::new());
        if self.indexed {
            let mut seen = HashSet::new();
            // The most useful pod of an index is the one that stays.
            for pod in order.iter().rev() {
                let index = index_of(pod).filter(|index| *index < self.completions());
                if index.is_some_and(|index| seen.insert(index)) {
                    rest.push(pod.clone());
                } else {
                    doomed.push(pod.clone());
                }
            }
            rest.reverse();
        } else {
            rest = order;
        }
        let more = least.saturating_sub(doomed.len());
        doomed.extend(rest.into_iter().take(more));
        doomed
    }

    /// Counts what can be counted and notes what is to be counted next; returns the pods whose finalizer may go, and
    /// whether that is all of them.
    fn track(&mut self, verdict: Option<&JobCondition>) -> (Vec<Arc<Pod>>, bool) {
        let tracked: Vec<Arc<Pod>> = self.known.pods.iter().filter(|pod| self.tracked(pod)).cloned().collect();
        let waiting: HashSet<&str> = tracked.iter().map(|pod| uid(pod)).collect();
        settle(&mut self.status, &mut self.uncounted, |uid| waiting.contains(uid));
        let listed = |list: &Option<Vec<String>>, pod: &Pod| list.iter().flatten().any(|known| known == uid(pod));
        let (before_succeeded, before_failed) = (self.uncounted.succeeded.clone(), self.uncounted.failed.clone());
        let ends_well = verdict.is_some_and(|verdict| verdict.type_ == MET);
        let mut strip = Vec::new();
        let mut done = Vec::new();
        for pod in &tracked {
            let succeeded = phase(pod) == "Succeeded";
            let failed = has_failed(&self.spec, pod);
            let kept = index_of(pod).and_then(|index| self.kept.get(&index)).is_some_and(|kept| uid(kept) == uid(pod));
            let free = self.known.job.metadata.deletion_timestamp.is_some()
                || verdict.is_some()
                || succeeded
                || (failed && !kept);
            if !free {
                continue;
            }
            strip.push(pod.clone());
            let index = self.counts(pod);
            if succeeded && !listed(&before_failed, pod) {
                match index {
                    Some(Some(index)) => done.push(index),
                    Some(None) if !listed(&before_succeeded, pod) => {
                        self.uncounted.succeeded.get_or_insert_default().push(uid(pod).to_owned());
                    }
                    _ => {}
                }
            } else if (failed || (verdict.is_some() && !ends_well))
                && !listed(&before_failed, pod)
                && index.is_some()
                && self.meaning(pod) != Meaning::Ignored
            {
                self.uncounted.failed.get_or_insert_default().push(uid(pod).to_owned());
            }
            let size = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
            if done.len() + size(&self.uncounted.succeeded) + size(&self.uncounted.failed) >= UNCOUNTED {
                self.finish_indexes(done);
                return (strip, false);
            }
        }
        self.finish_indexes(done);
        (strip, true)
    }

    fn finish_indexes(&mut self, done: Vec<i32>) {
        if !self.indexed {
            return;
        }
        let mut all = self.done_before.clone();
        all.extend(done);
        self.status.succeeded = Some(all.count()).filter(|count| *count > 0);
        self.status.completed_indexes = Some(all.to_string()).filter(|text| !text.is_empty());
        self.status.failed_indexes = self.failed_indexes.as_ref().map(ToString::to_string);
    }
}

/// Turns uids whose pods do not wait any more into counts.
pub fn settle(status: &mut JobStatus, uncounted: &mut UncountedTerminatedPods, waits: impl Fn(&str) -> bool) {
    let settle = |list: &mut Option<Vec<String>>, total: &mut Option<i32>| {
        let Some(uids) = list else { return };
        let before = uids.len();
        uids.retain(|uid| waits(uid));
        let counted = i32::try_from(before - uids.len()).unwrap_or(0);
        if counted > 0 {
            *total = Some(total.unwrap_or(0) + counted);
        }
        if uids.is_empty() {
            *list = None;
        }
    };
    settle(&mut uncounted.succeeded, &mut status.succeeded);
    settle(&mut uncounted.failed, &mut status.failed);
}

#[cfg(test)]
mod tests;
