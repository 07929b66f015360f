//! What can be read from a node and printed.

use std::collections::BTreeMap;

use base64::Engine;

use super::{Kind, Node, Print, Record};

/// The first wrong setting: ends the reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop(pub String);

impl From<String> for Stop {
    fn from(error: String) -> Self {
        Self(error)
    }
}

impl From<&str> for Stop {
    fn from(error: &str) -> Self {
        Self(error.to_owned())
    }
}

/// Values of the wrong type and unknown fields, with their lines.
#[derive(Debug, Default)]
pub struct Problems(Vec<(usize, String)>);

impl Problems {
    /// Notes that something is wrong in a line.
    pub fn add(&mut self, line: usize, what: String) {
        self.0.push((line, what));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// A value that cannot be what is wanted.
    pub fn mismatch(&mut self, node: &Node, wanted: &str) {
        let what = match &node.kind {
            Kind::List(_) => "!!seq".to_owned(),
            Kind::Map(_) => "!!map".to_owned(),
            Kind::Scalar { text, plain, tag } => {
                let tag = tag.as_deref().unwrap_or_else(|| if *plain { guess(text) } else { "str" });
                let shown = match text.char_indices().nth(7) {
                    Some((end, _)) if text.len() > 10 => format!("{}...", &text[..end]),
                    _ => text.clone(),
                };
                format!("!!{tag} `{shown}`")
            }
        };
        self.add(node.line, format!("cannot unmarshal {what} into {wanted}"));
    }

    pub(super) fn finish(mut self) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|problem| problem.0);
        let lines: Vec<String> = self.0.iter().map(|(line, what)| format!("  line {line}: {what}")).collect();
        Err(format!("yaml: unmarshal errors:\n{}", lines.join("\n")))
    }
}

/// What a plain scalar is taken for.
pub(super) fn guess(text: &str) -> &'static str {
    if truth(text).is_some() {
        "bool"
    } else if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        "null"
    } else if integer(text).is_some() {
        "int"
    } else if number(text).is_some() {
        "float"
    } else if text.len() >= 8 && text.as_bytes().get(4) == Some(&b'-') && text[..4].bytes().all(|b| b.is_ascii_digit())
    {
        "timestamp"
    } else {
        "str"
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i128> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let (radix, digits) = if let Some(hex) = digits.strip_prefix("0x") {
        (16, hex)
    } else if let Some(binary) = digits.strip_prefix("0b") {
        (2, binary)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        (8, octal)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    i128::from_str_radix(digits, radix).ok().map(|value| sign * value)
}

fn number(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    let plain = text.replace('_', "");
    let starts = plain.trim_start_matches(['+', '-']);
    if !starts.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !starts.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    plain.parse().ok()
}

/// What a field can hold.
pub trait Value {
    /// Takes what a node says that is not null.
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop>;

    /// Takes null: nothing is there.
    fn clear(&mut self);

    /// Whether nothing is there, so that it need not be printed.
    fn is_empty(&self) -> bool;

    /// What is printed.
    fn print(&mut self) -> Print;
}

/// Reads a node that may be null.
pub fn read_into<T: Value>(value: &mut T, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
    if node.is_null() {
        value.clear();
        return Ok(());
    }
    value.read(node, problems)
}

/// The text of a scalar as a string, whatever it looks like; `None` after a problem was noted.
pub fn string(node: &Node, wanted: &str, problems: &mut Problems) -> Result<Option<String>, Stop> {
    match &node.kind {
        Kind::Scalar { text, tag, .. } if tag.as_deref() == Some("binary") => {
            let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(compact)
                .map_err(|_| Stop("yaml: !!binary value contains invalid base64 data".to_owned()))?;
            match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(error) => {
                    let shown: String =
                        error.as_bytes().iter().flat_map(|b| std::ascii::escape_default(*b)).map(char::from).collect();
                    Err(Stop(format!("\"{shown}\" is not a valid label value")))
                }
            }
        }
        Kind::Scalar { text, .. } => Ok(Some(text.clone())),
        _ => {
            problems.mismatch(node, wanted);
            Ok(None)
        }
    }
}

