//! Text from values, indented and quoted as Go's `yaml.v2` does it.

use std::fmt::Write;

use super::value::guess;

/// What is printed.
#[derive(Clone, Debug, PartialEq)]
pub enum Print {
    /// A number, a boolean or null.
    Plain(String),
    /// A string, quoted where it must be.
    Text(String),
    /// A list, an item a line.
    List(Vec<Print>),
    /// A list of strings in one line.
    Row(Vec<String>),
    /// Pairs, one a line.
    Map(Vec<(String, Print)>),
}

impl Print {
    /// The text, with a newline at its end.
    pub fn text(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Map(pairs) if !pairs.is_empty() => self.block(&mut out, 0),
            Self::List(items) if !items.is_empty() => self.block(&mut out, 0),
            _ => {
                self.inline(&mut out, 0);
                out.push('\n');
            }
        }
        out
    }

    fn is_block(&self) -> bool {
        match self {
            Self::Map(pairs) => !pairs.is_empty(),
            Self::List(items) => !items.is_empty(),
            _ => false,
        }
    }

    fn inline(&self, out: &mut String, indent: usize) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Text(text) => scalar(text, out, indent),
            Self::Row(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    scalar(item, out, indent);
                }
                out.push(']');
            }
            Self::List(_) => out.push_str("[]"),
            Self::Map(_) => out.push_str("{}"),
        }
    }

    /// Lines at an indentation, of which the first is not indented when `out` already stands there.
    fn block(&self, out: &mut String, indent: usize) {
        match self {
            Self::Map(pairs) => {
                for (i, (key, value)) in pairs.iter().enumerate() {
                    if i > 0 || out.is_empty() || out.ends_with('\n') {
                        pad(out, indent);
                    }
                    scalar(key, out, indent);
                    out.push(':');
                    match value {
                        Self::Map(_) if value.is_block() => {
                            out.push('\n');
                            value.block(out, indent + 2);
                        }
                        Self::List(_) if value.is_block() => {
                            out.push('\n');
                            value.block(out, indent);
                        }
                        _ => {
                            out.push(' ');
                            value.inline(out, indent + 2);
                            out.push('\n');
                        }
                    }
                }
            }
            Self::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    if i > 0 || out.is_empty() || out.ends_with('\n') {
                        pad(out, indent);
                    }
                    out.push_str("- ");
                    if item.is_block() {
                        item.block(out, indent + 2);
                    } else {
                        item.inline(out, indent + 2);
                        out.push('\n');
                    }
                }
            }
            _ => self.inline(out, indent),
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(text: &str, out: &mut String, indent: usize) {
    if text.contains('\n') && !text.chars().any(|c| c.is_control() && c != '\n') && !text.starts_with([' ', '\n']) {
        let trimmed = text.trim_end_matches('\n');
        out.push_str(match text.len() - trimmed.len() {
            0 => "|-",
            1 => "|",
            _ => "|+",
        });
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            out.push('\n');
            if !line.is_empty() {
                pad(out, indent);
                out.push_str(line);
            }
        }
        return;
    }
    let special = text.chars().any(|c| c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}'));
    if special || guess(text) != "str" || is_sexagesimal(text) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() => {
                    let _ = write!(out, "\\x{:02X}", c as u32);
                }
                c => out.push(c),
            }
        }
        out.push('"');
    } else if needs_quotes(text) {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    } else {
        out.push_str(text);
    }
}

/// Whether YAML 1.1 takes a text for a number of base 60, as Go's library tells it: `12:30`, `-1:59.5`.
fn is_sexagesimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let plain = text.strip_prefix(['-', '+']).unwrap_or(text);
    let Some((first, rest)) = plain.split_once(':') else { return false };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let sixtieth = |part: &str| {
        part.len() < 3 && part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u8>().is_ok_and(|value| value < 60)
    };
    digits(first)
        && first.starts_with(|c: char| c.is_ascii_digit())
        && whole.split(':').all(sixtieth)
        && (fraction.is_empty() || digits(fraction))
}

fn needs_quotes(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return true };
    let second = text.chars().nth(1);
    if text.starts_with("---") || text.starts_with("...") || text == "<<" || text == "=" {
        return true;
    }
    if matches!(
        first,
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' | ' '
    ) {
        return true;
    }
    if matches!(first, '-' | '?' | ':') && second.is_none_or(|c| c == ' ') {
        return true;
    }
    text.ends_with(' ')
        || text.ends_with(':')
        || text.contains(": ")
        || text.contains(" #")
        || text.contains([',', '[', ']', '{', '}', '?']) && matches!(first, '-' | '?' | ':')
}
