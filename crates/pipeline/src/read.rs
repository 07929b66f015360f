//! A script's tree to a model.
//!
//! All errors of a script are found, not only the first. Rules are those of the declarative pipeline's own validation
//! (<https://github.com/jenkinsci/pipeline-model-definition-plugin>): which section stands where, how often, and with what in it.

use std::sync::Arc;

use groovy::{
    interpret::Program,
    source::{Error, Span},
    tree::{Argument, Block, Call, Callee, Expression, ExpressionKind, Function, Statement, StatementKind},
};

use crate::model::Pipeline;

mod agent;
mod arguments;
mod directive;
mod environment;
mod matrix;
mod stage;
mod step;
mod when;

/// The model of a script; none where it is scripted.
pub fn read(program: &Program) -> Result<Option<Pipeline>, Vec<Error>> {
    let mut reader = Reader { program, errors: Vec::new() };
    let mut found = Vec::new();
    reader.find(&program.script.body, 0, &mut found);
    for function in &program.script.functions {
        // A function may hold a pipeline of its own, which a library's caller runs.
        let mut own = Vec::new();
        reader.find(&function.body, 0, &mut own);
        for (_, body) in own {
            reader.pipeline(&body);
        }
    }
    let mut pipeline = None;
    for (index, (span, body)) in found.iter().enumerate() {
        if index > 0 {
            reader.error(*span, "only one pipeline { } stands in a script");
        }
        pipeline = Some(reader.pipeline(body));
    }
    if reader.errors.is_empty() { Ok(pipeline) } else { Err(reader.errors) }
}

/// The model of one block of `pipeline { }`.
pub fn pipeline(program: &Program, body: &Arc<Function>) -> Result<Pipeline, Vec<Error>> {
    let mut reader = Reader { program, errors: Vec::new() };
    let pipeline = reader.pipeline(body);
    if reader.errors.is_empty() { Ok(pipeline) } else { Err(reader.errors) }
}

struct Reader<'a> {
    program: &'a Program,
    errors: Vec<Error>,
}

/// A call that stands where a section may.
struct Section<'a> {
    name: &'a str,
    arguments: &'a [Argument],
    body: Option<&'a Arc<Function>>,
    /// It was called, rather than only named.
    called: bool,
    span: Span,
}

impl Section<'_> {
    /// Arguments without the block.
    fn given(&self) -> &[Argument] {
        &self.arguments[..self.arguments.len() - usize::from(self.body.is_some())]
    }
}

impl<'a> Reader<'a> {
    fn error(&mut self, span: Span, message: impl Into<String>) {
        let error = self.program.source.error(span, message);
        // One mistake may be seen from two sides.
        if self.errors.len() < 1000 && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Pipelines among statements. Within another step's block a pipeline has no place; within a condition it has.
    fn find(&mut self, block: &'a [Statement], depth: usize, found: &mut Vec<(Span, Arc<Function>)>) {
        for statement in block {
            match &statement.kind {
                StatementKind::Expression(Expression { kind: ExpressionKind::Call(call), span }) => match call.name() {
                    Some("pipeline") => match call.arguments.as_slice() {
                        [Argument::Value(Expression { kind: ExpressionKind::Closure(body), .. })] => {
                            if depth > 0 {
                                self.error(*span, "pipeline { } stands in no other block");
                            }
                            found.push((*span, body.clone()));
                        }
                        _ => self.error(*span, "pipeline needs a block, and nothing else: pipeline { }"),
                    },
                    _ => {
                        for argument in &call.arguments {
                            if let Argument::Value(Expression { kind: ExpressionKind::Closure(body), .. }) = argument
                                && depth < 50
                            {
                                self.find(&body.body, depth + 1, found);
                            }
                        }
                    }
                },
                StatementKind::If { then, otherwise, .. } => {
                    let before = found.len();
                    self.find(then, depth, found);
                    let mut other = Vec::new();
                    self.find(otherwise, depth, &mut other);
                    // Of two branches one runs.
                    if found.len() == before {
                        found.extend(other);
                    } else {
                        for (_, body) in other {
                            self.pipeline(&body);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Statements as sections; what is none is an error.
    fn sections<'b>(&mut self, block: &'b Block, what: &str) -> Vec<Section<'b>> {
        let mut sections = Vec::new();
        for statement in block {
            let StatementKind::Expression(value) = &statement.kind else {
                self.error(statement.span, format!("expecting {what}"));
                continue;
            };
            match &value.kind {
                ExpressionKind::Call(call) => match section(call, value.span) {
                    Some(section) => sections.push(section),
                    None => self.error(value.span, format!("expecting {what}")),
                },
                ExpressionKind::Name(name) => {
                    sections.push(Section { name, arguments: &[], body: None, called: false, span: value.span });
                }
                _ => self.error(value.span, format!("expecting {what}")),
            }
        }
        sections
    }

    /// Refuses a section that is there twice; whether it was there.
    fn once<'b>(&mut self, seen: &mut Vec<&'b str>, section: &Section<'b>) -> bool {
        if seen.contains(&section.name) {
            self.error(section.span, format!("multiple occurrences of the {} section", section.name));
            return true;
        }
        seen.push(section.name);
        false
    }

    /// The block of a section that has one, and nothing else.
    fn body<'b>(&mut self, section: &Section<'b>) -> Option<&'b Arc<Function>> {
        match section.body {
            Some(body) if section.given().is_empty() => Some(body),
            _ => {
                self.error(section.span, format!("the {} section is a block: {} {{ }}", section.name, section.name));
                None
            }
        }
    }

    /// The same, which is not empty.
    fn full_body<'b>(&mut self, section: &Section<'b>, what: &str) -> Option<&'b Arc<Function>> {
        let body = self.body(section)?;
        if body.body.is_empty() {
            self.error(section.span, format!("{what} in the {} section", section.name));
            return None;
        }
        Some(body)
    }
}

fn section(call: &Call, span: Span) -> Option<Section<'_>> {
    let Callee::Name(name, _) = &call.callee else { return None };
    let body = match call.arguments.last() {
        Some(Argument::Value(Expression { kind: ExpressionKind::Closure(body), .. })) => Some(body),
        _ => None,
    };
    Some(Section { name, arguments: &call.arguments, body, called: true, span })
}

#[cfg(test)]
mod tests;
