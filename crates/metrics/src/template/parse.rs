//! Tokens of a template to trees, one for each template that is defined in the text.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Error,
    format::quote,
    lex::{self, Keyword, Token},
    tree::{Branch, Kind, Node, Number, Pipe, Word},
    value::Value,
};

/// Deepest nesting of parentheses and of blocks.
const DEPTH: usize = 100;

/// A template, and the text from which errors tell lines.
#[derive(Debug)]
pub(super) struct Tree {
    pub name: String,
    /// What the text itself is called.
    pub source: Arc<str>,
    pub text: Arc<str>,
    pub root: Node,
}

/// Reads a text: the template of its own name, and those that it defines. `known` says which functions there are.
pub(super) fn parse(
    name: &str,
    text: &str,
    known: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, Arc<Tree>>, Error> {
    let mut parser = Parser {
        source: name.into(),
        text: text.into(),
        tokens: lex::lex(text),
        at: 0,
        variables: vec!["$".to_owned()],
        ranges: 0,
        depth: 0,
        known,
        trees: BTreeMap::new(),
    };
    let root = parser.whole()?;
    parser.add(name, root)?;
    Ok(parser.trees)
}

struct Parser<'a> {
    source: Arc<str>,
    text: Arc<str>,
    tokens: Vec<Token>,
    at: usize,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
    known: &'a dyn Fn(&str) -> bool,
    trees: BTreeMap<String, Arc<Tree>>,
}

/// How a list ended.
enum Close {
    End,
    Else(Option<Word>),
}

impl Close {
    fn describe(&self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else(_) => "{{else}}",
        }
    }
}

