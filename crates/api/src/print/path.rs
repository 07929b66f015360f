//! The JSONPath of printer columns: `.spec.a`, `.spec['a']`, `.list[0]`, `.list[*].a`, `.list[?(@.type=="Ready")].status`,
//! `..name`.
//!
//! <https://kubernetes.io/docs/reference/kubectl/jsonpath/>

use serde_json::Value;

/// A path that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Member(String),
    Members(Vec<String>),
    Wildcard,
    Index(i64),
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    Deep,
    Filter { left: Operand, comparison: Comparison, right: Operand },
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(JsonPath),
    Value(Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Steps of a path at most.
const LONGEST: usize = 64;
/// Results of a path at most; columns show the first.
const MOST: usize = 1000;

impl JsonPath {
    /// Reads a path; `None` if it is none.
    pub fn parse(text: &str) -> Option<JsonPath> {
        let mut reader = Reader { rest: text.trim() };
        let steps = reader.steps()?;
        reader.rest.is_empty().then_some(JsonPath(steps))
    }

    /// The values that it finds, in order.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.apply(value, &mut next);
                if next.len() >= MOST {
                    next.truncate(MOST);
                    break;
                }
            }
            found = next;
        }
        found
    }

    /// The first value that it finds.
    pub fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.find(root).into_iter().next()
    }
}

impl Step {
    fn apply<'a>(&self, value: &'a Value, found: &mut Vec<&'a Value>) {
        match self {
            Step::Member(name) => found.extend(value.as_object().and_then(|map| map.get(name))),
            Step::Members(names) => {
                for name in names {
                    found.extend(value.as_object().and_then(|map| map.get(name)));
                }
            }
            Step::Wildcard => match value {
                Value::Array(items) => found.extend(items),
                Value::Object(map) => found.extend(map.values()),
                _ => {}
            },
            Step::Index(index) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                let index = if *index < 0 { index + items.len() as i64 } else { *index };
                found.extend(usize::try_from(index).ok().and_then(|index| items.get(index)));
            }
            Step::Slice { start, end, step } => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                let length = items.len() as i64;
                let place = |at: i64| if at < 0 { at + length } else { at }.clamp(0, length) as usize;
                let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
                if start < end {
                    found.extend(items[start..end].iter().step_by(usize::try_from(*step).unwrap_or(1).max(1)));
                }
            }
            Step::Deep => descend(value, found, 0),
            Step::Filter { left, comparison, right } => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                found.extend(items.iter().filter(|item| holds(item, left, *comparison, right)));
            }
        }
    }
}

/// A value and everything in it.
fn descend<'a>(value: &'a Value, found: &mut Vec<&'a Value>, depth: usize) {
    if found.len() >= MOST || depth > LONGEST {
        return;
    }
    found.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, found, depth + 1)),
        Value::Object(map) => map.values().for_each(|item| descend(item, found, depth + 1)),
        _ => {}
    }
}

fn holds(item: &Value, left: &Operand, comparison: Comparison, right: &Operand) -> bool {
    let of = |operand: &Operand| match operand {
        Operand::Path(path) => path.first(item).cloned(),
        Operand::Value(value) => Some(value.clone()),
    };
    let (Some(left), right) = (of(left), of(right)) else { return false };
    if comparison == Comparison::Exists {
        return true;
    }
    let Some(right) = right else { return false };
    let order = match (&left, &right) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    match comparison {
        Comparison::Exists => true,
        Comparison::Equal => left == right || order == Some(std::cmp::Ordering::Equal),
        Comparison::NotEqual => left != right && order != Some(std::cmp::Ordering::Equal),
        Comparison::Less => order == Some(std::cmp::Ordering::Less),
        Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Comparison::Greater => order == Some(std::cmp::Ordering::Greater),
        Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn word(&mut self, stop: &str) -> &'a str {
        let end = self.rest.find(|letter| stop.contains(letter)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn steps(&mut self) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        self.eat("$");
        self.eat("@");
        loop {
            if steps.len() > LONGEST {
                return None;
            }
            if self.eat("..") {
                steps.push(Step::Deep);
                if !self.rest.starts_with('[') {
                    steps.push(self.member()?);
                }
            } else if self.rest == "." {
                self.rest = "";
            } else if self.eat(".") {
                if !self.rest.starts_with('[') {
                    steps.push(self.member()?);
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                return Some(steps);
            }
        }
    }

    fn member(&mut self) -> Option<Step> {
        if self.eat("*") {
            return Some(Step::Wildcard);
        }
        // A backslash keeps a dot in a name: `.metadata.labels.a\.b`.
        let mut name = String::new();
        loop {
            name.push_str(self.word(".[]()=!<> \t\\"));
            if !self.rest.starts_with('\\') {
                break;
            }
            let mut letters = self.rest.chars();
            letters.next();
            name.extend(letters.next());
            self.rest = letters.as_str();
        }
        (!name.is_empty()).then_some(Step::Member(name))
    }

    fn quoted(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|letter| matches!(letter, '\'' | '"'))?;
        let mut text = String::new();
        let mut letters = self.rest[1..].chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => text.extend(letters.next()),
                letter if letter == quote => {
                    self.rest = letters.as_str();
                    return Some(text);
                }
                letter => text.push(letter),
            }
        }
        None
    }

    fn bracket(&mut self) -> Option<Step> {
        self.spaces();
        let step = if self.eat("?(") {
            let step = self.filter()?;
            self.spaces();
            if !self.eat(")") {
                return None;
            }
            step
        } else if self.eat("*") {
            Step::Wildcard
        } else if self.rest.starts_with(['\'', '"']) {
            let mut names = vec![self.quoted()?];
            loop {
                self.spaces();
                if !self.eat(",") {
                    break;
                }
                self.spaces();
                names.push(self.quoted()?);
            }
            if names.len() == 1 { Step::Member(names.remove(0)) } else { Step::Members(names) }
        } else {
            let numbers: Vec<&str> = self.word("]").split(':').map(str::trim).collect();
            let number = |text: &str| if text.is_empty() { Some(None) } else { text.parse::<i64>().ok().map(Some) };
            match numbers.as_slice() {
                [index] => Step::Index(index.parse().ok()?),
                [start, end] => Step::Slice { start: number(start)?, end: number(end)?, step: 1 },
                [start, end, step] => {
                    Step::Slice { start: number(start)?, end: number(end)?, step: number(step)?.unwrap_or(1) }
                }
                _ => return None,
            }
        };
        self.spaces();
        self.eat("]").then_some(step)
    }

    fn filter(&mut self) -> Option<Step> {
        self.spaces();
        let left = self.operand()?;
        self.spaces();
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (text, comparison) in comparisons {
            if self.eat(text) {
                self.spaces();
                let right = self.operand()?;
                return Some(Step::Filter { left, comparison, right });
            }
        }
        Some(Step::Filter { left, comparison: Comparison::Exists, right: Operand::Value(Value::Null) })
    }

    fn operand(&mut self) -> Option<Operand> {
        if self.rest.starts_with(['@', '$', '.']) {
            return Some(Operand::Path(JsonPath(self.steps()?)));
        }
        if self.rest.starts_with(['\'', '"']) {
            return Some(Operand::Value(self.quoted()?.into()));
        }
        let word = self.word(")=!<> \t");
        serde_json::from_str(word).ok().map(Operand::Value)
    }
}
