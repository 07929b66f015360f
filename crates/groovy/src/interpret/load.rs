//! A script within a script: read, run, and kept for its functions.
//!
//! What another script sets without declaring is seen by both. `this` in it, which is what it returns so that its functions can be called, is
//! an object that has those.

use std::{any::Any, sync::Arc};

use super::{Program, Strand};
use crate::{
    fault::{Outcome, Stop},
    host::Foreign,
    value::{Value, closure::Scope, object::fitting},
};

/// A script as an object.
#[derive(Debug)]
pub(super) struct Loaded(pub Arc<Program>);

impl Foreign for Loaded {
    fn class_name(&self) -> String {
        "Script".into()
    }

    fn show(&self) -> String {
        self.0.source.name.clone()
    }

    fn get(&self, _strand: &mut Strand, _name: &str) -> Outcome<Option<Value>> {
        Ok(None)
    }

    fn set(&self, _strand: &mut Strand, _name: &str, _value: Value) -> Outcome<bool> {
        Ok(false)
    }

    fn call(&self, strand: &mut Strand, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
        let functions = self.0.script.functions.iter().filter(|function| function.name.as_deref() == Some(name));
        let Some(function) = fitting(functions, arguments.len()) else { return Ok(None) };
        strand.invoke(&function, self.0.clone(), None, arguments.to_vec()).map(Some)
    }

    fn any(&self) -> &dyn Any {
        self
    }
}

impl Strand {
    /// Runs another script where this one is; its last value.
    ///
    /// # Errors
    /// What it throws.
    pub fn load(&mut self, program: Arc<Program>) -> Outcome {
        let scope = Scope::within(&self.shared.binding);
        let own = program.clone();
        match self.inside(program, None, |strand| strand.block(&own.script.body, &scope)) {
            Err(Stop::Return(value)) => Ok(value),
            result => result,
        }
    }
}
