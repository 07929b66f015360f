//! A tree that is drawn over itself.
//!
//! ```text
//! [+] Building 3.2s (4/7)
//!  => [internal] load build context                              0.1s
//!  => => transferring context: 12.34kB                           0.0s
//!  => CACHED [build 1/3] FROM debian                             0.0s
//!  => [build 2/3] RUN make                                       2.9s
//!  => => # cc -c main.c
//! ```
//!
//! What does not fit is left out: output of steps first, then steps that have ended, the oldest first.

use std::fmt::Write as _;

use build::{
    progress::{Outcome, Status},
    shown::{
        model::{Model, Step, seconds},
        text,
    },
};
use jiff::Timestamp;

/// Where the terminal does not tell.
const USUAL: (usize, usize) = (80, 24);
/// The fewest columns that make sense.
const NARROWEST: usize = 20;

const BLUE: &str = "\u{1b}[34m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const FAINT: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// A line of the tree, without colours.
struct Line {
    text: String,
    colour: &'static str,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Head,
    /// A step; whether it has ended.
    Step(bool),
    /// Something of a step.
    Part,
    Output,
}

/// What is on the terminal.
pub(super) struct Tree {
    colours: bool,
    size: fn() -> Option<(usize, usize)>,
    /// Columns of each line that was drawn last.
    drawn: Vec<usize>,
}

impl Tree {
    pub fn new(colours: bool, size: fn() -> Option<(usize, usize)>) -> Self {
        Self { colours, size, drawn: Vec::new() }
    }

    /// What has to be written so that the terminal shows the build as it is now. The last time everything is shown, and
    /// stays.
    pub fn draw(&mut self, model: &Model, now: Timestamp, last: bool) -> String {
        let (columns, lines) = (self.size)().unwrap_or(USUAL);
        let columns = columns.max(NARROWEST);
        let mut all = lines_of(model, now, columns, last);
        if !last {
            fit(&mut all, lines.saturating_sub(1).max(2));
        }
        let mut out = String::from("\u{1b}[?25l");
        // A terminal that became narrower has broken lines in two.
        let up: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        if up > 0 {
            let _ = write!(out, "\u{1b}[{up}A\r");
        }
        for line in &all {
            let (before, after) = match self.colours && !line.colour.is_empty() {
                true => (line.colour, PLAIN),
                false => ("", ""),
            };
            let _ = writeln!(out, "{before}{}{after}\u{1b}[K", line.text);
        }
        out.push_str("\u{1b}[J\u{1b}[?25h");
        self.drawn = all.iter().map(|line| text::width(&line.text)).collect();
        out
    }
}

fn lines_of(model: &Model, now: Timestamp, columns: usize, last: bool) -> Vec<Line> {
    let (ended, all) = model.count();
    let total = model.started.map_or(0.0, |started| seconds(started, now));
    let state = if last && ended == all && all > 0 { " FINISHED" } else { "" };
    let head = format!("[+] Building {total:.1}s ({ended}/{all}){state}");
    let mut lines = vec![Line { text: text::cut(&head, columns), colour: "", kind: Kind::Head }];
    for step in model.steps.values().filter(|step| step.started.is_some() || step.outcome.is_some()) {
        step_lines(step, now, columns, last, &mut lines);
    }
    lines
}

fn step_lines(step: &Step, now: Timestamp, columns: usize, last: bool, lines: &mut Vec<Line>) {
    let (prefix, colour) = match &step.outcome {
        None => ("", ""),
        Some(Outcome::Done) => ("", BLUE),
        Some(Outcome::Cached) => ("CACHED ", BLUE),
        Some(Outcome::Failed(_)) => ("ERROR ", RED),
        Some(Outcome::Canceled) => ("CANCELED ", YELLOW),
    };
    let name = text::plain(step.vertex.name.replace('\n', " ").as_bytes());
    let line = aligned(&format!(" => {prefix}{name}"), step.seconds(now), columns);
    lines.push(Line { text: line, colour, kind: Kind::Step(step.ended.is_some()) });
    for part in &step.parts {
        let line =
            aligned(&format!(" => => {}", shown(part)), seconds(part.started, part.ended.unwrap_or(now)), columns);
        lines.push(Line { text: line, colour, kind: Kind::Part });
    }
    let failed = matches!(step.outcome, Some(Outcome::Failed(_)));
    if step.runs() && !last || failed {
        for line in step.last_lines() {
            let text = text::cut(&format!(" => => # {line}"), columns);
            lines.push(Line { text, colour: FAINT, kind: Kind::Output });
        }
    }
}

fn shown(part: &Status) -> String {
    let name = text::plain(part.part.as_bytes());
    match (part.current, part.total) {
        (0, 0) => name,
        (current, 0) => format!("{name} {}", text::bytes(current)),
        (current, total) => format!("{name} {} / {}", text::bytes(current), text::bytes(total)),
    }
}

/// A line with its time at the right edge, cut so that both fit.
fn aligned(text: &str, seconds: f64, columns: usize) -> String {
    let time = format!("{:.1}s", if seconds < 0.05 { 0.0 } else { seconds });
    let room = columns.saturating_sub(time.len() + 1);
    let text = text::cut(text, room);
    let blanks = columns - time.len() - text::width(&text).min(columns - time.len());
    format!("{text}{}{time}", " ".repeat(blanks))
}

/// Takes lines away until at most so many are left.
fn fit(lines: &mut Vec<Line>, most: usize) {
    // Output of steps, of each in turn the oldest line.
    while lines.len() > most {
        let longest = runs(lines).max_by_key(|(_, length)| *length).filter(|(_, length)| *length > 0);
        let Some((start, _)) = longest else { break };
        lines.remove(start);
    }
    // Steps that have ended, with what belongs to them.
    while lines.len() > most {
        let Some(at) = lines.iter().position(|line| line.kind == Kind::Step(true)) else { break };
        let rest = lines[at + 1..].iter().position(|line| matches!(line.kind, Kind::Step(_)));
        let end = rest.map_or(lines.len(), |rest| at + 1 + rest);
        lines.drain(at..end);
    }
    lines.truncate(most);
}

/// Where output of a step begins, and how many lines it has.
fn runs(lines: &[Line]) -> impl Iterator<Item = (usize, usize)> {
    (0..lines.len()).filter(|at| lines[*at].kind == Kind::Output && lines[at - 1].kind != Kind::Output).map(|at| {
        let length = lines[at..].iter().take_while(|line| line.kind == Kind::Output).count();
        (at, length)
    })
}

/// Columns and lines of the terminal on standard error, where there is one.
pub(super) fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok()?;
    let (columns, lines) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && lines > 0).then_some((columns, lines))
}
