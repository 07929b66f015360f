//! Text to tokens: <https://groovy-lang.org/syntax.html>.
//!
//! Line ends matter except within parentheses and brackets, so a token says whether one came before it. Code in strings
//! (`"${...}"`) is made into tokens of its own within the string's. A slash begins a string where no value came before it.

use crate::source::{Error, Source, Span};

mod string;

/// A word, a sign or a literal.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What.
    pub kind: Kind,
    /// Where.
    pub span: Span,
    /// A line end that counts came before it.
    pub line: bool,
    /// White space came before it.
    pub space: bool,
}

/// Kinds of tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A name.
    Name(String),
    /// A word with a meaning of its own.
    Word(Word),
    /// A whole number that fits 32 bits.
    Int(i32),
    /// A whole number with `L`, or too large for 32 bits.
    Long(i64),
    /// A whole number beyond 64 bits, or one with `G`; digits.
    Big(String),
    /// A number with a point or an exponent; digits.
    Decimal(String),
    /// The same with `d` or `f`.
    Double(f64),
    /// A string without code in it.
    Text(String),
    /// A string with code in it.
    Template(Vec<Piece>),
    /// Everything else: operators, brackets.
    Sign(&'static str),
    /// The end.
    End,
}

/// A piece of a string with code in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text.
    Text(String),
    /// `${...}`: tokens, the last of them [`Kind::End`].
    Code(Vec<Token>),
    /// `$a.b`: names.
    Path(Vec<(String, Span)>),
}

/// Words with a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Word {
    As,
    Assert,
    Break,
    Case,
    Catch,
    Class,
    Continue,
    Def,
    Default,
    Do,
    Else,
    Enum,
    Extends,
    False,
    Final,
    Finally,
    For,
    If,
    Implements,
    Import,
    In,
    Instanceof,
    Interface,
    New,
    Null,
    Package,
    Private,
    Protected,
    Public,
    Return,
    Static,
    Super,
    Switch,
    This,
    Throw,
    Throws,
    Trait,
    True,
    Try,
    Void,
    While,
    Boolean,
    Byte,
    Char,
    Double,
    Float,
    Int,
    Long,
    Short,
}

const WORDS: &[(&str, Word)] = &[
    ("as", Word::As),
    ("assert", Word::Assert),
    ("break", Word::Break),
    ("case", Word::Case),
    ("catch", Word::Catch),
    ("class", Word::Class),
    ("continue", Word::Continue),
    ("def", Word::Def),
    ("default", Word::Default),
    ("do", Word::Do),
    ("else", Word::Else),
    ("enum", Word::Enum),
    ("extends", Word::Extends),
    ("false", Word::False),
    ("final", Word::Final),
    ("finally", Word::Finally),
    ("for", Word::For),
    ("if", Word::If),
    ("implements", Word::Implements),
    ("import", Word::Import),
    ("in", Word::In),
    ("instanceof", Word::Instanceof),
    ("interface", Word::Interface),
    ("new", Word::New),
    ("null", Word::Null),
    ("package", Word::Package),
    ("private", Word::Private),
    ("protected", Word::Protected),
    ("public", Word::Public),
    ("return", Word::Return),
    ("static", Word::Static),
    ("super", Word::Super),
    ("switch", Word::Switch),
    ("this", Word::This),
    ("throw", Word::Throw),
    ("throws", Word::Throws),
    ("trait", Word::Trait),
    ("true", Word::True),
    ("try", Word::Try),
    ("void", Word::Void),
    ("while", Word::While),
    ("boolean", Word::Boolean),
    ("byte", Word::Byte),
    ("char", Word::Char),
    ("double", Word::Double),
    ("float", Word::Float),
    ("int", Word::Int),
    ("long", Word::Long),
    ("short", Word::Short),
];

impl Word {
    /// As it is written.
    pub fn text(self) -> &'static str {
        WORDS.iter().find(|(_, word)| *word == self).map_or("", |(text, _)| text)
    }

    /// A type that is no class.
    pub fn is_primitive(self) -> bool {
        use Word::*;
        matches!(self, Boolean | Byte | Char | Double | Float | Int | Long | Short | Void)
    }
}

