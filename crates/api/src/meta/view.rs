//! A place in an object that may or may not be there, to read from without ever failing.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// A value, or nothing. `null` counts as nothing, as it does for upstream's decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View<'a>(Option<&'a Value>);

/// The items of a list, as views.
pub type Items<'a> = std::iter::Map<std::slice::Iter<'a, Value>, fn(&'a Value) -> View<'a>>;

impl<'a> View<'a> {
    /// Looks at a value.
    pub fn new(value: &'a Value) -> View<'a> {
        View(Some(value).filter(|value| !value.is_null()))
    }

    /// Looks at nothing.
    pub fn nothing() -> View<'a> {
        View(None)
    }

    /// The value itself; `null` where there is nothing.
    pub fn value(self) -> &'a Value {
        self.0.unwrap_or(&NULL)
    }

    /// Whether there is something.
    pub fn exists(self) -> bool {
        self.0.is_some()
    }

    /// A member; nothing if this is no object or has none of that name.
    pub fn at(self, key: &str) -> View<'a> {
        View(self.0.and_then(|value| value.get(key)).filter(|value| !value.is_null()))
    }

    /// Whether there is a member that is not `null`.
    pub fn has(self, key: &str) -> bool {
        self.at(key).exists()
    }

    /// This as text, or `None`.
    pub fn as_str(self) -> Option<&'a str> {
        self.0.and_then(Value::as_str)
    }

    /// This as text, or "".
    pub fn string(self) -> &'a str {
        self.as_str().unwrap_or("")
    }

    /// A member as text, or "".
    pub fn text(self, key: &str) -> &'a str {
        self.at(key).string()
    }

    /// This as a whole number, or `None`.
    pub fn as_int(self) -> Option<i64> {
        self.0.and_then(Value::as_i64)
    }

    /// A member as a whole number, or `None`.
    pub fn int(self, key: &str) -> Option<i64> {
        self.at(key).as_int()
    }

    /// A member as a truth value, or `None`.
    pub fn bool(self, key: &str) -> Option<bool> {
        self.at(key).0.and_then(Value::as_bool)
    }

    /// Whether a member is `true`.
    pub fn is(self, key: &str) -> bool {
        self.bool(key) == Some(true)
    }

    /// A member as a list, or an empty one.
    pub fn slice(self, key: &str) -> &'a [Value] {
        self.at(key).items_slice()
    }

    /// This as a list, or an empty one.
    pub fn items_slice(self) -> &'a [Value] {
        self.0.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The items of a member that is a list.
    pub fn list(self, key: &str) -> Items<'a> {
        self.slice(key).iter().map(View::new as fn(&'a Value) -> View<'a>)
    }

    /// This as an object.
    pub fn as_map(self) -> Option<&'a Map<String, Value>> {
        self.0.and_then(Value::as_object)
    }

    /// A member as an object.
    pub fn map(self, key: &str) -> Option<&'a Map<String, Value>> {
        self.at(key).as_map()
    }

    /// The entries of a member that is an object, in key order as upstream sorts them.
    pub fn entries(self, key: &str) -> impl Iterator<Item = (&'a str, View<'a>)> {
        let mut entries: Vec<_> = self.map(key).into_iter().flatten().collect();
        entries.sort_by_key(|(key, _)| key.as_str());
        entries.into_iter().map(|(key, value)| (key.as_str(), View::new(value)))
    }

    /// Whether this is absent, or an empty text, list or object, `false` or 0: upstream's zero value.
    pub fn is_zero(self) -> bool {
        match self.0 {
            None | Some(Value::Null) => true,
            Some(Value::Bool(value)) => !value,
            Some(Value::Number(number)) => number.as_f64() == Some(0.0),
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
        }
    }
}

/// Whether two values mean the same to upstream (`equality.Semantic.DeepEqual` of the decoded forms): absent, `null`, empty
/// lists, empty maps and zero values inside objects are alike.
impl View<'_> {
    /// Whether both sides are the same once absent members, `null`s and empty lists, objects and zero values are taken as equal.
    pub fn same(self, other: View<'_>) -> bool {
        match (self.value(), other.value()) {
            (Value::Object(left), Value::Object(right)) => {
                left.iter().all(|(key, value)| View::new(value).same(other.at(key)))
                    && right.iter().all(|(key, value)| left.contains_key(key) || View::new(value).is_deep_zero())
            }
            (Value::Array(left), Value::Array(right)) => {
                left.len() == right.len()
                    && left.iter().zip(right).all(|(left, right)| View::new(left).same(View::new(right)))
            }
            (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
            (left, right) => left == right || (self.is_deep_zero() && other.is_deep_zero()),
        }
    }

    fn is_deep_zero(self) -> bool {
        match self.0 {
            Some(Value::Object(map)) => map.is_empty(),
            _ => self.is_zero(),
        }
    }
}
