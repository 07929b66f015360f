//! Values by binding power.

use super::Parser;
use crate::{
    lex::{Kind, Word},
    source::Error,
    tree::{Expression, ExpressionKind},
};

/// Binding powers, the loosest first; to the right of a sign binds its second.
const POWERS: &[(&[&str], u8, u8)] = &[
    (&["=", "+=", "-=", "*=", "/=", "%=", "**=", "<<=", ">>=", ">>>=", "&=", "^=", "|=", "?="], 2, 1),
    (&["?", "?:"], 4, 3),
    (&["||"], 5, 6),
    (&["&&"], 7, 8),
    (&["|"], 9, 10),
    (&["^"], 11, 12),
    (&["&"], 13, 14),
    (&["==", "!=", "<=>", "===", "!==", "=~", "==~"], 15, 16),
    (&["<", "<=", ">", ">="], 17, 18),
    (&["<<", ">>", ">>>", "..", "..<"], 19, 20),
    (&["+", "-"], 21, 22),
    (&["*", "/", "%"], 23, 24),
];
const COMPARES: u8 = 17;
const UNARY: u8 = 25;
const POWER: (u8, u8) = (27, 26);

impl Parser<'_> {
    /// A value, in brackets or among arguments.
    pub(super) fn expression(&mut self) -> Result<Expression, Error> {
        self.binary(0, false)
    }

    /// A value where calls need no parentheses.
    pub(super) fn command(&mut self) -> Result<Expression, Error> {
        self.binary(0, true)
    }

    fn binary(&mut self, least: u8, command: bool) -> Result<Expression, Error> {
        self.deeper(|parser| {
            let height = parser.height;
            let value = parser.binary_here(least, command);
            parser.height = height;
            value
        })
    }

    fn binary_here(&mut self, least: u8, command: bool) -> Result<Expression, Error> {
        let mut left = self.unary(command)?;
        loop {
            let next = self.next();
            if next.line {
                return Ok(left);
            }
            let sign = match &next.kind {
                Kind::Sign(sign) => *sign,
                Kind::Word(Word::In | Word::Instanceof | Word::As) if COMPARES >= least => {
                    self.taller()?;
                    left = self.typed(left)?;
                    continue;
                }
                _ => return Ok(left),
            };
            if sign == "!" && COMPARES >= least {
                // `a !in b`, `a !instanceof B`
                if !matches!(self.peek_at(1), Kind::Word(Word::In | Word::Instanceof)) {
                    return Ok(left);
                }
                self.taller()?;
                self.at += 1;
                let inner = self.typed(left)?;
                let span = inner.span;
                left = Expression { kind: ExpressionKind::Unary("!", Box::new(inner)), span };
                continue;
            }
            if sign == "**" {
                if POWER.0 < least {
                    return Ok(left);
                }
                self.taller()?;
                self.at += 1;
                let right = self.binary(POWER.1, false)?;
                left = joined("**", left, right);
                continue;
            }
            let Some((_, power, right_power)) = POWERS.iter().find(|(signs, ..)| signs.contains(&sign)) else {
                return Ok(left);
            };
            if *power < least {
                return Ok(left);
            }
            self.taller()?;
            self.at += 1;
            left = match *power {
                2 => self.assignment(left, sign, *right_power, command)?,
                4 => self.choice(left, sign, *right_power)?,
                _ => {
                    let right = self.binary(*right_power, false)?;
                    joined(sign, left, right)
                }
            };
        }
    }

    fn assignment(
        &mut self,
        target: Expression,
        sign: &'static str,
        power: u8,
        command: bool,
    ) -> Result<Expression, Error> {
        let fits = matches!(
            target.kind,
            ExpressionKind::Name(_) | ExpressionKind::Property { .. } | ExpressionKind::Index { .. }
        );
        if !fits {
            return Err(self
                .source
                .error(target.span, "cannot assign to this: expecting a variable, a property or an element"));
        }
        let value = self.binary(power, command)?;
        let span = target.span.to(value.span);
        let operation = Some(&sign[..sign.len() - 1]).filter(|operation| !operation.is_empty());
        let kind = ExpressionKind::Assign { target: Box::new(target), operation, value: Box::new(value) };
        Ok(Expression { kind, span })
    }

    fn choice(&mut self, condition: Expression, sign: &str, power: u8) -> Result<Expression, Error> {
        let kind;
        let span;
        if sign == "?:" {
            let otherwise = self.binary(power, false)?;
            span = condition.span.to(otherwise.span);
            kind = ExpressionKind::Elvis(Box::new(condition), Box::new(otherwise));
        } else {
            let then = self.binary(power, false)?;
            self.expect(":")?;
            let otherwise = self.binary(power, false)?;
            span = condition.span.to(otherwise.span);
            kind = ExpressionKind::Choose(Box::new(condition), Box::new(then), Box::new(otherwise));
        }
        Ok(Expression { kind, span })
    }

    /// After `in`, `instanceof` and `as`.
    fn typed(&mut self, left: Expression) -> Result<Expression, Error> {
        let word = match self.peek() {
            Kind::Word(word) => *word,
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        if word == Word::In {
            let right = self.binary(COMPARES + 1, false)?;
            return Ok(joined("in", left, right));
        }
        let kind = self.try_type().ok_or_else(|| self.unexpected())?;
        let span = left.span.to(kind.span);
        let left = Box::new(left);
        let kind = if word == Word::As { ExpressionKind::Convert(left, kind) } else { ExpressionKind::Is(left, kind) };
        Ok(Expression { kind, span })
    }

    fn unary(&mut self, command: bool) -> Result<Expression, Error> {
        let start = self.span();
        let sign = match self.peek() {
            Kind::Sign(sign @ ("!" | "-" | "+" | "~")) => *sign,
            Kind::Sign(sign @ ("++" | "--")) => {
                let by = if *sign == "++" { 1 } else { -1 };
                self.at += 1;
                let target = self.deeper(|parser| parser.unary(false))?;
                let span = start.to(target.span);
                return Ok(Expression {
                    kind: ExpressionKind::Increment { target: Box::new(target), by, after: false },
                    span,
                });
            }
            _ => {
                if let Some(kind) = self.cast() {
                    let value = self.binary(UNARY, false)?;
                    let span = start.to(value.span);
                    return Ok(Expression { kind: ExpressionKind::Convert(Box::new(value), kind), span });
                }
                return self.postfix(command);
            }
        };
        self.at += 1;
        let value = self.binary(UNARY, false)?;
        let span = start.to(value.span);
        Ok(Expression { kind: ExpressionKind::Unary(sign, Box::new(value)), span })
    }

    /// `(Type)` before a value.
    fn cast(&mut self) -> Option<crate::tree::Type> {
        if !self.is_sign("(") {
            return None;
        }
        let begin = self.at;
        self.at += 1;
        let primitive = matches!(self.peek(), Kind::Word(word) if word.is_primitive());
        let kind = self.try_type();
        if let Some(kind) = kind
            && (primitive || super::is_class_name(&kind.name))
            && self.take(")")
        {
            let next = self.next();
            let value = match &next.kind {
                Kind::Name(_) | Kind::Int(_) | Kind::Long(_) | Kind::Big(_) | Kind::Decimal(_) | Kind::Double(_) => {
                    true
                }
                Kind::Text(_) | Kind::Template(_) => true,
                Kind::Word(word) => {
                    matches!(word, Word::This | Word::Super | Word::New | Word::Null | Word::True | Word::False)
                }
                Kind::Sign(sign) => matches!(*sign, "(" | "[" | "{") && (next.space || primitive),
                Kind::End => false,
            };
            if value && !next.line {
                return Some(kind);
            }
        }
        self.at = begin;
        None
    }
}

fn joined(sign: &'static str, left: Expression, right: Expression) -> Expression {
    let span = left.span.to(right.span);
    let (left, right) = (Box::new(left), Box::new(right));
    let kind = match sign {
        ".." | "..<" => ExpressionKind::Range { from: left, to: right, open: sign == "..<" },
        _ => ExpressionKind::Binary(sign, left, right),
    };
    Expression { kind, span }
}
