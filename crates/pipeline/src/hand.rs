//! The arm's length to a Pod: the step runner there, reached through the API's `exec`.
//!
//! Whatever is asked may be asked again: a step runs once however often it is asked for, files are written whole, and so a connection
//! that breaks, or a server that is started again, costs nothing but a moment. A Pod that is gone is told from one that is only out of
//! reach by what the API says of it.

use std::time::Duration;

use bytes::Bytes;
use client::{
    cache::{Cache, Key},
    exec::{Command, Commands, Ended, Error as ExecError, Piece},
};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use tokio::sync::mpsc;

use crate::{book::Book, pod::STEP, record::log::Writer};

/// Bytes of an answer.
const ANSWER: usize = 64 << 20;
/// Bytes of what a runner says went wrong.
const WORDS: usize = 16 << 10;
/// The pause before a second attempt, and the longest one.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Its Pod.
    pub pod: Key,
    /// Its name.
    pub container: String,
}

/// A step that is to be run.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// What names it in its Pod: letters, digits, dots, dashes and underscores.
    pub key: String,
    /// Where it runs; from the workspace where it does not begin with a slash.
    pub directory: String,
    /// Its variables.
    pub environment: Vec<(String, String)>,
    /// The script.
    pub script: String,
    /// Whether its standard output is an answer, and not a part of the log.
    pub capture: bool,
    /// Whether it must have been started already.
    pub follow: bool,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its exit code.
    pub code: i32,
    /// What was captured.
    pub output: Vec<u8>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The Pod, or the process in it, is gone.
    #[error("{0}")]
    Lost(String),
    /// There is no such file.
    #[error("{0}")]
    Missing(String),
    /// It cannot be done.
    #[error("{0}")]
    Failed(String),
}

/// Reaches Pods. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Hand {
    /// How commands are run.
    pub commands: Commands,
    /// Pods of runs.
    pub pods: Cache<Pod>,
}

impl Step {
    /// The request, as the runner reads it.
    fn request(&self, offset: u64) -> Vec<u8> {
        let mut request = Vec::new();
        let mut field = |name: &str, value: &str| {
            request.extend_from_slice(format!("{name} {}\n", value.len()).as_bytes());
            request.extend_from_slice(value.as_bytes());
            request.push(b'\n');
        };
        field("key", &self.key);
        field("directory", &self.directory);
        field("script", &self.script);
        field("capture", if self.capture { "yes" } else { "no" });
        field("follow", if self.follow { "yes" } else { "no" });
        field("offset", &offset.to_string());
        for (name, value) in &self.environment {
            field("environment", &format!("{name}={value}"));
        }
        request.push(b'\n');
        request
    }
}

/// What names a step in its Pod, made from the ask's key.
pub fn named(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(180).collect()
}

impl Hand {
    /// Why a container cannot be reached and never will be again; none where it may.
    pub fn gone(&self, at: &At) -> Option<String> {
        let pod = &at.pod.name;
        let Some(object) = self.pods.get(&at.pod) else { return Some(format!("the Pod {pod} is gone")) };
        if object.metadata.deletion_timestamp.is_some() {
            return Some(format!("the Pod {pod} is being deleted"));
        }
        let status = object.status.clone().unwrap_or_default();
        if let Some("Failed" | "Succeeded") = status.phase.as_deref() {
            let why = status.message.or(status.reason).unwrap_or_else(|| "its containers have ended".into());
            return Some(format!("the Pod {pod} has ended: {why}"));
        }
        let all =
            status.container_statuses.iter().flatten().chain(status.ephemeral_container_statuses.iter().flatten());
        let own = all.into_iter().find(|one| one.name == at.container)?;
        match own.state.clone() {
            Some(ContainerState { terminated: Some(ended), .. }) => {
                let why = ended.message.or(ended.reason).unwrap_or_default();
                Some(format!("container {} of Pod {pod} has ended with {}: {why}", at.container, ended.exit_code))
            }
            _ => None,
        }
    }

    /// The same, where there is one.
    pub fn gone_of(&self, at: Option<&At>) -> Option<String> {
        self.gone(at?)
    }

