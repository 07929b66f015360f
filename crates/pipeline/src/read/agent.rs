//! Agents: `any`, `none`, or a block that names a kind.

use groovy::tree::{Argument, ExpressionKind};

use super::{Reader, Section};
use crate::{catalogue, model::Agent};

impl Reader<'_> {
    pub(super) fn agent(&mut self, section: &Section<'_>) -> Option<Agent> {
        if !section.called {
            self.error(section.span, "agent needs a kind: agent any, agent none or agent { label 'name' }");
            return None;
        }
        match section.given() {
            [Argument::Value(value)] if section.body.is_none() => match value.name() {
                Some("any") => return Some(Agent::Any),
                Some("none") => return Some(Agent::None),
                Some("dockerfile") => return Some(Agent::Kind { kind: "dockerfile".into(), settings: Vec::new() }),
                name => {
                    let name = name.unwrap_or("this");
                    self.error(
                        value.span,
                        format!("{name} is no kind of agent that stands alone: expecting any or none"),
                    );
                    return None;
                }
            },
            _ => {}
        }
        let body = self.body(section)?;
        let mut agent = None;
        for inner in self.sections(&body.body, "a kind of agent: label 'name'") {
            if agent.is_some() {
                self.error(inner.span, "an agent has one kind");
                break;
            }
            agent = Some(self.agent_kind(&inner));
        }
        match agent {
            Some(agent) => agent,
            None => {
                self.error(section.span, "no kind of agent in the agent section");
                None
            }
        }
    }

    fn agent_kind(&mut self, section: &Section<'_>) -> Option<Agent> {
        if !section.called && matches!(section.name, "any" | "none") {
            return Some(if section.name == "any" { Agent::Any } else { Agent::None });
        }
        let Some(signature) = catalogue::find(catalogue::AGENTS, section.name) else {
            let names: Vec<&str> = catalogue::AGENTS.iter().map(|signature| signature.name).collect();
            let message = format!("invalid kind of agent {:?}: expecting one of {}", section.name, names.join(", "));
            self.error(section.span, message);
            return None;
        };
        let kind = section.name.to_string();
        let mut settings = Vec::new();
        match (section.given(), section.body) {
            ([], Some(body)) => {
                let mut seen = Vec::new();
                for inner in self.sections(&body.body, &format!("a setting of {kind}: name value")) {
                    if self.once(&mut seen, &inner) {
                        continue;
                    }
                    let Some(parameter) = signature.parameter(inner.name) else {
                        let names: Vec<&str> = signature.parameters.iter().map(|parameter| parameter.name).collect();
                        let message = format!(
                            "invalid setting {:?} of {kind}: expecting one of {}",
                            inner.name,
                            names.join(", ")
                        );
                        self.error(inner.span, message);
                        continue;
                    };
                    match inner.arguments {
                        [Argument::Value(value)] => {
                            self.fits(signature, parameter, value);
                            settings.push((inner.name.to_string(), value.clone()));
                        }
                        _ => self.error(inner.span, format!("setting {:?} of {kind} has one value", inner.name)),
                    }
                }
                for parameter in signature.parameters.iter().filter(|parameter| parameter.required) {
                    if !seen.contains(&parameter.name) {
                        self.error(section.span, format!("missing required setting {:?} of {kind}", parameter.name));
                    }
                }
            }
            ([Argument::Value(value)], None) if !matches!(value.kind, ExpressionKind::Map(_)) => {
                let first = &signature.parameters[0];
                self.fits(signature, first, value);
                settings.push((first.name.to_string(), value.clone()));
            }
            (given, None) => {
                self.arguments(signature, section);
                for argument in given {
                    if let Argument::Named(key, value) = argument
                        && let Some(key) = key.text()
                    {
                        settings.push((key.to_string(), value.clone()));
                    }
                }
            }
            _ => self.error(section.span, format!("{kind} has a value or a block: {kind} 'value'")),
        }
        Some(Agent::Kind { kind, settings })
    }
}
