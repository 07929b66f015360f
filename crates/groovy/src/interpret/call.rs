//! Calls: functions, closures, methods, steps.

use std::sync::Arc;

use super::{Program, Strand};
use crate::{
    fault::{Outcome, Stop, throw},
    host::Step,
    method,
    source::Span,
    tree::{Access, Call, Callee, ExpressionKind, Function, Parameter},
    value::{
        Value,
        closure::{Closure, Kind, Scope},
        object::{Object, fitting},
        show,
    },
};

impl Strand {
    pub(super) fn call(&mut self, call: &Call, span: Span, scope: &Arc<Scope>) -> Outcome {
        match &call.callee {
            Callee::Name(name, _) => {
                let (arguments, named) = self.arguments(&call.arguments, scope)?;
                self.span = span;
                self.call_name(name, arguments, named, scope)
            }
            Callee::Method { object, name, access } => {
                let name = self.eval(name, scope)?;
                let name = show::text(&name);
                if matches!(object.kind, ExpressionKind::This) && self.this.is_none() {
                    let (arguments, named) = self.arguments(&call.arguments, scope)?;
                    self.span = span;
                    return self.call_name(&name, arguments, named, scope);
                }
                let object = match self.class_path(object, scope)? {
                    Some(class) => Value::Class(class.as_str().into()),
                    None => self.eval(object, scope)?,
                };
                if *access != Access::Plain && object.is_null() {
                    return Ok(Value::Null);
                }
                let (arguments, _) = self.arguments(&call.arguments, scope)?;
                self.span = span;
                if *access == Access::Each {
                    let mut values = Vec::new();
                    for item in self.items(&object)? {
                        values.push(self.call_method(&item, &name, arguments.clone())?);
                    }
                    return Ok(Value::from(values));
                }
                self.call_method(&object, &name, arguments)
            }
            Callee::Value(value) => {
                let is_this = matches!(value.kind, ExpressionKind::This);
                let callee = self.eval(value, scope)?;
                let (arguments, _) = self.arguments(&call.arguments, scope)?;
                self.span = span;
                if let (true, Value::Object(object)) = (is_this, &callee) {
                    return self.super_constructor(&object.clone(), arguments);
                }
                self.call_value(&callee, arguments)
            }
        }
    }

    /// Calls what has a name: a variable, a method of the object around, a function, a step.
    fn call_name(&mut self, name: &str, arguments: Vec<Value>, named: bool, scope: &Arc<Scope>) -> Outcome {
        let mut later = Vec::new();
        for scope in scope.chain() {
            if let Some(value) = scope.get(name)
                && (is_callable(&value) || !self.host().has_step(name))
            {
                return self.call_value(&value, arguments);
            }
            if let Some(owner) = &scope.owner {
                let delegate = owner.delegate();
                match delegate.value {
                    Some(value) if delegate.first => {
                        if let Some(result) = self.try_method(&value, name, &arguments)? {
                            return Ok(result);
                        }
                    }
                    Some(value) => later.push(value),
                    None => {}
                }
            }
        }
        if let Some(object) = self.this.clone() {
            if let Some((function, program)) = object.class.method(name, arguments.len()) {
                return self.invoke(&function, program, Some(object), arguments);
            }
            if let Some(value) = object.fields.named(name).filter(is_callable) {
                return self.call_value(&value, arguments);
            }
        }
        let functions = self.program.script.functions.iter().filter(|function| function.name.as_deref() == Some(name));
        if let Some(function) = fitting(functions, arguments.len()) {
            let program = self.program.clone();
            return self.invoke(&function, program, None, arguments);
        }
        for value in later {
            if let Some(result) = self.try_method(&value, name, &arguments)? {
                return Ok(result);
            }
        }
        let host = self.host();
        match name {
            "println" | "print" if !host.has_step(name) => {
                let mut text = match arguments.first() {
                    Some(value) => self.show(value)?,
                    None => String::new(),
                };
                if name == "println" {
                    text.push('\n');
                }
                host.print(self, &text)?;
                return Ok(Value::Null);
            }
            "printf" if !host.has_step(name) => {
                let text = method::text::format(self, &arguments)?;
                host.print(self, &text)?;
                return Ok(Value::Null);
            }
            _ => {}
        }
        if host.has_step(name) {
            let span = self.span;
            return host.step(self, Step { name: name.to_string(), arguments, named, span });
        }
        if let Some(value) = host.variable(self, name)? {
            return self.call_value(&value, arguments);
        }
        // What every object can be asked, the script can be asked.
        if let Some(value) = method::object::call(self, &Value::Class("WorkflowScript".into()), name, &arguments)? {
            return Ok(value);
        }
        Err(throw("NoSuchMethodError", format!("No such DSL method '{name}' found among steps")))
    }