    /// Runs a step, or follows the one that runs under its key; what it writes goes into the book.
    ///
    /// # Errors
    /// It is lost, or could not be started.
    pub async fn run(&self, at: &At, step: &Step, book: &Book, writer: Writer) -> Result<Done, Error> {
        let mut pause = FIRST;
        loop {
            let offset = book.begin(writer);
            let attempt = self.attempt(at, step, offset, book, writer).await;
            book.end(writer).map_err(|error| Error::Failed(format!("write the log: {error}")))?;
            match attempt {
                Ok(done) => return done,
                Err(why) => {
                    if let Some(gone) = self.gone(at) {
                        return Err(Error::Lost(gone));
                    }
                    tracing::debug!(pod = %at.pod, %why, "a step is reached for again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// The outer error is one after which it is tried again.
    async fn attempt(
        &self,
        at: &At,
        step: &Step,
        offset: u64,
        book: &Book,
        writer: Writer,
    ) -> Result<Result<Done, Error>, String> {
        let words = [STEP, "step", "run"];
        let mut session = self.start(at, &words, true).await?;
        session.send(&step.request(offset)).await.map_err(|error| error.to_string())?;
        let mut said = Vec::new();
        loop {
            match session.next().await.map_err(|error| error.to_string())? {
                Piece::Out(bytes) => {
                    if let Err(error) = book.write(writer, &bytes) {
                        return Ok(Err(Error::Failed(format!("write the log: {error}"))));
                    }
                }
                Piece::Err(bytes) if said.len() < ANSWER => said.extend_from_slice(&bytes),
                Piece::Err(_) => {}
                Piece::Ended(Ended::Code(0)) => {
                    let end = said.iter().position(|byte| *byte == b'\n').unwrap_or(said.len());
                    let first = String::from_utf8_lossy(&said[..end]).into_owned();
                    let Some(code) = first.strip_prefix("exit ").and_then(|code| code.trim().parse().ok()) else {
                        return Err(format!("the step runner said {first:?}"));
                    };
                    let output = said.get(end + 1..).unwrap_or_default().to_vec();
                    return Ok(Ok(Done { code, output }));
                }
                Piece::Ended(Ended::Code(KILLED)) => return Err("the step runner was killed".into()),
                Piece::Ended(Ended::Code(code)) => return Ok(Err(wrong(code, &said))),
                Piece::Ended(Ended::Failed(why)) => return Err(why),
            }
        }
    }

    async fn start(&self, at: &At, words: &[&str], input: bool) -> Result<client::exec::Session, String> {
        let command =
            Command { namespace: &at.pod.namespace, pod: &at.pod.name, container: &at.container, words, input };
        self.commands.start(command).await.map_err(|error| match error {
            ExecError::Refused { message, .. } => message,
            other => other.to_string(),
        })
    }

    /// Does something else with the runner: `words` follow its name. Tried again until the Pod is gone.
    ///
    /// # Errors
    /// It cannot be done.
    pub async fn call(&self, at: &At, words: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>, Error> {
        let mut pause = FIRST;
        loop {
            match self.once(at, words, input).await {
                Ok(done) => return done,
                Err(why) => {
                    if let Some(gone) = self.gone(at) {
                        return Err(Error::Lost(gone));
                    }
                    tracing::debug!(pod = %at.pod, %why, "a file is reached for again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    async fn once(&self, at: &At, words: &[&str], input: Option<&[u8]>) -> Result<Result<Vec<u8>, Error>, String> {
        let all: Vec<&str> = [STEP, "step"].into_iter().chain(words.iter().copied()).collect();
        let mut session = self.start(at, &all, input.is_some()).await?;
        if let Some(input) = input {
            session.send(input).await.map_err(|error| error.to_string())?;
            session.close().await.map_err(|error| error.to_string())?;
        }
        let (mut out, mut said) = (Vec::new(), Vec::new());
        loop {
            match session.next().await.map_err(|error| error.to_string())? {
                Piece::Out(bytes) if out.len() + bytes.len() > ANSWER => {
                    return Ok(Err(Error::Failed(format!("{}: more than {ANSWER} bytes", words.join(" ")))));
                }
                Piece::Out(bytes) => out.extend_from_slice(&bytes),
                Piece::Err(bytes) if said.len() < WORDS => said.extend_from_slice(&bytes),
                Piece::Err(_) => {}
                Piece::Ended(Ended::Code(0)) => return Ok(Ok(out)),
                Piece::Ended(Ended::Code(KILLED)) => return Err("the step runner was killed".into()),
                Piece::Ended(Ended::Code(code)) => return Ok(Err(wrong(code, &said))),
                Piece::Ended(Ended::Failed(why)) => return Err(why),
            }
        }
    }

    /// Hands the runner an archive, or whatever comes in pieces, as input; once, since the pieces are gone then.
    ///
    /// # Errors
    /// It cannot be done, or the connection broke.
    pub async fn feed(&self, at: &At, words: &[&str], mut pieces: mpsc::Receiver<Bytes>) -> Result<(), Error> {
        let all: Vec<&str> = [STEP, "step"].into_iter().chain(words.iter().copied()).collect();
        let broken = |why: String| Error::Failed(why);
        let mut session = self.start(at, &all, true).await.map_err(broken)?;
        while let Some(piece) = pieces.recv().await {
            session.send(&piece).await.map_err(|error| broken(error.to_string()))?;
        }
        session.close().await.map_err(|error| broken(error.to_string()))?;
        let mut said = Vec::new();
        loop {
            match session.next().await.map_err(|error| broken(error.to_string()))? {
                Piece::Err(bytes) if said.len() < WORDS => said.extend_from_slice(&bytes),
                Piece::Out(_) | Piece::Err(_) => {}
                Piece::Ended(Ended::Code(0)) => return Ok(()),
                Piece::Ended(Ended::Code(code)) => return Err(wrong(code, &said)),
                Piece::Ended(Ended::Failed(why)) => return Err(Error::Failed(why)),
            }
        }
    }

    /// Takes what the runner writes, piece by piece, into `pieces`; once.
    ///
    /// # Errors
    /// It cannot be done, or the connection broke: what came before is not whole.
    pub async fn take(&self, at: &At, words: &[&str], input: &[u8], pieces: &mpsc::Sender<Bytes>) -> Result<(), Error> {
        let all: Vec<&str> = [STEP, "step"].into_iter().chain(words.iter().copied()).collect();
        let broken = |why: String| Error::Failed(why);
        let mut session = self.start(at, &all, true).await.map_err(broken)?;
        session.send(input).await.map_err(|error| broken(error.to_string()))?;
        session.close().await.map_err(|error| broken(error.to_string()))?;
        let mut said = Vec::new();
        loop {
            match session.next().await.map_err(|error| broken(error.to_string()))? {
                Piece::Out(bytes) => {
                    if pieces.send(bytes).await.is_err() {
                        return Err(Error::Failed("nobody takes what is read".into()));
                    }
                }
                Piece::Err(bytes) if said.len() < WORDS => said.extend_from_slice(&bytes),
                Piece::Err(_) => {}
                Piece::Ended(Ended::Code(0)) => return Ok(()),
                Piece::Ended(Ended::Code(code)) => return Err(wrong(code, &said)),
                Piece::Ended(Ended::Failed(why)) => return Err(Error::Failed(why)),
            }
        }
    }
}

/// The runner's exit code where a container goes away around it, which is nothing that it says.
const KILLED: i32 = 128 + 9;

/// What the runner's own exit code says.
fn wrong(code: i32, said: &[u8]) -> Error {
    let text = String::from_utf8_lossy(&said[..said.len().min(WORDS)]).trim().to_owned();
    match code {
        3 => Error::Missing(text),
        4 => Error::Lost(text),
        126 | 127 if text.is_empty() => Error::Failed("the container has no step runner".into()),
        _ => Error::Failed(if text.is_empty() { format!("the step runner ended with {code}") } else { text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_fields_with_lengths() {
        let step = Step {
            key: "0_1".into(),
            script: "echo\nhi".into(),
            environment: vec![("A".into(), "b".into())],
            ..Step::default()
        };
        let expected = "key 3\n0_1\ndirectory 0\n\nscript 7\necho\nhi\ncapture 2\nno\nfollow 2\nno\noffset 2\n12\nenvironment 3\nA=b\n\n";
        assert_eq!(String::from_utf8(step.request(12)).unwrap(), expected);
    }

    #[test]
    fn keys_become_names_of_directories() {
        assert_eq!(named("3/0/12"), "3_0_12");
    }

    #[test]
    fn the_runners_exit_code_says_what_is_wrong() {
        assert_eq!(wrong(3, b"read x: no such file\n"), Error::Missing("read x: no such file".into()));
        assert_eq!(wrong(4, b"gone"), Error::Lost("gone".into()));
        assert_eq!(wrong(1, b""), Error::Failed("the step runner ended with 1".into()));
    }
}
