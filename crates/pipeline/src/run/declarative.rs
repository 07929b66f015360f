//! A declarative pipeline: agent, environment, options, stages, post.

use std::sync::Arc;

use groovy::{
    fault::{Outcome, Stop, throw},
    interpret::Strand,
    value::{
        Value,
        closure::{Closure, Kind},
    },
};

use super::{
    Runner,
    retry::is_outside,
    spot::{Spot, at},
    step::message_of,
    values,
};
use crate::{
    model::{Pipeline, Post, PostCondition},
    result::Result,
};

impl Runner {
    /// Runs `pipeline { }`.
    pub(super) fn declarative(&self, strand: &mut Strand, closure: &Arc<Closure>) -> Outcome {
        let Kind::Written { function, program, .. } = &closure.kind else {
            return Err(throw("IllegalArgumentException", "pipeline needs a block"));
        };
        let pipeline = match crate::read::pipeline(program, function) {
            Ok(pipeline) => pipeline,
            Err(errors) => {
                let texts: Vec<String> = errors.iter().take(50).map(ToString::to_string).collect();
                return Err(throw("IllegalArgumentException", texts.join("\n")));
            }
        };
        self.defaults(strand, &pipeline, closure)?;
        self.settings(strand, &pipeline.options, closure)?;
        let checkout = !self.state().skip_checkout;
        let result = self.in_agent(strand, Some(&pipeline.agent), checkout, closure, |strand| {
            let spot = match self.environment_of(strand, &pipeline.environment, closure) {
                Ok(spot) => spot,
                Err(stop) => return self.after_failure(strand, stop, &pipeline.post, closure),
            };
            at(strand, spot, |strand| {
                let mut stages = |strand: &mut Strand| {
                    let skipped = self.sequence(strand, &pipeline.stages, closure)?;
                    match skipped {
                        Some(stop) => Err(stop),
                        None => Ok(Value::Null),
                    }
                };
                let result = self.wrapped(strand, &pipeline.options, closure, &mut stages);
                match result {
                    Err(stop) => self.after_failure(strand, stop, &pipeline.post, closure),
                    Ok(_) => {
                        let result = self.state().result;
                        match self.post(strand, &pipeline.post, result, closure)? {
                            Some(stop) => Err(stop),
                            None => Ok(Value::Null),
                        }
                    }
                }
            })
        });
        match result {
            Err(Stop::Throw(exception, place)) => {
                self.worsen(values::result_of(&exception));
                Err(Stop::Throw(exception, place))
            }
            result => result,
        }
    }

    /// What a failure makes of the run, then `post`, then the failure again.
    fn after_failure(&self, strand: &mut Strand, stop: Stop, post: &[Post], closure: &Closure) -> Outcome {
        let Stop::Throw(exception, place) = stop else { return Err(stop) };
        if Spot::of(strand).retried && is_outside(&exception) {
            return Err(Stop::Throw(exception, place));
        }
        self.worsen(values::result_of(&exception));
        let result = self.state().result;
        self.post(strand, post, result, closure)?;
        Err(Stop::Throw(exception, place))
    }

    /// Values of parameters that were not given.
    fn defaults(&self, strand: &mut Strand, pipeline: &Pipeline, closure: &Closure) -> Outcome<()> {
        for parameter in &pipeline.parameters {
            let arguments = self.directive(strand, parameter, closure)?;
            let Some(name) = arguments.named("name") else { continue };
            if self.parameters.get(&name).is_some() {
                continue;
            }
            let default = arguments.named("defaultValue").filter(|value| !value.is_null());
            let value = match (parameter.name.as_str(), default) {
                ("booleanParam", default) => Value::Bool(default.is_some_and(|value| groovy::operator::truth(&value))),
                ("choice", _) => {
                    let choices = match arguments.named("choices") {
                        Some(Value::List(list)) => list.items(),
                        Some(text) => groovy::value::show::text(&text).lines().map(Value::from).collect(),
                        None => Vec::new(),
                    };
                    choices.into_iter().next().unwrap_or_default()
                }
                (_, Some(default)) => default,
                (_, None) => Value::from(""),
            };
            self.parameters.insert(name, value);
        }
        Ok(())
    }

    /// What comes after, in the order of its conditions; the first failure in it, which the conditions after it see.
    pub(super) fn post(
        &self,
        strand: &mut Strand,
        post: &[Post],
        result: Result,
        closure: &Closure,
    ) -> Outcome<Option<Stop>> {
        let mut result = result;
        let mut first: Option<Stop> = None;
        for post in post {
            if !post.condition.holds(result, self.start.before) {
                continue;
            }
            match strand.execute(&post.body.body, closure) {
                Ok(_) => {}
                Err(Stop::Throw(exception, place)) => {
                    let name = PostCondition::ALL.iter().find(|(_, condition)| *condition == post.condition);
                    let spot = Spot::of(strand);
                    let message = message_of(strand, &exception)?;
                    self.log(
                        &spot,
                        &format!(
                            "Error when executing {} post condition: {message}",
                            name.map_or("", |(name, _)| name)
                        ),
                    );
                    result = result.worse(values::result_of(&exception));
                    self.mark(&spot, values::result_of(&exception));
                    first.get_or_insert(Stop::Throw(exception, place));
                }
                // What ends the run is not put off.
                Err(stop) => return Err(stop),
            }
        }
        Ok(first)
    }
}
