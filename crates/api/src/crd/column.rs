//! The JSONPath of printer columns and scale subresources: the simple form that definitions may use.
//!
//! ```text
//! .spec.replicas   .metadata.annotations.example\.com/a   .status.conditions[?(@.type=="Ready")].status
//! .items[0].name   .items[*].name   ['a.b']   ..name
//! ```
//!
//! <https://kubernetes.io/docs/reference/kubectl/jsonpath/>

use std::cmp::Ordering;

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    /// From, to and step, each as given.
    Slice(Option<i64>, Option<i64>, i64),
    All,
    Descend,
    Filter(Operand, Option<(Comparison, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How many nodes one evaluation may visit.
const MAX_VISITED: usize = 100_000;
/// How long a path may be.
const MAX_LENGTH: usize = 4096;

impl Path {
    /// Parses a path, with or without braces around it.
    pub fn parse(text: &str) -> Result<Path, String> {
        let text = text.trim();
        if text.len() > MAX_LENGTH {
            return Err(format!("path is longer than {MAX_LENGTH} bytes"));
        }
        let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        Parser { rest: text }.path(false).and_then(|(path, rest)| match rest {
            "" => Ok(path),
            rest => Err(format!("unexpected {rest:?}")),
        })
    }

    /// Every value that the path names, in order.
    pub fn find<'v>(&self, object: &'v Value) -> Vec<&'v Value> {
        let mut budget = MAX_VISITED;
        self.walk(object, &mut budget)
    }

    /// The first value that the path names.
    pub fn first<'v>(&self, object: &'v Value) -> Option<&'v Value> {
        self.find(object).into_iter().next()
    }

    fn walk<'v>(&self, object: &'v Value, budget: &mut usize) -> Vec<&'v Value> {
        let mut found = vec![object];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                if *budget == 0 {
                    return Vec::new();
                }
                *budget -= 1;
                step.apply(value, &mut next, budget);
            }
            found = next;
        }
        found
    }

    /// A path of fields alone, as scale subresources have: their names.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.0.iter().map(|s| if let Step::Field(name) = s { Some(name.as_str()) } else { None }).collect()
    }
}

impl Step {
    fn apply<'v>(&self, value: &'v Value, out: &mut Vec<&'v Value>, budget: &mut usize) {
        match (self, value) {
            (Step::Field(name), Value::Object(map)) => out.extend(map.get(name)),
            (Step::Index(i), Value::Array(items)) => out.extend(position(*i, items.len()).and_then(|i| items.get(i))),
            (Step::Slice(from, to, step), Value::Array(items)) => {
                let bound =
                    |b: i64| if b < 0 { b + items.len() as i64 } else { b }.clamp(0, items.len() as i64) as usize;
                let (from, to) = (bound(from.unwrap_or(0)), to.map_or(items.len(), bound));
                if from < to {
                    out.extend(items[from..to].iter().step_by(usize::try_from(*step).unwrap_or(1).max(1)));
                }
            }
            (Step::All, Value::Array(items)) => out.extend(items),
            (Step::All, Value::Object(map)) => out.extend(map.values()),
            (Step::Descend, _) => {
                let mut open = vec![value];
                while let Some(value) = open.pop() {
                    if *budget == 0 {
                        return;
                    }
                    *budget -= 1;
                    out.push(value);
                    match value {
                        Value::Array(items) => open.extend(items.iter().rev()),
                        Value::Object(map) => open.extend(map.values().rev()),
                        _ => {}
                    }
                }
            }
            (Step::Filter(left, test), Value::Array(items)) => {
                out.extend(items.iter().filter(|item| holds(item, left, test.as_ref(), budget)));
            }
            _ => {}
        }
    }
}

fn position(i: i64, length: usize) -> Option<usize> {
    usize::try_from(if i < 0 { i + length as i64 } else { i }).ok()
}

fn holds(item: &Value, left: &Operand, test: Option<&(Comparison, Operand)>, budget: &mut usize) -> bool {
    let mut resolve = |operand: &Operand| match operand {
        Operand::Literal(value) => Some(value.clone()),
        Operand::Path(path) => path.walk(item, budget).first().map(|v| (*v).clone()),
    };
    let Some(left) = resolve(left) else { return false };
    let Some((comparison, right)) = test else { return true };
    let Some(right) = resolve(right) else { return false };
    let order = match (&left, &right) {
        (Value::Number(l), Value::Number(r)) => l.as_f64().partial_cmp(&r.as_f64()),
        (Value::String(l), Value::String(r)) => Some(l.cmp(r)),
        (Value::Bool(l), Value::Bool(r)) => Some(l.cmp(r)),
        // Go compares other kinds as text.
        (l, r) => Some(text(l).cmp(&text(r))),
    };
    let Some(order) = order else { return false };
    match comparison {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::Unequal => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
    }
}

/// A value as a column of type string shows it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => {
            let mut out = Vec::new();
            crate::json::write(&mut out, other);
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

