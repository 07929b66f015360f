//! JSON, as `JsonSlurper` reads and `JsonOutput` writes it: <https://www.rfc-editor.org/rfc/rfc8259>.

use std::any::Any;

use super::text_of;
use crate::{
    fault::{Outcome, Stop, throw},
    host::Foreign,
    interpret::Strand,
    value::{Value, decimal::Decimal, map::Map, show},
};

/// Levels.
const DEPTH: usize = 100;

/// `new JsonSlurper()`
#[derive(Debug)]
pub struct Reader;

impl Foreign for Reader {
    fn class_name(&self) -> String {
        "groovy.json.JsonSlurper".into()
    }

    fn show(&self) -> String {
        self.class_name()
    }

    fn get(&self, _strand: &mut Strand, _name: &str) -> Outcome<Option<Value>> {
        Ok(None)
    }

    fn set(&self, _strand: &mut Strand, _name: &str, _value: Value) -> Outcome<bool> {
        Ok(false)
    }

    fn call(&self, strand: &mut Strand, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
        match name {
            "parseText" | "parse" => read(strand, &text_of(name, arguments, 0)?).map(Some),
            _ => Ok(None),
        }
    }

    fn any(&self) -> &dyn Any {
        self
    }
}

/// `new JsonBuilder(value)`
#[derive(Debug)]
pub struct Builder(pub Value);

impl Foreign for Builder {
    fn class_name(&self) -> String {
        "groovy.json.JsonBuilder".into()
    }

    fn show(&self) -> String {
        show::inspect(&self.0)
    }

    fn get(&self, _strand: &mut Strand, name: &str) -> Outcome<Option<Value>> {
        Ok(Some(self.0.clone()).filter(|_| name == "content"))
    }

    fn set(&self, _strand: &mut Strand, _name: &str, _value: Value) -> Outcome<bool> {
        Ok(false)
    }

    fn call(&self, strand: &mut Strand, name: &str, _arguments: &[Value]) -> Outcome<Option<Value>> {
        match name {
            "toString" | "toPrettyString" => {
                let text = write(strand, &self.0, name == "toPrettyString")?;
                strand.text(text).map(Some)
            }
            "getContent" => Ok(Some(self.0.clone())),
            _ => Ok(None),
        }
    }

    fn any(&self) -> &dyn Any {
        self
    }
}

/// A value as text.
pub fn write(strand: &mut Strand, value: &Value, pretty: bool) -> Outcome<String> {
    let mut out = String::new();
    put(strand, value, pretty, 0, &mut out)?;
    Ok(out)
}

fn put(strand: &mut Strand, value: &Value, pretty: bool, depth: usize, out: &mut String) -> Outcome<()> {
    strand.tick()?;
    if depth > DEPTH {
        return Err(throw("StackOverflowError", "values nest too deep for JSON"));
    }
    if out.len() > strand.limits().text {
        strand.text(std::mem::take(out))?;
    }
    let line = |out: &mut String, depth: usize| {
        if pretty {
            out.push('\n');
            out.push_str(&"    ".repeat(depth));
        }
    };
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(_) | Value::Int(_) | Value::Long(_) | Value::Decimal(_) => out.push_str(&show::text(value)),
        Value::Double(number) if number.is_finite() => out.push_str(&show::text(value)),
        Value::List(_) | Value::Range(_) => {
            let items = strand.items(value)?;
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                put(strand, item, pretty, depth + 1, out)?;
            }
            if !items.is_empty() {
                line(out, depth);
            }
            out.push(']');
        }
        Value::Map(map) => {
            let entries = map.entries();
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                quote(&show::text(key), out);
                out.push(':');
                if pretty {
                    out.push(' ');
                }
                put(strand, value, pretty, depth + 1, out)?;
            }
            if !entries.is_empty() {
                line(out, depth);
            }
            out.push('}');
        }
        Value::Object(object) => put(strand, &Value::Map(object.fields.clone()), pretty, depth, out)?,
        Value::Foreign(foreign) if foreign.any().is::<Builder>() => {
            if let Some(Builder(value)) = foreign.any().downcast_ref::<Builder>() {
                put(strand, value, pretty, depth + 1, out)?;
            }
        }
        other => {
            let text = strand.show(other)?;
            quote(&text, out);
        }
    }
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A text as a value.
pub fn read(strand: &mut Strand, text: &str) -> Outcome {
    let mut reader = Text { strand, text, at: 0 };
    let value = reader.value(0)?;
    reader.blank();
    match reader.at == text.len() {
        true => Ok(value),
        false => Err(reader.wrong("text goes on after the value")),
    }
}

