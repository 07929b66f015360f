//! Properties, elements, and what can be gone through.

use std::sync::Arc;

use super::Strand;
use crate::{
    fault::{Outcome, throw},
    method, operator,
    tree::Type,
    value::{Entry, Range, Value, list::List, map::Map, object::Object, show},
};

/// What a loop goes through; a range is not made into a list.
pub(crate) enum Iterable {
    Items(Vec<Value>),
    Range(Range),
}

impl Iterable {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.len(),
            Self::Range(range) => range.len(),
        }
    }

    pub(crate) fn at(&self, index: usize) -> Value {
        match self {
            Self::Items(items) => items.get(index).cloned().unwrap_or_default(),
            Self::Range(range) => range.at(index),
        }
    }
}

impl Strand {
    /// What `each` goes through.
    pub(crate) fn iterable(&mut self, value: &Value) -> Outcome<Iterable> {
        Ok(Iterable::Items(match value {
            Value::Range(range) => return Ok(Iterable::Range(*range)),
            Value::List(list) => list.items(),
            Value::Map(map) => entries(map),
            Value::Null => Vec::new(),
            Value::Text(text) => {
                self.fits(text.len())?;
                text.chars().map(|c| Value::from(c.to_string())).collect()
            }
            Value::Matcher(_) => {
                let count = operator::to_index(&method::call(self, value, "getCount", &[])?.unwrap_or_default())?;
                let mut items = Vec::new();
                for index in 0..count {
                    items.push(self.index(value, &[Value::count(index)])?);
                }
                items
            }
            Value::Class(class) if self.class(class).is_some_and(|class| !class.tree.constants.is_empty()) => {
                let constants = self.class_method(class, "values", &[])?.unwrap_or_default();
                return self.iterable(&constants);
            }
            other => vec![other.clone()],
        }))
    }

    /// The same, as a list.
    pub(crate) fn items(&mut self, value: &Value) -> Outcome<Vec<Value>> {
        match self.iterable(value)? {
            Iterable::Items(items) => Ok(items),
            Iterable::Range(range) => {
                self.fits(range.len())?;
                Ok((0..range.len()).map(|index| range.at(index)).collect())
            }
        }
    }

    /// A property; an exception where there is none.
    pub fn property(&mut self, object: &Value, name: &str) -> Outcome {
        if object.is_null() {
            return Err(throw("NullPointerException", format!("Cannot get property '{name}' on null object")));
        }
        if let Some(value) = self.own_property(object, name)? {
            return Ok(value);
        }
        match object {
            Value::Map(map) if name == "size" => Ok(Value::count(map.len())),
            Value::Map(_) => Ok(Value::Null),
            // A property of a list is that of each of its elements.
            Value::List(list) => {
                let mut values = Vec::new();
                for item in list.items() {
                    values.push(if item.is_null() { Value::Null } else { self.property(&item, name)? });
                }
                Ok(Value::from(values))
            }
            _ => {
                let class = crate::fault::full_name(&object.class_name());
                Err(throw("MissingPropertyException", format!("No such property: {name} for class: {class}")))
            }
        }
    }

    /// A property, where the value has such.
    pub(super) fn own_property(&mut self, object: &Value, name: &str) -> Outcome<Option<Value>> {
        match object {
            Value::Map(map) => return Ok(map.named(name)),
            Value::Entry(entry) => match name {
                "key" => return Ok(Some(entry.key.clone())),
                "value" => return Ok(Some(entry.value.clone())),
                _ => {}
            },
            Value::Object(object) => {
                if let Some(value) = self.object_property(object, name)? {
                    return Ok(Some(value));
                }
            }
            Value::Foreign(foreign) => {
                if let Some(value) = foreign.clone().get(self, name)? {
                    return Ok(Some(value));
                }
            }
            Value::Class(class) => {
                if let Some(value) = self.class_property(class, name)? {
                    return Ok(Some(value));
                }
            }
            Value::Closure(closure) => match name {
                "delegate" => return Ok(Some(closure.delegate().value.unwrap_or_default())),
                "maximumNumberOfParameters" => return Ok(Some(Value::count(closure.parameters()))),
                _ => {}
            },
            Value::Null => return Ok(None),
            _ => {}
        }
        if name == "class" {
            return Ok(Some(Value::Class(object.class_name().as_str().into())));
        }
        // A list has properties of its elements, and of its own only these.
        if matches!(object, Value::List(_)) && !matches!(name, "empty" | "first" | "last") {
            return Ok(None);
        }
        let mut chars = name.chars();
        let Some(first) = chars.next() else { return Ok(None) };
        let capital: String = first.to_uppercase().chain(chars).collect();
        if let Some(value) = method::call(self, object, &format!("get{capital}"), &[])? {
            return Ok(Some(value));
        }
        method::call(self, object, &format!("is{capital}"), &[])
    }

