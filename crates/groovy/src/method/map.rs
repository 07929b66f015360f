//! Maps. A closure with two parameters gets key and value, one with one an entry.

use std::sync::Arc;

use super::{collection, one};
use crate::{
    fault::Outcome,
    interpret::Strand,
    operator,
    value::{Entry, Value, list::List, map::Map, show},
};

/// What a closure is given of an entry.
fn given(closure: &Value, key: Value, value: Value) -> Vec<Value> {
    match closure {
        Value::Closure(closure) if closure.parameters() > 1 => vec![key, value],
        _ => vec![Value::Entry(Arc::new(Entry { key, value }))],
    }
}

pub(crate) fn call(strand: &mut Strand, own: &Map, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let whole = || Value::Map(own.clone());
    Ok(Some(match name {
        "size" => Value::count(own.len()),
        "isEmpty" => Value::Bool(own.is_empty()),
        "get" | "getAt" | "getOrDefault" => {
            let key = one(name, arguments, 0)?;
            match own.get(key) {
                Some(value) if !(value.is_null() && arguments.len() > 1 && name == "get") => value,
                _ => {
                    let default = arguments.get(1).cloned().unwrap_or_default();
                    if arguments.len() > 1 && name == "get" {
                        own.insert(key.clone(), default.clone());
                    }
                    default
                }
            }
        }
        "put" | "putAt" => {
            strand.fits(own.len() + 1)?;
            own.insert(one(name, arguments, 0)?.clone(), one(name, arguments, 1)?.clone()).unwrap_or_default()
        }
        "putIfAbsent" => {
            let key = one(name, arguments, 0)?;
            match own.get(key).filter(|value| !value.is_null()) {
                Some(value) => value,
                None => {
                    strand.fits(own.len() + 1)?;
                    own.insert(key.clone(), one(name, arguments, 1)?.clone());
                    Value::Null
                }
            }
        }
        "computeIfAbsent" => {
            let key = one(name, arguments, 0)?;
            match own.get(key).filter(|value| !value.is_null()) {
                Some(value) => value,
                None => {
                    let value = strand.call_value(one(name, arguments, 1)?, vec![key.clone()])?;
                    strand.fits(own.len() + 1)?;
                    own.insert(key.clone(), value.clone());
                    value
                }
            }
        }
        "putAll" | "leftShift" => {
            match one(name, arguments, 0)? {
                Value::Map(other) => {
                    strand.fits(own.len() + other.len())?;
                    for (key, value) in other.entries() {
                        own.insert(key, value);
                    }
                }
                Value::Entry(entry) => drop(own.insert(entry.key.clone(), entry.value.clone())),
                _ => return Ok(None),
            }
            whole()
        }
        "plus" => operator::arithmetic(strand, "+", &whole(), one(name, arguments, 0)?)?,
        "remove" => own.remove(one(name, arguments, 0)?).unwrap_or_default(),
        "clear" => {
            own.clear();
            Value::Null
        }
        "containsKey" => Value::Bool(own.get(one(name, arguments, 0)?).is_some()),
        "containsValue" => {
            let wanted = one(name, arguments, 0)?;
            Value::Bool(own.entries().iter().any(|(_, value)| operator::equal(value, wanted)))
        }
        "keySet" => Value::List(List::set(own.entries().into_iter().map(|(key, _)| key).collect())),
        "values" => Value::from(own.entries().into_iter().map(|(_, value)| value).collect::<Vec<_>>()),
        "entrySet" => Value::from(crate::interpret::entries(own)),
        "clone" | "asImmutable" | "asSynchronized" => Value::Map(own.entries().into_iter().collect()),
        "subMap" => {
            let keys = strand.items(one(name, arguments, 0)?)?;
            Value::Map(keys.into_iter().filter_map(|key| own.get(&key).map(|value| (key, value))).collect())
        }
        "withDefault" => whole(),
        "each" | "forEach" => {
            let closure = one(name, arguments, 0)?;
            for (key, value) in own.entries() {
                strand.call_value(closure, given(closure, key, value))?;
            }
            whole()
        }
        "eachWithIndex" => {
            let closure = one(name, arguments, 0)?;
            for (index, (key, value)) in own.entries().into_iter().enumerate() {
                let mut given = match closure {
                    Value::Closure(closure) if closure.parameters() > 2 => vec![key, value],
                    _ => vec![Value::Entry(Arc::new(Entry { key, value }))],
                };
                given.push(Value::count(index));
                strand.call_value(closure, given)?;
            }
            whole()
        }
        "find" | "findAll" | "any" | "every" | "count" | "groupBy" | "collectEntries" | "collect" | "collectMany"
        | "findResult" | "findResults" | "sum" | "partition" | "max" | "min" | "removeAll" | "retainAll"
        | "countBy" => {
            return closures(strand, own, name, arguments);
        }
        "sort" | "toSorted" => {
            let closure = arguments.iter().find(|argument| matches!(argument, Value::Closure(_)));
            let entries = match closure {
                Some(closure) => super::list::sorted(strand, crate::interpret::entries(own), Some(closure))?,
                None => {
                    let mut keys =
                        super::list::sorted(strand, own.entries().into_iter().map(|(key, _)| key).collect(), None)?;
                    let entry = |key: Value| {
                        let value = own.get(&key).unwrap_or_default();
                        Value::Entry(Arc::new(Entry { key, value }))
                    };
                    keys.drain(..).map(entry).collect()
                }
            };
            Value::Map(unpacked(entries))
        }
        "inject" => {
            let (mut result, closure) = (one(name, arguments, 0)?.clone(), one(name, arguments, 1)?);
            for (key, value) in own.entries() {
                let mut all = vec![result];
                match closure {
                    Value::Closure(closure) if closure.parameters() > 2 => all.extend([key, value]),
                    _ => all.push(Value::Entry(Arc::new(Entry { key, value }))),
                }
                result = strand.call_value(closure, all)?;
            }
            result
        }
        "join" | "toList" | "iterator" | "first" | "take" | "drop" => {
            let entries = Value::from(crate::interpret::entries(own));
            let Some(result) = super::call(strand, &entries, name, arguments)? else { return Ok(None) };
            match (&result, name) {
                (Value::List(list), "take" | "drop") => Value::Map(unpacked(list.items())),
                _ => result,
            }
        }
        "toMapString" => Value::from(show::text(&whole())),
        _ => return Ok(None),
    }))
}

