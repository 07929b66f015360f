//! What a template says, as a tree; and back to text, as errors show it.

use std::fmt::{self, Display, Formatter};

use super::{format::quote, value::Value};

/// A part of a template.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Bytes before it in its text.
    pub at: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    List(Vec<Node>),
    Text(String),
    Action(Box<Node>),
    Break,
    Continue,
    Branch(Box<Branch>),
    /// Another template, and what becomes its dot.
    Template(String, Option<Box<Node>>),
    Pipe(Pipe),
    Command(Vec<Node>),
    Field(Vec<String>),
    /// Fields of something in parentheses.
    Chain(Box<Node>, Vec<String>),
    Function(String),
    /// A variable with its `$`, and fields of it.
    Variable(Vec<String>),
    Bool(bool),
    Dot,
    Nil,
    /// A number as written, as an integer and as a float.
    Number(Number),
    /// A string as written, and what it says.
    Quoted(String, Value),
}

/// `if`, `with` or `range`.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub word: Word,
    pub pipe: Node,
    pub body: Node,
    pub otherwise: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    If,
    With,
    Range,
}

/// Commands, each of which takes the answer of the one before as its last argument.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    /// Whether the variables exist already.
    pub assigns: bool,
    pub variables: Vec<String>,
    pub commands: Vec<Node>,
}

#[derive(Clone, Debug)]
pub(super) struct Number {
    pub text: String,
    pub int: Option<i64>,
    pub float: Option<f64>,
}

impl Number {
    /// Whether it was written as a float.
    pub fn is_float(&self) -> bool {
        let hex = self.text.to_ascii_lowercase().contains("0x");
        let marks: &[char] = if hex { &['p', 'P'] } else { &['.', 'e', 'E', 'p', 'P'] };
        self.float.is_some() && !self.text.starts_with('\'') && self.text.contains(marks)
    }
}

impl Word {
    pub fn name(self) -> &'static str {
        match self {
            Self::If => "if",
            Self::With => "with",
            Self::Range => "range",
        }
    }
}

impl Node {
    /// Whether there is nothing but space in it.
    pub fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::List(nodes) => nodes.iter().all(Self::is_empty),
            Kind::Text(text) => text.trim().is_empty(),
            _ => false,
        }
    }
}

impl Display for Pipe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::List(nodes) => nodes.iter().try_for_each(|node| node.fmt(f)),
            Kind::Text(text) => f.write_str(text),
            Kind::Action(pipe) => write!(f, "{{{{{pipe}}}}}"),
            Kind::Break => f.write_str("{{break}}"),
            Kind::Continue => f.write_str("{{continue}}"),
            Kind::Branch(branch) => {
                write!(f, "{{{{{} {}}}}}{}", branch.word.name(), branch.pipe, branch.body)?;
                if let Some(otherwise) = &branch.otherwise {
                    write!(f, "{{{{else}}}}{otherwise}")?;
                }
                f.write_str("{{end}}")
            }
            Kind::Template(name, None) => write!(f, "{{{{template {}}}}}", quote(name)),
            Kind::Template(name, Some(pipe)) => write!(f, "{{{{template {} {pipe}}}}}", quote(name)),
            Kind::Pipe(pipe) => pipe.fmt(f),
            Kind::Command(words) => {
                for (i, word) in words.iter().enumerate() {
                    let space = if i > 0 { " " } else { "" };
                    match word.kind {
                        Kind::Pipe(_) => write!(f, "{space}({word})")?,
                        _ => write!(f, "{space}{word}")?,
                    }
                }
                Ok(())
            }
            Kind::Field(names) => names.iter().try_for_each(|name| write!(f, ".{name}")),
            Kind::Chain(node, names) => {
                match node.kind {
                    Kind::Pipe(_) => write!(f, "({node})")?,
                    _ => node.fmt(f)?,
                }
                names.iter().try_for_each(|name| write!(f, ".{name}"))
            }
            Kind::Function(name) => f.write_str(name),
            Kind::Variable(names) => f.write_str(&names.join(".")),
            Kind::Bool(truth) => truth.fmt(f),
            Kind::Dot => f.write_str("."),
            Kind::Nil => f.write_str("nil"),
            Kind::Number(number) => f.write_str(&number.text),
            Kind::Quoted(written, _) => f.write_str(written),
        }
    }
}
