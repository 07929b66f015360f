//! Regular expressions of schemas: Go's syntax (RE2), matched by the `regex` crate.
//!
//! Where the two differ the expression is rewritten: `\d`, `\w`, `\s` and `\b` are ASCII in Go; `[` within a class, `&&`,
//! `--` and `~~` have no meaning in Go's classes; a `{` that begins no repetition stands for itself; `\Q...\E` quotes.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// A pattern that is compiled when it is first needed.
#[derive(Debug)]
pub(super) struct Pattern {
    source: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

/// How much memory one compiled pattern may take.
const MAX_BYTES: usize = 1 << 20;
/// How long a pattern may be, in bytes.
const MAX_LENGTH: usize = 16 << 10;

impl Pattern {
    pub(super) fn new(source: &str) -> Pattern {
        Pattern { source: source.into(), compiled: OnceLock::new() }
    }

    /// As written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the text has a match; nothing matches a pattern that is not valid.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.compiled.get_or_init(|| compile(&self.source).ok()).as_ref().is_some_and(|r| r.is_match(text))
    }
}

/// Compiles Go's syntax.
pub(super) fn compile(source: &str) -> Result<Regex, String> {
    if source.len() > MAX_LENGTH {
        return Err(format!("error parsing regexp: expression is longer than {MAX_LENGTH} bytes"));
    }
    let built = RegexBuilder::new(&translated(source)).size_limit(MAX_BYTES).dfa_size_limit(MAX_BYTES).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("error parsing regexp: expression nests or repeats too much: `{source}`")
        }
        regex::Error::Syntax(text) => format!("error parsing regexp: {}", reason(source, text.trim_end())),
        _ => format!("error parsing regexp: invalid: `{source}`"),
    })
}

/// The fault in Go's words, where they are known.
fn reason(source: &str, text: &str) -> String {
    let last = text.lines().last().unwrap_or_default();
    let from_bracket = source.rfind('[').map_or(source, |i| &source[i..]);
    match last.strip_prefix("error: ").unwrap_or(last) {
        "unclosed character class" => format!("missing closing ]: `{from_bracket}`"),
        "unclosed group" => format!("missing closing ): `{source}`"),
        "unopened group" => format!("unexpected ): `{source}`"),
        "repetition operator missing expression" => {
            let at = source.find(['*', '+', '?']).map_or("", |i| &source[i..=i]);
            format!("missing argument to repetition operator: `{at}`")
        }
        other => format!("{other}: `{source}`"),
    }
}

fn translated(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 8);
    let mut rest = source;
    let mut class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if c == '\\' {
            rest = escape(after, class, &mut out);
            continue;
        }
        match c {
            '[' if !class => {
                class = true;
                out.push('[');
                rest = after;
                if let Some(r) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = r;
                }
                // A bracket that comes first stands for itself.
                if let Some(r) = rest.strip_prefix(']') {
                    out.push_str("\\]");
                    rest = r;
                }
                continue;
            }
            '[' => {
                // A named class such as [:alpha:], or a plain bracket.
                match after.find(":]").filter(|_| after.starts_with(':')) {
                    Some(end) => {
                        out.push('[');
                        out.push_str(&after[..end + 2]);
                        rest = &after[end + 2..];
                        continue;
                    }
                    None => out.push_str("\\["),
                }
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            '-' if class && after.starts_with('-') => out.push_str("\\-"),
            '{' if !class => match repetition(after) {
                Some(length) => {
                    out.push('{');
                    out.push_str(&after[..length]);
                    rest = &after[length..];
                    continue;
                }
                None => out.push_str("\\{"),
            },
            '}' if !class => out.push_str("\\}"),
            other => out.push(other),
        }
        rest = after;
    }
    out
}

/// How many bytes of what follows an opening brace make a repetition: `n}`, `n,}` or `n,m}`.
fn repetition(after: &str) -> Option<usize> {
    // Go allows no number beyond 1000.
    let end = after.bytes().take(12).position(|b| b == b'}')?;
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let (least, most) = after[..end].split_once(',').unwrap_or((&after[..end], ""));
    (!least.is_empty() && digits(least) && digits(most)).then_some(end + 1)
}

/// Writes an escape; the backslash was read. Returns what is left.
fn escape<'s>(after: &'s str, class: bool, out: &mut String) -> &'s str {
    let Some(c) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let rest = &after[c.len_utf8()..];
    let classes = [('d', "0-9"), ('w', "0-9A-Za-z_"), ('s', "\\t\\n\\x0c\\r ")];
    if let Some((name, members)) = classes.iter().find(|(name, _)| c.eq_ignore_ascii_case(name)) {
        match (class, c == *name) {
            (true, true) => out.push_str(members),
            (false, true) => out.push_str(&format!("[{members}]")),
            (_, false) => out.push_str(&format!("[^{members}]")),
        }
        return rest;
    }
    match c {
        'Q' => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return rest;
        }
        'b' | 'B' => out.push_str(&format!("(?-u:\\{c})")),
        // The unicode class of one letter, or braces.
        'p' | 'P' => {
            let end = if rest.starts_with('{') {
                rest.find('}').map_or(rest.len(), |i| i + 1)
            } else {
                rest.chars().next().map_or(0, char::len_utf8)
            };
            out.push('\\');
            out.push(c);
            out.push_str(&rest[..end]);
            return &rest[end..];
        }
        'x' if rest.starts_with('{') => {
            let end = rest.find('}').map_or(rest.len(), |i| i + 1);
            out.push_str("\\x");
            out.push_str(&rest[..end]);
            return &rest[end..];
        }
        'C' => out.push('.'),
        '_' => out.push('_'),
        other => {
            out.push('\\');
            out.push(other);
        }
    }
    rest
}
