//! Conditions on labels: `name="value"`, `!=`, `=~`, `!~`.

use std::fmt;

use tsdb::labels::{Labels, NAME, is_plain_name, quote};

use crate::pattern::Pattern;

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
}

/// A condition on one label; an absent label has the empty value.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// How its value is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: String,
    pattern: Option<Pattern>,
}

impl Matcher {
    /// A condition; fails where the value is not a regular expression but has to be one.
    pub fn new(name: &str, comparison: Comparison, value: &str) -> Result<Self, String> {
        let pattern = match comparison {
            Comparison::Matches | Comparison::MatchesNot => Some(Pattern::new(value)?),
            Comparison::Equal | Comparison::NotEqual => None,
        };
        Ok(Self { name: name.to_owned(), comparison, value: value.to_owned(), pattern })
    }

    /// `name="value"`
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), comparison: Comparison::Equal, value: value.to_owned(), pattern: None }
    }

    /// Whether a value fulfils it.
    pub fn matches(&self, value: &str) -> bool {
        match (self.comparison, &self.pattern) {
            (Comparison::Equal, _) => self.value == value,
            (Comparison::NotEqual, _) => self.value != value,
            (Comparison::Matches, Some(pattern)) => pattern.matches(value),
            (Comparison::MatchesNot, Some(pattern)) => !pattern.matches(value),
            (Comparison::Matches | Comparison::MatchesNot, None) => false,
        }
    }

    /// Whether labels fulfil it.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name))
    }

    /// The compiled pattern of `=~` and `!~`.
    pub fn pattern(&self) -> Option<&Pattern> {
        self.pattern.as_ref()
    }

    /// Whether it asks for one metric name.
    pub(crate) fn names_metric(&self) -> bool {
        self.name == NAME && self.comparison == Comparison::Equal
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.comparison, &self.value) == (&other.name, other.comparison, &other.value)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&quote(&self.name))?;
        }
        write!(f, "{}{}", self.comparison.name(), quote(&self.value))
    }
}
