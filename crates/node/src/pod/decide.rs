//! What to do next for one pod: a pure function of what is known and what just happened.
//!
//! ```text
//! admit ─┬─ volumes ──┐
//!        ├─ sandbox ──┼─ init containers in order ─ containers ─── finished ──┐
//!        └─ images ───┘         (sidecars stay)      │     ▲                  │
//!                                                    └back─off     deleted ───┤
//!                                                                             ▼
//!                   stop containers, then sidecars ─ stop sandbox, unmount ─ remove ─ delete the object
//! ```
//!
//! Nothing is waited for that need not be: volumes, sandbox and images are asked for at once. An action that was asked
//! for shows in the state (`Busy`, `Starting`, `Stopping`) until an event reports its end, so the plan can be made anew
//! after every event.

mod exit;
mod resize;

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    backoff::in_words,
    state::{
        Admission, ContainerState, Ended, Ending, Image, ImageRef, Kind, Resize, Restart, Run, Running, Sandbox, Spec,
        State, Step, Stop, WHOLE, Why,
    },
    status,
};

use exit::{exited, sandbox_died};
use resize::{granted, plan_resize, resized};

pub use exit::{may_restart_all, restarts};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The API server has a newer object.
    Changed(Arc<Pod>),
    /// The API server has no such object any more.
    Removed,
    /// The node took the pod, or did not: reason and message.
    Admitted(Result<(), (String, String)>),
    /// Volumes are set up, or why not; when ending, they are taken down.
    Volumes(Result<(), String>),
    /// An object that the pod refers to has changed.
    ObjectsChanged,
    /// The sandbox is there: id and address.
    SandboxReady(String, Option<IpAddr>),
    /// The sandbox could not be made.
    SandboxFailed(String),
    /// The sandbox was stopped.
    SandboxStopped,
    /// The sandbox with that id is gone by itself.
    SandboxDied(String),
    /// The image of a container was looked for.
    Image(String, Result<ImageRef, ImageFailure>),
    /// A container was started, or not.
    Started(String, Result<Running, StartFailure>),
    /// The postStart hook of a container (name, id) has ended.
    Hook(String, String, Result<(), String>),
    /// A container has ended.
    Exited(String, Ended),
    /// A probe of a container (name, id) has reached a verdict.
    Probed(String, String, Probe, bool),
    /// Whether the node grants the resources that were asked for last.
    Granted(Result<(), Resize>),
    /// The limits of a container (name, id) were changed, or why not.
    Resized(String, String, Result<(), String>),
    /// Other pods have left room.
    Room,
    /// Everything outside of the API is gone.
    Cleaned(Result<(), String>),
    /// The node ends the pod for want of something.
    Evict {
        /// For people.
        message: String,
        /// Whether others are to be told that it was none of the pod's own doing.
        disrupted: bool,
        /// Time to end.
        grace: Duration,
    },
    /// Time has passed.
    Wake,
}

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// Restarts a container that fails it.
    Liveness,
    /// Takes a container that fails it out of Services.
    Readiness,
    /// Holds the other two back until it has passed.
    Startup,
}

/// Why an image is not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFailure {
    /// `ErrImagePull`, `InvalidImageName`, `ErrImageNeverPull`, `ImageInspectError`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Whether it may succeed later.
    pub again: bool,
}

