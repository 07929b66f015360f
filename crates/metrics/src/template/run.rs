//! Carries a template out.
//!
//! Nested blocks and templates recurse, so their depth is bounded, as are steps and output.

use super::{
    Error, MOST_OUTPUT, Mode, Templates,
    call::{self, Called, Functions, Param, Signature},
    escape::Document,
    format::quote,
    method,
    parse::Tree,
    tree::{Branch, Kind, Node, Pipe, Word},
    value::{ListKind, MapKind, Value},
};

/// Most nodes that are looked at.
const STEPS: u64 = 2_000_000;

/// Deepest nesting of blocks and templates at run time.
const DEPTH: usize = 200;

type Result<T> = std::result::Result<T, Error>;

/// Whether the enclosing `range` goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

pub(super) struct Run<'a> {
    templates: &'a Templates,
    functions: &'a dyn Functions,
    tree: &'a Tree,
    /// The node that errors name.
    at: Option<&'a Node>,
    variables: Vec<(&'a str, Value)>,
    out: String,
    document: Option<Document>,
    steps: u64,
    depth: usize,
}

/// Carries out a template of the set.
pub(super) fn run(templates: &Templates, functions: &dyn Functions, name: &str, dot: &Value) -> Result<String> {
    let Some(tree) = templates.trees.get(name) else {
        return Err(Error(format!("template: no template {} associated with template \"\"", quote(name))));
    };
    let mut run = Run {
        templates,
        functions,
        tree,
        at: None,
        variables: vec![("$", dot.clone())],
        out: String::new(),
        document: (templates.mode == Mode::Html).then(Document::default),
        steps: 0,
        depth: 0,
    };
    run.walk(dot, &tree.root)?;
    Ok(run.out)
}

