//! Label selectors: lexer, parser, matching.

use std::fmt;

use serde_json::{Map, Value};

use crate::meta::View;
use crate::status::quote;
use crate::validate::{FieldError, aggregate, format};

/// How a requirement relates a label to its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the operators of the syntax")]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Key of the label.
    pub key: String,
    /// Relation.
    pub operator: Operator,
    /// Values, sorted, each once.
    pub values: Vec<String>,
}

/// A label selector: requirements that must all hold, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Labels {
    /// Selects everything.
    pub fn everything() -> Labels {
        Labels::default()
    }

    /// Selects nothing: what an absent selector object means.
    pub fn nothing() -> Labels {
        Labels { requirements: Vec::new(), nothing: true }
    }

    /// Reads the text form. The error is upstream's message.
    pub fn parse(text: &str) -> Result<Labels, String> {
        let mut parser = Parser { tokens: lex(text), position: 0 };
        let mut requirements = parser.parse()?;
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(Labels { requirements, nothing: false })
    }

    /// Reads a LabelSelector object (`matchLabels`, `matchExpressions`); `null` or absent selects nothing, `{}` everything.
    pub fn from_value(selector: &Value) -> Result<Labels, String> {
        let view = View::new(selector);
        if !view.exists() {
            return Ok(Labels::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in view.entries("matchLabels") {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.string().to_owned()])?);
        }
        for expression in view.list("matchExpressions") {
            let operator = match expression.text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{} is not a valid label selector operator", quote(other))),
            };
            let values = expression.list("values").map(|value| value.string().to_owned()).collect();
            requirements.push(Requirement::new(expression.text("key"), operator, values)?);
        }
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(Labels { requirements, nothing: false })
    }

    /// From labels that must all be there (`spec.selector` of a Service or ReplicationController); none selects everything.
    pub fn from_map(labels: &Map<String, Value>) -> Labels {
        let mut requirements: Vec<Requirement> = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::Equals,
                values: vec![value.as_str().unwrap_or("").to_owned()],
            })
            .collect();
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Labels { requirements, nothing: false }
    }

    /// Whether labels satisfy every requirement.
    pub fn matches(&self, labels: &Map<String, Value>) -> bool {
        self.matches_with(|key| labels.get(key).and_then(Value::as_str))
    }

    /// Whether an object's `metadata.labels` satisfy every requirement.
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = crate::meta::labels(object);
        self.matches_with(|key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str))
    }

    /// The same for labels kept in any form.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether it selects nothing at all.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for Labels {
    /// In the text form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, requirement) in self.requirements.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl Requirement {
    fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Requirement, String> {
        let mut errors = Vec::new();
        let faults = format::qualified_name(key);
        if !faults.is_empty() {
            errors.push(FieldError::invalid("key", key, faults.join("; ")));
        }
        let list = || Value::from(values.clone());
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                let detail = "for 'in', 'notin' operators, values set can't be empty";
                errors.push(FieldError::invalid("values", list(), detail));
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                let detail = "exact-match compatibility requires one single value";
                errors.push(FieldError::invalid("values", list(), detail));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let detail = "values set must be empty for exists and does not exist";
                errors.push(FieldError::invalid("values", list(), detail));
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    let detail = "for 'Gt', 'Lt' operators, exactly one value is required";
                    errors.push(FieldError::invalid("values", list(), detail));
                }
                for (position, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                        errors.push(FieldError::invalid(format_args!("values[{position}]"), value.as_str(), detail));
                    }
                }
            }
            _ => {}
        }
        for (position, value) in values.iter().enumerate() {
            let faults = format::label_value(value);
            if !faults.is_empty() {
                let path = format_args!("values[{position}][{key}]").to_string();
                errors.push(FieldError::invalid(path, value.as_str(), faults.join("; ")));
            }
        }
        if !errors.is_empty() {
            return Err(aggregate(&errors));
        }
        values.sort();
        values.dedup();
        Ok(Requirement { key: key.to_owned(), operator, values })
    }

    /// Whether a label of that value, or its absence, satisfies it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let among = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(among),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let (Some(Ok(value)), Some(Ok(bound))) =
                    (value.map(str::parse::<i64>), self.values.first().map(|bound| bound.parse::<i64>()))
                else {
                    return false;
                };
                if self.operator == Operator::GreaterThan { value > bound } else { value < bound }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
    Word,
    Unknown,
    End,
}

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::DoubleEquals,
        "=" => Token::Equals,
        ">" => Token::Greater,
        "<" => Token::Less,
        "!=" => Token::NotEquals,
        "(" => Token::Open,
        _ => return None,
    })
}

