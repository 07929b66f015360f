//! Conditions on labels as Alertmanager writes them: `name="value"`, `!=`, `=~`, `!~`, in two notations.
//!
//! The newer one quotes as Go does and allows any name; where it cannot read something, or reads it differently, the older
//! one counts, as upstream has it. See <https://prometheus.io/docs/alerting/latest/configuration/#matcher>.

use std::fmt::{self, Display, Formatter};

use regex::Regex;
use tsdb::labels::{is_plain_name, quote};

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    MatchesNot,
}

impl Comparison {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Matches => "=~",
            Self::MatchesNot => "!~",
        }
    }

    /// Of the two properties that the API has.
    pub fn of(regex: bool, equal: bool) -> Self {
        match (regex, equal) {
            (false, true) => Self::Equal,
            (false, false) => Self::NotEqual,
            (true, true) => Self::Matches,
            (true, false) => Self::MatchesNot,
        }
    }

    /// Whether it is `=~` or `!~`.
    pub fn is_regex(self) -> bool {
        matches!(self, Self::Matches | Self::MatchesNot)
    }

    /// Whether it is `=` or `=~`.
    pub fn is_equal(self) -> bool {
        matches!(self, Self::Equal | Self::Matches)
    }
}

/// A condition on a label; an absent label has the empty value.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// How its value is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: String,
    regex: Option<Regex>,
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.comparison, &self.value) == (&other.name, other.comparison, &other.value)
    }
}

/// Largest compiled form of an expression, in bytes.
const LARGEST: usize = 1 << 20;

/// Compiles an expression; `whole` has it match the whole text.
pub(super) fn compile(text: &str, whole: bool) -> Result<Regex, String> {
    let text = if whole { format!("^(?:{text})$") } else { text.to_owned() };
    let built = regex::RegexBuilder::new(&text).size_limit(LARGEST).build();
    built.map_err(|_| format!("error parsing regexp: {}", quote(&text)))
}

impl Matcher {
    /// A condition; fails where the value has to be an expression and is none.
    pub fn new(name: &str, comparison: Comparison, value: &str) -> Result<Self, String> {
        let regex = if comparison.is_regex() { Some(compile(value, true)?) } else { None };
        Ok(Self { name: name.to_owned(), comparison, value: value.to_owned(), regex })
    }

    /// Whether a value fulfils it.
    pub fn matches(&self, value: &str) -> bool {
        let same = match &self.regex {
            Some(regex) => regex.is_match(value),
            None => self.value == value,
        };
        same == self.comparison.is_equal()
    }
}

impl Display for Matcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = self.name.chars().all(|c| !is_reserved(c)) && !self.name.is_empty();
        let name = if plain { self.name.clone() } else { quote(&self.name) };
        write!(f, "{name}{}{}", self.comparison.name(), quote(&self.value))
    }
}

/// Conditions as text: `{a="b",c=~"d"}`.
pub fn print(matchers: &[Matcher]) -> String {
    let texts: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

/// Reads one condition.
pub fn parse_one(text: &str) -> Result<Matcher, String> {
    if text.starts_with('{') || text.ends_with('}') {
        return Err(format!("unexpected open or close brace: {text}"));
    }
    let newer = newer(text).and_then(|matchers| match <[Matcher; 1]>::try_from(matchers) {
        Ok([matcher]) => Ok(matcher),
        Err(matchers) if matchers.is_empty() => Err("no matchers".to_owned()),
        Err(matchers) => Err(format!("expected 1 matcher, found {}", matchers.len())),
    });
    match (newer, older_one(text)) {
        (Err(_), older) => older,
        (Ok(newer), Ok(older)) if newer != older => Ok(older),
        (Ok(newer), _) => Ok(newer),
    }
}

/// Reads conditions that commas separate, with braces around them or without.
pub fn parse_all(text: &str) -> Result<Vec<Matcher>, String> {
    match (newer(text), older(text)) {
        (Err(_), older) => older,
        (Ok(newer), Ok(older)) if newer != older => Ok(older),
        (Ok(newer), _) => Ok(newer),
    }
}

fn is_reserved(c: char) -> bool {
    c.is_whitespace() || matches!(c, '{' | '}' | '!' | '=' | '~' | ',' | '\\' | '"' | '\'' | '`')
}

/// The newer notation: names and values are quoted or have no reserved character.
fn newer(text: &str) -> Result<Vec<Matcher>, String> {
    let mut reader = Newer { rest: text };
    let braced = reader.take("{");
    let mut matchers = Vec::new();
    loop {
        reader.space();
        if reader.rest.is_empty() || reader.rest.starts_with('}') {
            break;
        }
        let name = reader.word().ok_or("expected label name")?;
        let comparison = reader.comparison().ok_or("expected an operator such as '=', '!=', '=~' or '!~'")?;
        let value = reader.word().ok_or("expected label value")?;
        matchers.push(Matcher::new(&name, comparison, &value)?);
        if !reader.take(",") {
            break;
        }
    }
    if reader.take("}") != braced {
        return Err(if braced { "expected close brace" } else { "expected opening brace" }.to_owned());
    }
    reader.space();
    if reader.rest.is_empty() { Ok(matchers) } else { Err("expected end of input".to_owned()) }
}

struct Newer<'a> {
    rest: &'a str,
}

