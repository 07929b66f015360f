//! Values of scripts as JSON, and back.

use groovy::{
    fault::is_kind,
    value::{Value, decimal::Decimal, map::Map, show},
};
use serde_json::{Number, Value as Json};

use crate::result::Result;

/// Levels.
const DEPTH: usize = 50;

/// JSON as a value.
pub(super) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::whole(whole),
            None => match Decimal::parse(&number.to_string()) {
                Some(decimal) => Value::Decimal(decimal),
                None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        Json::Object(entries) => {
            Value::Map(entries.iter().map(|(name, json)| (name.as_str().into(), value(json))).collect::<Map>())
        }
    }
}

/// A value as JSON; what has no form in it is text.
pub(super) fn json(value: &Value) -> Json {
    json_within(value, 0)
}

fn json_within(value: &Value, depth: usize) -> Json {
    if depth > DEPTH {
        return Json::String(show::text(value));
    }
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Long(value) => Json::from(*value),
        Value::Decimal(value) => Number::from_f64(value.to_f64()).map_or(Json::Null, Json::Number),
        Value::Double(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::List(list) => Json::Array(list.items().iter().map(|item| json_within(item, depth + 1)).collect()),
        Value::Range(range) => Json::Array((0..range.len().min(100_000)).map(|index| json(&range.at(index))).collect()),
        Value::Map(map) => Json::Object(
            map.entries().iter().map(|(name, value)| (show::text(name), json_within(value, depth + 1))).collect(),
        ),
        other => Json::String(show::text(other)),
    }
}

/// What an exception makes of a run.
pub(super) fn result_of(exception: &Value) -> Result {
    match exception {
        Value::Exception(exception) if is_kind(&exception.class, "InterruptedException") => match &exception.detail {
            Value::Map(detail) => {
                detail.named("result").and_then(|name| Result::named(&show::text(&name))).unwrap_or(Result::Aborted)
            }
            _ => Result::Aborted,
        },
        _ => Result::Failure,
    }
}