    /// A field, or what a getter gives.
    pub(super) fn object_property(&mut self, object: &Arc<Object>, name: &str) -> Outcome<Option<Value>> {
        let mut chars = name.chars();
        let capital: String = chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default();
        let inside = self.this.as_ref().is_some_and(|this| Arc::ptr_eq(this, object));
        if !inside {
            for prefix in ["get", "is"] {
                if let Some((function, program)) = object.class.method(&format!("{prefix}{capital}"), 0)
                    && function.parameters.as_ref().is_some_and(Vec::is_empty)
                {
                    return self.invoke(&function, program, Some(object.clone()), Vec::new()).map(Some);
                }
            }
        }
        if let Some(value) = object.fields.named(name) {
            return Ok(Some(value));
        }
        super::class::fixed_value(self, &object.class, name)
    }

    /// Sets a property.
    pub(super) fn set_property(&mut self, object: &Value, name: &str, value: Value) -> Outcome<()> {
        match object {
            Value::Map(map) => {
                self.fits(map.len() + 1)?;
                map.insert(name.into(), value);
                return Ok(());
            }
            Value::Object(object) => {
                let mut chars = name.chars();
                let capital: String = chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default();
                let inside = self.this.as_ref().is_some_and(|this| Arc::ptr_eq(this, object));
                if !inside && let Some((function, program)) = object.class.method(&format!("set{capital}"), 1) {
                    self.invoke(&function, program, Some(object.clone()), vec![value])?;
                    return Ok(());
                }
                if object.fields.named(name).is_some() {
                    object.fields.insert(name.into(), value);
                    return Ok(());
                }
                if super::class::set_fixed(self, &object.class, name, &value)? {
                    return Ok(());
                }
            }
            Value::Class(class) => {
                if let Some(class) = self.class(class)
                    && super::class::set_fixed(self, &class, name, &value)?
                {
                    return Ok(());
                }
            }
            Value::Foreign(foreign) if foreign.clone().set(self, name, value.clone())? => return Ok(()),
            Value::Closure(closure) => {
                let mut delegate = closure.delegate();
                match name {
                    "delegate" => delegate.value = Some(value),
                    // Closure.DELEGATE_FIRST and DELEGATE_ONLY
                    "resolveStrategy" => delegate.first = matches!(value, Value::Int(1 | 3)),
                    _ => {
                        return Err(throw(
                            "MissingPropertyException",
                            format!("No such property: {name} for class: groovy.lang.Closure"),
                        ));
                    }
                }
                *closure.delegate.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = delegate;
                return Ok(());
            }
            Value::Null => {
                return Err(throw("NullPointerException", format!("Cannot set property '{name}' on null object")));
            }
            _ => {}
        }
        let class = crate::fault::full_name(&object.class_name());
        Err(throw("MissingPropertyException", format!("No such property: {name} for class: {class}")))
    }

