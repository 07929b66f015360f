//! What every value can be asked, and closures.

use std::{hash::Hash, sync::Arc};

use super::{one, text_of};
use crate::{
    fault::Outcome,
    interpret::Strand,
    operator,
    value::{
        Value,
        closure::{Closure, Delegate, Kind},
        show,
    },
};

pub(crate) fn call(strand: &mut Strand, object: &Value, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    Ok(Some(match (name, arguments.len()) {
        ("toString", 0) => {
            let text = strand.show(object)?;
            strand.text(text)?
        }
        ("inspect" | "dump", 0) => Value::from(show::inspect(object)),
        ("equals", 1) => Value::Bool(strand.equal(object, &arguments[0])?),
        ("is", 1) => Value::Bool(operator::same(object, &arguments[0])),
        ("compareTo", 1) => Value::Int(strand.compare(object, &arguments[0])? as i32),
        ("hashCode", 0) => Value::Int(hash(object)),
        ("getClass", 0) => Value::Class(object.class_name().as_str().into()),
        ("asBoolean", 0) => Value::Bool(strand.truth(object)?),
        ("asType", 1) => match &arguments[0] {
            Value::Class(class) => {
                let kind = crate::tree::Type { name: class.to_string(), arrays: 0, span: strand.span() };
                strand.convert(object, &kind)?
            }
            _ => return Ok(None),
        },
        ("with" | "tap", 1) => {
            let result = with(strand, object, &arguments[0])?;
            if name == "tap" { object.clone() } else { result }
        }
        ("each", 1) => {
            for item in strand.items(object)? {
                strand.call_value(&arguments[0], vec![item])?;
            }
            object.clone()
        }
        ("invokeMethod", 2) => {
            let items = strand.items(&arguments[1])?;
            strand.call_method(object, &text_of(name, arguments, 0)?, items)?
        }
        ("getProperty", 1) => strand.property(object, &text_of(name, arguments, 0)?)?,
        ("getAt", 1) => strand.index(object, arguments)?,
        ("iterator" | "spliterator" | "stream", 0) => {
            let items = strand.items(object)?;
            Value::from(items)
        }
        ("isCase", 1) => Value::Bool(strand.is_case(object, &arguments[0])?),
        _ => return Ok(None),
    }))
}

/// Runs a closure whose names are looked for in a value first.
pub(crate) fn with(strand: &mut Strand, object: &Value, closure: &Value) -> Outcome {
    if let Value::Closure(closure) = closure
        && let Some(closure) = closure.delegating(Delegate { value: Some(object.clone()), first: true })
    {
        return strand.call_closure(&closure, vec![object.clone()]);
    }
    strand.call_value(closure, vec![object.clone()])
}

/// Strings and whole numbers have Java's, others one that equal values share.
fn hash(value: &Value) -> i32 {
    let text =
        |text: &str| text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    match value {
        Value::Text(value) => text(value),
        Value::Int(value) => *value,
        Value::Long(value) => (*value ^ (*value >> 32)) as i32,
        Value::Bool(value) => {
            if *value {
                1231
            } else {
                1237
            }
        }
        Value::List(list) => {
            list.items().iter().fold(1i32, |sum, item| sum.wrapping_mul(31).wrapping_add(shallow(item)))
        }
        value => text(&show::text(value)),
    }
}

fn shallow(value: &Value) -> i32 {
    match value {
        Value::List(_) | Value::Map(_) => {
            let mut hasher = std::hash::DefaultHasher::new();
            show::text(value).hash(&mut hasher);
            std::hash::Hasher::finish(&hasher) as i32
        }
        value => hash(value),
    }
}

pub(crate) fn call_closure(
    strand: &mut Strand,
    closure: &Arc<Closure>,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    Ok(Some(match name {
        "call" | "doCall" => strand.call_closure(closure, arguments.to_vec())?,
        "curry" | "rcurry" => Value::Closure(Closure::new(Kind::Curried {
            closure: Value::Closure(closure.clone()),
            arguments: arguments.to_vec(),
            right: name == "rcurry",
        })),
        "getMaximumNumberOfParameters" => Value::count(closure.parameters()),
        "setDelegate" => {
            let mut delegate = closure.delegate();
            delegate.value = Some(one(name, arguments, 0)?.clone());
            *closure.delegate.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = delegate;
            Value::Null
        }
        "setResolveStrategy" => {
            let mut delegate = closure.delegate();
            delegate.first = matches!(one(name, arguments, 0)?, Value::Int(1 | 3));
            *closure.delegate.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = delegate;
            Value::Null
        }
        // The value is computed each time: what closures give is the same.
        "memoize" => Value::Closure(closure.clone()),
        "clone" | "dehydrate" => {
            Value::Closure(closure.delegating(closure.delegate()).unwrap_or_else(|| closure.clone()))
        }
        "rehydrate" => {
            let delegate = Delegate { value: Some(one(name, arguments, 0)?.clone()), first: closure.delegate().first };
            Value::Closure(closure.delegating(delegate).unwrap_or_else(|| closure.clone()))
        }
        _ => return Ok(None),
    }))
}