/// Why a container was not started.
#[derive(Clone, Debug, PartialEq)]
pub enum StartFailure {
    /// Nothing was created: reason for the status and message.
    Create(String, String),
    /// It was created, and its process could not be started.
    Start(Ended),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Set up the pod's volumes.
    MountVolumes,
    /// Take them down.
    UnmountVolumes,
    /// Make a sandbox; the attempt.
    CreateSandbox(u32),
    /// Stop it: processes, network, address.
    StopSandbox(String),
    /// Have the image of a container.
    FetchImage(String),
    /// Create and start a container.
    Start(String, u32, ImageRef),
    /// Run the postStart hook of a container (name, id).
    RunHook(String, String),
    /// Stop a container.
    Stop {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// Time to end by itself, preStop hook included.
        grace: Duration,
        /// Whether to run its preStop hook.
        hook: bool,
    },
    /// Ask whether the node has room for the resources of the spec.
    AskForRoom,
    /// Change the limits of a container (name, id) to those granted.
    Resize(String, String),
    /// Begin the probes of a container (name, id).
    StartProbes(String, String),
    /// End its liveness and startup probes.
    CalmProbes(String),
    /// End all its probes.
    StopProbes(String),
    /// Record an event.
    Record {
        /// Whether it is a warning.
        warning: bool,
        /// CamelCase.
        reason: &'static str,
        /// For people.
        message: String,
        /// The container it is about.
        container: Option<String>,
    },
    /// Write the status.
    Publish,
    /// Remove everything of the pod from the machine.
    Remove,
    /// Delete the object for good, after the status was written.
    Delete,
    /// End the owner.
    Finish,
}

/// Delay of a sandbox or of volumes that failed.
const RETRY: Duration = Duration::from_secs(5);
/// A container that is killed gets at least this.
const LEAST_GRACE: Duration = Duration::from_secs(1);

/// Takes in what happened and tells what to do.
pub fn decide(state: &mut State, event: Event, now: Timestamp) -> Vec<Action> {
    let mut out = Vec::new();
    take(state, event, now, &mut out);
    plan(state, now, &mut out);
    let status = status::compute(state, now);
    if status != state.status {
        state.status = status;
        out.push(Action::Publish);
    }
    // What follows the last status goes after it.
    if let Some(position) = out.iter().position(|action| *action == Action::Delete) {
        let delete = out.remove(position);
        out.push(delete);
    }
    if state.removed && state.cleaned == Step::Done {
        out.push(Action::Finish);
    }
    out
}

/// When [`decide`] must be called with [`Event::Wake`] if nothing happens before.
pub fn next_wake(state: &State, now: Timestamp) -> Option<Timestamp> {
    let mut times = Vec::new();
    let mut step = |step: &Step| {
        if let Step::Failed { retry, .. } = step {
            times.push(*retry);
        }
    };
    step(&state.volumes);
    step(&state.cleaned);
    if let Sandbox::Failed { retry, .. } = &state.sandbox {
        times.push(*retry);
    }
    for container in &state.containers {
        if let Image::Failed { reason, retry: Some(retry), .. } = &container.image {
            let shown = *retry - container.pull_backoff.delay() + PULL_ERROR_SHOWN;
            times.push(if reason == "ErrImagePull" { shown } else { *retry });
        }
        match &container.run {
            Run::Unable { retry, .. } => times.push(*retry),
            Run::Ended(_) => times.extend(container.backoff.until()),
            _ => {}
        }
    }
    if state.ending.is_none() {
        times.extend(deadline(state));
    }
    // Times that have passed wait for an event, not for the clock.
    times.into_iter().filter(|time| *time > now).min()
}

/// How long a failed pull shows as such before it shows as waiting for the next.
const PULL_ERROR_SHOWN: Duration = Duration::from_secs(2);

fn deadline(state: &State) -> Option<Timestamp> {
    let seconds = state.pod.spec.as_ref()?.active_deadline_seconds?;
    state.start_time.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
}

// ---- taking in --------------------------------------------------------------------------------------------------------

