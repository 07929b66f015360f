//! Classes: those of the script, and what is known of others.

use std::sync::{Arc, Mutex};

use super::Strand;
use crate::{
    fault::{self, Exception, Outcome, throw},
    method,
    value::{
        Value,
        closure::Scope,
        list::List,
        map::Map,
        object::{Class, Object, fitting},
        show,
    },
};

/// How long a line of classes, each extending the next, may be.
const PARENTS: usize = 50;

/// A class of the script.
pub(super) fn find(strand: &Strand, name: &str) -> Option<Arc<Class>> {
    find_within(strand, name, PARENTS)
}

fn find_within(strand: &Strand, name: &str, most: usize) -> Option<Arc<Class>> {
    let simple = name.rsplit('.').next().unwrap_or(name);
    if let Some(class) = strand.classes().get(simple) {
        return Some(class.clone());
    }
    let tree = strand.program.script.classes.iter().find(|class| class.name == simple)?.clone();
    let mut class = Class {
        program: strand.program.clone(),
        parent: None,
        base: None,
        fixed: Mutex::new(None),
        tree: tree.clone(),
    };
    if let Some(parent) = &tree.parent {
        class.parent =
            if most == 0 || parent.name == simple { None } else { find_within(strand, &parent.name, most - 1) };
        if class.parent.is_none() {
            class.base = Some(parent.name.rsplit('.').next().unwrap_or(&parent.name).to_string());
        }
    }
    let class = Arc::new(class);
    strand.classes().insert(simple.to_string(), class.clone());
    Some(class)
}

/// The values that belong to a class, made when they are first asked for.
fn fixed(strand: &mut Strand, class: &Arc<Class>) -> Outcome<Map> {
    if let Some(values) = class.values() {
        return Ok(values);
    }
    let values = Map::default();
    *class.fixed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(values.clone());
    for (ordinal, constant) in class.tree.constants.iter().enumerate() {
        let fields: Map = [("name", Value::from(constant.as_str())), ("ordinal", Value::count(ordinal))]
            .map(|(name, value)| (name.into(), value))
            .into_iter()
            .collect();
        values.insert(constant.as_str().into(), Value::Object(Arc::new(Object { class: class.clone(), fields })));
    }
    for field in class.tree.fields.iter().filter(|field| field.fixed) {
        let value = match &field.value {
            Some(value) => {
                let scope = Scope::within(&strand.shared.binding);
                strand.inside(class.program.clone(), None, |strand| strand.eval(value, &scope))?
            }
            None => Value::Null,
        };
        values.insert(field.name.as_str().into(), value);
    }
    Ok(values)
}

pub(super) fn fixed_value(strand: &mut Strand, class: &Arc<Class>, name: &str) -> Outcome<Option<Value>> {
    let mut at = Some(class.clone());
    while let Some(class) = at {
        if let Some(value) = fixed(strand, &class)?.named(name) {
            return Ok(Some(value));
        }
        at = class.parent.clone();
    }
    Ok(None)
}

pub(super) fn set_fixed(strand: &mut Strand, class: &Arc<Class>, name: &str, value: &Value) -> Outcome<bool> {
    let mut at = Some(class.clone());
    while let Some(class) = at {
        let values = fixed(strand, &class)?;
        if values.named(name).is_some() {
            values.insert(name.into(), value.clone());
            return Ok(true);
        }
        at = class.parent.clone();
    }
    Ok(false)
}

impl Strand {
    /// A property of a class.
    pub(super) fn class_property(&mut self, name: &str, property: &str) -> Outcome<Option<Value>> {
        match property {
            "name" => return Ok(Some(Value::from(fault::full_name(name)))),
            "simpleName" => return Ok(Some(Value::from(name.rsplit('.').next().unwrap_or(name)))),
            _ => {}
        }
        if let Some(class) = self.class(name) {
            return fixed_value(self, &class, property);
        }
        if name == "WorkflowScript" {
            return Ok(None);
        }
        if let Some(value) = method::class::constant(name, property) {
            return Ok(Some(value));
        }
        self.host().class_call(self, name, property, &[])
    }

