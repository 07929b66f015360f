//! Variables of the environment: `NAME = value`.

use groovy::tree::{Argument, Callee, Expression, ExpressionKind, StatementKind};

use super::{Reader, Section};
use crate::model::Variable;

impl Reader<'_> {
    pub(super) fn environment(&mut self, section: &Section<'_>) -> Vec<Variable> {
        let Some(body) = self.full_body(section, "no variables") else { return Vec::new() };
        let mut variables: Vec<Variable> = Vec::new();
        for statement in &body.body {
            let assignment = match &statement.kind {
                StatementKind::Expression(Expression {
                    kind: ExpressionKind::Assign { target, operation: None, value },
                    ..
                }) => Some((target, value)),
                _ => None,
            };
            let Some((target, value)) = assignment else {
                self.error(statement.span, "expecting a variable: NAME = 'value'");
                continue;
            };
            let Some(name) = target.name().filter(|name| is_identifier(name)) else {
                let name = self.program.source.slice(target.span).to_string();
                self.error(
                    target.span,
                    format!("{name:?} is not a valid name: letters, digits and underscores, no digit first"),
                );
                continue;
            };
            if variables.iter().any(|variable| variable.name == name) {
                self.error(target.span, format!("duplicate environment variable {name:?}"));
            }
            self.environment_value(value, false);
            variables.push(Variable { name: name.to_string(), value: (**value).clone() });
        }
        variables
    }

    /// Strings, constants, names, calls, and sums of these.
    fn environment_value(&mut self, value: &Expression, part: bool) {
        match &value.kind {
            ExpressionKind::Text(_)
            | ExpressionKind::Template(_)
            | ExpressionKind::Int(_)
            | ExpressionKind::Long(_)
            | ExpressionKind::Decimal(_)
            | ExpressionKind::Double(_)
            | ExpressionKind::Bool(_)
            | ExpressionKind::Null
            | ExpressionKind::Name(_)
            | ExpressionKind::Property { .. }
            | ExpressionKind::Index { .. } => {}
            ExpressionKind::Call(call) => match &call.callee {
                Callee::Name(name, _) if name == "credentials" => {
                    if part {
                        self.error(value.span, "credentials(...) is a whole value, and no part of one");
                    }
                    if !matches!(call.arguments.as_slice(), [Argument::Value(_)]) {
                        self.error(value.span, "credentials needs the id of a credential: credentials('id')");
                    }
                }
                _ => {}
            },
            ExpressionKind::Binary("+", left, right) => {
                self.environment_value(left, true);
                self.environment_value(right, true);
            }
            ExpressionKind::Unary("!", inner) if !part => self.environment_value(inner, false),
            _ => {
                self.error(value.span, "an environment variable's value is a string, a name, a call, or a sum of these")
            }
        }
    }
}

/// Whether a shell takes it as a variable's name.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
