//! A pod's status from what its owner knows, with upstream's fields, reasons and phases.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, PodCondition, PodIP, PodStatus,
        ResourceRequirements, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::resources;

use super::{
    decide::{backoff_message, may_restart_all, restarts},
    state::{Admission, ContainerState, Ended, Image, ImageRef, Kind, Resize, Restart, Run, Sandbox, Spec, State, Why},
};

/// What stands before the id of a container in a status.
pub const ID_PREFIX: &str = "madang://";

/// Conditions that the node sets; all others belong to someone else.
pub const OWN_CONDITIONS: &[&str] = &[
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
    "AllContainersRestarting",
];

const LOST: &str = "The container could not be located when the pod was terminated";

/// The status to be written now.
pub fn compute(state: &State, now: Timestamp) -> PodStatus {
    let api = state.pod.status.clone().unwrap_or_default();
    let mut status = PodStatus { qos_class: api.qos_class.clone(), ..state.status.clone() };
    status.observed_generation = state.pod.metadata.generation;
    status.nominated_node_name = api.nominated_node_name;
    status.resource_claim_statuses = api.resource_claim_statuses;
    status.host_ip = Some(state.host_ip.to_string());
    status.host_ips = Some(vec![HostIP { ip: state.host_ip.to_string() }]);
    status.start_time = Some(Time(state.start_time));
    let spec = state.pod.spec.as_ref();
    let address = match &state.sandbox {
        Sandbox::Ready { ip: Some(ip), .. } => Some(ip.to_string()),
        Sandbox::Ready { ip: None, .. } if spec.is_some_and(|spec| spec.host_network == Some(true)) => {
            Some(state.host_ip.to_string())
        }
        _ => None,
    };
    if let Some(ip) = address {
        status.pod_ip = Some(ip.clone());
        status.pod_ips = Some(vec![PodIP { ip }]);
    }
    if let Admission::Rejected { reason, message } = &state.admission {
        status.phase = Some("Failed".into());
        (status.reason, status.message) = (Some(reason.clone()), Some(message.clone()));
        return status;
    }

    let of = |kinds: &[Kind]| -> Vec<ContainerStatus> {
        let wanted = state.containers.iter().filter(|container| kinds.contains(&container.kind));
        wanted.map(|container| container_status(state, container, now)).collect()
    };
    let init = of(&[Kind::Init, Kind::Sidecar]);
    let main = of(&[Kind::Main]);
    let ephemeral = of(&[Kind::Ephemeral]);

    let over = is_over(state);
    let mut phase = phase(state, over);
    if over && !matches!(phase, "Succeeded" | "Failed") {
        phase = "Failed";
    }
    if let Some(Why::Failed { reason, message, .. }) = state.ending.as_ref().map(|ending| &ending.why)
        && over
    {
        phase = "Failed";
        (status.reason, status.message) = (Some(reason.clone()), Some(message.clone()));
    }
    // A terminal phase is never left.
    if let Some(last @ ("Succeeded" | "Failed")) = api.phase.as_deref() {
        phase = last;
        (status.reason, status.message) = (api.reason.clone(), api.message.clone());
    }
    status.phase = Some(phase.into());
    let granted = state.granted_pod();
    if let Some(spec) = &granted.spec {
        let whole = |which| Some(resources::whole(spec, which)).filter(|list| !list.is_empty());
        let (requests, limits) = (whole(|own| own.requests.as_ref()), whole(|own| own.limits.as_ref()));
        status.allocated_resources.clone_from(&requests);
        status.resources = (requests.is_some() || limits.is_some()).then(|| ResourceRequirements {
            requests,
            limits,
            ..Default::default()
        });
    }
    status.conditions = Some(conditions(state, phase, &init, &main, now));
    status.init_container_statuses = (!init.is_empty()).then_some(init);
    status.container_statuses = Some(main);
    status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
    status
}

/// Whether the pod ends and none of its processes is left.
pub fn is_over(state: &State) -> bool {
    state.ending.is_some() && !state.containers.iter().any(ContainerState::is_active)
}

