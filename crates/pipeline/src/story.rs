//! What a run's status tells, from what happens in it.
//!
//! Everything is known by a key that is the same after a restart: what is told again changes nothing that stands already. What has no
//! room in a status ([`Bounds`]) is counted.

use jiff::Timestamp;

use crate::{
    kind::{Agent, AgentPhase, Bounds, Log, Phase, Question, RunStatus, Stage, StagePhase, Step, StepPhase, short},
    result::Result as Outcome,
    run::{Ended, world::Answer},
};

/// Stages that `now` names at most.
const NAMED: usize = 3;

/// The story so far.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// What is told of it.
    pub status: RunStatus,
    steps: usize,
}

impl Story {
    /// Goes on with what was told before.
    pub fn of(status: RunStatus) -> Self {
        let steps = status.stages.iter().map(|stage| stage.steps.len()).sum();
        Self { status, steps }
    }

    fn stage(&mut self, id: &str) -> Option<&mut Stage> {
        self.status.stages.iter_mut().find(|stage| stage.id == id)
    }

    /// A stage has begun.
    pub fn began(&mut self, id: &str, parent: Option<&str>, path: &str, name: &str, now: Timestamp) {
        if self.stage(id).is_some() || self.status.stages.len() >= Bounds::STAGES {
            return;
        }
        self.status.stages.push(Stage {
            id: short(id),
            name: short(name),
            path: short(path),
            parent: parent.map(str::to_owned),
            phase: StagePhase::Running,
            started: Some(now),
            ..Stage::default()
        });
    }

    /// A stage has ended, or was skipped.
    pub fn finished(&mut self, id: &str, result: Option<Outcome>, reason: Option<&str>, now: Timestamp) {
        let Some(stage) = self.stage(id).filter(|stage| stage.phase == StagePhase::Running) else { return };
        stage.phase = if result.is_some() { StagePhase::Finished } else { StagePhase::Skipped };
        stage.result = result.map(|result| result.name().to_owned());
        stage.finished = Some(now);
        stage.milliseconds = stage.started.map(|started| milliseconds(started, now));
        stage.reason = reason.map(short);
    }

    /// A step has begun; `from` is how long the log is.
    pub fn step_began(
        &mut self,
        stage: Option<&str>,
        id: &str,
        name: &str,
        label: Option<&str>,
        from: u64,
        now: Timestamp,
    ) {
        let room = self.steps < Bounds::ALL_STEPS;
        let Some(stage) = stage.and_then(|stage| self.stage(stage)) else { return };
        if stage.steps.iter().any(|step| step.id == id) {
            return;
        }
        if !room || stage.steps.len() >= Bounds::STEPS {
            *stage.dropped.get_or_insert(0) += 1;
            return;
        }
        stage.steps.push(Step {
            id: id.to_owned(),
            name: name.to_owned(),
            label: label.map(|label| label.chars().take(200).collect()),
            started: Some(now),
            from: Some(from),
            ..Step::default()
        });
        self.steps += 1;
    }

    /// A step has ended; `to` is how long the log is.
    pub fn step_ended(&mut self, stage: Option<&str>, id: &str, answer: &Answer, to: u64, now: Timestamp) {
        let Some(stage) = stage.and_then(|stage| self.stage(stage)) else { return };
        let Some(step) = stage.steps.iter_mut().find(|step| step.id == id && step.phase == StepPhase::Running) else {
            return;
        };
        let (phase, message) = match answer {
            Answer::Done(_) => (StepPhase::Succeeded, None),
            Answer::Failed { message, .. } => (StepPhase::Failed, Some(message)),
            Answer::Interrupted { message, .. } => (StepPhase::Aborted, Some(message)),
            Answer::Gone(message) => (StepPhase::Aborted, Some(message)),
        };
        step.phase = phase;
        step.message = message.map(|message| short(message));
        step.to = Some(to);
        step.milliseconds = step.started.map(|started| milliseconds(started, now));
    }

