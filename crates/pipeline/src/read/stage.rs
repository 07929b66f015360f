//! The pipeline itself, stages, and what comes after them.

use std::sync::Arc;

use groovy::{
    source::Span,
    tree::{Argument, ExpressionKind, Function},
};

use super::{Reader, Section};
use crate::model::{Agent, Pipeline, Post, PostCondition, Stage, Work};

const SECTIONS: &str = "agent, stages, post, environment, tools, options, parameters, triggers or libraries";
const STAGE_SECTIONS: &str =
    "agent, steps, stages, parallel, matrix, post, environment, tools, options, when, input or failFast";

/// Where a stage stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Within {
    /// Among others, one after another.
    Sequence,
    /// Somewhere within branches that run side by side, where no others may begin.
    Branches,
}

impl<'a> Reader<'a> {
    pub(super) fn pipeline(&mut self, body: &Arc<Function>) -> Pipeline {
        let mut pipeline = Pipeline {
            body: body.clone(),
            agent: Agent::None,
            stages: Vec::new(),
            post: Vec::new(),
            environment: Vec::new(),
            tools: Vec::new(),
            options: Vec::new(),
            parameters: Vec::new(),
            triggers: Vec::new(),
            libraries: Vec::new(),
        };
        let mut seen = Vec::new();
        for section in self.sections(&body.body, &format!("a section: {SECTIONS}")) {
            if self.once(&mut seen, &section) {
                continue;
            }
            match section.name {
                "agent" => pipeline.agent = self.agent(&section).unwrap_or(Agent::None),
                "stages" => pipeline.stages = self.stages(&section, Within::Sequence),
                "post" => pipeline.post = self.post(&section),
                "environment" => pipeline.environment = self.environment(&section),
                "tools" => pipeline.tools = self.tools(&section),
                "options" => pipeline.options = self.options(&section, false),
                "parameters" => pipeline.parameters = self.parameters(&section),
                "triggers" => pipeline.triggers = self.triggers(&section),
                "libraries" => pipeline.libraries = self.libraries(&section),
                name => self.error(section.span, format!("undefined section {name:?}: expecting {SECTIONS}")),
            }
        }
        for required in ["agent", "stages"] {
            if !seen.contains(&required) {
                self.error(body.span, format!("missing required section {required:?}"));
            }
        }
        pipeline
    }

    /// Stages in a block.
    pub(super) fn stages(&mut self, section: &Section<'_>, within: Within) -> Vec<Stage> {
        let Some(body) = self.full_body(section, "no stages specified") else { return Vec::new() };
        let mut stages: Vec<Stage> = Vec::new();
        for inner in self.sections(&body.body, "a stage: stage('name') { }") {
            if inner.name != "stage" {
                self.error(inner.span, format!("expecting a stage, found {:?}", inner.name));
                continue;
            }
            let Some(stage) = self.stage(&inner, within) else { continue };
            if stages.iter().any(|other| other.name == stage.name) {
                self.error(inner.span, format!("duplicate stage name: {:?}", stage.name));
            }
            stages.push(stage);
        }
        stages
    }

    fn stage(&mut self, section: &Section<'_>, within: Within) -> Option<Stage> {
        let name = match section.given() {
            [Argument::Value(name)] => match &name.kind {
                ExpressionKind::Text(text) if text.is_empty() => {
                    self.error(name.span, "a stage's name is not empty");
                    return None;
                }
                ExpressionKind::Text(text) => text.to_string(),
                // A name with code in it is what is written.
                ExpressionKind::Template(_) => self.program.source.slice(name.span).trim_matches('"').to_string(),
                _ => {
                    self.error(name.span, "a stage's name is a string");
                    return None;
                }
            },
            _ => {
                self.error(section.span, "a stage has a name, and nothing else: stage('name') { }");
                return None;
            }
        };
        let Some(body) = section.body else {
            self.error(section.span, format!("stage {name:?} has no block"));
            return None;
        };
        Some(self.stage_body(name, body, section.span, within))
    }