/// The phase, from the containers' states: upstream's rules.
fn phase(state: &State, over: bool) -> &'static str {
    let policy = state.restart_policy();
    let (mut pending_init, mut failed_init) = (0, 0);
    let (mut running, mut waiting, mut stopped, mut succeeded, mut restartable) = (0, 0, 0, 0, 0);
    let mut unknown_sidecars = 0;
    for container in &state.containers {
        let ended = last_end(container);
        let runs = container.running().is_some();
        match container.kind {
            Kind::Ephemeral => {}
            Kind::Init if runs => pending_init += 1,
            Kind::Init => match ended {
                Some(ended) if ended.code != 0 => {
                    failed_init += usize::from(!restarts(&state.pod, policy, container, ended));
                }
                Some(_) => {}
                None => pending_init += 1,
            },
            Kind::Sidecar if runs => {
                running += 1;
                pending_init += usize::from(!container.started);
            }
            Kind::Sidecar => {
                if ended.is_none() {
                    pending_init += 1;
                    unknown_sidecars += 1;
                }
            }
            Kind::Main if runs => running += 1,
            Kind::Main => match ended {
                Some(ended) => {
                    stopped += 1;
                    succeeded += usize::from(ended.code == 0);
                    restartable += usize::from(restarts(&state.pod, policy, container, ended));
                }
                None => waiting += 1,
            },
        }
    }
    waiting += unknown_sidecars;
    let initialized = state.containers.iter().any(|container| container.kind == Kind::Main && container.attempts > 0);
    if failed_init > 0 {
        return if over { "Failed" } else { "Pending" };
    }
    if pending_init > 0 && !initialized {
        return "Pending";
    }
    if waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    if stopped == 0 {
        return "Pending";
    }
    if over {
        return if stopped == succeeded { "Succeeded" } else { "Failed" };
    }
    // Ended containers whose sandbox is not yet put away count as running: the terminal phase comes with the last process.
    if restartable > 0 {
        return "Running";
    }
    if stopped == succeeded { "Succeeded" } else { "Failed" }
}

/// The newest end of a container that is not running now.
fn last_end(container: &ContainerState) -> Option<&Ended> {
    match &container.run {
        Run::Ended(ended) => Some(ended),
        _ => container.last.as_ref(),
    }
}

fn container_status(state: &State, container: &ContainerState, now: Timestamp) -> ContainerStatus {
    // One container that takes the place of another is no news until it runs, or cannot.
    let replaced = match &container.run {
        Run::Ended(ended) => ended.replace && !matches!(container.image, Image::Failed { .. }),
        Run::Starting => container.last.as_ref().is_some_and(|last| last.replace),
        _ => false,
    };
    if replaced && container.kind != Kind::Init && state.ending.is_none() {
        let shown = state.status.container_statuses.iter().chain(&state.status.init_container_statuses).flatten();
        let mut shown = shown.filter(|status| status.name == container.name);
        if let Some(status) = shown.find(|status| status.state.as_ref().is_some_and(|state| state.running.is_some())) {
            return status.clone();
        }
    }
    let spec = state.spec(&container.name);
    let over = is_over(state);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: spec.map_or_else(String::new, |spec| spec.image().to_owned()),
        restart_count: i32::try_from(container.attempts.saturating_sub(1)).unwrap_or(i32::MAX),
        started: Some(false),
        ..Default::default()
    };
    // What was granted and is in force, not what the spec asks for by now.
    status.resources = state.granted.get(&container.name).cloned();
    status.allocated_resources = status.resources.as_ref().and_then(|granted| granted.requests.clone());
    let mut last = container.last.as_ref();
    status.state = Some(match &container.run {
        Run::Running(running) | Run::Stopping(running, _) => {
            identify(&mut status, &running.id, &running.image);
            let started = container.started && !running.hook;
            let plain = spec.and_then(Spec::plain);
            let probed = plain.is_some_and(|spec| spec.readiness_probe.is_some());
            status.started = Some(started);
            status.ready = match container.kind {
                Kind::Init | Kind::Ephemeral => false,
                Kind::Sidecar | Kind::Main => started && (container.ready || !probed),
            };
            status.user = running.user.as_ref().map(user);
            status.resources = running.resources.clone().or(status.resources);
            ApiState {
                running: Some(ContainerStateRunning { started_at: Some(Time(running.started_at)) }),
                ..Default::default()
            }
        }
        Run::Ended(ended) => {
            identify(&mut status, &ended.id, &ended.image);
            status.ready = container.kind == Kind::Init && ended.code == 0;
            status.user = ended.user.as_ref().map(user);
            let again = state.ending.is_none() && restarts(&state.pod, state.restart_policy(), container, ended);
            match waiting_again(state, container, now).filter(|_| again) {
                Some((reason, message)) => {
                    last = Some(ended);
                    waiting(reason, message)
                }
                None => ApiState { terminated: Some(terminated(ended)), ..Default::default() },
            }
        }
        Run::Starting if container.last.is_some() => {
            // Between two lives the last one shows; what was before it is not remembered for that moment.
            let ended = container.last.as_ref().cloned().unwrap_or_default();
            identify(&mut status, &ended.id, &ended.image);
            last = None;
            ApiState { terminated: Some(terminated(&ended)), ..Default::default() }
        }
        Run::Unable { reason, message, .. } => waiting(reason.clone(), Some(message.clone())),
        Run::Idle | Run::Starting => match &container.image {
            Image::Failed { reason, message, .. } => waiting(reason.clone(), Some(message.clone())),
            _ => waiting(default_waiting(state).into(), None),
        },
    });
    let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    if over && waits && (container.kind != Kind::Main || state.initialized()) && container.kind != Kind::Ephemeral {
        let never_began = container.kind != Kind::Main && container.attempts == 0;
        if !never_began {
            status.state = Some(ApiState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: 137,
                    reason: Some("ContainerStatusUnknown".into()),
                    message: Some(LOST.into()),
                    ..Default::default()
                }),
                ..Default::default()
            });
        }
    }
    if let Some(last) = last {
        if status.container_id.is_none() {
            identify(&mut status, &last.id, &last.image);
        }
        status.last_state = Some(ApiState { terminated: Some(terminated(last)), ..Default::default() });
    }
    status.volume_mounts = spec.and_then(|spec| {
        let container = spec.to_container();
        let mounts = container.volume_mounts?.into_iter().map(|mount| {
            let read_only = mount.read_only.filter(|read_only| *read_only);
            let recursive = match (read_only, mount.recursive_read_only.as_deref()) {
                (None, _) => None,
                (Some(_), Some("Enabled" | "IfPossible")) => Some("Enabled".to_owned()),
                (Some(_), _) => Some("Disabled".to_owned()),
            };
            VolumeMountStatus {
                name: mount.name,
                mount_path: mount.mount_path,
                read_only,
                recursive_read_only: recursive,
                ..Default::default()
            }
        });
        Some(mounts.collect())
    });
    status
}

