//! Strategic merge patch: a merge patch that knows from the schema which lists are merged, and by which key.
//!
//! Directives within a patch:
//!
//! | directive | meaning |
//! |---|---|
//! | `$patch: replace` | this map (or the list whose item it is) replaces the old one |
//! | `$patch: delete` | the map becomes empty; the list item of this merge key goes |
//! | `$retainKeys: [...]` | other keys of the map go |
//! | `$setElementOrder/FIELD: [...]` | order of the merged list |
//! | `$deleteFromPrimitiveList/FIELD: [...]` | these scalars go from the list |

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{Kind, Shape, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";

type Outcome<T> = Result<T, PatchError>;
type Object = Map<String, Value>;

/// Applies a strategic merge patch to an object of this type.
pub fn strategic(root: Type, object: &mut Value, patch: &Value) -> Outcome<()> {
    let Value::Object(patch) = patch else { return Err(bad("invalid JSON document")) };
    let Value::Object(original) = std::mem::take(object) else { return Err(bad("invalid JSON document")) };
    *object = Value::Object(merge_map(original, patch.clone(), Schema::Struct(root))?);
    Ok(())
}

fn bad(text: &str) -> PatchError {
    PatchError::BadRequest(text.to_owned())
}

fn internal(text: String) -> PatchError {
    PatchError::Internal(text)
}

const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_ORDER: &str = "invalid patch format of setElementOrder list";
const BAD_PRIMITIVE_LIST: &str = "invalid patch format of primitive list";

/// What the schema says of a place.
#[derive(Clone, Copy)]
enum Schema {
    Struct(Type),
    Other(Shape),
}

/// What the schema says of a field.
struct Meta {
    /// Of the field, or of its items for a list.
    schema: Schema,
    merge: bool,
    replace: bool,
    merge_key: &'static str,
}

impl Schema {
    fn of(shape: Shape) -> Schema {
        match (shape.kind(), shape.reference()) {
            (Kind::Ref, Some(of)) => Schema::Struct(of),
            _ => Schema::Other(shape),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Schema::Struct(of) => of.short_name(),
            Schema::Other(shape) => shape.go_name().rsplit('.').next().unwrap_or_default(),
        }
    }

    fn field(self, key: &str, list: bool) -> Outcome<Meta> {
        let Schema::Struct(of) = self else {
            let Schema::Other(shape) = self else { unreachable!("the other variant") };
            return Err(internal(match shape.kind() {
                Kind::Map => "merging an object in json but data type is not struct, instead is: map".to_owned(),
                Kind::List => "merging an object in json but data type is not struct, instead is: slice".to_owned(),
                _ => format!("unable to find api field in struct {} for the json field \"{key}\"", self.name()),
            }));
        };
        let unknown =
            || internal(format!("unable to find api field in struct {} for the json field \"{key}\"", of.short_name()));
        let field = of.field(key).ok_or_else(unknown)?;
        let shape = match field.shape().elem() {
            Some(elem) if list && field.shape().kind() == Kind::List => elem,
            _ => field.shape(),
        };
        let strategy = field.patch_strategy();
        let schema = Schema::of(shape);
        Ok(Meta { schema, merge: strategy.merge, replace: strategy.replace, merge_key: field.merge_key() })
    }
}

fn merge_map(mut original: Object, mut patch: Object, schema: Schema) -> Outcome<Object> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => {
                let shown = go(&directive);
                patch.insert(DIRECTIVE.to_owned(), directive);
                Err(internal(format!("unknown patch type: {shown} in map: {}", go(&Value::Object(patch)))))
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, change) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_FROM_LIST) {
            Some(rest) => (rest.strip_prefix('/').ok_or_else(|| bad(BAD_PRIMITIVE_LIST))?.to_owned(), true),
            None => (key, false),
        };
        if change.is_null() {
            original.remove(&key);
            continue;
        }
        match (original.remove(&key), change) {
            (Some(Value::Object(old)), Value::Object(change)) => {
                let meta = schema.field(&key, false)?;
                let merged = if meta.replace { change } else { merge_map(old, change, meta.schema)? };
                original.insert(key, Value::Object(merged));
            }
            (Some(Value::Array(old)), Value::Array(change)) => {
                let meta = schema.field(&key, true)?;
                let merged = merge_lists(old, change, &meta, deletes)?;
                original.insert(key, Value::Array(merged));
            }
            (old, change) if deletes => {
                let _ = change;
                if let Some(old) = old {
                    original.insert(key, old);
                }
            }
            (old, mut change) => {
                let same_scalar =
                    old.is_some_and(|old| std::mem::discriminant(&old) == std::mem::discriminant(&change));
                if !same_scalar {
                    discard_nulls(&mut change);
                }
                if without_directives(&mut change) {
                    original.insert(key, change);
                }
            }
        }
    }
    Ok(original)
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Outcome<()> {
    let Some(kept) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(kept) = kept else { return Err(bad(BAD_RETAIN_KEYS)) };
    let is_kept = |key: &str| kept.iter().any(|k| k == key);
    for (key, value) in patch.iter() {
        let directive = key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ELEMENT_ORDER);
        if !value.is_null() && !directive && !is_kept(key) {
            return Err(bad(BAD_RETAIN_KEYS));
        }
    }
    original.retain(|key, _| is_kept(key));
    Ok(())
}