fn take(state: &mut State, event: Event, now: Timestamp, out: &mut Vec<Action>) {
    match event {
        Event::Wake => {}
        Event::Changed(pod) => {
            let old = std::mem::replace(&mut state.pod, pod);
            for container in &mut state.containers {
                let image = |pod| super::state::container_spec(pod, &container.name).map_or("", Spec::image);
                if image(&old) != image(&state.pod) && matches!(container.image, Image::Failed { .. }) {
                    container.image = Image::Unknown;
                    container.pull_backoff.succeeded();
                }
            }
            state.follow_spec();
            begin_deletion(state, now, out);
        }
        Event::Removed => {
            state.removed = true;
            let grace = if state.pod.metadata.deletion_timestamp.is_some() { Duration::ZERO } else { LEAST_GRACE };
            end(state, Ending { why: Why::Deleted, grace, since: now }, now, out);
        }
        Event::Admitted(verdict) => {
            state.admission = match verdict {
                Ok(()) => Admission::Admitted,
                Err((reason, message)) => {
                    out.push(Action::Record {
                        warning: true,
                        reason: leak_reason(&reason),
                        message: message.clone(),
                        container: None,
                    });
                    Admission::Rejected { reason, message: format!("Pod was rejected: {message}") }
                }
            };
            begin_deletion(state, now, out);
        }
        Event::Volumes(result) => {
            let unmounting = std::mem::take(&mut state.unmounting);
            state.volumes = match result {
                Ok(()) if unmounting => Step::Todo,
                Ok(()) => Step::Done,
                Err(message) => {
                    let reason = if unmounting { "FailedKillPod" } else { "FailedMount" };
                    out.push(record(true, reason, message.clone(), None));
                    Step::Failed { message, retry: now + RETRY }
                }
            };
        }
        Event::ObjectsChanged => {
            if let Step::Failed { retry, .. } = &mut state.volumes {
                *retry = now;
            }
            for container in &mut state.containers {
                if let Run::Unable { retry, .. } = &mut container.run {
                    *retry = now;
                }
            }
        }
        Event::SandboxReady(id, ip) => {
            state.sandboxes += 1;
            state.sandbox = Sandbox::Ready { id, ip };
        }
        Event::SandboxFailed(message) => {
            state.sandboxes += 1;
            out.push(record(true, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"), None));
            state.sandbox = Sandbox::Failed { message, retry: now + RETRY };
        }
        Event::SandboxStopped => {
            if let Sandbox::Stopping { id } = &state.sandbox {
                state.sandbox = Sandbox::Stopped { id: id.clone() };
            }
        }
        Event::SandboxDied(id) => sandbox_died(state, &id, now, out),
        Event::Image(name, result) => image(state, &name, result, now, out),
        Event::Started(name, result) => started(state, &name, result, now, out),
        Event::Hook(name, id, result) => hook(state, &name, &id, result, now, out),
        Event::Exited(name, ended) => exited(state, &name, ended, now, out),
        Event::Probed(name, id, probe, passed) => probed(state, &name, &id, probe, passed, now, out),
        Event::Granted(verdict) => granted(state, verdict, out),
        Event::Resized(name, id, result) => resized(state, &name, &id, result, out),
        Event::Room => {
            if matches!(state.resize, Some(Resize::Deferred(_))) {
                out.push(Action::AskForRoom);
            }
        }
        Event::Cleaned(result) => {
            state.cleaned = match result {
                Ok(()) => Step::Done,
                Err(message) => {
                    out.push(record(true, "FailedKillPod", format!("error killing pod: {message}"), None));
                    Step::Failed { message, retry: now + RETRY }
                }
            };
        }
        Event::Evict { message, disrupted, grace } => {
            if state.ending.is_none() {
                out.push(record(true, "Evicted", message.clone(), None));
            }
            let why = Why::Failed { reason: "Evicted".into(), message, disrupted };
            end(state, Ending { why, grace, since: now }, now, out);
        }
    }
}

/// Reasons of the node's own are few; they become `&'static` here so that actions stay plain data.
fn leak_reason(reason: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "OutOfcpu",
        "OutOfmemory",
        "OutOfpods",
        "OutOfephemeral-storage",
        "NodeAffinity",
        "NodePorts",
        "NodeName",
        "Evicted",
        "DeadlineExceeded",
        "PodOSNotSupported",
        "SysctlForbidden",
        "UnsupportedRuntimeClass",
    ];
    KNOWN.iter().find(|known| **known == reason).copied().unwrap_or("Failed")
}

fn record(warning: bool, reason: &'static str, message: String, container: Option<&str>) -> Action {
    Action::Record { warning, reason, message, container: container.map(str::to_owned) }
}

fn begin_deletion(state: &mut State, now: Timestamp, out: &mut Vec<Action>) {
    if state.pod.metadata.deletion_timestamp.is_none() {
        return;
    }
    let seconds = state.pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
    let grace = Duration::from_secs(seconds.max(0).unsigned_abs());
    end(state, Ending { why: Why::Deleted, grace, since: now }, now, out);
}

/// Begins the end, or hastens it.
fn end(state: &mut State, ending: Ending, now: Timestamp, out: &mut Vec<Action>) {
    match &mut state.ending {
        None => state.ending = Some(ending),
        Some(present) => {
            let (old, new) = (present.since + present.grace, ending.since + ending.grace);
            if ending.why == Why::Deleted {
                // A pod that failed stays failed; it only has to go now.
                if present.why == Why::Finished {
                    present.why = Why::Deleted;
                }
                if new < old {
                    (present.grace, present.since) = (ending.grace, ending.since);
                    for container in &mut state.containers {
                        if let Run::Stopping(running, stop) = &mut container.run
                            && stop.deadline > new
                        {
                            stop.deadline = new;
                            out.push(Action::Stop {
                                name: container.name.clone(),
                                id: running.id.clone(),
                                grace: new.duration_since(now).try_into().unwrap_or_default(),
                                hook: false,
                            });
                        }
                    }
                }
            }
        }
    }
}

fn image(state: &mut State, name: &str, result: Result<ImageRef, ImageFailure>, now: Timestamp, out: &mut Vec<Action>) {
    let Some(container) = state.container_mut(name) else { return };
    container.image = match result {
        Ok(image) => {
            container.pull_backoff.succeeded();
            Image::Present(image)
        }
        Err(failure) => {
            let error = if failure.reason == "ErrImagePull" { &failure.reason } else { &failure.message };
            out.push(record(true, "Failed", format!("Error: {error}"), Some(name)));
            let retry = failure.again.then(|| container.pull_backoff.failed(now));
            Image::Failed { reason: failure.reason, message: failure.message, retry }
        }
    };
}

fn started(
    state: &mut State,
    name: &str,
    result: Result<Running, StartFailure>,
    now: Timestamp,
    out: &mut Vec<Action>,
) {
    let has_startup = plain(&state.pod, name).is_some_and(|container| container.startup_probe.is_some());
    let has_hook = plain(&state.pod, name).is_some_and(has_post_start);
    let Some(container) = state.container_mut(name) else { return };
    match result {
        Ok(mut running) => {
            container.attempts += 1;
            container.ready = false;
            container.started = !has_startup;
            running.hook = has_hook;
            out.push(record(false, "Created", "Container created".into(), Some(name)));
            out.push(record(false, "Started", "Container started".into(), Some(name)));
            if has_hook {
                out.push(Action::RunHook(name.to_owned(), running.id.clone()));
            } else {
                out.push(Action::StartProbes(name.to_owned(), running.id.clone()));
            }
            let early = container.early.take().filter(|ended| ended.id == running.id);
            container.run = Run::Running(running);
            if let Some(ended) = early {
                exited(state, name, ended, now, out);
            }
        }
        Err(StartFailure::Create(reason, message)) => {
            out.push(record(true, "Failed", format!("Error: {message}"), Some(name)));
            let delay = if reason == "CreateContainerConfigError" {
                Duration::from_secs(10)
            } else {
                container.pull_backoff.failed(now);
                container.pull_backoff.delay()
            };
            container.run = Run::Unable { reason, message, retry: now + delay };
        }
        Err(StartFailure::Start(ended)) => {
            container.attempts += 1;
            out.push(record(false, "Created", "Container created".into(), Some(name)));
            let message = ended.message.clone().unwrap_or_default();
            out.push(record(true, "Failed", format!("Error: {message}"), Some(name)));
            container.image = Image::Unknown;
            container.run = Run::Ended(ended);
        }
    }
}

fn hook(state: &mut State, name: &str, id: &str, result: Result<(), String>, now: Timestamp, out: &mut Vec<Action>) {
    let grace = state.spec_grace();
    let Some(container) = state.container_mut(name) else { return };
    let Run::Running(running) = &mut container.run else { return };
    if running.id != id {
        return;
    }
    running.hook = false;
    match result {
        Ok(()) => out.push(Action::StartProbes(name.to_owned(), id.to_owned())),
        Err(_) => {
            out.push(record(true, "FailedPostStartHook", "PostStartHook failed".into(), Some(name)));
            stop(container, grace, true, false, "FailedPostStartHook".into(), now, out);
        }
    }
}

fn probed(state: &mut State, name: &str, id: &str, probe: Probe, passed: bool, now: Timestamp, out: &mut Vec<Action>) {
    let pod = state.pod.clone();
    let grace = state.spec_grace();
    let policy = state.restart_policy().to_owned();
    let Some(container) = state.container_mut(name) else { return };
    if container.running().is_none_or(|running| running.id != id) {
        return;
    }
    match (probe, passed) {
        (Probe::Readiness, passed) => container.ready = passed,
        (Probe::Startup, true) => container.started = true,
        (Probe::Liveness, true) => {}
        (Probe::Liveness | Probe::Startup, false) => {
            let spec = plain(&pod, name);
            let own = spec.and_then(|spec| match probe {
                Probe::Liveness => spec.liveness_probe.as_ref(),
                _ => spec.startup_probe.as_ref(),
            });
            let seconds = own.and_then(|probe| probe.termination_grace_period_seconds);
            let grace = seconds.map_or(grace, |seconds| Duration::from_secs(seconds.max(0).unsigned_abs()));
            let kind = if probe == Probe::Liveness { "liveness" } else { "startup" };
            let again = container.kind == Kind::Sidecar || policy != "Never";
            let end = if again { ", will be restarted" } else { "" };
            let message = format!("Container {name} failed {kind} probe{end}");
            stop(container, grace, true, false, message, now, out);
        }
    }
}

// ---- planning ---------------------------------------------------------------------------------------------------------

fn plan(state: &mut State, now: Timestamp, out: &mut Vec<Action>) {
    match &state.admission {
        Admission::Pending => return,
        Admission::Rejected { .. } => {
            if state.ending.is_none() {
                state.ending = Some(Ending { why: Why::Finished, grace: Duration::ZERO, since: now });
            }
        }
        Admission::Admitted => {
            if state.ending.is_none() {
                check_end(state, now, out);
            }
        }
    }
    if state.ending.is_some() {
        plan_end(state, now, out);
    } else {
        plan_run(state, now, out);
    }
}

/// Whether the pod has come to its end by itself.
fn check_end(state: &mut State, now: Timestamp, out: &mut Vec<Action>) {
    let grace = state.spec_grace();
    // A terminal phase is never left, even if this node has forgotten how it came about.
    let phase = state.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        state.ending = Some(Ending { why: Why::Finished, grace, since: now });
        return;
    }
    if deadline(state).is_some_and(|deadline| deadline <= now) {
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        out.push(record(false, "DeadlineExceeded", message.clone(), None));
        let why = Why::Failed { reason: "DeadlineExceeded".into(), message, disrupted: false };
        state.ending = Some(Ending { why, grace, since: now });
        return;
    }
    let policy = state.restart_policy();
    let over = |container: &ContainerState| match &container.run {
        Run::Ended(ended) => !restarts(&state.pod, policy, container, ended),
        _ => false,
    };
    let init_failed = state.containers.iter().any(|container| {
        container.kind == Kind::Init
            && over(container)
            && matches!(&container.run, Run::Ended(ended) if ended.code != 0)
    });
    let mut main = state.containers.iter().filter(|container| container.kind == Kind::Main).peekable();
    if init_failed || (main.peek().is_some() && main.all(over)) {
        state.ending = Some(Ending { why: Why::Finished, grace, since: now });
    }
}