impl<'a> Run<'a> {
    fn fail<T>(&self, message: impl AsRef<str>) -> Result<T> {
        let (tree, message) = (self.tree, message.as_ref());
        let Some(node) = self.at else { return Err(Error(format!("template: {}: {message}", tree.name))) };
        let before = tree.text.get(..node.at).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
        let name = quote(&tree.name);
        Err(Error(format!("template: {}:{line}:{column}: executing {name} at <{node}>: {message}", tree.source)))
    }

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > STEPS { self.fail("template takes too many steps") } else { Ok(()) }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.out.len() + text.len() > MOST_OUTPUT {
            return self.fail("output of template is too long");
        }
        self.out.push_str(text);
        Ok(())
    }

    fn walk(&mut self, dot: &Value, node: &'a Node) -> Result<Flow> {
        self.depth += 1;
        if self.depth > DEPTH {
            return self.fail(format!("exceeded maximum template depth ({DEPTH})"));
        }
        self.at = Some(node);
        self.step()?;
        let mut flow = Flow::Next;
        match &node.kind {
            Kind::List(nodes) => {
                for node in nodes {
                    flow = self.walk(dot, node)?;
                    if flow != Flow::Next {
                        break;
                    }
                }
            }
            Kind::Text(text) => {
                if let Some(document) = &mut self.document {
                    document.follow(text);
                }
                self.write(text)?;
            }
            Kind::Action(pipe) => {
                let value = self.pipeline(dot, pipe)?;
                if !matches!(&pipe.kind, Kind::Pipe(pipe) if !pipe.variables.is_empty()) {
                    self.print(&value)?;
                }
            }
            Kind::Break => flow = Flow::Break,
            Kind::Continue => flow = Flow::Continue,
            Kind::Branch(branch) if branch.word == Word::Range => flow = self.range(dot, branch)?,
            Kind::Branch(branch) => {
                let mark = self.variables.len();
                let value = self.pipeline(dot, &branch.pipe)?;
                if value.truth() {
                    flow = self.walk(if branch.word == Word::With { &value } else { dot }, &branch.body)?;
                } else if let Some(otherwise) = &branch.otherwise {
                    flow = self.walk(dot, otherwise)?;
                }
                self.variables.truncate(mark);
            }
            Kind::Template(name, pipe) => {
                let Some(tree) = self.templates.trees.get(name) else {
                    return self.fail(format!("template {} not defined", quote(name)));
                };
                let dot = match pipe {
                    Some(pipe) => self.pipeline(dot, pipe)?,
                    None => Value::Nil,
                };
                self.enter(tree, &dot)?;
            }
            _ => return self.fail(format!("unknown node: {node}")),
        }
        self.depth -= 1;
        Ok(flow)
    }

    /// Another template, which sees no variables of this one.
    fn enter(&mut self, tree: &'a Tree, dot: &Value) -> Result<()> {
        let outer = (self.tree, std::mem::replace(&mut self.variables, vec![("$", dot.clone())]));
        self.tree = tree;
        self.walk(dot, &tree.root)?;
        (self.tree, self.variables) = outer;
        Ok(())
    }

    fn print(&mut self, value: &Value) -> Result<()> {
        let text = match (&mut self.document, value) {
            (Some(document), value) => document.escape(value),
            (None, Value::Nil) => "<no value>".to_owned(),
            (None, value) => value.printed(),
        };
        self.write(&text)
    }

    fn range(&mut self, dot: &Value, branch: &'a Branch) -> Result<Flow> {
        let mark = self.variables.len();
        let value = self.pipeline(dot, &branch.pipe)?;
        let Kind::Pipe(pipe) = &branch.pipe.kind else { return self.fail("range without a pipeline") };
        let items: Box<dyn Iterator<Item = (Value, Value)>> = match &value {
            Value::Nil => Box::new(std::iter::empty()),
            Value::Int(_) if pipe.variables.len() > 1 => {
                return self.fail(format!("can't use {} to iterate over more than one variable", value.printed()));
            }
            Value::Int(count) => Box::new((0..*count).map(|i| (Value::Nil, Value::Int(i)))),
            Value::List(list) => Box::new((0i64..).map(Value::Int).zip(list.items.iter().cloned())),
            Value::Map(map) => {
                Box::new(map.entries.iter().map(|(key, value)| (Value::text(key.as_str()), value.clone())))
            }
            other => return self.fail(format!("range can't iterate over {}", other.printed())),
        };
        let inner = self.variables.len();
        let mut any = false;
        for (key, item) in items {
            any = true;
            match pipe.variables.as_slice() {
                [] => {}
                [only] if pipe.assigns => self.assign(only, item.clone())?,
                [first, second] if pipe.assigns => {
                    self.assign(first, key)?;
                    self.assign(second, item.clone())?;
                }
                [_] => self.variables[inner - 1].1 = item.clone(),
                _ => {
                    self.variables[inner - 1].1 = item.clone();
                    self.variables[inner - 2].1 = key;
                }
            }
            let flow = self.walk(&item, &branch.body)?;
            self.variables.truncate(inner);
            if flow == Flow::Break {
                break;
            }
        }
        let mut flow = Flow::Next;
        if let (false, Some(otherwise)) = (any, &branch.otherwise) {
            flow = self.walk(dot, otherwise)?;
        }
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<()> {
        match self.variables.iter_mut().rev().find(|variable| variable.0 == name) {
            Some(variable) => {
                variable.1 = value;
                Ok(())
            }
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    fn pipeline(&mut self, dot: &Value, node: &'a Node) -> Result<Value> {
        let Kind::Pipe(pipe) = &node.kind else { return self.fail(format!("unknown node: {node}")) };
        self.at = Some(node);
        self.step()?;
        let value = self.commands(dot, pipe)?;
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn commands(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(dot, command, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, dot: &Value, command: &'a Node, last: Option<Value>) -> Result<Value> {
        let Kind::Command(words) = &command.kind else { return self.fail(format!("unknown node: {command}")) };
        let Some(first) = words.first() else { return self.fail("empty command") };
        self.step()?;
        match &first.kind {
            Kind::Field(names) => {
                self.at = Some(first);
                return self.chain(dot, dot.clone(), first, names, words, last);
            }
            Kind::Chain(inner, names) => {
                self.at = Some(first);
                let receiver = self.argument(dot, Param::Any, inner)?;
                return self.chain(dot, receiver, first, names, words, last);
            }
            Kind::Function(name) => {
                self.at = Some(first);
                return self.function(dot, name, command, words, last);
            }
            Kind::Variable(names) => {
                self.at = Some(first);
                let value = self.variable(&names[0])?;
                if names.len() > 1 {
                    return self.chain(dot, value, first, &names[1..], words, last);
                }
                self.no_arguments(words, &last)?;
                return Ok(value);
            }
            Kind::Pipe(_) => {
                self.no_arguments(words, &last)?;
                return self.pipeline(dot, first);
            }
            _ => {}
        }
        self.at = Some(first);
        self.no_arguments(words, &last)?;
        match &first.kind {
            Kind::Dot => Ok(dot.clone()),
            Kind::Nil => self.fail("nil is not a command"),
            _ => self.constant(first),
        }
    }

    fn no_arguments(&self, words: &[Node], last: &Option<Value>) -> Result<()> {
        if words.len() > 1 || last.is_some() {
            return self.fail(format!("can't give argument to non-function {}", words[0]));
        }
        Ok(())
    }

    fn constant(&mut self, node: &'a Node) -> Result<Value> {
        match &node.kind {
            Kind::Bool(truth) => Ok(Value::Bool(*truth)),
            Kind::Quoted(_, text) => Ok(text.clone()),
            Kind::Number(number) => {
                self.at = Some(node);
                match (number.is_float(), number.float, number.int) {
                    (true, Some(float), _) => Ok(Value::Float(float)),
                    (_, _, Some(int)) => Ok(Value::Int(int)),
                    _ => self.fail(format!("{} overflows int", number.text)),
                }
            }
            _ => self.fail(format!("can't evaluate command {}", quote(&node.to_string()))),
        }
    }

    fn variable(&self, name: &str) -> Result<Value> {
        match self.variables.iter().rev().find(|variable| variable.0 == name) {
            Some(variable) => Ok(variable.1.clone()),
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    /// `.X.Y.Z`, of which the last may be a method with arguments.
    fn chain(
        &mut self,
        dot: &Value,
        mut receiver: Value,
        node: &'a Node,
        names: &'a [String],
        words: &'a [Node],
        last: Option<Value>,
    ) -> Result<Value> {
        let Some((final_name, before)) = names.split_last() else { return Ok(receiver) };
        for name in before {
            let from_map = matches!(receiver, Value::Map(_));
            receiver = self.field(dot, receiver, node, name, &[], None)?;
            if from_map && receiver == Value::Nil {
                return self.fail(format!("nil pointer evaluating interface {{}}.{final_name}"));
            }
        }
        self.field(dot, receiver, node, final_name, words, last)
    }

    fn field(
        &mut self,
        dot: &Value,
        receiver: Value,
        node: &'a Node,
        name: &str,
        words: &'a [Node],
        last: Option<Value>,
    ) -> Result<Value> {
        if receiver == Value::Nil {
            if self.templates.strict {
                return self.fail(format!("nil data; no entry for key {}", quote(name)));
            }
            return Ok(Value::Nil);
        }
        if let Some(params) = method::params(&receiver, name) {
            let signature = Signature { fixed: params, rest: None };
            let args = self.arguments(dot, name, signature, words, last)?;
            return method::call(&receiver, name, &args).or_else(|error| {
                self.at = Some(node);
                self.fail(format!("error calling {name}: {error}"))
            });
        }
        let has_arguments = words.len() > 1 || last.is_some();
        match &receiver {
            Value::Record(record) => {
                if let Some(field) = record.fields.iter().find(|field| field.0 == name) {
                    if has_arguments {
                        return self.fail(format!("{name} has arguments but cannot be invoked as function"));
                    }
                    return Ok(field.2.clone());
                }
            }
            Value::Map(map) => {
                if has_arguments {
                    return self.fail(format!("{name} is not a method but has arguments"));
                }
                return match (map.entries.get(name), map.kind) {
                    (Some(value), _) => Ok(value.clone()),
                    (None, _) if self.templates.strict => {
                        self.fail(format!("map has no entry for key {}", quote(name)))
                    }
                    (None, MapKind::Any) => Ok(Value::Nil),
                    (None, _) => Ok(Value::text("")),
                };
            }
            _ => {}
        }
        self.fail(format!("can't evaluate field {name} in type {}", receiver.type_name()))
    }

    fn function(
        &mut self,
        dot: &Value,
        name: &str,
        command: &'a Node,
        words: &'a [Node],
        last: Option<Value>,
    ) -> Result<Value> {
        let own = self.functions.signature(name);
        let Some(signature) = own.or_else(|| call::signature(name)) else {
            return self.fail(format!("{} is not a defined function", quote(name)));
        };
        if own.is_none() && matches!(name, "and" | "or") {
            return self.shortcut(dot, name, words, last);
        }
        let args = self.arguments(dot, name, signature, words, last)?;
        let called = match own {
            Some(_) => self.functions.call(name, args),
            None => call::call(name, &args, MOST_OUTPUT).map(Called::Value),
        };
        let value = match called {
            Ok(Called::Value(value)) => value,
            Ok(Called::Template(name, dot)) => self.inline(&name, &dot)?,
            Err(error) => {
                self.at = Some(command);
                return self.fail(format!("error calling {name}: {error}"));
            }
        };
        if let Value::Text(text) = &value
            && text.len() > MOST_OUTPUT
        {
            return self.fail("output of template is too long");
        }
        Ok(value)
    }

    /// The output of a template as a value.
    fn inline(&mut self, name: &str, dot: &Value) -> Result<Value> {
        let Some(tree) = self.templates.trees.get(name) else {
            return self.fail(format!("template {} not defined", quote(name)));
        };
        let document = self.document.is_some().then(Document::default);
        let outer = (std::mem::take(&mut self.out), std::mem::replace(&mut self.document, document), self.at);
        self.enter(tree, dot)?;
        let text = std::mem::replace(&mut self.out, outer.0);
        (self.document, self.at) = (outer.1, outer.2);
        Ok(Value::Safe(text.into()))
    }

    /// `and` and `or` evaluate only as far as they must.
    fn shortcut(&mut self, dot: &Value, name: &str, words: &'a [Node], last: Option<Value>) -> Result<Value> {
        if words.len() == 1 && last.is_none() {
            return self.fail(format!("wrong number of args for {name}: want at least 1 got 0"));
        }
        let mut value = Value::Nil;
        for word in &words[1..] {
            value = self.argument(dot, Param::Any, word)?;
            if value.truth() == (name == "or") {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn arguments(
        &mut self,
        dot: &Value,
        name: &str,
        signature: Signature,
        words: &'a [Node],
        last: Option<Value>,
    ) -> Result<Vec<Value>> {
        let words = words.get(1..).unwrap_or_default();
        let (given, wanted) = (words.len() + usize::from(last.is_some()), signature.fixed.len());
        match signature.rest {
            Some(_) if given < wanted => {
                let message = format!("wrong number of args for {name}: want at least {wanted} got {}", words.len());
                return self.fail(message);
            }
            None if given != wanted => {
                return self.fail(format!("wrong number of args for {name}: want {wanted} got {given}"));
            }
            _ => {}
        }
        let param = |i: usize| signature.fixed.get(i).copied().or(signature.rest).unwrap_or(Param::Any);
        let mut args = Vec::with_capacity(given);
        for (i, word) in words.iter().enumerate() {
            args.push(self.argument(dot, param(i), word)?);
        }
        if let Some(last) = last {
            let last = self.checked(last, param(args.len()))?;
            args.push(last);
        }
        Ok(args)
    }

    fn argument(&mut self, dot: &Value, param: Param, node: &'a Node) -> Result<Value> {
        self.at = Some(node);
        self.step()?;
        let alone = std::slice::from_ref(node);
        let value = match &node.kind {
            Kind::Dot => dot.clone(),
            Kind::Nil if param.takes_nil() => return Ok(Value::Nil),
            Kind::Nil => return self.fail(format!("cannot assign nil to {}", param.name())),
            Kind::Field(names) => self.chain(dot, dot.clone(), node, names, alone, None)?,
            Kind::Variable(names) => {
                let value = self.variable(&names[0])?;
                self.chain(dot, value, node, &names[1..], alone, None)?
            }
            Kind::Pipe(_) => self.pipeline(dot, node)?,
            Kind::Function(name) => self.function(dot, name, node, alone, None)?,
            Kind::Chain(inner, names) => {
                let receiver = self.argument(dot, Param::Any, inner)?;
                self.chain(dot, receiver, node, names, alone, None)?
            }
            _ => return self.literal(param, node),
        };
        self.checked(value, param)
    }

    /// A constant where a certain type is wanted.
    fn literal(&mut self, param: Param, node: &'a Node) -> Result<Value> {
        match (param, &node.kind) {
            (Param::Any, _) | (Param::Text, Kind::Quoted(..)) => self.constant(node),
            (Param::Text, _) => self.fail(format!("expected string; found {node}")),
            (Param::Int | Param::Duration, Kind::Number(number)) if number.int.is_some() => {
                let int = number.int.unwrap_or_default();
                Ok(if param == Param::Int { Value::Int(int) } else { Value::Duration(int) })
            }
            (Param::Int | Param::Duration, _) => self.fail(format!("expected integer; found {node}")),
            _ => self.fail(format!("can't handle {node} for arg of type {}", param.name())),
        }
    }

    fn checked(&self, value: Value, param: Param) -> Result<Value> {
        match value {
            Value::Nil if param.takes_nil() => Ok(match param {
                Param::Texts => Value::list(ListKind::Strings, Vec::new()),
                Param::Anys => Value::list(ListKind::Any, Vec::new()),
                Param::Samples => Value::list(ListKind::Samples, Vec::new()),
                _ => Value::Nil,
            }),
            Value::Nil => self.fail(format!("invalid value; expected {}", param.name())),
            value if param.takes(&value) => Ok(value),
            value => {
                let (wanted, given) = (param.name(), value.type_name());
                self.fail(format!("wrong type for value; expected {wanted}; got {given}"))
            }
        }
    }
}
