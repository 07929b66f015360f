//! What a Jenkinsfile declares of its pipeline: parameters, triggers, how many runs there are at once and for how long they are kept.
//!
//! It is read, not run: values that are written out are known, others (`"${env.DAYS}"`) are as if nothing were said. A declarative pipeline
//! says it in its sections, a scripted one in `properties([...])`
//! (<https://www.jenkins.io/doc/pipeline/steps/workflow-multibranch/#properties-set-job-properties>).

use groovy::{
    interpret::Program,
    tree::{Argument, Call, Callee, Expression, ExpressionKind, StatementKind, TemplatePart},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::{
    catalogue,
    kind::{Concurrency, Parameter, Retention, Triggers, Upstream},
    left::discard,
    model::{Directive, Pipeline},
};

/// Parameters of one pipeline.
const MOST_PARAMETERS: usize = 200;
/// Triggers of one kind.
const MOST_TRIGGERS: usize = 50;
/// Calls within calls.
const DEPTH: usize = 50;

/// What is declared. What is not said is nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Declared {
    /// Parameters of runs.
    pub parameters: Vec<Parameter>,
    /// What starts runs.
    pub triggers: Option<Triggers>,
    /// What is kept.
    pub retention: Option<Retention>,
    /// Runs at the same time.
    pub concurrency: Option<Concurrency>,
    /// Seconds between what starts a run and its beginning.
    pub quiet: Option<u32>,
    /// What cannot be, each with its reason; the rest counts.
    pub wrong: Vec<String>,
}

/// A call with its arguments, as far as they are written out.
struct Known<'a> {
    name: &'a str,
    /// By name; the one without a name is `""`.
    arguments: Map<String, Json>,
}

impl Known<'_> {
    fn any(&self, name: &str) -> Option<&Json> {
        let first = [catalogue::OPTIONS, catalogue::PARAMETERS, catalogue::TRIGGERS]
            .iter()
            .find_map(|table| catalogue::find(table, self.name))
            .and_then(|signature| signature.parameters.first());
        let bare = || self.arguments.get("").filter(|_| first.is_some_and(|first| first.name == name));
        self.arguments.get(name).or_else(bare).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.any(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_string))
    }

    fn truth(&self, name: &str) -> bool {
        self.any(name).is_some_and(|value| *value == Json::Bool(true) || value == "true")
    }
}

/// What a script declares; `pipeline` is its model, where it has one.
pub fn read(program: &Program, pipeline: Option<&Pipeline>) -> Declared {
    let mut declared = Declared::default();
    match pipeline {
        Some(pipeline) => {
            let all = [&pipeline.options, &pipeline.parameters, &pipeline.triggers];
            for directive in all.into_iter().flatten() {
                declared.take(&of_directive(directive), 0);
            }
        }
        None => {
            for statement in &program.script.body {
                if let StatementKind::Expression(Expression { kind: ExpressionKind::Call(call), .. }) = &statement.kind
                    && call.name() == Some("properties")
                {
                    declared.calls(&call.arguments, 0);
                }
            }
        }
    }
    declared
}

fn of_directive(directive: &Directive) -> Known<'_> {
    Known { name: &directive.name, arguments: arguments(&directive.arguments, 0) }
}

fn of_call(call: &Call, depth: usize) -> Option<Known<'_>> {
    let name = match &call.callee {
        Callee::Name(name, _) => name,
        _ => return None,
    };
    Some(Known { name, arguments: arguments(&call.arguments, depth) })
}

fn arguments(given: &[Argument], depth: usize) -> Map<String, Json> {
    let mut known = Map::new();
    for argument in given {
        match argument {
            Argument::Named(key, value) => {
                if let (Some(name), Some(value)) = (key.text(), literal(value, depth)) {
                    known.insert(name.to_string(), value);
                }
            }
            Argument::Value(value) => match literal(value, depth) {
                Some(Json::Object(fields)) if !fields.contains_key("$call") => known.extend(fields),
                Some(value) => drop(known.insert(String::new(), value)),
                None => {}
            },
            Argument::Spread(_) | Argument::SpreadMap(_) => {}
        }
    }
    known
}

/// A value that is written out. A call is an object with its name as `$call`.
fn literal(value: &Expression, depth: usize) -> Option<Json> {
    if depth > DEPTH {
        return None;
    }
    Some(match &value.kind {
        ExpressionKind::Null => Json::Null,
        ExpressionKind::Bool(value) => Json::Bool(*value),
        ExpressionKind::Int(value) => Json::from(*value),
        ExpressionKind::Long(value) => Json::from(*value),
        ExpressionKind::Text(text) => Json::from(&**text),
        ExpressionKind::Template(parts) => {
            let mut text = String::new();
            for part in parts {
                match part {
                    TemplatePart::Text(part) => text.push_str(part),
                    TemplatePart::Value(_) => return None,
                }
            }
            Json::from(text)
        }
        ExpressionKind::Unary("-", inner) => Json::from(-literal(inner, depth + 1)?.as_i64()?),
        ExpressionKind::Binary("+", left, right) => {
            let (left, right) = (literal(left, depth + 1)?, literal(right, depth + 1)?);
            Json::from(format!("{}{}", left.as_str()?, right.as_str()?))
        }
        ExpressionKind::List(items) => {
            let items = items.iter().map(|item| match item {
                Argument::Value(value) => literal(value, depth + 1),
                _ => None,
            });
            Json::Array(items.collect::<Option<Vec<Json>>>()?)
        }
        ExpressionKind::Map(entries) => Json::Object(arguments(entries, depth + 1)),
        // `hudson.model.Result.SUCCESS`
        ExpressionKind::Property { name, .. } => Json::from(name.text()?),
        ExpressionKind::Call(call) => {
            let known = of_call(call, depth + 1)?;
            let mut fields = known.arguments;
            fields.insert("$call".into(), known.name.into());
            Json::Object(fields)
        }
        _ => return None,
    })
}