fn plan_run(state: &mut State, now: Timestamp, out: &mut Vec<Action>) {
    if due(&state.volumes, now) {
        state.volumes = Step::Busy;
        out.push(Action::MountVolumes);
    }
    let make = match &state.sandbox {
        Sandbox::None => true,
        Sandbox::Failed { retry, .. } => *retry <= now,
        _ => false,
    };
    if make {
        state.sandbox = Sandbox::Creating;
        out.push(Action::CreateSandbox(state.sandboxes));
    }
    let ready = state.volumes == Step::Done && matches!(state.sandbox, Sandbox::Ready { .. });
    if state.restarting.is_some() {
        let regular = || state.containers.iter().filter(|container| container.kind != Kind::Ephemeral);
        if regular().any(|container| matches!(container.run, Run::Stopping(..))) {
            return;
        }
        let waits = |container: &ContainerState| matches!(&container.run, Run::Ended(ended) if ended.replace);
        if !regular().any(waits) {
            state.restarting = None;
        }
    }
    replace_changed(state, now, out);
    plan_resize(state, now, out);
    for index in startable(state) {
        start(state, index, ready, now, out);
    }
}

fn due(step: &Step, now: Timestamp) -> bool {
    match step {
        Step::Todo => true,
        Step::Failed { retry, .. } => *retry <= now,
        Step::Busy | Step::Done => false,
    }
}

