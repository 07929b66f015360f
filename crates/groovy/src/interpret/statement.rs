//! Statements.

use std::sync::Arc;

use super::Strand;
use crate::{
    fault::{Outcome, Place, Stop, is_kind, throw},
    operator,
    tree::{Catch, Expression, Statement, StatementKind, Type},
    value::{Value, closure::Scope, show},
};

/// What a round of a loop says.
enum Round {
    Next,
    End,
}

impl Strand {
    /// Statements in a scope of their own; the value of the last.
    pub(super) fn nested(&mut self, block: &[Statement], scope: &Arc<Scope>) -> Outcome {
        if block.is_empty() {
            return Ok(Value::Null);
        }
        self.block(block, &Scope::within(scope))
    }

    pub(super) fn block(&mut self, block: &[Statement], scope: &Arc<Scope>) -> Outcome {
        let mut last = Value::Null;
        for statement in block {
            last = self.statement(statement, scope, None)?;
        }
        Ok(last)
    }

    fn statement(&mut self, statement: &Statement, scope: &Arc<Scope>, label: Option<&str>) -> Outcome {
        self.tick()?;
        self.deeper(|strand| strand.statement_here(statement, scope, label))
    }

    fn statement_here(&mut self, statement: &Statement, scope: &Arc<Scope>, label: Option<&str>) -> Outcome {
        match &statement.kind {
            StatementKind::Expression(value) => return self.eval(value, scope),
            StatementKind::Declare { names, kind, field } => self.declare(names, kind.as_ref(), *field, scope)?,
            StatementKind::DeclareMany { names, value } => {
                let values = self.eval(value, scope)?;
                let values = self.items(&values)?;
                for (index, name) in names.iter().enumerate() {
                    scope.declare(name, values.get(index).cloned().unwrap_or_default());
                }
            }
            StatementKind::AssignMany { targets, value } => {
                let values = self.eval(value, scope)?;
                let values = self.items(&values)?;
                for (index, target) in targets.iter().enumerate() {
                    self.assign(target, values.get(index).cloned().unwrap_or_default(), scope)?;
                }
            }
            StatementKind::If { condition, then, otherwise } => {
                let branch = if self.holds(condition, scope)? { then } else { otherwise };
                return self.nested(branch, scope);
            }
            StatementKind::While { condition, body, first } => {
                let mut ahead = *first;
                while ahead || self.holds(condition, scope)? {
                    ahead = false;
                    if let Round::End = self.round(body, &Scope::within(scope), label)? {
                        break;
                    }
                }
            }
            StatementKind::For { start, condition, step, body } => {
                let scope = Scope::within(scope);
                self.block(start, &scope)?;
                loop {
                    if let Some(condition) = condition
                        && !self.holds(condition, &scope)?
                    {
                        break;
                    }
                    if let Round::End = self.round(body, &Scope::within(&scope), label)? {
                        break;
                    }
                    for step in step {
                        self.eval(step, &scope)?;
                    }
                    self.tick()?;
                }
            }
            StatementKind::Each { name, over, body } => {
                let over = self.eval(over, scope)?;
                let count = self.iterable(&over)?;
                for index in 0..count.len() {
                    let scope = Scope::within(scope);
                    scope.declare(name, count.at(index));
                    if let Round::End = self.round(body, &scope, label)? {
                        break;
                    }
                }
            }
            StatementKind::Switch { value, cases } => return self.switch(value, cases, scope),
            StatementKind::Try { body, catches, finally } => return self.attempt(body, catches, finally, scope),
            StatementKind::Throw(value) => {
                let value = self.eval(value, scope)?;
                let place = Some(self.place(statement.span));
                let throwable = match &value {
                    Value::Exception(_) => true,
                    Value::Object(object) => object.class.root().is_some_and(|root| is_kind(root, "Throwable")),
                    _ => false,
                };
                if !throwable {
                    let message = format!("Cannot cast object '{}' to class 'java.lang.Throwable'", show::text(&value));
                    return Err(throw("GroovyCastException", message));
                }
                return Err(Stop::Throw(value, place));
            }
            StatementKind::Return(value) => {
                let value = match value {
                    Some(value) => self.eval(value, scope)?,
                    None => Value::Null,
                };
                return Err(Stop::Return(value));
            }
            StatementKind::Break(label) => return Err(Stop::Break(label.clone())),
            StatementKind::Continue(label) => return Err(Stop::Continue(label.clone())),
            StatementKind::Assert(condition, message) => {
                if !self.holds(condition, scope)? {
                    let text = self.program.source.slice(condition.span).trim().to_string();
                    let stop = match message {
                        Some(message) => {
                            let message = self.eval(message, scope)?;
                            let message = self.show(&message)?;
                            throw("AssertionError", format!("{message}. Expression: {text}"))
                        }
                        None => throw("PowerAssertionError", format!("assert {text}")),
                    };
                    let Stop::Throw(value, _) = stop else { return Err(stop) };
                    return Err(Stop::Throw(value, Some(self.place(statement.span))));
                }
            }
            StatementKind::Block(name, body) => {
                let scope = Scope::within(scope);
                for statement in body {
                    match self.statement(statement, &scope, name.as_deref()) {
                        Err(Stop::Break(Some(target))) if Some(&target) == name.as_ref() => return Ok(Value::Null),
                        result => result?,
                    };
                }
            }
        }
        Ok(Value::Null)
    }