impl Value for String {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        if let Some(text) = string(node, "string", problems)? {
            *self = text;
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.clear();
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn print(&mut self) -> Print {
        Print::Text(self.clone())
    }
}

impl Value for bool {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        match &node.kind {
            Kind::Scalar { text, plain, tag }
                if (*plain || tag.as_deref() == Some("bool")) && truth(text).is_some() =>
            {
                *self = truth(text) == Some(true);
            }
            _ => problems.mismatch(node, "bool"),
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = false;
    }

    fn is_empty(&self) -> bool {
        !*self
    }

    fn print(&mut self) -> Print {
        Print::Plain(self.to_string())
    }
}

impl Value for f64 {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        let found = match &node.kind {
            Kind::Scalar { text, plain: true, .. } => number(text).or_else(|| integer(text).map(|value| value as f64)),
            _ => None,
        };
        match found {
            Some(value) => *self = value,
            None => problems.mismatch(node, "float64"),
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = 0.0;
    }

    fn is_empty(&self) -> bool {
        *self == 0.0
    }

    fn print(&mut self) -> Print {
        Print::Plain(self.to_string())
    }
}

fn read_integer(node: &Node, wanted: &str, range: (i128, i128), problems: &mut Problems) -> Option<i128> {
    let found = match &node.kind {
        Kind::Scalar { text, plain: true, .. } => integer(text).or_else(|| {
            number(text).filter(|value| value.fract() == 0.0 && value.abs() < 9e18).map(|value| value as i128)
        }),
        _ => None,
    };
    let found = found.filter(|value| (range.0..=range.1).contains(value));
    if found.is_none() {
        problems.mismatch(node, wanted);
    }
    found
}

impl Value for u64 {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        if let Some(value) = read_integer(node, "uint", (0, u64::MAX.into()), problems) {
            *self = value as u64;
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = 0;
    }

    fn is_empty(&self) -> bool {
        *self == 0
    }

    fn print(&mut self) -> Print {
        Print::Plain(self.to_string())
    }
}

impl Value for i64 {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        if let Some(value) = read_integer(node, "int", (i64::MIN.into(), i64::MAX.into()), problems) {
            *self = value as i64;
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = 0;
    }

    fn is_empty(&self) -> bool {
        *self == 0
    }

    fn print(&mut self) -> Print {
        Print::Plain(self.to_string())
    }
}

impl<T: Value + Default> Value for Option<T> {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        self.get_or_insert_with(T::default).read(node, problems)
    }

    fn clear(&mut self) {
        *self = None;
    }

    fn is_empty(&self) -> bool {
        self.is_none()
    }

    fn print(&mut self) -> Print {
        self.as_mut().map_or(Print::Plain("null".to_owned()), T::print)
    }
}

impl<T: Value + Default> Value for Vec<T> {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        let Kind::List(items) = &node.kind else {
            problems.mismatch(node, "[]string");
            return Ok(());
        };
        self.clear();
        for item in items {
            let mut value = T::default();
            read_into(&mut value, item, problems)?;
            self.push(value);
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.clear();
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn print(&mut self) -> Print {
        Print::List(self.iter_mut().map(T::print).collect())
    }
}

impl<T: Value + Default> Value for BTreeMap<String, T> {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        let Kind::Map(pairs) = &node.kind else {
            problems.mismatch(node, "map[string]string");
            return Ok(());
        };
        for (key, item) in pairs {
            let Some(name) = string(key, "string", problems)? else { continue };
            if self.contains_key(&name) && pairs.iter().filter(|pair| pair.0.text() == Some(&name)).count() > 1 {
                problems.add(key.line, format!("key {name:?} already set in map"));
                continue;
            }
            let mut value = T::default();
            read_into(&mut value, item, problems)?;
            self.insert(name, value);
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.clear();
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn print(&mut self) -> Print {
        Print::Map(self.iter_mut().map(|(key, value)| (key.clone(), value.print())).collect())
    }
}

impl<T: Record> Value for T {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        super::record::read(self, node, problems)
    }

    fn clear(&mut self) {
        *self = T::default();
    }

    fn is_empty(&self) -> bool {
        *self == T::default()
    }

    fn print(&mut self) -> Print {
        super::record::print(self)
    }
}