/// Containers whose turn it is, by position.
fn startable(state: &State) -> Vec<usize> {
    let mut list = Vec::new();
    let initialized = state.initialized();
    let mut waiting = false;
    let mut held = false;
    for (index, container) in state.containers.iter().enumerate() {
        match container.kind {
            Kind::Ephemeral => list.push(index),
            Kind::Sidecar if initialized => list.push(index),
            Kind::Init if initialized => {}
            Kind::Init | Kind::Sidecar => {
                if !waiting {
                    list.push(index);
                    waiting = !container.init_done();
                }
            }
            Kind::Main => {
                if initialized && !held {
                    list.push(index);
                    // Containers start in order: a postStart hook holds those after it back.
                    let hooked = plain(&state.pod, &container.name).is_some_and(has_post_start);
                    held = hooked
                        && match &container.run {
                            Run::Idle | Run::Starting => true,
                            Run::Running(running) => running.hook,
                            _ => false,
                        };
                }
            }
        }
    }
    list
}

fn start(state: &mut State, index: usize, ready: bool, now: Timestamp, out: &mut Vec<Action>) {
    let full_name = state.full_name();
    let pod = state.pod.clone();
    let policy = state.restart_policy().to_owned();
    let container = &mut state.containers[index];
    let name = container.name.clone();
    match &container.run {
        Run::Idle => {}
        Run::Unable { retry, .. } if *retry <= now => {}
        Run::Ended(ended) if restarts(&pod, &policy, container, ended) => {
            if !matches!(container.image, Image::Unknown) {
                // The delay has passed already; the image is on its way.
            } else {
                let began = ended.started_at.unwrap_or(ended.finished_at);
                let waited = container.backoff.until().is_some();
                if ended.replace {
                    container.backoff.succeeded();
                } else if let Err(_until) = container.backoff.restart(began, ended.finished_at, now) {
                    if !waited {
                        let message = format!("Back-off restarting failed container {name} in pod {full_name}");
                        out.push(record(true, "BackOff", message, Some(&name)));
                    }
                    return;
                }
            }
        }
        _ => return,
    }
    match &mut container.image {
        Image::Unknown => {
            container.image = Image::Busy;
            out.push(Action::FetchImage(name));
        }
        Image::Busy => {}
        Image::Failed { reason, message, retry: Some(retry) } => {
            if *retry <= now {
                container.image = Image::Busy;
                out.push(Action::FetchImage(name));
            } else if reason == "ErrImagePull" && now >= *retry - container.pull_backoff.delay() + PULL_ERROR_SHOWN {
                let image = super::state::container_spec(&pod, &name).map_or("", Spec::image);
                *message = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
                *reason = "ImagePullBackOff".into();
                out.push(record(false, "BackOff", format!("Back-off pulling image {image:?}"), Some(&name)));
                out.push(record(true, "Failed", "Error: ImagePullBackOff".into(), Some(&name)));
            }
        }
        Image::Failed { retry: None, .. } => {}
        Image::Present(image) => {
            if ready {
                out.push(Action::Start(name, container.attempts, image.clone()));
                if let Run::Ended(ended) = std::mem::replace(&mut container.run, Run::Starting) {
                    container.last = Some(ended);
                }
            }
        }
    }
}

