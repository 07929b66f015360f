//! Durations, sizes, secrets, addresses and label sets as configuration writes them.
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#configuration-file>.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use tsdb::labels::Labels;

use crate::yaml::{Kind, Node, Print, Stop, Value};

type Problems<'a> = &'a mut crate::yaml::Problems;

const UNITS: [(&str, u64, bool); 7] = [
    ("y", 365 * 86_400_000, true),
    ("w", 7 * 86_400_000, true),
    ("d", 86_400_000, true),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1000, false),
    ("ms", 1, false),
];

/// A span of time as text: `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Whether it is none at all.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Reads units from years to milliseconds, large ones first, each at most once.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a valid duration string: {}", tsdb::labels::quote(text));
        match text {
            "" => return Err("empty duration string".to_owned()),
            "0" => return Ok(Self::default()),
            _ => {}
        }
        let mut rest = text;
        let mut units = UNITS.iter();
        let mut total = 0u64;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, after) = rest.split_at(digits);
            let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, after) = after.split_at(letters);
            if digits == 0 {
                return Err(wrong());
            }
            let Some((_, factor, _)) = units.by_ref().find(|known| known.0 == unit) else { return Err(wrong()) };
            let most = i64::MAX as u64 / 1_000_000;
            let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
            total = part
                .and_then(|part| total.checked_add(part))
                .filter(|total| *total <= most)
                .ok_or("duration out of range")?;
            rest = after;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, factor, exact) in UNITS {
            if exact && left % factor != 0 {
                continue;
            }
            if left / factor > 0 {
                write!(f, "{}{unit}", left / factor)?;
                left %= factor;
            }
        }
        Ok(())
    }
}

impl Value for Span {
    fn read(&mut self, node: &Node, problems: Problems<'_>) -> Result<(), Stop> {
        let mut text = String::new();
        let before = problems.count();
        text.read(node, problems)?;
        if problems.count() == before {
            *self = Self::parse(&text)?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_empty(&self) -> bool {
        self.is_zero()
    }

    fn print(&mut self) -> Print {
        Print::Text(self.to_string())
    }
}

const SIZES: [(&str, i64); 7] =
    [("E", 1 << 60), ("P", 1 << 50), ("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)];

/// Bytes as text: `15MiB`, of which the `i` may be left out without a change of meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub i64);

impl Size {
    /// Reads numbers with units: `1.5GiB`, `10MB`, `1GiB512MiB`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("units: invalid {text}");
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total = 0f64;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
            let (number, after) = rest.split_at(digits);
            let letters = after.len() - after.trim_start_matches(|c: char| !c.is_ascii_digit() && c != '.').len();
            let (unit, after) = after.split_at(letters);
            let number: f64 = number.parse().map_err(|_| wrong())?;
            let known = SIZES.iter().find(|(prefix, _)| {
                unit.strip_prefix(prefix).is_some_and(|rest| rest == "B" || (!prefix.is_empty() && rest == "iB"))
            });
            let Some((_, factor)) = known else { return Err(format!("units: unknown unit {unit} in {text}")) };
            total += number * *factor as f64;
            rest = after;
        }
        if total >= i64::MAX as f64 {
            return Err(format!("units: {text} is too large"));
        }
        Ok(Self(if negative { -(total as i64) } else { total as i64 }))
    }

    /// The bound that it says; `None` for 0.
    pub fn bound(self) -> Option<usize> {
        usize::try_from(self.0).ok().filter(|size| *size > 0)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut left = self.0.unsigned_abs();
        for (prefix, factor) in SIZES {
            let factor = factor.unsigned_abs();
            if left / factor > 0 {
                write!(f, "{}{prefix}{}", left / factor, if prefix.is_empty() { "B" } else { "iB" })?;
                left %= factor;
            }
        }
        Ok(())
    }
}

impl Value for Size {
    fn read(&mut self, node: &Node, problems: Problems<'_>) -> Result<(), Stop> {
        match node.text() {
            Some(text) => *self = Self::parse(text)?,
            None => problems.mismatch(node, "units.Base2Bytes"),
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self(0);
    }

    fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn print(&mut self) -> Print {
        Print::Text(self.to_string())
    }
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "<secret>" })
    }
}

