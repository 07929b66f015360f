//! Lists, sets and ranges: what changes them. What only asks is in [`super::collection`].

use std::cmp::Ordering;

use super::{collection, index_of, one};
use crate::{
    fault::{Outcome, throw},
    interpret::{Strand, position},
    operator,
    value::{Range, Value, list::List},
};

pub(crate) fn call_range(strand: &mut Strand, range: Range, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    match name {
        "getFrom" => return Ok(Some(range.at(0))),
        "getTo" => return Ok(Some(range.at(range.len().saturating_sub(1)))),
        "size" => return Ok(Some(Value::count(range.len()))),
        "contains" | "containsWithinBounds" => {
            return strand.is_case(&Value::Range(range), one(name, arguments, 0)?).map(|is| Some(Value::Bool(is)));
        }
        "each" => {
            let closure = one(name, arguments, 0)?;
            for index in 0..range.len() {
                strand.call_value(closure, vec![range.at(index)])?;
            }
            return Ok(Some(Value::Range(range)));
        }
        "step" => {
            let step = index_of(name, arguments, 0)?;
            if step == 0 {
                return Err(throw("IllegalArgumentException", "a step of 0 does not end"));
            }
            strand.fits(range.len() / step)?;
            let items: Vec<Value> = (0..range.len()).step_by(step).map(|index| range.at(index)).collect();
            let Some(closure) = arguments.get(1) else { return Ok(Some(Value::from(items))) };
            for item in items {
                strand.call_value(closure, vec![item])?;
            }
            return Ok(Some(Value::Null));
        }
        _ => {}
    }
    let items = strand.items(&Value::Range(range))?;
    call(strand, &List::new(items), name, arguments)
}

pub(crate) fn call(strand: &mut Strand, own: &List, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let whole = || Value::List(own.clone());
    let alike = |items: Vec<Value>| Value::List(if own.is_set() { List::set(items) } else { List::new(items) });
    Ok(Some(match name {
        "add" | "push" | "leftShift" | "addLast" | "addElement" => {
            strand.fits(own.len() + 1)?;
            let value = arguments.last().cloned().unwrap_or_default();
            if own.is_set() && own.items().iter().any(|item| operator::equal(item, &value)) {
                return Ok(Some(if name == "leftShift" { whole() } else { Value::Bool(false) }));
            }
            if arguments.len() > 1 {
                let at = index_of(name, arguments, 0)?;
                if at > own.len() {
                    return Err(out(at, own.len()));
                }
                own.change(|items| items.insert(at, value));
                return Ok(Some(Value::Null));
            }
            // In Groovy 2.4, `push` adds at the end.
            own.change(|items| items.push(value));
            if name == "leftShift" { whole() } else { Value::Bool(true) }
        }
        "addAll" => {
            let more = strand.items(one(name, arguments, arguments.len().saturating_sub(1))?)?;
            strand.fits(own.len() + more.len())?;
            if own.is_set() {
                for item in more {
                    call(strand, own, "add", &[item])?;
                }
            } else if arguments.len() > 1 {
                let at = index_of(name, arguments, 0)?;
                if at > own.len() {
                    return Err(out(at, own.len()));
                }
                own.change(|items| drop(items.splice(at..at, more)));
            } else {
                own.change(|items| items.extend(more));
            }
            Value::Bool(true)
        }
        "set" | "putAt" => {
            let at = index_of(name, arguments, 0)?;
            let value = one(name, arguments, 1)?.clone();
            if at >= own.len() {
                return Err(out(at, own.len()));
            }
            own.change(|items| std::mem::replace(&mut items[at], value))
        }
        "remove" | "removeAt" if own.is_set() || !matches!(arguments.first(), Some(Value::Int(_) | Value::Long(_))) => {
            let value = one(name, arguments, 0)?;
            let at = own.items().iter().position(|item| operator::equal(item, value));
            if let Some(at) = at {
                drop(own.change(|items| items.remove(at)));
            }
            Value::Bool(at.is_some())
        }
        "remove" | "removeAt" => {
            let at = index_of(name, arguments, 0)?;
            if at >= own.len() {
                return Err(out(at, own.len()));
            }
            own.change(|items| items.remove(at))
        }
        "removeElement" => {
            let value = one(name, arguments, 0)?;
            let at = own.items().iter().position(|item| operator::equal(item, value));
            if let Some(at) = at {
                drop(own.change(|items| items.remove(at)));
            }
            Value::Bool(at.is_some())
        }
        "pop" | "removeLast" => {
            own.change(Vec::pop).ok_or_else(|| throw("NoSuchElementException", "Cannot pop() an empty List"))?
        }
        "removeFirst" | "poll" => {
            if own.is_empty() {
                return Err(throw("NoSuchElementException", "the list is empty"));
            }
            own.change(|items| items.remove(0))
        }
        "clear" => {
            drop(own.change(std::mem::take));
            Value::Null
        }
        "removeAll" | "retainAll" => {
            let condition = one(name, arguments, 0)?;
            let mut kept = Vec::new();
            let others = if matches!(condition, Value::Closure(_)) { None } else { Some(strand.items(condition)?) };
            let before = own.items();
            for item in &before {
                strand.tick()?;
                let fits = match &others {
                    None => {
                        let result = strand.call_value(condition, vec![item.clone()])?;
                        strand.truth(&result)?
                    }
                    Some(others) => others.iter().any(|other| operator::equal(other, item)),
                };
                if fits == (name == "retainAll") {
                    kept.push(item.clone());
                }
            }
            let changed = kept.len() != before.len();
            drop(own.change(|items| std::mem::replace(items, kept)));
            Value::Bool(changed)
        }
        "sort" | "toSorted" => {
            // `sort(false)` leaves the list as it is.
            let keep = name == "toSorted" || matches!(arguments.first(), Some(Value::Bool(false)));
            let closure = arguments.iter().find(|argument| matches!(argument, Value::Closure(_)));
            let items = sorted(strand, own.items(), closure)?;
            if keep {
                return Ok(Some(alike(items)));
            }
            drop(own.change(|old| std::mem::replace(old, items)));
            whole()
        }
        "unique" | "toUnique" => {
            let keep = name == "toUnique" || matches!(arguments.first(), Some(Value::Bool(false)));
            let closure = arguments.iter().find(|argument| matches!(argument, Value::Closure(_)));
            let items = match closure {
                None => distinct(strand, own.items())?,
                Some(closure) => distinct_by(strand, own.items(), closure)?,
            };
            if keep {
                return Ok(Some(alike(items)));
            }
            drop(own.change(|old| std::mem::replace(old, items)));
            whole()
        }
        "reverse" => {
            let mut items = own.items();
            items.reverse();
            if matches!(arguments.first(), Some(Value::Bool(true))) {
                drop(own.change(|old| std::mem::replace(old, items)));
                return Ok(Some(whole()));
            }
            Value::from(items)
        }
        "swap" => {
            let (a, b) = (index_of(name, arguments, 0)?, index_of(name, arguments, 1)?);
            if a.max(b) >= own.len() {
                return Err(out(a.max(b), own.len()));
            }
            own.change(|items| items.swap(a, b));
            whole()
        }
        "plus" => operator::arithmetic(strand, "+", &whole(), one(name, arguments, 0)?)?,
        "minus" => operator::arithmetic(strand, "-", &whole(), one(name, arguments, 0)?)?,
        "multiply" => operator::arithmetic(strand, "*", &whole(), one(name, arguments, 0)?)?,
        "clone" | "asImmutable" | "asSynchronized" => alike(own.items()),
        "getAt" => strand.index(&whole(), arguments)?,
        "get" => {
            let at = operator::to_long(one(name, arguments, 0)?)?;
            match position(at, own.len()).and_then(|index| own.get(index)).filter(|_| at >= 0) {
                Some(value) => value,
                None => return Err(out(at as usize, own.len())),
            }
        }
        "findAll" | "grep" | "take" | "drop" | "minusSet" | "intersect" if own.is_set() => {
            match collection::call(strand, &own.items(), name, arguments)? {
                Some(Value::List(list)) => Value::List(List::set(list.items())),
                other => return Ok(other),
            }
        }
        _ => return collection::call(strand, &own.items(), name, arguments),
    }))
}