    /// What stands in a stage's block.
    pub(super) fn stage_body(&mut self, name: String, body: &Arc<Function>, span: Span, within: Within) -> Stage {
        let mut stage = Stage {
            name,
            agent: None,
            work: Work::Stages(Vec::new()),
            post: Vec::new(),
            environment: Vec::new(),
            tools: Vec::new(),
            options: Vec::new(),
            when: None,
            input: None,
            fail_fast: false,
            span,
        };
        let mut seen = Vec::new();
        let mut places: Vec<(&str, Span)> = Vec::new();
        for section in self.sections(&body.body, &format!("a section: {STAGE_SECTIONS}")) {
            if self.once(&mut seen, &section) {
                continue;
            }
            places.push((section.name, section.span));
            match section.name {
                "agent" => stage.agent = self.agent(&section),
                "steps" => {
                    if let Some(body) = self.full_body(&section, "no steps specified") {
                        self.steps(body);
                        stage.work = Work::Steps(body.clone());
                    }
                }
                "stages" => stage.work = Work::Stages(self.stages(&section, within)),
                "parallel" | "matrix" if within == Within::Branches => {
                    let message = format!(
                        "stage {:?} runs side by side with others: no {} section stands in it, however deep",
                        stage.name, section.name
                    );
                    self.error(section.span, message);
                }
                "parallel" => stage.work = Work::Parallel(self.stages(&section, Within::Branches)),
                "matrix" => {
                    if let Some(matrix) = self.matrix(&section) {
                        stage.work = Work::Matrix(Box::new(matrix));
                    }
                }
                "post" => stage.post = self.post(&section),
                "environment" => stage.environment = self.environment(&section),
                "tools" => stage.tools = self.tools(&section),
                "options" => stage.options = self.options(&section, true),
                "when" => stage.when = self.when(&section),
                "input" => stage.input = self.input(&section),
                "failFast" => match section.given() {
                    [Argument::Value(value)] if matches!(value.kind, ExpressionKind::Bool(_)) => {
                        stage.fail_fast = matches!(value.kind, ExpressionKind::Bool(true));
                    }
                    _ => self.error(section.span, "failFast is true or false"),
                },
                name => self.error(section.span, format!("unknown stage section {name:?}: expecting {STAGE_SECTIONS}")),
            }
        }
        let works: Vec<&(&str, Span)> =
            places.iter().filter(|(name, _)| matches!(*name, "steps" | "stages" | "parallel" | "matrix")).collect();
        match works.as_slice() {
            [] => {
                let message = format!("stage {:?} needs one of steps, stages, parallel or matrix", stage.name);
                self.error(span, message);
            }
            [_] => {}
            [_, second, ..] => {
                let message = format!("stage {:?} has only one of steps, stages, parallel or matrix", stage.name);
                self.error(second.1, message);
            }
        }
        if let Some((branches, _)) = places.iter().find(|(name, _)| matches!(*name, "parallel" | "matrix")) {
            for (name, place) in places.iter().filter(|(name, _)| matches!(*name, "agent" | "tools")) {
                let message = format!(
                    "{name} does not stand beside {branches} in stage {:?}: each branch has its own",
                    stage.name
                );
                self.error(*place, message);
            }
        }
        stage
    }

    pub(super) fn post(&mut self, section: &Section<'_>) -> Vec<Post> {
        let Some(body) = self.full_body(section, "no condition") else { return Vec::new() };
        let mut seen = Vec::new();
        let mut all = Vec::new();
        for inner in self.sections(&body.body, "a condition: always, success, failure ...") {
            let known = PostCondition::ALL.iter().find(|(name, _)| *name == inner.name);
            let Some((_, condition)) = known else {
                let names: Vec<&str> = PostCondition::ALL.iter().map(|(name, _)| *name).collect();
                self.error(
                    inner.span,
                    format!("invalid condition {:?}: expecting one of {}", inner.name, names.join(", ")),
                );
                continue;
            };
            if seen.contains(&inner.name) {
                self.error(inner.span, format!("duplicate condition {:?}", inner.name));
                continue;
            }
            seen.push(inner.name);
            if let Some(body) = self.full_body(&inner, "no steps specified") {
                self.steps(body);
                all.push(Post { condition: *condition, body: body.clone() });
            }
        }
        all.sort_by_key(|post| post.condition);
        all
    }
}
