//! The parser: Go's messages, duplicate keys reported with their path, depth bounded.

use std::fmt::Write;

use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::{MAX_DEPTH, ParseError};

/// How many duplicate keys are reported, as upstream bounds them.
const MAX_DUPLICATES: usize = 100;

/// A parsed document.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The document; of duplicate keys the last one is in it.
    pub value: Value,
    /// Paths (`spec.containers[0].name`) of keys that came more than once, each path once.
    pub duplicates: Vec<String>,
}

/// Parses one JSON document.
///
/// Integers that fit are exact (`i64`, then `u64`), other numbers are `f64`.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    parse_below(bytes, 0)
}

/// Parses a document that goes into another one, `depth` levels below its root.
pub(crate) fn parse_below(bytes: &[u8], depth: usize) -> Result<Parsed, ParseError> {
    let mut parser = Parser { bytes, at: 0, duplicates: Vec::new() };
    parser.space();
    let value = parser.value(&Path { parent: None, step: Step::Root, depth })?;
    parser.space();
    match parser.peek() {
        None => Ok(Parsed { value, duplicates: parser.duplicates }),
        Some(_) => Err(parser.unexpected("after top-level value")),
    }
}

/// Where the parser is: a list that lives on the stack, so that paths cost nothing until one is reported.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
    depth: usize,
}

enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    fn child(&'a self, step: Step<'a>) -> Path<'a> {
        Path { parent: Some(self), step, depth: self.depth + 1 }
    }

    fn append(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.append(out);
        }
        match self.step {
            Step::Root => {}
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => {
                out.push('.');
                out.push_str(key);
            }
            Step::Index(i) => {
                let _ = write!(out, "[{i}]");
            }
        }
    }
}

struct Parser<'b> {
    bytes: &'b [u8],
    at: usize,
    duplicates: Vec<String>,
}

type Outcome<T> = Result<T, ParseError>;

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, context: &str) -> ParseError {
        let Some(byte) = self.peek() else { return ParseError("unexpected end of JSON input".to_owned()) };
        let shown = match byte {
            b'\'' => "'\\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            b'\\' => "'\\\\'".to_owned(),
            b'\n' => "'\\n'".to_owned(),
            b'\r' => "'\\r'".to_owned(),
            b'\t' => "'\\t'".to_owned(),
            0x07 => "'\\a'".to_owned(),
            0x08 => "'\\b'".to_owned(),
            0x0b => "'\\v'".to_owned(),
            0x0c => "'\\f'".to_owned(),
            0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
            0x80..0xa0 | 0xad => format!("'\\u{byte:04x}'"),
            _ => format!("'{}'", char::from(byte)),
        };
        ParseError(format!("invalid character {shown} {context}"))
    }

    fn value(&mut self, path: &Path<'_>) -> Outcome<Value> {
        match self.peek() {
            Some(b'{') => self.object(path),
            Some(b'[') => self.array(path),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Outcome<Value> {
        for (i, expected) in word.bytes().enumerate() {
            if self.peek() != Some(expected) {
                let context = format!("in literal {word} (expecting '{}')", char::from(word.as_bytes()[i]));
                return Err(self.unexpected(&context));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn enter(&mut self, path: &Path<'_>) -> Outcome<()> {
        if path.depth >= MAX_DEPTH {
            return Err(ParseError(format!("exceeded max depth of {MAX_DEPTH}")));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn object(&mut self, path: &Path<'_>) -> Outcome<Value> {
        self.enter(path)?;
        let mut map = Map::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(map));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            self.space();
            let child = path.child(Step::Key(&key));
            let value = self.value(&child)?;
            match map.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(value);
                }
                Entry::Occupied(mut place) => {
                    let mut duplicate = String::new();
                    path.child(Step::Key(place.key())).append(&mut duplicate);
                    if self.duplicates.len() < MAX_DUPLICATES && !self.duplicates.contains(&duplicate) {
                        self.duplicates.push(duplicate);
                    }
                    place.insert(value);
                }
            }
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("after object key:value pair")),
            }
            self.space();
        }
        self.at += 1;
        Ok(Value::Object(map))
    }

    fn array(&mut self, path: &Path<'_>) -> Outcome<Value> {
        self.enter(path)?;
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            let value = self.value(&path.child(Step::Index(items.len())))?;
            items.push(value);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected("after array element")),
            }
            self.space();
        }
        self.at += 1;
        Ok(Value::Array(items))
    }

    fn number(&mut self) -> Outcome<Value> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
            self.digits();
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default();
        if integer {
            if let Ok(n) = text.parse::<i64>() {
                return Ok(Value::Number(n.into()));
            }
            if let Ok(n) = text.parse::<u64>() {
                return Ok(Value::Number(n.into()));
            }
        }
        let number = text.parse::<f64>().ok().and_then(Number::from_f64);
        let overflow = || ParseError(format!("json: cannot unmarshal number {text} into Go value of type float64"));
        number.map(Value::Number).ok_or_else(overflow)
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    /// Parses a string; the opening quote is next.
    fn string(&mut self) -> Outcome<String> {
        self.at += 1;
        let mut text: Vec<u8> = Vec::new();
        loop {
            let from = self.at;
            while self.peek().is_some_and(|b| b != b'"' && b != b'\\' && b >= 0x20) {
                self.at += 1;
            }
            let run = &self.bytes[from..self.at];
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    text.extend(run);
                    return Ok(match String::from_utf8(text) {
                        Ok(text) => text,
                        Err(invalid) => String::from_utf8_lossy(invalid.as_bytes()).into_owned(),
                    });
                }
                Some(b'\\') => {
                    text.extend(run);
                    self.at += 1;
                    self.escape(&mut text)?;
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Outcome<()> {
        let plain = match self.peek() {
            Some(b @ (b'"' | b'\\' | b'/')) => b,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                let character = self.unicode()?;
                text.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        text.push(plain);
        Ok(())
    }

    /// Four hexadecimal digits and, for a high surrogate, the escape of its low one; a lone surrogate is U+FFFD.
    fn unicode(&mut self) -> Outcome<char> {
        let first = self.hexadecimal()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            let after_first = self.at;
            self.at += 2;
            let second = self.hexadecimal()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after_first;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hexadecimal(&mut self) -> Outcome<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.unexpected("in \\u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(code)
    }
}
