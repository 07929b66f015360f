//! Exceptions.

use crate::{
    fault::full_name,
    value::{Value, show},
};

pub(crate) fn call(object: &Value, name: &str) -> Option<Value> {
    let (message, cause, text, detail) = match object {
        Value::Exception(exception) => (
            exception.message.clone().map_or(Value::Null, Value::Text),
            exception.cause.clone(),
            exception.to_string(),
            exception.detail.clone(),
        ),
        Value::Object(object) => {
            let message = object.fields.named("message").unwrap_or_default();
            let class = full_name(&object.class.tree.name);
            let text = if message.is_null() { class } else { format!("{class}: {}", show::text(&message)) };
            (message, object.fields.named("cause").unwrap_or_default(), text, Value::Null)
        }
        _ => return None,
    };
    Some(match name {
        "getMessage" | "getLocalizedMessage" => message,
        "getCause" => cause,
        "toString" => Value::from(text),
        "printStackTrace" => Value::Null,
        "getStackTrace" | "getSuppressed" => Value::from(Vec::new()),
        "getCauses" | "getResult" => match &detail {
            Value::Map(map) => map.named(if name == "getCauses" { "causes" } else { "result" })?,
            _ => return None,
        },
        _ => return None,
    })
}
