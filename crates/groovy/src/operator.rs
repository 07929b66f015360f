//! Arithmetic, comparison, conversion.
//!
//! Whole numbers are of 32 bits, or of 64 where one of both is, and wrap; division gives a decimal number
//! (<https://groovy-lang.org/syntax.html#_numbers>).

use std::{cmp::Ordering, sync::Arc};

use crate::{
    fault::{Outcome, is_kind, throw},
    interpret::Strand,
    value::{
        Value,
        closure::{Closure, Kind},
        decimal::Decimal,
        list::List,
        show,
    },
};

/// Levels that are compared.
const DEPTH: usize = 60;

/// Whether a value counts as true, classes of the script apart.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Int(value) => *value != 0,
        Value::Long(value) => *value != 0,
        Value::Decimal(value) => !value.is_zero(),
        Value::Double(value) => *value != 0.0,
        Value::Text(text) => !text.is_empty(),
        Value::List(list) => !list.is_empty(),
        Value::Map(map) => !map.is_empty(),
        Value::Range(range) => !range.is_empty(),
        _ => true,
    }
}

/// The value of a variable that has a type and no value.
pub fn zero(kind: &str) -> Value {
    match kind {
        "boolean" => Value::Bool(false),
        "int" | "short" | "byte" => Value::Int(0),
        "long" => Value::Long(0),
        "double" | "float" => Value::Double(0.0),
        _ => Value::Null,
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Long(_) | Value::Decimal(_) | Value::Double(_))
}

/// A number with decimals.
pub fn to_decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Int(value) => Some(i64::from(*value).into()),
        Value::Long(value) => Some((*value).into()),
        Value::Decimal(value) => Some(*value),
        Value::Double(value) => Decimal::from_f64(*value),
        _ => None,
    }
}

/// A binary number.
pub fn to_double(value: &Value) -> Option<f64> {
    match value {
        Value::Int(value) => Some(f64::from(*value)),
        Value::Long(value) => Some(*value as f64),
        Value::Decimal(value) => Some(value.to_f64()),
        Value::Double(value) => Some(*value),
        _ => None,
    }
}

/// A whole number; an exception where the value is no number.
pub fn to_long(value: &Value) -> Outcome<i64> {
    match value {
        Value::Int(value) => Ok(i64::from(*value)),
        Value::Long(value) => Ok(*value),
        Value::Decimal(value) => Ok(value.whole() as i64),
        Value::Double(value) => Ok(*value as i64),
        Value::Text(text) if text.chars().count() == 1 => {
            Ok(text.chars().next().map_or(0, |c| i64::from(u32::from(c))))
        }
        other => {
            let class = crate::fault::full_name(&other.class_name());
            let text = show::text(other);
            Err(throw(
                "GroovyCastException",
                format!("Cannot cast object '{text}' with class '{class}' to class 'int'"),
            ))
        }
    }
}

/// A whole number that counts something.
pub fn to_index(value: &Value) -> Outcome<usize> {
    let number = to_long(value)?;
    usize::try_from(number).map_err(|_| throw("IllegalArgumentException", format!("{number} is negative")))
}

/// `==`, classes of the script apart.
pub fn equal(left: &Value, right: &Value) -> bool {
    equal_within(left, right, DEPTH)
}

