//! Lengths of time within brackets and behind `offset`: numbers, or sums of numbers, `step()` and `range()`.

use super::{Parsed, Parser};
use crate::{
    ast::{Computed, Length, LengthOp, Number},
    duration,
    lex::{Kind, Op, Preprocessor, Token},
    position::Place,
};

/// A length as milliseconds, and as something to be computed where it is no number.
pub(super) fn split(length: Length) -> (i64, Option<Box<Length>>) {
    match length {
        Length::Number(number) => (duration::from_seconds(number.value), None),
        computed @ Length::Computed(_) => (0, Some(Box::new(computed))),
    }
}

impl<'a> Parser<'a> {
    pub(super) fn positive_length(&mut self) -> Parsed<Length> {
        self.length_operators = 0;
        let length = self.length(0)?;
        match &length {
            Length::Number(number) if number.value <= 0.0 => {
                Err(self.error(number.place, "duration must be greater than 0"))
            }
            _ => Ok(length),
        }
    }

    /// What follows `offset`: without parentheses it is one number or word, so that operators behind it belong to the
    /// expression.
    pub(super) fn offset_length(&mut self) -> Parsed<Length> {
        self.length_operators = 0;
        let Some((negative, sign)) = self.sign()? else {
            return match self.peek()?.kind {
                Kind::LeftParen => self.length(0),
                _ => self.length_primary(),
            };
        };
        match self.peek()?.kind {
            Kind::Number | Kind::Duration | Kind::Preprocessor(_) => {
                let length = self.length_primary()?;
                self.length_signed(negative, sign, length, true)
            }
            Kind::LeftParen => {
                let length = self.length_paren(false)?;
                self.length_signed(negative, sign, length, false)
            }
            _ => {
                let operand = self.length(Op::Mul.strength() + 1)?;
                let left = self.length_signed(negative, sign, operand, false)?;
                self.length_operators(left, 0)
            }
        }
    }

    fn length(&mut self, least: u8) -> Parsed<Length> {
        self.deeper(|parser| {
            let left = match parser.sign()? {
                Some((negative, sign)) => {
                    let operand = parser.length(Op::Mul.strength() + 1)?;
                    parser.length_signed(negative, sign, operand, false)?
                }
                None => parser.length_primary()?,
            };
            parser.length_operators(left, least)
        })
    }

    fn length_operators(&mut self, mut left: Length, least: u8) -> Parsed<Length> {
        while let Kind::Operator(op @ (Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Mod | Op::Pow)) = self.peek()?.kind {
            let strength = op.strength();
            if strength < least {
                break;
            }
            let token = self.next()?;
            self.length_operators += 1;
            if self.length_operators > super::MAX_DEPTH {
                return Err(self.error(token.place(), "duration expression has too many operators"));
            }
            let right = self.length(if op == Op::Pow { strength } else { strength + 1 })?;
            self.length_enabled(&left)?;
            if let (Op::Div | Op::Mod, Length::Number(number)) = (op, &right)
                && number.value == 0.0
            {
                let message = if op == Op::Div { "division by zero" } else { "modulo by zero" };
                return Err(self.error(token.place(), message));
            }
            left = computed(LengthOp::Op(op), Some(left), Some(right), Place::default());
        }
        Ok(left)
    }

    fn length_primary(&mut self) -> Parsed<Length> {
        let token = self.peek()?;
        match token.kind {
            Kind::Number | Kind::Duration => {
                let number = self.number()?;
                self.in_range(&number, number.place)?;
                Ok(Length::Number(number))
            }
            Kind::LeftParen => self.length_paren(true),
            Kind::Preprocessor(word @ (Preprocessor::Step | Preprocessor::Range)) => {
                self.next()?;
                self.expect(Kind::LeftParen)?;
                let close = self.expect(Kind::RightParen)?;
                let length = computed(LengthOp::Word(word), None, None, token.place().to(close.place()));
                self.length_enabled(&length)?;
                Ok(length)
            }
            Kind::Preprocessor(word @ (Preprocessor::MaxOf | Preprocessor::MinOf)) => {
                self.next()?;
                self.expect(Kind::LeftParen)?;
                let left = self.length(0)?;
                self.expect(Kind::Comma)?;
                let right = self.length(0)?;
                let close = self.expect(Kind::RightParen)?;
                let place = token.place().to(close.place());
                let length = computed(LengthOp::Word(word), Some(left), Some(right), place);
                self.length_enabled(&length)?;
                Ok(length)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A length in parentheses; with `lone`, no sign stands before them.
    fn length_paren(&mut self, lone: bool) -> Parsed<Length> {
        let open = self.expect(Kind::LeftParen)?;
        let length = self.length(0)?;
        let close = self.expect(Kind::RightParen)?;
        if lone {
            self.length_enabled(&length)?;
        }
        Ok(match length {
            Length::Computed(mut inner) => {
                inner.wrapped = true;
                Length::Computed(inner)
            }
            number => {
                let place = if lone { open.place().to(close.place()) } else { number.place() };
                let mut wrapped = computed(LengthOp::Op(Op::Add), None, Some(number), place);
                if let Length::Computed(inner) = &mut wrapped {
                    inner.wrapped = true;
                }
                wrapped
            }
        })
    }

    fn length_signed(&mut self, negative: bool, sign: Token<'a>, length: Length, word: bool) -> Parsed<Length> {
        match length {
            Length::Number(mut number) => {
                if negative {
                    number.value = -number.value;
                }
                self.in_range(&number, sign.place())?;
                number.place.start = sign.start;
                Ok(Length::Number(number))
            }
            inner if negative || word => {
                let op = LengthOp::Op(if negative { Op::Sub } else { Op::Add });
                let place = sign.place().to(inner.place());
                Ok(computed(op, None, Some(inner), place))
            }
            inner => Ok(inner),
        }
    }

    fn in_range(&self, number: &Number, place: Place) -> Parsed<()> {
        if number.value.abs() > 9_223_372_036.854_776 {
            return Err(self.error(place, "duration out of range"));
        }
        Ok(())
    }

    fn length_enabled(&self, length: &Length) -> Parsed<()> {
        if self.features.durations {
            return Ok(());
        }
        Err(self.error(length.place(), "experimental duration expression is not enabled"))
    }
}

fn computed(op: LengthOp, left: Option<Length>, right: Option<Length>, place: Place) -> Length {
    Length::Computed(Box::new(Computed { op, left, right, wrapped: false, place }))
}
