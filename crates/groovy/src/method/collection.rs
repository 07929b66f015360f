//! What lists, sets, ranges and the entries of maps can be asked.

use super::{index_of, text_of};
use crate::{
    fault::{Outcome, throw},
    interpret::{Strand, position},
    operator,
    value::{Entry, Value, list::List, map::Map},
};

/// What a closure is given of an element: an entry as key and value where it wants two.
fn given(closure: &Value, item: &Value) -> Vec<Value> {
    match (closure, item) {
        (Value::Closure(closure), Value::Entry(entry)) if closure.parameters() > 1 => {
            vec![entry.key.clone(), entry.value.clone()]
        }
        _ => vec![item.clone()],
    }
}

pub(crate) fn call(strand: &mut Strand, items: &[Value], name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    if let Some(value) = plain(strand, items, name, arguments)? {
        return Ok(Some(value));
    }
    let closure = arguments.last().cloned().unwrap_or_default();
    let ask = |strand: &mut Strand, item: &Value| strand.call_value(&closure, given(&closure, item));
    Ok(Some(match name {
        "each" | "forEach" | "reverseEach" => {
            let mut order: Vec<&Value> = items.iter().collect();
            if name == "reverseEach" {
                order.reverse();
            }
            for item in order {
                ask(strand, item)?;
            }
            Value::from(items.to_vec())
        }
        "eachWithIndex" => {
            for (index, item) in items.iter().enumerate() {
                strand.call_value(&closure, vec![item.clone(), Value::count(index)])?;
            }
            Value::from(items.to_vec())
        }
        "collect" | "collectMany" | "findResults" | "collectEntries" | "map" | "flatMap" => {
            let mut results = Vec::with_capacity(items.len());
            for item in items {
                let result = if arguments.is_empty() { item.clone() } else { ask(strand, item)? };
                match name {
                    "collectMany" | "flatMap" => {
                        results.extend(strand.items(&result)?);
                        strand.fits(results.len())?;
                    }
                    "findResults" if result.is_null() => {}
                    _ => results.push(result),
                }
            }
            match name {
                "collectEntries" => Value::Map(to_map(strand, results)?),
                _ => Value::from(results),
            }
        }
        "collectNested" => Value::from(nested(strand, items, &closure, 0)?),
        "find" | "findResult" | "any" | "every" | "findIndexOf" | "findLastIndexOf" | "findIndexValues" | "count"
        | "findAll" | "filter" | "split" | "partition" | "takeWhile" | "dropWhile" | "anyMatch" | "allMatch"
        | "noneMatch" | "grep" => return filtered(strand, items, name, arguments),
        "inject" => {
            let (mut result, rest) = match arguments {
                [first, _] => (first.clone(), items),
                _ => match items.split_first() {
                    Some((first, rest)) => (first.clone(), rest),
                    None => {
                        return Err(throw(
                            "NoSuchElementException",
                            "Cannot call inject() on an empty iterable without passing an initial value.",
                        ));
                    }
                },
            };
            for item in rest {
                result = strand.call_value(&closure, vec![result, item.clone()])?;
            }
            result
        }
        "groupBy" | "countBy" | "indexBy" => {
            let groups = Map::default();
            for item in items {
                let key = ask(strand, item)?;
                let value = match (name, groups.get(&key)) {
                    ("groupBy", Some(Value::List(list))) => {
                        list.change(|list| list.push(item.clone()));
                        continue;
                    }
                    ("groupBy", _) => Value::from(vec![item.clone()]),
                    ("countBy", Some(Value::Int(count))) => Value::Int(count + 1),
                    ("countBy", _) => Value::Int(1),
                    _ => item.clone(),
                };
                groups.insert(key, value);
            }
            Value::Map(groups)
        }
        "max" | "min" | "sum" | "average" => return measured(strand, items, name, arguments),
        _ => return Ok(None),
    }))
}