fn equal_within(left: &Value, right: &Value, depth: usize) -> bool {
    if depth == 0 {
        return same(left, right);
    }
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) => left == right,
        (left, right) if is_number(left) && is_number(right) => numbers(left, right).is_eq(),
        (Value::Text(left), Value::Text(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            if left.is(right) {
                return true;
            }
            let (left, right, set) = (left.items(), right.items(), left.is_set() && right.is_set());
            let all = |right: &[Value]| {
                left.iter().all(|item| right.iter().any(|other| equal_within(item, other, depth - 1)))
            };
            left.len() == right.len()
                && if set {
                    all(&right)
                } else {
                    left.iter().zip(&right).all(|(left, right)| equal_within(left, right, depth - 1))
                }
        }
        (Value::Range(range), Value::List(list)) | (Value::List(list), Value::Range(range)) => {
            list.len() == range.len()
                && list.items().iter().enumerate().all(|(index, item)| equal_within(item, &range.at(index), depth - 1))
        }
        (Value::Range(left), Value::Range(right)) => {
            left.len() == right.len() && (left.is_empty() || left.from == right.from && left.letters == right.letters)
        }
        (Value::Map(left), Value::Map(right)) => {
            left.is(right)
                || left.len() == right.len()
                    && left
                        .entries()
                        .iter()
                        .all(|(key, value)| right.get(key).is_some_and(|other| equal_within(value, &other, depth - 1)))
        }
        (Value::Entry(left), Value::Entry(right)) => {
            equal_within(&left.key, &right.key, depth - 1) && equal_within(&left.value, &right.value, depth - 1)
        }
        (Value::Class(left), Value::Class(right)) => left.rsplit('.').next() == right.rsplit('.').next(),
        (Value::Foreign(left), right) => foreign_equal(left.as_ref(), right),
        (left, Value::Foreign(right)) => foreign_equal(right.as_ref(), left),
        (left, right) => same(left, right),
    }
}

fn foreign_equal(foreign: &dyn crate::host::Foreign, other: &Value) -> bool {
    match other {
        Value::Foreign(other) => foreign.class_name() == other.class_name() && foreign.show() == other.show(),
        _ => false,
    }
}

/// Whether both are one.
pub fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::List(left), Value::List(right)) => left.is(right),
        (Value::Map(left), Value::Map(right)) => left.is(right),
        (Value::Closure(left), Value::Closure(right)) => Arc::ptr_eq(left, right),
        (Value::Object(left), Value::Object(right)) => Arc::ptr_eq(left, right),
        (Value::Exception(left), Value::Exception(right)) => Arc::ptr_eq(left, right),
        (Value::Pattern(left), Value::Pattern(right)) => Arc::ptr_eq(left, right),
        (Value::Matcher(left), Value::Matcher(right)) => Arc::ptr_eq(left, right),
        (Value::Entry(left), Value::Entry(right)) => Arc::ptr_eq(left, right),
        (Value::List(_) | Value::Map(_) | Value::Closure(_) | Value::Object(_) | Value::Exception(_), _) => false,
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Text(left), Value::Text(right)) => left == right,
        (left, right) => is_number(left) && is_number(right) && numbers(left, right).is_eq(),
    }
}

fn numbers(left: &Value, right: &Value) -> Ordering {
    if matches!(left, Value::Double(_)) || matches!(right, Value::Double(_)) {
        return to_double(left).unwrap_or(0.0).total_cmp(&to_double(right).unwrap_or(0.0));
    }
    match (to_decimal(left), to_decimal(right)) {
        (Some(left), Some(right)) => left.compare(right),
        _ => Ordering::Equal,
    }
}

/// `<=>`
pub fn compare(left: &Value, right: &Value) -> Outcome<Ordering> {
    Ok(match (left, right) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => left.encode_utf16().cmp(right.encode_utf16()),
        (left, right) if is_number(left) && is_number(right) => numbers(left, right),
        // A letter is compared as a number.
        (Value::Text(text), number) if is_number(number) && text.chars().count() == 1 => {
            to_long(left)?.cmp(&to_long(number)?)
        }
        (Value::Object(left), Value::Object(right)) if !left.class.tree.constants.is_empty() => {
            let ordinal =
                |value: &crate::value::map::Map| value.named("ordinal").map_or(Ok(0), |value| to_long(&value));
            ordinal(&left.fields)?.cmp(&ordinal(&right.fields)?)
        }
        (left, right) => {
            let message = format!(
                "Cannot compare {} with value '{}' and {} with value '{}'",
                crate::fault::full_name(&left.class_name()),
                show::text(left),
                crate::fault::full_name(&right.class_name()),
                show::text(right),
            );
            return Err(throw("IllegalArgumentException", message));
        }
    })
}