struct Text<'a> {
    strand: &'a mut Strand,
    text: &'a str,
    at: usize,
}

impl Text<'_> {
    fn blank(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn wrong(&self, what: &str) -> Stop {
        let line = self.text[..self.at].matches('\n').count() + 1;
        throw("JsonException", format!("{what} at line {line}, character {}", self.at))
    }

    fn take(&mut self, mark: &str) -> bool {
        let is = self.text[self.at..].starts_with(mark);
        self.at += if is { mark.len() } else { 0 };
        is
    }

    fn value(&mut self, depth: usize) -> Outcome {
        self.strand.tick()?;
        if depth > DEPTH {
            return Err(self.wrong("values nest too deep"));
        }
        self.blank();
        if self.take("{") {
            let map = Map::default();
            loop {
                self.blank();
                if map.is_empty() && self.take("}") {
                    return Ok(Value::Map(map));
                }
                let key = self.string()?;
                self.blank();
                if !self.take(":") {
                    return Err(self.wrong("expecting ':'"));
                }
                let value = self.value(depth + 1)?;
                map.insert(key, value);
                self.strand.fits(map.len())?;
                self.blank();
                if self.take("}") {
                    return Ok(Value::Map(map));
                }
                if !self.take(",") {
                    return Err(self.wrong("expecting ',' or '}'"));
                }
            }
        }
        if self.take("[") {
            let mut items = Vec::new();
            loop {
                self.blank();
                if items.is_empty() && self.take("]") {
                    return Ok(Value::from(items));
                }
                items.push(self.value(depth + 1)?);
                self.strand.fits(items.len())?;
                self.blank();
                if self.take("]") {
                    return Ok(Value::from(items));
                }
                if !self.take(",") {
                    return Err(self.wrong("expecting ',' or ']'"));
                }
            }
        }
        for (word, value) in [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)] {
            if self.take(word) {
                return Ok(value);
            }
        }
        if self.text[self.at..].starts_with('"') {
            return self.string();
        }
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(rest.len());
        let number = &rest[..end];
        self.at += end;
        if let Ok(value) = number.parse::<i64>() {
            return Ok(Value::whole(value));
        }
        match Decimal::parse(number) {
            Some(value) => Ok(Value::Decimal(value)),
            None => match number.parse::<f64>() {
                Ok(value) if !number.is_empty() => Ok(Value::Double(value)),
                _ => Err(self.wrong("expecting a value")),
            },
        }
    }

    fn string(&mut self) -> Outcome {
        if !self.take("\"") {
            return Err(self.wrong("expecting a string"));
        }
        let mut out = String::new();
        loop {
            let Some(c) = self.text[self.at..].chars().next() else { return Err(self.wrong("unclosed string")) };
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(Value::from(out)),
                '\\' => {
                    let Some(c) = self.text[self.at..].chars().next() else {
                        return Err(self.wrong("unclosed string"));
                    };
                    self.at += c.len_utf8();
                    match c {
                        'n' => out.push('\n'),
                        't' => out.push('\t'),
                        'r' => out.push('\r'),
                        'b' => out.push('\u{8}'),
                        'f' => out.push('\u{c}'),
                        'u' => {
                            let first = self.unit()?;
                            let mut units = vec![first];
                            if (0xd800..0xdc00).contains(&first) && self.take("\\u") {
                                units.push(self.unit()?);
                            }
                            out.push_str(&String::from_utf16_lossy(&units));
                        }
                        c => out.push(c),
                    }
                }
                c => out.push(c),
            }
        }
    }

    fn unit(&mut self) -> Outcome<u16> {
        let hex = self.text.get(self.at..self.at + 4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
        self.at += 4;
        hex.ok_or_else(|| {
            self.at = self.at.saturating_sub(4);
            self.wrong("\\u needs four hex digits")
        })
    }
}
