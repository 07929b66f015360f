//! A tree to text: in one line, and in many where one is too long.
//!
//! What is printed reads back as the same tree.

use std::fmt::{self, Display, Write};

use tsdb::labels::{is_plain_name, quote};

use crate::{
    ast::{
        Aggregate, At, Binary, Cardinality, Computed, Expr, Length, LengthOp, Matrix, Number, Selector, Shift, Subquery,
    },
    duration,
    lex::{Op, Preprocessor},
    number,
};

/// Longest line before an expression is split, in bytes.
const WIDTH: usize = 100;

/// The expression on as many lines as it needs, indented by two spaces.
pub fn pretty(expr: &Expr) -> String {
    Lines { width: WIDTH }.indented(expr, 0)
}

/// The same with lines of at most `width` bytes, where that can be had.
pub fn pretty_within(expr: &Expr, width: usize) -> String {
    Lines { width }.indented(expr, 0)
}

struct Lines {
    width: usize,
}

impl Lines {
    fn indented(&self, expr: &Expr, level: usize) -> String {
        let indent = "  ".repeat(level);
        let line = expr.to_string();
        let fits = line.len() <= self.width;
        match expr {
            Expr::Subquery(subquery) if !fits => {
                format!("{}{}", self.indented(&subquery.expr, level), Suffix(subquery))
            }
            // Upstream leaves its short form without an indent.
            Expr::Subquery(_) => line,
            Expr::Unary(unary) => {
                let sign = if unary.negative { '-' } else { '+' };
                format!("{indent}{sign}{}", self.indented(&unary.expr, level).trim())
            }
            _ if fits => format!("{indent}{line}"),
            Expr::Aggregate(aggregate) => {
                let param =
                    aggregate.param.as_ref().map_or(String::new(), |p| format!("{},\n", self.indented(p, level + 1)));
                let inner = self.indented(&aggregate.expr, level + 1);
                format!("{indent}{}(\n{param}{inner}\n{indent})", Head(aggregate))
            }
            Expr::Binary(binary) => {
                let (left, right) = (self.indented(&binary.left, level + 1), self.indented(&binary.right, level + 1));
                format!("{left}\n{indent}{}\n{right}", Operator(binary))
            }
            Expr::Call(call) => {
                let args: Vec<_> = call.args.iter().map(|arg| self.indented(arg, level + 1)).collect();
                format!("{indent}{}(\n{}\n{indent})", call.function.name, args.join(",\n"))
            }
            Expr::Paren(paren) => format!("{indent}(\n{}\n{indent})", self.indented(&paren.expr, level + 1)),
            Expr::Matrix(_) | Expr::Number(_) | Expr::Text(_) | Expr::Selector(_) => format!("{indent}{line}"),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregate(aggregate) => {
                write!(f, "{}(", Head(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            Self::Binary(binary) => write!(f, "{} {} {}", binary.left, Operator(binary), binary.right),
            Self::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (i, arg) in call.args.iter().enumerate() {
                    write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
                }
                f.write_char(')')
            }
            Self::Matrix(matrix) => matrix_text(matrix, f),
            Self::Subquery(subquery) => write!(f, "{}{}", subquery.expr, Suffix(subquery)),
            Self::Number(number) => number_text(number, f),
            Self::Paren(paren) => write!(f, "({})", paren.expr),
            Self::Text(text) => f.write_str(&text.quoted()),
            Self::Unary(unary) => write!(f, "{}{}", if unary.negative { '-' } else { '+' }, unary.expr),
            Self::Selector(selector) => Display::fmt(selector, f),
        }
    }
}

fn number_text(number: &Number, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if number.is_duration {
        return f.write_str(&duration::print((number.value * 1000.0) as i64));
    }
    f.write_str(&number::plain(number.value))
}

fn labels(names: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        if is_plain_name(name) {
            f.write_str(name)?;
        } else {
            f.write_str(&quote(name))?;
        }
    }
    Ok(())
}

/// An aggregation without its arguments.
struct Head<'a>(&'a Aggregate);

impl Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.name())?;
        if self.0.without || !self.0.grouping.is_empty() {
            f.write_str(if self.0.without { " without (" } else { " by (" })?;
            labels(&self.0.grouping, f)?;
            f.write_str(") ")?;
        }
        Ok(())
    }
}

