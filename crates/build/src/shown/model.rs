//! What is known of a build: its steps, in the order in which they became known, and how far each is.

use std::collections::{BTreeMap, VecDeque};

use crate::progress::{Event, Outcome, Status, Vertex};
use jiff::Timestamp;

use super::text;

/// Lines of a step's output that are kept for the tree.
const TAIL: usize = 6;
/// Bytes of a line that has not ended.
const LONGEST: usize = 8 << 10;

/// A step.
#[derive(Debug, Default)]
pub struct Step {
    /// What it is.
    pub vertex: Vertex,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Its parts, in the order in which they were told.
    pub parts: Vec<Status>,
    /// The last lines it wrote, fit to be shown.
    pub tail: VecDeque<String>,
    /// A line that has not ended.
    open: Vec<u8>,
}

/// All steps.
#[derive(Debug, Default)]
pub struct Model {
    /// By number.
    pub steps: BTreeMap<u32, Step>,
    /// When the first thing was told.
    pub started: Option<Timestamp>,
    warnings: Vec<(String, Option<usize>)>,
}

impl Step {
    /// Seconds that it has taken until now.
    pub fn seconds(&self, now: Timestamp) -> f64 {
        let Some(started) = self.started else { return 0.0 };
        seconds(started, self.ended.unwrap_or(now))
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.started.is_some() && self.ended.is_none()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
        while let Some(end) = self.open.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.open.drain(..=end).collect();
            self.keep(&line);
        }
        if self.open.len() > LONGEST {
            let line = std::mem::take(&mut self.open);
            self.keep(&line);
        }
    }

    fn keep(&mut self, line: &[u8]) {
        let line = text::plain(line);
        if line.trim().is_empty() {
            return;
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// The last lines, the one that has not ended among them.
    pub fn last_lines(&self) -> Vec<String> {
        let open = text::plain(&self.open);
        let open = Some(open).filter(|line| !line.trim().is_empty());
        let lines: Vec<String> = self.tail.iter().cloned().chain(open).collect();
        lines[lines.len().saturating_sub(TAIL)..].to_vec()
    }
}

impl Model {
    /// Takes an event in.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Known(vertex) => {
                self.steps.entry(vertex.id).or_default().vertex.clone_from(vertex);
            }
            Event::Started { vertex, at } => {
                self.started.get_or_insert(*at);
                let step = self.step(*vertex);
                step.started = Some(*at);
                (step.ended, step.outcome) = (None, None);
            }
            Event::Status(status) => {
                let step = self.step(status.vertex);
                match step.parts.iter_mut().find(|part| part.part == status.part) {
                    Some(part) => part.clone_from(status),
                    None => step.parts.push(status.clone()),
                }
            }
            Event::Log { vertex, bytes, .. } => self.step(*vertex).write(bytes),
            Event::Finished { vertex, at, outcome } => {
                self.started.get_or_insert(*at);
                let step = self.step(*vertex);
                step.ended = Some(*at);
                step.outcome = Some(outcome.clone());
            }
            Event::Warning { message, lines } => {
                self.warnings.push((message.clone(), lines.map(|lines| lines.first)));
            }
        }
    }

    fn step(&mut self, id: u32) -> &mut Step {
        self.steps.entry(id).or_default()
    }

    /// Steps that have ended, and all.
    pub fn count(&self) -> (usize, usize) {
        (self.steps.values().filter(|step| step.outcome.is_some()).count(), self.steps.len())
    }

    /// What is unwise in the Dockerfile.
    pub fn warnings(&self) -> String {
        let mut out = match self.warnings.len() {
            0 => return String::new(),
            1 => "\n 1 warning found:\n".to_owned(),
            count => format!("\n {count} warnings found:\n"),
        };
        for (message, line) in &self.warnings {
            out += &match line {
                Some(line) => format!(" - {message} (line {line})\n"),
                None => format!(" - {message}\n"),
            };
        }
        out
    }
}

/// Seconds between two times, never less than none.
pub fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}
