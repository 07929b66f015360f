//! Small edits of a JSON object that do nothing where a value is there already or where a member has the wrong type.

use serde_json::{Map, Value, json};

use crate::quantity;

/// A JSON object.
pub type Object = Map<String, Value>;

/// Whether there is no such member, or it is `null`.
pub fn absent(object: &Object, key: &str) -> bool {
    object.get(key).is_none_or(Value::is_null)
}

/// A member as text; "" if it is none.
pub fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

/// Whether a member is absent, an empty list or an empty object.
pub fn empty(object: &Object, key: &str) -> bool {
    match object.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}

/// Sets a member that is absent.
pub fn set(object: &mut Object, key: &str, value: impl Into<Value>) {
    if absent(object, key) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets a text that is absent or empty.
pub fn set_text(object: &mut Object, key: &str, value: &str) {
    if absent(object, key) || object.get(key).and_then(Value::as_str) == Some("") {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets a number that is absent or 0.
pub fn set_number(object: &mut Object, key: &str, value: i64) {
    if absent(object, key) || object.get(key).and_then(Value::as_i64) == Some(0) {
        object.insert(key.to_owned(), value.into());
    }
}

/// A member that is an object; made if absent.
pub fn made<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    set(object, key, json!({}));
    member(object, key)
}

/// A member that is an object.
pub fn member<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    object.get_mut(key).and_then(Value::as_object_mut)
}

/// A member of a member of ... that is an object.
pub fn down<'a>(object: &'a mut Object, keys: &[&str]) -> Option<&'a mut Object> {
    keys.iter().try_fold(object, |object, key| member(object, key))
}

/// The items of a list that are objects.
pub fn items<'a>(object: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> {
    object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Puts the quantities of a resource list into canonical form, rounded up to thousandths.
pub fn resource_list(object: &mut Object, key: &str) {
    for value in member(object, key).into_iter().flat_map(|list| list.values_mut()) {
        if let Some(shown) = quantity::canonical(value, true) {
            *value = shown.into();
        }
    }
}

/// Puts one quantity into canonical form.
pub fn amount(object: &mut Object, key: &str) {
    if let Some(value) = object.get_mut(key)
        && let Some(shown) = quantity::canonical(value, false)
    {
        *value = shown.into();
    }
}

/// `limits` and `requests` of a member.
pub fn resources(object: &mut Object, key: &str) {
    if let Some(resources) = member(object, key) {
        resource_list(resources, "limits");
        resource_list(resources, "requests");
    }
}