impl Value for Secret {
    fn read(&mut self, node: &Node, problems: Problems<'_>) -> Result<(), Stop> {
        self.0.read(node, problems)
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn print(&mut self) -> Print {
        Print::Text(if self.0.is_empty() { "" } else { "<secret>" }.to_owned())
    }
}

/// An address; a password in it is not shown.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Address(pub String);

impl Address {
    /// Checks it as far as Go's `url.Parse` does.
    pub fn parse(text: &str) -> Result<Self, String> {
        let quoted = || tsdb::labels::quote(text);
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(format!("parse {}: net/url: invalid control character in URL", quoted()));
        }
        let scheme = text.split(['/', '?', '#']).next().unwrap_or_default();
        if scheme.starts_with(':') {
            return Err(format!("parse {}: missing protocol scheme", quoted()));
        }
        if let Some((before, _)) = scheme.split_once(':') {
            let letters = before.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
            if !letters || !before.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return Err(format!("parse {}: first path segment in URL cannot contain colon", quoted()));
            }
        }
        if let Some((_, rest)) = text.split_once("://") {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            if let Some(c) =
                host.chars().find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
            {
                return Err(format!(
                    "parse {}: invalid character {} in host name",
                    quoted(),
                    tsdb::labels::quote(&c.to_string())
                ));
            }
            let port = host.rsplit(']').next().unwrap_or_default();
            if let Some((_, port)) = port.split_once(':')
                && !port.bytes().all(|b| b.is_ascii_digit())
            {
                let port = tsdb::labels::quote(&format!(":{port}"));
                return Err(format!("parse {}: invalid port {port} after host", quoted()));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// What stands before `://`.
    pub fn scheme(&self) -> &str {
        self.0.split_once("://").map_or("", |parts| parts.0)
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |parts| parts.1);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit('@').next().unwrap_or_default()
    }

    /// The address with `xxxxx` for its password.
    pub fn redacted(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return self.0.clone() };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                let name = user.split(':').next().unwrap_or_default();
                format!("{scheme}://{name}:xxxxx@{host}{path}")
            }
            _ => self.0.clone(),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Value for Address {
    fn read(&mut self, node: &Node, problems: Problems<'_>) -> Result<(), Stop> {
        let mut text = String::new();
        let before = problems.count();
        text.read(node, problems)?;
        if problems.count() == before {
            *self = Self::parse(&text)?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn print(&mut self) -> Print {
        Print::Text(self.redacted())
    }
}

impl Value for Labels {
    fn read(&mut self, node: &Node, problems: Problems<'_>) -> Result<(), Stop> {
        let mut pairs: BTreeMap<String, String> = BTreeMap::new();
        if let Kind::Map(found) = &node.kind {
            for (key, _) in found {
                let mut name = String::new();
                name.read(key, problems).map_err(|Stop(error)| Stop(error.replace("label value", "label name")))?;
            }
        }
        pairs.read(node, problems)?;
        *self = Self::from_pairs(pairs);
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::empty();
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn print(&mut self) -> Print {
        Print::Map(self.iter().map(|(name, value)| (name.to_owned(), Print::Text(value.to_owned()))).collect())
    }
}

/// A path below `dir` unless it is absolute or empty.
pub fn join(dir: &Path, path: &mut String) {
    if !path.is_empty() && !Path::new(path).is_absolute() {
        let joined = dir.join(&*path);
        let clean: std::path::PathBuf =
            joined.components().filter(|c| !matches!(c, std::path::Component::CurDir)).collect();
        *path = clean.to_string_lossy().into_owned();
    }
}

/// Which names of metrics and labels are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Names {
    /// As the surrounding configuration says.
    #[default]
    Unset,
    /// Letters, digits and underscores.
    Legacy,
    /// Any text.
    Utf8,
}

impl Names {
    /// Whether a label may have this name.
    pub fn label(self, name: &str) -> bool {
        match self {
            Self::Legacy => tsdb::labels::is_plain_name(name),
            _ => !name.is_empty(),
        }
    }

    /// Whether a metric may have this name.
    pub fn metric(self, name: &str) -> bool {
        match self {
            Self::Legacy => tsdb::labels::is_plain_metric(name),
            _ => !name.is_empty(),
        }
    }
}

impl Value for Names {
    fn read(&mut self, node: &Node, problems: Problems<'_>) -> Result<(), Stop> {
        match node.text() {
            Some("") => *self = Self::Unset,
            Some("legacy") => *self = Self::Legacy,
            Some("utf8") => *self = Self::Utf8,
            Some(other) => return Err(format!("unrecognized ValidationScheme: {}", tsdb::labels::quote(other)).into()),
            None => problems.mismatch(node, "model.ValidationScheme"),
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::Unset;
    }

    fn is_empty(&self) -> bool {
        *self == Self::Unset
    }

    fn print(&mut self) -> Print {
        Print::Text(
            match self {
                Self::Unset => "",
                Self::Legacy => "legacy",
                Self::Utf8 => "utf8",
            }
            .to_owned(),
        )
    }
}
