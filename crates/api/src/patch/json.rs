//! JSON Patch.

use serde_json::{Map, Value};

use super::{PatchError, depth};
use crate::json::MAX_DEPTH;

/// How many operations a patch may have.
const MAX_OPERATIONS: usize = 10_000;
/// How many bytes the `copy` operations of a patch may add.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a JSON Patch.
pub fn json(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let bad = |what: &str, kind: &str| {
        PatchError::BadRequest(format!("json: cannot unmarshal {what} into Go value of type jsonpatch.{kind}"))
    };
    let Value::Array(operations) = patch else { return Err(bad(described(patch), "Patch")) };
    if let Some(wrong) = operations.iter().find(|o| !o.is_object()) {
        return Err(bad(described(wrong), "Operation"));
    }
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        let text = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}");
        return Err(PatchError::TooLarge(text));
    }
    let mut state = State { copied: 0, depth: depth(object) };
    for operation in operations.iter().filter_map(Value::as_object) {
        state.apply(object, operation)?;
    }
    Ok(())
}

fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

struct State {
    copied: usize,
    /// An upper bound of the object's depth: the real one is looked for only when this passes the limit.
    depth: usize,
}

type Outcome<T> = Result<T, String>;

impl State {
    fn apply(&mut self, object: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
        let kind = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
        let value = operation.get("value").filter(|v| !v.is_null());
        let place = |field: &str| match operation.get(field) {
            Some(Value::String(path)) => Ok(path.as_str()),
            _ if kind == "add" || kind == "remove" || (kind == "copy" && field == "path") => {
                Err(format!("{kind} operation failed to decode {field}: missing value"))
            }
            _ => {
                let comma = if field == "from" { "," } else { "" };
                Err(format!(
                    "{kind} operation failed to decode {field}: operation{comma} missing {field} field: missing value"
                ))
            }
        };
        let refuse = PatchError::Unprocessable;
        let outcome = match kind {
            "add" => place("path").and_then(|path| {
                let value = value.cloned().unwrap_or(Value::Null);
                self.grow(0, parts(path), depth(&value));
                add(object, kind, path, path, value)
            }),
            "remove" => place("path").and_then(|path| {
                let missing = format!("remove operation does not apply: doc is missing path: \"{path}\": missing value");
                let (container, key) = find(object, path).ok_or(missing)?;
                remove(container, &key).map(|_| ()).map_err(|e| format!("error in remove for path: '{path}': {e}"))
            }),
            "replace" => place("path").and_then(|path| {
                let value = value.cloned().unwrap_or(Value::Null);
                self.grow(0, parts(path), depth(&value));
                replace(object, path, value)
            }),
            "move" => place("from").and_then(|from| {
                let missing = format!("move operation does not apply: doc is missing from path: {from}: missing value");
                let (container, key) = find(object, from).ok_or(missing)?;
                let moved = get(container, &key)
                    .map(|_| ())
                    .and_then(|()| remove(container, &key))
                    .map_err(|e| format!("error in move for path: '{key}': {e}"))?;
                let path = place("path")?;
                self.grow(parts(from), parts(path), self.depth);
                add(object, kind, path, path, moved)
            }),
            "test" => place("path").and_then(|path| test(object, path, operation.get("value"))),
            "copy" => place("from").and_then(|from| {
                let missing = format!("copy operation does not apply: doc is missing from path: {from}: missing value");
                let (container, key) = find(object, from).ok_or(missing)?;
                let found = get(container, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?;
                let copy = found.cloned().unwrap_or(Value::Null);
                let path = place("path")?;
                let mut bytes = Vec::new();
                crate::json::write(&mut bytes, &copy);
                self.copied += bytes.len();
                if self.copied > MAX_COPIED {
                    return Err(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPIED}",
                        self.copied
                    ));
                }
                self.grow(parts(from), parts(path), self.depth);
                add(object, kind, path, path, copy)
            }),
            other => Err(format!("Unexpected kind: {other}")),
        };
        outcome.map_err(refuse)?;
        if self.depth > MAX_DEPTH {
            self.depth = depth(object);
            if self.depth > MAX_DEPTH {
                return Err(PatchError::TooLarge(format!("exceeded max depth of {MAX_DEPTH}")));
            }
        }
        Ok(())
    }

    /// A value of at most `deep` levels, `from` of them left behind, is put below `to` levels.
    fn grow(&mut self, from: usize, to: usize, deep: usize) {
        self.depth = self.depth.max(deep.saturating_sub(from) + to);
    }
}

