//! Operands: literals, names, members, calls, closures.

use std::sync::Arc;

use super::Parser;
use crate::{
    lex::{Kind, Piece, Token, Word},
    source::{Error, Span},
    tree::{Access, Argument, Call, Callee, Expression, ExpressionKind, Function, StatementKind, TemplatePart},
    value::decimal::Decimal,
};

impl Parser<'_> {
    /// An operand with its members, calls and indices; where `command`, `name argument` is a call.
    pub(super) fn postfix(&mut self, command: bool) -> Result<Expression, Error> {
        let begin = self.at;
        let mut value = self.primary()?;
        loop {
            value = self.members(value)?;
            if !command || !self.starts_argument(&value) {
                return Ok(value);
            }
            // `a b` is a call where `a` is a name or a member, not a value in brackets.
            let path = matches!(value.kind, ExpressionKind::Name(_) | ExpressionKind::Property { .. })
                && !matches!(self.tokens[begin].kind, Kind::Sign("("));
            if path {
                self.taller()?;
                let arguments = self.command_arguments()?;
                value = called(value, arguments, false, 0);
            } else if matches!(&value.kind, ExpressionKind::Call(call) if !call.parentheses && call.trailing == 0)
                && matches!(self.peek(), Kind::Name(_))
            {
                // `a b c` goes on with a member of what `a b` gave.
                self.taller()?;
                let (name, span) = self.name()?;
                value =
                    member(value, Expression { kind: ExpressionKind::Text(name.as_str().into()), span }, Access::Plain);
            } else {
                return Ok(value);
            }
        }
    }

    /// Whether the first argument of a call without parentheses stands here.
    fn starts_argument(&self, value: &Expression) -> bool {
        let next = self.next();
        if next.line {
            return false;
        }
        match &next.kind {
            Kind::Name(_)
            | Kind::Int(_)
            | Kind::Long(_)
            | Kind::Big(_)
            | Kind::Decimal(_)
            | Kind::Double(_)
            | Kind::Text(_)
            | Kind::Template(_) => true,
            Kind::Word(word) => {
                matches!(word, Word::New | Word::Null | Word::True | Word::False | Word::This | Word::Super)
                    || matches!(self.peek_at(1), Kind::Sign(":")) && !matches!(value.kind, ExpressionKind::Call(_))
            }
            Kind::Sign("!") => {
                next.space
                    && !self.token_at(1).space
                    && !matches!(self.peek_at(1), Kind::Word(Word::In | Word::Instanceof))
            }
            _ => false,
        }
    }

    fn command_arguments(&mut self) -> Result<Vec<Argument>, Error> {
        let mut arguments = Vec::new();
        loop {
            arguments.push(self.argument()?);
            if !self.take(",") {
                return Ok(arguments);
            }
        }
    }

    /// Members, calls, indices and closures after a value.
    fn members(&mut self, mut value: Expression) -> Result<Expression, Error> {
        loop {
            let next = self.next();
            let (line, space) = (next.line, next.space);
            let sign = match &next.kind {
                Kind::Sign(sign) => *sign,
                _ => return Ok(value),
            };
            if line && !matches!(sign, "." | "?." | "*." | ".&") {
                return Ok(value);
            }
            match sign {
                "." | "?." | "*." | ".@" | "?.@" | "*.@" => {
                    self.taller()?;
                    self.at += 1;
                    let access = match sign.as_bytes()[0] {
                        b'?' => Access::Safe,
                        b'*' => Access::Each,
                        _ => Access::Plain,
                    };
                    if self.is_sign("<") {
                        self.skip_generics();
                    }
                    let name = self.member_name()?;
                    value = member(value, name, access);
                }
                ".&" => {
                    self.taller()?;
                    self.at += 1;
                    let (name, span) = self.name()?;
                    let span = value.span.to(span);
                    value = Expression { kind: ExpressionKind::Method(Box::new(value), name), span };
                }
                "(" => {
                    self.taller()?;
                    self.at += 1;
                    let arguments = self.arguments(")")?;
                    value = called(value, arguments, true, 0);
                    value.span = value.span.to(self.last());
                }
                "{" if can_take_closure(&value) => {
                    self.taller()?;
                    let closure = self.closure()?;
                    let end = closure.span;
                    value = match value.kind {
                        ExpressionKind::Call(mut call) => {
                            call.arguments.push(Argument::Value(closure));
                            call.trailing += 1;
                            Expression { span: value.span.to(end), kind: ExpressionKind::Call(call) }
                        }
                        _ => called(value, vec![Argument::Value(closure)], false, 1),
                    };
                }
                "[" => {
                    // `name [key: value]` is a call: an index has no names.
                    let named = space
                        && matches!(value.kind, ExpressionKind::Name(_))
                        && (matches!(self.peek_at(2), Kind::Sign(":")) || matches!(self.peek_at(1), Kind::Sign(":")));
                    self.taller()?;
                    if named {
                        let arguments = self.command_arguments()?;
                        return Ok(called(value, arguments, false, 0));
                    }
                    self.at += 1;
                    let keys = self.arguments("]")?;
                    let span = value.span.to(self.last());
                    value = Expression { kind: ExpressionKind::Index { object: Box::new(value), keys }, span };
                }
                "++" | "--" => {
                    self.taller()?;
                    self.at += 1;
                    let span = value.span.to(self.last());
                    let by = if sign == "++" { 1 } else { -1 };
                    value = Expression {
                        kind: ExpressionKind::Increment { target: Box::new(value), by, after: true },
                        span,
                    };
                }
                _ => return Ok(value),
            }
        }
    }

    fn member_name(&mut self) -> Result<Expression, Error> {
        let token = self.next().clone();
        let kind = match &token.kind {
            Kind::Name(name) => ExpressionKind::Text(name.as_str().into()),
            Kind::Text(text) => ExpressionKind::Text(text.as_str().into()),
            Kind::Word(word) => ExpressionKind::Text(word.text().into()),
            Kind::Template(_) => return self.primary(),
            Kind::Sign("(") => {
                self.at += 1;
                let name = self.expression()?;
                self.expect(")")?;
                return Ok(name);
            }
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(Expression { kind, span: token.span })
    }

    /// Arguments up to a closing sign, which is taken.
    pub(super) fn arguments(&mut self, close: &str) -> Result<Vec<Argument>, Error> {
        let mut arguments = Vec::new();
        loop {
            if self.take(close) {
                return Ok(arguments);
            }
            arguments.push(self.argument()?);
            if !self.take(",") {
                self.expect(close)?;
                return Ok(arguments);
            }
        }
    }

    /// `a`, `a: b`, `*a`, `*: a`.
    fn argument(&mut self) -> Result<Argument, Error> {
        if self.take("*:") {
            return Ok(Argument::SpreadMap(self.expression()?));
        }
        if self.is_sign("*") && matches!(self.peek_at(1), Kind::Sign(":")) {
            self.at += 2;
            return Ok(Argument::SpreadMap(self.expression()?));
        }
        if self.take("*") {
            return Ok(Argument::Spread(self.expression()?));
        }
        let named = matches!(self.peek_at(1), Kind::Sign(":")) && !self.token_at(1).line;
        if named && !matches!(self.peek(), Kind::Sign(_) | Kind::End) {
            let token = self.next().clone();
            let key = match &token.kind {
                Kind::Name(name) => {
                    self.at += 1;
                    Expression { kind: ExpressionKind::Text(name.as_str().into()), span: token.span }
                }
                Kind::Word(word) => {
                    self.at += 1;
                    Expression { kind: ExpressionKind::Text(word.text().into()), span: token.span }
                }
                _ => self.primary()?,
            };
            self.expect(":")?;
            return Ok(Argument::Named(key, self.expression()?));
        }
        let value = self.expression()?;
        if self.is_sign(":") && matches!(self.source.text().as_bytes().get(value.span.start as usize), Some(b'(')) {
            // `(key): value`
            self.at += 1;
            return Ok(Argument::Named(value, self.expression()?));
        }
        Ok(Argument::Value(value))
    }

    fn primary(&mut self) -> Result<Expression, Error> {
        let token = self.next().clone();
        let kind = match token.kind {
            Kind::Name(name) => ExpressionKind::Name(name),
            Kind::Int(value) => ExpressionKind::Int(value),
            Kind::Long(value) => ExpressionKind::Long(value),
            Kind::Double(value) => ExpressionKind::Double(value),
            Kind::Big(digits) | Kind::Decimal(digits) => {
                let value = Decimal::parse(&digits);
                ExpressionKind::Decimal(value.ok_or_else(|| self.source.error(token.span, "number out of range"))?)
            }
            Kind::Text(text) => ExpressionKind::Text(text.into()),
            Kind::Template(pieces) => {
                self.at += 1;
                let parts = self.deeper(|parser| parser.template(pieces))?;
                return Ok(Expression { kind: ExpressionKind::Template(parts), span: token.span });
            }
            Kind::Word(word) => match word {
                Word::Null => ExpressionKind::Null,
                Word::True => ExpressionKind::Bool(true),
                Word::False => ExpressionKind::Bool(false),
                Word::This | Word::Super => ExpressionKind::This,
                Word::New => return self.new_object(),
                word if word.is_primitive() => ExpressionKind::Name(word.text().to_string()),
                _ => return Err(self.unexpected()),
            },
            Kind::Sign("(") => {
                self.at += 1;
                let mut value = self.expression()?;
                self.expect(")")?;
                value.span = token.span.to(self.last());
                return Ok(value);
            }
            Kind::Sign("[") => {
                self.at += 1;
                return self.deeper(|parser| parser.list_or_map(token.span));
            }
            Kind::Sign("{") => return self.closure(),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(Expression { kind, span: token.span })
    }

    fn list_or_map(&mut self, start: Span) -> Result<Expression, Error> {
        if self.take(":") {
            self.expect("]")?;
            return Ok(Expression { kind: ExpressionKind::Map(Vec::new()), span: start.to(self.last()) });
        }
        let entries = self.arguments("]")?;
        let named =
            entries.iter().filter(|entry| matches!(entry, Argument::Named(..) | Argument::SpreadMap(_))).count();
        let span = start.to(self.last());
        if named == 0 {
            return Ok(Expression { kind: ExpressionKind::List(entries), span });
        }
        if let Some(entry) = entries.iter().find(|entry| matches!(entry, Argument::Value(_) | Argument::Spread(_))) {
            return Err(self.source.error(entry.span(), "expecting 'key: value' in a map"));
        }
        Ok(Expression { kind: ExpressionKind::Map(entries), span })
    }

    /// `{ parameters -> statements }`
    pub(super) fn closure(&mut self) -> Result<Expression, Error> {
        self.deeper(|parser| {
            let start = parser.expect("{")?;
            let begin = parser.at;
            let parameters = match parser.parameters("->") {
                Ok(parameters) if parser.take("->") => Some(parameters),
                _ => {
                    parser.at = begin;
                    None
                }
            };
            let body = parser.block_rest()?;
            let span = start.to(parser.last());
            let function = Function { name: None, parameters, body, fixed: false, span };
            Ok(Expression { kind: ExpressionKind::Closure(Arc::new(function)), span })
        })
    }

    fn new_object(&mut self) -> Result<Expression, Error> {
        let start = self.span();
        self.at += 1;
        let mut kind = self.try_type().ok_or_else(|| self.unexpected())?;
        let mut sizes = Vec::new();
        let mut arguments = Vec::new();
        if self.is_sign("[") {
            while self.take("[") {
                sizes.push(self.expression()?);
                self.expect("]")?;
                kind.arrays += 1;
            }
        } else if kind.arrays > 0 && self.is_sign("{") {
            return Err(self.source.error(self.span(), "write an array's values as a list: [a, b] as String[]"));
        } else {
            self.expect("(")?;
            arguments = self.arguments(")")?;
        }
        Ok(Expression { kind: ExpressionKind::New { kind, arguments, sizes }, span: start.to(self.last()) })
    }

    fn template(&mut self, pieces: Vec<Piece>) -> Result<Vec<TemplatePart>, Error> {
        let mut parts = Vec::new();
        for piece in pieces {
            parts.push(match piece {
                Piece::Text(text) => TemplatePart::Text(text.into()),
                Piece::Path(names) => {
                    let mut value: Option<Expression> = None;
                    for (name, span) in names {
                        value = Some(match value {
                            None => Expression { kind: ExpressionKind::Name(name), span },
                            Some(object) => {
                                let name = Expression { kind: ExpressionKind::Text(name.as_str().into()), span };
                                member(object, name, Access::Plain)
                            }
                        });
                    }
                    match value {
                        Some(value) => TemplatePart::Value(value),
                        None => continue,
                    }
                }
                Piece::Code(tokens) => TemplatePart::Value(self.inner(tokens)?),
            });
        }
        Ok(parts)
    }

    /// The value of code in a string.
    fn inner(&mut self, tokens: Vec<Token>) -> Result<Expression, Error> {
        let span = tokens.first().map(|token| token.span).unwrap_or_default();
        let mut parser = Parser { source: self.source, tokens, at: 0, depth: self.depth, height: self.height };
        parser.take("->");
        let mut body = Vec::new();
        loop {
            while parser.take(";") {}
            if parser.peek() == &Kind::End {
                break;
            }
            body.push(parser.statement()?);
            parser.end_of_statement()?;
        }
        if body.is_empty() {
            return Ok(Expression { kind: ExpressionKind::Null, span });
        }
        if body.len() == 1 && matches!(body[0].kind, StatementKind::Expression(_)) {
            if let Some(StatementKind::Expression(value)) = body.pop().map(|statement| statement.kind) {
                return Ok(value);
            }
            return Ok(Expression { kind: ExpressionKind::Null, span });
        }
        let function = Function { name: None, parameters: Some(Vec::new()), body, fixed: false, span };
        let closure = Expression { kind: ExpressionKind::Closure(Arc::new(function)), span };
        Ok(called(closure, Vec::new(), true, 0))
    }
}

/// A closure follows names, members and calls, and literals never.
fn can_take_closure(value: &Expression) -> bool {
    matches!(value.kind, ExpressionKind::Name(_) | ExpressionKind::Property { .. } | ExpressionKind::Call(_))
}

fn member(object: Expression, name: Expression, access: Access) -> Expression {
    let span = object.span.to(name.span);
    Expression { kind: ExpressionKind::Property { object: Box::new(object), name: Box::new(name), access }, span }
}

fn called(value: Expression, arguments: Vec<Argument>, parentheses: bool, trailing: usize) -> Expression {
    let end = arguments.last().map_or(value.span, Argument::span);
    let span = value.span.to(end);
    let callee = match value.kind {
        ExpressionKind::Name(name) => Callee::Name(name, value.span),
        ExpressionKind::Property { object, name, access } => Callee::Method { object: *object, name, access },
        kind => Callee::Value(Expression { kind, span: value.span }),
    };
    Expression { kind: ExpressionKind::Call(Box::new(Call { callee, arguments, parentheses, trailing })), span }
}
