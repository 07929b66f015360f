//! The far ends of steps: what a script asks for is done here.
//!
//! ```text
//! ask ─► answer ─┬─ agents   Pods come and go
//!                ├─ process  sh and what is like it, in a Pod
//!                ├─ files    read, written, found, checked out, in a Pod
//!                ├─ kept     stashes, artifacts, test reports
//!                ├─ people   input, build, lock, milestone, sleep, timeout
//!                ├─ secrets  credentials
//!                ├─ cluster  apply, rollout, release; httpRequest
//!                ├─ images   docker.build, image.push, image.inside
//!                └─ builds   Build objects, which those are made of
//! ```
//!
//! An ask that is interrupted ends at once, but for a process in a Pod, which is ended first. Names and arguments are those of
//! <https://www.jenkins.io/doc/pipeline/steps/>.

use std::sync::Arc;

use client::cache::Key;
use serde_json::Value as Json;
use tokio::sync::watch;

use crate::{
    drive::{Drive, Interruption},
    hand::{At, Error},
    pod::WORKSPACE,
    run::world::{Answer, Ask, LOST},
};

mod agents;
pub(crate) mod builds;
mod cluster;
mod files;
mod images;
mod kept;
mod people;
mod process;
mod secrets;

/// What an ask comes to: an answer, or why it failed.
pub type Far = Result<Json, Failure>;

/// Why an ask failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exception's class.
    pub class: &'static str,
    /// What happened.
    pub message: String,
}

/// A failure of the step itself.
pub fn failed(message: impl Into<String>) -> Failure {
    Failure { class: "AbortException", message: message.into() }
}

/// A failure of an agent: its Pod, or a process in it, is gone.
pub fn lost(message: impl Into<String>) -> Failure {
    Failure { class: LOST, message: message.into() }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let class = match &error {
            Error::Missing(_) => "NoSuchFileException",
            Error::Lost(_) => LOST,
            _ => "AbortException",
        };
        Self { class, message: error.to_string() }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => failed(status.message.clone()),
            error => failed(error.to_string()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        failed(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        failed(error.to_string())
    }
}

/// An argument that is a text.
pub(crate) fn text<'a>(ask: &'a Ask, name: &str) -> &'a str {
    ask.arguments.get(name).and_then(Json::as_str).unwrap_or_default()
}

/// An argument that is a truth value.
pub(crate) fn flag(ask: &Ask, name: &str) -> bool {
    match ask.arguments.get(name) {
        Some(Json::Bool(value)) => *value,
        Some(Json::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// Where an ask's step is taken.
///
/// # Errors
/// It is outside of an agent.
pub(crate) fn at(drive: &Drive, ask: &Ask) -> Result<At, Failure> {
    let pod = ask.place.agent.as_deref().ok_or_else(|| failed(format!("{} needs an agent", ask.name)))?;
    let container = ask.place.container.clone().or_else(|| drive.container(pod));
    let container = container.ok_or_else(|| failed(format!("the agent {pod} is not one of this run")))?;
    Ok(At { pod: Key::new(&drive.key.namespace, pod), container })
}

/// The directory in which an ask's step is taken.
pub(crate) fn directory(ask: &Ask) -> String {
    let directory = &ask.place.directory;
    if directory.starts_with('/') {
        directory.clone()
    } else if directory.is_empty() {
        WORKSPACE.to_owned()
    } else {
        format!("{WORKSPACE}/{directory}")
    }
}

/// A path from there.
pub(crate) fn path(ask: &Ask, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", directory(ask)) }
}

/// Answers an ask, or ends it early.
pub(crate) async fn answer(
    drive: &Arc<Drive>,
    ask: &Ask,
    mut interrupted: watch::Receiver<Option<Interruption>>,
) -> Answer {
    let ends = ask.name.ends_with(".end");
    let why = async {
        let found = interrupted.wait_for(Option::is_some).await.map(|why| (*why).clone());
        match found {
            Ok(why) => why,
            Err(_) => std::future::pending().await,
        }
    };
    let done = tokio::select! {
        biased;
        why = why, if !ends => Err(why),
        done = done(drive, ask) => Ok(done),
    };
    match done {
        Ok(Ok(value)) => Answer::Done(value),
        Ok(Err(Failure { class, message })) => Answer::Failed { class: class.into(), message },
        Err(why) => {
            let Some(Interruption { message, result }) = why else { return Answer::Gone("interrupted".into()) };
            match ask.name.as_str() {
                "docker.container" => builds::stop(drive, ask, "staged").await,
                "agent" => builds::stop(drive, ask, images::IMAGE).await,
                name if name.starts_with("docker.") => builds::stop(drive, ask, "").await,
                _ => process::stop(drive, ask).await,
            }
            people::forget(drive, ask);
            Answer::Interrupted { message, result }
        }
    }
}

async fn done(drive: &Arc<Drive>, ask: &Ask) -> Far {
    match ask.name.as_str() {
        "agent" => agents::open(drive, ask).await,
        "agent.end" => agents::give_back(drive, ask).await,
        "sh" => process::shell(drive, ask).await,
        "bat" | "powershell" | "pwsh" => Err(failed(format!("{}: agents are Linux", ask.name))),
        "pwd" => Ok(if flag(ask, "tmp") { format!("{}@tmp", directory(ask)).into() } else { directory(ask).into() }),
        "readFile" => files::read(drive, ask).await,
        "writeFile" => files::write(drive, ask).await,
        "fileExists" => files::exists(drive, ask).await,
        "deleteDir" => files::delete(drive, ask).await,
        "touch" => files::touch(drive, ask).await,
        "findFiles" => files::find(drive, ask).await,
        "readYaml" => files::yaml(drive, ask).await,
        "writeYaml" => files::write_yaml(drive, ask).await,
        "readProperties" => files::properties(drive, ask).await,
        "sha256" => files::sha256(drive, ask).await,
        "checkout" => files::check_out(drive, ask).await,
        "git" => files::git(drive, ask).await,
        "readTrusted" => files::trusted(drive, ask).await,
        "stash" => kept::stash(drive, ask).await,
        "unstash" => kept::unstash(drive, ask).await,
        "archiveArtifacts" => kept::archive(drive, ask).await,
        "junit" => kept::junit(drive, ask).await,
        "sleep" => people::sleep(drive, ask).await,
        "clock" => Ok(jiff::Timestamp::now().as_millisecond().into()),
        "timer" => people::timer(ask),
        "timer.end" => people::timer_over(drive, ask),
        "input" => people::input(drive, ask).await,
        "build" => people::build(drive, ask).await,
        "lock" => people::lock(drive, ask).await,
        "lock.end" => people::unlock(drive, ask),
        "milestone" => people::milestone(drive, ask).await,
        "credentials" => secrets::credentials(drive, ask).await,
        "apply" => cluster::apply(drive, ask).await,
        "rollout" => cluster::rollout(drive, ask).await,
        "release" => cluster::release(drive, ask).await,
        "httpRequest" => cluster::request(drive, ask).await,
        name if name.starts_with("docker.") => images::docker(drive, ask).await,
        // A tool is in an agent's image, or it is not there.
        "tool" => Ok(Json::Null),
        name => {
            Err(failed(format!("there is no step {name} here: it comes from a plugin that this cluster does not have")))
        }
    }
}
