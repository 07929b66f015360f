//! Two answers beside each other, and what may differ.

use std::{collections::BTreeMap, fmt::Write};

use regex::Regex;
use serde_json::Value;

use crate::place::Answered;

/// What differs: `PART | PATTERN | REASON`, a line each, the part with a question mark where it depends on the moment. The pattern
/// is looked for in what the test prints of a difference.
const KNOWN: &str = include_str!("differences.txt");
/// Sums are added up in another order where upstream's order is that of its index; so the last digits differ.
const TOLERANCE: f64 = 1e-9;
/// So many differences are printed.
const PRINTED: usize = 100;

struct Known {
    pattern: Regex,
    line: &'static str,
    /// Whether it depends on the moment, so that it may be there or not.
    at_times: bool,
    used: usize,
}

/// Differences that were found.
pub struct Differences {
    known: Vec<Known>,
    found: Vec<String>,
    compared: usize,
}

impl Differences {
    /// None yet; those of `part` are known.
    pub fn new(part: &str) -> Self {
        let lines = KNOWN.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let known = lines.filter_map(|line| {
            let mut fields = line.split(" | ");
            let (of, pattern, reason) = (fields.next(), fields.next(), fields.next());
            let pattern = Regex::new(pattern.unwrap_or_else(|| panic!("no pattern: {line}"))).unwrap();
            assert!(reason.is_some_and(|reason| reason.len() > 10), "no reason: {line}");
            let at_times = of.and_then(|of| of.strip_suffix('?'));
            (at_times.or(of) == Some(part)).then_some(Known { pattern, line, at_times: at_times.is_some(), used: 0 })
        });
        Self { known: known.collect(), found: Vec::new(), compared: 0 }
    }

    /// Notes a difference, unless it is known.
    pub fn note(&mut self, text: String) {
        match self.known.iter_mut().find(|known| known.pattern.is_match(&text)) {
            Some(known) => known.used += 1,
            None => self.found.push(text),
        }
    }

    /// Compares answers of the API; without an order, series are put in one.
    pub fn compare(&mut self, asked: &str, ordered: bool, ours: &Answered, theirs: &Answered) {
        self.compared += 1;
        let parsed = |answered: &Answered| -> Value {
            let mut value = serde_json::from_slice(&answered.bytes).unwrap_or_else(|_| Value::from(answered.text()));
            arrange(&mut value, ordered);
            value
        };
        let (mine, other) = (parsed(ours), parsed(theirs));
        if ours.status != theirs.status || !same(&mine, &other) {
            let cut = |value: &Value| value.to_string().chars().take(1_200).collect::<String>();
            let text = format!(
                "{asked}\n   ours: {} {}\n theirs: {} {}",
                ours.status.as_u16(),
                cut(&mine),
                theirs.status.as_u16(),
                cut(&other)
            );
            self.note(text);
        }
    }

    /// Fails if something differs that is not known, or, after `whole` runs, if something known does not differ.
    pub fn judge(self, whole: bool) {
        let mut out = String::new();
        for text in self.found.iter().take(PRINTED) {
            writeln!(out, "{text}").unwrap();
        }
        for known in self.known.iter().filter(|known| whole && known.used == 0 && !known.at_times) {
            writeln!(out, "needs no reason any more: {}", known.line).unwrap();
        }
        let counts: BTreeMap<&str, usize> = self.known.iter().map(|known| (known.line, known.used)).collect();
        eprintln!("{} compared, {} differ, known: {counts:?}", self.compared, self.found.len());
        assert!(out.is_empty(), "{} of {} differ\n{out}", self.found.len(), self.compared);
    }
}

/// Puts what has no order in one: series by their labels, warnings by their words.
fn arrange(value: &mut Value, ordered: bool) {
    for key in ["warnings", "infos"] {
        if let Some(list) = value.get_mut(key).and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
            // Which ones are left out is a matter of chance.
            if list.iter().any(|text| text.as_str().is_some_and(|text| text.ends_with("annotations omitted"))) {
                *list = vec![Value::from("many")];
            }
        }
    }
    if !ordered && let Some(list) = value.pointer_mut("/data/result").and_then(Value::as_array_mut) {
        list.sort_by_cached_key(|series| series["metric"].to_string());
    }
}

/// The same, but for the last digits of numbers.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(mine, other)| same(mine, other))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().all(|(key, mine)| theirs.get(key).is_some_and(|other| same(mine, other)))
        }
        (Value::String(mine), Value::String(other)) if mine != other => {
            match (mine.parse::<f64>(), other.parse::<f64>()) {
                (Ok(mine), Ok(other)) => near(mine, other),
                _ => false,
            }
        }
        // `1.0` is `1`.
        (Value::Number(mine), Value::Number(other)) => mine.as_f64() == other.as_f64(),
        _ => ours == theirs,
    }
}

fn near(mine: f64, other: f64) -> bool {
    // An infinite difference is within any part of infinity.
    mine.is_finite() && other.is_finite() && (mine - other).abs() <= TOLERANCE * mine.abs().max(other.abs())
}

#[test]
fn only_last_digits_may_differ() {
    let pairs = [
        ("1", "1.0000000000001", true),
        ("1", "1.001", false),
        ("NaN", "NaN", true),
        ("+Inf", "-Inf", false),
        ("a", "b", false),
    ];
    for (mine, other, wanted) in pairs {
        assert_eq!(same(&Value::from(vec![mine]), &Value::from(vec![other])), wanted, "{mine} {other}");
    }
}
