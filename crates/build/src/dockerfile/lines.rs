//! From physical lines to logical ones: parser directives, comments, continuations, here-documents.
//!
//! ```text
//! # escape=`            directives, before anything else
//! # a comment           dropped; kept nowhere
//! RUN a \               one logical line: `RUN a b`
//!   # inside            a comment within it
//!   b
//! RUN <<EOF             a here-document follows its line
//! ...
//! EOF
//! ```
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#parser-directives>, `#escape`, `#here-documents`.

use super::{
    error::{Error, Lines},
    heredoc::{self, Heredoc},
};

/// A Dockerfile is not larger than this.
pub const LARGEST: usize = 1 << 20;
/// The longest physical line, in bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// One instruction as written, comments and continuations taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logical {
    pub(super) text: String,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) lines: Lines,
}

/// The directives at the head of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// The front end that `# syntax=` asks for.
    pub syntax: Option<String>,
    /// What `# check=` says.
    pub check: Option<String>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', syntax: None, check: None }
    }
}

/// A thing that is allowed and yet unwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What.
    pub message: String,
    /// Where.
    pub lines: Lines,
}

/// The file taken apart.
pub(super) struct Taken {
    pub(super) directives: Directives,
    pub(super) lines: Vec<Logical>,
    pub(super) warnings: Vec<Warning>,
}

pub(super) fn take_apart(text: &str) -> Result<Taken, Error> {
    if text.len() > LARGEST {
        let message = format!("the file has {} bytes; at most {LARGEST} are read", text.len());
        return Err(Error::new(message, Lines { first: 1, last: 1 }));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let physical: Vec<&str> = text.split_inclusive('\n').collect();
    if let Some(at) = physical.iter().position(|line| line.len() > LONGEST_LINE) {
        let message = format!("dockerfile line greater than max allowed size of {LONGEST_LINE}");
        return Err(Error::new(message, Lines { first: at + 1, last: at + 1 }));
    }
    let (directives, mut at) = directives(&physical)?;
    let (mut lines, mut warnings) = (Vec::new(), Vec::new());
    while at < physical.len() {
        let first = at + 1;
        let line = trim_newline(physical[at]).trim_start();
        at += 1;
        if is_comment(line) {
            continue;
        }
        let (part, mut continues) = without_continuation(line, directives.escape);
        if part.is_empty() && !continues {
            continue;
        }
        let mut logical = part.to_owned();
        let mut blank = None;
        while continues && at < physical.len() {
            let line = trim_newline(physical[at]);
            at += 1;
            if is_comment(line) {
                continue;
            }
            if line.trim().is_empty() {
                blank = Some(at);
                continue;
            }
            let (part, more) = without_continuation(line, directives.escape);
            logical.push_str(part);
            continues = more;
        }
        let mut place = Lines { first, last: at };
        if let Some(line) = blank {
            let message = format!("Empty continuation line found in: {}", logical.trim());
            warnings.push(Warning { message, lines: Lines { first: line, last: line } });
        }
        if logical.trim().is_empty() {
            continue;
        }
        let mut heredocs = Vec::new();
        if super::instruction::takes_heredocs(&logical) && logical.contains("<<") {
            heredocs = heredoc::in_line(&logical).map_err(|message| Error::new(message, place))?;
            for document in &mut heredocs {
                let (content, after) = heredoc::body(&physical, at, document)
                    .ok_or_else(|| Error::new("unterminated heredoc", Lines { last: physical.len(), ..place }))?;
                document.content = content;
                at = after;
            }
            place.last = at;
        }
        lines.push(Logical { text: logical, heredocs, lines: place });
    }
    if lines.is_empty() {
        return Err(Error::new("file with no instructions", Lines { first: at.max(1), last: at.max(1) }));
    }
    Ok(Taken { directives, lines, warnings })
}

/// Directives, and how many lines they take.
fn directives(physical: &[&str]) -> Result<(Directives, usize), Error> {
    let mut found = Directives::default();
    let mut seen: Vec<&'static str> = Vec::new();
    for (at, line) in physical.iter().enumerate() {
        let place = Lines { first: at + 1, last: at + 1 };
        let line = trim_newline(line).trim_start();
        let Some((name, value)) = line.strip_prefix('#').and_then(|rest| rest.split_once('=')) else {
            return Ok((found, at));
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        let Some(name) = ["escape", "syntax", "check"].into_iter().find(|known| *known == name) else {
            return Ok((found, at));
        };
        if value.is_empty() {
            return Ok((found, at));
        }
        if seen.contains(&name) {
            return Err(Error::new(format!("only one {name} parser directive can be used"), place));
        }
        seen.push(name);
        match name {
            "escape" => {
                found.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        return Err(Error::new(
                            format!("invalid escape token '{other}' does not match ` or \\"),
                            place,
                        ));
                    }
                };
            }
            "syntax" => found.syntax = value.split(' ').next().map(str::to_owned),
            _ => found.check = Some(value.to_owned()),
        }
    }
    Ok((found, physical.len()))
}

fn trim_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line without the escape character that continues it, and whether it goes on.
fn without_continuation(line: &str, escape: char) -> (&str, bool) {
    let Some(before) = line.trim_end_matches([' ', '\t']).strip_suffix(escape) else {
        return (line, false);
    };
    // An escaped escape character ends the line.
    if before.ends_with(escape) { (line, false) } else { (before, true) }
}
