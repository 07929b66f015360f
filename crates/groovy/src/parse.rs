//! Tokens to a tree: statements by their first word, values by binding power.
//!
//! The grammar followed is Groovy 2.4's, which pipelines run on: a statement ends with its line unless an operator or a bracket is
//! open; `name argument, key: value` is a call; a closure after a call on the same line is its last argument.

use crate::{
    lex::{self, Kind, Token, Word},
    source::{Error, Source, Span},
    tree::{Annotation, Block, Import, Script, Statement, StatementKind, Type},
};

mod class;
mod declare;
mod expression;
mod operand;
mod statement;

/// How deep a script may nest.
const DEPTH: usize = 120;
/// The same, with chains of operators and members counted.
const HEIGHT: usize = 1500;

/// The tree of a script.
pub fn parse(source: &Source) -> Result<Script, Error> {
    let tokens = lex::lex(source)?;
    let mut parser = Parser { source, tokens, at: 0, depth: 0, height: 0 };
    parser.script()
}

struct Parser<'a> {
    source: &'a Source,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    height: usize,
}

impl Parser<'_> {
    fn script(&mut self) -> Result<Script, Error> {
        let mut script = Script::default();
        loop {
            while self.take(";") {}
            if self.peek() == &Kind::End {
                return Ok(script);
            }
            let annotations = self.annotations()?;
            if annotations.iter().any(|annotation| annotation.name == "Library") && self.is_name("_") {
                self.at += 1;
            }
            let field = annotations.iter().any(|annotation| annotation.name.rsplit('.').next() == Some("Field"));
            script.annotations.extend(annotations);
            if self.peek() == &Kind::End || matches!(self.peek(), Kind::Sign(";")) {
                continue;
            }
            match self.peek() {
                Kind::Word(Word::Import) => {
                    let import = self.import()?;
                    script.imports.push(import);
                }
                Kind::Word(Word::Package) => {
                    self.at += 1;
                    self.path()?;
                }
                _ if self.is_class() => script.classes.push(std::sync::Arc::new(self.class()?)),
                _ => match self.function(false)? {
                    Some((function, _)) => script.functions.push(std::sync::Arc::new(function)),
                    None => {
                        let mut statement = self.statement()?;
                        if let StatementKind::Declare { field: is, .. } = &mut statement.kind {
                            *is = field;
                        }
                        script.body.push(statement);
                    }
                },
            }
            self.end_of_statement()?;
        }
    }

    fn import(&mut self) -> Result<Import, Error> {
        let start = self.span();
        self.at += 1;
        self.take_word(Word::Static);
        let mut path = self.path()?;
        if self.take(".") {
            self.expect("*")?;
            path.push_str(".*");
        }
        let alias = if self.take_word(Word::As) { Some(self.name()?.0) } else { None };
        Ok(Import { path, alias, span: start.to(self.last()) })
    }

    /// `a.b.c`; a dot before a star is left.
    fn path(&mut self) -> Result<String, Error> {
        let mut path = self.name()?.0;
        while matches!(self.peek(), Kind::Sign(".")) && !matches!(self.peek_at(1), Kind::Sign("*")) {
            self.at += 1;
            path.push('.');
            path.push_str(&self.name()?.0);
        }
        Ok(path)
    }

    fn annotations(&mut self) -> Result<Vec<Annotation>, Error> {
        let mut annotations = Vec::new();
        while matches!(self.peek(), Kind::Sign("@")) && !matches!(self.peek_at(1), Kind::Word(Word::Interface)) {
            let start = self.span();
            self.at += 1;
            let name = self.path()?;
            let arguments = if matches!(self.peek(), Kind::Sign("(")) && !self.next().line {
                self.at += 1;
                self.annotation_arguments()?
            } else {
                Vec::new()
            };
            annotations.push(Annotation { name, arguments, span: start.to(self.last()) });
        }
        Ok(annotations)
    }

    /// Named arguments of annotations have `=`.
    fn annotation_arguments(&mut self) -> Result<Vec<crate::tree::Argument>, Error> {
        use crate::tree::{Argument, Expression, ExpressionKind};
        let mut arguments = Vec::new();
        while !self.take(")") {
            if matches!(self.peek(), Kind::Name(_)) && matches!(self.peek_at(1), Kind::Sign("=")) {
                let (name, span) = self.name()?;
                self.at += 1;
                let key = Expression { kind: ExpressionKind::Text(name.as_str().into()), span };
                let value = self.expression()?;
                arguments.push(Argument::Named(key, value));
            } else {
                arguments.push(Argument::Value(self.expression()?));
            }
            if !self.take(",") && !matches!(self.peek(), Kind::Sign(")")) {
                return Err(self.unexpected());
            }
        }
        Ok(arguments)
    }

    /// Statements up to the closing brace, which is taken.
    fn block_rest(&mut self) -> Result<Block, Error> {
        let mut block = Vec::new();
        loop {
            while self.take(";") {}
            if self.take("}") {
                return Ok(block);
            }
            if self.peek() == &Kind::End {
                return Err(self.unexpected());
            }
            block.push(self.statement()?);
            self.end_of_statement()?;
        }
    }

    /// `{ ... }`
    fn braces(&mut self) -> Result<Block, Error> {
        self.expect("{")?;
        self.block_rest()
    }

    /// A block, or one statement.
    fn body(&mut self) -> Result<Block, Error> {
        if matches!(self.peek(), Kind::Sign("{")) {
            return self.braces();
        }
        if self.take(";") {
            return Ok(Vec::new());
        }
        Ok(vec![self.statement()?])
    }

    fn end_of_statement(&mut self) -> Result<(), Error> {
        let next = self.next();
        let ends = next.line || matches!(next.kind, Kind::End | Kind::Sign(";" | "}"));
        // A block ends a statement too.
        let block = self.at > 0 && matches!(self.tokens[self.at - 1].kind, Kind::Sign("}" | ";"));
        if ends || block { Ok(()) } else { Err(self.unexpected()) }
    }

    fn next(&self) -> &Token {
        // The last token is the end, and nothing goes beyond it.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &Kind {
        &self.next().kind
    }

    fn peek_at(&self, more: usize) -> &Kind {
        &self.token_at(more).kind
    }

    fn token_at(&self, more: usize) -> &Token {
        &self.tokens[(self.at + more).min(self.tokens.len() - 1)]
    }

    fn span(&self) -> Span {
        self.next().span
    }

    /// The span of the token before.
    fn last(&self) -> Span {
        self.tokens[self.at.clamp(1, self.tokens.len()) - 1].span
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Kind::Sign(next) if *next == sign)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Kind::Name(next) if next == name)
    }

    fn take(&mut self, sign: &str) -> bool {
        let is = self.is_sign(sign);
        self.at += usize::from(is);
        is
    }

    fn take_word(&mut self, word: Word) -> bool {
        let is = matches!(self.peek(), Kind::Word(next) if *next == word);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &str) -> Result<Span, Error> {
        let span = self.span();
        if self.take(sign) {
            return Ok(span);
        }
        Err(self.source.error(span, format!("expecting '{sign}', found {}", self.found())))
    }

    fn name(&mut self) -> Result<(String, Span), Error> {
        let span = self.span();
        match self.peek() {
            Kind::Name(name) => {
                let name = name.clone();
                self.at += 1;
                Ok((name, span))
            }
            _ => Err(self.source.error(span, format!("expecting a name, found {}", self.found()))),
        }
    }

    fn found(&self) -> String {
        match self.peek() {
            Kind::End if self.span().start as usize >= self.source.text().len() => "the end of the file".to_string(),
            Kind::End => "'}'".to_string(),
            Kind::Text(_) | Kind::Template(_) => "a string".to_string(),
            _ => format!("'{}'", self.source.slice(self.span())),
        }
    }

    fn unexpected(&self) -> Error {
        self.source.error(self.span(), format!("unexpected token: {}", self.found().trim_matches('\'')))
    }

    /// Goes one level deeper.
    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= DEPTH {
            return Err(self.source.error(self.span(), format!("code nests at most {DEPTH} deep")));
        }
        self.depth += 1;
        self.taller()?;
        let result = work(self);
        self.height -= 1;
        self.depth -= 1;
        result
    }

    fn taller(&mut self) -> Result<(), Error> {
        self.height += 1;
        if self.height > HEIGHT {
            return Err(self.source.error(self.span(), format!("an expression has at most {HEIGHT} parts in a row")));
        }
        Ok(())
    }

    /// A type at this place, taken; nothing is taken where there is none.
    fn try_type(&mut self) -> Option<Type> {
        let start = self.at;
        let span = self.span();
        let mut name = match self.peek() {
            Kind::Word(word) if word.is_primitive() => word.text().to_string(),
            Kind::Name(name) => name.clone(),
            _ => return None,
        };
        self.at += 1;
        while self.is_sign(".")
            && let Kind::Name(part) = self.peek_at(1)
        {
            name = format!("{name}.{part}");
            self.at += 2;
        }
        if self.is_sign("<") && !self.skip_generics() {
            self.at = start;
            return None;
        }
        let mut arrays = 0;
        while self.is_sign("[") && matches!(self.peek_at(1), Kind::Sign("]")) {
            arrays += 1;
            self.at += 2;
        }
        Some(Type { name, arrays, span: span.to(self.last()) })
    }

    /// `<A, B<C>>`.
    fn skip_generics(&mut self) -> bool {
        let mut open = 0i32;
        loop {
            match self.peek() {
                Kind::Sign("<") => open += 1,
                Kind::Sign(">") => open -= 1,
                Kind::Sign(">>") => open -= 2,
                Kind::Sign(">>>") => open -= 3,
                Kind::Name(_)
                | Kind::Sign("," | "." | "?" | "[" | "]" | "&")
                | Kind::Word(Word::Extends | Word::Super) => {}
                Kind::Word(word) if word.is_primitive() => {}
                _ => return false,
            }
            self.at += 1;
            if open <= 0 {
                return open == 0;
            }
        }
    }

    fn take_modifiers(&mut self) -> Modifiers {
        let mut modifiers = Modifiers::default();
        loop {
            match self.peek() {
                Kind::Word(Word::Static) => modifiers.fixed = true,
                Kind::Word(Word::Final | Word::Private | Word::Public | Word::Protected) => {}
                Kind::Name(name)
                    if modifiers.any && matches!(name.as_str(), "abstract" | "synchronized" | "transient") => {}
                _ => return modifiers,
            }
            modifiers.any = true;
            self.at += 1;
        }
    }

    fn statement(&mut self) -> Result<Statement, Error> {
        self.deeper(Self::statement_here)
    }
}

/// Words before a declaration.
#[derive(Default)]
struct Modifiers {
    any: bool,
    fixed: bool,
}

/// Whether a name looks like a class's.
fn is_class_name(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_uppercase()))
}

#[cfg(test)]
mod tests;
