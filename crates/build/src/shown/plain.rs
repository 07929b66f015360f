//! Plain lines, in the order in which things happen: `#4 [2/3] RUN make`, `#4 0.512 cc -c main.c`, `#4 DONE 2.1s`.
//!
//! Each line begins with its step's number. Where another step goes on, its name is written again.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::progress::{Event, Outcome, Status};
use jiff::Timestamp;

use super::{
    model::{Model, seconds},
    text,
};

/// A part is told again when so many seconds have passed, or so much of it has come.
const AGAIN: (f64, f64) = (5.0, 0.05);

/// What was written.
#[derive(Debug, Default)]
pub struct Plain {
    /// The step whose lines were written last, as long as it runs.
    current: Option<u32>,
    any: bool,
    /// Lines that have not ended, with the time of their first byte.
    open: BTreeMap<u32, (Vec<u8>, Timestamp)>,
    /// What was told of parts last: when, how much.
    told: BTreeMap<(u32, String), (Timestamp, u64)>,
}

impl Plain {
    /// What is written when something has happened.
    pub fn lines(&mut self, model: &Model, event: &Event) -> String {
        let mut out = String::new();
        match event {
            Event::Known(_) | Event::Warning { .. } => {}
            Event::Started { vertex, .. } => self.turn(model, *vertex, &mut out),
            Event::Status(status) => self.status(model, status, &mut out),
            Event::Log { vertex, at, bytes, .. } => {
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    let open = self.open.entry(*vertex).or_insert_with(|| (Vec::new(), *at));
                    open.0.extend_from_slice(piece);
                    // A line without end is cut.
                    if piece.ends_with(b"\n") || open.0.len() > 64 << 10 {
                        self.line(model, *vertex, &mut out);
                    }
                }
            }
            Event::Finished { vertex, outcome, at } => {
                self.line(model, *vertex, &mut out);
                self.turn(model, *vertex, &mut out);
                let end = match outcome {
                    Outcome::Done => {
                        let seconds = model.steps.get(vertex).map_or(0.0, |step| step.seconds(*at));
                        format!("DONE {seconds:.1}s")
                    }
                    Outcome::Cached => "CACHED".to_owned(),
                    Outcome::Failed(why) => format!("ERROR: {why}"),
                    Outcome::Canceled => "CANCELED".to_owned(),
                };
                let _ = writeln!(out, "#{vertex} {end}");
                self.current = None;
            }
        }
        out
    }

    /// Lines that have not ended when everything else has.
    pub fn end(&mut self, model: &Model) -> String {
        let mut out = String::new();
        for vertex in self.open.keys().copied().collect::<Vec<_>>() {
            self.line(model, vertex, &mut out);
        }
        out
    }

    fn turn(&mut self, model: &Model, vertex: u32, out: &mut String) {
        if self.current == Some(vertex) {
            return;
        }
        if let Some(other) = self.current {
            let _ = writeln!(out, "#{other} ...");
        }
        if self.any {
            out.push('\n');
        }
        let name = model.steps.get(&vertex).map_or("", |step| &step.vertex.name);
        let _ = writeln!(out, "#{vertex} {}", text::plain(name.replace('\n', " ").as_bytes()));
        (self.any, self.current) = (true, Some(vertex));
    }

    fn line(&mut self, model: &Model, vertex: u32, out: &mut String) {
        let Some((line, at)) = self.open.remove(&vertex) else { return };
        self.turn(model, vertex, out);
        let started = model.steps.get(&vertex).and_then(|step| step.started).unwrap_or(at);
        let line = String::from_utf8_lossy(&line);
        let _ = writeln!(out, "#{vertex} {:.3} {}", seconds(started, at), line.trim_end_matches(['\n', '\r']));
    }

    fn status(&mut self, model: &Model, status: &Status, out: &mut String) {
        let now = status.ended.unwrap_or_else(Timestamp::now);
        let key = (status.vertex, status.part.clone());
        if let (Some((when, current)), None) = (self.told.get(&key), status.ended) {
            let more = status.current.saturating_sub(*current) as f64 / status.total.max(1) as f64;
            if seconds(*when, now) < AGAIN.0 && (status.total == 0 || more < AGAIN.1) {
                return;
            }
        }
        self.told.insert(key, (now, status.current));
        self.turn(model, status.vertex, out);
        let size = match (status.current, status.total) {
            (0, 0) => String::new(),
            (current, 0) => format!(" {}", text::bytes(current)),
            (current, total) => format!(" {} / {}", text::bytes(current), text::bytes(total)),
        };
        let seconds = seconds(status.started, now);
        let time = if seconds > 0.01 { format!(" {seconds:.1}s") } else { String::new() };
        let done = if status.ended.is_some() { " done" } else { "" };
        let _ = writeln!(out, "#{} {}{size}{time}{done}", status.vertex, status.part);
    }
}
