//! What is to be done about a build: decided from the object and what this process knows of it, nothing else.
//!
//! ```text
//! seen ─ claim ─► Pending on this node ─ (upload) ─ start ─► Running ─► over ─ (ttl) ─► deleted
//!                       │                             │ the server was restarted: start again, three times at most
//!                       └────────── cancel ───────────┘ deleted, cancelled, too late: stopped
//! ```

use std::time::Duration;

use jiff::Timestamp;

use super::kind::{Build, Phase};

/// How often a build is begun at most: a build that takes the machine with it must not do so for ever.
pub const ATTEMPTS: u32 = 3;

/// What this process knows of a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether it is being built here, now.
    pub runs: bool,
    /// Whether its archive has come whole.
    pub uploaded: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is somebody else's, or nothing is to be done.
    Nothing,
    /// Say that this node builds it.
    Claim,
    /// Say that an archive is waited for.
    Await,
    /// Begin.
    Start,
    /// End what runs; its own end tells the status.
    Stop,
    /// Say that it is over without having run.
    Finish(Phase, &'static str, String),
    /// Look again after this time.
    Later(Duration),
    /// Delete the object.
    Delete,
}

/// Decides for the node `node`.
pub fn decide(build: &Build, known: Known, node: &str, now: Timestamp) -> Action {
    let (spec, status) = (&build.spec, &build.status);
    if build.metadata.deletion_timestamp.is_some() {
        return if known.runs { Action::Stop } else { Action::Nothing };
    }
    match &status.node_name {
        Some(other) if other != node => return Action::Nothing,
        Some(_) => {}
        None if spec.node_name.as_deref().is_some_and(|wanted| wanted != node) => return Action::Nothing,
        None if status.phase.is_over() => return Action::Nothing,
        None => return Action::Claim,
    }
    if status.phase.is_over() {
        if known.runs {
            return Action::Stop;
        }
        let ended = status.completion_time.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let (Some(seconds), Some(ended)) = (spec.ttl_seconds_after_finished, ended) else { return Action::Nothing };
        let left = Duration::from_secs(seconds).saturating_sub(now.duration_since(ended).unsigned_abs());
        return if left.is_zero() { Action::Delete } else { Action::Later(left) };
    }
    if known.runs {
        return if spec.cancel { Action::Stop } else { Action::Nothing };
    }
    if spec.cancel {
        return Action::Finish(Phase::Cancelled, "Cancelled", "it was cancelled before it had begun".to_owned());
    }
    let places = [spec.context.git.is_some(), spec.context.volume.is_some(), spec.context.upload.is_some()];
    if places.iter().filter(|there| **there).count() > 1 {
        let message = "the context is one of git, volume and upload".to_owned();
        return Action::Finish(Phase::Failed, "InvalidSpec", message);
    }
    if status.attempts >= ATTEMPTS {
        let message = format!("the server ended {ATTEMPTS} times while it was built");
        return Action::Finish(Phase::Failed, "Interrupted", message);
    }
    if spec.context.upload.is_some() && !known.uploaded {
        let told = status.reason.as_deref() == Some("WaitingForContext");
        return if told { Action::Nothing } else { Action::Await };
    }
    Action::Start
}
