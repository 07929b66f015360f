//! What is around a script: steps that it may take, variables that it finds, objects that are not its own.

use std::{any::Any, fmt};

use crate::{
    fault::Outcome,
    interpret::Strand,
    source::Span,
    value::{Value, map::Map},
};

/// The surroundings of a script.
///
/// A step that waits does so in [`Strand::outside`], so that other branches go on meanwhile.
pub trait Host: Send + Sync {
    /// Whether there is a step of this name.
    fn has_step(&self, name: &str) -> bool;

    /// Takes a step.
    fn step(&self, strand: &mut Strand, step: Step) -> Outcome;

    /// A variable that the script does not define; `None` where there is none.
    fn variable(&self, strand: &mut Strand, name: &str) -> Outcome<Option<Value>>;

    /// A value that belongs to a class, such as `System.getenv`; `None` where the host knows none.
    fn class_call(
        &self,
        _strand: &mut Strand,
        _class: &str,
        _name: &str,
        _arguments: &[Value],
    ) -> Outcome<Option<Value>> {
        Ok(None)
    }

    /// Prints: `println` and `print`, the latter without a line end.
    fn print(&self, strand: &mut Strand, text: &str) -> Outcome<()>;
}

/// A step that is to be taken.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its arguments; named ones are a map, the first.
    pub arguments: Vec<Value>,
    /// Whether the first argument is made of named ones.
    pub named: bool,
    /// Where it is called.
    pub span: Span,
}

impl Step {
    /// The named arguments.
    pub fn names(&self) -> Option<&Map> {
        match self.arguments.first() {
            Some(Value::Map(map)) if self.named => Some(map),
            _ => None,
        }
    }

    /// The arguments without names, a closure at the end apart.
    pub fn bare(&self) -> &[Value] {
        let from = usize::from(self.named);
        let end = self.arguments.len() - usize::from(self.body().is_some());
        self.arguments.get(from..end).unwrap_or_default()
    }

    /// The closure that comes last.
    pub fn body(&self) -> Option<&Value> {
        self.arguments.last().filter(|last| matches!(last, Value::Closure(_)))
    }
}

/// Something of the host in a script's hands.
pub trait Foreign: Send + Sync + fmt::Debug {
    /// Its class' name.
    fn class_name(&self) -> String;

    /// As text.
    fn show(&self) -> String;

    /// A property; `None` where there is none.
    fn get(&self, strand: &mut Strand, name: &str) -> Outcome<Option<Value>>;

    /// Sets a property; whether there is such.
    fn set(&self, strand: &mut Strand, name: &str, value: Value) -> Outcome<bool>;

    /// Calls a method; `None` where there is none.
    fn call(&self, strand: &mut Strand, name: &str, arguments: &[Value]) -> Outcome<Option<Value>>;

    /// Itself, so that the host knows its own again.
    fn any(&self) -> &dyn Any;
}