/// The method that a sign calls.
pub fn method(sign: &str) -> Option<&'static str> {
    Some(match sign {
        "+" => "plus",
        "-" => "minus",
        "*" => "multiply",
        "/" => "div",
        "%" => "mod",
        "**" => "power",
        "<<" => "leftShift",
        ">>" => "rightShift",
        "&" => "and",
        "|" => "or",
        "^" => "xor",
        _ => return None,
    })
}

/// `-a`, `+a`, `~a`
pub fn unary(sign: &str, value: &Value) -> Outcome {
    let out = || throw("ArithmeticException", "number out of range");
    Ok(match (sign, value) {
        ("+", value) if is_number(value) => value.clone(),
        ("-", Value::Int(value)) => Value::Int(value.wrapping_neg()),
        ("-", Value::Long(value)) => Value::Long(value.wrapping_neg()),
        // The smallest number is its own text's opposite, and only fits with its sign.
        ("-", Value::Decimal(value)) => Value::Decimal(value.negate().ok_or_else(out)?),
        ("-", Value::Double(value)) => Value::Double(-value),
        ("~", Value::Int(value)) => Value::Int(!value),
        ("~", Value::Long(value)) => Value::Long(!value),
        (sign, value) => return Err(unfit(sign, value, &Value::Null)),
    })
}

/// The next value, or the one before.
pub fn step(value: &Value, by: i32) -> Outcome {
    Ok(match value {
        Value::Int(value) => Value::Int(value.wrapping_add(by)),
        Value::Long(value) => Value::Long(value.wrapping_add(i64::from(by))),
        Value::Double(value) => Value::Double(value + f64::from(by)),
        Value::Decimal(value) => Value::Decimal(
            value.plus(i64::from(by).into()).ok_or_else(|| throw("ArithmeticException", "number out of range"))?,
        ),
        Value::Text(text) => {
            let mut text = text.to_string();
            let last = text.pop().map_or(0, u32::from);
            text.push(char::from_u32(last.wrapping_add_signed(by)).unwrap_or(char::REPLACEMENT_CHARACTER));
            Value::from(text)
        }
        Value::Null => {
            let name = if by > 0 { "next" } else { "previous" };
            return Err(throw("NullPointerException", format!("Cannot invoke method {name}() on null object")));
        }
        other => return Err(unfit("++", other, &Value::Null)),
    })
}

fn unfit(sign: &str, left: &Value, right: &Value) -> crate::fault::Stop {
    let name = method(sign).unwrap_or(sign);
    if left.is_null() {
        return throw("NullPointerException", format!("Cannot invoke method {name}() on null object"));
    }
    let class = crate::fault::full_name(&left.class_name());
    let message = format!(
        "No signature of method: {class}.{name}() is applicable for argument types: ({}) values: [{}]",
        crate::fault::full_name(&right.class_name()),
        show::text(right),
    );
    throw("MissingMethodException", message)
}