/// The cell of a column of this type (`string`, `integer`, `number`, `boolean`, `date`) for a value that its path found.
///
/// Dates are cells of their own: the caller prints their age.
pub fn cell(kind: &str, value: Option<&Value>) -> Value {
    let Some(value) = value else { return Value::Null };
    match (kind, value) {
        ("integer", Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => n.into(),
            (None, Some(f)) => (f as i64).into(),
            _ => Value::Null,
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) | ("date", Value::String(_)) => value.clone(),
        ("string", _) => Value::String(text(value)),
        _ => Value::Null,
    }
}

struct Parser<'t> {
    rest: &'t str,
}

impl<'t> Parser<'t> {
    /// Parses steps; within a filter they end at a comparison. Returns what is left.
    fn path(mut self, filter: bool) -> Result<(Path, &'t str), String> {
        let mut steps = Vec::new();
        if let Some(rest) = self.rest.strip_prefix(['$', '@']) {
            self.rest = rest;
        }
        while let Some(c) = self.rest.chars().next() {
            match c {
                '.' if self.rest.starts_with("..") => {
                    steps.push(Step::Descend);
                    self.rest = &self.rest[2..];
                    if !self.rest.starts_with(['[', '*']) {
                        steps.push(Step::Field(self.name()?));
                    }
                }
                '.' => {
                    self.rest = &self.rest[1..];
                    if self.rest.starts_with('[') || self.rest.is_empty() {
                        continue;
                    }
                    let name = self.name()?;
                    steps.push(if name == "*" { Step::All } else { Step::Field(name) });
                }
                '*' => {
                    self.rest = &self.rest[1..];
                    steps.push(Step::All);
                }
                '[' => steps.push(self.bracket()?),
                _ if filter => break,
                _ if steps.is_empty() => steps.push(Step::Field(self.name()?)),
                other => return Err(format!("unexpected {other:?}")),
            }
        }
        Ok((Path(steps), self.rest))
    }

    /// A field's name; a backslash takes away the meaning of what follows it.
    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut letters = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((i, c)) = letters.next() {
            match c {
                '\\' => name.extend(letters.next().map(|(_, c)| c)),
                '.' | '[' | ']' | ' ' | '=' | '!' | '<' | '>' | ')' | '(' | '@' | '$' | '{' | '}' | ',' | '|' => {
                    end = i;
                    break;
                }
                other => name.push(other),
            }
        }
        self.rest = &self.rest[end..];
        if name.is_empty() { Err("empty field name".to_owned()) } else { Ok(name) }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        let inner = &self.rest[1..];
        if let Some(filter) = inner.strip_prefix("?(") {
            return self.filter(filter);
        }
        if let Some(quote) = inner.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let body = &inner[1..];
            let end = body.find(quote).ok_or("unterminated string")?;
            let rest = body[end + 1..].strip_prefix(']').ok_or("unterminated array")?;
            self.rest = rest;
            return Ok(Step::Field(body[..end].to_owned()));
        }
        let end = inner.find(']').ok_or("unterminated array")?;
        let (body, rest) = (inner[..end].trim(), &inner[end + 1..]);
        self.rest = rest;
        if body == "*" || body.is_empty() {
            return Ok(Step::All);
        }
        let number = |t: &str| t.trim().parse::<i64>().map_err(|_| format!("invalid array index {body}"));
        if !body.contains(':') {
            return Ok(Step::Index(number(body)?));
        }
        let mut parts = body.split(':');
        let mut part = || parts.next().filter(|p| !p.trim().is_empty()).map(number).transpose();
        let (from, to, step) = (part()?, part()?, part()?.unwrap_or(1));
        if step <= 0 { Err("step must be > 0".to_owned()) } else { Ok(Step::Slice(from, to, step)) }
    }

    fn filter(&mut self, text: &'t str) -> Result<Step, String> {
        let (left, rest) = operand(text)?;
        let rest = rest.trim_start();
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let found = comparisons.iter().find_map(|(word, c)| Some((*c, rest.strip_prefix(word)?)));
        let (test, rest) = match found {
            None => (None, rest),
            Some((comparison, rest)) => {
                let (right, rest) = operand(rest)?;
                (Some((comparison, right)), rest)
            }
        };
        self.rest = rest.trim_start().strip_prefix(")]").ok_or("unterminated filter")?;
        Ok(Step::Filter(left, test))
    }
}

/// One side of a filter: a path from the item, a string, a number or a boolean.
fn operand(text: &str) -> Result<(Operand, &str), String> {
    let text = text.trim_start();
    if text.starts_with('@') || text.starts_with('.') {
        // Filters do not nest, so that parsing does not recurse.
        if text.split(')').next().unwrap_or_default().contains("?(") {
            return Err("filters within filters are not supported".to_owned());
        }
        let (path, rest) = Parser { rest: text }.path(true)?;
        return Ok((Operand::Path(path), rest));
    }
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let body = &text[1..];
        let end = body.find(quote).ok_or("unterminated string")?;
        return Ok((Operand::Literal(body[..end].into()), &body[end + 1..]));
    }
    let end = text.find([')', '=', '!', '<', '>', ' ']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let literal = serde_json::from_str::<Value>(word).map_err(|_| format!("unrecognized literal {word:?}"))?;
    if literal.is_array() || literal.is_object() {
        return Err(format!("unrecognized literal {word:?}"));
    }
    Ok((Operand::Literal(literal), rest))
}
