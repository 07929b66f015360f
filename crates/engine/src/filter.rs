//! `filters` of lists, prunes and events: `{"label": ["a=b"], "status": ["running"]}`, or the older form with
//! `{"label": {"a=b": true}}`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    call::Query,
    error::{Error, Result},
};

/// What a list is narrowed down to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the parameter `filters`; only names that are `known` may be in it.
    pub fn of(query: &Query, known: &[&str]) -> Result<Self> {
        let Some(value) = query.json::<Value>("filters")? else { return Ok(Self::default()) };
        Self::read(&value, known)
    }

    fn read(value: &Value, known: &[&str]) -> Result<Self> {
        let bad = || Error::invalid("invalid filter");
        let mut found = BTreeMap::<String, Vec<String>>::new();
        for (name, values) in value.as_object().ok_or_else(bad)? {
            if !known.contains(&name.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{name}'")));
            }
            let list = match values {
                Value::Array(list) => {
                    list.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
                }
                Value::Object(set) => Some(set.iter().filter(|(_, on)| **on == true).map(|(v, _)| v.clone()).collect()),
                _ => None,
            };
            found.insert(name.clone(), list.ok_or_else(bad)?);
        }
        Ok(Self(found))
    }

    /// Values of a name.
    pub fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a name has values.
    pub fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// Whether there is no such filter, or `test` holds for one of its values.
    pub fn any(&self, name: &str, test: impl Fn(&str) -> bool) -> bool {
        !self.has(name) || self.get(name).iter().any(|value| test(value))
    }

    /// Whether labels are as `label` asks, and none as `label!` forbids.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").iter().all(holds) && !self.get("label!").iter().any(holds)
    }

    /// A filter that means yes or no; `None` without it.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            [] => Ok(None),
            [one] => match one.to_ascii_lowercase().as_str() {
                "1" | "true" | "t" => Ok(Some(true)),
                "0" | "false" | "f" => Ok(Some(false)),
                _ => Err(Error::invalid(format!("invalid filter '{name}={one}'"))),
            },
            _ => Err(Error::invalid(format!("invalid filter '{name}': one value is wanted"))),
        }
    }

    /// The moment of `until`: a time, seconds since 1970, or a duration ago.
    pub fn until(&self) -> Result<Option<jiff::Timestamp>> {
        match self.get("until") {
            [] => Ok(None),
            [one] => moment(one, jiff::Timestamp::now()).map(Some),
            _ => Err(Error::invalid("more than one until filter specified")),
        }
    }
}

/// A moment as clients write it: `1700000000`, `1700000000.5`, `2026-01-02T03:04:05Z`, `2026-01-02`, or `10m` before `now`.
pub fn moment(text: &str, now: jiff::Timestamp) -> Result<jiff::Timestamp> {
    let bad = || Error::invalid(format!("invalid time {text:?}"));
    if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
        if let (Ok(seconds), true) = (seconds.parse::<i64>(), fraction.bytes().all(|byte| byte.is_ascii_digit())) {
            let nanoseconds: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
            let nanoseconds = nanoseconds.parse().map_err(|_| bad())?;
            return jiff::Timestamp::new(seconds, nanoseconds).map_err(|_| bad());
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(time);
        }
        if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
            return time.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp()).map_err(|_| bad());
        }
    }
    let back = go_duration(text).ok_or_else(bad)?;
    let back = jiff::SignedDuration::try_from(back).map_err(|_| bad())?;
    now.checked_sub(back).map_err(|_| bad())
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `300ms`.
pub fn go_duration(text: &str) -> Option<std::time::Duration> {
    let (mut rest, mut total) = (text, 0f64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, seconds) = units.iter().find(|(unit, _)| {
            rest.strip_prefix(unit).is_some_and(|left| !left.starts_with(|c: char| c.is_alphabetic()))
        })?;
        total += number * seconds;
        rest = rest.get(unit.len()..)?;
    }
    std::time::Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_are_read_and_unknown_names_refused() {
        let new = Filters::read(&json!({"label": ["a=b", "c"]}), &["label"]).unwrap();
        let old = Filters::read(&json!({"label": {"a=b": true, "c": true, "d": false}}), &["label"]).unwrap();
        assert_eq!(new, old);
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert!(new.labels(&labels(&[("a", "b"), ("c", "")])));
        assert!(!new.labels(&labels(&[("a", "x"), ("c", "")])));
        assert_eq!(Filters::read(&json!({"x": []}), &["label"]).unwrap_err().message, "invalid filter 'x'");
        assert!(Filters::read(&json!({"label": 1}), &["label"]).is_err());
    }

    #[test]
    fn moments_are_read_in_all_their_forms() {
        let now: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (text, expected) in [
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.500000000", "2023-11-14T22:13:20.5Z"),
            ("2026-01-01T00:00:00+01:00", "2025-12-31T23:00:00Z"),
            ("2026-01-01T10:00:00", "2026-01-01T10:00:00Z"),
            ("1h4m5s", "2026-01-02T02:00:00Z"),
            ("500ms", "2026-01-02T03:04:04.5Z"),
        ] {
            assert_eq!(moment(text, now).unwrap(), expected.parse().unwrap(), "{text}");
        }
        for text in ["", "x", "10", "5x", "1.2.3"].iter().filter(|text| **text != "10") {
            assert!(moment(text, now).is_err(), "{text}");
        }
    }
}
