//! Walks a script's tree.
//!
//! ```text
//! Interpreter ── run ─► Strand ── branches ─► Strand, Strand ...   one thread each, one of them computing at a time
//!      │                   │
//!   Program            Scope (names) ─ closures ─ steps of the host
//! ```
//!
//! A [`Strand`] is one line of execution. Steps of the host get the strand that calls them, and may call closures on it.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    fault::{Outcome, Place, Stop, throw},
    host::Host,
    limit::{self, Limits, Meter, Turn},
    parse,
    source::{self, Source, Span},
    tree::Script,
    value::{
        Value,
        closure::{Closure, Kind, Scope},
        object::{Class, Object},
        show,
    },
};

mod call;
mod class;
mod expression;
mod load;
mod member;
mod name;
mod statement;

pub(crate) use member::{entries, position};

/// A script that has been read.
pub struct Program {
    /// Its text.
    pub source: Source,
    /// Its tree.
    pub script: Script,
}

impl fmt::Debug for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Program({})", self.source.name)
    }
}

impl Program {
    /// Reads a script. It must be called on a thread with some megabytes of stack.
    pub fn read(name: &str, text: &str) -> Result<Arc<Self>, source::Error> {
        let source = Source::new(name, text);
        let script = parse::parse(&source)?;
        Ok(Arc::new(Self { source, script }))
    }
}

/// What a host hangs onto a strand: where steps run, with which environment.
pub type Context = Arc<dyn Any + Send + Sync>;

/// A script with its surroundings.
pub struct Interpreter {
    shared: Arc<Shared>,
}

struct Shared {
    program: Arc<Program>,
    host: Arc<dyn Host>,
    turn: Turn,
    /// Variables that were set without having been declared.
    binding: Arc<Scope>,
    classes: Mutex<HashMap<String, Arc<Class>>>,
}

/// Why a script ended before its end.
#[derive(Debug)]
pub struct Failure {
    /// In words: an exception with its class and message.
    pub message: String,
    /// The exception, if it was one.
    pub exception: Option<Value>,
    /// Where, if that is known.
    pub error: Option<Box<source::Error>>,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => error.fmt(out),
            None => out.write_str(&self.message),
        }
    }
}

impl Interpreter {
    /// A script, what is around it, and its bounds.
    pub fn new(program: Arc<Program>, host: Arc<dyn Host>, limits: Limits) -> Self {
        let turn = Turn::new(limits);
        Self { shared: Arc::new(Shared { program, host, turn, binding: Arc::default(), classes: Mutex::default() }) }
    }

    /// Runs the script to its end, on a thread of its own; its last value.
    pub fn run(&self, context: Context) -> Result<Value, Failure> {
        let result = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("script".into()).stack_size(limit::STACK);
            let work = || self.strand(context).during(Strand::script);
            match builder.spawn_scoped(scope, work) {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(Stop::Ended("the interpreter failed".into()))),
                Err(error) => Err(Stop::Ended(format!("start a thread for the script: {error}"))),
            }
        });
        result.map_err(Failure::new)
    }

    fn strand(&self, context: Context) -> Strand {
        Strand {
            shared: self.shared.clone(),
            program: self.shared.program.clone(),
            span: Span::default(),
            this: None,
            calls: 0,
            nesting: 0,
            context,
        }
    }
}

impl Failure {
    fn new(stop: Stop) -> Self {
        let at = |place: Option<Place>, message: &str| {
            place.map(|place| Box::new(place.program.source.error(place.span, message.to_string())))
        };
        match stop {
            Stop::Throw(value, place) => {
                let message = show::text(&value);
                Self { error: at(place, &message), message, exception: Some(value) }
            }
            Stop::Limit(message, place) => Self { error: at(place, &message), message, exception: None },
            Stop::Ended(message) => Self { message, exception: None, error: None },
            Stop::Return(_) | Stop::Break(_) | Stop::Continue(_) => {
                Self { message: "break or continue outside of a loop".into(), exception: None, error: None }
            }
        }
    }
}

/// Evaluations within evaluations.
const NESTING: usize = 6_000;
/// Branches at once.
const BRANCHES: usize = 256;

/// One line of execution.
pub struct Strand {
    shared: Arc<Shared>,
    program: Arc<Program>,
    span: Span,
    this: Option<Arc<Object>>,
    calls: usize,
    nesting: usize,
    /// What the host hung onto it.
    pub context: Context,
}

/// What one branch does.
pub type Work<'a> = Box<dyn FnOnce(&mut Strand) -> Outcome + Send + 'a>;

impl Strand {
    fn during<T>(mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = Meter::enter(Some(self.shared.turn.meter.clone()));
        self.shared.turn.take();
        let result = work(&mut self);
        self.shared.turn.give();
        Meter::enter(before);
        result
    }

    fn script(&mut self) -> Outcome {
        let program = self.program.clone();
        let scope = Scope::within(&self.shared.binding);
        match self.block(&program.script.body, &scope) {
            Err(Stop::Return(value)) => Ok(value),
            result => result,
        }
    }

