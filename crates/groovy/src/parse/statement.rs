//! Statements.

use super::Parser;
use crate::{
    lex::{Kind, Word},
    source::Error,
    tree::{Catch, Expression, ExpressionKind, Statement, StatementKind},
};

impl Parser<'_> {
    pub(super) fn statement_here(&mut self) -> Result<Statement, Error> {
        let start = self.span();
        if self.is_sign("@") {
            self.annotations()?;
        }
        let kind = match self.peek() {
            Kind::Word(word) => match word {
                Word::If => self.condition()?,
                Word::While => {
                    self.at += 1;
                    let condition = self.in_parentheses()?;
                    StatementKind::While { condition, body: self.body()?, first: false }
                }
                Word::Do => {
                    self.at += 1;
                    let body = self.body()?;
                    self.take(";");
                    if !self.take_word(Word::While) {
                        return Err(self.unexpected());
                    }
                    StatementKind::While { condition: self.in_parentheses()?, body, first: true }
                }
                Word::For => self.repetition()?,
                Word::Switch => self.switch()?,
                Word::Try => self.attempt()?,
                Word::Throw => {
                    self.at += 1;
                    StatementKind::Throw(self.expression()?)
                }
                Word::Return => {
                    self.at += 1;
                    let next = self.next();
                    let none = next.line || matches!(next.kind, Kind::End | Kind::Sign(";" | "}"));
                    StatementKind::Return(if none { None } else { Some(self.command()?) })
                }
                Word::Break | Word::Continue => {
                    let is_break = *word == Word::Break;
                    self.at += 1;
                    let label = match self.peek() {
                        Kind::Name(name) if !self.next().line => {
                            let name = name.clone();
                            self.at += 1;
                            Some(name)
                        }
                        _ => None,
                    };
                    if is_break { StatementKind::Break(label) } else { StatementKind::Continue(label) }
                }
                Word::Assert => {
                    self.at += 1;
                    let condition = self.expression()?;
                    let message = if self.take(":") || self.take(",") { Some(self.expression()?) } else { None };
                    StatementKind::Assert(condition, message)
                }
                Word::Import => return Err(self.source.error(start, "import stands at the beginning of a script")),
                Word::Class | Word::Interface | Word::Enum => {
                    return Err(self
                        .source
                        .error(start, "class definition not expected here; define it outside of blocks"));
                }
                _ => return self.declaration_or_expression(),
            },
            Kind::Name(label)
                if matches!(self.peek_at(1), Kind::Sign(":"))
                    && matches!(self.peek_at(2), Kind::Word(Word::For | Word::While | Word::Do) | Kind::Sign("{")) =>
            {
                let label = label.clone();
                self.at += 2;
                let block = if self.is_sign("{") { self.braces()? } else { vec![self.statement()?] };
                StatementKind::Block(Some(label), block)
            }
            _ => return self.declaration_or_expression(),
        };
        Ok(Statement { kind, span: start.to(self.last()) })
    }

    fn declaration_or_expression(&mut self) -> Result<Statement, Error> {
        let start = self.span();
        if let Some(kind) = self.declaration()? {
            return Ok(Statement { kind, span: start.to(self.last()) });
        }
        if let Some(kind) = self.assignment_of_many()? {
            return Ok(Statement { kind, span: start.to(self.last()) });
        }
        let value = self.command()?;
        Ok(Statement { kind: StatementKind::Expression(value), span: start.to(self.last()) })
    }

    /// `(a, b) = value`.
    fn assignment_of_many(&mut self) -> Result<Option<StatementKind>, Error> {
        if !self.is_sign("(") {
            return Ok(None);
        }
        let mut ahead = 1;
        while matches!(self.peek_at(ahead), Kind::Name(_)) && matches!(self.peek_at(ahead + 1), Kind::Sign(",")) {
            ahead += 2;
        }
        let many = ahead > 1
            && matches!(self.peek_at(ahead), Kind::Name(_))
            && matches!(self.peek_at(ahead + 1), Kind::Sign(")"))
            && matches!(self.peek_at(ahead + 2), Kind::Sign("="));
        if !many {
            return Ok(None);
        }
        self.at += 1;
        let mut targets = Vec::new();
        loop {
            let (name, span) = self.name()?;
            targets.push(Expression { kind: ExpressionKind::Name(name), span });
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        self.expect("=")?;
        Ok(Some(StatementKind::AssignMany { targets, value: self.command()? }))
    }

    fn in_parentheses(&mut self) -> Result<Expression, Error> {
        self.expect("(")?;
        let value = self.expression()?;
        self.expect(")")?;
        Ok(value)
    }

    fn condition(&mut self) -> Result<StatementKind, Error> {
        self.at += 1;
        let condition = self.in_parentheses()?;
        let then = self.body()?;
        let semicolon = self.is_sign(";") && matches!(self.peek_at(1), Kind::Word(Word::Else));
        self.at += usize::from(semicolon);
        let otherwise = if self.take_word(Word::Else) { self.body()? } else { Vec::new() };
        Ok(StatementKind::If { condition, then, otherwise })
    }

    fn repetition(&mut self) -> Result<StatementKind, Error> {
        self.at += 1;
        self.expect("(")?;
        let before = self.at;
        if let Some(name) = self.loop_name() {
            let over = self.expression()?;
            self.expect(")")?;
            return Ok(StatementKind::Each { name, over, body: self.body()? });
        }
        self.at = before;
        let start = if self.is_sign(";") { Vec::new() } else { self.loop_parts()? };
        self.expect(";")?;
        let condition = if self.is_sign(";") { None } else { Some(self.expression()?) };
        self.expect(";")?;
        let mut step = Vec::new();
        while !self.is_sign(")") {
            step.push(self.expression()?);
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(StatementKind::For { start, condition, step, body: self.body()? })
    }

    fn loop_parts(&mut self) -> Result<Vec<Statement>, Error> {
        let mut parts = Vec::new();
        loop {
            parts.push(self.declaration_or_expression()?);
            if !self.take(",") {
                return Ok(parts);
            }
        }
    }

    /// `def a in`, `String a :`, `a in`.
    fn loop_name(&mut self) -> Option<String> {
        self.take_modifiers();
        let declared = self.take_word(Word::Def);
        let follows = |parser: &Self| matches!(parser.peek_at(1), Kind::Word(Word::In) | Kind::Sign(":"));
        if !(matches!(self.peek(), Kind::Name(_)) && follows(self)) {
            if declared {
                return None;
            }
            self.try_type()?;
        }
        match self.peek() {
            Kind::Name(name) if follows(self) => {
                let name = name.clone();
                self.at += 2;
                Some(name)
            }
            _ => None,
        }
    }

    fn switch(&mut self) -> Result<StatementKind, Error> {
        self.at += 1;
        let value = self.in_parentheses()?;
        self.expect("{")?;
        let mut cases = Vec::new();
        loop {
            if self.take("}") {
                return Ok(StatementKind::Switch { value, cases });
            }
            let case = match self.peek() {
                Kind::Word(Word::Case) => {
                    self.at += 1;
                    Some(self.expression()?)
                }
                Kind::Word(Word::Default) => {
                    self.at += 1;
                    None
                }
                _ => return Err(self.unexpected()),
            };
            self.expect(":")?;
            let mut body = Vec::new();
            loop {
                while self.take(";") {}
                if matches!(self.peek(), Kind::Word(Word::Case | Word::Default) | Kind::Sign("}")) {
                    break;
                }
                body.push(self.statement()?);
                self.end_of_statement()?;
            }
            cases.push((case, body));
        }
    }

    fn attempt(&mut self) -> Result<StatementKind, Error> {
        self.at += 1;
        let body = self.braces()?;
        let mut catches = Vec::new();
        while self.take_word(Word::Catch) {
            self.expect("(")?;
            self.take_modifiers();
            let mut kinds = Vec::new();
            self.take_word(Word::Def);
            if !(matches!(self.peek(), Kind::Name(_)) && matches!(self.peek_at(1), Kind::Sign(")"))) {
                loop {
                    kinds.push(self.try_type().ok_or_else(|| self.unexpected())?);
                    if !self.take("|") {
                        break;
                    }
                }
            }
            let (name, _) = self.name()?;
            self.expect(")")?;
            catches.push(Catch { kinds, name, body: self.braces()? });
        }
        let finally = if self.take_word(Word::Finally) {
            self.braces()?
        } else if catches.is_empty() {
            return Err(self.source.error(self.span(), "expecting 'catch' or 'finally' after 'try'"));
        } else {
            Vec::new()
        };
        Ok(StatementKind::Try { body, catches, finally })
    }
}
