//! Operators on two values.

use std::sync::Arc;

use tsdb::histogram::{FloatHistogram, ResetHint};

use super::Evaluator;
use crate::{
    annotation::{Note, Operation},
    lex::Op,
    position::Place,
    value::Value,
};

/// Go's `math.Max`: not a number where either is none, unless the other is infinity.
pub(super) fn go_max(a: f64, b: f64) -> f64 {
    match (a, b) {
        (f64::INFINITY, _) | (_, f64::INFINITY) => f64::INFINITY,
        (a, b) if a.is_nan() || b.is_nan() => f64::NAN,
        (a, b) => a.max(b),
    }
}

/// Go's `math.Min`.
pub(super) fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}

/// Whether an operator's result is no longer what the metric's name says.
pub(super) fn changes_meaning(op: Op) -> bool {
    matches!(op, Op::Add | Op::Sub | Op::Div | Op::Mul | Op::Pow | Op::Mod | Op::Atan2)
}

/// Arithmetic on numbers; nothing for other operators.
pub(super) fn arithmetic(op: Op, a: f64, b: f64) -> Option<f64> {
    Some(match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Mod => a % b,
        Op::Pow => a.powf(b),
        Op::Atan2 => a.atan2(b),
        _ => return None,
    })
}

/// Whether a comparison holds.
pub(super) fn holds(op: Op, a: f64, b: f64) -> bool {
    match op {
        Op::Equal => a == b,
        Op::NotEqual => a != b,
        Op::Less => a < b,
        Op::LessEqual => a <= b,
        Op::Greater => a > b,
        Op::GreaterEqual => a >= b,
        _ => false,
    }
}

/// What an operator makes of two values.
pub(super) struct Made {
    pub value: Value,
    /// Whether a comparison held; true of all other operators.
    pub keep: bool,
}

impl Evaluator<'_> {
    /// Applies an operator; nothing, and a note, where the values do not go together.
    pub(super) fn element(&self, op: Op, left: &Value, right: &Value, place: Place) -> Option<Made> {
        let made = |value| Some(Made { value, keep: true });
        let scaled = |histogram: &FloatHistogram, factor: f64| {
            let mut histogram = histogram.clone();
            if op == Op::Mul {
                histogram.multiply(factor);
            } else {
                histogram.divide(factor);
            }
            histogram.compact(0);
            made(Value::histogram(histogram))
        };
        match (left, right) {
            (Value::Float(a), Value::Float(b)) => {
                if let Some(value) = arithmetic(op, *a, *b) {
                    return made(Value::Float(value));
                }
                if op.compares() {
                    return Some(Made { value: left.clone(), keep: holds(op, *a, *b) });
                }
            }
            (Value::Float(a), Value::Histogram(b)) if op == Op::Mul => return scaled(b, *a),
            (Value::Histogram(a), Value::Float(b)) => match op {
                Op::Mul | Op::Div => return scaled(a, *b),
                Op::TrimUpper | Op::TrimLower => {
                    return made(Value::histogram(crate::trim::trimmed(a, *b, op == Op::TrimUpper)));
                }
                _ => {}
            },
            (Value::Histogram(a), Value::Histogram(b)) => match op {
                Op::Add | Op::Sub => return self.add_histograms(op, a, b, place),
                Op::Equal => return Some(Made { value: left.clone(), keep: a.same(b) }),
                Op::NotEqual => return Some(Made { value: left.clone(), keep: !a.same(b) }),
                _ => {}
            },
            (Value::Float(_), Value::Histogram(_)) => {}
        }
        let kind = |value: &Value| if matches!(value, Value::Float(_)) { "float" } else { "histogram" };
        self.note(Note::incompatible_types(kind(left), op.name(), kind(right), place));
        None
    }

    fn add_histograms(&self, op: Op, a: &Arc<FloatHistogram>, b: &FloatHistogram, place: Place) -> Option<Made> {
        let mut sum = (**a).clone();
        let operation = if op == Op::Add { Operation::Addition } else { Operation::Subtraction };
        let added = if op == Op::Add { sum.add(b) } else { sum.subtract(b) };
        let Ok(added) = added else {
            self.note(Note::incompatible_buckets(op.name(), place));
            return None;
        };
        if op == Op::Sub {
            sum.reset = ResetHint::Gauge;
        }
        if added.resets_collide {
            // Upstream gives no value here.
            self.note(Note::resets_collide(operation, place));
            return None;
        }
        if added.bounds_reconciled {
            self.note(Note::bounds_reconciled(operation, place));
        }
        sum.compact(0);
        Some(Made { value: Value::histogram(sum), keep: true })
    }
}
