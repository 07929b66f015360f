//! Text of a template to tokens.
//!
//! Delimiters are `{{` and `}}`; `{{- ` and ` -}}` trim the text beside them; `{{/* ... */}}` is a comment. See
//! <https://pkg.go.dev/text/template#hdr-Text_and_spaces>.

use super::format::quote;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reading ends here; the text is the message.
    Error,
    Bool,
    /// A character with no meaning of its own, such as a comma.
    Char,
    CharConstant,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    RightDelim,
    LeftParen,
    RightParen,
    Number,
    Pipe,
    RawString,
    String,
    Space,
    Text,
    Variable,
    Dot,
    Nil,
    Keyword(Keyword),
}

/// Words that mean something of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

const KEYWORDS: [(&str, Kind); 12] = [
    ("block", Kind::Keyword(Keyword::Block)),
    ("break", Kind::Keyword(Keyword::Break)),
    ("continue", Kind::Keyword(Keyword::Continue)),
    ("define", Kind::Keyword(Keyword::Define)),
    ("else", Kind::Keyword(Keyword::Else)),
    ("end", Kind::Keyword(Keyword::End)),
    ("if", Kind::Keyword(Keyword::If)),
    ("nil", Kind::Nil),
    ("range", Kind::Keyword(Keyword::Range)),
    ("template", Kind::Keyword(Keyword::Template)),
    ("with", Kind::Keyword(Keyword::With)),
    ("true", Kind::Bool),
];

/// A token, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    /// Bytes before it.
    pub at: usize,
    /// Its line, counted from 1.
    pub line: usize,
    pub text: String,
}

impl Token {
    /// As errors name it.
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            Kind::Keyword(_) | Kind::Nil | Kind::Dot => format!("<{}>", self.text),
            _ if self.text.chars().count() > 10 => {
                format!("{}...", quote(&self.text.chars().take(10).collect::<String>()))
            }
            _ => quote(&self.text),
        }
    }
}

