//! What scripts compute with.
//!
//! Lists, maps and objects are shared: copying a [`Value`] copies a reference. A value is dropped without recursion, so that a
//! list nested a million times does not end the stack.

use std::{cell::RefCell, fmt, sync::Arc};

use crate::{
    fault::Exception,
    host::Foreign,
    pattern::{Matcher, Pattern},
};

pub mod closure;
pub mod decimal;
pub mod list;
pub mod map;
pub mod object;
pub mod show;
pub mod text;

use closure::Closure;
use decimal::Decimal;
use list::List;
use map::Map;
use object::Object;
use text::Text;

/// A value.
#[derive(Clone, Default)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// An Integer.
    Int(i32),
    /// A Long.
    Long(i64),
    /// A BigDecimal, or a BigInteger where it has no decimals.
    Decimal(Decimal),
    /// A Double.
    Double(f64),
    /// A String; strings with code in them are this once they are evaluated.
    Text(Text),
    /// A List, or a Set.
    List(List),
    /// A Map.
    Map(Map),
    /// An entry of a map.
    Entry(Arc<Entry>),
    /// `a..b`
    Range(Range),
    /// A closure, or a method as one.
    Closure(Arc<Closure>),
    /// A type, by name.
    Class(Text),
    /// An object of a class that the script defines.
    Object(Arc<Object>),
    /// An exception.
    Exception(Arc<Exception>),
    /// `~/a/`
    Pattern(Arc<Pattern>),
    /// `a =~ /b/`
    Matcher(Arc<Matcher>),
    /// Something of the host.
    Foreign(Arc<dyn Foreign>),
}

/// An entry of a map.
#[derive(Debug)]
pub struct Entry {
    /// Its key.
    pub key: Value,
    /// Its value.
    pub value: Value,
}

impl Drop for Entry {
    fn drop(&mut self) {
        bury([std::mem::take(&mut self.key), std::mem::take(&mut self.value)]);
    }
}

/// Whole numbers from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub from: i64,
    /// The last, as written.
    pub to: i64,
    /// The last is left out.
    pub open: bool,
    /// They are letters.
    pub letters: bool,
}

impl Range {
    /// How many.
    pub fn len(&self) -> usize {
        let distance = self.to.abs_diff(self.from) as usize;
        if self.open { distance } else { distance.saturating_add(1) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them.
    pub fn at(&self, index: usize) -> Value {
        let step = if self.from <= self.to { 1 } else { -1 };
        let value = self.from.saturating_add(step * index as i64);
        if self.letters {
            let letter = u32::try_from(value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            return Value::Text(Text::from(letter.to_string()));
        }
        i32::try_from(value).map_or(Value::Long(value), Value::Int)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&show::inspect(self))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Self::List(List::new(values))
    }
}

impl Value {
    /// A count as a number.
    pub fn count(count: usize) -> Self {
        i32::try_from(count).map_or(Self::Long(count as i64), Self::Int)
    }

    /// A whole number in the smallest type that holds it, `int` or `long`.
    pub fn whole(value: i64) -> Self {
        i32::try_from(value).map_or(Self::Long(value), Self::Int)
    }

    /// The string, where it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Its class' simple name.
    pub fn class_name(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(_) => "Boolean".into(),
            Self::Int(_) => "Integer".into(),
            Self::Long(_) => "Long".into(),
            Self::Decimal(decimal) if decimal.scale() == 0 => "BigInteger".into(),
            Self::Decimal(_) => "BigDecimal".into(),
            Self::Double(_) => "Double".into(),
            Self::Text(_) => "String".into(),
            Self::List(list) if list.is_set() => "LinkedHashSet".into(),
            Self::List(_) => "ArrayList".into(),
            Self::Map(_) => "LinkedHashMap".into(),
            Self::Entry(_) => "Entry".into(),
            Self::Range(range) if range.letters => "ObjectRange".into(),
            Self::Range(_) => "IntRange".into(),
            Self::Closure(_) => "Closure".into(),
            Self::Class(_) => "Class".into(),
            Self::Object(object) => object.class.tree.name.clone(),
            Self::Exception(exception) => exception.class.to_string(),
            Self::Pattern(_) => "Pattern".into(),
            Self::Matcher(_) => "Matcher".into(),
            Self::Foreign(foreign) => foreign.class_name(),
        }
    }
}

thread_local! {
    static BURIED: RefCell<Option<Vec<Value>>> = const { RefCell::new(None) };
}

/// Drops values without recursion: while one is dropped, those in it wait.
pub(crate) fn bury(values: impl IntoIterator<Item = Value>) {
    let mut values = values.into_iter().filter(is_nested).peekable();
    if values.peek().is_none() {
        return;
    }
    // A thread that ends drops its own state first; then there is nothing left to guard.
    let first = BURIED.try_with(|buried| {
        let mut buried = buried.borrow_mut();
        let first = buried.is_none();
        buried.get_or_insert_default().extend(values);
        first
    });
    if !matches!(first, Ok(true)) {
        return;
    }
    loop {
        let next = BURIED.with(|buried| {
            let mut buried = buried.borrow_mut();
            let next = buried.as_mut().and_then(Vec::pop);
            if next.is_none() {
                *buried = None;
            }
            next
        });
        match next {
            Some(value) => drop(value),
            None => return,
        }
    }
}

/// Whether other values may be in it.
fn is_nested(value: &Value) -> bool {
    matches!(
        value,
        Value::List(_)
            | Value::Map(_)
            | Value::Entry(_)
            | Value::Closure(_)
            | Value::Object(_)
            | Value::Exception(_)
            | Value::Foreign(_)
    )
}