fn lex(text: &str) -> Vec<(Token, String)> {
    let is_space = |letter: char| matches!(letter, ' ' | '\t' | '\r' | '\n');
    let is_special = |letter: char| "=!(),><".contains(letter);
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(is_space);
        let Some(first) = rest.chars().next() else { break };
        if first == '\0' {
            break;
        }
        if is_special(first) {
            // The longest of one or two symbols that means something.
            let run = rest.find(|letter| !is_special(letter)).unwrap_or(rest.len());
            let found = [2, 1].into_iter().filter(|length| *length <= run).find_map(|length| {
                let token = symbol(&rest[..length])?;
                Some((token, length))
            });
            match found {
                Some((token, length)) => {
                    tokens.push((token, rest[..length].to_owned()));
                    rest = &rest[length..];
                }
                None => {
                    tokens.push((Token::Unknown, format!("error expected: keyword found '{}'", &rest[..run])));
                    rest = &rest[run..];
                }
            }
        } else {
            let end = rest.find(|letter| is_special(letter) || is_space(letter) || letter == '\0');
            let word = &rest[..end.unwrap_or(rest.len())];
            let token = match word {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Word,
            };
            tokens.push((token, word.to_owned()));
            rest = &rest[word.len()..];
        }
    }
    tokens.push((Token::End, String::new()));
    tokens
}

struct Parser {
    tokens: Vec<(Token, String)>,
    position: usize,
}

impl Parser {
    fn at(&self, position: usize, keywords: bool) -> (Token, &str) {
        let (token, text) = &self.tokens[position.min(self.tokens.len() - 1)];
        match token {
            Token::In | Token::NotIn if !keywords => (Token::Word, text),
            token => (token.clone(), text),
        }
    }

    /// The next token, where `in` and `notin` are words like others.
    fn peek(&self) -> (Token, &str) {
        self.at(self.position, false)
    }

    fn next(&mut self) -> (Token, &str) {
        self.position += 1;
        self.at(self.position - 1, false)
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Word | Token::Not, _) => {
                    let requirement =
                        self.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?;
                    requirements.push(requirement);
                    match self.next() {
                        (Token::End, _) => return Ok(requirements),
                        (Token::Comma, _) => {
                            let (token, text) = self.peek();
                            if !matches!(token, Token::Word | Token::Not) {
                                return Err(format!("found '{text}', expected: identifier after ','"));
                            }
                        }
                        (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
                    }
                }
                (Token::End, _) => return Ok(requirements),
                (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek().0 == Token::Not;
        if negated {
            self.next();
        }
        let (token, key) = self.next();
        if token != Token::Word {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let key = key.to_owned();
        let faults = format::qualified_name(&key);
        if !faults.is_empty() {
            return Err(FieldError::invalid("<nil>", key.as_str(), faults.join("; ")).to_string());
        }
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.value()?],
        };
        Requirement::new(&key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        self.position += 1;
        let (token, text) = self.at(self.position - 1, true);
        Ok(match token {
            Token::In => Operator::In,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            Token::NotIn => Operator::NotIn,
            Token::NotEquals => Operator::NotEquals,
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        })
    }

    fn value(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Word, text) => Ok(text.to_owned()),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            (Token::Open, _) => {}
            (_, text) => return Err(format!("found '{text}' expected: '('")),
        }
        match self.peek() {
            (Token::Word | Token::Comma, _) => {
                let values = self.identifiers()?;
                self.next();
                Ok(values)
            }
            (Token::Close, _) => {
                self.next();
                Ok(vec![String::new()])
            }
            (_, text) => Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    /// Identifiers up to a closing parenthesis, which stays; between two commas stands an empty one.
    fn identifiers(&mut self) -> Result<Vec<String>, String> {
        let mut values: Vec<String> = Vec::new();
        loop {
            match self.next() {
                (Token::Word, text) => {
                    values.push(text.to_owned());
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.push(String::new());
                            return Ok(values);
                        }
                        Token::Comma => values.push(String::new()),
                        _ => {}
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }
}