/// An operator with its modifiers.
pub(crate) struct Operator<'a>(pub(crate) &'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.name())?;
        if self.0.returns_bool {
            f.write_str(" bool")?;
        }
        let Some(matching) = &self.0.matching else { return Ok(()) };
        let grouped = matches!(matching.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
        if !matching.labels.is_empty() || matching.on || grouped {
            f.write_str(if matching.on { " on (" } else { " ignoring (" })?;
            labels(&matching.labels, f)?;
            f.write_char(')')?;
        }
        if grouped {
            let left = matching.cardinality == Cardinality::ManyToOne;
            f.write_str(if left { " group_left (" } else { " group_right (" })?;
            labels(&matching.include, f)?;
            f.write_char(')')?;
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left == right => write!(f, " fill ({})", number::short(left)),
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", number::short(left))?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({})", number::short(right))?;
                }
                Ok(())
            }
        }
    }
}

/// ` @ 1.000`
struct AtText(Option<At>);

impl Display for AtText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(At::Time(milliseconds)) => write!(f, " @ {:.3}", milliseconds as f64 / 1000.0),
            Some(At::Start) => f.write_str(" @ start()"),
            Some(At::End) => f.write_str(" @ end()"),
            None => Ok(()),
        }
    }
}

/// ` offset 5m`
struct OffsetText<'a>(&'a Shift);

impl Display for OffsetText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.offset_expr {
            Some(length) => write!(f, " offset {length}"),
            None if self.0.offset != 0 => write!(f, " offset {}", duration::print(self.0.offset)),
            None => Ok(()),
        }
    }
}

fn range_text(range: i64, computed: Option<&Length>) -> String {
    computed.map_or_else(|| duration::print(range), ToString::to_string)
}

/// The brackets of a subquery, and what follows.
struct Suffix<'a>(&'a Subquery);

impl Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subquery { range, range_expr, step, step_expr, shift, .. } = self.0;
        let step = if *step != 0 {
            duration::print(*step)
        } else {
            step_expr.as_deref().map_or(String::new(), ToString::to_string)
        };
        let range = range_text(*range, range_expr.as_deref());
        write!(f, "[{range}:{step}]{}{}", AtText(shift.at), OffsetText(shift))
    }
}

fn matrix_text(matrix: &Matrix, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Matrix { selector, range, range_expr, .. } = matrix;
    write!(f, "{}[{}]", Bare(selector), range_text(*range, range_expr.as_deref()))?;
    f.write_str(extended(selector))?;
    write!(f, "{}{}", AtText(selector.shift.at), OffsetText(&selector.shift))
}

fn extended(selector: &Selector) -> &'static str {
    match (selector.anchored, selector.smoothed) {
        (true, _) => " anchored",
        (_, true) => " smoothed",
        _ => "",
    }
}

impl Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}{}", Bare(self), AtText(self.shift.at), extended(self), OffsetText(&self.shift))
    }
}

/// A selector's name and conditions.
struct Bare<'a>(&'a Selector);

impl Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Selector { name, matchers, .. } = self.0;
        f.write_str(name)?;
        let named = |value: &str| value == name && !value.is_empty();
        let mut conditions: Vec<_> = matchers
            .iter()
            .filter(|matcher| !(matcher.names_metric() && named(&matcher.value)))
            .map(ToString::to_string)
            .collect();
        conditions.sort_unstable();
        if conditions.is_empty() && !name.is_empty() {
            return Ok(());
        }
        write!(f, "{{{}}}", conditions.join(","))
    }
}

impl Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number_text(number, f),
            Self::Computed(computed) if computed.wrapped => write!(f, "({})", Unwrapped(computed)),
            Self::Computed(computed) => Display::fmt(&Unwrapped(computed), f),
        }
    }
}

struct Unwrapped<'a>(&'a Computed);

impl Display for Unwrapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Computed { op, left, right, .. } = self.0;
        match (op, left, right) {
            (LengthOp::Word(word @ (Preprocessor::MaxOf | Preprocessor::MinOf)), Some(left), Some(right)) => {
                write!(f, "{}({left}, {right})", word.name())
            }
            (LengthOp::Word(word), ..) => write!(f, "{}()", word.name()),
            (LengthOp::Op(op), Some(left), Some(right)) => write!(f, "{left} {} {right}", op.name()),
            (LengthOp::Op(Op::Sub), None, Some(right)) => write!(f, "-{right}"),
            (LengthOp::Op(_), _, Some(right)) => Display::fmt(right, f),
            (LengthOp::Op(_), ..) => Ok(()),
        }
    }
}