    fn declare(
        &mut self,
        names: &[(String, Option<Expression>)],
        kind: Option<&Type>,
        field: bool,
        scope: &Arc<Scope>,
    ) -> Outcome<()> {
        for (name, value) in names {
            let value = match (value, kind) {
                (Some(value), kind) => {
                    let value = self.eval(value, scope)?;
                    match kind {
                        Some(kind) => self.converted(value, kind)?,
                        None => value,
                    }
                }
                (None, Some(kind)) if kind.arrays == 0 => operator::zero(&kind.name),
                (None, _) => Value::Null,
            };
            if field {
                self.bind(name, value);
            } else {
                scope.declare(name, value);
            }
        }
        Ok(())
    }

    pub(super) fn holds(&mut self, condition: &Expression, scope: &Arc<Scope>) -> Outcome<bool> {
        let value = self.eval(condition, scope)?;
        self.truth(&value)
    }

    fn round(&mut self, body: &[Statement], scope: &Arc<Scope>, label: Option<&str>) -> Outcome<Round> {
        self.tick()?;
        match self.block(body, scope) {
            Ok(_) => Ok(Round::Next),
            Err(Stop::Break(None)) => Ok(Round::End),
            Err(Stop::Continue(None)) => Ok(Round::Next),
            Err(Stop::Continue(Some(target))) if Some(target.as_str()) == label => Ok(Round::Next),
            Err(stop) => Err(stop),
        }
    }

    fn switch(
        &mut self,
        value: &Expression,
        cases: &[(Option<Expression>, Vec<Statement>)],
        scope: &Arc<Scope>,
    ) -> Outcome {
        let value = self.eval(value, scope)?;
        let mut from = None;
        for (index, (case, _)) in cases.iter().enumerate() {
            let Some(case) = case else { continue };
            let case = self.eval(case, scope)?;
            if self.is_case(&case, &value)? {
                from = Some(index);
                break;
            }
        }
        let Some(from) = from.or_else(|| cases.iter().position(|(case, _)| case.is_none())) else {
            return Ok(Value::Null);
        };
        let scope = Scope::within(scope);
        let mut last = Value::Null;
        for (_, body) in &cases[from..] {
            match self.block(body, &scope) {
                Err(Stop::Break(None)) => return Ok(last),
                result => last = result?,
            }
        }
        Ok(last)
    }

    fn attempt(&mut self, body: &[Statement], catches: &[Catch], finally: &[Statement], scope: &Arc<Scope>) -> Outcome {
        let mut result = self.nested(body, scope);
        if let Err(Stop::Throw(value, place)) = result {
            result = self.handle(value, place, catches, scope);
        }
        // What ends a script goes through no code of it.
        if !finally.is_empty() && !matches!(result, Err(Stop::Limit(..) | Stop::Ended(_))) {
            self.nested(finally, scope)?;
        }
        result
    }

    fn handle(&mut self, value: Value, place: Option<Place>, catches: &[Catch], scope: &Arc<Scope>) -> Outcome {
        for catch in catches {
            // `catch (e)` is `catch (Exception e)`.
            let caught = match catch.kinds.as_slice() {
                [] => is_thrown(&value, "Exception"),
                kinds => kinds.iter().any(|kind| is_thrown(&value, &kind.name)),
            };
            if caught {
                let scope = Scope::within(scope);
                scope.declare(&catch.name, value);
                return self.block(&catch.body, &scope);
            }
        }
        Err(Stop::Throw(value, place))
    }
}

/// Whether an exception is of a class.
fn is_thrown(value: &Value, class: &str) -> bool {
    match value {
        Value::Exception(exception) => is_kind(&exception.class, class),
        Value::Object(object) => object.class.is(class),
        _ => false,
    }
}
