//! Variables in a Dockerfile's words: `$name`, `${name}` and its modifiers, quotes, escapes.
//!
//! | form | value |
//! |---|---|
//! | `${name:-word}`, `${name-word}` | `word` where the variable is unset (or empty, with the colon) |
//! | `${name:+word}`, `${name+word}` | `word` where it is set (and not empty), else nothing |
//! | `${name:?word}`, `${name?word}` | an error saying `word` where it is unset (or empty) |
//! | `${name#pattern}`, `##` | without the shortest, longest prefix that matches |
//! | `${name%pattern}`, `%%` | without the shortest, longest suffix that matches |
//! | `${name/pattern/word}`, `//` | with the first match, all matches replaced |
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#environment-replacement>.

use crate::pattern::Wildcard;

/// How deep substitutions may stand within one another.
const DEEPEST: usize = 32;
/// How long a word may become, in bytes.
const LONGEST: usize = 1 << 20;

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {reason}")]
pub struct Error {
    /// The word as written.
    pub word: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What becomes of quotes, escapes and unset variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Quotes and escapes are resolved, unset variables are empty: the arguments of instructions.
    Plain,
    /// Quotes mean nothing, unset variables are empty: the text of here-documents.
    Text,
    /// As plain, but unset variables stay as written.
    Unquoted,
    /// Quotes and unset variables stay as written.
    Quoted,
    /// Quotes, escapes and unset variables stay as written: finding here-documents.
    Raw,
}

impl Mode {
    fn keeps_quotes(self) -> bool {
        matches!(self, Self::Quoted | Self::Raw)
    }

    fn keeps_unset(self) -> bool {
        matches!(self, Self::Unquoted | Self::Quoted | Self::Raw)
    }
}

/// A variable's value; none where it is unset.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands one word; blanks in it stay.
pub fn word(text: &str, escape: char, mode: Mode, lookup: Lookup<'_>) -> Result<String, Error> {
    Ok(expand(text, escape, mode, lookup)?.text)
}

/// Expands, and splits the outcome at blanks that are not quoted.
pub fn words(text: &str, escape: char, mode: Mode, lookup: Lookup<'_>) -> Result<Vec<String>, Error> {
    Ok(expand(text, escape, mode, lookup)?.into_words())
}

fn expand(text: &str, escape: char, mode: Mode, lookup: Lookup<'_>) -> Result<Expanded, Error> {
    let mut scanner =
        Scanner { rest: text.chars().peekable(), escape, mode, raw_escapes: mode == Mode::Raw, lookup, depth: 0 };
    scanner.until(None, false).map_err(|reason| Error { word: text.to_owned(), reason })
}

/// Text, and the same text in words.
#[derive(Default)]
struct Expanded {
    text: String,
    words: Vec<String>,
    open: Option<String>,
}

impl Expanded {
    /// Adds what may end a word.
    fn loose(&mut self, c: char) {
        self.text.push(c);
        if c.is_whitespace() {
            self.words.extend(self.open.take().filter(|word| !word.is_empty()));
        } else {
            self.open.get_or_insert_default().push(c);
        }
    }

    /// Adds what belongs to its word whatever it is.
    fn tight(&mut self, text: &str) {
        self.text.push_str(text);
        self.open.get_or_insert_default().push_str(text);
    }

    fn into_words(mut self) -> Vec<String> {
        self.words.extend(self.open.take().filter(|word| !word.is_empty()));
        self.words
    }
}

struct Scanner<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    escape: char,
    mode: Mode,
    raw_escapes: bool,
    lookup: Lookup<'a>,
    depth: usize,
}