impl Parser<'_> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Error> {
        // The token that was looked at last tells the line.
        let token = &self.tokens[self.at.saturating_sub(1).min(self.tokens.len() - 1)];
        Err(Error(format!("template: {}:{}: {}", self.source, token.line, message.into())))
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T, Error> {
        if token.kind == lex::Kind::Error {
            return self.fail(token.text.clone());
        }
        self.fail(format!("unexpected {} in {context}", token.describe()))
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at.min(self.tokens.len() - 1)].clone();
        self.at += 1;
        token
    }

    fn back(&mut self) {
        self.at -= 1;
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn skip_space(&mut self) {
        while self.peek().kind == lex::Kind::Space {
            self.at += 1;
        }
    }

    fn next_word(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn expect(&mut self, kind: lex::Kind, context: &str) -> Result<Token, Error> {
        let token = self.next_word();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn add(&mut self, name: &str, root: Node) -> Result<(), Error> {
        match self.trees.get(name) {
            Some(before) if !before.root.is_empty() => {
                if !root.is_empty() {
                    return self.fail(format!("template: multiple definition of template {}", quote(name)));
                }
            }
            _ => {
                let tree = Tree { name: name.to_owned(), source: self.source.clone(), text: self.text.clone(), root };
                self.trees.insert(name.to_owned(), Arc::new(tree));
            }
        }
        Ok(())
    }

    fn whole(&mut self) -> Result<Node, Error> {
        let mut nodes = Vec::new();
        loop {
            match self.peek().kind {
                lex::Kind::Eof => return Ok(Node { at: 0, kind: Kind::List(nodes) }),
                lex::Kind::LeftDelim => {
                    let start = self.at;
                    self.next();
                    if self.next_word().kind == lex::Kind::Keyword(Keyword::Define) {
                        self.define()?;
                        continue;
                    }
                    self.at = start;
                }
                _ => {}
            }
            match self.text_or_action()? {
                Ok(node) => nodes.push(node),
                Err(close) => return self.fail(format!("unexpected {}", close.describe())),
            }
        }
    }

    fn define(&mut self) -> Result<(), Error> {
        const CONTEXT: &str = "define clause";
        let name = self.template_name(CONTEXT)?;
        self.expect(lex::Kind::RightDelim, CONTEXT)?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (body, close) = self.list()?;
        if !matches!(close, Close::End) {
            return self.fail(format!("unexpected {} in {CONTEXT}", close.describe()));
        }
        (self.variables, self.ranges) = (outer, ranges);
        self.add(&name, body)
    }

    fn template_name(&mut self, context: &str) -> Result<String, Error> {
        let token = self.next_word();
        match token.kind {
            lex::Kind::String | lex::Kind::RawString => self.unquoted(&token),
            _ => self.unexpected(&token, context),
        }
    }

    fn unquoted(&self, token: &Token) -> Result<String, Error> {
        match super::format::unquote(&token.text) {
            Some(text) => Ok(text),
            None => self.fail("invalid syntax"),
        }
    }

    fn list(&mut self) -> Result<(Node, Close), Error> {
        self.skip_space();
        let at = self.peek().at;
        let mut nodes = Vec::new();
        self.deeper()?;
        while self.peek().kind != lex::Kind::Eof {
            match self.text_or_action()? {
                Ok(node) => nodes.push(node),
                Err(close) => {
                    self.depth -= 1;
                    return Ok((Node { at, kind: Kind::List(nodes) }, close));
                }
            }
        }
        self.next();
        self.fail("unexpected EOF")
    }

    fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH { self.fail("max expression depth exceeded") } else { Ok(()) }
    }

    fn text_or_action(&mut self) -> Result<Result<Node, Close>, Error> {
        let token = self.next_word();
        match token.kind {
            lex::Kind::Text => Ok(Ok(Node { at: token.at, kind: Kind::Text(token.text) })),
            lex::Kind::LeftDelim => self.action(),
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Result<Result<Node, Close>, Error> {
        let token = self.next_word();
        let at = token.at;
        let node = |kind| Ok(Ok(Node { at, kind }));
        match token.kind {
            lex::Kind::Keyword(word) => match word {
                Keyword::Block => {
                    self.skip_space();
                    let at = self.peek().at;
                    Ok(Ok(Node { at, kind: self.block()? }))
                }
                Keyword::Break | Keyword::Continue => {
                    let name = &token.text;
                    let end = self.next_word();
                    if end.kind != lex::Kind::RightDelim {
                        return self.unexpected(&end, &format!("{{{{{name}}}}}"));
                    }
                    if self.ranges == 0 {
                        return self.fail(format!("{{{{{name}}}}} outside {{{{range}}}}"));
                    }
                    node(if word == Keyword::Break { Kind::Break } else { Kind::Continue })
                }
                Keyword::Else => {
                    self.skip_space();
                    let next = match self.peek().kind {
                        lex::Kind::Keyword(Keyword::If) => Some(Word::If),
                        lex::Kind::Keyword(Keyword::With) => Some(Word::With),
                        _ => None,
                    };
                    if next.is_none() {
                        self.expect(lex::Kind::RightDelim, "else")?;
                    }
                    Ok(Err(Close::Else(next)))
                }
                Keyword::End => {
                    self.expect(lex::Kind::RightDelim, "end")?;
                    Ok(Err(Close::End))
                }
                Keyword::If => Ok(Ok(self.branch(Word::If)?)),
                Keyword::With => Ok(Ok(self.branch(Word::With)?)),
                Keyword::Range => Ok(Ok(self.branch(Word::Range)?)),
                Keyword::Template => {
                    const CONTEXT: &str = "template clause";
                    self.skip_space();
                    let at = self.peek().at;
                    let name = self.template_name(CONTEXT)?;
                    let mut pipe = None;
                    if self.next_word().kind != lex::Kind::RightDelim {
                        self.back();
                        pipe = Some(Box::new(self.pipeline(CONTEXT, lex::Kind::RightDelim)?));
                    }
                    Ok(Ok(Node { at, kind: Kind::Template(name, pipe) }))
                }
                Keyword::Define => self.unexpected(&token, "command"),
            },
            _ => {
                self.back();
                let pipe = self.pipeline("command", lex::Kind::RightDelim)?;
                node(Kind::Action(Box::new(pipe)))
            }
        }
    }

    fn block(&mut self) -> Result<Kind, Error> {
        const CONTEXT: &str = "block clause";
        let name = self.template_name(CONTEXT)?;
        let pipe = self.pipeline(CONTEXT, lex::Kind::RightDelim)?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (body, close) = self.list()?;
        if !matches!(close, Close::End) {
            return self.fail(format!("unexpected {} in {CONTEXT}", close.describe()));
        }
        (self.variables, self.ranges) = (outer, ranges);
        self.add(&name, body)?;
        Ok(Kind::Template(name, Some(Box::new(pipe))))
    }

    fn branch(&mut self, word: Word) -> Result<Node, Error> {
        let variables = self.variables.len();
        let pipe = self.pipeline(word.name(), lex::Kind::RightDelim)?;
        if word == Word::Range {
            self.ranges += 1;
        }
        let (body, close) = self.list()?;
        if word == Word::Range {
            self.ranges -= 1;
        }
        let otherwise = match close {
            Close::End => None,
            Close::Else(Some(next)) if next == word => {
                let token = self.next_word();
                self.deeper()?;
                let inner = self.branch(next)?;
                self.depth -= 1;
                Some(Node { at: token.at, kind: Kind::List(vec![inner]) })
            }
            Close::Else(Some(_)) => {
                let token = self.next_word();
                return self.unexpected(&token, "else");
            }
            Close::Else(None) => {
                let (list, close) = self.list()?;
                if !matches!(close, Close::End) {
                    return self.fail(format!("expected end; found {}", close.describe()));
                }
                Some(list)
            }
        };
        self.variables.truncate(variables);
        Ok(Node { at: pipe.at, kind: Kind::Branch(Box::new(Branch { word, pipe, body, otherwise })) })
    }

    fn pipeline(&mut self, context: &str, end: lex::Kind) -> Result<Node, Error> {
        self.skip_space();
        let at = self.peek().at;
        let mut pipe = Pipe { assigns: false, variables: Vec::new(), commands: Vec::new() };
        while self.peek().kind == lex::Kind::Variable {
            let start = self.at;
            let variable = self.next().text;
            self.skip_space();
            let next = self.peek().clone();
            match next.kind {
                lex::Kind::Assign | lex::Kind::Declare => {
                    pipe.assigns = next.kind == lex::Kind::Assign;
                    self.next();
                    if pipe.assigns && !self.variables.contains(&variable) {
                        return self.fail(format!("undefined variable {}", quote(&variable)));
                    }
                    pipe.variables.push(variable.clone());
                    self.variables.push(variable);
                    break;
                }
                lex::Kind::Char if next.text == "," => {
                    self.next();
                    pipe.variables.push(variable.clone());
                    self.variables.push(variable);
                    if context != "range" || pipe.variables.len() > 1 {
                        return self.fail(format!("too many declarations in {context}"));
                    }
                    self.skip_space();
                    if self.peek().kind != lex::Kind::Variable {
                        return self.fail("range can only initialize variables");
                    }
                }
                _ => {
                    self.at = start;
                    break;
                }
            }
        }
        loop {
            let token = self.next_word();
            match token.kind {
                kind if kind == end => {
                    self.check_pipeline(&pipe, context)?;
                    return Ok(Node { at, kind: Kind::Pipe(pipe) });
                }
                lex::Kind::Bool
                | lex::Kind::CharConstant
                | lex::Kind::Dot
                | lex::Kind::Field
                | lex::Kind::Identifier
                | lex::Kind::Number
                | lex::Kind::Nil
                | lex::Kind::RawString
                | lex::Kind::String
                | lex::Kind::Variable
                | lex::Kind::LeftParen => {
                    self.back();
                    pipe.commands.push(self.command()?);
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    fn check_pipeline(&self, pipe: &Pipe, context: &str) -> Result<(), Error> {
        if pipe.commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            let Kind::Command(words) = &command.kind else { continue };
            let constant = words.first().is_some_and(|word| {
                matches!(word.kind, Kind::Bool(_) | Kind::Dot | Kind::Nil | Kind::Number(_) | Kind::Quoted(..))
            });
            if constant {
                return self.fail(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Node, Error> {
        let at = self.peek().at;
        let mut words = Vec::new();
        loop {
            self.skip_space();
            if let Some(word) = self.operand()? {
                words.push(word);
            }
            let token = self.next();
            match token.kind {
                lex::Kind::Space => {}
                lex::Kind::RightDelim | lex::Kind::RightParen => {
                    self.back();
                    break;
                }
                lex::Kind::Pipe => break,
                _ => return self.unexpected(&token, "operand"),
            }
        }
        if words.is_empty() {
            return self.fail("empty command");
        }
        Ok(Node { at, kind: Kind::Command(words) })
    }

    fn operand(&mut self) -> Result<Option<Node>, Error> {
        let Some(mut node) = self.term()? else { return Ok(None) };
        let mut names = Vec::new();
        while self.peek().kind == lex::Kind::Field {
            names.push(self.next().text[1..].to_owned());
        }
        if names.is_empty() {
            return Ok(Some(node));
        }
        match &mut node.kind {
            Kind::Field(fields) | Kind::Variable(fields) => fields.extend(names),
            Kind::Bool(_) | Kind::Quoted(..) | Kind::Number(_) | Kind::Nil | Kind::Dot => {
                return self.fail(format!("unexpected . after term {}", quote(&node.to_string())));
            }
            _ => {
                let at = node.at;
                node = Node { at, kind: Kind::Chain(Box::new(node), names) };
            }
        }
        Ok(Some(node))
    }

    fn term(&mut self) -> Result<Option<Node>, Error> {
        let token = self.next_word();
        let at = token.at;
        let kind = match token.kind {
            lex::Kind::Identifier => {
                if !(self.known)(&token.text) {
                    return self.fail(format!("function {} not defined", quote(&token.text)));
                }
                Kind::Function(token.text)
            }
            lex::Kind::Dot => Kind::Dot,
            lex::Kind::Nil => Kind::Nil,
            lex::Kind::Variable => {
                if !self.variables.contains(&token.text) {
                    return self.fail(format!("undefined variable {}", quote(&token.text)));
                }
                Kind::Variable(vec![token.text])
            }
            lex::Kind::Field => Kind::Field(vec![token.text[1..].to_owned()]),
            lex::Kind::Bool => Kind::Bool(token.text == "true"),
            lex::Kind::CharConstant | lex::Kind::Number => match number(&token.text) {
                Some(number) => Kind::Number(number),
                None => return self.fail(format!("illegal number syntax: {}", quote(&token.text))),
            },
            lex::Kind::String | lex::Kind::RawString => {
                let text = self.unquoted(&token)?;
                Kind::Quoted(token.text, Value::text(text))
            }
            lex::Kind::LeftParen => {
                self.deeper()?;
                let pipe = self.pipeline("parenthesized pipeline", lex::Kind::RightParen)?;
                self.depth -= 1;
                return Ok(Some(pipe));
            }
            _ => {
                self.back();
                return Ok(None);
            }
        };
        Ok(Some(Node { at, kind }))
    }
}

fn number(text: &str) -> Option<Number> {
    if text.starts_with('\'') {
        let mut content = super::format::unquote(&format!("\"{}\"", &text[1..text.len() - 1]))?;
        if text == "'\"'" || text == "'\\''" {
            content = text[text.len() - 2..text.len() - 1].to_owned();
        }
        let mut chars = content.chars();
        let c = chars.next()?;
        let int = i64::from(c as u32);
        return chars.next().is_none().then(|| Number {
            text: text.to_owned(),
            int: Some(int),
            float: Some(int as f64),
        });
    }
    let float = promql::number::parse(text);
    let whole = float.filter(|float| float.trunc() == *float && float.abs() < 9.2e18).map(|float| float as i64);
    // Beyond what a float holds exactly, digits are read as they stand.
    let digits = text.trim_start_matches(['+', '-']);
    let decimal = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    let int = if decimal { text.trim_start_matches('+').parse().ok() } else { whole };
    float.map(|float| Number { text: text.to_owned(), int, float: Some(float) })
}