impl Newer<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, prefix: &str) -> bool {
        self.space();
        let found = self.rest.strip_prefix(prefix);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let all = [Comparison::Matches, Comparison::MatchesNot, Comparison::NotEqual, Comparison::Equal];
        all.into_iter().find(|comparison| self.take(comparison.name()))
    }

    fn word(&mut self) -> Option<String> {
        self.space();
        if !self.rest.starts_with('"') {
            let end = self.rest.find(is_reserved).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            self.rest = rest;
            return (!word.is_empty()).then(|| word.to_owned());
        }
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let closes = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        });
        let (quoted, rest) = self.rest.split_at(end?.0 + 1);
        self.rest = rest;
        crate::template::unquote(quoted)
    }
}

/// The older notation: values may stand without quotes.
fn older(text: &str) -> Result<Vec<Matcher>, String> {
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let (mut quoted, mut escaped) = (false, false);
    let mut parts = vec![String::new()];
    for c in text.chars() {
        match c {
            ',' if !quoted => {
                parts.push(String::new());
                continue;
            }
            '"' if escaped => escaped = false,
            '"' => quoted = !quoted,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    if parts.last().is_some_and(|last| last.trim().is_empty()) {
        parts.pop();
    }
    parts.iter().map(|part| older_one(part)).collect()
}

fn older_one(text: &str) -> Result<Matcher, String> {
    let bad = || format!("bad matcher format: {text}");
    let trimmed = text.trim_start();
    let end = trimmed.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))).ok_or_else(bad)?;
    let (name, rest) = trimmed.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(bad());
    }
    let rest = rest.trim_start();
    let all = [Comparison::Matches, Comparison::NotEqual, Comparison::MatchesNot, Comparison::Equal];
    let found = all.into_iter().find_map(|known| Some((known, rest.strip_prefix(known.name())?)));
    let (comparison, raw) = found.ok_or_else(bad)?;
    let raw = raw.trim();
    if raw.contains('\n') {
        return Err(bad());
    }
    let unescaped = || format!("matcher value contains unescaped double quote: {raw}");
    let (body, mut open) = match raw.strip_prefix('"') {
        Some(body) => (body, true),
        None => (raw, false),
    };
    let mut value = String::new();
    let mut escaped = false;
    for (i, c) in body.char_indices() {
        if escaped {
            escaped = false;
            match c {
                'n' => value.push('\n'),
                '"' | '\\' => value.push(c),
                c => {
                    value.push('\\');
                    value.push(c);
                }
            }
            continue;
        }
        match c {
            '\\' if i < body.len() - 1 => escaped = true,
            '"' if !open || i < body.len() - 1 => return Err(unescaped()),
            '"' => open = false,
            c => value.push(c),
        }
    }
    if open {
        return Err(unescaped());
    }
    Matcher::new(name, comparison, &value)
}

/// Whether a label may have this name.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
}

/// Whether a label had this name before any name was allowed.
pub fn is_classic_name(name: &str) -> bool {
    is_plain_name(name)
}
