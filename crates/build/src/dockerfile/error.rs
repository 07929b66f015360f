//! Errors that point at the lines of a Dockerfile.

use std::fmt::Write as _;

/// How many lines are shown before and after those an error is about.
const CONTEXT: usize = 2;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("dockerfile parse error on line {}: {message}", .lines.first)]
pub struct Error {
    /// What is wrong, without the place.
    pub message: String,
    /// Where.
    pub lines: Lines,
}

/// Lines of a Dockerfile, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lines {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

impl Error {
    /// An error on some lines.
    pub fn new(message: impl Into<String>, lines: Lines) -> Self {
        Self { message: message.into(), lines }
    }

    /// The error as people read it: the lines of `text`, the file called `name`, that it is about, and what is wrong.
    pub fn show(&self, name: &str, text: &str) -> String {
        let mut shown = excerpt(name, text, self.lines);
        let _ = write!(shown, "error: {self}");
        shown
    }
}

/// The lines of `text` around `lines`, those marked, as BuildKit shows them.
pub fn excerpt(name: &str, text: &str, lines: Lines) -> String {
    let rule = "-".repeat(20);
    let mut shown = format!("{name}:{}\n{rule}\n", lines.first);
    let from = lines.first.saturating_sub(CONTEXT).max(1);
    let to = lines.last.max(lines.first).saturating_add(CONTEXT);
    for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)).skip(from - 1).take(to + 1 - from) {
        let mark = if (lines.first..=lines.last.max(lines.first)).contains(&at) { ">>>" } else { "   " };
        let _ = writeln!(shown, "{at:4} | {mark} {}", line.trim_end());
    }
    let _ = writeln!(shown, "{rule}");
    shown
}

/// `; did you mean X?` where one of the names is within two edits of what was written, else nothing.
pub(crate) fn suggestion<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let written = written.to_ascii_lowercase();
    let near = names
        .into_iter()
        .map(|name| (distance(&written, &name.to_ascii_lowercase()), name))
        .filter(|(edits, name)| *edits <= 2 && *edits < name.len())
        .min();
    near.map_or_else(String::new, |(_, name)| format!(" (did you mean {name}?)"))
}

/// Edits between two short words, letters that changed places counted once; long words are never near.
fn distance(left: &str, right: &str) -> usize {
    const LONGEST: usize = 32;
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    if left.len() > LONGEST || right.len() > LONGEST {
        return usize::MAX;
    }
    let mut edits = [[0; LONGEST + 1]; LONGEST + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            edits[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = edits[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
                replaced.min(edits[i - 1][j] + 1).min(edits[i][j - 1] + 1)
            };
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                edits[i][j] = edits[i][j].min(edits[i - 2][j - 2] + 1);
            }
        }
    }
    edits[left.len()][right.len()]
}
