//! What containers are asked to be, field by field as the API has it, and what is known of them.
//!
//! Clients written in Go say `null` where they mean nothing: [`lenient`] takes that out, so that absent and null are one.

pub mod config;
pub mod host;
pub mod record;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// Levels of objects and lists in a document that anything here needs.
const DEPTH: usize = 32;

/// Reads a document in which null means absent.
pub fn lenient<T: DeserializeOwned>(mut value: Value) -> Result<T> {
    strip(&mut value, DEPTH)?;
    serde_json::from_value(value).map_err(|error| Error::invalid(format!("invalid JSON: {error}")))
}

fn strip(value: &mut Value, depth: usize) -> Result<()> {
    if depth == 0 {
        return Err(Error::invalid("invalid JSON: nested too deeply"));
    }
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().try_for_each(|value| strip(value, depth - 1))
        }
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().try_for_each(|item| strip(item, depth - 1))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
