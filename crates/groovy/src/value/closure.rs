//! Closures, and the names that they see.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Value, bury, object::Object, text::Text};
use crate::{interpret::Program, limit::Charge, tree};

/// A closure.
pub struct Closure {
    /// What it does.
    pub kind: Kind,
    /// Where names are looked for that are not its own.
    pub delegate: Mutex<Delegate>,
}

/// Kinds of closures.
pub enum Kind {
    /// Written in a script.
    Written {
        /// Its code.
        function: Arc<tree::Function>,
        /// Names around it.
        scope: Arc<Scope>,
        /// Where it is written.
        program: Arc<Program>,
        /// The object around it.
        this: Option<Arc<Object>>,
    },
    /// `object.&name`.
    Method(Value, String),
    /// A function of the script: `this.&name`.
    Function(String),
    /// With its first, or last, arguments given.
    Curried {
        /// Of which closure.
        closure: Value,
        /// The arguments.
        arguments: Vec<Value>,
        /// They are the last.
        right: bool,
    },
    /// One after another: `a >> b`.
    Composed(Value, Value),
}

/// Whom a closure asks for names.
#[derive(Clone, Debug, Default)]
pub struct Delegate {
    /// Whom.
    pub value: Option<Value>,
    /// Before what is around the closure.
    pub first: bool,
}

impl Closure {
    /// A closure without a delegate.
    pub fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self { kind, delegate: Mutex::default() })
    }

    /// How many parameters it has; one where none is written.
    pub fn parameters(&self) -> usize {
        match &self.kind {
            Kind::Written { function, .. } => function.parameters.as_ref().map_or(1, Vec::len),
            Kind::Method(..) | Kind::Function(_) => 1,
            Kind::Curried { closure: Value::Closure(closure), arguments, .. } => {
                closure.parameters().saturating_sub(arguments.len())
            }
            Kind::Curried { .. } => 1,
            Kind::Composed(Value::Closure(first), _) => first.parameters(),
            Kind::Composed(..) => 1,
        }
    }

    /// Whom it asks.
    pub fn delegate(&self) -> Delegate {
        self.delegate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A copy that asks another, as [`Closure::delegate`] says.
    pub fn delegating(&self, delegate: Delegate) -> Option<Arc<Self>> {
        let Kind::Written { function, scope, program, this } = &self.kind else { return None };
        let kind = Kind::Written {
            function: function.clone(),
            scope: scope.clone(),
            program: program.clone(),
            this: this.clone(),
        };
        Some(Arc::new(Self { kind, delegate: Mutex::new(delegate) }))
    }
}

impl Drop for Closure {
    fn drop(&mut self) {
        let delegate = self.delegate.get_mut().unwrap_or_else(PoisonError::into_inner).value.take();
        bury(delegate);
        match &mut self.kind {
            Kind::Written { .. } | Kind::Function(_) => {}
            Kind::Method(object, _) => bury([std::mem::take(object)]),
            Kind::Curried { closure, arguments, .. } => {
                bury([std::mem::take(closure)].into_iter().chain(std::mem::take(arguments)));
            }
            Kind::Composed(first, second) => bury([std::mem::take(first), std::mem::take(second)]),
        }
    }
}

/// Names with their values, and those around.
#[derive(Default)]
pub struct Scope {
    names: Mutex<Vec<(Text, Value)>>,
    parent: Option<Arc<Scope>>,
    /// The closure whose names these are.
    pub(crate) owner: Option<Arc<Closure>>,
    _charge: Charge,
}

impl Scope {
    /// Within another.
    pub fn within(parent: &Arc<Scope>) -> Arc<Self> {
        Self::owned(parent, None)
    }

    /// The same, of a closure.
    pub(crate) fn owned(parent: &Arc<Scope>, owner: Option<Arc<Closure>>) -> Arc<Self> {
        let parent = Some(parent.clone());
        Arc::new(Self { names: Mutex::default(), parent, owner, _charge: Charge::new(size_of::<Scope>() + 64) })
    }

    /// Adds a name, or sets it.
    pub fn declare(&self, name: &str, value: Value) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match names.iter_mut().find(|(known, _)| &**known == name) {
            Some((_, known)) => Some(std::mem::replace(known, value)),
            None => {
                names.push((name.into(), value));
                None
            }
        };
        drop(names);
        drop(before);
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<Value> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.clone())
    }

    /// Sets a name that is here; the value is given back where it is not.
    pub fn set(&self, name: &str, value: Value) -> Result<(), Value> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, known)) = names.iter_mut().find(|(known, _)| &**known == name) else { return Err(value) };
        let before = std::mem::replace(known, value);
        drop(names);
        drop(before);
        Ok(())
    }

    /// This scope, and those around it, the nearest first.
    pub(crate) fn chain(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Scope>> {
        std::iter::successors(Some(self), |scope| scope.parent.as_ref())
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let names = std::mem::take(self.names.get_mut().unwrap_or_else(PoisonError::into_inner));
        bury(names.into_iter().map(|(_, value)| value).chain(self.owner.take().map(Value::Closure)));
    }
}