impl Declared {
    /// What may stand in a pipeline's status, which more people see than its script: no passwords.
    pub fn shown(&self) -> Self {
        let mut shown = self.clone();
        for parameter in shown.parameters.iter_mut().filter(|parameter| parameter.kind == "password") {
            parameter.default = Json::Null;
        }
        shown
    }

    /// Calls among arguments: those of `properties`, and of what stands in it.
    fn calls(&mut self, given: &[Argument], depth: usize) {
        for argument in given {
            let Argument::Value(value) = argument else { continue };
            match &value.kind {
                ExpressionKind::List(items) if depth < DEPTH => self.calls(items, depth + 1),
                ExpressionKind::Call(call) => match call.name() {
                    Some("parameters" | "pipelineTriggers") if depth < DEPTH => self.calls(&call.arguments, depth + 1),
                    _ => {
                        if let Some(known) = of_call(call, depth) {
                            self.take(&known, depth);
                        }
                    }
                },
                _ => {}
            }
        }
    }

    fn take(&mut self, known: &Known<'_>, depth: usize) {
        match known.name {
            "buildDiscarder" => {
                let Some(Json::Object(strategy)) = known.any("strategy") else { return };
                let given = strategy.iter().filter(|(name, _)| !name.is_empty() && *name != "$call");
                let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_string);
                match discard::rules(given.map(|(name, value)| (name.as_str(), text(value)))) {
                    Ok(rules) => self.retention = Some(rules),
                    Err(error) => self.wrong.push(error),
                }
            }
            "disableConcurrentBuilds" => {
                let abort = known.truth("abortPrevious");
                self.concurrency = Some(if abort { Concurrency::Replace } else { Concurrency::Queue });
            }
            "quietPeriod" => {
                self.quiet = known.text("quietPeriod").and_then(|seconds| seconds.trim().parse().ok());
            }
            "cron" => self.trigger(known.text("spec"), |triggers| &mut triggers.cron),
            "pollSCM" => {
                self.trigger(known.text("scmpoll_spec").or_else(|| known.text("spec")), |triggers| &mut triggers.poll)
            }
            "githubPush" => self.triggers.get_or_insert_default().push = Some(true),
            "upstream" => {
                let threshold = known.text("threshold").map(|name| name.to_ascii_uppercase());
                let projects = known.text("upstreamProjects").unwrap_or_default();
                let upstream = &mut self.triggers.get_or_insert_default().upstream;
                for name in projects.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                    if upstream.len() < MOST_TRIGGERS {
                        let pipeline = name.rsplit('/').next().unwrap_or(name).to_string();
                        upstream.push(Upstream { pipeline, threshold: threshold.clone() });
                    }
                }
            }
            name => {
                if catalogue::find(catalogue::PARAMETERS, name).is_some() && depth < DEPTH {
                    self.parameter(known);
                }
            }
        }
    }

    fn trigger(&mut self, spec: Option<String>, list: fn(&mut Triggers) -> &mut Vec<String>) {
        let Some(spec) = spec.filter(|spec| !spec.trim().is_empty()) else { return };
        let list = list(self.triggers.get_or_insert_default());
        match super::cron::Schedule::read(&spec, "") {
            Err(error) => self.wrong.push(error),
            Ok(_) if list.len() < MOST_TRIGGERS => list.push(spec),
            Ok(_) => {}
        }
    }

    fn parameter(&mut self, known: &Known<'_>) {
        let Some(name) = known.text("name") else { return };
        let kind = match known.name {
            "booleanParam" => "boolean",
            other => other,
        };
        let choices: Vec<String> = match known.any("choices") {
            Some(Json::Array(items)) => items.iter().filter_map(|item| item.as_str().map(str::to_string)).collect(),
            Some(Json::String(text)) => text.lines().map(str::to_string).collect(),
            _ => Vec::new(),
        };
        let default = match (kind, known.any("defaultValue").or_else(|| known.any("defaultValueAsSecret"))) {
            ("boolean", value) => Json::Bool(value.is_some_and(|value| *value == Json::Bool(true) || value == "true")),
            ("choice", _) => choices.first().map_or(Json::Null, |first| first.as_str().into()),
            (_, Some(value)) => value.clone(),
            ("string" | "text" | "password", None) => "".into(),
            (_, None) => Json::Null,
        };
        let description = known.text("description").unwrap_or_default();
        let parameter = Parameter { name, kind: kind.to_string(), description, default, choices };
        match self.parameters.iter().position(|known| known.name == parameter.name) {
            Some(at) => self.parameters[at] = parameter,
            None if self.parameters.len() < MOST_PARAMETERS => self.parameters.push(parameter),
            None => {}
        }
    }
}

/// Parameters of a pipeline: those of its object, and those that its script declared and the object does not name.
pub fn parameters<'a>(own: &'a [Parameter], declared: &'a [Parameter]) -> Vec<&'a Parameter> {
    let others = declared.iter().filter(|other| !own.iter().any(|own| own.name == other.name));
    own.iter().chain(others).collect()
}

#[cfg(test)]
mod tests;