    /// A Pod has come, or changed.
    pub fn agent(&mut self, stage: Option<&str>, pod: &str, now: Timestamp, change: impl FnOnce(&mut Agent)) {
        if let Some(stage) = stage.and_then(|stage| self.stage(stage)) {
            stage.pod.get_or_insert_with(|| pod.to_owned());
        }
        let agents = &mut self.status.agents;
        let at = match agents.iter().position(|agent| agent.pod == pod) {
            Some(at) => at,
            None if agents.len() < Bounds::AGENTS => {
                agents.push(Agent { pod: pod.to_owned(), started: Some(now), ..Agent::default() });
                agents.len() - 1
            }
            None => return,
        };
        let agent = &mut agents[at];
        change(agent);
        if matches!(agent.phase, AgentPhase::Lost | AgentPhase::Released) {
            agent.finished.get_or_insert(now);
        }
    }

    /// A person is asked.
    pub fn asks(&mut self, question: Question) {
        if self.status.inputs.len() < Bounds::INPUTS && !self.status.inputs.iter().any(|one| one.id == question.id) {
            self.status.inputs.push(question);
        }
    }

    /// Somebody has answered, or nobody needs to any more.
    pub fn answered(&mut self, id: &str) {
        self.status.inputs.retain(|question| question.id != id);
    }

    /// It is on its way.
    pub fn started(&mut self, now: Timestamp) {
        self.status.started.get_or_insert(now);
        self.status.phase = Phase::Running;
    }

    /// It has ended.
    pub fn ended(&mut self, ended: &Ended, now: Timestamp) {
        let status = &mut self.status;
        status.phase = Phase::of(ended.result);
        status.result = Some(ended.result.name().to_owned());
        status.message = ended.error.as_deref().map(|error| short(error.lines().next().unwrap_or_default()));
        status.started.get_or_insert(now);
        status.finished = Some(now);
        status.inputs.clear();
        for stage in &mut status.stages {
            if stage.phase == StagePhase::Running {
                stage.phase = StagePhase::Finished;
                stage.result = Some(ended.result.name().to_owned());
                stage.finished = Some(now);
                stage.milliseconds = stage.started.map(|started| milliseconds(started, now));
            }
            for step in stage.steps.iter_mut().filter(|step| step.phase == StepPhase::Running) {
                step.phase = StepPhase::Aborted;
            }
        }
        for agent in status.agents.iter_mut().filter(|agent| agent.finished.is_none()) {
            agent.phase = AgentPhase::Released;
            agent.finished = Some(now);
        }
    }

    /// What is shown at a time: the status with what follows from the rest of it.
    pub fn shown(&mut self, log: u64, truncated: bool, now: Timestamp) -> &RunStatus {
        let status = &mut self.status;
        status.log = Some(Log { bytes: log, truncated });
        if !status.phase.is_final() && status.phase != Phase::Queued && status.started.is_some() {
            status.phase = if status.inputs.is_empty() { Phase::Running } else { Phase::Paused };
        }
        status.now = match (&status.inputs[..], status.phase.is_final()) {
            (_, true) => String::new(),
            ([question, ..], _) => short(&format!("input: {}", question.message)),
            ([], _) => {
                let running: Vec<&Stage> =
                    status.stages.iter().filter(|stage| stage.phase == StagePhase::Running).collect();
                let innermost: Vec<&str> = running
                    .iter()
                    .filter(|stage| !running.iter().any(|other| other.parent.as_deref() == Some(&stage.id)))
                    .map(|stage| stage.path.as_str())
                    .collect();
                let more = innermost.len().saturating_sub(NAMED);
                let named = innermost[..innermost.len().min(NAMED)].join(", ");
                if more > 0 { format!("{named} and {more} more") } else { named }
            }
        };
        let over = status.stages.iter().filter(|stage| stage.phase != StagePhase::Running).count();
        status.progress = Some(format!("{over}/{}", status.stages.len()));
        status.duration =
            status.started.map(|started| words(milliseconds(started, status.finished.unwrap_or(now)).unsigned_abs()));
        status
    }
}

fn milliseconds(from: Timestamp, to: Timestamp) -> i64 {
    (to.as_millisecond() - from.as_millisecond()).max(0)
}

/// A duration in words: `340ms`, `1m12s`.
pub fn words(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..10 => format!("{seconds}.{}s", milliseconds % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests;
