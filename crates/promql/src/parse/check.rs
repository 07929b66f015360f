//! Types: what may stand where.

use tsdb::labels::{NAME, quote};

use super::{ParseError, Parsed};
use crate::{
    ast::{Aggregate, Binary, Call, Cardinality, Expr, Selector, Type},
    function::{Id, Rest},
    lex::{Aggregator, Op},
    position::Place,
};

/// Checks an expression and all within it; settles what depends on types.
pub(super) fn check(expr: &mut Expr, query: &str) -> Parsed<()> {
    Checker { query }.expr(expr, false).map(drop)
}

struct Checker<'a> {
    query: &'a str,
}

impl Checker<'_> {
    fn error<T>(&self, place: Place, message: impl Into<String>) -> Parsed<T> {
        Err(ParseError { place, message: message.into(), query: self.query.to_owned() })
    }

    /// Checks an expression and returns its type. `labels_only`: it is the second argument of `info`.
    fn expr(&self, expr: &mut Expr, labels_only: bool) -> Parsed<Type> {
        let place = expr.place();
        let value_type = expr.value_type();
        match expr {
            Expr::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Expr::Binary(binary) => self.binary(binary, place)?,
            Expr::Call(call) => self.call(call)?,
            Expr::Paren(paren) => {
                self.expr(&mut paren.expr, false)?;
            }
            Expr::Unary(unary) => {
                let operand = self.expr(&mut unary.expr, false)?;
                if !matches!(operand, Type::Scalar | Type::Vector) {
                    let message = format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                        quote(operand.documented())
                    );
                    return self.error(place, message);
                }
            }
            Expr::Subquery(subquery) => {
                let inner = self.expr(&mut subquery.expr, false)?;
                if inner != Type::Vector {
                    let message = format!("subquery is only allowed on instant vector, got {} instead", inner.name());
                    return self.error(place, message);
                }
            }
            Expr::Matrix(matrix) => self.selector(&matrix.selector, false)?,
            Expr::Selector(selector) => self.selector(selector, labels_only)?,
            Expr::Number(_) | Expr::Text(_) => {}
        }
        Ok(value_type)
    }

    fn expect(&self, expr: &mut Expr, wanted: Type, context: &str) -> Parsed<()> {
        let found = self.expr(expr, false)?;
        if found == wanted {
            return Ok(());
        }
        let message = format!("expected type {} in {context}, got {}", wanted.documented(), found.documented());
        self.error(expr.place(), message)
    }

    fn aggregate(&self, aggregate: &mut Aggregate) -> Parsed<()> {
        self.expect(&mut aggregate.expr, Type::Vector, "aggregation expression")?;
        let wanted = if aggregate.op == Aggregator::CountValues { Type::Text } else { Type::Scalar };
        match &mut aggregate.param {
            Some(param) => self.expect(param, wanted, "aggregation parameter"),
            None => Ok(()),
        }
    }

    fn binary(&self, binary: &mut Binary, place: Place) -> Parsed<()> {
        let left = self.expr(&mut binary.left, false)?;
        let right = self.expr(&mut binary.right, false)?;
        let op = binary.op;
        let between = || self.between(binary.left.place().end, binary.right.place().start);
        if binary.returns_bool && !op.compares() {
            return self.error(between(), "bool modifier can only be used on comparison operators");
        }
        if op.compares() && !binary.returns_bool && left == Type::Scalar && right == Type::Scalar {
            return self.error(between(), "comparisons between scalars must use BOOL modifier");
        }
        let Some(matching) = &mut binary.matching else { return Ok(()) };
        if op.is_set() && matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        if let Some(label) = matching.labels.iter().find(|label| matching.on && matching.include.contains(label)) {
            let message = format!("label {} must not occur in ON and GROUP clause at once", quote(label));
            return self.error(self.between(binary.left.place().end, binary.right.place().start), message);
        }
        for (side, value) in [(&binary.left, left), (&binary.right, right)] {
            if !matches!(value, Type::Scalar | Type::Vector) {
                return self.error(side.place(), "binary expression must contain only scalar and instant vector types");
            }
        }
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if left != Type::Vector || right != Type::Vector {
            if !matching.labels.is_empty() {
                return self.error(place, "vector matching only allowed between instant vectors");
            }
            if fills {
                return self.error(place, "filling in missing series only allowed between instant vectors");
            }
            binary.matching = None;
        } else if op.is_set() {
            if matches!(matching.cardinality, Cardinality::OneToMany | Cardinality::ManyToOne) {
                return self.error(place, format!("no grouping allowed for {} operation", quote(op.name())));
            }
            if fills {
                return self.error(place, "filling in missing series not allowed for set operators");
            }
        }
        if op.is_set() && (left == Type::Scalar || right == Type::Scalar) {
            let message = format!("set operator {} not allowed in binary scalar expression", quote(op.name()));
            return self.error(place, message);
        }
        if matches!(op, Op::TrimLower | Op::TrimUpper) && left == Type::Scalar && right == Type::Scalar {
            return self.error(place, format!("operator {} not allowed for Scalar operations", quote(op.name())));
        }
        Ok(())
    }

    /// The operator's place between its two sides.
    fn between(&self, left: usize, right: usize) -> Place {
        let text = self.query.get(left..right).unwrap_or_default();
        let start = left + (text.len() - text.trim_start().len());
        Place { start, end: left + text.trim_end().len() }
    }

    fn call(&self, call: &mut Call) -> Parsed<()> {
        let function = call.function;
        let (name, given) = (quote(function.name), call.args.len());
        let named = function.args.len();
        let problem = match function.rest {
            Rest::None if given != named => Some(format!("expected {named} argument(s)")),
            Rest::None => None,
            _ if given + 1 < named => Some(format!("expected at least {} argument(s)", named - 1)),
            Rest::UpTo(more) if given > named - 1 + more => {
                Some(format!("expected at most {} argument(s)", named - 1 + more))
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return self.error(call.place, format!("{problem} in call to {name}, got {given}"));
        }
        if let (Id::Info, Some(labels)) = (function.id, call.args.get(1)) {
            if labels.value_type() != Type::Vector {
                let found = labels.value_type().documented();
                let message = format!("expected type instant vector in call to function {name}, got {found}");
                return self.error(call.place, message);
            }
            match labels {
                Expr::Selector(selector) if selector.name.is_empty() => {}
                Expr::Selector(_) => {
                    let message = "expected label selectors only, got vector selector instead";
                    return self.error(labels.place(), message);
                }
                _ => return self.error(labels.place(), "expected label selectors only"),
            }
        }
        for (i, arg) in call.args.iter_mut().enumerate() {
            let wanted = function.args[i.min(named.saturating_sub(1))];
            let found = self.expr(arg, function.id == Id::Info && i == 1)?;
            if found != wanted {
                let message = format!(
                    "expected type {} in call to function {name}, got {}",
                    wanted.documented(),
                    found.documented()
                );
                return self.error(arg.place(), message);
            }
        }
        Ok(())
    }

    fn selector(&self, selector: &Selector, labels_only: bool) -> Parsed<()> {
        if !selector.name.is_empty() {
            let others = &selector.matchers[..selector.matchers.len().saturating_sub(1)];
            if let Some(other) = others.iter().find(|matcher| matcher.name == NAME) {
                let message =
                    format!("metric name must not be set twice: {} or {}", quote(&selector.name), quote(&other.value));
                return self.error(selector.place, message);
            }
        } else if !labels_only && selector.matchers.iter().all(|matcher| matcher.matches("")) {
            return self.error(selector.place, "vector selector must contain at least one non-empty matcher");
        }
        Ok(())
    }
}