/// A container whose image was changed is stopped, and started again with the new one.
fn replace_changed(state: &mut State, now: Timestamp, out: &mut Vec<Action>) {
    let pod = state.pod.clone();
    let grace = state.spec_grace();
    for container in &mut state.containers {
        let Some(spec) = plain(&pod, &container.name) else { continue };
        let Run::Running(running) = &container.run else { continue };
        let wanted = spec.image.as_deref().unwrap_or("");
        if !running.image.name.is_empty() && running.image.name != wanted && container.kind != Kind::Init {
            let message = format!("Container {} definition changed, will be restarted", container.name);
            stop(container, grace, true, true, message, now, out);
        }
    }
}

fn plan_end(state: &mut State, now: Timestamp, out: &mut Vec<Action>) {
    let Some(ending) = state.ending.clone() else { return };
    let deadline = ending.since + ending.grace;
    let left: Duration = deadline.duration_since(now).try_into().unwrap_or_default();
    let kill = ending.grace.is_zero();
    for container in state.containers.iter_mut().filter(|container| container.kind != Kind::Sidecar) {
        stop_for_end(container, left, kill, now, out);
    }
    let busy = state.containers.iter().any(|container| container.kind != Kind::Sidecar && container.is_active());
    if !busy {
        // Sidecars go last, in reverse order, one at a time.
        let mut sidecars = state.containers.iter_mut().filter(|container| container.kind == Kind::Sidecar);
        if let Some(last) = sidecars.rfind(|container| container.is_active()) {
            stop_for_end(last, left, kill, now, out);
        }
    }
    if state.containers.iter().any(ContainerState::is_active) {
        return;
    }
    if let Sandbox::Ready { id, .. } = &state.sandbox {
        out.push(Action::StopSandbox(id.clone()));
        state.sandbox = Sandbox::Stopping { id: id.clone() };
    }
    let unmount = match &state.volumes {
        Step::Done => true,
        Step::Failed { retry, .. } => !state.unmount_failed || *retry <= now,
        Step::Todo | Step::Busy => false,
    };
    if unmount {
        out.push(Action::UnmountVolumes);
        state.volumes = Step::Busy;
        (state.unmounting, state.unmount_failed) = (true, true);
    }
    let over = matches!(state.sandbox, Sandbox::None | Sandbox::Failed { .. } | Sandbox::Stopped { .. });
    let deleted = state.removed || state.pod.metadata.deletion_timestamp.is_some();
    if !over || state.volumes != Step::Todo || !deleted {
        return;
    }
    if due(&state.cleaned, now) {
        state.cleaned = Step::Busy;
        out.push(Action::Remove);
    } else if state.cleaned == Step::Done && !state.removed && !state.deleting {
        state.deleting = true;
        out.push(Action::Delete);
    }
}