/// Signs, longest first.
const SIGNS: &[&str] = &[
    ">>>=", "<=>", "**=", "...", "..<", "==~", "===", "!==", ">>>", "<<=", ">>=", "*.@", "?.@", "->", "++", "--", "**",
    "==", "!=", "=~", "<=", ">=", "&&", "||", "?:", "?.", "*.", "*:", ".&", ".@", "..", "::", "<<", ">>", "+=", "-=",
    "*=", "/=", "%=", "&=", "|=", "^=", "?=", "=", "<", ">", "!", "~", "?", ":", ".", ",", ";", "(", ")", "[", "]",
    "{", "}", "+", "-", "*", "/", "%", "&", "|", "^", "@",
];

/// How deep strings and brackets may nest.
pub const NESTING: usize = 200;
/// Bytes of text.
pub const LENGTH: usize = 4 << 20;

/// All tokens of a text, the last of them [`Kind::End`].
pub fn lex(source: &Source) -> Result<Vec<Token>, Error> {
    if source.text().len() > LENGTH {
        return Err(source.error(Span::default(), format!("a script has at most {LENGTH} bytes")));
    }
    let mut lexer = Lexer { source, text: source.text(), at: 0, strings: 0 };
    if lexer.text.starts_with("#!") {
        lexer.at = lexer.text.find('\n').unwrap_or(lexer.text.len());
    }
    lexer.tokens(false)
}

