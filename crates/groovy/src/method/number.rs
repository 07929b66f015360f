//! Numbers and truth values.

use super::one;
use crate::{
    fault::{Outcome, throw},
    interpret::Strand,
    operator,
    value::Value,
};

pub(crate) fn call(strand: &mut Strand, value: &Value, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let kind = match name {
        "toInteger" | "intValue" => "Integer",
        "toLong" | "longValue" => "Long",
        "toDouble" | "doubleValue" | "toFloat" | "floatValue" => "Double",
        "toBigDecimal" => "BigDecimal",
        "toBigInteger" => "BigInteger",
        _ => "",
    };
    if let Value::Bool(own) = value {
        return Ok(match name {
            "booleanValue" | "toBoolean" => Some(value.clone()),
            "and" | "or" | "xor" | "implies" => {
                let other = strand.truth(one(name, arguments, 0)?)?;
                Some(Value::Bool(match name {
                    "and" => *own && other,
                    "or" => *own || other,
                    "xor" => *own != other,
                    _ => !*own || other,
                }))
            }
            _ => None,
        });
    }
    if !kind.is_empty() {
        return operator::convert(value, kind).map(Some);
    }
    Ok(Some(match name {
        "times" => {
            let closure = one(name, arguments, 0)?;
            for index in 0..operator::to_long(value)?.max(0) {
                strand.call_value(closure, vec![Value::whole(index)])?;
            }
            Value::Null
        }
        "upto" | "downto" => {
            let (from, to) = (operator::to_long(value)?, operator::to_long(one(name, arguments, 0)?)?);
            let closure = one(name, arguments, 1)?;
            let mut at = from;
            while if name == "upto" { at <= to } else { at >= to } {
                strand.call_value(closure, vec![Value::whole(at)])?;
                at = at.saturating_add(if name == "upto" { 1 } else { -1 });
            }
            Value::Null
        }
        "step" => {
            let (to, by) = (operator::to_long(one(name, arguments, 0)?)?, operator::to_long(one(name, arguments, 1)?)?);
            let closure = one(name, arguments, 2)?;
            if by == 0 {
                return Err(throw("IllegalArgumentException", "Infinite loop in step(): the step is 0"));
            }
            let mut at = operator::to_long(value)?;
            while if by > 0 { at < to } else { at > to } {
                strand.call_value(closure, vec![Value::whole(at)])?;
                at = at.saturating_add(by);
            }
            Value::Null
        }
        "abs" => match operator::compare(value, &Value::Int(0))? {
            std::cmp::Ordering::Less => operator::unary("-", value)?,
            _ => value.clone(),
        },
        "intdiv" => {
            let (a, b) = (operator::to_long(value)?, operator::to_long(one(name, arguments, 0)?)?);
            if b == 0 {
                return Err(throw("ArithmeticException", "Division by zero"));
            }
            let result = a.wrapping_div(b);
            if matches!(value, Value::Int(_)) { Value::Int(result as i32) } else { Value::Long(result) }
        }
        "plus" | "minus" | "multiply" | "div" | "mod" | "remainder" | "power" => {
            let sign = match name {
                "plus" => "+",
                "minus" => "-",
                "multiply" => "*",
                "div" => "/",
                "power" => "**",
                _ => "%",
            };
            let right = one(name, arguments, 0)?;
            // Signs of two numbers do not come here again: this is a call by name.
            if operator::to_decimal(right).is_none() && operator::to_double(right).is_none() {
                return Ok(None);
            }
            operator::arithmetic(strand, sign, value, right)?
        }
        "negate" | "unaryMinus" => operator::unary("-", value)?,
        "next" => operator::step(value, 1)?,
        "previous" => operator::step(value, -1)?,
        "round" => {
            let places = arguments.first().map_or(Ok(0), operator::to_index)?;
            match value {
                Value::Double(value) if places == 0 => Value::Long(value.round() as i64),
                Value::Double(value) => {
                    let unit = 10f64.powi(places.min(300) as i32);
                    Value::Double((value * unit).round() / unit)
                }
                Value::Decimal(value) => Value::Decimal(
                    value.rounded(places as u32).ok_or_else(|| throw("ArithmeticException", "out of range"))?,
                ),
                value => value.clone(),
            }
        }
        "setScale" => match value {
            Value::Decimal(value) => {
                let places = operator::to_index(one(name, arguments, 0)?)?;
                let scaled = u32::try_from(places).ok().and_then(|places| value.with_scale(places));
                Value::Decimal(scaled.ok_or_else(|| throw("ArithmeticException", "number out of range"))?)
            }
            _ => return Ok(None),
        },
        "max" | "min" => {
            let other = one(name, arguments, 0)?;
            let first = operator::compare(value, other)?.is_lt() == (name == "min");
            if first { value.clone() } else { other.clone() }
        }
        "toChar" => operator::convert(value, "char")?,
        _ => return Ok(None),
    }))
}