/// Methods without closures.
fn plain(strand: &mut Strand, items: &[Value], name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let empty = || throw("NoSuchElementException", format!("Cannot access {name}() element from an empty List"));
    let position_of = |index: Option<usize>| index.map_or(Value::Int(-1), Value::count);
    Ok(Some(match (name, arguments.len()) {
        ("size" | "length", 0) => Value::count(items.len()),
        ("count", 0) => Value::count(items.len()),
        ("isEmpty", 0) => Value::Bool(items.is_empty()),
        ("first" | "head" | "getFirst", 0) => items.first().cloned().ok_or_else(empty)?,
        ("last" | "getLast", 0) => items.last().cloned().ok_or_else(empty)?,
        ("tail", 0) => Value::from(items.get(1..).ok_or_else(empty)?.to_vec()),
        ("init", 0) => Value::from(items.split_last().ok_or_else(empty)?.1.to_vec()),
        ("contains", 1) => Value::Bool(items.iter().any(|item| operator::equal(item, &arguments[0]))),
        ("containsAll", 1) => {
            let wanted = strand.items(&arguments[0])?;
            Value::Bool(wanted.iter().all(|wanted| items.iter().any(|item| operator::equal(item, wanted))))
        }
        ("disjoint", 1) => {
            let others = strand.items(&arguments[0])?;
            Value::Bool(!others.iter().any(|other| items.iter().any(|item| operator::equal(item, other))))
        }
        ("indexOf", 1) => position_of(items.iter().position(|item| operator::equal(item, &arguments[0]))),
        ("lastIndexOf", 1) => position_of(items.iter().rposition(|item| operator::equal(item, &arguments[0]))),
        ("join", 0 | 1) => {
            let separator = if arguments.is_empty() { String::new() } else { text_of(name, arguments, 0)? };
            let mut out = String::new();
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(&separator);
                }
                out.push_str(&strand.show(item)?);
                if out.len() > strand.limits().text {
                    break;
                }
            }
            strand.text(out)?
        }
        ("toList" | "asList" | "toArray" | "collect", 0) => Value::from(items.to_vec()),
        ("toSet", 0) => Value::List(List::set(super::list::distinct(strand, items.to_vec())?)),
        ("reverse", 0) => Value::from(items.iter().rev().cloned().collect::<Vec<_>>()),
        ("take", 1) => Value::from(items[..index_of(name, arguments, 0)?.min(items.len())].to_vec()),
        ("drop", 1) => Value::from(items[index_of(name, arguments, 0)?.min(items.len())..].to_vec()),
        ("takeRight", 1) => Value::from(items[items.len().saturating_sub(index_of(name, arguments, 0)?)..].to_vec()),
        ("dropRight", 1) => Value::from(items[..items.len().saturating_sub(index_of(name, arguments, 0)?)].to_vec()),
        ("subList", 2) => {
            let (from, to) = (index_of(name, arguments, 0)?, index_of(name, arguments, 1)?);
            match items.get(from..to) {
                Some(items) => Value::from(items.to_vec()),
                None => {
                    return Err(throw(
                        "IndexOutOfBoundsException",
                        format!("{from}..{to} is out of 0..{}", items.len()),
                    ));
                }
            }
        }
        ("flatten", 0) => {
            let mut out = Vec::new();
            flatten(strand, items, &mut out, 0)?;
            Value::from(out)
        }
        ("intersect", 1) => {
            let others = strand.items(&arguments[0])?;
            let both = items.iter().filter(|item| others.iter().any(|other| operator::equal(item, other)));
            Value::from(both.cloned().collect::<Vec<_>>())
        }
        ("indices", 0) => Value::from((0..items.len()).map(Value::count).collect::<Vec<_>>()),
        ("withIndex" | "indexed", _) => {
            let from = arguments.first().map_or(Ok(0), operator::to_index)?;
            if name == "indexed" {
                return Ok(Some(Value::Map(
                    items.iter().enumerate().map(|(index, item)| (Value::count(from + index), item.clone())).collect(),
                )));
            }
            let pair = |(index, item): (usize, &Value)| Value::from(vec![item.clone(), Value::count(from + index)]);
            Value::from(items.iter().enumerate().map(pair).collect::<Vec<_>>())
        }
        ("collate", 1 | 2) => {
            let size = index_of(name, arguments, 0)?;
            if size == 0 {
                return Err(throw("IllegalArgumentException", "a part has at least one element"));
            }
            let keep = !matches!(arguments.get(1), Some(Value::Bool(false)));
            let parts = items.chunks(size).filter(|part| keep || part.len() == size);
            Value::from(parts.map(|part| Value::from(part.to_vec())).collect::<Vec<_>>())
        }
        ("transpose", 0) => {
            let mut rows = Vec::new();
            for item in items {
                rows.push(strand.items(item)?);
            }
            let width = rows.iter().map(Vec::len).min().unwrap_or(0);
            strand.fits(width.saturating_mul(rows.len()))?;
            let column = |index: usize| Value::from(rows.iter().map(|row| row[index].clone()).collect::<Vec<_>>());
            Value::from((0..width).map(column).collect::<Vec<_>>())
        }
        ("combinations", 0) => {
            let mut all: Vec<Vec<Value>> = vec![Vec::new()];
            for item in items {
                let choices = strand.items(item)?;
                strand.fits(all.len().saturating_mul(choices.len()).saturating_mul(items.len()))?;
                let with = |one: &Vec<Value>, choice: &Value| one.iter().chain([choice]).cloned().collect::<Vec<_>>();
                all = choices
                    .iter()
                    .flat_map(|choice| all.iter().map(|one| with(one, choice)).collect::<Vec<_>>())
                    .collect();
            }
            Value::from(all.into_iter().map(Value::from).collect::<Vec<_>>())
        }
        ("sum" | "max" | "min" | "average", 0) => return measured(strand, items, name, arguments),
        ("count", 1) if !matches!(arguments[0], Value::Closure(_)) => {
            Value::count(items.iter().filter(|item| operator::equal(item, &arguments[0])).count())
        }
        ("elementAt" | "getAt", 1) => {
            let index = operator::to_long(&arguments[0])?;
            position(index, items.len()).and_then(|index| items.get(index)).cloned().unwrap_or_default()
        }
        ("hasNext", 0) => Value::Bool(!items.is_empty()),
        _ => return Ok(None),
    }))
}

