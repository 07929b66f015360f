//! Resizing in place: what is granted, applied, put off or refused.

use super::*;

pub(super) fn granted(state: &mut State, verdict: Result<(), Resize>, out: &mut Vec<Action>) {
    match verdict {
        Ok(()) => {
            if state.granted.get(WHOLE) != state.asked.get(WHOLE) {
                for container in &mut state.containers {
                    if let Run::Running(running) = &mut container.run {
                        running.stale = true;
                    }
                }
            }
            state.granted.clone_from(&state.asked);
            state.resize = Some(Resize::InProgress(None));
            out.push(record(false, "ResizeStarted", "Pod resize started".into(), None));
        }
        Err(resize) => {
            if state.resize.as_ref() != Some(&resize) {
                let (reason, message) = match &resize {
                    Resize::Infeasible(message) => ("ResizeInfeasible", message.clone()),
                    Resize::Deferred(message) => ("ResizeDeferred", message.clone()),
                    Resize::InProgress(_) => return,
                };
                out.push(record(true, reason, format!("Pod resize {message}"), None));
            }
            state.resize = Some(resize);
        }
    }
}

pub(super) fn resized(state: &mut State, name: &str, id: &str, result: Result<(), String>, out: &mut Vec<Action>) {
    let granted = state.granted.get(name).cloned();
    let Some(container) = state.container_mut(name) else { return };
    let Run::Running(running) = &mut container.run else { return };
    if running.id != id {
        return;
    }
    (running.resizing, running.stale) = (false, false);
    running.resources = granted;
    if let Err(message) = result {
        out.push(record(true, "ResizeError", format!("Pod resize error: {message}"), Some(name)));
        state.resize = Some(Resize::InProgress(Some(message)));
    }
}

/// Asks for room when the spec's resources change, and brings running containers to what was granted.
pub(super) fn plan_resize(state: &mut State, now: Timestamp, out: &mut Vec<Action>) {
    let wanted = state.wanted_resources();
    if wanted != state.asked {
        state.asked.clone_from(&wanted);
        if wanted == state.granted {
            state.resize = None;
        } else {
            out.push(Action::AskForRoom);
        }
    }
    if !matches!(state.resize, Some(Resize::InProgress(None))) {
        return;
    }
    let (pod, grace, granted) = (state.pod.clone(), state.spec_grace(), state.granted.clone());
    let mut busy = false;
    for container in &mut state.containers {
        let Some(granted) = granted.get(&container.name) else { continue };
        let restart = plain(&pod, &container.name);
        match &mut container.run {
            Run::Running(running) if running.stale || running.resources.as_ref() != Some(granted) => {
                busy = true;
                let old = running.resources.clone().unwrap_or_default();
                if restart.is_some_and(|spec| needs_restart(spec, &old, granted)) {
                    let message = format!("Container {} resize requires restart", container.name);
                    stop(container, grace, true, true, message, now, out);
                } else if !running.resizing {
                    running.resizing = true;
                    out.push(Action::Resize(container.name.clone(), running.id.clone()));
                }
            }
            Run::Starting | Run::Stopping(..) => busy = true,
            Run::Ended(ended) if ended.replace => busy = true,
            _ => {}
        }
    }
    if !busy {
        state.resize = None;
        out.push(record(false, "ResizeCompleted", "Pod resize completed".into(), None));
    }
}

/// Whether one of the resources that change may only change with a restart.
fn needs_restart(spec: &Container, old: &ResourceRequirements, new: &ResourceRequirements) -> bool {
    let value = |of: &ResourceRequirements, name: &str| {
        let get = |list: &Option<std::collections::BTreeMap<String, Quantity>>| list.as_ref()?.get(name).cloned();
        (get(&of.requests), get(&of.limits))
    };
    spec.resize_policy.iter().flatten().any(|policy| {
        policy.restart_policy == "RestartContainer"
            && value(old, &policy.resource_name) != value(new, &policy.resource_name)
    })
}
