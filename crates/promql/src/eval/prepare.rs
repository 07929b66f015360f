//! What is known before the first step: the query's own times, computed lengths, and which parts never change.

use super::{EvalError, Result, failed};
use crate::{
    ast::{Computed, Expr, Length, LengthOp, Number, Shift},
    function::Id,
    lex::{Op, Preprocessor},
};

/// The expression with `start()`, `end()`, `step()`, `range()` and computed lengths put in. Times in milliseconds; `step`
/// is 0 for an instant.
pub(super) fn prepare(expr: &Expr, start: i64, end: i64, step: i64) -> Result<Expr> {
    let mut expr = expr.clone();
    Times { start, end, step }.put_in(&mut expr)?;
    mark_counts(&mut expr, false);
    Ok(expr)
}

/// Marks selectors below functions that look only at the count and the sum of histograms.
fn mark_counts(expr: &mut Expr, counts: bool) {
    let below = match expr {
        Expr::Selector(selector) => {
            selector.counts_only = counts;
            return;
        }
        Expr::Matrix(matrix) => {
            matrix.selector.counts_only = counts;
            return;
        }
        // These need the buckets, whatever is around them.
        Expr::Subquery(_) => return,
        Expr::Binary(binary) if matches!(binary.op, Op::TrimUpper | Op::TrimLower) => return,
        Expr::Call(call) => match call.function.id {
            Id::HistogramCount | Id::HistogramSum | Id::HistogramAvg => true,
            Id::HistogramQuantile
            | Id::HistogramQuantiles
            | Id::HistogramFraction
            | Id::HistogramStddev
            | Id::HistogramStdvar => return,
            _ => counts,
        },
        _ => counts,
    };
    for child in expr.children_mut() {
        mark_counts(child, below);
    }
}

struct Times {
    start: i64,
    end: i64,
    step: i64,
}

impl Times {
    fn put_in(&self, expr: &mut Expr) -> Result<()> {
        if let Expr::Call(call) = expr {
            let milliseconds = match call.function.id {
                Id::Start => Some(self.start),
                Id::End => Some(self.end),
                Id::Range => Some(self.end - self.start),
                Id::Step if self.start == self.end => Some(0),
                Id::Step => Some(self.step),
                _ => None,
            };
            if let Some(milliseconds) = milliseconds {
                let value = milliseconds as f64 / 1000.0;
                *expr = Expr::Number(Number { value, is_duration: false, place: call.place });
                return Ok(());
            }
        }
        match expr {
            Expr::Selector(selector) => self.shift(&mut selector.shift)?,
            Expr::Matrix(matrix) => {
                self.shift(&mut matrix.selector.shift)?;
                if let Some(length) = &matrix.range_expr {
                    matrix.range = self.length(length, false)?;
                }
            }
            Expr::Subquery(subquery) => {
                self.shift(&mut subquery.shift)?;
                if let Some(length) = &subquery.step_expr {
                    subquery.step = self.length(length, false)?;
                }
                if let Some(length) = &subquery.range_expr {
                    subquery.range = self.length(length, false)?;
                }
            }
            _ => {}
        }
        expr.children_mut().into_iter().try_for_each(|child| self.put_in(child))
    }

    fn shift(&self, shift: &mut Shift) -> Result<()> {
        if let Some(length) = &shift.offset_expr {
            shift.offset = self.length(length, true)?;
        }
        Ok(())
    }

    /// Milliseconds of a length.
    fn length(&self, length: &Length, may_be_negative: bool) -> Result<i64> {
        let seconds = self.seconds(length)?;
        let wrong = |what: &str| Err(at(length, what));
        match seconds {
            s if !s.is_finite() => wrong("duration is NaN or infinite"),
            s if s <= 0.0 && !may_be_negative => wrong("duration must be greater than 0"),
            s if s.abs() > 9_223_372_036.854_776 => wrong("duration is out of range"),
            s => Ok((s * 1000.0) as i64),
        }
    }

    fn seconds(&self, length: &Length) -> Result<f64> {
        let computed = match length {
            Length::Number(number) => return Ok(number.value),
            Length::Computed(computed) => computed,
        };
        let Computed { op, left, right, .. } = &**computed;
        let unary = left.is_none();
        let left = left.as_ref().map_or(Ok(0.0), |left| self.seconds(left))?;
        let right = right.as_ref().map_or(Ok(0.0), |right| self.seconds(right))?;
        Ok(match op {
            LengthOp::Word(Preprocessor::Step) => self.step as f64 / 1000.0,
            LengthOp::Word(Preprocessor::Range) => (self.end - self.start) as f64 / 1000.0,
            LengthOp::Word(Preprocessor::MinOf) => super::element::go_min(left, right),
            LengthOp::Word(Preprocessor::MaxOf) => super::element::go_max(left, right),
            LengthOp::Op(Op::Add) => left + right,
            LengthOp::Op(Op::Sub) if unary => -right,
            LengthOp::Op(Op::Sub) => left - right,
            LengthOp::Op(Op::Mul) => left * right,
            LengthOp::Op(Op::Div) if right == 0.0 => return Err(at(length, "division by zero")),
            LengthOp::Op(Op::Div) => left / right,
            LengthOp::Op(Op::Mod) if right == 0.0 => return Err(at(length, "modulo by zero")),
            LengthOp::Op(Op::Mod) => left % right,
            LengthOp::Op(Op::Pow) => left.powf(right),
            LengthOp::Op(op) => {
                return Err(failed(format!("unexpected duration expression operator \"{}\"", op.name())));
            }
            LengthOp::Word(word) => {
                return Err(failed(format!("unexpected duration expression operator \"{}\"", word.name())));
            }
        })
    }
}

fn at(length: &Length, what: &str) -> EvalError {
    let place = length.place();
    failed(format!("{}:{}: {what}", place.start, place.end))
}

/// Functions whose value depends on the time at which they are evaluated.
fn depends_on_time(id: Id) -> bool {
    matches!(
        id,
        Id::DaysInMonth
            | Id::DayOfMonth
            | Id::DayOfWeek
            | Id::DayOfYear
            | Id::End
            | Id::Hour
            | Id::Minute
            | Id::Month
            | Id::Year
            | Id::PredictLinear
            | Id::Range
            | Id::Start
            | Id::Step
            | Id::Time
            | Id::Timestamp
    )
}

/// Whether an expression has the same value at all steps.
pub(super) fn is_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Selector(selector) => selector.shift.at.is_some(),
        Expr::Matrix(matrix) => matrix.selector.shift.at.is_some(),
        Expr::Subquery(subquery) => subquery.shift.at.is_some(),
        Expr::Aggregate(aggregate) => {
            is_invariant(&aggregate.expr) && aggregate.param.as_deref().is_none_or(is_invariant)
        }
        Expr::Binary(binary) => is_invariant(&binary.left) && is_invariant(&binary.right),
        Expr::Paren(paren) => is_invariant(&paren.expr),
        Expr::Unary(unary) => is_invariant(&unary.expr),
        Expr::Number(_) | Expr::Text(_) => true,
        Expr::Call(call) => {
            let id = call.function.id;
            let arg = call.args.first().map(Expr::unwrapped);
            if id == Id::Timestamp {
                return matches!(arg, Some(Expr::Selector(selector)) if selector.shift.at.is_some());
            }
            if id == Id::Info {
                return arg.is_some_and(|arg| is_invariant(arg) && super::info::reference(arg).2);
            }
            !depends_on_time(id) && call.args.iter().all(is_invariant)
        }
    }
}