fn filtered(strand: &mut Strand, items: &[Value], name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let closure = arguments.last().cloned();
    let (mut yes, mut no, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let (result, truth) = match &closure {
            None => (item.clone(), strand.truth(item)?),
            Some(closure @ Value::Closure(_)) => {
                let result = strand.call_value(closure, given(closure, item))?;
                let truth = strand.truth(&result)?;
                (result, truth)
            }
            Some(case) => (Value::Null, strand.is_case(case, item)?),
        };
        match (name, truth) {
            ("find", true) => return Ok(Some(item.clone())),
            ("findResult", _) if !result.is_null() => return Ok(Some(result)),
            ("any" | "anyMatch", true) => return Ok(Some(Value::Bool(true))),
            ("noneMatch", true) | ("every" | "allMatch", false) => return Ok(Some(Value::Bool(false))),
            ("findIndexOf", true) => return Ok(Some(Value::count(index))),
            ("takeWhile", false) => return Ok(Some(Value::from(yes))),
            ("dropWhile", false) => return Ok(Some(Value::from(items[index..].to_vec()))),
            _ => {}
        }
        if truth {
            places.push(Value::count(index));
            yes.push(item.clone());
        } else {
            no.push(item.clone());
        }
    }
    Ok(Some(match name {
        "find" | "findResult" => Value::Null,
        "any" | "anyMatch" => Value::Bool(false),
        "every" | "allMatch" | "noneMatch" => Value::Bool(true),
        "findIndexOf" => Value::Int(-1),
        "findLastIndexOf" => places.pop().unwrap_or(Value::Int(-1)),
        "findIndexValues" => Value::from(places),
        "count" => Value::count(yes.len()),
        "split" | "partition" => Value::from(vec![Value::from(yes), Value::from(no)]),
        "dropWhile" => Value::from(Vec::new()),
        _ => Value::from(yes),
    }))
}

fn measured(strand: &mut Strand, items: &[Value], name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let closure = arguments.iter().find(|argument| matches!(argument, Value::Closure(_)));
    if matches!(name, "max" | "min") {
        let order = super::list::sorted(strand, items.to_vec(), closure)?;
        let chosen = if name == "min" { order.first() } else { order.last() };
        return Ok(Some(chosen.cloned().unwrap_or_default()));
    }
    let mut sum = arguments.first().filter(|first| !matches!(first, Value::Closure(_))).cloned();
    for item in items {
        let value = match closure {
            Some(closure) => strand.call_value(closure, given(closure, item))?,
            None => item.clone(),
        };
        sum = Some(match sum {
            Some(sum) => strand.binary("+", &sum, &value)?,
            None => value,
        });
    }
    Ok(Some(match (name, sum) {
        ("average", Some(sum)) => strand.binary("/", &sum, &Value::count(items.len()))?,
        (_, sum) => sum.unwrap_or_default(),
    }))
}

fn flatten(strand: &mut Strand, items: &[Value], out: &mut Vec<Value>, depth: usize) -> Outcome<()> {
    if depth > 100 {
        return Err(throw("StackOverflowError", "lists nest too deep"));
    }
    for item in items {
        strand.tick()?;
        match item {
            Value::List(list) => flatten(strand, &list.items(), out, depth + 1)?,
            Value::Range(_) => out.extend(strand.items(item)?),
            item => out.push(item.clone()),
        }
        strand.fits(out.len())?;
    }
    Ok(())
}

fn nested(strand: &mut Strand, items: &[Value], closure: &Value, depth: usize) -> Outcome<Vec<Value>> {
    if depth > 100 {
        return Err(throw("StackOverflowError", "lists nest too deep"));
    }
    let mut out = Vec::new();
    for item in items {
        out.push(match item {
            Value::List(list) => Value::from(nested(strand, &list.items(), closure, depth + 1)?),
            item => strand.call_value(closure, vec![item.clone()])?,
        });
    }
    Ok(out)
}

/// A map of entries, pairs and maps.
pub(crate) fn to_map(strand: &mut Strand, items: Vec<Value>) -> Outcome<Map> {
    let map = Map::default();
    for item in items {
        match &item {
            Value::Entry(entry) => {
                let Entry { key, value } = entry.as_ref();
                map.insert(key.clone(), value.clone());
            }
            Value::Map(other) => {
                for (key, value) in other.entries() {
                    map.insert(key, value);
                }
            }
            Value::List(list) if list.len() == 2 => {
                map.insert(list.get(0).unwrap_or_default(), list.get(1).unwrap_or_default());
            }
            other => {
                let message = format!("collectEntries needs pairs, not {}", other.class_name());
                return Err(throw("IllegalArgumentException", message));
            }
        }
        strand.fits(map.len())?;
    }
    Ok(map)
}