    /// The script whose code runs.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// What is evaluated now.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        self.shared.turn.limits()
    }

    /// Sets a variable that all code of the script sees.
    pub fn bind(&self, name: &str, value: Value) {
        self.shared.binding.declare(name, value);
    }

    /// Waits for something while other branches compute.
    pub fn outside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.shared.turn.give();
        let result = work();
        self.shared.turn.take();
        result
    }

    /// Runs branches side by side, and waits for all of them.
    pub fn branches(&mut self, works: Vec<(Context, Work<'_>)>) -> Outcome<Vec<Outcome>> {
        if works.len() > BRANCHES {
            return Err(throw("IllegalArgumentException", format!("at most {BRANCHES} branches run side by side")));
        }
        let strands: Vec<_> = works
            .into_iter()
            .map(|(context, work)| {
                let strand = Strand {
                    shared: self.shared.clone(),
                    program: self.program.clone(),
                    span: self.span,
                    this: self.this.clone(),
                    calls: self.calls,
                    nesting: 0,
                    context,
                };
                (strand, work)
            })
            .collect();
        let results = self.outside(|| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = strands
                    .into_iter()
                    .map(|(strand, work)| {
                        let builder = std::thread::Builder::new().name("branch".into()).stack_size(limit::STACK);
                        builder.spawn_scoped(scope, || strand.during(work))
                    })
                    .collect();
                let ended = |reason: String| Err(Stop::Ended(reason));
                threads
                    .into_iter()
                    .map(|thread| match thread {
                        Ok(thread) => thread.join().unwrap_or_else(|_| ended("the interpreter failed".into())),
                        Err(error) => ended(format!("start a thread for a branch: {error}")),
                    })
                    .collect()
            })
        });
        Ok(results)
    }

    /// Evaluates a value of a tree where a closure stands.
    pub fn evaluate(&mut self, value: &crate::tree::Expression, closure: &Closure) -> Outcome {
        let Kind::Written { scope, program, this, .. } = &closure.kind else {
            return Err(throw("IllegalArgumentException", "a method has no code of its own"));
        };
        let (scope, program, this) = (scope.clone(), program.clone(), this.clone());
        self.inside(program, this, |strand| strand.eval(value, &scope))
    }

    /// Runs statements where a closure stands.
    pub fn execute(&mut self, block: &[crate::tree::Statement], closure: &Closure) -> Outcome {
        let Kind::Written { scope, program, this, .. } = &closure.kind else {
            return Err(throw("IllegalArgumentException", "a method has no code of its own"));
        };
        let (scope, program, this) = (Scope::within(scope), program.clone(), this.clone());
        let result = self.inside(program, this, |strand| strand.block(block, &scope));
        match result {
            Err(Stop::Return(value)) => Ok(value),
            result => result,
        }
    }

    /// With another script and object around.
    fn inside<T>(
        &mut self,
        program: Arc<Program>,
        this: Option<Arc<Object>>,
        work: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        let program = std::mem::replace(&mut self.program, program);
        let this = std::mem::replace(&mut self.this, this);
        let span = self.span;
        let result = work(self);
        self.program = program;
        self.this = this;
        self.span = span;
        result
    }

    /// A text of a value, as the script's own classes say.
    pub fn show(&mut self, value: &Value) -> Outcome<String> {
        if let Value::Object(object) = value
            && let Some((function, program)) = object.class.method("toString", 0)
        {
            let text = self.invoke(&function, program, Some(object.clone()), Vec::new())?;
            return Ok(show::text(&text));
        }
        if let Value::Object(object) = value
            && object
                .class
                .tree
                .constants
                .contains(&object.fields.named("name").map(|name| show::text(&name)).unwrap_or_default())
        {
            return Ok(object.fields.named("name").map(|name| show::text(&name)).unwrap_or_default());
        }
        Ok(show::text(value))
    }

    /// A string of the script's, within its bounds.
    pub fn text(&mut self, text: String) -> Outcome {
        if text.len() > self.limits().text {
            let message = format!("a string has at most {} bytes", self.limits().text);
            return Err(self.limit(message));
        }
        Ok(Value::from(text))
    }

    /// Refuses more elements than a list may have.
    pub(crate) fn fits(&self, elements: usize) -> Outcome<()> {
        if elements > self.limits().elements {
            let message = format!("a list has at most {} elements", self.limits().elements);
            return Err(self.limit(message));
        }
        Ok(())
    }

    fn limit(&self, message: String) -> Stop {
        Stop::Limit(message, Some(self.place(self.span)))
    }

    /// Counts a step.
    pub(crate) fn tick(&mut self) -> Outcome<()> {
        match self.shared.turn.step() {
            None => Ok(()),
            Some(message) => Err(self.limit(message)),
        }
    }

    fn place(&self, span: Span) -> Place {
        Place { program: self.program.clone(), span }
    }

    fn host(&self) -> Arc<dyn Host> {
        self.shared.host.clone()
    }

    fn class(&self, name: &str) -> Option<Arc<Class>> {
        class::find(self, name)
    }

    fn classes(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Class>>> {
        self.shared.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