fn stop_for_end(container: &mut ContainerState, left: Duration, kill: bool, now: Timestamp, out: &mut Vec<Action>) {
    let grace = if kill { Duration::ZERO } else { left.max(LEAST_GRACE) };
    let message = format!("Stopping container {}", container.name);
    stop(container, grace, !kill, false, message, now, out);
}

/// Begins to stop a running container.
fn stop(
    container: &mut ContainerState,
    grace: Duration,
    hook: bool,
    replace: bool,
    message: String,
    now: Timestamp,
    out: &mut Vec<Action>,
) {
    let Run::Running(running) = &container.run else { return };
    let (name, id) = (container.name.clone(), running.id.clone());
    out.push(record(false, "Killing", message, Some(&name)));
    out.push(Action::CalmProbes(name.clone()));
    out.push(Action::Stop { name, id, grace, hook });
    container.run = Run::Stopping(running.clone(), Stop { deadline: now + grace, replace });
}

fn plain<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    super::state::container_spec(pod, name).and_then(Spec::plain)
}

fn has_post_start(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some())
}

/// The message of a container that waits for its next attempt.
pub fn backoff_message(state: &State, container: &ContainerState) -> String {
    let delay = in_words(container.backoff.delay());
    format!("back-off {delay} restarting failed container={} pod={}", container.name, state.full_name())
}

#[cfg(test)]
pub(crate) mod tests;
