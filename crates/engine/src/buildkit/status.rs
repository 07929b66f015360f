//! A build's events as BuildKit's clients read them.

use std::collections::HashMap;

use build::{
    dockerfile::Lines,
    progress::{Event, Outcome, Stream},
};
use oci::Digest;

use super::wire::{
    Position, Range, SourceInfo, StatusResponse, Timestamp, Vertex, VertexLog, VertexStatus, VertexWarning,
};

/// Turns events of one run into answers. Clients know steps by digests, which are made from the run's name and their numbers.
#[derive(Debug)]
pub struct Shown {
    run: String,
    vertexes: HashMap<u32, Vertex>,
    /// The Dockerfile that warnings are about, once it is known.
    source: Option<SourceInfo>,
}

impl Shown {
    /// For a run that is called like no other.
    pub fn new(run: impl Into<String>) -> Self {
        Self { run: run.into(), vertexes: HashMap::new(), source: None }
    }

    /// Warnings are about this file from now on.
    pub fn about(&mut self, filename: &str, text: &str) {
        self.source = Some(source(filename, text));
    }

    fn digest(&self, number: u32) -> String {
        Digest::sha256(format!("{}/{number}", self.run).as_bytes()).to_string()
    }

    /// What an event is to a client.
    pub fn of(&mut self, event: Event) -> StatusResponse {
        let mut answer = StatusResponse::default();
        match event {
            Event::Known(vertex) => {
                let shown = Vertex {
                    digest: self.digest(vertex.id),
                    inputs: vertex.inputs.iter().map(|input| self.digest(*input)).collect(),
                    name: vertex.name,
                    ..Vertex::default()
                };
                self.vertexes.insert(vertex.id, shown.clone());
                answer.vertexes.push(shown);
            }
            Event::Started { vertex, at } => answer.vertexes.extend(self.change(vertex, |shown| {
                shown.started = Some(at.into());
            })),
            Event::Finished { vertex, at, outcome } => answer.vertexes.extend(self.change(vertex, |shown| {
                // Clients show a step that ended only once it began.
                shown.started.get_or_insert(at.into());
                shown.completed = Some(at.into());
                match outcome {
                    Outcome::Done => {}
                    Outcome::Cached => shown.cached = true,
                    Outcome::Failed(reason) => shown.error = reason,
                    Outcome::Canceled => shown.error = "context canceled".to_owned(),
                }
            })),
            Event::Status(status) => answer.statuses.push(VertexStatus {
                id: status.part.clone(),
                vertex: self.digest(status.vertex),
                name: status.part,
                current: i64::try_from(status.current).unwrap_or(i64::MAX),
                total: i64::try_from(status.total).unwrap_or(i64::MAX),
                timestamp: Some(status.ended.unwrap_or_else(jiff::Timestamp::now).into()),
                started: Some(status.started.into()),
                completed: status.ended.map(Timestamp::from),
            }),
            Event::Log { vertex, at, stream, bytes } => answer.logs.push(VertexLog {
                vertex: self.digest(vertex),
                timestamp: Some(at.into()),
                stream: if stream == Stream::Error { 2 } else { 1 },
                msg: bytes,
            }),
            Event::Warning { message, lines } => answer.warnings.push(VertexWarning {
                vertex: self.digest(1),
                level: 1,
                short: message.into_bytes(),
                info: lines.is_some().then(|| self.source.clone()).flatten(),
                ranges: lines.map(range).into_iter().collect(),
                ..VertexWarning::default()
            }),
        }
        answer
    }

    /// Whether an ended step was there already, and how many there are: carried out, cached.
    pub fn counts(&self) -> (i32, i32) {
        let ended = self.vertexes.values().filter(|vertex| vertex.completed.is_some());
        let cached = ended.clone().filter(|vertex| vertex.cached).count();
        (i32::try_from(ended.count()).unwrap_or(i32::MAX), i32::try_from(cached).unwrap_or(i32::MAX))
    }

    fn change(&mut self, number: u32, change: impl FnOnce(&mut Vertex)) -> Option<Vertex> {
        let vertex = self.vertexes.get_mut(&number)?;
        change(vertex);
        Some(vertex.clone())
    }
}

/// A Dockerfile as errors and warnings carry it.
pub fn source(filename: &str, text: &str) -> SourceInfo {
    SourceInfo { filename: filename.to_owned(), data: text.as_bytes().to_vec(), language: "Dockerfile".to_owned() }
}

/// Lines as errors and warnings carry them.
pub fn range(lines: Lines) -> Range {
    let position = |line: usize| Position { line: i32::try_from(line).unwrap_or(i32::MAX), character: 0 };
    Range { start: Some(position(lines.first)), end: Some(position(lines.last)) }
}