struct Lexer<'a> {
    source: &'a Source,
    text: &'a str,
    at: usize,
    /// How many strings are open around this place.
    strings: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn span(&self, start: usize) -> Span {
        Span { start: start as u32, end: self.at as u32 }
    }

    fn error(&self, start: usize, message: impl Into<String>) -> Error {
        self.source.error(Span { start: start as u32, end: start as u32 + 1 }, message)
    }

    /// Tokens up to the end, or up to the brace that closes code in a string.
    fn tokens(&mut self, code: bool) -> Result<Vec<Token>, Error> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut open: Vec<char> = Vec::new();
        loop {
            let before = self.at;
            let mut line = self.blank()?;
            let space = self.at > before;
            line &= !matches!(open.last(), Some('(' | '['));
            let start = self.at;
            let kind = match self.rest().chars().next() {
                None if code => return Err(self.error(start, "expecting '}' to close code in a string")),
                None => Kind::End,
                Some('}') if code && open.is_empty() => Kind::End,
                Some(c) => self.token(c, tokens.last())?,
            };
            match &kind {
                Kind::Sign(sign @ ("(" | "[" | "{")) => {
                    open.extend(sign.chars());
                    if open.len() > NESTING {
                        return Err(self.error(start, format!("brackets nest at most {NESTING} deep")));
                    }
                }
                Kind::Sign(sign @ (")" | "]" | "}")) => {
                    let fits = matches!((open.pop(), *sign), (Some('('), ")") | (Some('['), "]") | (Some('{'), "}"));
                    if !fits {
                        return Err(self.error(start, format!("unexpected token: {sign}")));
                    }
                }
                _ => {}
            }
            let end = kind == Kind::End;
            tokens.push(Token { kind, span: self.span(start), line, space });
            if end {
                return Ok(tokens);
            }
        }
    }

    /// Skips white space and comments; whether a line ended.
    fn blank(&mut self) -> Result<bool, Error> {
        let mut line = false;
        loop {
            let rest = self.rest();
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let Some(end) = comment.find("*/") else { return Err(self.error(self.at, "unclosed comment")) };
                line |= comment[..end].contains('\n');
                self.at += end + 4;
            } else if rest.starts_with("\\\n") || rest.starts_with("\\\r\n") {
                self.at += rest.find('\n').unwrap_or(0) + 1;
            } else {
                match rest.chars().next() {
                    Some('\n') => {
                        line = true;
                        self.at += 1;
                    }
                    Some(c) if c.is_whitespace() || c == '\u{feff}' => self.at += c.len_utf8(),
                    _ => return Ok(line),
                }
            }
        }
    }

    fn token(&mut self, c: char, last: Option<&Token>) -> Result<Kind, Error> {
        let start = self.at;
        if c == '$' && self.rest().starts_with("$/") && !ends_value(last) {
            return self.string("$/", "/$", true);
        }
        if is_start(c) {
            let name = self.name();
            if name == "$" {
                return Err(self.error(start, "unexpected char: '$'; ${...} stands within a string of double quotes"));
            }
            // A word is a name where a member's name is due.
            let member = matches!(last.map(|last| &last.kind), Some(Kind::Sign("." | "?." | "*." | ".&" | ".@")));
            let word = WORDS.iter().find(|(text, _)| *text == name).map(|(_, word)| *word);
            return Ok(match word {
                Some(word) if !member => Kind::Word(word),
                _ => Kind::Name(name.to_string()),
            });
        }
        if c.is_ascii_digit() {
            return self.number();
        }
        match c {
            '"' if self.rest().starts_with("\"\"\"") => return self.string("\"\"\"", "\"\"\"", true),
            '"' => return self.string("\"", "\"", true),
            '\'' if self.rest().starts_with("'''") => return self.string("'''", "'''", false),
            '\'' => return self.string("'", "'", false),
            '/' if !ends_value(last) => return self.string("/", "/", true),
            _ => {}
        }
        match SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Kind::Sign(sign))
            }
            None => Err(self.error(start, format!("unexpected char: '{}'", c.escape_default()))),
        }
    }

    fn name(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Letters of a number: digits, underscores, a point that a digit follows, an exponent.
    fn number(&mut self) -> Result<Kind, Error> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let radix = match (bytes[start], bytes.get(start + 1).map(u8::to_ascii_lowercase)) {
            (b'0', Some(b'x')) => 16,
            (b'0', Some(b'b')) => 2,
            (b'0', Some(b'0'..=b'9')) => 8,
            _ => 10,
        };
        let mut real = false;
        if matches!(radix, 16 | 2) {
            self.at += 2;
            while bytes.get(self.at).is_some_and(|b| (*b as char).is_digit(radix) || *b == b'_') {
                self.at += 1;
            }
        } else {
            let run = |lexer: &mut Self| {
                while bytes.get(lexer.at).is_some_and(|b| b.is_ascii_digit() || *b == b'_') {
                    lexer.at += 1;
                }
            };
            run(self);
            if bytes.get(self.at) == Some(&b'.') && digit(self.at + 1) {
                real = true;
                self.at += 1;
                run(self);
            }
            if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(self.at + 1), Some(b'+' | b'-')));
                if digit(self.at + 1 + sign) {
                    real = true;
                    self.at += 1 + sign;
                    run(self);
                }
            }
        }
        let digits: String = self.text[start..self.at].chars().filter(|c| *c != '_').collect();
        let suffix = bytes.get(self.at).map(u8::to_ascii_lowercase);
        let suffix = suffix.filter(|c| matches!(c, b'l' | b'i' | b'g') || matches!(c, b'd' | b'f') && radix != 16);
        if suffix.is_some() {
            self.at += 1;
        }
        if self.rest().chars().next().is_some_and(is_part) {
            return Err(self.error(start, format!("invalid number: {digits}")));
        }
        let wrong = || self.error(start, format!("invalid number: {digits}"));
        if matches!(suffix, Some(b'd' | b'f')) {
            return digits.parse().map(Kind::Double).map_err(|_| wrong());
        }
        if real {
            return Ok(Kind::Decimal(digits));
        }
        let bare = match radix {
            16 | 2 => &digits[2..],
            8 => &digits[1..],
            _ => &digits[..],
        };
        let whole = i128::from_str_radix(bare, radix);
        match (suffix, whole) {
            (Some(b'g'), _) if radix == 10 => Ok(Kind::Big(digits)),
            (Some(b'l'), Ok(whole)) => i64::try_from(whole).map(Kind::Long).map_err(|_| wrong()),
            (None | Some(b'i'), Ok(whole)) if i32::try_from(whole).is_ok() => Ok(Kind::Int(whole as i32)),
            // In other bases the bits count.
            (None, Ok(whole)) if radix != 10 && u32::try_from(whole).is_ok() => Ok(Kind::Int(whole as u32 as i32)),
            (None, Ok(whole)) if i64::try_from(whole).is_ok() => Ok(Kind::Long(whole as i64)),
            (None, _) if radix == 10 => Ok(Kind::Big(digits)),
            _ => Err(wrong()),
        }
    }
}

fn is_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn is_part(c: char) -> bool {
    is_start(c) || c.is_numeric()
}

/// Whether a value can end with this token, so that a slash after it divides.
fn ends_value(token: Option<&Token>) -> bool {
    match token.map(|token| &token.kind) {
        None => false,
        Some(Kind::Sign(sign)) => matches!(*sign, ")" | "]" | "}" | "++" | "--"),
        Some(Kind::Word(word)) => {
            matches!(word, Word::This | Word::Super | Word::Null | Word::True | Word::False) || word.is_primitive()
        }
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests;