    /// An element, or several.
    pub(crate) fn index(&mut self, object: &Value, keys: &[Value]) -> Outcome {
        let many = match keys {
            [Value::Range(range)] => Some(self.positions(object, *range)?),
            [Value::List(list)] if !matches!(object, Value::Map(_) | Value::Foreign(_)) => Some(list.items()),
            [_] => None,
            [] => return Err(throw("IllegalArgumentException", "an index is missing")),
            keys => Some(keys.to_vec()),
        };
        if let Some(keys) = many {
            let mut values = Vec::with_capacity(keys.len());
            for key in &keys {
                values.push(self.index(object, std::slice::from_ref(key))?);
            }
            if let Value::Text(_) = object {
                return self.text(values.iter().map(show::text).collect());
            }
            return Ok(Value::from(values));
        }
        let key = &keys[0];
        match object {
            Value::Null => Err(throw("NullPointerException", "Cannot invoke method getAt() on null object")),
            Value::List(list) => {
                Ok(position(operator::to_long(key)?, list.len()).and_then(|index| list.get(index)).unwrap_or_default())
            }
            Value::Range(range) => {
                Ok(position(operator::to_long(key)?, range.len()).map(|index| range.at(index)).unwrap_or_default())
            }
            Value::Map(map) => Ok(map.get(key).unwrap_or_default()),
            Value::Text(text) => {
                let index = operator::to_long(key)?;
                let length = text.chars().count();
                match position(index, length).filter(|index| *index < length).and_then(|index| text.chars().nth(index))
                {
                    Some(c) => Ok(Value::from(c.to_string())),
                    None => {
                        Err(throw("StringIndexOutOfBoundsException", format!("String index out of range: {index}")))
                    }
                }
            }
            Value::Matcher(matcher) => {
                matcher.reset();
                let wanted = operator::to_index(key)?;
                for _ in 0..=wanted {
                    self.tick()?;
                    if !matcher.next()? {
                        return Err(throw("IndexOutOfBoundsException", format!("index is out of range 0..{wanted}")));
                    }
                }
                let mut groups = Vec::new();
                for group in 0..=matcher.pattern.groups() {
                    groups.push(matcher.group(group)?.map_or(Value::Null, Value::from));
                }
                if groups.len() == 1 { Ok(groups.remove(0)) } else { Ok(Value::from(groups)) }
            }
            object => self.property(object, &show::text(key)),
        }
    }

    /// The positions that a range of an object names; negative ones count from its end.
    fn positions(&mut self, object: &Value, range: Range) -> Outcome<Vec<Value>> {
        let length = match object {
            Value::List(list) => list.len(),
            Value::Text(text) => text.chars().count(),
            Value::Range(range) => range.len(),
            _ => return self.items(&Value::Range(range)),
        };
        let out = || throw("IndexOutOfBoundsException", format!("{}..{} is out of 0..{length}", range.from, range.to));
        let from = position(range.from, length).ok_or_else(out)?;
        let to = position(range.to, length).ok_or_else(out)?;
        let open = range.open && range.to >= 0;
        if open && from == to || length == 0 || from > length || to > length {
            return if from <= length && to <= length { Ok(Vec::new()) } else { Err(out()) };
        }
        let resolved = Range { from: from as i64, to: to as i64, open, letters: false };
        if resolved.from.max(resolved.to - i64::from(open)) >= length as i64 {
            return Err(out());
        }
        self.items(&Value::Range(resolved))
    }

    pub(super) fn set_index(&mut self, object: &Value, keys: &[Value], value: Value) -> Outcome<()> {
        let [key] = keys else { return Err(throw("IllegalArgumentException", "one index is needed here")) };
        match object {
            Value::List(list) => {
                let index = operator::to_long(key)?;
                let Some(index) = position(index, list.len()) else {
                    return Err(throw(
                        "IndexOutOfBoundsException",
                        format!("Negative array index [{index}] too large"),
                    ));
                };
                self.fits(index + 1)?;
                let before = list.change(|items| {
                    if index >= items.len() {
                        items.resize(index + 1, Value::Null);
                    }
                    std::mem::replace(&mut items[index], value)
                });
                drop(before);
                Ok(())
            }
            Value::Map(map) => {
                self.fits(map.len() + 1)?;
                map.insert(key.clone(), value);
                Ok(())
            }
            object => self.set_property(object, &show::text(key), value),
        }
    }

