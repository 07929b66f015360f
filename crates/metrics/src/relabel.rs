//! Relabelling: rules that rewrite, keep and drop label sets, of targets, samples, alerts and what is written elsewhere.
//!
//! Rules are applied in order to a [`Builder`]; the first that says so drops it. A rule's regular expression is anchored
//! at both ends and its dot matches newlines.
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config>.

use std::{fmt, sync::Arc};

use regex::Regex;
use tsdb::labels::Builder;

use crate::{
    config::units::Names,
    yaml::{Fields, Kind, Node, Print, Problems, Record, Stop, Value},
};

/// Characters of a regular expression at most.
const LONGEST: usize = 64 << 10;

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing was said, which is wrong.
    #[default]
    Missing,
    /// Writes a replacement into a label if the sources match.
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops where the sources are not equal to the target label.
    KeepEqual,
    /// Drops where the sources are equal to the target label.
    DropEqual,
    /// Writes a remainder of a hash of the sources.
    HashMod,
    /// Copies labels whose names match to other names.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Writes the sources in lower case.
    Lowercase,
    /// Writes the sources in upper case.
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ACTIONS.iter().find(|(_, action)| action == self).map_or("", |(name, _)| name))
    }
}

impl Value for Action {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        let Some(text) = node.text() else {
            problems.mismatch(node, "string");
            return Ok(());
        };
        let lower = text.to_lowercase();
        match ACTIONS.iter().find(|(name, _)| *name == lower) {
            Some((_, action)) => *self = *action,
            None => return Err(format!("unknown relabel action {}", tsdb::labels::quote(text)).into()),
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::Missing;
    }

    fn is_empty(&self) -> bool {
        *self == Self::Missing
    }

    fn print(&mut self) -> Print {
        Print::Text(self.to_string())
    }
}

/// An anchored regular expression.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    /// None for `(.*)`, which matches everything.
    regex: Option<Regex>,
}

impl Pattern {
    /// What matches everything and captures it.
    pub fn all() -> Self {
        Self { text: "(.*)".into(), regex: None }
    }

    /// Compiles a pattern.
    pub fn new(text: &str) -> Result<Self, String> {
        if text == "(.*)" {
            return Ok(Self::all());
        }
        let wrong = |reason: String| format!("error parsing regexp: {reason}: `{text}`");
        if text.len() > LONGEST {
            return Err(wrong("expression too large".to_owned()));
        }
        let regex =
            regex::RegexBuilder::new(&format!("^(?s:{text})$")).size_limit(16 << 20).build().map_err(|error| {
                wrong(error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
            })?;
        Ok(Self { text: text.into(), regex: Some(regex) })
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(text))
    }

    fn is_default(&self) -> bool {
        &*self.text == "(.*)"
    }

    /// The expansions of the templates for a text that matches.
    fn expand<const N: usize>(&self, text: &str, templates: [&str; N]) -> Option<[String; N]> {
        let Some(regex) = &self.regex else {
            return Some(templates.map(|template| {
                fill(template, |name| match name {
                    "0" | "1" => Some(text),
                    _ => None,
                })
            }));
        };
        let captures = regex.captures(text)?;
        Some(templates.map(|template| {
            fill(template, |name| {
                let found = match name.parse::<usize>() {
                    Ok(number) => captures.get(number),
                    Err(_) => captures.name(name),
                };
                found.map(|found| found.as_str())
            })
        }))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Puts captures into a template as Go does: `$1`, `$name`, `${name}`, `$$`; a name that is not known gives nothing.
fn fill<'a>(template: &str, capture: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(template.len() + 16);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let word = |text: &str| text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
        let found = match after.strip_prefix('{') {
            Some(inner) => {
                let end = word(inner);
                inner[end..].strip_prefix('}').filter(|_| end > 0).map(|rest| (&inner[..end], rest))
            }
            None => {
                let end = word(after);
                (end > 0).then(|| after.split_at(end))
            }
        };
        match found {
            Some((name, after)) => {
                out.push_str(capture(name).unwrap_or_default());
                rest = after;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

impl Value for Pattern {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        let mut text = String::new();
        let before = problems.count();
        text.read(node, problems)?;
        if problems.count() == before {
            *self = Self::new(&text)?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        // A null is the empty expression, which matches the empty text.
        *self = Self { text: "".into(), regex: Regex::new("^$").ok() };
    }

    fn is_empty(&self) -> bool {
        self.is_default()
    }

    fn print(&mut self) -> Print {
        Print::Text(self.text.to_string())
    }
}

/// A list of label names, printed in one line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources(pub Option<Vec<String>>);

impl Value for Sources {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        if let Kind::List(items) = &node.kind {
            for item in items {
                let mut name = String::new();
                name.read(item, problems).map_err(|Stop(error)| Stop(error.replace("label value", "label name")))?;
            }
        }
        self.0.get_or_insert_default().read(node, problems)
    }

    fn clear(&mut self) {
        self.0 = None;
    }

    fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(Vec::is_empty)
    }

    fn print(&mut self) -> Print {
        Print::Row(self.0.clone().unwrap_or_default())
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Labels whose values are looked at, joined by the separator.
    pub source_labels: Sources,
    /// What stands between the values.
    pub separator: String,
    /// What they must match.
    pub regex: Pattern,
    /// Divisor of the hash.
    pub modulus: u64,
    /// The label that is written.
    pub target_label: String,
    /// What is written.
    pub replacement: String,
    /// What is done.
    pub action: Action,
    /// Which names are valid.
    pub names: Names,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            source_labels: Sources::default(),
            separator: ";".to_owned(),
            regex: Pattern::all(),
            modulus: 0,
            target_label: String::new(),
            replacement: "$1".to_owned(),
            action: Action::Replace,
            names: Names::Unset,
        }
    }
}

impl Record for Rule {
    const TYPE: &'static str = "relabel.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("source_labels", &mut self.source_labels);
        fields.always("separator", &mut self.separator);
        fields.field("regex", &mut self.regex);
        fields.field("modulus", &mut self.modulus);
        fields.field("target_label", &mut self.target_label);
        fields.always("replacement", &mut self.replacement);
        fields.field("action", &mut self.action);
    }
}