fn parts(path: &str) -> usize {
    path.matches('/').count()
}

fn decode(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// The container of what `path` names, and its key there.
fn find<'v>(object: &'v mut Value, path: &str) -> Option<(&'v mut Value, String)> {
    let mut parts = path.split('/');
    parts.next()?;
    let mut parts: Vec<&str> = parts.collect();
    let last = parts.pop()?;
    let mut at = object;
    for part in parts {
        let key = decode(part);
        at = match at {
            Value::Object(map) => map.get_mut(&key)?,
            Value::Array(items) => {
                let i = index(&key, items.len()).ok()?;
                items.get_mut(i)?
            }
            _ => return None,
        };
    }
    matches!(at, Value::Object(_) | Value::Array(_)).then(|| (at, decode(last)))
}

/// An index into an array of this length; negative ones count from the end.
fn index(key: &str, length: usize) -> Outcome<usize> {
    let digits = key.strip_prefix(['-', '+']).unwrap_or(key);
    let syntax = || format!("strconv.Atoi: parsing \"{key}\": invalid syntax");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(syntax());
    }
    let at: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing \"{key}\": value out of range"))?;
    let from_end = if at < 0 { at + length as i64 } else { at };
    let invalid = || format!("Unable to access invalid index: {at}: invalid index referenced");
    usize::try_from(from_end).ok().filter(|i| *i < length).ok_or_else(invalid)
}

/// The value at a key; a missing key of an object is none.
fn get<'v>(container: &'v Value, key: &str) -> Outcome<Option<&'v Value>> {
    match container {
        Value::Array(items) => index(key, items.len()).map(|i| items.get(i)),
        other => Ok(other.get(key)),
    }
}

fn add(object: &mut Value, kind: &str, path: &str, shown: &str, value: Value) -> Outcome<()> {
    let missing = match kind {
        "add" => format!("add operation does not apply: doc is missing path: \"{shown}\": missing value"),
        _ => format!("{kind} operation does not apply: doc is missing destination path: {shown}: missing value"),
    };
    if parts(path) > MAX_DEPTH {
        return Err(missing);
    }
    let context = |e: String| match kind {
        "copy" => format!("error while adding value during copy: {e}"),
        _ => format!("error in {kind} for path: '{shown}': {e}"),
    };
    let (container, key) = find(object, path).ok_or(missing)?;
    match container {
        Value::Object(map) => {
            map.insert(key, value);
        }
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(&key, items.len() + 1).map_err(|e| match e.strip_prefix("strconv") {
                Some(_) => format!("value was not a proper array index: '{key}': {e}"),
                None => e,
            });
            items.insert(at.map_err(context)?, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(container: &mut Value, key: &str) -> Outcome<Value> {
    match container {
        Value::Object(map) => {
            map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))
        }
        Value::Array(items) => index(key, items.len()).map(|i| items.remove(i)),
        _ => Ok(Value::Null),
    }
}

fn replace(object: &mut Value, path: &str, value: Value) -> Outcome<()> {
    if path.is_empty() {
        if !matches!(value, Value::Object(_) | Value::Array(_)) {
            return Err("replace operation value must be object or array: %!w(<nil>)".to_owned());
        }
        *object = value;
        return Ok(());
    }
    let missing = format!("replace operation does not apply: doc is missing path: {path}: missing value");
    let (container, key) = find(object, path).ok_or(missing)?;
    match container {
        Value::Object(map) => {
            map.insert(key, value);
        }
        Value::Array(items) => {
            let at = index(&key, items.len());
            let at =
                at.map_err(|_| format!("replace operation does not apply: doc is missing key: {path}: missing value"))?;
            items[at] = value;
        }
        _ => {}
    }
    Ok(())
}

fn test(object: &mut Value, path: &str, expected: Option<&Value>) -> Outcome<()> {
    let failed = format!("testing value {path} failed: test failed");
    let equal = if path.is_empty() {
        Some(&*object) == expected
    } else {
        let missing = format!("test operation does not apply: is missing path: {path}: missing value");
        let (container, key) = find(object, path).ok_or(missing)?;
        let found = get(container, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?;
        found.unwrap_or(&Value::Null) == expected.unwrap_or(&Value::Null)
    };
    if equal { Ok(()) } else { Err(failed) }
}