    /// `value as Type`
    pub(crate) fn convert(&mut self, value: &Value, kind: &Type) -> Outcome {
        let name = kind.name.rsplit('.').next().unwrap_or(&kind.name);
        if kind.arrays > 0 {
            return Ok(Value::from(self.items(value)?));
        }
        if value.is_null() {
            return Ok(Value::Null);
        }
        match name {
            "String" | "CharSequence" | "GString" => {
                let text = self.show(value)?;
                self.text(text)
            }
            "boolean" | "Boolean" => Ok(Value::Bool(self.truth(value)?)),
            "List" | "ArrayList" | "LinkedList" | "Collection" | "Iterable" => Ok(Value::from(self.items(value)?)),
            "Set" | "HashSet" | "LinkedHashSet" | "TreeSet" | "SortedSet" => {
                let mut items = self.items(value)?;
                if name == "TreeSet" || name == "SortedSet" {
                    items = method::list::sorted(self, items, None)?;
                }
                Ok(Value::List(List::set(method::list::distinct(self, items)?)))
            }
            "Map" | "HashMap" | "LinkedHashMap" => match value {
                Value::Map(map) => Ok(Value::Map(map.entries().into_iter().collect())),
                Value::Object(object) => Ok(Value::Map(object.fields.entries().into_iter().collect())),
                other => Err(cast(other, name)),
            },
            _ => match self.class(name) {
                Some(class) if !class.tree.constants.is_empty() => {
                    let name = show::text(value);
                    match self.class_property(&class.tree.name, &name)? {
                        Some(constant) => Ok(constant),
                        None => Err(cast(value, &class.tree.name)),
                    }
                }
                Some(class) if class.is(&value.class_name()) => Ok(value.clone()),
                Some(class) => match value {
                    Value::Object(object) if object.class.is(&class.tree.name) => Ok(value.clone()),
                    Value::Map(_) => self.create(&class.tree.name, vec![value.clone()], true),
                    Value::List(list) => self.create(&class.tree.name, list.items(), false),
                    _ => Err(cast(value, &class.tree.name)),
                },
                None => operator::convert(value, name),
            },
        }
    }

    /// A value as a variable of a type holds it.
    pub(super) fn converted(&mut self, value: Value, kind: &Type) -> Outcome {
        let name = kind.name.rsplit('.').next().unwrap_or(&kind.name);
        if kind.arrays > 0 || value.is_null() {
            return Ok(value);
        }
        match name {
            "String" | "boolean" | "Boolean" | "Set" | "HashSet" | "LinkedHashSet" => self.convert(&value, kind),
            "int" | "Integer" | "long" | "Long" | "double" | "Double" | "float" | "Float" | "BigDecimal"
            | "BigInteger" => {
                if matches!(value, Value::Text(_)) {
                    return Err(cast(&value, name));
                }
                operator::convert(&value, name)
            }
            "List" | "ArrayList" => match &value {
                Value::List(_) | Value::Range(_) => Ok(value),
                other => Err(cast(other, name)),
            },
            "Map" | "HashMap" | "LinkedHashMap" => match &value {
                Value::Map(_) | Value::Foreign(_) => Ok(value),
                other => Err(cast(other, name)),
            },
            "Closure" => match &value {
                Value::Closure(_) => Ok(value),
                other => Err(cast(other, name)),
            },
            _ => Ok(value),
        }
    }
}

pub(crate) fn entries(map: &Map) -> Vec<Value> {
    map.entries().into_iter().map(|(key, value)| Value::Entry(Arc::new(Entry { key, value }))).collect()
}

/// A position, where a negative one counts from the end; none where that is before the beginning.
pub(crate) fn position(index: i64, length: usize) -> Option<usize> {
    if index >= 0 {
        usize::try_from(index).ok()
    } else {
        (length as i64).checked_add(index).and_then(|i| usize::try_from(i).ok())
    }
}

fn cast(value: &Value, class: &str) -> crate::fault::Stop {
    let full = crate::fault::full_name(class);
    let from = crate::fault::full_name(&value.class_name());
    throw(
        "GroovyCastException",
        format!("Cannot cast object '{}' with class '{from}' to class '{full}'", show::text(value)),
    )
}
