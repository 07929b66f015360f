//! A tree as JSON, in the form that Prometheus' own web pages read (`/api/v1/parse_query`).

use serde_json::{Value, json};

use crate::{
    ast::{At, Expr, Length, LengthOp, Selector, Shift},
    matcher::Matcher,
    number,
};

/// The tree of an expression.
pub fn json(expr: &Expr) -> Value {
    match expr {
        Expr::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.name(),
            "expr": json(&aggregate.expr),
            "param": aggregate.param.as_deref().map(json),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        Expr::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.name(),
            "lhs": json(&binary.left),
            "rhs": json(&binary.right),
            "matching": binary.matching.as_ref().map(|matching| json!({
                "card": matching.cardinality.name(),
                "labels": matching.labels,
                "on": matching.on,
                "include": matching.include,
                "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
            })),
            "bool": binary.returns_bool,
        }),
        Expr::Call(call) => json!({
            "type": "call",
            "func": {
                "name": call.function.name,
                "argTypes": call.function.args.iter().map(|arg| arg.name()).collect::<Vec<_>>(),
                "variadic": call.function.rest.variadic(),
                "returnType": call.function.returns.name(),
            },
            "args": call.args.iter().map(json).collect::<Vec<_>>(),
        }),
        Expr::Matrix(matrix) => {
            let mut value = selector("matrixSelector", &matrix.selector);
            value["range"] = json!(matrix.range);
            value["rangeExpr"] = length(matrix.range_expr.as_deref());
            value
        }
        Expr::Subquery(subquery) => {
            let mut value = json!({
                "type": "subquery",
                "expr": json(&subquery.expr),
                "range": subquery.range,
                "rangeExpr": length(subquery.range_expr.as_deref()),
                "step": subquery.step,
                "stepExpr": length(subquery.step_expr.as_deref()),
            });
            shift(&mut value, &subquery.shift);
            value
        }
        Expr::Number(literal) => json!({"type": "numberLiteral", "val": number::plain(literal.value)}),
        Expr::Paren(paren) => json!({"type": "parenExpr", "expr": json(&paren.expr)}),
        Expr::Text(text) => json!({"type": "stringLiteral", "val": text.value}),
        Expr::Unary(unary) => json!({
            "type": "unaryExpr",
            "op": if unary.negative { "-" } else { "+" },
            "expr": json(&unary.expr),
        }),
        Expr::Selector(plain) => selector("vectorSelector", plain),
    }
}

fn selector(kind: &str, selector: &Selector) -> Value {
    let mut value = json!({
        "type": kind,
        "name": selector.name,
        "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "anchored": selector.anchored,
        "smoothed": selector.smoothed,
    });
    shift(&mut value, &selector.shift);
    value
}

fn matcher(matcher: &Matcher) -> Value {
    json!({"name": matcher.name, "value": matcher.value, "type": matcher.comparison.name()})
}

fn shift(value: &mut Value, shift: &Shift) {
    value["offset"] = json!(shift.offset);
    value["offsetExpr"] = length(shift.offset_expr.as_deref());
    value["timestamp"] = match shift.at {
        Some(At::Time(milliseconds)) => json!(milliseconds),
        _ => Value::Null,
    };
    value["startOrEnd"] = match shift.at {
        Some(At::Start) => json!("start"),
        Some(At::End) => json!("end"),
        _ => Value::Null,
    };
}

fn length(part: Option<&Length>) -> Value {
    match part {
        None => Value::Null,
        Some(Length::Number(literal)) => {
            json!({"type": "numberLiteral", "val": number::plain(literal.value), "duration": literal.is_duration})
        }
        Some(Length::Computed(computed)) => json!({
            "type": "durationExpr",
            "op": match computed.op {
                LengthOp::Op(op) => op.name(),
                LengthOp::Word(word) => word.name(),
            },
            "lhs": length(computed.left.as_ref()),
            "rhs": length(computed.right.as_ref()),
            "wrapped": computed.wrapped,
        }),
    }
}
