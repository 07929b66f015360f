//! A script's text, places in it, and errors that show the line.

use std::fmt;

/// A stretch of text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: u32,
    /// The byte after its last.
    pub end: u32,
}

impl Span {
    /// From the beginning of one to the end of the other.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start, end: other.end.max(self.start) }
    }
}

/// A place as people count: from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// Text with a name.
#[derive(Clone, Debug)]
pub struct Source {
    /// What errors call it.
    pub name: String,
    text: String,
    lines: Vec<u32>,
}

impl Source {
    /// Text of at most 4 GiB; parsing bounds it further.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let mut lines = vec![0];
        lines.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at as u32 + 1));
        Self { name: name.into(), text, lines }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What a span covers; empty where it lies outside.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Where a byte is.
    pub fn position(&self, at: u32) -> Position {
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let start = self.lines[line - 1] as usize;
        let end = (at as usize).min(self.text.len());
        let column = self.text.get(start..end).map_or(0, |text| text.chars().count()) + 1;
        Position { line, column }
    }

    /// The text of a line, without its end; empty where there is none.
    pub fn line(&self, line: usize) -> &str {
        let Some(start) = line.checked_sub(1).and_then(|line| self.lines.get(line)) else { return "" };
        let end = self.lines.get(line).map_or(self.text.len(), |next| *next as usize);
        self.text[*start as usize..end].trim_end_matches(['\n', '\r'])
    }

    /// An error at a place in this text.
    pub fn error(&self, span: Span, message: impl Into<String>) -> Error {
        let position = self.position(span.start);
        let line: String = self.line(position.line).chars().take(Error::WIDTH).collect();
        Error { name: self.name.clone(), message: message.into(), position, line }
    }
}

/// What is wrong with a text, and where.
///
/// ```text
/// Jenkinsfile: 3: unexpected token: } @ line 3, column 7.
///    echo (
///          ^
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// The text's name.
    pub name: String,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub position: Position,
    /// The line that it is in, cut where it is long.
    pub line: String,
}

impl Error {
    const WIDTH: usize = 400;
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        writeln!(out, "{}: {line}: {} @ line {line}, column {column}.", self.name, self.message)?;
        let shown = self.line.trim_start();
        let cut = self.line.chars().count() - shown.chars().count();
        writeln!(out, "   {shown}")?;
        write!(out, "   {}^", " ".repeat((column - 1).saturating_sub(cut).min(Error::WIDTH)))
    }
}