/// Merges the lists that the patch orders, and takes them out of the patch.
fn merge_ordered_lists(original: &mut Object, patch: &mut Object, schema: Schema) -> Outcome<()> {
    let ordered: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
    for directive in ordered {
        let Some(order) = patch.remove(&directive) else { continue };
        let order = list(order)?;
        let key = directive
            .strip_prefix(SET_ELEMENT_ORDER)
            .and_then(|r| r.strip_prefix('/'))
            .ok_or_else(|| bad(BAD_ORDER))?;
        let old = original.get(key).cloned().map(list).transpose()?;
        let change = patch.get(key).cloned().map(list).transpose()?;
        let meta = schema.field(key, true)?;
        check_order(change.as_deref().unwrap_or_default(), &order, meta.merge_key)?;
        let merged = match (&old, &change) {
            (None, None) => continue,
            (Some(old), None) => old.clone(),
            (None, Some(change)) => {
                let mut change = Value::Array(change.clone());
                without_directives(&mut change);
                list(change)?
            }
            (Some(old), Some(change)) => merge_lists(old.clone(), change.clone(), &meta, false)?,
        };
        let (in_order, others) = partition(merged, &order, meta.merge_key)?;
        let old = old.unwrap_or_default();
        same_kind(&[&old, change.as_deref().unwrap_or_default()])?;
        original.insert(key.to_owned(), Value::Array(ordered_list(in_order, others, &order, &old, meta.merge_key)?));
        patch.remove(key);
    }
    Ok(())
}

fn list(value: Value) -> Outcome<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(internal(format!("expected a []interface {{}}, but received a {}", go_type(&other)))),
    }
}

/// The relative order of the patch's items must be that of the order list, and it must have all of them.
fn check_order(change: &[Value], order: &[Value], merge_key: &str) -> Outcome<()> {
    if change.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut kept = Vec::new();
    for item in change {
        if !merge_key.is_empty() && !item.is_object() {
            return Err(internal(format!("expected a map[string]interface {{}}, but received a {}", go_type(item))));
        }
        if item.get(DIRECTIVE).is_none() {
            kept.push(item);
        }
    }
    let mut at = 0;
    for ordered in order {
        let Some(item) = kept.get(at) else { break };
        if key_of(item, merge_key)? == key_of(ordered, merge_key)? {
            at += 1;
        }
    }
    if at < kept.len() {
        let [change, order] = [change, order].map(|l| go(&Value::Array(l.to_vec())));
        let text = format!("The order in patch list:\n{change}\n doesn't match {SET_ELEMENT_ORDER} list:\n{order}\n");
        return Err(internal(text));
    }
    Ok(())
}

/// What tells an item apart: its merge key's value, or itself where there is no merge key.
fn key_of<'v>(item: &'v Value, merge_key: &str) -> Outcome<&'v Value> {
    if merge_key.is_empty() {
        return Ok(item);
    }
    item.get(merge_key).ok_or_else(|| no_merge_key(item, merge_key))
}

fn no_merge_key(item: &Value, merge_key: &str) -> PatchError {
    internal(format!("map: {} does not contain declared merge key: {merge_key}", go(item)))
}

fn merge_lists(old: Vec<Value>, change: Vec<Value>, meta: &Meta, deletes: bool) -> Outcome<Vec<Value>> {
    if !meta.merge && !deletes {
        return Ok(change);
    }
    if old.is_empty() && change.is_empty() {
        return Ok(old);
    }
    let key = meta.merge_key;
    let (merged, old, change) = if same_kind(&[&old, &change])? {
        if key.is_empty() {
            return Err(internal(format!("cannot merge lists without merge key for {}", meta.schema.name())));
        }
        let (old, change) = apply_item_directives(old, change, key)?;
        (merge_items(old.clone(), &change, meta)?, old, change)
    } else if deletes {
        let gone: HashSet<_> = change.iter().map(|v| identity(v, "")).collect();
        return Ok(old.into_iter().filter(|v| !gone.contains(&identity(v, ""))).collect());
    } else {
        let mut seen = HashSet::new();
        let all = old.iter().chain(&change).filter(|item| seen.insert(identity(item, ""))).cloned();
        (all.collect(), old, change)
    };
    let (in_patch, others) = partition(merged, &change, key)?;
    ordered_list(in_patch, others, &change, &old, key)
}

