//! Stages.
//!
//! ```text
//! options ─ input ─ agent ─ environment ─ when ─► steps │ stages │ branches ─► post
//!    (when comes before options, input or agent where it says so)
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use groovy::{
    fault::{Outcome, Stop, throw},
    interpret::Strand,
    value::{Value, closure::Closure},
};
use serde_json::{Map as Object, Value as Json};

use super::{
    Runner,
    retry::is_outside,
    spot::{Spot, StageState, at},
    step::message_of,
    values,
    world::Event,
};
use crate::{
    model::{Stage, Work},
    result::Result,
};

/// Combinations of a matrix.
const CELLS: usize = 256;

impl Runner {
    /// Stages one after another. A failure skips those after it and is given back, so that what is around can go on to its `post`.
    pub(super) fn sequence(&self, strand: &mut Strand, stages: &[Stage], closure: &Closure) -> Outcome<Option<Stop>> {
        let mut first: Option<Stop> = None;
        for stage in stages {
            if first.is_some() {
                self.skip(strand, stage, "earlier failure(s)");
                continue;
            }
            let (unstable, result) = {
                let state = self.state();
                (state.skip_unstable, state.result)
            };
            if unstable && result == Result::Unstable {
                self.skip(strand, stage, "earlier stage(s) marking the build as unstable");
                continue;
            }
            match self.stage(strand, stage, closure, None) {
                Ok(()) => {}
                // All of it is done again, from the agent on.
                Err(Stop::Throw(exception, place)) if Spot::of(strand).retried && is_outside(&exception) => {
                    return Err(Stop::Throw(exception, place));
                }
                Err(Stop::Throw(exception, place)) => first = Some(Stop::Throw(exception, place)),
                Err(stop) => return Err(stop),
            }
        }
        Ok(first)
    }

    fn skip(&self, strand: &mut Strand, stage: &Stage, reason: &str) {
        let spot = Spot::of(strand);
        let (id, path) = (spot.key(), path(&spot, &stage.name));
        self.world.tell(began(&spot, &id, &path, &stage.name));
        self.log(&spot, &format!("Stage \"{}\" skipped due to {reason}", stage.name));
        self.world.tell(Event::Finished { id, path, result: None, reason: Some(format!("skipped due to {reason}")) });
    }

    /// `stage('name') { }` of a script.
    pub(super) fn scripted_stage(
        &self,
        strand: &mut Strand,
        name: &str,
        work: impl FnOnce(&mut Strand) -> Outcome,
    ) -> Outcome {
        self.staged(strand, name, true, |strand| work(strand).map(|value| (value, None)))
    }

    /// A branch of a script's `parallel`.
    pub(super) fn branch_stage(
        &self,
        strand: &mut Strand,
        name: &str,
        work: impl FnOnce(&mut Strand) -> Outcome,
    ) -> Outcome {
        self.staged(strand, name, false, |strand| work(strand).map(|value| (value, None)))
    }

