//! Arguments against what is known of them.

use groovy::tree::{Argument, Expression, ExpressionKind};

use super::{Reader, Section, step::argument_value};
use crate::catalogue::{Kind, Parameter, Signature};

impl Reader<'_> {
    /// Checks a call's arguments.
    pub(super) fn arguments(&mut self, signature: &Signature, call: &Section<'_>) {
        self.repeated(call);
        let given = call.given();
        let names = given.iter().filter(|argument| matches!(argument, Argument::Named(..))).count();
        // A map in place of names, and what is only known when it runs, is checked then.
        if given.iter().any(|argument| matches!(argument, Argument::Spread(_) | Argument::SpreadMap(_))) {
            return;
        }
        if names == 0 {
            match given {
                [] => self.missing(signature, call, &[]),
                [Argument::Value(value)] => {
                    if matches!(value.kind, ExpressionKind::Map(_))
                        && !matches!(signature.parameters.first(), Some(first) if first.kind == Kind::Any)
                    {
                        return;
                    }
                    let Some(first) = signature.parameters.first().filter(|_| signature.bare) else {
                        let message = if signature.parameters.is_empty() {
                            format!("{} takes no argument", signature.name)
                        } else {
                            format!("{} takes named arguments only", signature.name)
                        };
                        self.error(value.span, message);
                        return;
                    };
                    self.fits(signature, first, value);
                    self.missing(signature, call, &[first.name]);
                }
                [_, second, ..] => {
                    let message = format!("too many arguments without a name for {}: one at most", signature.name);
                    self.error(second.span(), message);
                }
                // Named ones and those to be spread are dealt with elsewhere.
                [_] => {}
            }
            return;
        }
        if names < given.len() {
            for argument in given.iter().filter(|argument| matches!(argument, Argument::Value(_))) {
                self.error(argument.span(), format!("{}: arguments with and without names do not mix", signature.name));
            }
            return;
        }
        let mut known = Vec::new();
        for argument in given {
            let Argument::Named(key, value) = argument else { continue };
            let Some(name) = key.text() else {
                self.error(key.span, "an argument's name is a plain word");
                continue;
            };
            match signature.parameter(name) {
                Some(parameter) => {
                    known.push(parameter.name);
                    self.fits(signature, parameter, value);
                }
                None => {
                    let names: Vec<&str> = signature.parameters.iter().map(|parameter| parameter.name).collect();
                    let message = format!(
                        "invalid argument {name:?} of {}: expecting one of {}",
                        signature.name,
                        names.join(", ")
                    );
                    self.error(key.span, message);
                }
            }
        }
        self.missing(signature, call, &known);
    }

    fn missing(&mut self, signature: &Signature, call: &Section<'_>, given: &[&str]) {
        for parameter in signature.parameters.iter().filter(|parameter| parameter.required) {
            if !given.contains(&parameter.name) {
                self.error(call.span, format!("missing required argument {:?} of {}", parameter.name, signature.name));
            }
        }
    }

    /// Refuses an argument that is given twice.
    pub(super) fn repeated(&mut self, call: &Section<'_>) {
        let mut names: Vec<&str> = Vec::new();
        for argument in call.given() {
            if let Argument::Named(key, _) = argument
                && let Some(name) = key.text()
            {
                if names.contains(&name) {
                    self.error(key.span, format!("duplicate argument {name:?} of {}", call.name));
                }
                names.push(name);
            }
        }
    }

    /// Refuses a literal of another type.
    pub(super) fn fits(&mut self, signature: &Signature, parameter: &Parameter, value: &Expression) {
        if matches!(value.kind, ExpressionKind::Closure(_)) && parameter.kind != Kind::Any {
            let message = format!("argument {:?} of {} is no block", parameter.name, signature.name);
            self.error(value.span, message);
            return;
        }
        let fits = match (parameter.kind, &value.kind) {
            (Kind::Text, ExpressionKind::Int(_) | ExpressionKind::Long(_) | ExpressionKind::Decimal(_)) => false,
            (Kind::Text, ExpressionKind::Bool(_) | ExpressionKind::List(_)) => false,
            (Kind::Number, ExpressionKind::Text(text)) => text.trim().parse::<i64>().is_ok(),
            (Kind::Number, ExpressionKind::Bool(_) | ExpressionKind::List(_) | ExpressionKind::Map(_)) => false,
            // A number beyond 64 bits, or with decimals that are not zero.
            (Kind::Number, ExpressionKind::Decimal(value)) => i64::try_from(value.whole()).is_ok(),
            (Kind::Truth, ExpressionKind::Text(text)) => matches!(&**text, "true" | "false"),
            (Kind::Truth, ExpressionKind::Int(_) | ExpressionKind::List(_) | ExpressionKind::Map(_)) => false,
            _ => true,
        };
        if !fits {
            let wanted = match parameter.kind {
                Kind::Text => "a string",
                Kind::Number => "a whole number",
                Kind::Truth => "true or false",
                Kind::Any => "a value",
            };
            let message = format!(
                "expecting {wanted} for argument {:?} of {}, found {}",
                parameter.name,
                signature.name,
                self.program.source.slice(value.span),
            );
            self.error(value.span, message);
        }
    }

    /// Refuses blocks and steps that have no place among arguments.
    pub(super) fn plain(&mut self, call: &Section<'_>) {
        for argument in call.arguments {
            let value = argument_value(argument);
            self.value(value);
            self.no_block(value);
        }
    }

    fn no_block(&mut self, value: &Expression) {
        match &value.kind {
            ExpressionKind::Closure(_) => self.error(value.span, "a block has no place here"),
            ExpressionKind::Call(call) => {
                for argument in &call.arguments {
                    self.no_block(argument_value(argument));
                }
            }
            _ => {}
        }
    }
}