/// Why a container that ended and will be started again is not: back-off, or no image.
fn waiting_again(state: &State, container: &ContainerState, now: Timestamp) -> Option<(String, Option<String>)> {
    if let Image::Failed { reason, message, .. } = &container.image {
        return Some((reason.clone(), Some(message.clone())));
    }
    container.backoff.until().filter(|until| *until > now)?;
    Some(("CrashLoopBackOff".into(), Some(backoff_message(state, container))))
}

fn waiting(reason: String, message: Option<String>) -> ApiState {
    ApiState { waiting: Some(ContainerStateWaiting { reason: Some(reason), message }), ..Default::default() }
}

fn default_waiting(state: &State) -> &'static str {
    let has_init = state.containers.iter().any(|container| matches!(container.kind, Kind::Init | Kind::Sidecar));
    if has_init { "PodInitializing" } else { "ContainerCreating" }
}

fn identify(status: &mut ContainerStatus, id: &str, image: &ImageRef) {
    if !id.is_empty() {
        status.container_id = Some(format!("{ID_PREFIX}{id}"));
    }
    status.image_id.clone_from(&image.reference);
    if !image.name.is_empty() {
        status.image.clone_from(&image.name);
    }
}

fn user((uid, gid, groups): &(i64, i64, Vec<i64>)) -> ContainerUser {
    let linux = LinuxContainerUser { uid: *uid, gid: *gid, supplemental_groups: Some(groups.clone()) };
    ContainerUser { linux: Some(linux) }
}

fn terminated(ended: &Ended) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: (!ended.id.is_empty()).then(|| format!("{ID_PREFIX}{}", ended.id)),
        exit_code: ended.code,
        signal: ended.signal,
        reason: Some(ended.reason.clone()),
        message: ended.message.clone(),
        started_at: ended.started_at.map(Time),
        finished_at: Some(Time(ended.finished_at)),
    }
}

// ---- conditions -------------------------------------------------------------------------------------------------------

struct Verdict {
    kind: &'static str,
    good: bool,
    reason: &'static str,
    message: String,
}

fn verdict(kind: &'static str, good: bool, reason: &'static str, message: String) -> Verdict {
    Verdict { kind, good, reason, message }
}