    /// Begins a stage, does its work, and tells how it ended. The work says why it was skipped, if it was.
    fn staged(
        &self,
        strand: &mut Strand,
        name: &str,
        named: bool,
        work: impl FnOnce(&mut Strand) -> Outcome<(Value, Option<String>)>,
    ) -> Outcome {
        let mut spot = (*Spot::of(strand)).clone();
        let (id, path) = (spot.key(), path(&spot, name));
        self.world.tell(began(&spot, &id, &path, name));
        let state = Arc::new(StageState { id: id.clone(), path: path.clone(), result: Mutex::default() });
        let around = spot.stage.replace(state.clone());
        let retried = spot.retried;
        if named {
            spot.environment.push(("STAGE_NAME".into(), name.to_string()));
        }
        let outcome = at(strand, spot, work);
        let own = *state.result.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, reason) = match &outcome {
            Ok((_, Some(reason))) => (None, Some(reason.clone())),
            Ok((_, None)) => (Some(own), None),
            Err(Stop::Throw(exception, _)) => {
                (Some(own.worse(values::result_of(exception))), Some(message_of(strand, exception)?))
            }
            Err(_) => (Some(Result::Aborted), None),
        };
        let again = retried && matches!(&outcome, Err(Stop::Throw(exception, _)) if is_outside(exception));
        // A stage within another is a part of its result.
        if let (Some(around), Some(result), false) = (around, result, again) {
            let mut outer = around.result.lock().unwrap_or_else(PoisonError::into_inner);
            *outer = outer.worse(result);
        }
        self.world.tell(Event::Finished { id, path, result, reason });
        outcome.map(|(value, _)| value)
    }

    /// A stage of a declarative pipeline; a cell of a matrix has a name and variables of its own.
    pub(super) fn stage(
        &self,
        strand: &mut Strand,
        stage: &Stage,
        closure: &Closure,
        cell: Option<(&str, &[(String, String)])>,
    ) -> Outcome<()> {
        let name = cell.map_or(stage.name.as_str(), |(name, _)| name);
        self.staged(strand, name, true, |strand| {
            let mut spot = (*Spot::of(strand)).clone();
            spot.environment.extend(cell.map(|(_, variables)| variables.to_vec()).unwrap_or_default());
            at(strand, spot, |strand| {
                let reason = self.around(strand, stage, closure)?;
                Ok((Value::Null, reason))
            })
        })
        .map(drop)
    }

    /// Everything around a stage's work, in its order. Why it was skipped, if it was.
    fn around(&self, strand: &mut Strand, stage: &Stage, closure: &Closure) -> Outcome<Option<String>> {
        const SKIPPED: &str = "skipped due to when conditional";
        let when = stage.when.as_ref();
        let skipped = |strand: &mut Strand| -> Outcome<bool> {
            let holds = self.holds(strand, when, closure)?;
            if !holds {
                let spot = Spot::of(strand);
                self.log(&spot, &format!("Stage \"{}\" {SKIPPED}", stage.name));
            }
            Ok(!holds)
        };
        let mut asked = false;
        if when.is_some_and(|when| when.before_options) {
            asked = true;
            if skipped(strand)? {
                return Ok(Some(SKIPPED.into()));
            }
        }
        let reason: Mutex<Option<String>> = Mutex::default();
        let mut within_options = |strand: &mut Strand| -> Outcome {
            let mut asked = asked;
            if !asked && when.is_some_and(|when| when.before_input) {
                asked = true;
                if skipped(strand)? {
                    *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(SKIPPED.into());
                    return Ok(Value::Null);
                }
            }
            let mut spot = (*Spot::of(strand)).clone();
            if let Some(input) = &stage.input {
                self.input(strand, &mut spot, stage, input, closure)?;
            }
            at(strand, spot, |strand| {
                if !asked && when.is_some_and(|when| when.before_agent) {
                    asked = true;
                    if skipped(strand)? {
                        *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(SKIPPED.into());
                        return Ok(Value::Null);
                    }
                }
                let mut checkout = !self.state().skip_checkout;
                if let Some(option) = stage.options.iter().find(|option| option.name == "skipDefaultCheckout") {
                    checkout = !self.skips_checkout(strand, option, closure)?;
                }
                self.in_agent(strand, stage.agent.as_ref(), checkout, closure, |strand| {
                    let spot = self.environment_of(strand, &stage.environment, closure)?;
                    at(strand, spot, |strand| {
                        if !asked && skipped(strand)? {
                            *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(SKIPPED.into());
                            return Ok(Value::Null);
                        }
                        self.work_and_post(strand, stage, closure)
                    })
                })
            })
        };
        self.wrapped(strand, &stage.options, closure, &mut within_options)?;
        Ok(reason.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn work_and_post(&self, strand: &mut Strand, stage: &Stage, closure: &Closure) -> Outcome {
        let outcome = self.work(strand, stage, closure);
        let spot = Spot::of(strand);
        let mut result = match &spot.stage {
            Some(state) => *state.result.lock().unwrap_or_else(PoisonError::into_inner),
            None => Result::Success,
        };
        let failure = match outcome {
            Ok(()) => None,
            Err(Stop::Throw(exception, place)) if spot.retried && is_outside(&exception) => {
                return Err(Stop::Throw(exception, place));
            }
            Err(Stop::Throw(exception, place)) => {
                result = result.worse(values::result_of(&exception));
                self.mark(&spot, values::result_of(&exception));
                Some(Stop::Throw(exception, place))
            }
            Err(stop) => return Err(stop),
        };
        let after = self.post(strand, &stage.post, result, closure)?;
        match failure.or(after) {
            Some(stop) => Err(stop),
            None => Ok(Value::Null),
        }
    }

    fn work(&self, strand: &mut Strand, stage: &Stage, closure: &Closure) -> Outcome<()> {
        match &stage.work {
            Work::Steps(steps) => strand.execute(&steps.body, closure).map(drop),
            Work::Stages(stages) => match self.sequence(strand, stages, closure)? {
                Some(stop) => Err(stop),
                None => Ok(()),
            },
            Work::Parallel(stages) => {
                let branches = stages
                    .iter()
                    .map(|branch| {
                        let work: Box<dyn FnOnce(&mut Strand) -> Outcome + Send + '_> =
                            Box::new(move |strand| self.stage(strand, branch, closure, None).map(|()| Value::Null));
                        (branch.name.clone(), work)
                    })
                    .collect();
                let fail_fast = stage.fail_fast || self.state().fail_fast;
                self.side_by_side(strand, fail_fast, branches).map(drop)
            }
            Work::Matrix(matrix) => {
                let Some(cells) = matrix.cells(CELLS) else {
                    return Err(throw(
                        "IllegalArgumentException",
                        format!("a matrix has at most {CELLS} combinations"),
                    ));
                };
                let named: Vec<(String, Vec<(String, String)>)> = cells
                    .into_iter()
                    .map(|cell| {
                        let parts: Vec<String> =
                            cell.iter().map(|(name, value)| format!("{name} = '{value}'")).collect();
                        (format!("Matrix - {}", parts.join(", ")), cell)
                    })
                    .collect();
                let branches = named
                    .iter()
                    .map(|(name, cell)| {
                        let work: Box<dyn FnOnce(&mut Strand) -> Outcome + Send + '_> = Box::new(move |strand| {
                            self.stage(strand, &matrix.cell, closure, Some((name, cell))).map(|()| Value::Null)
                        });
                        (name.clone(), work)
                    })
                    .collect();
                let fail_fast = stage.fail_fast || self.state().fail_fast;
                self.side_by_side(strand, fail_fast, branches).map(drop)
            }
        }
    }

    /// Asks a person; what is answered are variables of the stage.
    fn input(
        &self,
        strand: &mut Strand,
        spot: &mut Spot,
        stage: &Stage,
        input: &crate::model::Input,
        closure: &Closure,
    ) -> Outcome<()> {
        let mut asked = Object::new();
        for (name, value) in &input.settings {
            let text = self.text(strand, value, closure)?;
            asked.insert(name.clone(), Json::String(text));
        }
        asked.entry("id").or_insert_with(|| Json::String(stage.name.clone()));
        let mut parameters = Vec::new();
        for parameter in &input.parameters {
            let arguments = self.directive(strand, parameter, closure)?;
            let mut described = match values::json(&Value::Map(arguments)) {
                Json::Object(fields) => fields,
                _ => Object::new(),
            };
            described.insert("kind".into(), Json::String(parameter.name.clone()));
            parameters.push(Json::Object(described));
        }
        let names: Vec<String> =
            parameters.iter().filter_map(|one| one.get("name").and_then(Json::as_str).map(str::to_string)).collect();
        asked.insert("parameters".into(), Json::Array(parameters));
        let submitter = asked.get("submitterParameter").and_then(Json::as_str).map(str::to_string);
        let answer = self.ask(strand, "input", Json::Object(asked))?;
        let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_string);
        match &answer {
            Json::Object(fields) => {
                spot.environment.extend(fields.iter().map(|(name, value)| (name.clone(), text(value))));
            }
            Json::Null => {}
            // One answer alone comes without its name.
            value => {
                if let Some(name) = names.first().or(submitter.as_ref()) {
                    spot.environment.push((name.clone(), text(value)));
                }
            }
        }
        Ok(())
    }
}

fn began(spot: &Spot, id: &str, path: &str, name: &str) -> Event {
    Event::Began {
        id: id.to_string(),
        parent: spot.stage.as_ref().map(|stage| stage.id.clone()),
        // The first of its branch is the branch.
        branch: !spot.branch.is_empty() && id.strip_prefix(&*spot.branch) == Some("/0"),
        path: path.to_string(),
        name: name.to_string(),
    }
}

fn path(spot: &Spot, name: &str) -> String {
    let name = name.replace('/', "\u{2215}");
    match &spot.stage {
        Some(stage) => format!("{}/{name}", stage.path),
        None => name,
    }
}
