//! Regular expressions as RE2 reads them, matched against whole values.
//!
//! The engine is the `regex` crate, which is built on the same ideas; what the two read differently is rewritten first:
//! `\Q..\E`, `\z`, braces that repeat nothing, and brackets and doubled signs within classes, which Rust takes for set
//! operations. Lists of plain words, by far the most common patterns, are compared without an engine.
//! See <https://github.com/google/re2/wiki/Syntax>.

use regex::{Regex, RegexBuilder};

/// Largest compiled program, in bytes.
const PROGRAM_LIMIT: usize = 10 << 20;

/// A pattern that matches whole values; a dot matches every character.
#[derive(Clone, Debug)]
pub struct Pattern {
    matching: Matching,
}

#[derive(Clone, Debug)]
enum Matching {
    /// One of these values.
    Words(Vec<String>),
    /// Begins so (`abc.*`).
    Prefix(String),
    /// Not empty (`.+`).
    Something,
    /// Whatever (`.*`).
    Anything,
    Engine(Regex),
}

impl Pattern {
    /// Compiles a pattern; the error is what Prometheus says of it, near enough.
    pub fn new(text: &str) -> Result<Self, String> {
        Ok(Self { matching: simple(text).map_or_else(|| engine(text).map(Matching::Engine), Ok)? })
    }

    /// Whether all of `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        match &self.matching {
            Matching::Words(words) => words.iter().any(|word| word == value),
            Matching::Prefix(prefix) => value.starts_with(prefix.as_str()),
            Matching::Something => !value.is_empty(),
            Matching::Anything => true,
            Matching::Engine(regex) => regex.is_match(value),
        }
    }

    /// The values that match, where they are few and known; storage looks them up instead of trying each.
    pub fn words(&self) -> Option<&[String]> {
        match &self.matching {
            Matching::Words(words) => Some(words),
            _ => None,
        }
    }

    /// What every match begins with.
    pub fn prefix(&self) -> &str {
        match &self.matching {
            Matching::Prefix(prefix) => prefix,
            _ => "",
        }
    }
}

/// An anchored regular expression, for replacing in whole values.
pub fn engine(text: &str) -> Result<Regex, String> {
    let translated = translate(text);
    // Alone first: a pattern such as `a)(b` must not become right by being wrapped.
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(PROGRAM_LIMIT).build();
    build(&translated)
        .and_then(|_| build(&format!("^(?s:{translated})$")))
        .map_err(|error| format!("error parsing regexp: {}", reason(&error, text)))
}

fn reason(error: &regex::Error, text: &str) -> String {
    let message = error.to_string();
    let last = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let known = match last {
        "unclosed group" => "missing closing ): ",
        "unopened group" => "unexpected ): ",
        "unclosed character class" => "missing closing ]: ",
        "repetition operator missing expression" => "missing argument to repetition operator: ",
        "incomplete escape sequence, reached end of pattern prematurely" => "trailing backslash at end of expression: ",
        "unrecognized escape sequence" => "invalid escape sequence: ",
        "invalid character class range, the start must be <= the end" => "invalid character class range: ",
        other => return format!("{other}: `{text}`"),
    };
    format!("{known}`{text}`")
}

/// A pattern that needs no engine.
fn simple(text: &str) -> Option<Matching> {
    let special = |c: char| r"\.+*?()|[]{}^$".contains(c);
    match text {
        ".*" => return Some(Matching::Anything),
        ".+" => return Some(Matching::Something),
        _ => {}
    }
    if let Some(prefix) = text.strip_suffix(".*")
        && !prefix.contains(special)
    {
        return Some(Matching::Prefix(prefix.to_owned()));
    }
    let body = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    let plain = body.split('|').all(|word| !word.contains(special));
    plain.then(|| Matching::Words(body.split('|').map(str::to_owned).collect()))
}

/// Rewrites what Rust's syntax takes otherwise than RE2's.
fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Q') => {
                    let rest = chars.as_str();
                    let (quoted, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                    out.push_str(&regex::escape(quoted));
                    chars = after.chars();
                }
                Some('C') => out.push_str("(?s:.)"),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            '[' => {
                let rest = class(chars.as_str(), &mut out);
                chars = rest.chars();
            }
            '{' if !repeats(chars.as_str()) => out.push_str("\\{"),
            c => out.push(c),
        }
    }
    out
}

/// Whether what follows `{` is a count.
fn repeats(rest: &str) -> bool {
    let Some((count, _)) = rest.split_once('}') else { return false };
    let (least, most) = count.split_once(',').unwrap_or((count, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

/// Rewrites a class whose `[` has been taken; returns what follows it.
fn class<'a>(text: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    if let Some(after) = rest.strip_prefix(']') {
        out.push_str("\\]");
        rest = after;
    }
    loop {
        let mut chars = rest.chars();
        let Some(c) = chars.next() else { return rest };
        match c {
            ']' => {
                out.push(']');
                return chars.as_str();
            }
            '\\' => {
                out.push('\\');
                out.extend(chars.next());
            }
            '[' => match rest.find(":]") {
                Some(end) if rest.starts_with("[:") => {
                    out.push_str(&rest[..end + 2]);
                    chars = rest[end + 2..].chars();
                }
                _ => out.push_str("\\["),
            },
            '&' | '~' => out.extend(['\\', c]),
            '-' if chars.as_str().starts_with('-') => out.push_str("\\-"),
            c => out.push(c),
        }
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_values() {
        for (pattern, yes, no) in [
            ("a|b|", &["a", "b", ""][..], &["ab", "c"][..]),
            ("a.*", &["a", "ab", "a\nb"], &["ba", ""]),
            (".+", &["a", "\n"], &[""]),
            ("(foo|bar)", &["foo"], &["(foo"]),
            ("foo.(bar)?", &["foox", "foo\nbar"], &["foo", "fooxbar2"]),
            ("a{,2}", &["a{,2}"], &["aa"]),
            ("a{2}", &["aa"], &["a{2}"]),
            ("[[a]", &["[", "a"], &["b"]),
            ("[a&&b]", &["a", "&", "b"], &["c"]),
            ("[[:digit:]]x", &["1x"], &["x"]),
            (r"\Qa.b\E+", &["a.b", "a.bb"], &["axb"]),
            ("(?i)abc", &["ABC"], &["d"]),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            for value in yes {
                assert!(compiled.matches(value), "{pattern} {value:?}");
            }
            for value in no {
                assert!(!compiled.matches(value), "{pattern} {value:?}");
            }
        }
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for (pattern, error) in [
            ("*", "error parsing regexp: missing argument to repetition operator: `*`"),
            ("a)(b", "error parsing regexp: unexpected ): `a)(b`"),
            ("(a", "error parsing regexp: missing closing ): `(a`"),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap_err(), error);
        }
        assert!(Pattern::new("((a{1000}){1000}){1000}").is_err());
    }
}