/// Items of one kind throughout, not lists; true for maps.
fn same_kind(lists: &[&[Value]]) -> Outcome<bool> {
    let mut items = lists.iter().flat_map(|l| l.iter());
    let Some(first) = items.next() else {
        return Err(internal("no elements in any of the given slices".to_owned()));
    };
    if first.is_array() {
        return Err(PatchError::Unprocessable("lists of lists are not supported".to_owned()));
    }
    if first.is_null() || items.any(|v| std::mem::discriminant(v) != std::mem::discriminant(first)) {
        let shown = lists.iter().map(|l| go(&Value::Array(l.to_vec()))).collect::<Vec<_>>().join(" ");
        return Err(internal(format!("list element types are not identical: [{shown}]")));
    }
    Ok(first.is_object())
}

/// Carries out `$patch` of list items; returns the old list and the patch without them.
fn apply_item_directives(mut old: Vec<Value>, change: Vec<Value>, key: &str) -> Outcome<(Vec<Value>, Vec<Value>)> {
    let mut plain = Vec::new();
    let mut gone = HashSet::new();
    let mut replace = false;
    for item in change {
        match item.get(DIRECTIVE) {
            None => plain.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    key_of(&item, key)?;
                    gone.insert(identity(&item, key));
                }
                Some("replace") => replace = true,
                Some("merge") => return Err(internal("merging lists cannot yet be specified in the patch".to_owned())),
                _ => return Err(internal(format!("unknown patch type: {} in map: {}", go(directive), go(&item)))),
            },
        }
    }
    old.retain(|v| v.get(key).is_none() || !gone.contains(&identity(v, key)));
    Ok(if replace { (plain, Vec::new()) } else { (old, plain) })
}

fn merge_items(mut old: Vec<Value>, change: &[Value], meta: &Meta) -> Outcome<Vec<Value>> {
    let mut places = places(&old, meta.merge_key);
    for item in change {
        key_of(item, meta.merge_key)?;
        let identity = identity(item, meta.merge_key);
        let found = places.get(&identity).and_then(|at| old.get_mut(*at));
        match (found, item) {
            (Some(found), Value::Object(item)) => {
                let Value::Object(original) = found.take() else { continue };
                *found = Value::Object(merge_map(original, item.clone(), meta.schema)?);
            }
            _ => {
                places.insert(identity, old.len());
                old.push(item.clone());
            }
        }
    }
    Ok(old)
}

/// What tells an item apart, as bytes that can be looked up; items without the merge key have the identity of null.
fn identity(item: &Value, merge_key: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let own = if merge_key.is_empty() { Some(item) } else { item.get(merge_key) };
    crate::json::write(&mut bytes, own.unwrap_or(&Value::Null));
    bytes
}

/// The first place of each item.
fn places(items: &[Value], merge_key: &str) -> HashMap<Vec<u8>, usize> {
    let of_item = |(at, item)| (identity(item, merge_key), at);
    items
        .iter()
        .enumerate()
        .filter(|(_, v)| merge_key.is_empty() || v.get(merge_key).is_some())
        .map(of_item)
        .rev()
        .collect()
}

/// Items whose key is in `by`, and the others.
fn partition(items: Vec<Value>, by: &[Value], key: &str) -> Outcome<(Vec<Value>, Vec<Value>)> {
    let places = places(by, key);
    let (mut within, mut others) = (Vec::new(), Vec::new());
    for item in items {
        key_of(&item, key)?;
        if places.contains_key(&identity(&item, key)) { within.push(item) } else { others.push(item) }
    }
    Ok((within, others))
}

/// The patch's items in the patch's order among the server's own in theirs; where both orders speak, the server's wins.
fn ordered_list(
    mut patch: Vec<Value>,
    mut server: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: &str,
) -> Outcome<Vec<Value>> {
    for item in patch.iter().chain(&server).chain(patch_order).chain(server_order) {
        key_of(item, key)?;
    }
    let (in_patch, in_server) = (places(patch_order, key), places(server_order, key));
    let place = |places: &HashMap<Vec<u8>, usize>, item: &Value| places.get(&identity(item, key)).copied();
    patch.sort_by_cached_key(|v| place(&in_patch, v).unwrap_or(usize::MAX));
    server.sort_by_cached_key(|v| place(&in_server, v).unwrap_or(usize::MAX));
    let (mut patch, mut server) = (patch.into_iter().peekable(), server.into_iter().peekable());
    let mut all = Vec::new();
    loop {
        let take_server = match (server.peek(), patch.peek()) {
            (None, None) => return Ok(all),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(left), Some(right)) => match (place(&in_server, left), place(&in_server, right)) {
                (Some(left), Some(right)) => left < right,
                _ => false,
            },
        };
        all.extend(if take_server { server.next() } else { patch.next() });
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// Drops what carries a `$patch` directive; false when the value itself does.
fn without_directives(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            if map.contains_key(DIRECTIVE) {
                return false;
            }
            map.retain(|_, v| without_directives(v));
        }
        Value::Array(items) => items.retain_mut(without_directives),
        _ => {}
    }
    true
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` prints it.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            format!("map[{}]", map.iter().map(|(k, v)| format!("{k}:{}", go(v))).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}