    /// A method that belongs to a class.
    pub(super) fn class_method(&mut self, name: &str, called: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
        if let Some(class) = self.class(name) {
            let values = fixed(self, &class)?;
            match called {
                "values" if !class.tree.constants.is_empty() => {
                    let constants = class.tree.constants.iter().filter_map(|constant| values.named(constant)).collect();
                    return Ok(Some(Value::List(List::new(constants))));
                }
                "valueOf" if !class.tree.constants.is_empty() => {
                    let wanted = arguments.first().map(show::text).unwrap_or_default();
                    return match values.named(&wanted).filter(|_| class.tree.constants.contains(&wanted)) {
                        Some(value) => Ok(Some(value)),
                        None => Err(throw("IllegalArgumentException", format!("No enum constant {name}.{wanted}"))),
                    };
                }
                "newInstance" => return self.create(name, arguments.to_vec(), false).map(Some),
                _ => {}
            }
            let functions = class.tree.methods.iter();
            let fixed_ones = functions.filter(|method| method.fixed && method.name.as_deref() == Some(called));
            if let Some(function) = fitting(fixed_ones, arguments.len()) {
                // A method without an object sees what belongs to the class: an object without fields does too.
                let this = Arc::new(Object { class: class.clone(), fields: Map::default() });
                return self.invoke(&function, class.program.clone(), Some(this), arguments.to_vec()).map(Some);
            }
            return Ok(None);
        }
        if name == "WorkflowScript" {
            return Ok(None);
        }
        if let Some(value) = method::class::call(self, name, called, arguments)? {
            return Ok(Some(value));
        }
        self.host().class_call(self, name, called, arguments)
    }

    /// `new Name(arguments)`
    pub(super) fn create(&mut self, name: &str, arguments: Vec<Value>, named: bool) -> Outcome {
        let simple = name.rsplit('.').next().unwrap_or(name);
        if let Some(class) = self.class(simple) {
            return self.construct(&class, arguments, named);
        }
        if fault::is_exception(simple) {
            let mut message = None;
            let mut cause = Value::Null;
            for argument in arguments {
                match argument {
                    Value::Exception(_) | Value::Object(_) => cause = argument,
                    Value::Null => {}
                    other => message = Some(self.show(&other)?),
                }
            }
            if message.is_none() && !cause.is_null() {
                message = Some(show::text(&cause));
            }
            return Ok(Value::Exception(Arc::new(Exception {
                class: simple.into(),
                message: message.map(Into::into),
                cause,
                detail: Value::Null,
            })));
        }
        if let Some(value) = method::class::create(self, simple, &arguments)? {
            return Ok(value);
        }
        match self.host().class_call(self, name, "new", &arguments)? {
            Some(value) => Ok(value),
            None => Err(throw("GroovyRuntimeException", format!("unable to resolve class {name}"))),
        }
    }

    fn construct(&mut self, class: &Arc<Class>, arguments: Vec<Value>, named: bool) -> Outcome {
        if !class.tree.constants.is_empty() {
            return Err(throw("GroovyRuntimeException", format!("{} is an enum", class.tree.name)));
        }
        let fields = Map::default();
        let object = Arc::new(Object { class: class.clone(), fields });
        self.set_fields(class, &object)?;
        if let Some(constructor) = fitting(class.tree.constructors.iter(), arguments.len()) {
            self.invoke(&constructor, class.program.clone(), Some(object.clone()), arguments)?;
            return Ok(Value::Object(object));
        }
        match arguments.as_slice() {
            [] => {}
            [Value::Map(map)] if named || class.root().is_none() => {
                for (key, value) in map.entries() {
                    self.set_property(&Value::Object(object.clone()), &show::text(&key), value)?;
                }
            }
            _ if class.root().is_some_and(fault::is_exception) => {
                self.super_constructor(&object, arguments).map(drop)?
            }
            _ => {
                let message = format!("Could not find matching constructor for: {}", class.tree.name);
                return Err(throw("GroovyRuntimeException", message));
            }
        }
        Ok(Value::Object(object))
    }

    fn set_fields(&mut self, class: &Arc<Class>, object: &Arc<Object>) -> Outcome<()> {
        if let Some(parent) = &class.parent {
            self.set_fields(parent, object)?;
        }
        for field in class.tree.fields.iter().filter(|field| !field.fixed) {
            let value = match &field.value {
                Some(value) => {
                    let scope = Scope::within(&self.shared.binding);
                    self.inside(class.program.clone(), Some(object.clone()), |strand| strand.eval(value, &scope))?
                }
                None => field.kind.as_ref().map_or(Value::Null, |kind| crate::operator::zero(&kind.name)),
            };
            object.fields.insert(field.name.as_str().into(), value);
        }
        Ok(())
    }

    /// `super(arguments)`: of a script's class its constructor, of an exception its message and cause.
    pub(super) fn super_constructor(&mut self, object: &Arc<Object>, arguments: Vec<Value>) -> Outcome {
        if let Some(parent) = &object.class.parent
            && let Some(constructor) = fitting(parent.tree.constructors.iter(), arguments.len())
        {
            let program = parent.program.clone();
            return self.invoke(&constructor, program, Some(object.clone()), arguments);
        }
        for argument in arguments {
            let name = if matches!(argument, Value::Exception(_)) { "cause" } else { "message" };
            object.fields.insert(name.into(), argument);
        }
        Ok(Value::Null)
    }
}
