//! Text to tokens.
//!
//! ```text
//! outside ──{──▶ inside braces ──}──▶ outside
//!    └──[──▶ length ──number──▶ outside, with the bracket open ──]──▶ outside
//! ```
//!
//! Tokens are made when asked for: the first thing that is wrong with a query is what its error speaks of, whether a
//! token or a sentence.

use tsdb::labels::quote;

use crate::position::Place;

mod text;

pub(crate) use text::{unquote, unquote_bytes};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Eof,
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    Text,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    Equal,
    EqualRegex,
    NotEqualRegex,
    At,
    Operator(Op),
    Aggregator(Aggregator),
    Keyword(Keyword),
    /// `start`, `end`, `step`, `range`, `max_of`, `min_of`.
    Preprocessor(Preprocessor),
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `</`: keep what a histogram has below.
    TrimUpper,
    /// `>/`: keep what a histogram has above.
    TrimLower,
    And,
    Or,
    Unless,
}

impl Op {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// Whether it compares.
    pub fn compares(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual)
    }

    /// Whether it works on sets of series rather than on values.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// How tightly it binds.
    pub fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
            _ => 3,
        }
    }
}

/// An aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Aggregator {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl Aggregator {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Whether it takes a parameter before the vector.
    pub fn has_parameter(self) -> bool {
        matches!(
            self,
            Self::Topk | Self::Bottomk | Self::CountValues | Self::Quantile | Self::Limitk | Self::LimitRatio
        )
    }

    /// Whether it is switched on with the experimental functions.
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

/// A word of the language that is neither operator nor aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Keyword {
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
}

/// A word that stands for something known only when the query is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Preprocessor {
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

impl Preprocessor {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
            Self::Step => "step",
            Self::Range => "range",
            Self::MaxOf => "max_of",
            Self::MinOf => "min_of",
        }
    }
}

/// The words of the language, in lower case.
pub const WORDS: &[(&str, Kind)] = &[
    ("and", Kind::Operator(Op::And)),
    ("or", Kind::Operator(Op::Or)),
    ("unless", Kind::Operator(Op::Unless)),
    ("atan2", Kind::Operator(Op::Atan2)),
    ("sum", Kind::Aggregator(Aggregator::Sum)),
    ("avg", Kind::Aggregator(Aggregator::Avg)),
    ("count", Kind::Aggregator(Aggregator::Count)),
    ("min", Kind::Aggregator(Aggregator::Min)),
    ("max", Kind::Aggregator(Aggregator::Max)),
    ("group", Kind::Aggregator(Aggregator::Group)),
    ("stddev", Kind::Aggregator(Aggregator::Stddev)),
    ("stdvar", Kind::Aggregator(Aggregator::Stdvar)),
    ("topk", Kind::Aggregator(Aggregator::Topk)),
    ("bottomk", Kind::Aggregator(Aggregator::Bottomk)),
    ("count_values", Kind::Aggregator(Aggregator::CountValues)),
    ("quantile", Kind::Aggregator(Aggregator::Quantile)),
    ("limitk", Kind::Aggregator(Aggregator::Limitk)),
    ("limit_ratio", Kind::Aggregator(Aggregator::LimitRatio)),
    ("offset", Kind::Keyword(Keyword::Offset)),
    ("smoothed", Kind::Keyword(Keyword::Smoothed)),
    ("anchored", Kind::Keyword(Keyword::Anchored)),
    ("by", Kind::Keyword(Keyword::By)),
    ("without", Kind::Keyword(Keyword::Without)),
    ("on", Kind::Keyword(Keyword::On)),
    ("ignoring", Kind::Keyword(Keyword::Ignoring)),
    ("group_left", Kind::Keyword(Keyword::GroupLeft)),
    ("group_right", Kind::Keyword(Keyword::GroupRight)),
    ("fill", Kind::Keyword(Keyword::Fill)),
    ("fill_left", Kind::Keyword(Keyword::FillLeft)),
    ("fill_right", Kind::Keyword(Keyword::FillRight)),
    ("bool", Kind::Keyword(Keyword::Bool)),
    ("start", Kind::Preprocessor(Preprocessor::Start)),
    ("end", Kind::Preprocessor(Preprocessor::End)),
    ("step", Kind::Preprocessor(Preprocessor::Step)),
    ("range", Kind::Preprocessor(Preprocessor::Range)),
    ("max_of", Kind::Preprocessor(Preprocessor::MaxOf)),
    ("min_of", Kind::Preprocessor(Preprocessor::MinOf)),
    ("inf", Kind::Number),
    ("nan", Kind::Number),
];