/// `a + b` and the like.
pub(crate) fn arithmetic(strand: &mut Strand, sign: &str, left: &Value, right: &Value) -> Outcome {
    if is_number(left) && is_number(right) {
        return calculate(sign, left, right);
    }
    match (sign, left, right) {
        ("+", Value::Text(text), right) => {
            let right = strand.show(right)?;
            strand.text(format!("{text}{right}"))
        }
        ("+", left, Value::Text(text)) if !matches!(left, Value::List(_) | Value::Map(_)) => {
            let left = strand.show(left)?;
            strand.text(format!("{left}{text}"))
        }
        ("-", Value::Text(text), right) => {
            if let Value::Pattern(pattern) = right {
                let found = pattern.find(text, 0)?.and_then(|groups| groups[0]);
                let rest = found.map(|(start, end)| format!("{}{}", &text[..start], &text[end..]));
                return Ok(rest.map_or_else(|| left.clone(), Value::from));
            }
            let right = strand.show(right)?;
            Ok(Value::from(text.replacen(&right, "", 1)))
        }
        ("*", Value::Text(text), count) => {
            let count = to_index(count)?;
            if text.len().saturating_mul(count) > strand.limits().text {
                return strand.text(" ".repeat(strand.limits().text + 1));
            }
            strand.text(text.repeat(count))
        }
        ("<<", Value::Text(text), right) => {
            let right = strand.show(right)?;
            strand.text(format!("{text}{right}"))
        }
        ("<<", Value::List(list), right) => {
            strand.fits(list.len() + 1)?;
            if !(list.is_set() && list.items().iter().any(|item| equal(item, right))) {
                list.change(|items| items.push(right.clone()));
            }
            Ok(left.clone())
        }
        ("<<", Value::Map(map), Value::Map(other)) => {
            for (key, value) in other.entries() {
                map.insert(key, value);
            }
            Ok(left.clone())
        }
        ("<<", Value::Map(map), Value::Entry(entry)) => {
            map.insert(entry.key.clone(), entry.value.clone());
            Ok(left.clone())
        }
        ("+", Value::List(_) | Value::Range(_), right) => {
            let mut items = strand.items(left)?;
            match right {
                Value::List(_) | Value::Range(_) => items.extend(strand.items(right)?),
                right => items.push(right.clone()),
            }
            strand.fits(items.len())?;
            if let Value::List(list) = left
                && list.is_set()
            {
                return Ok(Value::List(List::set(crate::method::list::distinct(strand, items)?)));
            }
            Ok(Value::from(items))
        }
        ("-", Value::List(_) | Value::Range(_), right) => {
            let items = strand.items(left)?;
            let without = match right {
                Value::List(_) | Value::Range(_) => strand.items(right)?,
                right => vec![right.clone()],
            };
            let mut rest = Vec::new();
            for item in items {
                strand.tick()?;
                if !without.iter().any(|other| equal(&item, other)) {
                    rest.push(item);
                }
            }
            let set = matches!(left, Value::List(list) if list.is_set());
            Ok(Value::List(if set { List::set(rest) } else { List::new(rest) }))
        }
        ("*", Value::List(list), count) => {
            let count = to_index(count)?;
            strand.fits(list.len().saturating_mul(count))?;
            Ok(Value::from(std::iter::repeat_n(list.items(), count).flatten().collect::<Vec<_>>()))
        }
        ("+", Value::Map(map), Value::Map(other)) => {
            Ok(Value::Map(map.entries().into_iter().chain(other.entries()).collect()))
        }
        ("-", Value::Map(map), Value::Map(other)) => {
            let rest =
                map.entries().into_iter().filter(|(key, value)| !other.get(key).is_some_and(|o| equal(value, &o)));
            Ok(Value::Map(rest.collect()))
        }
        ("&" | "|" | "^", Value::Bool(left), Value::Bool(right)) => Ok(Value::Bool(match sign {
            "&" => left & right,
            "|" => left | right,
            _ => left ^ right,
        })),
        (">>", Value::Closure(_), Value::Closure(_)) => {
            Ok(Value::Closure(Closure::new(Kind::Composed(left.clone(), right.clone()))))
        }
        ("<<", Value::Closure(_), Value::Closure(_)) => {
            Ok(Value::Closure(Closure::new(Kind::Composed(right.clone(), left.clone()))))
        }
        (sign, left, right) => match method(sign) {
            Some(name) => match crate::method::call(strand, left, name, std::slice::from_ref(right))? {
                Some(value) => Ok(value),
                None => Err(unfit(sign, left, right)),
            },
            None => Err(unfit(sign, left, right)),
        },
    }
}

