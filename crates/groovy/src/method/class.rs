//! Methods and constants of classes: `Math.max`, `Integer.parseInt`, `JsonOutput.toJson`. Nothing that asks the machine: its clock
//! and its randomness are the host's.

use std::sync::Arc;

use super::{json, one, text_of};
use crate::{
    fault::{Outcome, throw},
    interpret::Strand,
    operator,
    pattern::{Matcher, Pattern},
    value::{Value, list::List, map::Map, show},
};

/// A constant.
pub(crate) fn constant(class: &str, name: &str) -> Option<Value> {
    Some(match (class.rsplit('.').next().unwrap_or(class), name) {
        ("Integer", "MAX_VALUE") => Value::Int(i32::MAX),
        ("Integer", "MIN_VALUE") => Value::Int(i32::MIN),
        ("Long", "MAX_VALUE") => Value::Long(i64::MAX),
        ("Long", "MIN_VALUE") => Value::Long(i64::MIN),
        ("Math", "PI") => Value::Double(std::f64::consts::PI),
        ("Math", "E") => Value::Double(std::f64::consts::E),
        ("Closure", "OWNER_FIRST") => Value::Int(0),
        ("Closure", "DELEGATE_FIRST") => Value::Int(1),
        ("Closure", "OWNER_ONLY") => Value::Int(2),
        ("Closure", "DELEGATE_ONLY") => Value::Int(3),
        ("Boolean", "TRUE") => Value::Bool(true),
        ("Boolean", "FALSE") => Value::Bool(false),
        ("BigDecimal", "ZERO") | ("BigInteger", "ZERO") => Value::Int(0),
        ("File", "separator") => Value::from("/"),
        ("String", "CASE_INSENSITIVE_ORDER") => return None,
        _ => return None,
    })
}

/// A method that belongs to a class.
pub(crate) fn call(strand: &mut Strand, class: &str, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let simple = class.rsplit('.').next().unwrap_or(class);
    Ok(Some(match (simple, name) {
        ("Math", _) => return math(strand, name, arguments),
        ("Integer", "parseInt" | "valueOf") => {
            if let Some(radix) = arguments.get(1) {
                let radix = operator::to_index(radix)? as u32;
                let text = text_of(name, arguments, 0)?;
                let parsed = if (2..=36).contains(&radix) { i32::from_str_radix(&text, radix).ok() } else { None };
                return match parsed {
                    Some(value) => Ok(Some(Value::Int(value))),
                    None => Err(throw("NumberFormatException", format!("For input string: \"{text}\""))),
                };
            }
            whole(one(name, arguments, 0)?, "Integer")?
        }
        ("Integer", "toString") | ("Long", "toString") => Value::from(text_of(name, arguments, 0)?),
        ("Integer" | "Long", "toHexString") => {
            Value::from(format!("{:x}", operator::to_long(one(name, arguments, 0)?)?))
        }
        ("Long", "parseLong" | "valueOf") => whole(one(name, arguments, 0)?, "Long")?,
        ("Double" | "Float", "parseDouble" | "valueOf" | "parseFloat") => {
            operator::convert(one(name, arguments, 0)?, "Double")?
        }
        ("Boolean", "parseBoolean" | "valueOf") => {
            Value::Bool(text_of(name, arguments, 0)?.eq_ignore_ascii_case("true"))
        }
        ("BigDecimal", "valueOf") => operator::convert(one(name, arguments, 0)?, "BigDecimal")?,
        ("String", "valueOf" | "copyValueOf") => Value::from(strand.show(one(name, arguments, 0)?)?),
        ("String", "format") => Value::from(super::text::format(strand, arguments)?),
        ("String", "join") => {
            let separator = Value::from(text_of(name, arguments, 0)?);
            let items = match arguments {
                [_, Value::List(list)] => list.items(),
                arguments => arguments[1..].to_vec(),
            };
            return super::call(strand, &Value::from(items), "join", &[separator]);
        }
        ("Character", "isDigit" | "isLetter" | "isUpperCase" | "isLowerCase" | "isWhitespace" | "isLetterOrDigit") => {
            let text = text_of(name, arguments, 0)?;
            Value::Bool(text.chars().next().is_some_and(|c| match name {
                "isDigit" => c.is_numeric(),
                "isLetter" => c.is_alphabetic(),
                "isUpperCase" => c.is_uppercase(),
                "isLowerCase" => c.is_lowercase(),
                "isWhitespace" => c.is_whitespace(),
                _ => c.is_alphanumeric(),
            }))
        }
        ("Objects", "equals") => Value::Bool(strand.equal(one(name, arguments, 0)?, one(name, arguments, 1)?)?),
        ("Arrays", "asList") | ("List" | "Set", "of") => match arguments {
            [Value::List(list)] => Value::from(list.items()),
            arguments => Value::from(arguments.to_vec()),
        },
        ("Collections", "emptyList") => Value::from(Vec::new()),
        ("Collections", "emptyMap") => Value::Map(Map::default()),
        ("Collections", "sort" | "reverse" | "max" | "min" | "unmodifiableList") => {
            let list = one(name, arguments, 0)?.clone();
            match name {
                "unmodifiableList" => list,
                "reverse" => return strand.call_method(&list, name, vec![Value::Bool(true)]).map(Some),
                name => return strand.call_method(&list, name, arguments[1..].to_vec()).map(Some),
            }
        }
        ("Pattern", "compile") => Value::Pattern(Arc::new(Pattern::new(&text_of(name, arguments, 0)?)?)),
        ("Pattern", "quote") => Value::from(format!("\\Q{}\\E", text_of(name, arguments, 0)?)),
        ("Pattern", "matches") => {
            Value::Bool(Pattern::new(&text_of(name, arguments, 0)?)?.fits(&text_of(name, arguments, 1)?)?)
        }
        ("Matcher", "quoteReplacement") => {
            Value::from(text_of(name, arguments, 0)?.replace('\\', "\\\\").replace('$', "\\$"))
        }
        ("JsonOutput", "toJson") => {
            let text = json::write(strand, one(name, arguments, 0)?, false)?;
            strand.text(text)?
        }
        ("JsonOutput", "prettyPrint") => {
            let value = json::read(strand, &text_of(name, arguments, 0)?)?;
            let text = json::write(strand, &value, true)?;
            strand.text(text)?
        }
        _ => return Ok(None),
    }))
}