fn unpacked(entries: Vec<Value>) -> Map {
    let pair = |entry: Value| match entry {
        Value::Entry(entry) => (entry.key.clone(), entry.value.clone()),
        other => (other, Value::Null),
    };
    entries.into_iter().map(pair).collect()
}

/// Methods that ask a closure about each entry, and keep maps what they make of maps.
fn closures(strand: &mut Strand, own: &Map, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let Some(closure) = arguments.last().filter(|last| matches!(last, Value::Closure(_))) else {
        let entries = crate::interpret::entries(own);
        return collection::call(strand, &entries, name, arguments);
    };
    if matches!(closure, Value::Closure(closure) if closure.parameters() <= 1)
        && !matches!(name, "findAll" | "groupBy" | "partition" | "removeAll" | "retainAll")
    {
        let entries = crate::interpret::entries(own);
        return collection::call(strand, &entries, name, arguments);
    }
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    let mut results = Vec::new();
    for (key, value) in own.entries() {
        let result = strand.call_value(closure, given(closure, key.clone(), value.clone()))?;
        let truth = strand.truth(&result)?;
        match (name, truth) {
            ("find", true) => return Ok(Some(Value::Entry(Arc::new(Entry { key, value })))),
            ("any", true) => return Ok(Some(Value::Bool(true))),
            ("every", false) => return Ok(Some(Value::Bool(false))),
            ("findResult", _) if !result.is_null() => return Ok(Some(result)),
            _ => {}
        }
        if truth {
            yes.push((key.clone(), value.clone()))
        } else {
            no.push((key.clone(), value.clone()))
        }
        results.push((result, key, value));
    }
    Ok(Some(match name {
        "find" | "findResult" => Value::Null,
        "any" => Value::Bool(false),
        "every" => Value::Bool(true),
        "count" => Value::count(yes.len()),
        "findAll" => Value::Map(yes.into_iter().collect()),
        "partition" => Value::from(vec![Value::Map(yes.into_iter().collect()), Value::Map(no.into_iter().collect())]),
        "removeAll" | "retainAll" => {
            let gone = if name == "removeAll" { &yes } else { &no };
            for (key, _) in gone {
                own.remove(key);
            }
            Value::Bool(!gone.is_empty())
        }
        "groupBy" => {
            let groups = Map::default();
            for (group, key, value) in results {
                match groups.get(&group) {
                    Some(Value::Map(map)) => drop(map.insert(key, value)),
                    _ => drop(groups.insert(group, Value::Map([(key, value)].into_iter().collect()))),
                }
            }
            Value::Map(groups)
        }
        "collectEntries" => {
            let results = results.into_iter().map(|(result, ..)| result).collect();
            Value::Map(collection::to_map(strand, results)?)
        }
        "collectMany" => {
            let mut all = Vec::new();
            for (result, ..) in results {
                all.extend(strand.items(&result)?);
                strand.fits(all.len())?;
            }
            Value::from(all)
        }
        "sum" => {
            let results: Vec<Value> = results.into_iter().map(|(result, ..)| result).collect();
            return collection::call(strand, &results, "sum", &[]);
        }
        "findResults" => {
            Value::from(results.into_iter().map(|(result, ..)| result).filter(|r| !r.is_null()).collect::<Vec<_>>())
        }
        "collect" => Value::from(results.into_iter().map(|(result, ..)| result).collect::<Vec<_>>()),
        // Two parameters compare two entries.
        "max" | "min" => {
            let entries = crate::interpret::entries(own);
            return collection::call(strand, &entries, name, arguments);
        }
        _ => return Ok(None),
    }))
}
