//! Variables: where a name is looked for, and where it is set.

use std::sync::Arc;

use super::Strand;
use crate::{
    fault::{self, Outcome, throw},
    tree::{Access, Expression, ExpressionKind},
    value::{Value, closure::Scope, show},
};

impl Strand {
    /// A variable; an exception where there is none.
    pub(super) fn variable(&mut self, name: &str, scope: &Arc<Scope>) -> Outcome {
        match self.find(name, scope)? {
            Some(value) => Ok(value),
            None => Err(throw(
                "MissingPropertyException",
                format!("No such property: {name} for class: groovy.lang.Binding"),
            )),
        }
    }

    /// A variable, a field, a class: the nearest that has the name.
    pub(super) fn find(&mut self, name: &str, scope: &Arc<Scope>) -> Outcome<Option<Value>> {
        let mut later = Vec::new();
        for scope in scope.chain() {
            if let Some(value) = scope.get(name) {
                return Ok(Some(value));
            }
            if let Some(owner) = &scope.owner {
                match name {
                    "delegate" => return Ok(Some(owner.delegate().value.unwrap_or_default())),
                    "owner" => return Ok(Some(Value::Class("WorkflowScript".into()))),
                    _ => {}
                }
                let delegate = owner.delegate();
                match delegate.value {
                    Some(value) if delegate.first => {
                        if let Some(value) = self.own_property(&value, name)? {
                            return Ok(Some(value));
                        }
                    }
                    Some(value) => later.push(value),
                    None => {}
                }
            }
        }
        if let Some(object) = self.this.clone()
            && let Some(value) = self.object_property(&object, name)?
        {
            return Ok(Some(value));
        }
        let host = self.host();
        if let Some(value) = host.variable(self, name)? {
            return Ok(Some(value));
        }
        for value in later {
            if let Some(value) = self.own_property(&value, name)? {
                return Ok(Some(value));
            }
        }
        if let Some(import) = self.program.script.imports.iter().find(|import| {
            import.alias.as_deref() == Some(name)
                || import.alias.is_none() && import.path.rsplit('.').next() == Some(name)
        }) {
            return Ok(Some(Value::Class(import.path.as_str().into())));
        }
        if self.class(name).is_some() || fault::is_class(name) || is_primitive(name) {
            return Ok(Some(Value::Class(name.into())));
        }
        Ok(None)
    }

    /// Assigns to a variable, a property or an element.
    pub(super) fn assign(&mut self, target: &Expression, value: Value, scope: &Arc<Scope>) -> Outcome<()> {
        match &target.kind {
            ExpressionKind::Name(name) => self.set_variable(name, value, scope),
            ExpressionKind::Property { object, name, access } => {
                let name = self.eval(name, scope)?;
                let name = show::text(&name);
                if matches!(object.kind, ExpressionKind::This) && self.this.is_none() {
                    return self.set_variable(&name, value, scope);
                }
                let object = self.eval(object, scope)?;
                if *access == Access::Safe && object.is_null() {
                    return Ok(());
                }
                self.span = target.span;
                self.set_property(&object, &name, value)
            }
            ExpressionKind::Index { object, keys } => {
                let object = self.eval(object, scope)?;
                let (keys, _) = self.arguments(keys, scope)?;
                self.span = target.span;
                self.set_index(&object, &keys, value)
            }
            _ => Err(throw("IllegalArgumentException", "cannot assign to this")),
        }
    }

    fn set_variable(&mut self, name: &str, mut value: Value, scope: &Arc<Scope>) -> Outcome<()> {
        for scope in scope.chain() {
            value = match scope.set(name, value) {
                Ok(()) => return Ok(()),
                Err(value) => value,
            };
            if let Some(owner) = &scope.owner {
                let delegate = owner.delegate();
                if let Some(target) = delegate.value
                    && delegate.first
                    && self.own_property(&target, name)?.is_some()
                {
                    return self.set_property(&target, name, value);
                }
            }
        }
        if let Some(object) = self.this.clone() {
            if object.fields.named(name).is_some() {
                object.fields.insert(name.into(), value);
                return Ok(());
            }
            if let Some(fixed) = object.class.values()
                && fixed.named(name).is_some()
            {
                fixed.insert(name.into(), value);
                return Ok(());
            }
        }
        self.bind(name, value);
        Ok(())
    }
}

fn is_primitive(name: &str) -> bool {
    matches!(name, "boolean" | "byte" | "char" | "double" | "float" | "int" | "long" | "short")
}
