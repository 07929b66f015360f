//! What a script consists of. Every part says where it stands.

use std::sync::Arc;

use crate::{
    source::Span,
    value::{decimal::Decimal, text::Text},
};

/// A whole script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Statements outside of functions and classes, imports apart.
    pub body: Block,
    /// Functions.
    pub functions: Vec<Arc<Function>>,
    /// Classes.
    pub classes: Vec<Arc<Class>>,
    /// Imports, as written, with an alias.
    pub imports: Vec<Import>,
    /// Annotations before the first statement: `@Library`.
    pub annotations: Vec<Annotation>,
}

/// `import a.b.C as D`.
#[derive(Clone, Debug)]
pub struct Import {
    /// `a.b.C` or `a.b.*`.
    pub path: String,
    /// `D`.
    pub alias: Option<String>,
    /// Where.
    pub span: Span,
}

/// `@Name(arguments)`.
#[derive(Clone, Debug)]
pub struct Annotation {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// Where.
    pub span: Span,
}

/// Statements.
pub type Block = Vec<Statement>;

/// A statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// What.
    pub kind: StatementKind,
    /// Where.
    pub span: Span,
}

/// Kinds of statements.
#[derive(Clone, Debug)]
pub enum StatementKind {
    /// A value that is thrown away, unless it is the last.
    Expression(Expression),
    /// `def a = 1, b`; `field` where `@Field` stands before it.
    Declare {
        /// Names with their values.
        names: Vec<(String, Option<Expression>)>,
        /// Their type, where it is not `def`.
        kind: Option<Type>,
        /// Known to functions too.
        field: bool,
    },
    /// `def (a, b) = value`.
    DeclareMany {
        /// Names.
        names: Vec<String>,
        /// A list.
        value: Expression,
    },
    /// `(a, b) = value`.
    AssignMany {
        /// What is assigned to.
        targets: Vec<Expression>,
        /// A list.
        value: Expression,
    },
    /// `if`.
    If {
        /// Condition.
        condition: Expression,
        /// When true.
        then: Block,
        /// When not.
        otherwise: Block,
    },
    /// `while`, and `do ... while`.
    While {
        /// Condition.
        condition: Expression,
        /// What is repeated.
        body: Block,
        /// The body comes first.
        first: bool,
    },
    /// `for (a; b; c)`.
    For {
        /// Before.
        start: Block,
        /// As long as.
        condition: Option<Expression>,
        /// After each round.
        step: Vec<Expression>,
        /// What is repeated.
        body: Block,
    },
    /// `for (a in b)`.
    Each {
        /// The name.
        name: String,
        /// Of what.
        over: Expression,
        /// What is repeated.
        body: Block,
    },
    /// `switch`.
    Switch {
        /// Of what.
        value: Expression,
        /// `None` is `default`.
        cases: Vec<(Option<Expression>, Block)>,
    },
    /// `try`.
    Try {
        /// What is tried.
        body: Block,
        /// Handlers.
        catches: Vec<Catch>,
        /// What comes after, always.
        finally: Block,
    },
    /// `throw`.
    Throw(Expression),
    /// `return`.
    Return(Option<Expression>),
    /// `break`.
    Break(Option<String>),
    /// `continue`.
    Continue(Option<String>),
    /// `assert a : b`.
    Assert(Expression, Option<Expression>),
    /// A block of its own; with the label before it, or before a loop.
    Block(Option<String>, Block),
}

/// `catch (A | B name) { }`.
#[derive(Clone, Debug)]
pub struct Catch {
    /// Types; none is all.
    pub kinds: Vec<Type>,
    /// The name.
    pub name: String,
    /// What is done.
    pub body: Block,
}

/// A type, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// As written, generics apart.
    pub name: String,
    /// `[]`, so many times.
    pub arrays: usize,
    /// Where.
    pub span: Span,
}

/// A value.
#[derive(Clone, Debug)]
pub struct Expression {
    /// What.
    pub kind: ExpressionKind,
    /// Where.
    pub span: Span,
}

