//! The kinds `Pipeline` and `PipelineRun`: what objects say, and what is said of them. `kind/*.yaml` say what each field means.
//!
//! ```text
//! Pipeline ◄── spec.pipelineRef ── PipelineRun ──► Pods, Builds (owned by the run)
//!    status: number, last ...          status: phase, stages, inputs, agents, log
//! ```
//!
//! A run's status is bounded ([`Bounds`]): what has no room is counted in it, and whole on disk ([`crate::record`]). A run is given its
//! number by the loop, not by whoever makes the object; [`PipelineRun::begun`] is how triggers make one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use client::own::{self, Kind, Object};

use crate::result::Result as Outcome;

/// Objects of the kind `Pipeline`.
pub type Pipeline = Object<Pipelines>;
/// Objects of the kind `PipelineRun`.
pub type PipelineRun = Object<Runs>;

/// The label of a run's objects that says which pipeline it is of.
pub const PIPELINE: &str = "madang.dev/pipeline";
/// The label of a run's Pods and Builds that says which run they are of.
pub const RUN: &str = "madang.dev/pipeline-run";
/// The label of a run that says its number.
pub const NUMBER: &str = "madang.dev/number";
/// What a run has written, for which there are rights of their own.
pub const LOG: &str = "pipelineruns/log";
/// The label of Secrets that are credentials of pipelines; its value says of which type.
pub const CREDENTIALS: &str = "jenkins.io/credentials-type";

/// How much of a run its status has room for.
#[derive(Clone, Copy, Debug)]
pub struct Bounds;

impl Bounds {
    /// Stages.
    pub const STAGES: usize = 500;
    /// Steps of one stage.
    pub const STEPS: usize = 100;
    /// Steps of all stages.
    pub const ALL_STEPS: usize = 1500;
    /// Characters of a message.
    pub const TEXT: usize = 1024;
    /// Pods.
    pub const AGENTS: usize = 200;
    /// Questions to people.
    pub const INPUTS: usize = 50;
}

/// The kind `Pipeline`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pipelines;

impl Kind for Pipelines {
    const KIND: &'static str = "Pipeline";
    const PLURAL: &'static str = "pipelines";
    type Spec = Spec;
    type Status = Status;
}

/// The kind `PipelineRun`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs;

impl Kind for Runs {
    const KIND: &'static str = "PipelineRun";
    const PLURAL: &'static str = "pipelineruns";
    type Spec = RunSpec;
    type Status = RunStatus;
}

/// An object of the same namespace by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// What a pipeline is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Triggers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentPod>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// A repository elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Git {
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_id: Option<String>,
}

/// A parameter of runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Parameter {
    pub name: String,
    /// `string`, `text`, `boolean`, `choice`, `password`, `credentials`, `run`, `file`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub default: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

/// What starts runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Triggers {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cron: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poll: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upstream: Vec<Upstream>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// A pipeline after whose runs one starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Upstream {
    pub pipeline: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<String>,
}

/// Requests of a forge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Webhook {
    pub secret_name: String,
}

/// Which finished runs are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Retention {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_runs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_days: Option<u32>,
}

/// A Pod that serves as agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct AgentPod {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub labels: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yaml: Option<String>,
}

/// What happens where a run is to start while another is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Concurrency {
    /// Both run.
    #[default]
    Allow,
    /// The new one waits.
    Queue,
    /// The old one is ended.
    Replace,
}

/// How a pipeline fares.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Status {
    pub number: u64,
    pub active: u32,
    pub queued: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful: Option<Last>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed: Option<Last>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Triggers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub milestones: BTreeMap<i64, u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<Branch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fired: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked: Option<Timestamp>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<String, Waiting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A forge's request that was taken and not acted upon yet: about a change where it names one, else to look at the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Waiting {
    pub number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// A run that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Last {
    pub name: String,
    pub number: u64,
    pub result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
}

/// A branch and the run that was started for it last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "pipelines.yaml documents the fields")]
pub struct Branch {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// What a run is to do.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct RunSpec {
    pub pipeline_ref: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Given>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub abort: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted_by: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Reply>,
}

/// What a forge knows of a change request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Change {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author_display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author_email: Option<String>,
}

impl Change {
    /// As scripts see it: the variables that Jenkins' branch sources set.
    pub fn variables(&self) -> Vec<(String, String)> {
        let Self { id, branch, target, fork, url, title, author, author_display_name, author_email } = self.clone();
        let all = [
            ("CHANGE_ID", Some(id)),
            ("CHANGE_BRANCH", branch),
            ("CHANGE_TARGET", target),
            ("CHANGE_FORK", fork),
            ("CHANGE_URL", url),
            ("CHANGE_TITLE", title),
            ("CHANGE_AUTHOR", author),
            ("CHANGE_AUTHOR_DISPLAY_NAME", author_display_name),
            ("CHANGE_AUTHOR_EMAIL", author_email),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// A value of a parameter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Given {
    pub name: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub value: Value,
}

/// What started a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Cause {
    /// `user`, `timer`, `scm`, `upstream`, `webhook`, `remote`.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamRun>,
}

/// The run that started another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct UpstreamRun {
    pub name: String,
    pub pipeline: String,
    pub number: u64,
}

