//! Regular expressions, as `java.util.regex` has them.
//!
//! Most are the same here. What is rewritten: possessive and reluctant quantifiers stand as they are; `\Z`, `\h` and `\R` are spelt
//! out; `(?<name>` stays. Backtracking is bounded, so that no pattern runs for ever.

use std::sync::{Mutex, PoisonError};

use fancy_regex::{Captures, Regex, RegexBuilder};

use crate::{
    fault::{Outcome, throw},
    value::text::Text,
};

/// Steps back that a match may take.
const BACKTRACK: usize = 1_000_000;
/// Bytes of a compiled pattern.
const SIZE: usize = 4 << 20;

/// A pattern.
#[derive(Debug)]
pub struct Pattern {
    source: String,
    regex: Regex,
    whole: Regex,
}

impl Pattern {
    /// Compiles one.
    pub fn new(source: &str) -> Outcome<Self> {
        if source.len() > 64 << 10 {
            return Err(throw("PatternSyntaxException", "a pattern has at most 65536 characters"));
        }
        let text = rewritten(source);
        let build = |text: &str| {
            RegexBuilder::new(text)
                .backtrack_limit(BACKTRACK)
                .delegate_size_limit(SIZE)
                .build()
                .map_err(|error| throw("PatternSyntaxException", format!("{error} in the pattern {source:?}")))
        };
        let regex = build(&text)?;
        let whole = build(&format!("\\A(?:{text})\\z"))?;
        Ok(Self { source: source.to_string(), regex, whole })
    }

    /// As written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a whole text fits.
    pub fn fits(&self, text: &str) -> Outcome<bool> {
        self.whole.is_match(text).map_err(|error| self.failed(error))
    }

    /// The first place at or after a byte where it fits: the bytes of each group.
    pub fn find(&self, text: &str, from: usize) -> Outcome<Option<Vec<Option<(usize, usize)>>>> {
        let found = self.regex.captures_from_pos(text, from).map_err(|error| self.failed(error))?;
        Ok(found.map(|found| groups(&found)))
    }

    /// The groups where a whole text fits.
    pub fn find_whole(&self, text: &str) -> Outcome<Option<Vec<Option<(usize, usize)>>>> {
        let found = self.whole.captures(text).map_err(|error| self.failed(error))?;
        Ok(found.map(|found| groups(&found)))
    }

    /// All places where it fits, one after another; `most` at most.
    pub fn find_all(&self, text: &str, most: usize) -> Outcome<Vec<Vec<Option<(usize, usize)>>>> {
        let mut all = Vec::new();
        let mut from = 0;
        while from <= text.len() && all.len() < most {
            let Some(groups) = self.find(text, from)? else { break };
            let (start, end) = groups[0].unwrap_or((from, from));
            from = if end > start { end } else { end + text[end..].chars().next().map_or(1, char::len_utf8) };
            all.push(groups);
        }
        Ok(all)
    }

    /// The number of a group with a name.
    pub fn group(&self, name: &str) -> Option<usize> {
        self.regex.capture_names().position(|known| known == Some(name))
    }

    /// How many groups there are, the whole apart.
    pub fn groups(&self) -> usize {
        self.regex.captures_len().saturating_sub(1)
    }

    fn failed(&self, error: fancy_regex::Error) -> crate::fault::Stop {
        throw("IllegalArgumentException", format!("the pattern {:?} does not come to an end: {error}", self.source))
    }
}

fn groups(found: &Captures<'_, str>) -> Vec<Option<(usize, usize)>> {
    (0..found.len()).map(|group| found.get(group).map(|found| (found.start(), found.end()))).collect()
}

/// The same pattern in this library's words.
fn rewritten(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut chars = source.chars().peekable();
    let mut class = 0usize;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Q') => {
                    let mut quoted = String::new();
                    for c in chars.by_ref() {
                        quoted.push(c);
                        if quoted.ends_with("\\E") {
                            quoted.truncate(quoted.len() - 2);
                            break;
                        }
                    }
                    out.push_str(&fancy_regex::escape(&quoted));
                }
                Some('Z') => out.push_str("(?=\\n?\\z)"),
                Some('h') if class == 0 => out.push_str("[ \\t]"),
                Some('R') if class == 0 => out.push_str("(?:\\r\\n|[\\n\\r])"),
                // What needs no escape has one often.
                Some(c) if !c.is_ascii_alphanumeric() && c.is_ascii() => {
                    if "\\.+*?()|[]{}^$#&-~/ ".contains(c) && c != '/' && c != ' ' {
                        out.push('\\');
                    }
                    out.push(c);
                }
                Some(c) => {
                    out.push('\\');
                    out.push(c);
                }
                None => out.push('\\'),
            },
            '[' => {
                // A bracket within a class nests, as it does here.
                class += 1;
                out.push(c);
            }
            ']' => {
                class = class.saturating_sub(1);
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// A text, and where in it a pattern fits.
#[derive(Debug)]
pub struct Matcher {
    /// The pattern.
    pub pattern: std::sync::Arc<Pattern>,
    /// The text.
    pub text: Text,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: usize,
    groups: Option<Vec<Option<(usize, usize)>>>,
}

impl Matcher {
    /// A matcher that has found nothing yet.
    pub fn new(pattern: std::sync::Arc<Pattern>, text: Text) -> Self {
        Self { pattern, text, state: Mutex::default() }
    }

    /// The next place.
    pub fn next(&self) -> Outcome<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next > self.text.len() {
            state.groups = None;
            return Ok(false);
        }
        state.groups = self.pattern.find(&self.text, state.next)?;
        if let Some(Some((start, end))) = state.groups.as_ref().map(|groups| groups[0]) {
            let step = self.text[end..].chars().next().map_or(1, char::len_utf8);
            state.next = if end > start { end } else { end + step };
        }
        Ok(state.groups.is_some())
    }

    /// Whether all of the text fits.
    pub fn whole(&self) -> Outcome<bool> {
        let groups = self.pattern.find_whole(&self.text)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.groups = groups;
        Ok(state.groups.is_some())
    }

    /// Begins anew.
    pub fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// A group of the place that was found last: `Err` where none was, or where there is no such group.
    pub fn group(&self, group: usize) -> Outcome<Option<String>> {
        Ok(self.place(group)?.map(|(start, end)| self.text[start..end].to_string()))
    }

    /// The bytes of a group.
    pub fn place(&self, group: usize) -> Outcome<Option<(usize, usize)>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(groups) = &state.groups else { return Err(throw("IllegalStateException", "No match found")) };
        match groups.get(group) {
            Some(place) => Ok(*place),
            None => Err(throw("IndexOutOfBoundsException", format!("No group {group}"))),
        }
    }
}
