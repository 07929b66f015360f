//! Here-documents: `RUN <<EOF`, `COPY <<-"a" <<b /dest/`.
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#here-documents>.

use crate::expand::{self, Mode};

/// A here-document as it stands in a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it; a file's name for `COPY` and `ADD`.
    pub name: String,
    /// The number before `<<`, 0 where there is none.
    pub descriptor: u32,
    /// Whether variables in it are expanded: not where any of the word was quoted.
    pub expand: bool,
    /// Whether leading tabs are dropped (`<<-`).
    pub chomp: bool,
    /// The lines, as written.
    pub content: String,
}

impl Heredoc {
    /// The lines as a file gets them: without leading tabs where `<<-` asks for that.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// The here-documents that a logical line begins, without their contents.
///
/// A word that begins with `<<` is one, as in BuildKit; not so within `$((...))`, where it shifts a number and BuildKit looks in vain
/// for an end.
pub(super) fn in_line(line: &str) -> Result<Vec<Heredoc>, String> {
    // A line whose quotes do not end belongs to the shell, which will say so.
    let Ok(words) = expand::words(line, '\\', Mode::Raw, &|_| None) else { return Ok(Vec::new()) };
    let mut open = 0;
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let calculates = open > 0 && words[at..].iter().any(|later| arithmetic(later, open) < open);
        if !calculates && let Some(document) = parse(word)? {
            found.push(document);
        }
        open = arithmetic(word, open);
    }
    Ok(found)
}

/// How many arithmetic expressions are open after a word, when `open` were before it.
fn arithmetic(word: &str, mut open: usize) -> usize {
    let (mut rest, mut quote) = (word.chars().peekable(), None);
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => drop(rest.next()),
            (None, '\'' | '"') => quote = Some(c),
            (Some(begun), c) if begun == c => quote = None,
            (Some(_), _) => {}
            (None, '(') if rest.next_if_eq(&'(').is_some() => open += 1,
            (None, ')') if open > 0 && rest.next_if_eq(&')').is_some() => open -= 1,
            (None, _) => {}
        }
    }
    open
}

/// What follows on the lines from `at` to the word that ends it, and the line after that; none where it does not end.
pub(super) fn body(physical: &[&str], at: usize, document: &Heredoc) -> Option<(String, usize)> {
    let mut content = String::new();
    for (index, line) in physical.iter().enumerate().skip(at) {
        let mut end = line.trim_end_matches(['\r', '\n']);
        if document.chomp {
            end = end.trim_start_matches('\t');
        }
        if end == document.name {
            return Some((content, index + 1));
        }
        content.push_str(line);
    }
    None
}

/// Reads `3<<-"EOF"`; none where the word is no here-document.
pub(super) fn parse(word: &str) -> Result<Option<Heredoc>, String> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Some(rest) = word[digits..].strip_prefix("<<") else { return Ok(None) };
    let (rest, chomp) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let plain = expand::words(rest, '\\', Mode::Unquoted, &|_| None).map_err(|error| error.to_string())?;
    let [name] = plain.as_slice() else { return Ok(None) };
    let raw = expand::words(rest, '\\', Mode::Quoted, &|_| None).map_err(|error| error.to_string())?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = raw.len() == 1 && quotes(&raw[0]) == quotes(name);
    let descriptor =
        if digits == 0 { 0 } else { word[..digits].parse().map_err(|_| format!("{word}: no such file descriptor"))? };
    Ok(Some(Heredoc { name: name.clone(), descriptor, expand, chomp, content: String::new() }))
}