fn out(index: usize, length: usize) -> crate::fault::Stop {
    throw("IndexOutOfBoundsException", format!("Index: {index}, Size: {length}"))
}

/// In order; a closure with two parameters compares, one with one gives what is compared. Equal elements keep their order.
pub(crate) fn sorted(strand: &mut Strand, items: Vec<Value>, closure: Option<&Value>) -> Outcome<Vec<Value>> {
    let compares = matches!(closure, Some(Value::Closure(closure)) if closure.parameters() > 1);
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        let key = match closure {
            Some(closure) if !compares => strand.call_value(closure, vec![item.clone()])?,
            _ => item.clone(),
        };
        keyed.push((key, item));
    }
    let mut order = |left: &(Value, Value), right: &(Value, Value)| -> Outcome<Ordering> {
        strand.tick()?;
        match closure {
            Some(closure) if compares => {
                let order = strand.call_value(closure, vec![left.1.clone(), right.1.clone()])?;
                Ok(operator::to_long(&order)?.cmp(&0))
            }
            _ => strand.compare(&left.0, &right.0),
        }
    };
    Ok(merge(keyed, &mut order)?.into_iter().map(|(_, item)| item).collect())
}

type Pair = (Value, Value);

/// Merging, since the order may fail and need not be one.
fn merge(mut items: Vec<Pair>, order: &mut impl FnMut(&Pair, &Pair) -> Outcome<Ordering>) -> Outcome<Vec<Pair>> {
    if items.len() < 2 {
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    let mut left = merge(items, order)?.into_iter().peekable();
    let mut right = merge(right, order)?.into_iter().peekable();
    let mut out = Vec::with_capacity(left.len() + right.len());
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        let first = if order(one, other)?.is_gt() { &mut right } else { &mut left };
        out.extend(first.next());
    }
    out.extend(left);
    out.extend(right);
    Ok(out)
}

/// Without those that equal one before.
pub(crate) fn distinct(strand: &mut Strand, items: Vec<Value>) -> Outcome<Vec<Value>> {
    let mut seen = indexmap::IndexSet::new();
    for item in items {
        strand.tick()?;
        seen.insert(crate::value::map::Key(item));
    }
    Ok(seen.into_iter().map(|key| key.0).collect())
}

fn distinct_by(strand: &mut Strand, items: Vec<Value>, closure: &Value) -> Outcome<Vec<Value>> {
    let compares = matches!(closure, Value::Closure(closure) if closure.parameters() > 1);
    let mut kept: Vec<Value> = Vec::new();
    let mut seen = indexmap::IndexSet::new();
    for item in items {
        let new = if compares {
            let mut new = true;
            for other in &kept {
                let order = strand.call_value(closure, vec![other.clone(), item.clone()])?;
                new &= operator::to_long(&order)? != 0;
            }
            new
        } else {
            let key = strand.call_value(closure, vec![item.clone()])?;
            seen.insert(crate::value::map::Key(key))
        };
        if new {
            kept.push(item);
        }
    }
    Ok(kept)
}