/// Reads all tokens; the last is an end or an error.
pub(super) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, start: 0, line: 1, start_line: 1, depth: 0, tokens: Vec::new() };
    if let Err(message) = lexer.outside() {
        let (at, line) = (lexer.start, lexer.start_line);
        lexer.tokens.push(Token { kind: Kind::Error, at, line, text: message });
    }
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    start: usize,
    line: usize,
    start_line: usize,
    depth: usize,
    tokens: Vec<Token>,
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.text[self.at..self.at + bytes].matches('\n').count();
        self.at += bytes;
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.advance(c.len_utf8());
        Some(c)
    }

    fn ignore(&mut self) {
        (self.start, self.start_line) = (self.at, self.line);
    }

    fn emit(&mut self, kind: Kind) {
        let text = self.text[self.start..self.at].to_owned();
        self.tokens.push(Token { kind, at: self.start, line: self.start_line, text });
        self.ignore();
    }

    fn outside(&mut self) -> Result<(), String> {
        loop {
            let Some(found) = self.rest().find(LEFT) else {
                self.advance(self.rest().len());
                if self.at > self.start {
                    self.emit(Kind::Text);
                }
                self.emit(Kind::Eof);
                return Ok(());
            };
            let text = &self.rest()[..found];
            let after = &self.rest()[found + LEFT.len()..];
            let trims = after.starts_with('-') && after[1..].starts_with(is_space);
            let kept = if trims { text.trim_end_matches(is_space) } else { text }.len();
            self.advance(kept);
            if self.at > self.start {
                self.emit(Kind::Text);
            }
            self.advance(found - kept);
            self.ignore();
            let marker = if trims { 2 } else { 0 };
            if after[marker..].starts_with("/*") {
                self.advance(LEFT.len() + marker);
                self.comment()?;
                continue;
            }
            self.advance(LEFT.len());
            self.emit(Kind::LeftDelim);
            self.advance(marker);
            self.ignore();
            self.depth = 0;
            while self.inside()? {}
        }
    }

    fn comment(&mut self) -> Result<(), String> {
        let end = self.rest().find("*/").ok_or("unclosed comment")?;
        self.advance(end + 2);
        let (closes, trims) = self.right();
        if !closes {
            return Err("comment ends before closing delimiter".to_owned());
        }
        self.close(trims);
        Ok(())
    }

    /// Whether a closing delimiter is next, and whether it trims.
    fn right(&self) -> (bool, bool) {
        let rest = self.rest();
        if rest.starts_with(is_space) && rest[1..].starts_with('-') && rest[2..].starts_with(RIGHT) {
            return (true, true);
        }
        (rest.starts_with(RIGHT), false)
    }

    /// Goes behind a closing delimiter and what it trims.
    fn close(&mut self, trims: bool) {
        self.advance(RIGHT.len() + if trims { 2 } else { 0 });
        if trims {
            let rest = self.rest();
            self.advance(rest.len() - rest.trim_start_matches(is_space).len());
        }
        self.ignore();
    }

    /// Reads a token of an action; says whether the action goes on.
    fn inside(&mut self) -> Result<bool, String> {
        let (closes, trims) = self.right();
        if closes {
            if self.depth > 0 {
                return Err("unclosed left paren".to_owned());
            }
            if trims {
                self.advance(2);
                self.ignore();
            }
            self.advance(RIGHT.len());
            self.emit(Kind::RightDelim);
            if trims {
                let rest = self.rest();
                self.advance(rest.len() - rest.trim_start_matches(is_space).len());
                self.ignore();
            }
            return Ok(false);
        }
        let Some(c) = self.next() else { return Err("unclosed action".to_owned()) };
        match c {
            c if is_space(c) => self.spaces(),
            '=' => self.emit(Kind::Assign),
            ':' => {
                if self.next() != Some('=') {
                    return Err("expected :=".to_owned());
                }
                self.emit(Kind::Declare);
            }
            '|' => self.emit(Kind::Pipe),
            '"' => self.quoted()?,
            '`' => {
                let end = self.rest().find('`').ok_or("unterminated raw quoted string")?;
                self.advance(end + 1);
                self.emit(Kind::RawString);
            }
            '\'' => self.character()?,
            '$' => self.name(Kind::Variable, "$")?,
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => self.name(Kind::Field, ".")?,
            '.' | '+' | '-' | '0'..='9' => self.number(c)?,
            c if is_word(c) => self.word()?,
            '(' => {
                self.depth += 1;
                self.emit(Kind::LeftParen);
            }
            ')' => {
                self.depth = self.depth.checked_sub(1).ok_or("unexpected right paren")?;
                self.emit(Kind::RightParen);
            }
            c if c.is_ascii_graphic() => self.emit(Kind::Char),
            c => return Err(format!("unrecognized character in action: {}", code_point(c))),
        }
        Ok(true)
    }

    fn spaces(&mut self) {
        // The space before a trimming delimiter belongs to it.
        let mut last = self.start;
        while self.peek().is_some_and(is_space) {
            last = self.at;
            self.next();
        }
        if self.rest().starts_with('-') && self.rest()[1..].starts_with(RIGHT) {
            self.line -= self.text[last..self.at].matches('\n').count();
            self.at = last;
            if last == self.start {
                return;
            }
        }
        self.emit(Kind::Space);
    }

    fn quoted(&mut self) -> Result<(), String> {
        loop {
            match self.next() {
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => {
                    self.next();
                }
                None | Some('\n' | '\\') => return Err("unterminated quoted string".to_owned()),
                Some('"') => break,
                Some(_) => {}
            }
        }
        self.emit(Kind::String);
        Ok(())
    }

    fn character(&mut self) -> Result<(), String> {
        loop {
            match self.next() {
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => {
                    self.next();
                }
                None | Some('\n' | '\\') => return Err("unterminated character constant".to_owned()),
                Some('\'') => break,
                Some(_) => {}
            }
        }
        self.emit(Kind::CharConstant);
        Ok(())
    }

    /// A field, a variable, or the mark alone.
    fn name(&mut self, kind: Kind, alone: &str) -> Result<(), String> {
        self.words();
        self.terminated()?;
        let bare = &self.text[self.start..self.at] == alone;
        self.emit(if bare && kind == Kind::Field { Kind::Dot } else { kind });
        Ok(())
    }

    fn words(&mut self) {
        let rest = self.rest();
        self.advance(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
    }

    fn terminated(&self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(c) if is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
            Some(_) if self.rest().starts_with(RIGHT) => Ok(()),
            Some(c) => Err(format!("bad character {}", code_point(c))),
        }
    }

    fn word(&mut self) -> Result<(), String> {
        self.words();
        self.terminated()?;
        let word = &self.text[self.start..self.at];
        let known = KEYWORDS.iter().find(|known| known.0 == word).map(|known| known.1);
        self.emit(if word == "false" { Kind::Bool } else { known.unwrap_or(Kind::Identifier) });
        Ok(())
    }

    fn number(&mut self, first: char) -> Result<(), String> {
        let digits = if matches!(first, '+' | '-') { self.start + 1 } else { self.start };
        self.at = digits;
        let lower = self.rest().to_ascii_lowercase();
        let (radix, prefix) = match lower.get(..2) {
            Some("0x") => (16, 2),
            Some("0o") => (8, 2),
            Some("0b") => (2, 2),
            _ => (10, 0),
        };
        self.advance(prefix);
        let take = |lexer: &mut Self| {
            let rest = lexer.rest();
            lexer.advance(rest.find(|c: char| c != '_' && !c.is_digit(radix)).unwrap_or(rest.len()));
        };
        take(self);
        if self.peek() == Some('.') {
            self.next();
            take(self);
        }
        let exponent: &[char] = if radix == 16 { &['p', 'P'] } else { &['e', 'E'] };
        if self.peek().is_some_and(|c| exponent.contains(&c)) {
            self.next();
            if matches!(self.peek(), Some('+' | '-')) {
                self.next();
            }
            let rest = self.rest();
            self.advance(rest.find(|c: char| c != '_' && !c.is_ascii_digit()).unwrap_or(rest.len()));
        }
        if self.peek().is_some_and(is_word) {
            self.next();
            return Err(format!("bad number syntax: {}", quote(&self.text[self.start..self.at])));
        }
        self.emit(Kind::Number);
        Ok(())
    }
}

fn code_point(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", c as u32) } else { format!("U+{:04X} '{c}'", c as u32) }
}