    /// Calls a value: a closure, or an object with a method `call`.
    pub fn call_value(&mut self, value: &Value, arguments: Vec<Value>) -> Outcome {
        match value {
            Value::Closure(closure) => self.call_closure(closure, arguments),
            Value::Null => Err(throw("NullPointerException", "Cannot invoke method call() on null object")),
            value => self.call_method(value, "call", arguments),
        }
    }

    /// Calls a closure.
    pub fn call_closure(&mut self, closure: &Arc<Closure>, arguments: Vec<Value>) -> Outcome {
        match &closure.kind {
            Kind::Written { function, scope, program, this } => {
                let scope = Scope::owned(scope, Some(closure.clone()));
                match &function.parameters {
                    None => scope.declare("it", arguments.into_iter().next().unwrap_or_default()),
                    Some(parameters) => {
                        self.bind_parameters(parameters, arguments, &scope, true, "call")?;
                    }
                }
                self.body(function, program.clone(), this.clone(), &scope)
            }
            Kind::Method(object, name) => self.call_method(object, name, arguments),
            Kind::Function(name) => {
                let scope = self.shared.binding.clone();
                self.call_name(name, arguments, false, &scope)
            }
            Kind::Curried { closure, arguments: given, right } => {
                let mut all = if *right { arguments.clone() } else { given.clone() };
                all.extend(if *right { given.clone() } else { arguments });
                self.call_value(closure, all)
            }
            Kind::Composed(first, second) => {
                let value = self.call_value(first, arguments)?;
                self.call_value(second, vec![value])
            }
        }
    }

    /// Calls a function of a script.
    pub(crate) fn invoke(
        &mut self,
        function: &Arc<Function>,
        program: Arc<Program>,
        this: Option<Arc<Object>>,
        arguments: Vec<Value>,
    ) -> Outcome {
        let scope = Scope::within(&self.shared.binding);
        let name = function.name.as_deref().unwrap_or("call");
        let parameters = function.parameters.as_deref().unwrap_or_default();
        self.bind_parameters(parameters, arguments, &scope, false, name)?;
        self.body(function, program, this, &scope)
    }

    fn body(
        &mut self,
        function: &Function,
        program: Arc<Program>,
        this: Option<Arc<Object>>,
        scope: &Arc<Scope>,
    ) -> Outcome {
        if self.calls >= self.limits().depth {
            return Err(throw("StackOverflowError", format!("calls nest more than {} deep", self.limits().depth)));
        }
        self.calls += 1;
        let result = self.inside(program, this, |strand| strand.block(&function.body, scope));
        self.calls -= 1;
        match result {
            Err(Stop::Return(value)) => Ok(value),
            Err(Stop::Break(_) | Stop::Continue(_)) => {
                Err(throw("IllegalStateException", "break and continue do not leave a closure or a function"))
            }
            result => result,
        }
    }