fn conditions(
    state: &State,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    now: Timestamp,
) -> Vec<PodCondition> {
    let api = state.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let known = state.status.conditions.as_deref().unwrap_or_default();
    let foreign = api.iter().filter(|condition| !OWN_CONDITIONS.contains(&condition.type_.as_str()));
    let mut list: Vec<PodCondition> = foreign.cloned().collect();
    let containers = containers_ready(state, phase, init, main);
    let ready = pod_ready(state, &containers, &list);
    let mut verdicts = vec![
        verdict("PodReadyToStartContainers", matches!(state.sandbox, Sandbox::Ready { .. }), "", String::new()),
        initialized(state, phase, init),
        ready,
        containers,
        verdict("PodScheduled", true, "", String::new()),
    ];
    match state.resize.as_ref().filter(|_| state.ending.is_none()) {
        Some(Resize::Deferred(message)) => {
            verdicts.push(verdict("PodResizePending", true, "Deferred", message.clone()));
        }
        Some(Resize::Infeasible(message)) => {
            verdicts.push(verdict("PodResizePending", true, "Infeasible", message.clone()));
        }
        Some(Resize::InProgress(error)) => {
            let reason = if error.is_some() { "Error" } else { "" };
            verdicts.push(verdict("PodResizeInProgress", true, reason, error.clone().unwrap_or_default()));
        }
        None => {}
    }
    if may_restart_all(&state.pod) {
        let kind = "AllContainersRestarting";
        verdicts.push(match (phase, state.restarting) {
            ("Succeeded", _) => verdict(kind, false, "PodCompleted", String::new()),
            ("Failed", _) => verdict(kind, false, "PodFailed", String::new()),
            (_, Some(Restart::Rule)) => {
                verdict(kind, true, "RestartAllContainersStarted", "container exited with restart policy rule".into())
            }
            _ => verdict(kind, false, "", String::new()),
        });
    }
    if let Some(Why::Failed { message, disrupted: true, .. }) = state.ending.as_ref().map(|ending| &ending.why) {
        list.retain(|condition| condition.type_ != "DisruptionTarget");
        verdicts.push(verdict("DisruptionTarget", true, "TerminationByKubelet", message.clone()));
    }
    for Verdict { kind, good, reason, message } in verdicts {
        let status = if good { "True" } else { "False" };
        let of_kind = |condition: &&PodCondition| condition.type_ == kind;
        let old = known.iter().find(of_kind).or_else(|| api.iter().find(of_kind));
        let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        list.push(PodCondition {
            type_: kind.into(),
            status: status.into(),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            message: (!message.is_empty()).then_some(message),
            last_transition_time: since.or(Some(Time(now))),
            last_probe_time: None,
            observed_generation: state.pod.metadata.generation,
        });
    }
    list
}

fn names<'a>(list: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", list.collect::<Vec<_>>().join(" "))
}

fn containers_ready(state: &State, phase: &str, init: &[ContainerStatus], main: &[ContainerStatus]) -> Verdict {
    const KIND: &str = "ContainersReady";
    match phase {
        "Succeeded" => return verdict(KIND, false, "PodCompleted", String::new()),
        "Failed" => return verdict(KIND, false, "PodFailed", String::new()),
        _ => {}
    }
    let sidecars = init
        .iter()
        .filter(|status| state.container(&status.name).is_some_and(|container| container.kind == Kind::Sidecar));
    let mut unready = sidecars.chain(main).filter(|status| !status.ready).map(|status| status.name.as_str()).peekable();
    if unready.peek().is_none() {
        return verdict(KIND, true, "", String::new());
    }
    let message = format!("containers with unready status: {}", names(unready));
    verdict(KIND, false, "ContainersNotReady", message)
}

fn pod_ready(state: &State, containers: &Verdict, conditions: &[PodCondition]) -> Verdict {
    if !containers.good {
        return verdict("Ready", false, containers.reason, containers.message.clone());
    }
    let gates = state.pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let mut problems = Vec::new();
    for gate in gates {
        match conditions.iter().find(|condition| condition.type_ == gate.condition_type) {
            None => problems.push(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => problems.push(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => {}
        }
    }
    if problems.is_empty() {
        verdict("Ready", true, "", String::new())
    } else {
        verdict("Ready", false, "ReadinessGatesNotReady", problems.join(", "))
    }
}

fn initialized(state: &State, phase: &str, init: &[ContainerStatus]) -> Verdict {
    const KIND: &str = "Initialized";
    if phase == "Succeeded" {
        return verdict(KIND, true, "PodCompleted", String::new());
    }
    if state.initialized() {
        return verdict(KIND, true, "", String::new());
    }
    let incomplete =
        init.iter().filter(|status| state.container(&status.name).is_none_or(|container| !container.init_done()));
    let message =
        format!("containers with incomplete status: {}", names(incomplete.map(|status| status.name.as_str())));
    verdict(KIND, false, "ContainersNotInitialized", message)
}

#[cfg(test)]
mod tests;