/// What a person answered.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Reply {
    pub id: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub abort: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Given>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Phase {
    /// Nobody has looked at it yet.
    #[default]
    Pending,
    /// It waits for another run to end.
    Queued,
    /// It is on its way.
    Running,
    /// It waits for a person.
    Paused,
    /// It ended well.
    Succeeded,
    /// It ended, and tests failed.
    Unstable,
    /// It failed.
    Failed,
    /// Nothing was done.
    NotBuilt,
    /// It was ended.
    Aborted,
}

impl Phase {
    /// Of a run that has ended so.
    pub fn of(result: Outcome) -> Self {
        match result {
            Outcome::Success => Self::Succeeded,
            Outcome::Unstable => Self::Unstable,
            Outcome::Failure => Self::Failed,
            Outcome::NotBuilt => Self::NotBuilt,
            Outcome::Aborted => Self::Aborted,
        }
    }

    /// Whether nothing more happens.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Unstable | Self::Failed | Self::NotBuilt | Self::Aborted)
    }
}

/// How a run fares.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct RunStatus {
    pub phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    pub number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    pub now: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub culprits: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    pub inputs: Vec<Question>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<Agent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<Tests>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Artifacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Where a stage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum StagePhase {
    /// It has not begun.
    #[default]
    Waiting,
    /// It is on its way.
    Running,
    /// It has ended.
    Finished,
    /// It was not begun.
    Skipped,
}

/// A stage, or a branch of those side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Stage {
    pub id: String,
    pub name: String,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    pub phase: StagePhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum StepPhase {
    /// On its way.
    #[default]
    Running,
    /// Done.
    Succeeded,
    /// It failed.
    Failed,
    /// It was ended.
    Aborted,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Step {
    pub id: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub phase: StepPhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a person is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Question {
    pub id: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitter_parameter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
}

/// Where an agent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum AgentPhase {
    /// Its Pod is not ready.
    #[default]
    Starting,
    /// Steps run there.
    Ready,
    /// Its Pod is gone.
    Lost,
    /// It was given back.
    Released,
}

/// A Pod of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Agent {
    pub pod: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    pub phase: AgentPhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
}

/// How much a run has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Log {
    pub bytes: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// What test reports said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Tests {
    pub total: u64,
    pub failed: u64,
    pub skipped: u64,
    pub seconds: f64,
}

/// What was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "runs.yaml documents the fields")]
pub struct Artifacts {
    pub files: u64,
    pub bytes: u64,
}

/// A new run of a pipeline, as triggers make them: owned by the pipeline, named after it by the API server.
pub fn begun(pipeline: &Pipeline, cause: Cause) -> PipelineRun {
    let name = pipeline.metadata.name.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: format!("{}/{}", own::GROUP, own::VERSION),
        kind: Pipelines::KIND.into(),
        name: name.clone(),
        uid: pipeline.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    // A generated name has room for five more characters.
    let prefix: String = name.chars().take(200).collect();
    let metadata = ObjectMeta {
        generate_name: Some(format!("{prefix}-")),
        namespace: pipeline.metadata.namespace.clone(),
        labels: Some([(PIPELINE.to_owned(), label(&name))].into()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let spec = RunSpec { pipeline_ref: Named { name }, cause: Some(cause), ..RunSpec::default() };
    PipelineRun { metadata, spec, status: None }
}

/// A name as a label's value, which is shorter.
pub fn label(name: &str) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// A text that has room in a status.
pub fn short(text: &str) -> String {
    if text.chars().count() <= Bounds::TEXT {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(Bounds::TEXT - 1).collect();
    cut.push('…');
    cut
}

/// What a cluster has for pipelines: the kinds, who may do what with them, and what `user`, who runs them, may.
///
/// # Errors
/// A definition cannot be read, which a test makes sure of.
pub fn installed(user: &str) -> anyhow::Result<Vec<Value>> {
    let definitions = definitions()?;
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let follow = ["get", "list", "watch"];
    let make = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let rules = json!([
        rule(own::GROUP, &[Pipelines::PLURAL], &follow),
        rule(own::GROUP, &["pipelines/status", "pipelineruns/status"], &["get", "update", "patch"]),
        rule(own::GROUP, &[Runs::PLURAL, "builds"], &make),
        rule(own::GROUP, &["builds/log", "builds/context"], &["get", "create"]),
        // Images that runs have staged are removed again.
        rule("registry.madang.dev", &["repositories"], &["get", "delete"]),
        rule("", &["nodes"], &["get"]),
        rule("", &["pods"], &make),
        rule(
            "",
            &["pods/exec", "pods/ephemeralcontainers", "events", "serviceaccounts/token"],
            &["create", "patch", "get"],
        ),
        rule("", &["secrets", "serviceaccounts", "persistentvolumeclaims"], &["get", "create", "delete"]),
    ]);
    Ok(own::installed("madang:pipeline", definitions, &[LOG], rules, user))
}

fn definitions() -> anyhow::Result<Vec<Value>> {
    [include_str!("kind/pipelines.yaml"), include_str!("kind/runs.yaml")]
        .iter()
        .map(|text| Ok(serde_saphyr::from_str(text)?))
        .collect()
}

#[cfg(test)]
mod tests;
