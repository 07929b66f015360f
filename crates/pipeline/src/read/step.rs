//! Steps: calls, and nothing else. Code stands in `script { }`.

use std::sync::Arc;

use groovy::tree::{Argument, Expression, ExpressionKind, Function, StatementKind};

use super::{Reader, Section, section};
use crate::catalogue;

impl Reader<'_> {
    /// Checks the steps of a block.
    pub(super) fn steps(&mut self, body: &Arc<Function>) {
        let mut count = 0;
        let mut branches = None;
        for statement in &body.body {
            count += 1;
            let value = match &statement.kind {
                StatementKind::Expression(value) => value,
                _ => {
                    self.error(statement.span, "expecting a step; code stands in script { }");
                    continue;
                }
            };
            match &value.kind {
                ExpressionKind::Call(call) => match section(call, value.span) {
                    Some(step) if step.name == "parallel" => {
                        branches = Some(step.span);
                        self.branches(&step);
                    }
                    Some(step) => self.step(&step),
                    None => {
                        self.error(value.span, "expecting a step, not a method of an object; those stand in script { }")
                    }
                },
                _ => self.error(value.span, "expecting a step; code stands in script { }"),
            }
        }
        if let Some(span) = branches.filter(|_| count > 1) {
            self.error(span, "parallel is the only step of its block, where it is one");
        }
    }

    fn step(&mut self, step: &Section<'_>) {
        if catalogue::BLOCKED.contains(&step.name) {
            self.error(step.span, format!("invalid step {:?} here: sections of the pipeline say that", step.name));
            return;
        }
        if step.name == "script" {
            if step.body.is_none() || !step.given().is_empty() {
                self.error(step.span, "script is a block: script { }");
            }
            return;
        }
        for argument in step.given() {
            self.value(argument_value(argument));
        }
        match catalogue::find(catalogue::STEPS, step.name) {
            Some(signature) => {
                if signature.block && step.body.is_none() && step.name != "catchError" {
                    self.error(step.span, format!("{} needs a block", step.name));
                }
                if !signature.block && step.body.is_some() {
                    self.error(step.span, format!("{} has no block", step.name));
                }
                self.arguments(signature, step);
            }
            None => self.repeated(step),
        }
        if let Some(body) = step.body {
            self.steps(body);
        }
    }

    /// `parallel(a: { }, b: { }, failFast: true)`
    fn branches(&mut self, step: &Section<'_>) {
        let mut count = 0;
        for argument in step.arguments {
            let Argument::Named(key, value) = argument else {
                self.error(argument.span(), "parallel takes names with blocks: parallel(a: { }, b: { })");
                continue;
            };
            match (&value.kind, key.text()) {
                (ExpressionKind::Closure(body), _) => {
                    count += 1;
                    if body.body.is_empty() {
                        self.error(value.span, "no steps specified for this branch");
                    }
                    self.steps(body);
                }
                (ExpressionKind::Bool(_), Some("failFast")) => {}
                (_, Some("failFast")) => self.error(value.span, "failFast is true or false"),
                _ => self.error(value.span, "a branch of parallel is a block"),
            }
        }
        if count == 0 {
            self.error(step.span, "parallel needs at least one branch");
        }
    }

    /// Refuses steps that have no place in a value.
    pub(super) fn value(&mut self, value: &Expression) {
        match &value.kind {
            ExpressionKind::Call(call) => {
                if let Some(name) = call.name()
                    && catalogue::BLOCKED.contains(&name)
                {
                    self.error(value.span, format!("invalid step {name:?} in a value"));
                }
                for argument in &call.arguments {
                    self.value(argument_value(argument));
                }
            }
            ExpressionKind::List(entries) | ExpressionKind::Map(entries) => {
                for entry in entries {
                    self.value(argument_value(entry));
                }
            }
            ExpressionKind::Binary(_, left, right) => {
                self.value(left);
                self.value(right);
            }
            _ => {}
        }
    }
}

pub(super) fn argument_value(argument: &Argument) -> &Expression {
    match argument {
        Argument::Value(value) | Argument::Named(_, value) | Argument::Spread(value) | Argument::SpreadMap(value) => {
            value
        }
    }
}
