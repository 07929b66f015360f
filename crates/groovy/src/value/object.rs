//! Classes that a script defines, and their objects.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Value, map::Map};
use crate::{interpret::Program, tree};

/// A class.
#[derive(Debug)]
pub struct Class {
    /// As written.
    pub tree: Arc<tree::Class>,
    /// Where it is written.
    pub program: Arc<Program>,
    /// What it extends, where that is a class of a script.
    pub parent: Option<Arc<Class>>,
    /// What it extends, where that is another class.
    pub base: Option<String>,
    /// Values that belong to it; set when it is first used.
    pub fixed: Mutex<Option<Map>>,
}

impl Class {
    /// A method, its own or inherited.
    pub(crate) fn method(&self, name: &str, arguments: usize) -> Option<(Arc<tree::Function>, Arc<Program>)> {
        let all = self.tree.methods.iter().filter(|method| method.name.as_deref() == Some(name));
        let best = fitting(all, arguments);
        match (best, &self.parent) {
            (Some(method), _) => Some((method, self.program.clone())),
            (None, Some(parent)) => parent.method(name, arguments),
            (None, None) => None,
        }
    }

    /// Whether it is this class, or extends or implements it.
    pub(crate) fn is(&self, name: &str) -> bool {
        let name = name.rsplit('.').next().unwrap_or(name);
        self.tree.name == name
            || self.tree.interfaces.iter().any(|interface| interface.name.rsplit('.').next() == Some(name))
            || self.base.as_deref().is_some_and(|base| crate::fault::is_kind(base, name))
            || self.parent.as_ref().is_some_and(|parent| parent.is(name))
            || name == "Object"
    }

    /// The class outside of the script that it extends in the end.
    pub(crate) fn root(&self) -> Option<&str> {
        self.base.as_deref().or_else(|| self.parent.as_ref().and_then(|parent| parent.root()))
    }
}

/// The function that takes so many arguments, or else the first.
pub(crate) fn fitting<'a>(
    functions: impl Iterator<Item = &'a Arc<tree::Function>>,
    arguments: usize,
) -> Option<Arc<tree::Function>> {
    let mut first = None;
    for function in functions {
        let parameters = function.parameters.as_deref().unwrap_or_default();
        let least = parameters.iter().filter(|parameter| parameter.default.is_none() && !parameter.rest).count();
        let most = if parameters.iter().any(|parameter| parameter.rest) { usize::MAX } else { parameters.len() };
        if (least..=most).contains(&arguments) {
            return Some(function.clone());
        }
        first.get_or_insert(function);
    }
    first.cloned()
}

/// An object.
#[derive(Debug)]
pub struct Object {
    /// Of which class.
    pub class: Arc<Class>,
    /// Its fields.
    pub fields: Map,
}

impl Class {
    /// Its values, if they have been set.
    pub(crate) fn values(&self) -> Option<Map> {
        self.fixed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}", Value::Map(self.clone()))
    }
}
