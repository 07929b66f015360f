//! Matchers: which series are meant. See <https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors>.
//!
//! A label that is absent is the same as one with an empty value. Regular expressions match the whole value, and a dot
//! matches a line's end too.

use std::{fmt, sync::Arc};

use regex::{Regex, RegexBuilder};

/// Bytes of memory that a compiled expression may take.
const REGEX_BYTES: usize = 10 << 20;

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

/// One condition on one label.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    op: Op,
    value: String,
    test: Test,
}

#[derive(Clone)]
enum Test {
    /// The value itself.
    Literal,
    /// One of these, sorted: an expression that is nothing but alternatives.
    OneOf(Vec<String>),
    Regex(Regex),
    /// Whatever the caller compiled.
    Given(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal => f.write_str("Literal"),
            Self::OneOf(values) => f.debug_tuple("OneOf").field(values).finish(),
            Self::Regex(regex) => f.debug_tuple("Regex").field(regex).finish(),
            Self::Given(_) => f.write_str("Given"),
        }
    }
}

impl Matcher {
    /// A condition; fails where `value` is no regular expression and has to be one.
    pub fn new(op: Op, name: &str, value: &str) -> Result<Self, regex::Error> {
        let test = match op {
            Op::Equal | Op::NotEqual => Test::Literal,
            Op::Regex | Op::NotRegex => match alternatives(value) {
                Some(values) => Test::OneOf(values),
                None => {
                    let whole = format!("^(?s:{value})$");
                    Test::Regex(RegexBuilder::new(&whole).size_limit(REGEX_BYTES).build()?)
                }
            },
        };
        Ok(Self { name: name.to_owned(), op, value: value.to_owned(), test })
    }

    /// `name="value"`
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), op: Op::Equal, value: value.to_owned(), test: Test::Literal }
    }

    /// A condition whose expression the caller has compiled: `test` says whether a value matches it, before a negation.
    pub fn given(op: Op, name: &str, value: &str, test: Arc<dyn Fn(&str) -> bool + Send + Sync>) -> Self {
        let test = match op {
            Op::Equal | Op::NotEqual => Test::Literal,
            Op::Regex | Op::NotRegex => alternatives(value).map_or(Test::Given(test), Test::OneOf),
        };
        Self { name: name.to_owned(), op, value: value.to_owned(), test }
    }

    /// The name of the label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its value is compared.
    pub fn op(&self) -> Op {
        self.op
    }

    /// What its value is compared with.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label with this value, empty where it is absent, is meant.
    pub fn matches(&self, value: &str) -> bool {
        self.holds(value) != self.is_negative()
    }

    fn is_negative(&self) -> bool {
        matches!(self.op, Op::NotEqual | Op::NotRegex)
    }

    fn holds(&self, value: &str) -> bool {
        match &self.test {
            Test::Literal => self.value == value,
            Test::OneOf(values) => values.binary_search_by(|one| one.as_str().cmp(value)).is_ok(),
            Test::Regex(regex) => regex.is_match(value),
            Test::Given(test) => test(value),
        }
    }

    /// The only values for which the comparison holds, negated or not, where it is known without looking at values.
    fn only(&self) -> Option<Vec<&str>> {
        match &self.test {
            Test::Literal => Some(vec![&self.value]),
            Test::OneOf(values) => Some(values.iter().map(String::as_str).collect()),
            Test::Regex(_) | Test::Given(_) => None,
        }
    }
}

/// The alternatives of an expression without any other operator.
fn alternatives(expression: &str) -> Option<Vec<String>> {
    if expression.bytes().any(|byte| b"\\.+*?()[]{}^$".contains(&byte)) {
        return None;
    }
    let mut values: Vec<String> = expression.split('|').map(str::to_owned).collect();
    values.sort_unstable();
    values.dedup();
    Some(values)
}

/// What can be asked for the series of a label's value: the head and each block.
pub trait Index {
    /// Every series, ascending.
    fn all(&self) -> Vec<u32>;
    /// Appends the series with this label, ascending.
    fn with(&self, name: &str, value: &str, into: &mut Vec<u32>);
    /// Appends the series with a label `name` whose value `wanted` says, ascending within each value; says how many
    /// values there were.
    fn with_any(&self, name: &str, wanted: &mut dyn FnMut(&str) -> bool, into: &mut Vec<u32>) -> usize;
}

/// The series that match all of `matchers`, ascending.
pub fn find(index: &impl Index, matchers: &[Matcher]) -> Vec<u32> {
    let mut found: Option<Vec<u32>> = None;
    // What needs no look at values first: it leaves less to intersect.
    let mut order: Vec<&Matcher> = matchers.iter().collect();
    order.sort_by_key(|matcher| (matcher.matches(""), matcher.only().is_none()));
    for matcher in order {
        if found.as_ref().is_some_and(Vec::is_empty) {
            return Vec::new();
        }
        // A label that may be absent: all series but those whose value does not match.
        let inverse = matcher.matches("");
        let mut listed = Vec::new();
        let mut runs = 0;
        match matcher.only() {
            Some(values) if matcher.is_negative() == inverse => {
                for value in values {
                    index.with(&matcher.name, value, &mut listed);
                    runs += 1;
                }
            }
            _ => runs = index.with_any(&matcher.name, &mut |value| matcher.matches(value) != inverse, &mut listed),
        }
        if runs > 1 {
            listed.sort_unstable();
            listed.dedup();
        }
        found = Some(match (found, inverse) {
            (None, false) => listed,
            (None, true) => without(index.all(), &listed),
            (Some(found), false) => intersect(&found, &listed),
            (Some(found), true) => without(found, &listed),
        });
    }
    found.unwrap_or_else(|| index.all())
}

/// Numbers of both ascending lists.
pub fn intersect(one: &[u32], other: &[u32]) -> Vec<u32> {
    let (short, mut long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let mut both = Vec::with_capacity(short.len());
    for number in short {
        long = &long[seek(long, *number)..];
        if long.first() == Some(number) {
            both.push(*number);
        }
    }
    both
}

fn without(mut from: Vec<u32>, mut listed: &[u32]) -> Vec<u32> {
    from.retain(|number| {
        listed = &listed[seek(listed, *number)..];
        listed.first() != Some(number)
    });
    from
}

/// The place of the first number not below `wanted`, found in strides that double.
pub fn seek(list: &[u32], wanted: u32) -> usize {
    let mut stride = 1;
    while stride < list.len() && list[stride] < wanted {
        stride *= 2;
    }
    let from = stride / 2;
    let to = (stride + 1).min(list.len());
    from.min(to) + list[from.min(to)..to].partition_point(|number| *number < wanted)
}

#[cfg(test)]
mod tests;