    fn bind_parameters(
        &mut self,
        parameters: &[Parameter],
        mut arguments: Vec<Value>,
        scope: &Arc<Scope>,
        closure: bool,
        name: &str,
    ) -> Outcome<()> {
        // One list for several parameters is taken apart.
        if closure
            && parameters.len() > 1
            && arguments.len() == 1
            && let Value::List(list) = &arguments[0]
        {
            arguments = list.items();
        }
        let rest = parameters.last().is_some_and(|parameter| parameter.rest);
        let least = parameters.iter().filter(|parameter| parameter.default.is_none() && !parameter.rest).count();
        let lenient = closure && arguments.is_empty() && parameters.len() == 1
            || !closure && arguments.is_empty() && parameters.len() == 1 && parameters[0].kind.is_none();
        if !lenient && (arguments.len() < least || !rest && arguments.len() > parameters.len()) {
            let kinds: Vec<String> = arguments.iter().map(Value::class_name).collect();
            let message = format!(
                "No signature of method: {name}() is applicable for argument types: ({}): it takes {} argument{}",
                kinds.join(", "),
                parameters.len(),
                if parameters.len() == 1 { "" } else { "s" },
            );
            return Err(throw("MissingMethodException", message));
        }
        let mut spare = arguments.len().saturating_sub(least);
        let mut arguments = arguments.into_iter();
        for parameter in parameters {
            let value = if parameter.rest {
                Value::from(arguments.by_ref().collect::<Vec<_>>())
            } else if let Some(default) = &parameter.default {
                if spare > 0 {
                    spare -= 1;
                    arguments.next().unwrap_or_default()
                } else {
                    self.eval(default, scope)?
                }
            } else {
                arguments.next().unwrap_or_default()
            };
            let value = match &parameter.kind {
                Some(kind) if !parameter.rest => self.converted(value, kind)?,
                _ => value,
            };
            scope.declare(&parameter.name, value);
        }
        Ok(())
    }

    /// Calls a method; an exception where there is none.
    pub fn call_method(&mut self, object: &Value, name: &str, arguments: Vec<Value>) -> Outcome {
        if object.is_null() && !matches!(name, "toString" | "equals" | "is" | "asBoolean" | "with" | "getClass") {
            return Err(throw("NullPointerException", format!("Cannot invoke method {name}() on null object")));
        }
        if let Some(result) = self.try_method(object, name, &arguments)? {
            return Ok(result);
        }
        let kinds: Vec<String> = arguments.iter().map(Value::class_name).collect();
        let message = format!(
            "No signature of method: {}.{name}() is applicable for argument types: ({})",
            crate::fault::full_name(&object.class_name()),
            kinds.join(", "),
        );
        Err(throw("MissingMethodException", message))
    }

    /// Calls a method, where there is one.
    fn try_method(&mut self, object: &Value, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
        self.deeper(|strand| {
            if let Value::Object(own) = object {
                if let Some((function, program)) = own.class.method(name, arguments.len()) {
                    return strand.invoke(&function, program, Some(own.clone()), arguments.to_vec()).map(Some);
                }
                if let Some(value) = own.fields.named(name).filter(is_callable) {
                    return strand.call_value(&value, arguments.to_vec()).map(Some);
                }
                if !own.class.tree.constants.is_empty() && arguments.is_empty() && matches!(name, "name" | "ordinal") {
                    return Ok(own.fields.named(name));
                }
                if let Some(value) = strand.accessor(own, name, arguments) {
                    return Ok(Some(value));
                }
            }
            if let Value::Class(class) = object
                && let Some(value) = strand.class_method(class, name, arguments)?
            {
                return Ok(Some(value));
            }
            if let Some(value) = method::call(strand, object, name, arguments)? {
                return Ok(Some(value));
            }
            // A closure below a key of a map is called as its method.
            if let Value::Map(map) = object
                && let Some(value) = map.named(name).filter(is_callable)
            {
                return strand.call_value(&value, arguments.to_vec()).map(Some);
            }
            Ok(None)
        })
    }

    /// `getName()`, `setName(value)` of a field.
    fn accessor(&self, object: &Object, name: &str, arguments: &[Value]) -> Option<Value> {
        let field = |prefix: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).map(decapitalized);
        match arguments {
            [] => object.fields.named(&field("get").or_else(|| field("is"))?),
            [value] => {
                let field = field("set")?;
                object.fields.named(&field)?;
                object.fields.insert(Value::from(field), value.clone());
                Some(Value::Null)
            }
            _ => None,
        }
    }
}

fn decapitalized(name: &str) -> String {
    let mut chars = name.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn is_callable(value: &Value) -> bool {
    matches!(value, Value::Closure(_))
}
