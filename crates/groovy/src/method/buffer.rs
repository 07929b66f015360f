//! `StringBuilder`.

use std::{
    any::Any,
    sync::{Mutex, PoisonError},
};

use super::{index_of, text_of};
use crate::{
    fault::{Outcome, throw},
    host::Foreign,
    interpret::Strand,
    limit::Charge,
    value::{Value, text::Text},
};

/// Text that grows.
#[derive(Debug)]
pub struct Buffer {
    text: Mutex<String>,
    charge: Charge,
}

impl Buffer {
    /// With text in it.
    pub fn new(text: &str) -> Self {
        Self { text: Mutex::new(text.to_string()), charge: Charge::new(text.len()) }
    }

    fn change<T>(&self, work: impl FnOnce(&mut String) -> T) -> T {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut text);
        self.charge.set(text.capacity());
        result
    }
}

impl Foreign for Buffer {
    fn class_name(&self) -> String {
        "java.lang.StringBuilder".into()
    }

    fn show(&self) -> String {
        self.change(|text| text.clone())
    }

    fn get(&self, _strand: &mut Strand, _name: &str) -> Outcome<Option<Value>> {
        Ok(None)
    }

    fn set(&self, _strand: &mut Strand, _name: &str, _value: Value) -> Outcome<bool> {
        Ok(false)
    }

    fn call(&self, strand: &mut Strand, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
        // What changes it gives itself; the caller holds it as a value, and knows it by what it shows.
        match name {
            "append" | "leftShift" => {
                let more = strand.show(super::one(name, arguments, 0)?)?;
                let length = self.change(|text| {
                    text.push_str(&more);
                    text.len()
                });
                if length > strand.limits().text {
                    strand.text(self.show())?;
                }
            }
            "insert" => {
                let (at, more) = (index_of(name, arguments, 0)?, text_of(name, arguments, 1)?);
                let fits = self.change(|text| {
                    let byte = text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(at);
                    byte.map(|byte| text.insert_str(byte, &more)).is_some()
                });
                if !fits {
                    return Err(throw("StringIndexOutOfBoundsException", format!("String index out of range: {at}")));
                }
            }
            "setLength" => {
                let length = index_of(name, arguments, 0)?;
                self.change(|text| {
                    let byte = text.char_indices().nth(length).map_or(text.len(), |(byte, _)| byte);
                    text.truncate(byte);
                });
                return Ok(Some(Value::Null));
            }
            "toString" => return strand.text(self.show()).map(Some),
            name => {
                let text = Text::from(self.show());
                return super::text::call(strand, &text, name, arguments);
            }
        }
        Ok(Some(Value::from(self.show())))
    }

    fn any(&self) -> &dyn Any {
        self
    }
}
