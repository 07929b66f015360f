//! Conditions of stages.

use groovy::tree::{Argument, ExpressionKind};

use super::{Reader, Section};
use crate::{
    catalogue,
    model::{Condition, When},
};

/// How deep conditions may nest.
const DEPTH: usize = 50;

impl Reader<'_> {
    pub(super) fn when(&mut self, section: &Section<'_>) -> Option<When> {
        let body = self.full_body(section, "no condition")?;
        let mut when = When { conditions: Vec::new(), before_agent: false, before_input: false, before_options: false };
        for inner in self.sections(&body.body, "a condition: branch 'name', expression { } ...") {
            let before = match inner.name {
                "beforeAgent" => Some(&mut when.before_agent),
                "beforeInput" => Some(&mut when.before_input),
                "beforeOptions" => Some(&mut when.before_options),
                _ => None,
            };
            match before {
                Some(before) => match inner.arguments {
                    [Argument::Value(value)] if matches!(value.kind, ExpressionKind::Bool(_)) => {
                        *before = matches!(value.kind, ExpressionKind::Bool(true));
                    }
                    _ => self.error(inner.span, format!("{} is true or false", inner.name)),
                },
                None => when.conditions.extend(self.condition(&inner, 0)),
            }
        }
        if when.conditions.is_empty() && !body.body.is_empty() {
            self.error(section.span, "no condition in the when section");
        }
        Some(when)
    }

    fn condition(&mut self, section: &Section<'_>, depth: usize) -> Option<Condition> {
        if depth > DEPTH {
            self.error(section.span, format!("conditions nest at most {DEPTH} deep"));
            return None;
        }
        let mut condition = Condition {
            name: section.name.to_string(),
            arguments: section.given().to_vec(),
            children: Vec::new(),
            code: None,
            span: section.span,
        };
        match section.name {
            "expression" => match section.body {
                Some(body) if section.given().is_empty() => condition.code = Some(body.clone()),
                _ => self.error(section.span, "expression is a block: expression { }"),
            },
            "allOf" | "anyOf" | "not" => {
                let Some(body) = section.body.filter(|_| section.given().is_empty()) else {
                    self.error(section.span, format!("{} holds conditions, and has no arguments", section.name));
                    return None;
                };
                for inner in self.sections(&body.body, "a condition: branch 'name', expression { } ...") {
                    condition.children.extend(self.condition(&inner, depth + 1));
                }
                match (section.name, body.body.len()) {
                    ("not", 1) => {}
                    ("not", _) => self.error(section.span, "not holds one condition"),
                    (name, 0) => self.error(section.span, format!("{name} holds at least one condition")),
                    _ => {}
                }
            }
            name => {
                let Some(signature) = catalogue::find(catalogue::CONDITIONS, name) else {
                    let names: Vec<&str> = catalogue::CONDITIONS.iter().map(|signature| signature.name).collect();
                    let message = format!(
                        "unknown condition {name:?}: expecting one of {}, expression, allOf, anyOf, not",
                        names.join(", ")
                    );
                    self.error(section.span, message);
                    return None;
                };
                if section.body.is_some() {
                    self.error(section.span, format!("condition {name:?} holds no others"));
                }
                self.arguments(signature, section);
            }
        }
        Some(condition)
    }
}