fn word(text: &str) -> Option<Kind> {
    WORDS.iter().find(|known| text.eq_ignore_ascii_case(known.0)).map(|known| known.1)
}

/// A piece of the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its text as written.
    pub text: &'a str,
    /// Its first byte.
    pub start: usize,
}

impl Token<'_> {
    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { start: self.start, end: self.start + self.text.len() }
    }

    /// As errors speak of it.
    pub fn describe(&self) -> String {
        let what = match self.kind {
            Kind::Eof => return "end of input".to_owned(),
            Kind::Keyword(_) => return format!("<{}>", self.text),
            Kind::Operator(_) | Kind::At | Kind::EqualRegex | Kind::NotEqualRegex => {
                return format!("<op:{}>", self.text);
            }
            Kind::Aggregator(_) => return format!("<aggr:{}>", self.text),
            Kind::Identifier => return format!("identifier {}", quote(self.text)),
            Kind::MetricIdentifier => return format!("metric identifier {}", quote(self.text)),
            Kind::Text => "string ",
            Kind::Number => "number ",
            Kind::Duration => "duration ",
            _ => "",
        };
        if self.text.len() > 10 {
            let head: String = self.text.chars().take(10).collect();
            return format!("{what}{}...", quote(&head));
        }
        format!("{what}{}", quote(self.text))
    }
}

/// A token that is none: what is wrong, and from where on.
pub(crate) struct Failure {
    pub message: String,
    pub place: Place,
}

/// Makes tokens of a query, one at a time.
#[derive(Clone)]
pub(crate) struct Lexer<'a> {
    input: &'a str,
    position: usize,
    start: usize,
    parens: usize,
    brace: bool,
    bracket: bool,
    /// Behind `[`, before its first number.
    length: bool,
    colon: bool,
    number_in_bracket: bool,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

