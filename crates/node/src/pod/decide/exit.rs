//! Ends: of a container, of the sandbox; and what begins again after them.

use super::*;

pub(super) fn exited(state: &mut State, name: &str, ended: Ended, now: Timestamp, out: &mut Vec<Action>) {
    let wanted = state.ending.is_none() && state.restarting.is_none() && restarts_all(&state.pod, name, ended.code);
    let Some(container) = state.container_mut(name) else { return };
    let replace = match &container.run {
        Run::Running(running) if running.id == ended.id => false,
        Run::Stopping(running, stop) if running.id == ended.id => stop.replace,
        // It was over before its start was reported.
        Run::Starting => {
            container.early = Some(ended);
            return;
        }
        _ => return,
    };
    out.push(Action::StopProbes(name.to_owned()));
    container.ready = false;
    container.started = false;
    container.image = Image::Unknown;
    container.run = Run::Ended(Ended { replace, ..ended });
    // What was being stopped anyway does not decide over the others.
    if wanted && !replace {
        restart_all(state, name, now, out);
    }
}

/// Stops all containers, so that the pod begins once more from its init containers, in its sandbox and with its volumes.
fn restart_all(state: &mut State, by: &str, now: Timestamp, out: &mut Vec<Action>) {
    let grace = state.spec_grace();
    state.restarting = Some(Restart::Rule);
    for container in state.containers.iter_mut().filter(|container| container.kind != Kind::Ephemeral) {
        match &mut container.run {
            Run::Ended(ended) => ended.replace = true,
            Run::Stopping(_, stop) => stop.replace = true,
            Run::Running(_) => {
                let message = format!("Container {by} exited, all containers of the pod will be restarted");
                stop(container, grace, true, true, message, now, out);
            }
            Run::Idle | Run::Starting | Run::Unable { .. } => {}
        }
    }
}

/// Whether the rules of a container want all containers restarted after this exit code: the first rule that matches decides.
fn restarts_all(pod: &Pod, name: &str, code: i32) -> bool {
    matching_rule(plain(pod, name), code).is_some_and(|action| action == "RestartAllContainers")
}

/// Whether a container of the pod can make all of them begin once more.
pub fn may_restart_all(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.flat_map(|container| container.restart_policy_rules.iter().flatten())
        .any(|rule| rule.action == "RestartAllContainers")
}

/// The action of the first restart rule that matches an exit code.
fn matching_rule(spec: Option<&Container>, code: i32) -> Option<&str> {
    let rules = spec?.restart_policy_rules.as_deref().unwrap_or_default();
    let matching = rules.iter().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.as_deref().unwrap_or_default().contains(&code);
            listed == (codes.operator == "In")
        })
    });
    matching.map(|rule| rule.action.as_str())
}

pub(super) fn sandbox_died(state: &mut State, id: &str, now: Timestamp, out: &mut Vec<Action>) {
    if !matches!(&state.sandbox, Sandbox::Ready { id: present, .. } if present == id) {
        return;
    }
    for container in &mut state.containers {
        if let Some(running) = container.running().cloned() {
            out.push(Action::StopProbes(container.name.clone()));
            container.run = Run::Ended(Ended {
                id: running.id,
                code: 137,
                reason: "ContainerStatusUnknown".into(),
                message: Some("The container could not be located when the pod was terminated".into()),
                started_at: Some(running.started_at),
                finished_at: now,
                image: running.image,
                user: running.user,
                ..Default::default()
            });
            container.ready = false;
            container.started = false;
            container.image = Image::Unknown;
        }
    }
    if state.ending.is_some() {
        if let Sandbox::Ready { id, .. } = &state.sandbox {
            state.sandbox = Sandbox::Stopping { id: id.clone() };
            let Sandbox::Stopping { id } = &state.sandbox else { return };
            out.push(Action::StopSandbox(id.clone()));
        }
        return;
    }
    let pod = state.pod.clone();
    let policy = state.restart_policy().to_owned();
    let goes_on = state.containers.iter().any(|container| match &container.run {
        Run::Ended(ended) => container.kind == Kind::Main && restarts(&pod, &policy, container, ended),
        _ => container.kind == Kind::Main,
    });
    if goes_on {
        out.push(record(
            false,
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.".into(),
            None,
        ));
        // A new sandbox is a new start: init containers run once more.
        state.restarting = Some(Restart::Sandbox);
        for container in &mut state.containers {
            if let (Kind::Init, Run::Ended(ended)) = (container.kind, &mut container.run) {
                ended.replace = true;
            }
        }
        if let Sandbox::Ready { id, .. } = &state.sandbox {
            out.push(Action::StopSandbox(id.clone()));
        }
        state.sandbox = Sandbox::None;
    }
}

/// Whether a container that ended so is started again.
pub fn restarts(pod: &Pod, policy: &str, container: &ContainerState, ended: &Ended) -> bool {
    if ended.replace {
        return true;
    }
    let spec = plain(pod, &container.name);
    let own = spec.and_then(|spec| spec.restart_policy.as_deref());
    if matching_rule(spec, ended.code).is_some_and(|action| action.starts_with("Restart")) {
        return true;
    }
    let policy = match container.kind {
        Kind::Ephemeral => return false,
        Kind::Sidecar => return true,
        _ => own.unwrap_or(policy),
    };
    match (policy, container.kind) {
        ("Never", _) => false,
        ("OnFailure", _) | (_, Kind::Init) => ended.code != 0,
        _ => true,
    }
}