impl Rule {
    /// Whether the rule makes sense where names are to be like this.
    pub fn validate(&mut self, names: Names) -> Result<(), String> {
        use Action::{
            DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Missing, Replace, Uppercase,
        };

        let action = self.action;
        let default = Self::default();
        if action == Missing {
            return Err("relabel action cannot be empty".to_owned());
        }
        if action == HashMod && self.modulus == 0 {
            return Err("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        let writes = matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if writes && self.target_label.is_empty() {
            return Err(format!("relabel configuration for {action} action requires 'target_label' value"));
        }
        if self.names == Names::Unset {
            self.names = names;
        }
        let templated = self.target_label.contains('$');
        let valid = |text: &str| match self.names {
            Names::Legacy => is_legacy_template(text),
            _ => self.names.label(text),
        };
        let target_is_valid = if action == Replace && templated {
            valid(&self.target_label)
        } else {
            self.names.label(&self.target_label)
        };
        if writes && !target_is_valid {
            let target = tsdb::labels::quote(&self.target_label);
            return Err(format!("{target} is invalid 'target_label' for {action} action"));
        }
        let fixed = matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual);
        if fixed && self.replacement != default.replacement {
            return Err(format!("'replacement' can not be set for {action} action"));
        }
        if action == LabelMap && !valid(&self.replacement) {
            let replacement = tsdb::labels::quote(&self.replacement);
            return Err(format!("{replacement} is invalid 'replacement' for {action} action"));
        }
        if matches!(action, DropEqual | KeepEqual)
            && (self.regex != default.regex || self.modulus != 0 || self.separator != default.separator)
        {
            return Err(format!(
                "{action} action requires only 'source_labels' and `target_label`, and no other fields"
            ));
        }
        if matches!(action, LabelDrop | LabelKeep)
            && (self.source_labels.0.is_some()
                || !self.target_label.is_empty()
                || self.modulus != 0
                || self.separator != default.separator
                || self.replacement != default.replacement)
        {
            return Err(format!("{action} action requires only 'regex', and no other fields"));
        }
        Ok(())
    }

    /// Applies the rule; false if it drops.
    pub fn apply(&self, labels: &mut Builder) -> bool {
        let sources = self.source_labels.0.as_deref().unwrap_or_default();
        let value: String = match sources {
            [one] => labels.get(one).to_owned(),
            _ => sources.iter().map(|name| labels.get(name)).collect::<Vec<_>>().join(&self.separator),
        };
        match self.action {
            Action::Drop => return !self.regex.matches(&value),
            Action::Keep => return self.regex.matches(&value),
            Action::DropEqual => return labels.get(&self.target_label) != value,
            Action::KeepEqual => return labels.get(&self.target_label) == value,
            Action::Replace | Action::Missing => {
                let Some([target, text]) = self.regex.expand(&value, [&self.target_label, &self.replacement]) else {
                    return true;
                };
                if self.names.label(&target) {
                    labels.set(&target, &text);
                }
            }
            Action::Lowercase => {
                labels.set(&self.target_label, &value.to_lowercase());
            }
            Action::Uppercase => {
                labels.set(&self.target_label, &value.to_uppercase());
            }
            Action::HashMod => {
                use md5::Digest;

                let hash = md5::Md5::digest(value.as_bytes());
                let last = hash.iter().skip(8).fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
                labels.set(&self.target_label, &(last % self.modulus.max(1)).to_string());
            }
            Action::LabelMap => {
                let pairs: Vec<(String, String)> =
                    labels.labels().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                for (name, value) in pairs {
                    if let Some([target]) = self.regex.expand(&name, [&self.replacement]) {
                        labels.set(&target, &value);
                    }
                }
            }
            Action::LabelDrop => {
                labels.retain(|name| !self.regex.matches(name));
            }
            Action::LabelKeep => {
                labels.retain(|name| self.regex.matches(name));
            }
        }
        true
    }
}

/// Letters, digits and underscores, with `$name`, `$1` and `${name}` among them.
fn is_legacy_template(text: &str) -> bool {
    let mut rest = text;
    let mut begins = true;
    while let Some(c) = rest.chars().next() {
        if c == '$' {
            let after = &rest[1..];
            let word = |text: &str| text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
            rest = match after.strip_prefix('{') {
                Some(inner) => match inner.split_at(word(inner)) {
                    (name, end) if !name.is_empty() && end.starts_with('}') => &end[1..],
                    _ => return false,
                },
                None => match after.split_at(word(after)) {
                    (name, end) if !name.is_empty() => end,
                    _ => return false,
                },
            };
        } else if c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && !begins) {
            rest = &rest[1..];
        } else {
            return false;
        }
        begins = false;
    }
    !begins
}

/// Applies rules in order; false as soon as one drops.
pub fn apply(rules: &[Rule], labels: &mut Builder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// Validates rules.
pub fn validate(rules: &mut [Rule], names: Names) -> Result<(), String> {
    rules.iter_mut().try_for_each(|rule| rule.validate(names))
}

#[cfg(test)]
mod tests;