impl Scanner<'_> {
    /// Reads to the character `stop`, which is taken, or to the end. In a pattern literal escapes are doubled, so that they can be
    /// told from those that quote.
    fn until(&mut self, stop: Option<char>, pattern: bool) -> Result<Expanded, String> {
        let mut out = Expanded::default();
        while let Some(&c) = self.rest.peek() {
            if out.text.len() > LONGEST {
                return Err(format!("the word becomes longer than {LONGEST} bytes"));
            }
            match c {
                c if Some(c) == stop => {
                    self.rest.next();
                    return Ok(out);
                }
                '\'' if self.mode != Mode::Text => out.tight(&self.single_quoted(pattern)?),
                '"' if self.mode != Mode::Text => out.tight(&self.double_quoted(pattern)?),
                '$' => self.variable()?.chars().for_each(|c| out.loose(c)),
                '<' => out.tight(&self.less_than()),
                c if c == self.escape => {
                    self.rest.next();
                    let mut kept = String::new();
                    if self.raw_escapes {
                        kept.push(c);
                    }
                    let escaped = self.rest.next();
                    kept.extend(escaped);
                    out.tight(&kept);
                }
                c => {
                    self.rest.next();
                    out.loose(c);
                }
            }
        }
        match stop {
            Some(stop) => Err(format!("unexpected end of statement while looking for matching {stop}")),
            None => Ok(out),
        }
    }

    fn single_quoted(&mut self, pattern: bool) -> Result<String, String> {
        let mut out: String = self.rest.next().filter(|_| self.mode.keeps_quotes()).into_iter().collect();
        loop {
            match self.rest.next() {
                None => return Err("unexpected end of statement while looking for matching single-quote".to_owned()),
                Some('\'') => {
                    if self.mode.keeps_quotes() {
                        out.push('\'');
                    }
                    return Ok(out);
                }
                Some(c) => {
                    if pattern && c == self.escape {
                        out.push(c);
                    }
                    out.push(c);
                }
            }
        }
    }

    fn double_quoted(&mut self, pattern: bool) -> Result<String, String> {
        let mut out: String = self.rest.next().filter(|_| self.mode.keeps_quotes()).into_iter().collect();
        loop {
            match self.rest.peek().copied() {
                None => return Err("unexpected end of statement while looking for matching double-quote".to_owned()),
                Some('"') => {
                    self.rest.next();
                    if self.mode.keeps_quotes() {
                        out.push('"');
                    }
                    return Ok(out);
                }
                Some('$') => out.push_str(&self.variable()?),
                Some(c) if c == self.escape => {
                    self.rest.next();
                    match self.rest.peek().copied() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            self.rest.next();
                            if self.raw_escapes {
                                out.push(c);
                            }
                            out.push(next);
                        }
                        Some(_) => {
                            if self.raw_escapes && (!self.mode.keeps_quotes() || pattern) {
                                out.push(c);
                            }
                            out.push(c);
                        }
                    }
                }
                Some(c) => {
                    self.rest.next();
                    out.push(c);
                }
            }
            if out.len() > LONGEST {
                return Err(format!("the word becomes longer than {LONGEST} bytes"));
            }
        }
    }

    /// `<<` and the blanks after it stay one word with what follows.
    fn less_than(&mut self) -> String {
        self.rest.next();
        let mut out = "<".to_owned();
        if self.rest.next_if_eq(&'<').is_some() {
            out.push('<');
            while let Some(c) = self.rest.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                out.push(c);
            }
        }
        out
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek().copied() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
            }
            Some(c) if "@*#?-$!".contains(c) => name.extend(self.rest.next()),
            _ => {
                while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }

    fn variable(&mut self) -> Result<String, String> {
        self.rest.next();
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match (self.lookup)(&name) {
                None if self.mode.keeps_unset() => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.rest.next();
        match self.rest.peek() {
            None => return Err("syntax error: missing '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("substitutions stand more than {DEEPEST} deep in one another"));
        }
        let name = self.name();
        let value = (self.lookup)(&name);
        let out = self.modified(&name, value);
        self.depth -= 1;
        out
    }

    /// What follows the name within `${name...}`.
    fn modified(&mut self, name: &str, value: Option<String>) -> Result<String, String> {
        let Some(first) = self.rest.next() else { return Err("syntax error: missing '}'".to_owned()) };
        let keeps = value.is_none() && self.mode.keeps_unset();
        match first {
            '}' if keeps => Ok(format!("${{{name}}}")),
            '}' => Ok(value.unwrap_or_default()),
            ':' | '-' | '+' | '?' => {
                let colon = first == ':';
                let modifier = if colon { self.rest.next() } else { Some(first) };
                let Some(modifier @ ('-' | '+' | '?')) = modifier else {
                    let shown: String = [Some(':'), modifier].into_iter().flatten().collect();
                    return Err(format!("unsupported modifier ({shown}) in substitution"));
                };
                let word = self.part('}', false, false)?;
                if keeps {
                    let colon = if colon { ":" } else { "" };
                    return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
                }
                let usable = value.filter(|value| !(colon && value.is_empty()));
                match (modifier, usable) {
                    ('-', None) | ('+', Some(_)) => Ok(word),
                    ('-' | '?', Some(value)) => Ok(value),
                    ('+', None) => Ok(String::new()),
                    (_, _) if !word.is_empty() => Err(format!("{name}: {word}")),
                    (_, _) => {
                        let state = if colon && (self.lookup)(name).is_some() { "empty" } else { "unset" };
                        Err(format!("{name}: is not allowed to be {state}"))
                    }
                }
            }
            '#' | '%' => {
                let word = self.part('}', true, true)?;
                if keeps {
                    return Ok(format!("${{{name}{first}{word}}}"));
                }
                let (greedy, pattern) = word.strip_prefix(first).map_or((false, word.as_str()), |rest| (true, rest));
                let pattern = Wildcard::parse(pattern)
                    .map_err(|reason| format!("invalid pattern ({pattern}) in substitution: {reason}"))?;
                let value = value.unwrap_or_default();
                let trimmed = if first == '#' {
                    pattern.trim_prefix(&value, greedy)
                } else {
                    pattern.trim_suffix(&value, greedy)
                };
                trimmed.ok_or_else(|| format!("matching {word} against the value of {name} takes too long"))
            }
            '/' => {
                let all = self.rest.next_if_eq(&'/').is_some();
                let pattern = self.part('/', true, true).map_err(|error| match error.as_str() {
                    "syntax error: missing '}'" => "syntax error: missing '/' in ${}".to_owned(),
                    _ => error,
                })?;
                let replacement = self.part('}', true, false)?;
                if keeps {
                    return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
                }
                let pattern = Wildcard::parse(&pattern)
                    .map_err(|reason| format!("invalid pattern ({pattern}) in substitution: {reason}"))?;
                pattern.replace(&value.unwrap_or_default(), &replacement, all, LONGEST).ok_or_else(|| {
                    format!("replacing in the value of {name} takes too long, or makes more than {LONGEST} bytes")
                })
            }
            other => Err(format!("unsupported modifier ({other}) in substitution")),
        }
    }

    /// A part of a substitution, up to the character that ends it.
    fn part(&mut self, stop: char, raw_escapes: bool, pattern: bool) -> Result<String, String> {
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let out = self.until(Some(stop), pattern);
        self.raw_escapes = before;
        match out {
            Err(_) if self.rest.peek().is_none() => Err("syntax error: missing '}'".to_owned()),
            out => Ok(out?.text),
        }
    }
}

#[cfg(test)]
mod tests;
