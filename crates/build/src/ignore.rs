//! `.dockerignore`: which paths of a context do not count.
//!
//! The last line that matches a path, or a directory above it, decides; a line that begins with `!` takes the path back in.
//! `*` and `?` stop at `/`, `**` does not.
//!
//! Specification: <https://docs.docker.com/build/concepts/context/#dockerignore-files>.

/// A file has no more patterns than this.
const MOST: usize = 10_000;
/// A pattern is not longer than this, in bytes.
const LONGEST: usize = 4096;

/// What is wrong with a file of patterns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}: {pattern:?}")]
pub struct Error {
    /// The line, counted from 1.
    pub line: usize,
    /// The pattern on it.
    pub pattern: String,
    /// What is wrong.
    pub reason: &'static str,
}

/// Patterns in the order of their lines.
#[derive(Clone, Debug, Default)]
pub struct Ignore(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    back_in: bool,
    pattern: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// This character.
    Just(char),
    /// One character that is no `/`.
    AnyOne,
    /// Characters that are no `/`.
    InName,
    /// `**` at the end: anything.
    Rest,
    /// `**/`: directories, or none.
    Directories,
    /// `[a-z]`, `[^a-z]`.
    Class { other: bool, ranges: Vec<(char, char)> },
}

impl Ignore {
    /// Reads the lines of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        Self::rules(lines.map(|(at, line)| (at + 1, line.trim())))
    }

    /// Makes one of patterns as `--exclude` gives them.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        Self::rules(patterns.into_iter().enumerate().map(|(at, pattern)| (at + 1, pattern)))
    }

    fn rules<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, Error> {
        let mut rules = Vec::new();
        for (line, written) in lines.filter(|(_, written)| !written.is_empty()) {
            let error = |reason| Error { line, pattern: written.to_owned(), reason };
            let (rest, back_in) = written.strip_prefix('!').map_or((written, false), |rest| (rest.trim(), true));
            if back_in && rest.is_empty() {
                return Err(error("an exclamation mark without a pattern"));
            }
            if written.len() > LONGEST {
                return Err(error("the pattern is too long"));
            }
            if rules.len() == MOST {
                return Err(error("there are too many patterns"));
            }
            let path = clean(rest);
            if path == "." {
                continue;
            }
            rules.push(Rule { back_in, pattern: tokens(&path).ok_or_else(|| error("syntax error in pattern"))? });
        }
        Ok(Self(rules))
    }

    /// Whether a path does not count: relative to the context, parts divided by `/`, without `.` and `..`.
    pub fn ignores(&self, path: &str) -> bool {
        let hits = |rule: &&Rule| prefixes(path).any(|prefix| matches(&rule.pattern, prefix));
        self.0.iter().rev().find(hits).is_some_and(|rule| !rule.back_in)
    }

    /// Whether a later line may take back in what is below a directory that does not count; if not, it need not be looked into.
    pub fn takes_back(&self) -> bool {
        self.0.iter().any(|rule| rule.back_in)
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The path and each directory above it, the nearest last.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

/// The path in its shortest form; `.` for nothing.
fn clean(path: &str) -> String {
    Some(crate::path::clean(path)).filter(|path| !path.is_empty()).unwrap_or_else(|| ".".to_owned())
}

fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let (mut out, mut rest) = (Vec::new(), pattern.chars().peekable());
    while let Some(c) = rest.next() {
        out.push(match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_none() { Token::Rest } else { Token::Directories }
            }
            '*' => Token::InName,
            '?' => Token::AnyOne,
            '\\' => Token::Just(rest.next()?),
            '[' => {
                let other = rest.next_if_eq(&'^').is_some();
                let (mut ranges, mut closed) = (Vec::new(), false);
                while let Some(mut from) = rest.next() {
                    if from == ']' && !ranges.is_empty() {
                        closed = true;
                        break;
                    }
                    if from == '\\' {
                        from = rest.next()?;
                    }
                    let mut to = from;
                    if rest.next_if_eq(&'-').is_some() {
                        to = rest.next()?;
                        if to == '\\' {
                            to = rest.next()?;
                        }
                    }
                    ranges.push((from, to));
                }
                if !closed || ranges.iter().any(|(from, to)| from > to) {
                    return None;
                }
                Token::Class { other, ranges }
            }
            c => Token::Just(c),
        });
    }
    Some(out)
}

/// Whether the pattern is the whole path. Time is the product of both lengths: places reached are a set.
fn matches(pattern: &[Token], path: &str) -> bool {
    let path: Vec<char> = path.chars().collect();
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for token in pattern {
        let mut next = vec![false; path.len() + 1];
        // Whether an earlier place reaches forward to here.
        let (mut within, mut anywhere) = (false, false);
        for at in 0..=path.len() {
            let before = at.checked_sub(1).map(|before| (reached[before], path[before]));
            within = reached[at] || (within && before.is_some_and(|(_, c)| c != '/'));
            next[at] = match token {
                Token::InName => within,
                Token::Rest => anywhere || reached[at],
                Token::Directories => reached[at] || (anywhere && before.is_some_and(|(_, c)| c == '/')),
                Token::Just(wanted) => before.is_some_and(|(here, c)| here && c == *wanted),
                Token::AnyOne => before.is_some_and(|(here, c)| here && c != '/'),
                Token::Class { other, ranges } => before.is_some_and(|(here, c)| {
                    here && c != '/' && ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *other
                }),
            };
            anywhere |= reached[at];
        }
        reached = next;
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests;
