//! Conditions of stages.

use groovy::{
    fault::{Outcome, throw},
    interpret::Strand,
    tree::Argument,
    value::{Value, closure::Closure, show},
};
use regex::Regex;

use super::{Runner, spot::Spot};
use crate::{
    ant, catalogue,
    model::{Condition, When},
};

impl Runner {
    /// Whether a stage is to run.
    pub(super) fn holds(&self, strand: &mut Strand, when: Option<&When>, closure: &Closure) -> Outcome<bool> {
        let Some(when) = when else { return Ok(true) };
        for condition in &when.conditions {
            if !self.condition(strand, condition, closure)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn condition(&self, strand: &mut Strand, condition: &Condition, closure: &Closure) -> Outcome<bool> {
        match condition.name.as_str() {
            "allOf" => {
                for child in &condition.children {
                    if !self.condition(strand, child, closure)? {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            "anyOf" => {
                for child in &condition.children {
                    if self.condition(strand, child, closure)? {
                        return Ok(true);
                    }
                }
                return Ok(false);
            }
            "not" => {
                let Some(child) = condition.children.first() else { return Ok(true) };
                return Ok(!self.condition(strand, child, closure)?);
            }
            "expression" => {
                let Some(code) = &condition.code else { return Ok(false) };
                let value = strand.execute(&code.body, closure)?;
                // A word says it too.
                return Ok(match &value {
                    Value::Text(text) => !text.is_empty() && !text.eq_ignore_ascii_case("false"),
                    value => groovy::operator::truth(value),
                });
            }
            _ => {}
        }
        let mut given: Vec<(String, Value)> = Vec::new();
        for argument in &condition.arguments {
            match argument {
                Argument::Named(key, value) => {
                    given.push((key.text().unwrap_or_default().to_string(), strand.evaluate(value, closure)?));
                }
                Argument::Value(value) => {
                    let first = catalogue::find(catalogue::CONDITIONS, &condition.name)
                        .and_then(|signature| signature.parameters.first())
                        .map_or("value", |parameter| parameter.name);
                    given.push((first.to_string(), strand.evaluate(value, closure)?));
                }
                Argument::Spread(_) | Argument::SpreadMap(_) => {}
            }
        }
        let value = |name: &str| given.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let text = |name: &str| value(name).map(|value| show::text(&value));
        let comparator = text("comparator");
        let spot = Spot::of(strand);
        let variable = |name: &str| self.environment(&spot, name);
        Ok(match condition.name.as_str() {
            "branch" => match variable("BRANCH_NAME") {
                Some(branch) => {
                    compared(comparator.as_deref().unwrap_or("GLOB"), &text("pattern").unwrap_or_default(), &branch)?
                }
                None => false,
            },
            "buildingTag" => variable("TAG_NAME").is_some_and(|tag| !tag.is_empty()),
            "tag" => match variable("TAG_NAME") {
                Some(tag) => match text("pattern") {
                    Some(pattern) => compared(comparator.as_deref().unwrap_or("GLOB"), &pattern, &tag)?,
                    None => true,
                },
                None => false,
            },
            "changeRequest" => {
                let fields = [
                    ("id", "CHANGE_ID"),
                    ("target", "CHANGE_TARGET"),
                    ("branch", "CHANGE_BRANCH"),
                    ("fork", "CHANGE_FORK"),
                    ("url", "CHANGE_URL"),
                    ("title", "CHANGE_TITLE"),
                    ("author", "CHANGE_AUTHOR"),
                    ("authorDisplayName", "CHANGE_AUTHOR_DISPLAY_NAME"),
                    ("authorEmail", "CHANGE_AUTHOR_EMAIL"),
                ];
                let mut holds = variable("CHANGE_ID").is_some();
                for (field, name) in fields {
                    if let Some(pattern) = text(field) {
                        let actual = variable(name).unwrap_or_default();
                        holds = holds && compared(comparator.as_deref().unwrap_or("EQUALS"), &pattern, &actual)?;
                    }
                }
                holds
            }
            "changeset" => {
                let pattern = text("pattern").unwrap_or_default();
                let mut any = false;
                let exact = value("caseSensitive").is_some_and(|value| groovy::operator::truth(&value));
                for (_, path) in self.start.commits.iter().flat_map(|commit| &commit.paths) {
                    any |= match exact || comparator.as_deref().is_some_and(|comparator| comparator != "GLOB") {
                        true => compared(comparator.as_deref().unwrap_or("GLOB"), &pattern, path)?,
                        // As upstream has it where nothing is said.
                        false => compared("GLOB", &pattern.to_lowercase(), &path.to_lowercase())?,
                    };
                }
                any
            }
            "changelog" => {
                let pattern = expression(&text("pattern").unwrap_or_default())?;
                self.start.commits.iter().any(|commit| {
                    let message = commit.message.trim_end();
                    pattern.is_match(message) || message.lines().any(|line| pattern.is_match(line))
                })
            }
            "environment" => {
                let actual = variable(&text("name").unwrap_or_default()).unwrap_or_default();
                let wanted = text("value").unwrap_or_default();
                match value("ignoreCase").is_some_and(|value| groovy::operator::truth(&value)) {
                    true => actual.to_lowercase() == wanted.to_lowercase(),
                    false => actual == wanted,
                }
            }
            "equals" => {
                let (expected, actual) = (value("expected").unwrap_or_default(), value("actual").unwrap_or_default());
                groovy::operator::equal(&expected, &actual)
            }
            "isRestartedRun" => self.start.cause == "restart",
            "triggeredBy" => {
                let wanted = text("type").or_else(|| text("cause")).unwrap_or_default();
                let cause = match self.start.cause.as_str() {
                    "user" => "UserIdCause",
                    "timer" => "TimerTriggerCause",
                    "scm" => "SCMTriggerCause",
                    "upstream" => "UpstreamCause",
                    other => other,
                };
                wanted == cause || wanted.rsplit(['.', '$']).next() == Some(cause)
            }
            name => return Err(throw("IllegalArgumentException", format!("unknown condition {name:?}"))),
        })
    }
}

fn expression(pattern: &str) -> Outcome<Regex> {
    Regex::new(&format!("(?s)^(?:{pattern})$"))
        .map_err(|error| throw("PatternSyntaxException", format!("{pattern:?}: {error}")))
}

fn compared(comparator: &str, pattern: &str, actual: &str) -> Outcome<bool> {
    match comparator {
        "EQUALS" => Ok(pattern == actual),
        "GLOB" => Ok(pattern == actual || ant::fits(pattern, actual)),
        "REGEXP" => Ok(expression(pattern)?.is_match(actual)),
        other => Err(throw("IllegalArgumentException", format!("{other} is no comparator: EQUALS, GLOB or REGEXP"))),
    }
}
