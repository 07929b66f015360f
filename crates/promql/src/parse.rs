//! Tokens to a tree, by precedence climbing; then types.
//!
//! ```text
//! primary: number "text" (expr) name{..} f(..) sum by (..) (..) -expr     then any of  [5m]  [5m:1m]  offset 5m  @ 1  anchored
//! or < and unless < == != < <= > >= </ >/ < + - < * / % atan2 (and signs) < ^ (from the right)
//! ```
//!
//! The first thing wrong ends the parse. What an error says was expected is told by the innermost construct that was
//! being read, which the parser keeps in a stack.
//!
//! See <https://prometheus.io/docs/prometheus/latest/querying/basics/>.

use std::fmt;

use tsdb::labels::{NAME, quote};

use crate::{
    ast::{
        Aggregate, At, Binary, Call, Cardinality, Expr, Matching, Matrix, Number, Paren, Shift, Subquery, Text, Unary,
    },
    duration, function,
    lex::{Keyword, Kind, Lexer, Op, Preprocessor, Token, unquote, unquote_bytes},
    matcher::{Comparison, Matcher},
    number,
    position::Place,
};

mod check;

mod length;

mod selector;

/// How deep expressions may lie within each other.
pub const MAX_DEPTH: usize = 100;

/// Longest query, in bytes.
pub const MAX_LENGTH: usize = 1 << 20;

/// The parts of the language that have to be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `promql-experimental-functions`
    pub functions: bool,
    /// `promql-duration-expr`, which Prometheus 3.15 always has.
    pub durations: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_ranges: bool,
    /// `promql-binop-fill-modifiers`
    pub fill: bool,
    /// `type-and-unit-labels`
    pub type_and_unit: bool,
    /// `promql-delayed-name-removal`
    pub delayed_name_removal: bool,
}

impl Features {
    /// Everything that there is.
    pub const ALL: Self = Self {
        functions: true,
        durations: true,
        extended_ranges: true,
        fill: true,
        type_and_unit: true,
        delayed_name_removal: true,
    };
}

impl Default for Features {
    fn default() -> Self {
        Self {
            functions: false,
            durations: true,
            extended_ranges: false,
            fill: false,
            type_and_unit: false,
            delayed_name_removal: false,
        }
    }
}

/// What is wrong with a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
    /// The query.
    pub query: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: parse error: {}", self.place.in_query(&self.query), self.message)
    }
}

/// Reads a query and checks its types.
pub fn parse(query: &str, features: Features) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query, features)?;
    if parser.peek()?.kind == Kind::Eof {
        return Err(parser.error(Place::default(), "no expression found in input"));
    }
    let mut expr = parser.expr(0)?;
    if parser.peek()?.kind != Kind::Eof {
        return Err(parser.unexpected());
    }
    check::check(&mut expr, query)?;
    Ok(expr)
}

/// Reads a selector alone, as `match[]` has it, and returns its conditions.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text, Features::default())?;
    let token = parser.next()?;
    let selector = match token.kind {
        Kind::LeftBrace => parser.selector(None, token)?,
        kind if names_metric(kind) => parser.selector(Some(token), token)?,
        _ => {
            parser.peeked = Some(token);
            return Err(parser.unexpected());
        }
    };
    if parser.peek()?.kind != Kind::Eof {
        return Err(parser.unexpected());
    }
    Ok(selector.matchers)
}

/// Reads the metric at the beginning of a series description, and returns its labels and where it ends.
pub(crate) fn parse_metric(text: &str) -> Result<(tsdb::labels::Labels, usize), ParseError> {
    let mut parser = Parser::new(text, Features::default())?;
    let mut builder = tsdb::labels::Builder::default();
    let first = parser.next()?;
    let mut end = first.place().end;
    let mut braces = first.kind == Kind::LeftBrace;
    if names_metric(first.kind) {
        builder.set(NAME, first.text);
        braces = text[end..].starts_with('{');
        if braces {
            parser.next()?;
        }
    } else if !braces {
        parser.peeked = Some(first);
        return Err(parser.unexpected());
    }
    if braces {
        let mut matchers = Vec::new();
        end = parser.matchers(&mut matchers)?;
        for matcher in matchers {
            if matcher.comparison != Comparison::Equal {
                return Err(parser.error(Place { start: 0, end }, "unexpected comparison in label set, expected \"=\""));
            }
            builder.set(&matcher.name, &matcher.value);
        }
    }
    Ok((builder.labels(), end))
}

