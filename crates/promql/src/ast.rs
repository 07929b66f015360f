//! What a query says, as a tree.

use crate::{
    function::Function,
    lex::{Aggregator, Op, Preprocessor},
    matcher::Matcher,
    position::Place,
};

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// One number a time.
    Scalar,
    /// At most one value of each series at a time.
    Vector,
    /// The values of each series over a range of time.
    Matrix,
    /// A string.
    Text,
}

impl Type {
    /// The name that the HTTP API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::Text => "string",
        }
    }

    /// The name that the documentation uses.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            other => other.name(),
        }
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `sum by (a) (x)`
    Aggregate(Box<Aggregate>),
    /// `a + b`
    Binary(Box<Binary>),
    /// `rate(x)`
    Call(Call),
    /// `x[5m]`
    Matrix(Box<Matrix>),
    /// `x[5m:1m]`
    Subquery(Box<Subquery>),
    /// `1`
    Number(Number),
    /// `(x)`
    Paren(Paren),
    /// `"text"`
    Text(Text),
    /// `-x`
    Unary(Unary),
    /// `x{a="b"}`
    Selector(Box<Selector>),
}

/// Series brought together.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// How.
    pub op: Aggregator,
    /// Of what.
    pub expr: Box<Expr>,
    /// The number or label that some aggregations take.
    pub param: Option<Box<Expr>>,
    /// The labels that make a group, or that are left out.
    pub grouping: Vec<String>,
    /// Whether the labels are left out.
    pub without: bool,
    /// Where it stands.
    pub place: Place,
}

/// Two expressions and an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: Op,
    /// On its left.
    pub left: Box<Expr>,
    /// On its right.
    pub right: Box<Expr>,
    /// Which series belong together, where both sides are vectors.
    pub matching: Option<Matching>,
    /// Whether a comparison gives 0 or 1 instead of leaving series out.
    pub returns_bool: bool,
}

/// How many series on one side belong to how many on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Cardinality {
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    ManyToMany,
}

impl Cardinality {
    /// As errors and the HTTP API name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// Which series of two vectors belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matching {
    /// How many belong to how many.
    pub cardinality: Cardinality,
    /// The labels that must be equal, or that are ignored.
    pub labels: Vec<String>,
    /// Whether the labels are those that count.
    pub on: bool,
    /// Labels taken over from the side of which there is one.
    pub include: Vec<String>,
    /// The value of a left side that is not there.
    pub fill_left: Option<f64>,
    /// The value of a right side that is not there.
    pub fill_right: Option<f64>,
}

/// A function with arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub place: Place,
}

/// Samples over a range of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Of which series.
    pub selector: Selector,
    /// The range, in milliseconds.
    pub range: i64,
    /// The range where it is to be computed.
    pub range_expr: Option<Box<Length>>,
    /// Where it ends.
    pub end: usize,
}

/// An expression evaluated at steps over a range of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// The expression.
    pub expr: Box<Expr>,
    /// The range, in milliseconds.
    pub range: i64,
    /// The range where it is to be computed.
    pub range_expr: Option<Box<Length>>,
    /// The step, in milliseconds; 0 for the default.
    pub step: i64,
    /// The step where it is to be computed.
    pub step_expr: Option<Box<Length>>,
    /// When it is evaluated.
    pub shift: Shift,
    /// Where it ends.
    pub end: usize,
}

/// `offset` and `@`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shift {
    /// How far back, in milliseconds.
    pub offset: i64,
    /// How far back, where it is to be computed.
    pub offset_expr: Option<Box<Length>>,
    /// The fixed time.
    pub at: Option<At>,
}

/// The time that `@` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since 1970.
    Time(i64),
    /// The first step of the query.
    Start,
    /// The last step of the query.
    End,
}

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// Its value.
    pub value: f64,
    /// Whether it was written as a length of time.
    pub is_duration: bool,
    /// Where it stands.
    pub place: Place,
}

/// An expression in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub struct Paren {
    /// The expression.
    pub expr: Box<Expr>,
    /// Where it stands.
    pub place: Place,
}

/// A string.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// Its value; bytes that are no UTF-8 are replaced.
    pub value: String,
    /// Its value where that is no UTF-8.
    pub bytes: Option<Box<[u8]>>,
    /// Where it stands.
    pub place: Place,
}

/// An expression with a sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    /// Whether the sign is a minus.
    pub negative: bool,
    /// The expression.
    pub expr: Box<Expr>,
    /// Where the sign stands.
    pub start: usize,
}

/// Series by their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// The metric's name where it was written before the braces.
    pub name: String,
    /// All conditions, that on the name included.
    pub matchers: Vec<Matcher>,
    /// When it is evaluated.
    pub shift: Shift,
    /// `anchored`: ranges begin with the sample before them.
    pub anchored: bool,
    /// `smoothed`: values at the bounds are interpolated.
    pub smoothed: bool,
    /// Whether only counts and sums of histograms are wanted; found when the query is prepared.
    pub(crate) counts_only: bool,
    /// Where it stands.
    pub place: Place,
}