/// Kinds of values.
#[derive(Clone, Debug)]
pub enum ExpressionKind {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number of 32 bits.
    Int(i32),
    /// A number of 64 bits.
    Long(i64),
    /// A number with decimals, or a large one.
    Decimal(Decimal),
    /// A binary number.
    Double(f64),
    /// A string.
    Text(Text),
    /// A string with code in it.
    Template(Vec<TemplatePart>),
    /// `[a, *b]`.
    List(Vec<Argument>),
    /// `[a: b, *: c]`.
    Map(Vec<Argument>),
    /// `a..b`, `a..<b`.
    Range {
        /// First.
        from: Box<Expression>,
        /// Last.
        to: Box<Expression>,
        /// The last is left out.
        open: bool,
    },
    /// A name.
    Name(String),
    /// `this`, `super`.
    This,
    /// `a.b`, `a?.b`, `a*.b`.
    Property {
        /// Of what.
        object: Box<Expression>,
        /// Which: text, or a string with code.
        name: Box<Expression>,
        /// How.
        access: Access,
    },
    /// `a[b]`.
    Index {
        /// Of what.
        object: Box<Expression>,
        /// Which.
        keys: Vec<Argument>,
    },
    /// `a(b)`, `a.b(c) { }`, `a b, c: d`.
    Call(Box<Call>),
    /// `{ a -> b }`.
    Closure(Arc<Function>),
    /// `new A(b)`.
    New {
        /// What.
        kind: Type,
        /// From what.
        arguments: Vec<Argument>,
        /// `new int[3]`: sizes.
        sizes: Vec<Expression>,
    },
    /// `!a`, `-a`, `+a`, `~a`.
    Unary(&'static str, Box<Expression>),
    /// `++a`, `a++`, `--a`, `a--`.
    Increment {
        /// What.
        target: Box<Expression>,
        /// 1 or -1.
        by: i32,
        /// The value is the one before.
        after: bool,
    },
    /// `a + b`.
    Binary(&'static str, Box<Expression>, Box<Expression>),
    /// `a = b`, `a += b`: the sign without `=`.
    Assign {
        /// To what.
        target: Box<Expression>,
        /// With which operation.
        operation: Option<&'static str>,
        /// What.
        value: Box<Expression>,
    },
    /// `a ? b : c`.
    Choose(Box<Expression>, Box<Expression>, Box<Expression>),
    /// `a ?: b`.
    Elvis(Box<Expression>, Box<Expression>),
    /// `a as B`, `(B) a`.
    Convert(Box<Expression>, Type),
    /// `a instanceof B`, `a !instanceof B`.
    Is(Box<Expression>, Type),
    /// `a.&b`.
    Method(Box<Expression>, String),
}

/// How a member is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `.`
    Plain,
    /// `?.`
    Safe,
    /// `*.`
    Each,
}

/// A part of a string with code in it.
#[derive(Clone, Debug)]
pub enum TemplatePart {
    /// Text.
    Text(Text),
    /// A value.
    Value(Expression),
}

/// An argument, or an entry of a list or a map.
#[derive(Clone, Debug)]
pub enum Argument {
    /// `a`
    Value(Expression),
    /// `a: b`; a bare name as key is text.
    Named(Expression, Expression),
    /// `*a`
    Spread(Expression),
    /// `*: a`
    SpreadMap(Expression),
}

impl Argument {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Value(value) | Self::Spread(value) | Self::SpreadMap(value) => value.span,
            Self::Named(key, value) => key.span.to(value.span),
        }
    }
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is called.
    pub callee: Callee,
    /// With what; a closure after the parentheses is the last.
    pub arguments: Vec<Argument>,
    /// Arguments stood in parentheses.
    pub parentheses: bool,
    /// How many closures followed the arguments.
    pub trailing: usize,
}

/// What is called.
#[derive(Clone, Debug)]
pub enum Callee {
    /// `name(...)`.
    Name(String, Span),
    /// `object.name(...)`.
    Method {
        /// Of what.
        object: Expression,
        /// Which: text, or a string with code.
        name: Box<Expression>,
        /// How.
        access: Access,
    },
    /// Any other value.
    Value(Expression),
}

/// A function or a closure.
#[derive(Debug)]
pub struct Function {
    /// Its name; closures have none.
    pub name: Option<String>,
    /// Parameters; `None` is a closure without an arrow, which has `it`.
    pub parameters: Option<Vec<Parameter>>,
    /// What it does.
    pub body: Block,
    /// Belongs to the class rather than to an object.
    pub fixed: bool,
    /// Where.
    pub span: Span,
}

/// A parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Option<Type>,
    /// What it is where it is not given.
    pub default: Option<Expression>,
    /// It takes all that is left: `String... names`.
    pub rest: bool,
}

/// A class.
#[derive(Debug)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// What it extends.
    pub parent: Option<Type>,
    /// What it implements.
    pub interfaces: Vec<Type>,
    /// Fields with their first values.
    pub fields: Vec<Field>,
    /// Methods.
    pub methods: Vec<Arc<Function>>,
    /// Constructors.
    pub constructors: Vec<Arc<Function>>,
    /// Names of an enum's constants.
    pub constants: Vec<String>,
    /// Where.
    pub span: Span,
}

/// A field of a class.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its first value.
    pub value: Option<Expression>,
    /// Belongs to the class.
    pub fixed: bool,
    /// Its type.
    pub kind: Option<Type>,
}

impl Expression {
    /// The text, where this is a string without code.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            ExpressionKind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The name, where this is one.
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            ExpressionKind::Name(name) => Some(name),
            _ => None,
        }
    }
}

impl Call {
    /// The name, where a bare one is called.
    pub fn name(&self) -> Option<&str> {
        match &self.callee {
            Callee::Name(name, _) => Some(name),
            _ => None,
        }
    }
}