/// Whether a token may stand as a metric's name.
fn names_metric(kind: Kind) -> bool {
    match kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregator(_) | Kind::Preprocessor(_) => true,
        Kind::Operator(op) => op.is_set(),
        Kind::Keyword(keyword) => !matches!(
            keyword,
            Keyword::Bool | Keyword::On | Keyword::Ignoring | Keyword::GroupLeft | Keyword::GroupRight
        ),
        _ => false,
    }
}

/// Whether a token may stand as a label in a grouping.
fn names_label(kind: Kind) -> bool {
    match kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregator(_) | Kind::Preprocessor(_) => true,
        Kind::Operator(op) => op.is_set() || op == Op::Atan2,
        Kind::Keyword(keyword) => keyword != Keyword::Without,
        _ => false,
    }
}

fn starts_expression(kind: Kind) -> bool {
    names_metric(kind)
        || matches!(
            kind,
            Kind::Number
                | Kind::Duration
                | Kind::Text
                | Kind::LeftParen
                | Kind::LeftBrace
                | Kind::Operator(Op::Add | Op::Sub)
        )
}

/// What is being read, and what would have been right in it.
type Context = (&'static str, &'static str);

struct Parser<'a> {
    query: &'a str,
    features: Features,
    lexer: Lexer<'a>,
    peeked: Option<Token<'a>>,
    /// Behind the last token that may close an expression.
    closing: usize,
    contexts: Vec<Context>,
    /// How many expressions are being read within each other.
    depth: usize,
    /// The height of the highest tree read so far within the one that is being read.
    height: usize,
    /// Operators in the length that is being read.
    length_operators: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    fn new(query: &'a str, features: Features) -> Parsed<Self> {
        let parser = Self {
            query,
            features,
            lexer: Lexer::new(query),
            peeked: None,
            closing: 0,
            contexts: Vec::new(),
            depth: 0,
            height: 0,
            length_operators: 0,
        };
        if query.len() > MAX_LENGTH {
            return Err(ParseError {
                place: Place::default(),
                message: format!("query is longer than {MAX_LENGTH} bytes"),
                query: String::new(),
            });
        }
        Ok(parser)
    }

    fn error(&self, place: Place, message: impl Into<String>) -> ParseError {
        ParseError { place, message: message.into(), query: self.query.to_owned() }
    }

    fn peek(&mut self) -> Parsed<Token<'a>> {
        if let Some(token) = self.peeked {
            return Ok(token);
        }
        let token = self.lexer.next().map_err(|failure| self.error(failure.place, failure.message))?;
        self.peeked = Some(token);
        Ok(token)
    }

    fn next(&mut self) -> Parsed<Token<'a>> {
        let token = self.peek()?;
        self.peeked = None;
        if matches!(
            token.kind,
            Kind::RightBrace | Kind::RightParen | Kind::RightBracket | Kind::Duration | Kind::Number
        ) {
            self.closing = token.place().end;
        }
        Ok(token)
    }

    fn take(&mut self, kind: Kind) -> Parsed<Option<Token<'a>>> {
        if self.peek()?.kind == kind { self.next().map(Some) } else { Ok(None) }
    }

    fn expect(&mut self, kind: Kind) -> Parsed<Token<'a>> {
        match self.take(kind)? {
            Some(token) => Ok(token),
            None => Err(self.unexpected()),
        }
    }

    /// The error of the token that comes next, in the words of what is being read.
    fn unexpected(&self) -> ParseError {
        let (context, expected) = self.contexts.last().copied().unwrap_or_default();
        self.unexpected_in(context, expected)
    }

    fn unexpected_in(&self, context: &str, expected: &str) -> ParseError {
        let Some(token) = self.peeked else {
            return self.error(Place { start: self.query.len(), end: self.query.len() }, "unexpected end of input");
        };
        let mut message = format!("unexpected {}", token.describe());
        if !context.is_empty() {
            message += &format!(" in {context}");
        }
        if !expected.is_empty() {
            message += &format!(", expected {expected}");
        }
        self.error(token.place(), message)
    }

    /// Reads something of which errors speak as `context`.
    fn within<T>(&mut self, context: Context, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.contexts.push(context);
        let result = read(self);
        self.contexts.pop();
        result
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        self.bounded(self.depth)?;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Fails where a tree would be higher than allowed.
    fn bounded(&mut self, height: usize) -> Parsed<()> {
        if height <= MAX_DEPTH {
            return Ok(());
        }
        let place = self.peek()?.place();
        Err(self.error(place, format!("expression is nested more than {MAX_DEPTH} levels deep")))
    }

    /// An expression whose operators bind at least as tightly as `least`.
    fn expr(&mut self, least: u8) -> Parsed<Expr> {
        self.deeper(|parser| {
            let around = std::mem::take(&mut parser.height);
            let mut left = parser.primary()?;
            let mut height = parser.height + 1;
            while let Kind::Operator(op) = parser.peek()?.kind {
                let strength = op.strength();
                if strength < least {
                    break;
                }
                parser.next()?;
                let (matching, returns_bool) = parser.modifiers()?;
                parser.height = 0;
                let right = parser.expr(if op == Op::Pow { strength } else { strength + 1 })?;
                height = height.max(parser.height) + 1;
                parser.bounded(height)?;
                let place = left.place().to(right.place());
                if !parser.features.fill && (matching.fill_left.is_some() || matching.fill_right.is_some()) {
                    return Err(parser.error(place, "binop fill modifiers are experimental and not enabled"));
                }
                let (left_side, right) = (Box::new(left), Box::new(right));
                let matching = Some(matching);
                left = Expr::Binary(Box::new(Binary { op, left: left_side, right, matching, returns_bool }));
            }
            parser.bounded(height)?;
            parser.height = around.max(height);
            Ok(left)
        })
    }

    /// What stands between an operator and its right side.
    fn modifiers(&mut self) -> Parsed<(Matching, bool)> {
        let mut matching = Matching::default();
        let returns_bool = self.take(Kind::Keyword(Keyword::Bool))?.is_some();
        let on = self.take(Kind::Keyword(Keyword::On))?.is_some();
        if on || self.take(Kind::Keyword(Keyword::Ignoring))?.is_some() {
            matching.on = on;
            matching.labels = self.grouping()?;
            for (keyword, cardinality) in
                [(Keyword::GroupLeft, Cardinality::ManyToOne), (Keyword::GroupRight, Cardinality::OneToMany)]
            {
                if matching.cardinality == Cardinality::OneToOne && self.take(Kind::Keyword(keyword))?.is_some() {
                    matching.cardinality = cardinality;
                    if self.peek()?.kind == Kind::LeftParen {
                        matching.include = self.grouping()?;
                    }
                }
            }
        }
        match self.peek()?.kind {
            Kind::Keyword(Keyword::Fill) => {
                self.next()?;
                matching.fill_left = Some(self.fill_value()?);
                matching.fill_right = matching.fill_left;
            }
            Kind::Keyword(Keyword::FillLeft) => {
                self.next()?;
                matching.fill_left = Some(self.fill_value()?);
                if self.take(Kind::Keyword(Keyword::FillRight))?.is_some() {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            Kind::Keyword(Keyword::FillRight) => {
                self.next()?;
                matching.fill_right = Some(self.fill_value()?);
                if self.take(Kind::Keyword(Keyword::FillLeft))?.is_some() {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok((matching, returns_bool))
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.expect(Kind::LeftParen)?;
        let sign = self.sign()?;
        let value = self.number()?.value;
        self.expect(Kind::RightParen)?;
        Ok(if sign.is_some_and(|(negative, _)| negative) { -value } else { value })
    }

    /// A sign, whether it is a minus, and where it stands.
    fn sign(&mut self) -> Parsed<Option<(bool, Token<'a>)>> {
        match self.peek()?.kind {
            Kind::Operator(op @ (Op::Add | Op::Sub)) => Ok(Some((op == Op::Sub, self.next()?))),
            _ => Ok(None),
        }
    }

    fn number(&mut self) -> Parsed<Number> {
        let token = self.peek()?;
        let place = token.place();
        match token.kind {
            Kind::Number => {
                self.next()?;
                let value = number::parse(token.text).ok_or_else(|| {
                    let digits = token.text.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
                    let reason = if digits { "value out of range" } else { "invalid syntax" };
                    let text = quote(token.text);
                    self.error(place, format!("error parsing number: strconv.ParseFloat: parsing {text}: {reason}"))
                })?;
                Ok(Number { value, is_duration: false, place })
            }
            Kind::Duration => {
                self.next()?;
                let length = duration::parse(token.text).map_err(|message| self.error(place, message))?;
                Ok(Number { value: length as f64 / 1000.0, is_duration: true, place })
            }
            _ => Err(self.unexpected()),
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek()?;
        let mut expr = match token.kind {
            Kind::Number | Kind::Duration => Expr::Number(self.number()?),
            Kind::Operator(op @ (Op::Add | Op::Sub)) => {
                self.next()?;
                return self.signed(op == Op::Sub, token);
            }
            Kind::Text => {
                self.next()?;
                {
                    let bytes = unquote_bytes(token.text);
                    let invalid = std::str::from_utf8(&bytes).is_err();
                    let bytes = invalid.then(|| bytes.into_boxed_slice());
                    Expr::Text(Text { value: unquote(token.text), bytes, place: token.place() })
                }
            }
            Kind::LeftParen => {
                self.next()?;
                let expr = Box::new(self.expr(0)?);
                let end = self.expect(Kind::RightParen)?;
                Expr::Paren(Paren { expr, place: token.place().to(end.place()) })
            }
            Kind::LeftBrace => {
                self.next()?;
                Expr::Selector(Box::new(self.selector(None, token)?))
            }
            kind if names_metric(kind) => {
                self.next()?;
                self.named(token)?
            }
            _ => return Err(self.unexpected()),
        };
        loop {
            expr = match self.peek()?.kind {
                Kind::LeftBracket => self.range(expr)?,
                Kind::Keyword(Keyword::Offset) => {
                    self.next()?;
                    let context = ("offset", "number, duration, step(), or range()");
                    let offset = self.within(context, Self::offset_length)?;
                    self.set_offset(expr, offset)?
                }
                Kind::At => {
                    self.next()?;
                    self.within(("@", "timestamp"), |parser| parser.at(expr))?
                }
                Kind::Keyword(keyword @ (Keyword::Anchored | Keyword::Smoothed)) => {
                    self.next()?;
                    self.extended(expr, keyword)?
                }
                _ => return Ok(expr),
            }
        }
    }

    /// An expression behind a sign, which binds as a product does.
    fn signed(&mut self, negative: bool, sign: Token<'a>) -> Parsed<Expr> {
        let expr = self.expr(Op::Mul.strength() + 1)?;
        Ok(match expr {
            Expr::Number(number) => Expr::Number(Number {
                value: if negative { -number.value } else { number.value },
                place: Place { start: sign.start, end: number.place.end },
                ..number
            }),
            expr => Expr::Unary(Unary { negative, expr: Box::new(expr), start: sign.start }),
        })
    }

    /// What begins with a word: a call, an aggregation, a selector.
    fn named(&mut self, token: Token<'a>) -> Parsed<Expr> {
        let next = self.peek()?.kind;
        match token.kind {
            Kind::Aggregator(op) if matches!(next, Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without)) => {
                self.within(("aggregation", ""), |parser| parser.aggregate(op, token))
                    .and_then(|(aggregate, args)| self.with_args(aggregate, args))
            }
            Kind::Identifier | Kind::Preprocessor(_) if next == Kind::LeftParen => {
                let args = self.args()?;
                let place = Place { start: token.start, end: self.closing };
                let name = quote(token.text);
                let Some(function) = function::find(token.text) else {
                    return Err(self.error(token.place(), format!("unknown function with name {name}")));
                };
                if function.experimental && !self.features.functions {
                    return Err(self.error(token.place(), format!("function {name} is not enabled")));
                }
                Ok(Expr::Call(Call { function, args, place }))
            }
            _ => Ok(Expr::Selector(Box::new(self.selector(Some(token), token)?))),
        }
    }

    /// Arguments in parentheses.
    fn args(&mut self) -> Parsed<Vec<Expr>> {
        self.expect(Kind::LeftParen)?;
        let mut args = Vec::new();
        if self.take(Kind::RightParen)?.is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr(0)?);
            let Some(comma) = self.take(Kind::Comma)? else { break };
            if !starts_expression(self.peek()?.kind) {
                return Err(self.error(comma.place(), "trailing commas not allowed in function call args"));
            }
        }
        self.expect(Kind::RightParen)?;
        Ok(args)
    }

    /// An aggregation without its arguments, and these.
    fn aggregate(&mut self, op: crate::lex::Aggregator, token: Token<'a>) -> Parsed<(Aggregate, Vec<Expr>)> {
        let nothing = Box::new(Expr::Text(Text { value: String::new(), bytes: None, place: token.place() }));
        let mut aggregate =
            Aggregate { op, expr: nothing, param: None, grouping: Vec::new(), without: false, place: token.place() };
        let grouped = self.by_or_without(&mut aggregate)?;
        let args = self.args()?;
        if !grouped {
            let end = self.closing;
            if !self.by_or_without(&mut aggregate)? {
                self.closing = end;
            }
        }
        aggregate.place.end = self.closing;
        Ok((aggregate, args))
    }

    fn by_or_without(&mut self, aggregate: &mut Aggregate) -> Parsed<bool> {
        let without = match self.peek()?.kind {
            Kind::Keyword(Keyword::By) => false,
            Kind::Keyword(Keyword::Without) => true,
            _ => return Ok(false),
        };
        self.next()?;
        aggregate.without = without;
        aggregate.grouping = self.grouping()?;
        Ok(true)
    }

    fn with_args(&self, mut aggregate: Aggregate, args: Vec<Expr>) -> Parsed<Expr> {
        let (op, place) = (aggregate.op, aggregate.place);
        if args.is_empty() {
            return Err(self.error(place, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.features.functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.name()
            );
            return Err(self.error(place, message));
        }
        let wanted = 1 + usize::from(op.has_parameter());
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err(self.error(place, message));
        }
        let mut args = args.into_iter();
        if op.has_parameter() {
            aggregate.param = args.next().map(Box::new);
        }
        if let Some(expr) = args.next() {
            aggregate.expr = Box::new(expr);
        }
        Ok(Expr::Aggregate(Box::new(aggregate)))
    }

    /// `[5m]` or `[5m:1m]` behind an expression.
    fn range(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.next()?;
        self.height += 1;
        self.bounded(self.height)?;
        let context = ("subquery or range selector", "number, duration, step(), or range()");
        let length = self.within(context, Self::positive_length)?;
        let (range, range_expr) = length::split(length);
        if let Some(close) = self.take(Kind::RightBracket)? {
            let place = open.place().to(close.place());
            let selector = match expr {
                Expr::Selector(selector) => *selector,
                _ => return Err(self.error(place, "ranges only allowed for vector selectors")),
            };
            if selector.shift.offset != 0 || selector.shift.offset_expr.is_some() {
                return Err(self.error(place, "no offset modifiers allowed before range"));
            }
            if selector.shift.at.is_some() {
                return Err(self.error(place, "no @ modifiers allowed before range"));
            }
            let end = close.place().end;
            return Ok(Expr::Matrix(Box::new(Matrix { selector, range, range_expr, end })));
        }
        self.within(("subquery or range", "\":\" or \"]\""), |parser| parser.expect(Kind::Colon))?;
        let mut subquery = Subquery {
            expr: Box::new(expr),
            range,
            range_expr,
            step: 0,
            step_expr: None,
            shift: Shift::default(),
            end: 0,
        };
        if self.peek()?.kind != Kind::RightBracket {
            let context = ("subquery selector", "number, duration, step(), range(), or \"]\"");
            let step = self.within(context, Self::positive_length)?;
            (subquery.step, subquery.step_expr) = length::split(step);
        }
        let close = self.within(("subquery selector", "\"]\""), |parser| parser.expect(Kind::RightBracket))?;
        subquery.end = close.start + 1;
        Ok(Expr::Subquery(Box::new(subquery)))
    }

    /// Gives what `offset` and `@` may change, and where the whole ends, to `change`.
    fn shifted(
        &self,
        mut expr: Expr,
        modifier: &str,
        change: impl FnOnce(&mut Shift) -> Result<(), &'static str>,
    ) -> Parsed<Expr> {
        let place = expr.place();
        let (shift, end) = match &mut expr {
            Expr::Selector(selector) => (&mut selector.shift, &mut selector.place.end),
            Expr::Matrix(matrix) => (&mut matrix.selector.shift, &mut matrix.end),
            Expr::Subquery(subquery) => (&mut subquery.shift, &mut subquery.end),
            _ => {
                let message = format!(
                    "{modifier} modifier must be preceded by an instant vector selector or range vector selector or a \
                     subquery"
                );
                return Err(self.error(place, message));
            }
        };
        change(shift).map_err(|message| self.error(place, message))?;
        *end = self.closing;
        Ok(expr)
    }

    fn set_offset(&mut self, expr: Expr, offset: crate::ast::Length) -> Parsed<Expr> {
        let (offset, offset_expr) = length::split(offset);
        self.shifted(expr, "offset", |shift| {
            if shift.offset != 0 || shift.offset_expr.is_some() {
                return Err("offset may not be set multiple times");
            }
            (shift.offset, shift.offset_expr) = (offset, offset_expr);
            Ok(())
        })
    }

    /// What stands behind `@`.
    fn at(&mut self, expr: Expr) -> Parsed<Expr> {
        let at = match self.peek()?.kind {
            Kind::Preprocessor(word @ (Preprocessor::Start | Preprocessor::End)) => {
                self.next()?;
                self.expect(Kind::LeftParen)?;
                self.expect(Kind::RightParen)?;
                if word == Preprocessor::Start { At::Start } else { At::End }
            }
            _ => {
                let sign = self.sign()?;
                let value = self.number()?.value;
                let seconds = if sign.is_some_and(|(negative, _)| negative) { -value } else { value };
                if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
                    let text = if seconds.is_finite() { format!("{seconds:.6}") } else { number::plain(seconds) };
                    let message = format!("timestamp out of bounds for @ modifier: {text}");
                    return Err(self.error(expr.place(), message));
                }
                At::Time((seconds * 1000.0).round() as i64)
            }
        };
        self.shifted(expr, "@", |shift| match shift.at.replace(at) {
            Some(_) => Err("@ <timestamp> may not be set multiple times"),
            None => Ok(()),
        })
    }

    /// `anchored` or `smoothed` behind an expression.
    fn extended(&mut self, mut expr: Expr, keyword: Keyword) -> Parsed<Expr> {
        let name = if keyword == Keyword::Anchored { "anchored" } else { "smoothed" };
        let place = expr.place();
        if !self.features.extended_ranges {
            return Err(self.error(place, format!("{name} modifier is experimental and not enabled")));
        }
        let selector = match &mut expr {
            Expr::Selector(selector) => &mut **selector,
            Expr::Matrix(matrix) => &mut matrix.selector,
            Expr::Subquery(_) => {
                return Err(self.error(place, format!("{name} modifier is not supported for subqueries")));
            }
            _ => return Err(self.error(place, format!("{name} modifier not implemented"))),
        };
        match keyword {
            Keyword::Anchored => selector.anchored = true,
            _ => selector.smoothed = true,
        }
        if selector.anchored && selector.smoothed {
            return Err(self.error(place, "anchored and smoothed modifiers cannot be used together"));
        }
        Ok(expr)
    }
}

#[cfg(test)]
mod tests;