fn calculate(sign: &str, left: &Value, right: &Value) -> Outcome {
    let by_zero = || throw("ArithmeticException", "Division by zero");
    let out = || throw("ArithmeticException", "number out of range");
    let whole = |value: &Value| matches!(value, Value::Int(_) | Value::Long(_));
    if matches!(sign, "&" | "|" | "^" | "<<" | ">>" | ">>>") {
        let (a, b) = (to_long(left)?, to_long(right)?);
        let narrow = matches!(left, Value::Int(_)) && (matches!(right, Value::Int(_)) || sign.len() > 1);
        return Ok(if narrow {
            let (a, b) = (a as i32, b as i32);
            Value::Int(match sign {
                "&" => a & b,
                "|" => a | b,
                "^" => a ^ b,
                "<<" => a.wrapping_shl(b as u32),
                ">>" => a.wrapping_shr(b as u32),
                _ => (a as u32).wrapping_shr(b as u32) as i32,
            })
        } else {
            Value::Long(match sign {
                "&" => a & b,
                "|" => a | b,
                "^" => a ^ b,
                "<<" => a.wrapping_shl(b as u32),
                ">>" => a.wrapping_shr(b as u32),
                _ => (a as u64).wrapping_shr(b as u32) as i64,
            })
        });
    }
    if sign == "**" {
        return power(left, right);
    }
    if whole(left) && whole(right) && sign != "/" {
        let (a, b) = (to_long(left)?, to_long(right)?);
        let value = match sign {
            "+" => a.wrapping_add(b),
            "-" => a.wrapping_sub(b),
            "*" => a.wrapping_mul(b),
            "%" => a.checked_rem(b).ok_or_else(by_zero)?,
            _ => return Err(unfit(sign, left, right)),
        };
        let narrow = matches!((left, right), (Value::Int(_), Value::Int(_)));
        return Ok(if narrow { Value::Int(value as i32) } else { Value::Long(value) });
    }
    if matches!(left, Value::Double(_)) || matches!(right, Value::Double(_)) {
        let (a, b) = (to_double(left).unwrap_or(0.0), to_double(right).unwrap_or(0.0));
        return Ok(Value::Double(match sign {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "/" => a / b,
            "%" => a % b,
            _ => return Err(unfit(sign, left, right)),
        }));
    }
    let (Some(a), Some(b)) = (to_decimal(left), to_decimal(right)) else { return Err(out()) };
    let value = match sign {
        "+" => a.plus(b),
        "-" => a.minus(b),
        "*" => a.multiply(b),
        "/" if b.is_zero() => return Err(by_zero()),
        "/" => a.divide(b),
        "%" if b.is_zero() => return Err(by_zero()),
        "%" => a.remainder(b),
        _ => return Err(unfit(sign, left, right)),
    };
    Ok(Value::Decimal(value.ok_or_else(out)?))
}

fn power(left: &Value, right: &Value) -> Outcome {
    let out = || throw("ArithmeticException", "number out of range");
    let exponent = match right {
        Value::Int(exponent) if *exponent >= 0 => *exponent as u32,
        _ => {
            let (a, b) = (to_double(left).unwrap_or(0.0), to_double(right).unwrap_or(0.0));
            return Ok(Value::Double(a.powf(b)));
        }
    };
    match left {
        Value::Int(_) | Value::Long(_) => {
            let value = i128::from(to_long(left)?).checked_pow(exponent).ok_or_else(out)?;
            match (i32::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => Ok(Value::Int(value)),
                (_, Ok(value)) => Ok(Value::Long(value)),
                _ => Ok(Value::Decimal(Decimal::parse(&value.to_string()).ok_or_else(out)?)),
            }
        }
        Value::Decimal(value) => {
            let mut result = Decimal::from(1);
            for _ in 0..exponent.min(1000) {
                result = result.multiply(*value).ok_or_else(out)?;
            }
            Ok(Value::Decimal(result))
        }
        left => Ok(Value::Double(to_double(left).unwrap_or(0.0).powf(f64::from(exponent)))),
    }
}