/// A character in single quotes, escaped as Go does; what stands for the end of the input is the replacement character.
fn quote_char(c: Option<char>) -> String {
    match c {
        None => "'\u{fffd}'".to_owned(),
        Some('\'') => "'\\''".to_owned(),
        Some('"') => "'\"'".to_owned(),
        Some(c) => {
            let quoted = quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// `U+0063 'c'`.
fn code_point(c: char) -> String {
    if quote(c.encode_utf8(&mut [0; 4])).contains('\\') && c != '\\' && c != '"' {
        return format!("U+{:04X}", c as u32);
    }
    format!("U+{:04X} '{c}'", c as u32)
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(input: &'a str) -> Self {
        Self {
            input,
            position: 0,
            start: 0,
            parens: 0,
            brace: false,
            bracket: false,
            length: false,
            colon: false,
            number_in_bracket: false,
        }
    }

    fn peek(&self) -> Option<char> {
        self.input[self.position..].chars().next()
    }

    fn peek_is(&self, test: impl Fn(char) -> bool) -> bool {
        self.peek().is_some_and(test)
    }

    fn advance(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.position += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, set: &str) -> bool {
        let found = self.peek_is(|c| set.contains(c));
        if found {
            self.advance();
        }
        found
    }

    fn fail(&self, message: String) -> Failure {
        Failure { message, place: Place { start: self.start, end: self.input.len() } }
    }

    fn token(&mut self, kind: Kind) -> Token<'a> {
        let token = Token { kind, text: &self.input[self.start..self.position], start: self.start };
        self.start = self.position;
        token
    }

    fn skip_blank(&mut self) {
        loop {
            while self.peek_is(is_space) {
                self.advance();
            }
            // Between `[` and its first number there are no comments.
            if self.length || !self.peek_is(|c| c == '#') {
                break;
            }
            while self.peek_is(|c| c != '\n' && c != '\r') {
                self.advance();
            }
        }
        self.start = self.position;
    }

    pub(crate) fn next(&mut self) -> Result<Token<'a>, Failure> {
        self.skip_blank();
        if self.brace {
            self.inside_braces()
        } else if self.length {
            self.inside_length()
        } else {
            self.outside()
        }
    }

    fn outside(&mut self) -> Result<Token<'a>, Failure> {
        let Some(c) = self.advance() else {
            return match () {
                () if self.parens > 0 => Err(self.fail("unclosed left parenthesis".to_owned())),
                () if self.bracket => Err(self.fail("unclosed left bracket".to_owned())),
                () => Ok(self.token(Kind::Eof)),
            };
        };
        let kind = match c {
            ',' => Kind::Comma,
            '*' => Kind::Operator(Op::Mul),
            '/' => Kind::Operator(Op::Div),
            '%' => Kind::Operator(Op::Mod),
            '+' => Kind::Operator(Op::Add),
            '-' => Kind::Operator(Op::Sub),
            '^' => Kind::Operator(Op::Pow),
            '@' => Kind::At,
            '=' if self.accept("=") => Kind::Operator(Op::Equal),
            '=' if self.peek_is(|c| c == '~') => {
                return Err(self.fail("unexpected character after '=': '~'".to_owned()));
            }
            '=' => Kind::Equal,
            '!' => {
                let next = self.advance();
                if next != Some('=') {
                    return Err(self.fail(format!("unexpected character after '!': {}", quote_char(next))));
                }
                Kind::Operator(Op::NotEqual)
            }
            '<' if self.accept("=") => Kind::Operator(Op::LessEqual),
            '<' if self.accept("/") => Kind::Operator(Op::TrimUpper),
            '<' => Kind::Operator(Op::Less),
            '>' if self.accept("=") => Kind::Operator(Op::GreaterEqual),
            '>' if self.accept("/") => Kind::Operator(Op::TrimLower),
            '>' => Kind::Operator(Op::Greater),
            c if c.is_ascii_digit() || (c == '.' && self.peek_is(|c| c.is_ascii_digit())) => {
                self.position = self.start;
                return self.number_or_duration();
            }
            '"' | '\'' => return self.text(c),
            '`' => return self.raw_text(),
            c if is_alpha(c) || c == ':' => return self.word_outside(c),
            '(' => {
                self.parens += 1;
                Kind::LeftParen
            }
            ')' => return self.right_paren(),
            '{' => {
                self.brace = true;
                Kind::LeftBrace
            }
            '[' => {
                if self.bracket {
                    return Err(self.fail("unexpected left bracket '['".to_owned()));
                }
                self.colon = false;
                self.bracket = true;
                self.length = true;
                Kind::LeftBracket
            }
            ']' => {
                if !self.bracket {
                    return Err(self.fail("unexpected right bracket ']'".to_owned()));
                }
                self.bracket = false;
                Kind::RightBracket
            }
            c => return Err(self.fail(format!("unexpected character: {}", quote_char(Some(c))))),
        };
        Ok(self.token(kind))
    }

    fn right_paren(&mut self) -> Result<Token<'a>, Failure> {
        let token = self.token(Kind::RightParen);
        match self.parens.checked_sub(1) {
            Some(parens) => self.parens = parens,
            None => return Err(self.fail("unexpected right parenthesis ')'".to_owned())),
        }
        Ok(token)
    }

    /// A word, or within brackets only a colon or one of the words of lengths.
    fn word_outside(&mut self, first: char) -> Result<Token<'a>, Failure> {
        if self.bracket {
            if first == ':' {
                if self.colon {
                    return Err(self.fail("unexpected colon ':'".to_owned()));
                }
                self.colon = true;
                return Ok(self.token(Kind::Colon));
            }
            if let Some(token) = self.length_word(first) {
                return Ok(token);
            }
            return Err(self.fail(format!("unexpected character: {}, expected ':'", quote_char(Some(first)))));
        }
        while self.peek_is(|c| is_alphanumeric(c) || c == ':') {
            self.advance();
        }
        let text = &self.input[self.start..self.position];
        let kind = match word(text) {
            Some(Kind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.input[self.position..].trim_start_matches(is_space).starts_with('(') =>
            {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if text.contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        Ok(self.token(kind))
    }

    /// `step`, `range`, `max_of` or `min_of`, whose first letter has been taken.
    fn length_word(&mut self, first: char) -> Option<Token<'a>> {
        if !matches!(first.to_ascii_lowercase(), 's' | 'r' | 'm') {
            return None;
        }
        while self.peek_is(is_alpha) {
            self.advance();
        }
        let kind = word(&self.input[self.start..self.position])?;
        let length = matches!(
            kind,
            Kind::Preprocessor(Preprocessor::Step | Preprocessor::Range | Preprocessor::MaxOf | Preprocessor::MinOf)
        );
        length.then(|| self.token(kind))
    }

    fn inside_length(&mut self) -> Result<Token<'a>, Failure> {
        let Some(c) = self.advance() else {
            return Err(self.fail("unexpected end of input in duration expression".to_owned()));
        };
        let kind = match c {
            ']' => {
                self.bracket = false;
                self.length = false;
                self.colon = false;
                Kind::RightBracket
            }
            ':' => {
                let token = self.token(Kind::Colon);
                if !self.number_in_bracket {
                    return Err(self.fail("unexpected colon before duration in duration expression".to_owned()));
                }
                if self.colon {
                    return Err(self.fail("unexpected repeated colon in duration expression".to_owned()));
                }
                self.colon = true;
                return Ok(token);
            }
            '(' => {
                self.parens += 1;
                Kind::LeftParen
            }
            ')' => return self.right_paren(),
            '+' => Kind::Operator(Op::Add),
            '-' => Kind::Operator(Op::Sub),
            '*' => Kind::Operator(Op::Mul),
            '/' => Kind::Operator(Op::Div),
            '%' => Kind::Operator(Op::Mod),
            '^' => Kind::Operator(Op::Pow),
            ',' => Kind::Comma,
            c if c.is_ascii_digit() || (c == '.' && self.peek_is(|c| c.is_ascii_digit())) => {
                self.position = self.start;
                self.number_in_bracket = true;
                self.length = false;
                return self.number_or_duration();
            }
            c => {
                if let Some(token) = self.length_word(c) {
                    return Ok(token);
                }
                return Err(self.fail(format!("unexpected character in duration expression: {}", quote_char(Some(c)))));
            }
        };
        Ok(self.token(kind))
    }

    fn inside_braces(&mut self) -> Result<Token<'a>, Failure> {
        let Some(c) = self.advance() else {
            return Err(self.fail("unexpected end of input inside braces".to_owned()));
        };
        let kind = match c {
            c if is_alpha(c) => {
                while self.peek_is(is_alphanumeric) {
                    self.advance();
                }
                Kind::Identifier
            }
            ',' => Kind::Comma,
            '"' | '\'' => return self.text(c),
            '`' => return self.raw_text(),
            '=' if self.accept("~") => Kind::EqualRegex,
            '=' => Kind::Equal,
            '!' => match self.advance() {
                Some('~') => Kind::NotEqualRegex,
                Some('=') => Kind::Operator(Op::NotEqual),
                next => {
                    let message = format!("unexpected character after '!' inside braces: {}", quote_char(next));
                    return Err(self.fail(message));
                }
            },
            '{' => return Err(self.fail("unexpected left brace '{'".to_owned())),
            '}' => {
                self.brace = false;
                Kind::RightBrace
            }
            c => return Err(self.fail(format!("unexpected character inside braces: {}", quote_char(Some(c))))),
        };
        Ok(self.token(kind))
    }

    fn text(&mut self, delimiter: char) -> Result<Token<'a>, Failure> {
        loop {
            match self.advance() {
                None | Some('\n') => return Err(self.fail("unterminated quoted string".to_owned())),
                Some('\\') => self.escape(delimiter)?,
                Some('\u{fffd}') => return Err(self.fail("invalid UTF-8 rune".to_owned())),
                Some(c) if c == delimiter => return Ok(self.token(Kind::Text)),
                Some(_) => {}
            }
        }
    }

    fn raw_text(&mut self) -> Result<Token<'a>, Failure> {
        loop {
            match self.advance() {
                None => return Err(self.fail("unterminated raw string".to_owned())),
                Some('\u{fffd}') => return Err(self.fail("invalid UTF-8 rune".to_owned())),
                Some('`') => return Ok(self.token(Kind::Text)),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, delimiter: char) -> Result<(), Failure> {
        let unterminated = |lexer: &Self| lexer.fail("escape sequence not terminated".to_owned());
        let first = self.advance().ok_or_else(|| unterminated(self))?;
        let (digits, base, most) = match first {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == delimiter => return Ok(()),
            '0'..='7' => {
                self.position -= 1;
                (3, 8, 255)
            }
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_ffff),
            'U' => (8, 16, 0x10_ffff),
            c => return Err(self.fail(format!("unknown escape sequence {}", code_point(c)))),
        };
        let mut value = 0u32;
        for _ in 0..digits {
            let c = self.advance().ok_or_else(|| unterminated(self))?;
            let Some(digit) = c.to_digit(base) else {
                return Err(self.fail(format!("illegal character {} in escape sequence", code_point(c))));
            };
            value = value.wrapping_mul(base).wrapping_add(digit);
        }
        if value > most || (0xd800..0xe000).contains(&value) {
            return Err(self.fail("escape sequence is an invalid Unicode code point".to_owned()));
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> Result<Token<'a>, Failure> {
        if self.number() {
            return Ok(self.token(Kind::Number));
        }
        if self.rest_of_duration() {
            return Ok(self.token(Kind::Duration));
        }
        let text = &self.input[self.start..self.position];
        Err(self.fail(format!("bad number or duration syntax: {}", quote(text))))
    }

    /// Takes what looks like a number; whether it is one shows when it is read.
    fn number(&mut self) -> bool {
        let before = self.position;
        let mut digits = "0123456789";
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
        }
        let hexadecimal = digits.len() > 10;
        self.accept(".");
        self.accept(digits);
        let (mut dot, mut exponent) = (false, false);
        while self.peek_is(|c| digits.contains(c) || "._eE".contains(c)) {
            let next = self.peek();
            if next == Some('.') {
                self.advance();
                if dot || self.accept("_.") || hexadecimal {
                    return false;
                }
                dot = true;
            } else if matches!(next, Some('e' | 'E')) {
                if exponent {
                    self.advance();
                    return false;
                }
                self.advance();
                exponent = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if next == Some('_') {
                self.advance();
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                while self.accept(digits) {}
            }
        }
        self.position > before && !self.peek_is(is_alphanumeric)
    }

    fn rest_of_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            while self.accept("0123456789") {}
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek_is(is_alphanumeric) {
            self.advance();
            return false;
        }
        true
    }
}
