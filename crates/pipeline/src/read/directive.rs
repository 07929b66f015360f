//! Options, parameters, triggers, tools, libraries, input.

use groovy::tree::{Argument, Expression, ExpressionKind};

use super::{Reader, Section};
use crate::{
    catalogue::{self, Signature},
    model::{Directive, Input, Tool},
};

impl Reader<'_> {
    /// Calls in a block, each known to a table.
    fn directives(
        &mut self,
        section: &Section<'_>,
        what: &str,
        repeat: bool,
        known: impl Fn(&str) -> Option<&'static Signature>,
    ) -> Vec<Directive> {
        let Some(body) = self.full_body(section, &format!("no {what}")) else { return Vec::new() };
        let mut all: Vec<Directive> = Vec::new();
        for inner in self.sections(&body.body, &format!("one of the {what}: name(arguments)")) {
            let Some(signature) = known(inner.name) else {
                self.error(inner.span, format!("invalid {} {:?}", what.trim_end_matches('s'), inner.name));
                continue;
            };
            if inner.body.is_some() {
                self.error(inner.span, format!("{}: a block has no place in the {} section", inner.name, section.name));
                continue;
            }
            if !repeat && all.iter().any(|other| other.name == inner.name) {
                self.error(inner.span, format!("duplicate {:?} in the {} section", inner.name, section.name));
            }
            self.plain(&inner);
            self.arguments(signature, &inner);
            all.push(Directive { name: inner.name.to_string(), arguments: inner.arguments.to_vec(), span: inner.span });
        }
        all
    }

    pub(super) fn options(&mut self, section: &Section<'_>, stage: bool) -> Vec<Directive> {
        self.directives(section, "options", false, |name| {
            let wrapper = catalogue::find(catalogue::STEPS, name)
                .filter(|step| step.block && !catalogue::NO_OPTIONS.contains(&name))
                .or_else(|| catalogue::find(catalogue::WRAPPERS, name));
            let option = catalogue::find(catalogue::OPTIONS, name)
                .filter(|_| !stage || catalogue::STAGE_OPTIONS.contains(&name));
            wrapper.or(option)
        })
    }

    pub(super) fn parameters(&mut self, section: &Section<'_>) -> Vec<Directive> {
        self.directives(section, "parameters", true, |name| catalogue::find(catalogue::PARAMETERS, name))
    }

    pub(super) fn triggers(&mut self, section: &Section<'_>) -> Vec<Directive> {
        self.directives(section, "triggers", false, |name| catalogue::find(catalogue::TRIGGERS, name))
    }

    pub(super) fn tools(&mut self, section: &Section<'_>) -> Vec<Tool> {
        let Some(body) = self.full_body(section, "no tools") else { return Vec::new() };
        let mut tools = Vec::new();
        for inner in self.sections(&body.body, "a tool: maven 'name'") {
            if !catalogue::TOOLS.contains(&inner.name) {
                let names = catalogue::TOOLS.join(", ");
                self.error(inner.span, format!("invalid kind of tool {:?}: expecting one of {names}", inner.name));
                continue;
            }
            match inner.arguments {
                [Argument::Value(name)] if inner.body.is_none() => {
                    tools.push(Tool { kind: inner.name.to_string(), name: name.clone() });
                }
                _ => self.error(inner.span, format!("tool {:?} needs a name: {} 'name'", inner.name, inner.name)),
            }
        }
        tools
    }

    pub(super) fn libraries(&mut self, section: &Section<'_>) -> Vec<Expression> {
        let Some(body) = self.full_body(section, "no library") else { return Vec::new() };
        let mut libraries = Vec::new();
        for inner in self.sections(&body.body, "a library: lib('name@version')") {
            match (inner.name, inner.arguments) {
                ("lib", [Argument::Value(name)]) if inner.body.is_none() => {
                    let plain = matches!(name.kind, ExpressionKind::Text(_) | ExpressionKind::Template(_));
                    if !plain {
                        self.error(name.span, "a library's name is a string");
                    }
                    libraries.push(name.clone());
                }
                _ => self.error(inner.span, "expecting a library: lib('name@version')"),
            }
        }
        libraries
    }

    pub(super) fn input(&mut self, section: &Section<'_>) -> Option<Input> {
        let body = self.body(section)?;
        let mut input = Input { settings: Vec::new(), parameters: Vec::new() };
        let mut seen = Vec::new();
        for inner in self.sections(&body.body, "a field of input: message 'text'") {
            if self.once(&mut seen, &inner) {
                continue;
            }
            match (inner.name, inner.given()) {
                ("parameters", _) => input.parameters = self.parameters(&inner),
                (name, [Argument::Value(value)]) if catalogue::INPUT.contains(&name) && inner.body.is_none() => {
                    input.settings.push((name.to_string(), value.clone()));
                }
                (name, _) => {
                    let names = catalogue::INPUT.join(", ");
                    self.error(inner.span, format!("invalid field {name:?} of input: expecting {names} or parameters"));
                }
            }
        }
        if !input.settings.iter().any(|(name, _)| name == "message") {
            self.error(section.span, "missing required field \"message\" of input");
        }
        Some(input)
    }
}