/// A length of time: a number, or something to be computed when the step and range of the query are known.
#[derive(Clone, Debug, PartialEq)]
pub enum Length {
    /// Seconds.
    Number(Number),
    /// To be computed.
    Computed(Box<Computed>),
}

/// What a length is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthOp {
    /// One of `+ - * / % ^`.
    Op(Op),
    /// `step()`, `range()`, `max_of(a, b)`, `min_of(a, b)`
    Word(Preprocessor),
}

/// A length of time that has to be computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    /// How.
    pub op: LengthOp,
    /// The first part; absent for a sign, and for `step()` and `range()`.
    pub left: Option<Length>,
    /// The second part; absent for `step()` and `range()`.
    pub right: Option<Length>,
    /// Whether it was in parentheses.
    pub wrapped: bool,
    /// Where it stands.
    pub place: Place,
}

impl Text {
    /// In quotes, as it may be written.
    pub fn quoted(&self) -> String {
        let Some(bytes) = &self.bytes else { return tsdb::labels::quote(&self.value) };
        let mut out = String::from("\"");
        for chunk in bytes.utf8_chunks() {
            let valid = tsdb::labels::quote(chunk.valid());
            out.push_str(&valid[1..valid.len() - 1]);
            out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        }
        out.push('"');
        out
    }
}

impl Length {
    /// Where it stands.
    pub fn place(&self) -> Place {
        match self {
            Self::Number(number) => number.place,
            Self::Computed(computed) => match (&computed.left, &computed.right, computed.op) {
                (Some(left), Some(right), _) => left.place().to(right.place()),
                (None, Some(right), _) => computed.place.to(right.place()),
                _ => computed.place,
            },
        }
    }
}

impl Expr {
    /// The type of its value.
    pub fn value_type(&self) -> Type {
        match self {
            Self::Aggregate(_) | Self::Selector(_) => Type::Vector,
            Self::Binary(binary) => match (binary.left.value_type(), binary.right.value_type()) {
                (Type::Scalar, Type::Scalar) => Type::Scalar,
                _ => Type::Vector,
            },
            Self::Call(call) => call.function.returns,
            Self::Matrix(_) | Self::Subquery(_) => Type::Matrix,
            Self::Number(_) => Type::Scalar,
            Self::Text(_) => Type::Text,
            Self::Paren(paren) => paren.expr.value_type(),
            Self::Unary(unary) => unary.expr.value_type(),
        }
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        match self {
            Self::Aggregate(aggregate) => aggregate.place,
            Self::Binary(binary) => binary.left.place().to(binary.right.place()),
            Self::Call(call) => call.place,
            Self::Matrix(matrix) => Place { start: matrix.selector.place.start, end: matrix.end },
            Self::Subquery(subquery) => Place { start: subquery.expr.place().start, end: subquery.end },
            Self::Number(number) => number.place,
            Self::Text(text) => text.place,
            Self::Paren(paren) => paren.place,
            Self::Unary(unary) => Place { start: unary.start, end: unary.expr.place().end },
            Self::Selector(selector) => selector.place,
        }
    }

    /// The expressions that it is made of, in the order in which they are evaluated.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Aggregate(aggregate) => std::iter::once(&*aggregate.expr).chain(aggregate.param.as_deref()).collect(),
            Self::Binary(binary) => vec![&*binary.left, &*binary.right],
            Self::Call(call) => call.args.iter().collect(),
            Self::Subquery(subquery) => vec![&*subquery.expr],
            Self::Paren(paren) => vec![&*paren.expr],
            Self::Unary(unary) => vec![&*unary.expr],
            Self::Matrix(_) | Self::Number(_) | Self::Text(_) | Self::Selector(_) => Vec::new(),
        }
    }

    /// The same, to be changed.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Self::Aggregate(aggregate) => {
                std::iter::once(&mut *aggregate.expr).chain(aggregate.param.as_deref_mut()).collect()
            }
            Self::Binary(binary) => vec![&mut *binary.left, &mut *binary.right],
            Self::Call(call) => call.args.iter_mut().collect(),
            Self::Subquery(subquery) => vec![&mut *subquery.expr],
            Self::Paren(paren) => vec![&mut *paren.expr],
            Self::Unary(unary) => vec![&mut *unary.expr],
            Self::Matrix(_) | Self::Number(_) | Self::Text(_) | Self::Selector(_) => Vec::new(),
        }
    }

    /// All selectors in it, those of ranges too.
    pub fn selectors(&self) -> Vec<&Selector> {
        match self {
            Self::Selector(selector) => vec![selector],
            Self::Matrix(matrix) => vec![&matrix.selector],
            other => other.children().into_iter().flat_map(Self::selectors).collect(),
        }
    }

    /// What is inside parentheses, however many.
    pub fn unwrapped(&self) -> &Self {
        match self {
            Self::Paren(paren) => paren.expr.unwrapped(),
            other => other,
        }
    }
}
