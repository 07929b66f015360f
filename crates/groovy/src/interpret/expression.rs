//! Values.

use std::sync::Arc;

use super::{NESTING, Strand};
use crate::{
    fault::{Outcome, Stop, throw},
    operator,
    pattern::{Matcher, Pattern},
    tree::{Access, Argument, Expression, ExpressionKind, TemplatePart},
    value::{
        Range, Value,
        closure::{Closure, Kind, Scope},
        list::List,
        map::Map,
        show,
        text::Text,
    },
};

impl Strand {
    /// Goes one level deeper.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.nesting >= NESTING {
            return Err(throw("StackOverflowError", "calls nest too deep"));
        }
        self.nesting += 1;
        let result = work(self);
        self.nesting -= 1;
        result
    }

    pub(super) fn eval(&mut self, value: &Expression, scope: &Arc<Scope>) -> Outcome {
        self.tick()?;
        self.span = value.span;
        let result = self.deeper(|strand| strand.eval_here(value, scope));
        match result {
            // The innermost place is the one that tells.
            Err(Stop::Throw(thrown, None)) => Err(Stop::Throw(thrown, Some(self.place(value.span)))),
            result => result,
        }
    }

    fn eval_here(&mut self, value: &Expression, scope: &Arc<Scope>) -> Outcome {
        Ok(match &value.kind {
            ExpressionKind::Null => Value::Null,
            ExpressionKind::Bool(value) => Value::Bool(*value),
            ExpressionKind::Int(value) => Value::Int(*value),
            ExpressionKind::Long(value) => Value::Long(*value),
            ExpressionKind::Decimal(value) => Value::Decimal(*value),
            ExpressionKind::Double(value) => Value::Double(*value),
            ExpressionKind::Text(text) => Value::Text(text.clone()),
            ExpressionKind::Template(parts) => return self.template(parts, scope),
            ExpressionKind::List(entries) => {
                let (values, _) = self.arguments(entries, scope)?;
                Value::List(List::new(values))
            }
            ExpressionKind::Map(entries) => Value::Map(self.map(entries, scope)?),
            ExpressionKind::Range { from, to, open } => {
                let (from, to) = (self.eval(from, scope)?, self.eval(to, scope)?);
                return range(&from, &to, *open);
            }
            ExpressionKind::Name(name) => return self.variable(name, scope),
            ExpressionKind::This => return Ok(self.this()),
            ExpressionKind::Property { object, name, access } => {
                return self.eval_property(value, object, name, *access, scope);
            }
            ExpressionKind::Index { object, keys } => {
                let object = self.eval(object, scope)?;
                let (keys, _) = self.arguments(keys, scope)?;
                self.span = value.span;
                return self.index(&object, &keys);
            }
            ExpressionKind::Call(call) => return self.call(call, value.span, scope),
            ExpressionKind::Closure(function) => Value::Closure(Closure::new(Kind::Written {
                function: function.clone(),
                scope: scope.clone(),
                program: self.program.clone(),
                this: self.this.clone(),
            })),
            ExpressionKind::New { kind, arguments, sizes } => {
                if !sizes.is_empty() {
                    let size = self.eval(&sizes[0], scope)?;
                    let size = operator::to_index(&size)?;
                    self.fits(size)?;
                    return Ok(Value::from(vec![operator::zero(&kind.name); size]));
                }
                let (arguments, named) = self.arguments(arguments, scope)?;
                self.span = value.span;
                return self.create(&kind.name, arguments, named);
            }
            ExpressionKind::Unary(sign, operand) => {
                let operand = self.eval(operand, scope)?;
                return match *sign {
                    "!" => Ok(Value::Bool(!self.truth(&operand)?)),
                    "~" if matches!(operand, Value::Text(_)) => {
                        Ok(Value::Pattern(Arc::new(Pattern::new(&show::text(&operand))?)))
                    }
                    sign => operator::unary(sign, &operand),
                };
            }
            ExpressionKind::Increment { target, by, after } => {
                let before = self.eval(target, scope)?;
                let next = operator::step(&before, *by)?;
                self.assign(target, next.clone(), scope)?;
                if *after { before } else { next }
            }
            ExpressionKind::Binary(sign, left, right) => return self.eval_binary(sign, left, right, scope),
            ExpressionKind::Assign { target, operation, value: right } => {
                let new = match operation {
                    None => self.eval(right, scope)?,
                    Some("?") => {
                        let before = self.eval(target, scope)?;
                        if self.truth(&before)? { before } else { self.eval(right, scope)? }
                    }
                    Some(operation) => {
                        let before = self.eval(target, scope)?;
                        let right = self.eval(right, scope)?;
                        self.span = value.span;
                        self.binary(operation, &before, &right)?
                    }
                };
                self.span = value.span;
                self.assign(target, new.clone(), scope)?;
                new
            }
            ExpressionKind::Choose(condition, then, otherwise) => {
                let chosen = if self.holds(condition, scope)? { then } else { otherwise };
                return self.eval(chosen, scope);
            }
            ExpressionKind::Elvis(first, otherwise) => {
                let first = self.eval(first, scope)?;
                if self.truth(&first)? { first } else { return self.eval(otherwise, scope) }
            }
            ExpressionKind::Convert(operand, kind) => {
                let operand = self.eval(operand, scope)?;
                return self.convert(&operand, kind);
            }
            ExpressionKind::Is(operand, kind) => {
                let operand = self.eval(operand, scope)?;
                Value::Bool(operator::is_a(&operand, &kind.name))
            }
            ExpressionKind::Method(object, name) => {
                if matches!(object.kind, ExpressionKind::This) && self.this.is_none() {
                    return Ok(Value::Closure(Closure::new(Kind::Function(name.clone()))));
                }
                let object = self.eval(object, scope)?;
                Value::Closure(Closure::new(Kind::Method(object, name.clone())))
            }
        })
    }

    fn this(&self) -> Value {
        match &self.this {
            Some(object) => Value::Object(object.clone()),
            None if !Arc::ptr_eq(&self.program, &self.shared.program) => {
                Value::Foreign(Arc::new(super::load::Loaded(self.program.clone())))
            }
            None => Value::Class(Text::from("WorkflowScript")),
        }
    }

    fn template(&mut self, parts: &[TemplatePart], scope: &Arc<Scope>) -> Outcome {
        let mut out = String::new();
        for part in parts {
            match part {
                TemplatePart::Text(text) => out.push_str(text),
                TemplatePart::Value(value) => {
                    let mut value = self.eval(value, scope)?;
                    // `${-> value}` is evaluated here already.
                    if let Value::Closure(closure) = &value {
                        value = self.call_closure(closure, Vec::new())?;
                    }
                    out.push_str(&self.show(&value)?);
                }
            }
            if out.len() > self.limits().text {
                break;
            }
        }
        self.text(out)
    }

    /// The values of arguments: named ones are a map, the first; and whether there are such.
    pub(super) fn arguments(&mut self, arguments: &[Argument], scope: &Arc<Scope>) -> Outcome<(Vec<Value>, bool)> {
        let mut values = Vec::with_capacity(arguments.len());
        let mut names: Option<Map> = None;
        for argument in arguments {
            match argument {
                Argument::Value(value) => values.push(self.eval(value, scope)?),
                Argument::Spread(value) => {
                    let value = self.eval(value, scope)?;
                    let more = self.items(&value)?;
                    self.fits(values.len() + more.len())?;
                    values.extend(more);
                }
                Argument::Named(..) | Argument::SpreadMap(_) => {
                    let map = names.get_or_insert_default().clone();
                    self.entry(argument, &map, scope)?;
                }
            }
        }
        let named = names.is_some();
        if let Some(names) = names {
            values.insert(0, Value::Map(names));
        }
        Ok((values, named))
    }

    fn map(&mut self, entries: &[Argument], scope: &Arc<Scope>) -> Outcome<Map> {
        let map = Map::default();
        for entry in entries {
            self.entry(entry, &map, scope)?;
        }
        Ok(map)
    }

    fn entry(&mut self, entry: &Argument, map: &Map, scope: &Arc<Scope>) -> Outcome<()> {
        match entry {
            Argument::Named(key, value) => {
                let key = self.eval(key, scope)?;
                let value = self.eval(value, scope)?;
                map.insert(key, value);
            }
            Argument::SpreadMap(value) => match self.eval(value, scope)? {
                Value::Map(other) => {
                    for (key, value) in other.entries() {
                        map.insert(key, value);
                    }
                }
                Value::Null => {}
                other => {
                    return Err(throw(
                        "IllegalArgumentException",
                        format!("*: needs a map, not {}", other.class_name()),
                    ));
                }
            },
            Argument::Value(_) | Argument::Spread(_) => {}
        }
        Ok(())
    }

    fn eval_property(
        &mut self,
        whole: &Expression,
        object: &Expression,
        name: &Expression,
        access: Access,
        scope: &Arc<Scope>,
    ) -> Outcome {
        if let Some(class) = self.class_path(whole, scope)? {
            return Ok(Value::Class(class.as_str().into()));
        }
        let object_value = if matches!(object.kind, ExpressionKind::This) && self.this.is_none() {
            // A property of the script itself.
            let name = self.eval(name, scope)?;
            return self.variable(&show::text(&name), scope);
        } else {
            self.eval(object, scope)?
        };
        let name = self.eval(name, scope)?;
        let name = show::text(&name);
        self.span = whole.span;
        match access {
            Access::Safe if object_value.is_null() => Ok(Value::Null),
            Access::Each => {
                if object_value.is_null() {
                    return Ok(Value::Null);
                }
                let items = self.items(&object_value)?;
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.push(if item.is_null() { Value::Null } else { self.property(&item, &name)? });
                }
                Ok(Value::from(values))
            }
            _ => self.property(&object_value, &name),
        }
    }

    /// A class' name with its package, where a path of names is that and no variable.
    pub(super) fn class_path(&mut self, value: &Expression, scope: &Arc<Scope>) -> Outcome<Option<String>> {
        let mut names = Vec::new();
        let mut at = value;
        let root = loop {
            match &at.kind {
                ExpressionKind::Property { object, name, access: Access::Plain } => match name.text() {
                    Some(name) => {
                        names.push(name);
                        at = object;
                    }
                    None => return Ok(None),
                },
                ExpressionKind::Name(name) => break name,
                _ => return Ok(None),
            }
        };
        let is_class = |name: &str| name.starts_with(|c: char| c.is_uppercase());
        let fits = names.first().is_some_and(|last| is_class(last))
            && !names[1..].iter().any(|name| is_class(name))
            && !is_class(root);
        if !fits || self.find(root, scope)?.is_some() {
            return Ok(None);
        }
        names.push(root);
        names.reverse();
        Ok(Some(names.join(".")))
    }

    fn eval_binary(
        &mut self,
        sign: &'static str,
        left: &Expression,
        right: &Expression,
        scope: &Arc<Scope>,
    ) -> Outcome {
        match sign {
            "&&" => return Ok(Value::Bool(self.holds(left, scope)? && self.holds(right, scope)?)),
            "||" => return Ok(Value::Bool(self.holds(left, scope)? || self.holds(right, scope)?)),
            _ => {}
        }
        let span = self.span;
        let left = self.eval(left, scope)?;
        let right = self.eval(right, scope)?;
        self.span = span;
        self.binary(sign, &left, &right)
    }

    pub(crate) fn binary(&mut self, sign: &str, left: &Value, right: &Value) -> Outcome {
        match sign {
            "=~" | "==~" => {
                let pattern = self.pattern(right)?;
                let text = self.show(left)?;
                if sign == "==~" {
                    return Ok(Value::Bool(pattern.fits(&text)?));
                }
                Ok(Value::Matcher(Arc::new(Matcher::new(pattern, text.into()))))
            }
            "in" => Ok(Value::Bool(self.is_case(right, left)?)),
            "===" | "!==" => Ok(Value::Bool(operator::same(left, right) == (sign == "==="))),
            "==" | "!=" => Ok(Value::Bool(self.equal(left, right)? == (sign == "=="))),
            "<" | "<=" | ">" | ">=" | "<=>" => {
                let order = self.compare(left, right)?;
                Ok(match sign {
                    "<" => Value::Bool(order.is_lt()),
                    "<=" => Value::Bool(order.is_le()),
                    ">" => Value::Bool(order.is_gt()),
                    ">=" => Value::Bool(order.is_ge()),
                    _ => Value::Int(order as i32),
                })
            }
            _ => {
                if let Value::Object(object) = left
                    && let Some(name) = operator::method(sign)
                    && let Some((function, program)) = object.class.method(name, 1)
                {
                    return self.invoke(&function, program, Some(object.clone()), vec![right.clone()]);
                }
                operator::arithmetic(self, sign, left, right)
            }
        }
    }

    /// Equality, as the script's own classes say.
    pub(crate) fn equal(&mut self, left: &Value, right: &Value) -> Outcome<bool> {
        if let Value::Object(object) = left
            && let Some((function, program)) = object.class.method("equals", 1)
        {
            let value = self.invoke(&function, program, Some(object.clone()), vec![right.clone()])?;
            return self.truth(&value);
        }
        Ok(operator::equal(left, right))
    }

    /// Order, as the script's own classes say.
    pub(crate) fn compare(&mut self, left: &Value, right: &Value) -> Outcome<std::cmp::Ordering> {
        if let Value::Object(object) = left
            && let Some((function, program)) = object.class.method("compareTo", 1)
        {
            let value = self.invoke(&function, program, Some(object.clone()), vec![right.clone()])?;
            return Ok(operator::to_long(&value)?.cmp(&0));
        }
        operator::compare(left, right)
    }

    /// A pattern from a pattern or a text.
    pub(crate) fn pattern(&mut self, value: &Value) -> Outcome<Arc<Pattern>> {
        match value {
            Value::Pattern(pattern) => Ok(pattern.clone()),
            value => Ok(Arc::new(Pattern::new(&self.show(value)?)?)),
        }
    }

    /// Whether a value counts as true.
    pub(crate) fn truth(&mut self, value: &Value) -> Outcome<bool> {
        match value {
            Value::Matcher(matcher) => {
                matcher.reset();
                let found = matcher.next()?;
                matcher.reset();
                Ok(found)
            }
            Value::Object(object) => match object.class.method("asBoolean", 0) {
                Some((function, program)) => {
                    let value = self.invoke(&function, program, Some(object.clone()), Vec::new())?;
                    Ok(operator::truth(&value))
                }
                None => Ok(true),
            },
            value => Ok(operator::truth(value)),
        }
    }

    /// Whether a value is what a `case`, or the right of `in`, describes.
    pub(crate) fn is_case(&mut self, case: &Value, value: &Value) -> Outcome<bool> {
        Ok(match case {
            Value::Class(name) => operator::is_a(value, name),
            Value::Pattern(pattern) => !value.is_null() && pattern.fits(&show::text(value))?,
            Value::Closure(closure) => {
                let result = self.call_closure(closure, vec![value.clone()])?;
                self.truth(&result)?
            }
            Value::List(list) => list.items().iter().any(|item| operator::equal(item, value)),
            Value::Map(map) => match map.get(value) {
                Some(value) => operator::truth(&value),
                None => false,
            },
            Value::Range(range) => {
                let (low, high) = (range.from.min(range.to), range.from.max(range.to));
                match (range.letters, value) {
                    (true, Value::Text(text)) => {
                        let mut chars = text.chars();
                        let letter = chars.next().map(|c| i64::from(u32::from(c)));
                        chars.next().is_none() && letter.is_some_and(|letter| (low..=high).contains(&letter))
                    }
                    (false, value) => match operator::to_long(value) {
                        Ok(number) => {
                            let end = range.open && number == range.to;
                            matches!(value, Value::Int(_) | Value::Long(_)) && (low..=high).contains(&number) && !end
                        }
                        Err(_) => false,
                    },
                    _ => false,
                }
            }
            case => self.equal(case, value)?,
        })
    }
}

/// `from..to`: numbers, or letters.
fn range(from: &Value, to: &Value, open: bool) -> Outcome {
    if let (Value::Text(from), Value::Text(to)) = (from, to) {
        let letter = |text: &str| {
            let mut chars = text.chars();
            chars.next().filter(|_| chars.next().is_none()).map(|c| i64::from(u32::from(c)))
        };
        return match (letter(from), letter(to)) {
            (Some(from), Some(to)) => Ok(Value::Range(Range { from, to, open, letters: true })),
            _ => Err(throw("IllegalArgumentException", "a range of strings goes from a letter to a letter")),
        };
    }
    let (from, to) = (operator::to_long(from)?, operator::to_long(to)?);
    Ok(Value::Range(Range { from, to, open, letters: false }))
}