fn whole(value: &Value, class: &str) -> Outcome {
    match value {
        // A letter is a number to a cast, and no text of one.
        Value::Text(text) => match text.parse::<i64>() {
            Ok(number) if class == "Long" => Ok(Value::Long(number)),
            Ok(number) if i32::try_from(number).is_ok() => Ok(Value::Int(number as i32)),
            _ => Err(throw("NumberFormatException", format!("For input string: \"{text}\""))),
        },
        value => operator::convert(value, class),
    }
}

fn math(strand: &mut Strand, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let value = match arguments.first() {
        Some(value) => value.clone(),
        None => return Ok(None),
    };
    let double = || {
        operator::to_double(&value).ok_or_else(|| {
            throw("MissingMethodException", format!("Math.{name} needs a number, not {}", value.class_name()))
        })
    };
    Ok(Some(match name {
        "max" | "min" => return super::number::call(strand, &value, name, &arguments[1..]),
        "abs" => return super::number::call(strand, &value, name, &[]),
        "round" => Value::Long(double()?.round() as i64),
        "floor" => Value::Double(double()?.floor()),
        "ceil" => Value::Double(double()?.ceil()),
        "sqrt" => Value::Double(double()?.sqrt()),
        "log" => Value::Double(double()?.ln()),
        "log10" => Value::Double(double()?.log10()),
        "exp" => Value::Double(double()?.exp()),
        "signum" => Value::Double(double()?.signum()),
        "pow" => {
            let power = operator::to_double(one(name, arguments, 1)?).unwrap_or(0.0);
            Value::Double(double()?.powf(power))
        }
        "floorMod" => {
            let (a, b) = (operator::to_long(&value)?, operator::to_long(one(name, arguments, 1)?)?);
            Value::whole(a.checked_rem_euclid(b).ok_or_else(|| throw("ArithmeticException", "/ by zero"))?)
        }
        _ => return Ok(None),
    }))
}

/// `new Name(arguments)`
pub(crate) fn create(strand: &mut Strand, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    Ok(Some(match name {
        "ArrayList" | "LinkedList" | "Vector" | "Stack" | "ArrayDeque" => match arguments.first() {
            Some(items @ (Value::List(_) | Value::Range(_))) => Value::from(strand.items(items)?),
            _ => Value::from(Vec::new()),
        },
        "HashSet" | "LinkedHashSet" | "TreeSet" => {
            let items = match arguments.first() {
                Some(items @ (Value::List(_) | Value::Range(_))) => strand.items(items)?,
                _ => Vec::new(),
            };
            Value::List(List::set(super::list::distinct(strand, items)?))
        }
        "HashMap" | "LinkedHashMap" | "TreeMap" | "ConcurrentHashMap" => match arguments.first() {
            Some(Value::Map(map)) => Value::Map(map.entries().into_iter().collect()),
            _ => Value::Map(Map::default()),
        },
        "Object" => Value::Map(Map::default()),
        "String" => Value::from(arguments.first().map(show::text).unwrap_or_default()),
        "Integer" | "Long" => whole(one(name, arguments, 0)?, name)?,
        "BigDecimal" | "BigInteger" => operator::convert(one(name, arguments, 0)?, name)?,
        "JsonSlurper" | "JsonSlurperClassic" => Value::Foreign(Arc::new(json::Reader)),
        "JsonBuilder" => Value::Foreign(Arc::new(json::Builder(arguments.first().cloned().unwrap_or_default()))),
        "Matcher" => match arguments {
            [Value::Pattern(pattern), text] => {
                Value::Matcher(Arc::new(Matcher::new(pattern.clone(), show::text(text).as_str().into())))
            }
            _ => return Ok(None),
        },
        "StringBuilder" | "StringBuffer" => Value::Foreign(Arc::new(super::buffer::Buffer::new(
            arguments.first().and_then(Value::text).unwrap_or_default(),
        ))),
        _ => return Ok(None),
    }))
}
