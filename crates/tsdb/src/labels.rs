//! What names a series: label names and values, sorted by name, in one shared piece of memory.
//!
//! ```text
//! {job="api", zone="b"}  =  3 j o b 3 a p i 4 z o n e 1 b
//! ```
//!
//! A length is written in digits of six bits, low ones first, with the bit 0x40 on all but the last: every byte of it
//! is ASCII, so the whole is a string and parts of it are cut out without a check for UTF-8. An empty value is the same
//! as no label. See <https://prometheus.io/docs/concepts/data_model/>.

use std::{borrow::Borrow, cmp::Ordering, fmt, sync::Arc};

/// The label that holds the name of the metric.
pub const NAME: &str = "__name__";
/// The label that holds the type of the metric, where types are kept as labels.
pub const TYPE: &str = "__type__";
/// The label that holds the unit of the metric, where units are kept as labels.
pub const UNIT: &str = "__unit__";
/// The label that holds the upper bound of a classic histogram's bucket.
pub const BUCKET: &str = "le";

/// Sorted label pairs, cheap to clone and to compare. Equal sets have equal bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Labels {
    /// No labels.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Labels of pairs in any order. Pairs with an empty value are left out; of pairs with the same name the last counts.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = Builder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.labels()
    }

    /// Labels of pairs that are sorted by name, each name once, no value empty. Other input gives labels that compare
    /// as unequal to those made otherwise, and nothing worse.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::from_sorted_in(&mut String::with_capacity(128), pairs)
    }

    /// As [`Self::from_sorted`], put together in a string that is used again and again.
    pub fn from_sorted_in<'a>(scratch: &mut String, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        scratch.clear();
        for (name, value) in pairs {
            push(scratch, name);
            push(scratch, value);
        }
        Self(scratch.as_str().into())
    }

    /// The pairs in order of their names.
    pub fn iter(&self) -> Pairs<'_> {
        Pairs(&self.0)
    }

    /// The value of the label `name`, or the empty string.
    pub fn get(&self, name: &str) -> &str {
        for (have, value) in self.iter() {
            match have.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return value,
                Ordering::Greater => break,
            }
        }
        ""
    }

    /// Whether there is a label `name`.
    pub fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// The name of the metric, or the empty string.
    pub fn metric(&self) -> &str {
        self.get(NAME)
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stored form: equal for equal labels, useful as a key.
    pub fn as_key(&self) -> &str {
        &self.0
    }

    /// Labels whose [`Self::as_key`] this is. Other text gives labels that compare as unequal to all that are made
    /// otherwise, and nothing worse.
    pub fn from_key(key: &str) -> Self {
        Self(key.into())
    }

    /// Bytes of memory, without the shared header.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Puts what [`Self::as_key`] of these labels without some is in place of what was in `into`.
    pub fn key_without(&self, drop: impl Fn(&str) -> bool, into: &mut String) {
        into.clear();
        for (name, value) in self.iter().filter(|(name, _)| !drop(name)) {
            push(into, name);
            push(into, value);
        }
    }

    /// These labels without those that `drop` says.
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Self {
        if !self.iter().any(|(name, _)| drop(name)) {
            return self.clone();
        }
        Self::from_sorted(self.iter().filter(|(name, _)| !drop(name)))
    }
}

/// As their [`Labels::as_key`], by which they are found in maps.
impl Borrow<str> for Labels {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Pairs<'a>;

    fn into_iter(self) -> Pairs<'a> {
        self.iter()
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By the pairs in turn; of two with a common beginning, the shorter comes first.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `{name="value", other="value"}`, names quoted where they are not plain identifiers.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_plain_name(name) {
                write!(f, "{name}={}", quote(value))?;
            } else {
                write!(f, "{}={}", quote(name), quote(value))?;
            }
        }
        f.write_str("}")
    }
}

/// The pairs of [`Labels`] in order of their names.
#[derive(Clone, Debug)]
pub struct Pairs<'a>(&'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = cut(self.0)?;
        let (value, rest) = cut(rest)?;
        self.0 = rest;
        Some((name, value))
    }
}

fn push(text: &mut String, part: &str) {
    let mut length = part.len();
    while length >= 0x40 {
        text.push(char::from((length & 0x3f) as u8 | 0x40));
        length >>= 6;
    }
    text.push(char::from(length as u8));
    text.push_str(part);
}

fn cut(text: &str) -> Option<(&str, &str)> {
    let mut length = 0usize;
    for (i, byte) in text.bytes().enumerate().take(10) {
        length |= usize::from(byte & 0x3f) << (6 * i);
        if byte & 0x40 == 0 {
            return text.get(i + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// Changes labels: pairs set and removed, then sorted once.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pairs: Vec<(String, String)>,
}

impl Builder {
    /// Starts from `base`.
    pub fn new(base: &Labels) -> Self {
        Self { pairs: base.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        if value.is_empty() {
            return self.remove(name);
        }
        match self.pairs.iter_mut().find(|pair| pair.0 == name) {
            Some(pair) => value.clone_into(&mut pair.1),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|pair| pair.0 != name);
        self
    }

    /// Removes all labels but those that `keep` says.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) -> &mut Self {
        self.pairs.retain(|pair| keep(&pair.0));
        self
    }

    /// The value of a label, or the empty string.
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|pair| pair.0 == name).map_or("", |pair| &pair.1)
    }

    /// The labels as they are now.
    pub fn labels(&mut self) -> Labels {
        self.pairs.sort_unstable();
        Labels::from_sorted(self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

/// Whether `name` is a label name of letters, digits and underscores that starts with no digit.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().enumerate().all(|(i, b)| b.is_ascii_alphabetic() || b == b'_' || (b.is_ascii_digit() && i > 0))
}

/// Whether `name` is a metric name of letters, digits, underscores and colons that starts with no digit.
pub fn is_plain_metric(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .enumerate()
            .all(|(i, b)| b.is_ascii_alphabetic() || b == b'_' || b == b':' || (b.is_ascii_digit() && i > 0))
}

/// `text` in double quotes with the escapes of Go string literals.
pub fn quote(text: &str) -> String {
    use fmt::Write;

    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x80 => write!(out, "\\x{:02x}", c as u32).expect("strings grow"),
            c if (c as u32) < 0x1_0000 => write!(out, "\\u{:04x}", c as u32).expect("strings grow"),
            c => write!(out, "\\U{:08x}", c as u32).expect("strings grow"),
        }
    }
    out.push('"');
    out
}

/// Go's `strconv.IsPrint`: behind a letter, where a combining mark may stand, Rust leaves the same characters alone.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~') || ['a', c].iter().collect::<String>().escape_debug().count() == 2
}

#[cfg(test)]
mod tests;