/// `value as Name`, for numbers, and for types that say nothing more.
pub fn convert(value: &Value, name: &str) -> Outcome {
    let wrong = || {
        let class = crate::fault::full_name(&value.class_name());
        let full = crate::fault::full_name(name);
        let text = show::text(value);
        throw("GroovyCastException", format!("Cannot cast object '{text}' with class '{class}' to class '{full}'"))
    };
    let number = |text: &str| throw("NumberFormatException", format!("For input string: \"{text}\""));
    let long = || match value {
        Value::Text(text) if text.chars().count() != 1 || text.bytes().all(|b| b.is_ascii_digit()) => {
            text.trim().parse::<i64>().map_err(|_| number(text))
        }
        value => to_long(value).map_err(|_| wrong()),
    };
    Ok(match name {
        "int" | "Integer" | "short" | "Short" | "byte" | "Byte" => Value::Int(long()? as i32),
        "long" | "Long" => Value::Long(long()?),
        "double" | "Double" | "float" | "Float" => match value {
            Value::Text(text) => Value::Double(text.trim().parse().map_err(|_| number(text))?),
            value => Value::Double(to_double(value).ok_or_else(wrong)?),
        },
        "BigDecimal" | "BigInteger" | "Number" => match value {
            Value::Text(text) => Value::Decimal(Decimal::parse(text.trim()).ok_or_else(|| number(text))?),
            Value::Int(_) | Value::Long(_) if name == "Number" => value.clone(),
            value => {
                let decimal = to_decimal(value).ok_or_else(wrong)?;
                let decimal = if name == "BigInteger" { decimal.rounded(0).unwrap_or(decimal) } else { decimal };
                Value::Decimal(decimal)
            }
        },
        "char" | "Character" => match value {
            Value::Text(text) if text.chars().count() == 1 => value.clone(),
            value => {
                let code = u32::try_from(to_long(value)?).ok().and_then(char::from_u32);
                Value::from(code.ok_or_else(wrong)?.to_string())
            }
        },
        _ if is_a(value, name) => value.clone(),
        "Closure" if matches!(value, Value::Closure(_)) => value.clone(),
        _ if crate::fault::is_class(name) => return Err(wrong()),
        // Types that are not known here say nothing of a value.
        _ => value.clone(),
    })
}

/// `value instanceof Name`
pub fn is_a(value: &Value, name: &str) -> bool {
    let name = name.rsplit('.').next().unwrap_or(name);
    if name == "Object" {
        return !value.is_null();
    }
    match value {
        Value::Null => false,
        Value::Bool(_) => matches!(name, "Boolean" | "boolean"),
        Value::Int(_) => matches!(name, "Integer" | "Number" | "int" | "Comparable"),
        Value::Long(_) => matches!(name, "Long" | "Number" | "long" | "Comparable"),
        Value::Decimal(decimal) => {
            matches!(name, "Number" | "Comparable")
                || name == if decimal.scale() == 0 { "BigInteger" } else { "BigDecimal" }
        }
        Value::Double(_) => matches!(name, "Double" | "Number" | "double" | "Comparable"),
        Value::Text(_) => matches!(name, "String" | "CharSequence" | "GString" | "Comparable" | "Serializable"),
        Value::List(list) if list.is_set() => {
            matches!(name, "Set" | "HashSet" | "LinkedHashSet" | "Collection" | "Iterable")
        }
        Value::List(_) => matches!(name, "List" | "ArrayList" | "Collection" | "Iterable" | "LinkedList"),
        Value::Range(_) => matches!(name, "Range" | "IntRange" | "List" | "Collection" | "Iterable"),
        Value::Map(_) => matches!(name, "Map" | "LinkedHashMap" | "HashMap"),
        Value::Entry(_) => name == "Entry",
        Value::Closure(_) => matches!(name, "Closure" | "Runnable" | "Callable"),
        Value::Class(_) => name == "Class",
        Value::Object(object) => object.class.is(name),
        Value::Exception(exception) => is_kind(&exception.class, name),
        Value::Pattern(_) => name == "Pattern",
        Value::Matcher(_) => name == "Matcher",
        Value::Foreign(foreign) => foreign.class_name().rsplit('.').next() == Some(name),
    }
}
