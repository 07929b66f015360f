//! Objects that are right, changed in one place, and what is said of them then.

use serde_json::{Map, Value};

use super::super::{FieldError, create, update};
use crate::kinds::Kind;

/// One case: where to put what, and the messages expected.
pub type Case<'a> = (&'a str, Value, &'a [&'a str]);

pub fn kind(group: &str, plural: &str) -> &'static Kind {
    crate::kinds::all().iter().find(|kind| kind.group == group && kind.plural == plural).unwrap()
}

pub fn messages(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(FieldError::to_string).collect()
}

/// Puts a value at a JSON pointer, making the objects on the way; `null` removes.
pub fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    let steps: Vec<String> =
        pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    let Some((last, steps)) = steps.split_last() else {
        *place = value;
        return;
    };
    for step in steps {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = match place {
            Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
            Value::Object(map) => map.entry(step.as_str()).or_insert(Value::Null),
            other => panic!("{pointer} leads into {other}"),
        };
    }
    if place.is_null() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
        Value::Object(map) if value.is_null() => drop(map.remove(last)),
        Value::Object(map) => drop(map.insert(last.clone(), value)),
        other => panic!("{pointer} leads into {other}"),
    }
}

/// The object with its defaults.
pub fn defaulted(kind: &Kind, mut object: Value) -> Value {
    crate::defaults::apply(kind, &mut object);
    object
}

/// Checks each case on a copy of `base`, with defaults for what was put there.
pub fn creates(kind: &Kind, base: &Value, cases: &[Case<'_>]) {
    assert_eq!(messages(&create(kind, &defaulted(kind, base.clone()))), Vec::<String>::new(), "{}: base", kind.kind);
    for (pointer, value, expected) in cases {
        let mut object = base.clone();
        put(&mut object, pointer, value.clone());
        let object = defaulted(kind, object);
        assert_eq!(messages(&create(kind, &object)), *expected, "{} {pointer} = {value}", kind.kind);
    }
}

/// Checks each case as an update of `base`.
pub fn updates(kind: &Kind, subresource: &str, base: &Value, cases: &[Case<'_>]) {
    let mut old = defaulted(kind, base.clone());
    put(&mut old, "/metadata/resourceVersion", "1".into());
    for (pointer, value, expected) in cases {
        let mut object = old.clone();
        put(&mut object, pointer, value.clone());
        let object = defaulted(kind, object);
        let found = messages(&update(kind, subresource, &object, &old));
        assert_eq!(found, *expected, "{} {pointer} = {value}", kind.kind);
    }
}
