//! Options: steps around everything, and settings of the run.

use groovy::{
    fault::{Outcome, throw},
    interpret::Strand,
    tree::Argument,
    value::{Value, closure::Closure, map::Map},
};

use super::{Runner, spot::Spot};
use crate::{catalogue, model::Directive};

type Wrapped<'a> = Box<dyn FnMut(&mut Strand) -> Outcome + 'a>;

impl Runner {
    /// The arguments of a directive, by name.
    pub(super) fn directive(&self, strand: &mut Strand, directive: &Directive, closure: &Closure) -> Outcome<Map> {
        let map = Map::default();
        let tables =
            [catalogue::STEPS, catalogue::WRAPPERS, catalogue::OPTIONS, catalogue::PARAMETERS, catalogue::TRIGGERS];
        let first = tables
            .iter()
            .find_map(|table| catalogue::find(table, &directive.name))
            .and_then(|signature| signature.parameters.first())
            .map_or("value", |parameter| parameter.name);
        for argument in &directive.arguments {
            match argument {
                Argument::Named(key, value) => {
                    let value = strand.evaluate(value, closure)?;
                    map.insert(key.text().unwrap_or_default().into(), value);
                }
                // `buildDiscarder(logRotator(...))` describes what the Pipeline object keeps, and is not for a run.
                Argument::Value(_) if matches!(directive.name.as_str(), "buildDiscarder" | "durabilityHint") => {}
                Argument::Value(value) => {
                    let value = strand.evaluate(value, closure)?;
                    match value {
                        Value::Map(given) if first != "bindings" => {
                            for (name, value) in given.entries() {
                                map.insert(name, value);
                            }
                        }
                        value => drop(map.insert(first.into(), value)),
                    }
                }
                Argument::Spread(_) | Argument::SpreadMap(_) => {
                    return Err(throw(
                        "IllegalArgumentException",
                        format!("{}: arguments are written out", directive.name),
                    ));
                }
            }
        }
        Ok(map)
    }

    /// Does something within the steps that options name, the first outermost.
    pub(super) fn wrapped(
        &self,
        strand: &mut Strand,
        options: &[Directive],
        closure: &Closure,
        work: &mut dyn FnMut(&mut Strand) -> Outcome,
    ) -> Outcome {
        let Some((option, rest)) = options.split_first() else { return work(strand) };
        let mut inner: Wrapped<'_> = Box::new(|strand: &mut Strand| self.wrapped(strand, rest, closure, work));
        let known = ["timeout", "retry", "withEnv", "withCredentials", "lock"].contains(&option.name.as_str());
        if !known {
            return inner(strand);
        }
        let arguments = self.directive(strand, option, closure)?;
        self.wrap(strand, &option.name, &arguments, &mut inner)
    }

    /// Sets what options say of the whole run.
    pub(super) fn settings(&self, strand: &mut Strand, options: &[Directive], closure: &Closure) -> Outcome<()> {
        for option in options {
            match option.name.as_str() {
                "parallelsAlwaysFailFast" => self.state().fail_fast = true,
                "skipStagesAfterUnstable" => self.state().skip_unstable = true,
                "skipDefaultCheckout" => self.state().skip_checkout = self.skips_checkout(strand, option, closure)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// `skipDefaultCheckout()`, `skipDefaultCheckout(false)`
    pub(super) fn skips_checkout(&self, strand: &mut Strand, option: &Directive, closure: &Closure) -> Outcome<bool> {
        let arguments = self.directive(strand, option, closure)?;
        Ok(arguments.named("skip").is_none_or(|skip| groovy::operator::truth(&skip)))
    }

    /// Variables of an `environment` section: each sees those before it.
    pub(super) fn environment_of(
        &self,
        strand: &mut Strand,
        variables: &[crate::model::Variable],
        closure: &Closure,
    ) -> Outcome<Spot> {
        let mut spot = (*Spot::of(strand)).clone();
        for variable in variables {
            let credentials = match &variable.value.kind {
                groovy::tree::ExpressionKind::Call(call) if call.name() == Some("credentials") => {
                    match call.arguments.first() {
                        Some(Argument::Value(id)) => Some(id),
                        _ => None,
                    }
                }
                _ => None,
            };
            spot = match credentials {
                Some(id) => super::spot::at(strand, spot, |strand| {
                    let id = self.text(strand, id, closure)?;
                    let mut spot = (*Spot::of(strand)).clone();
                    self.credentials(strand, &mut spot, serde_json::json!({ "id": id, "variable": variable.name }))?;
                    Ok(spot)
                })?,
                None => super::spot::at(strand, spot, |strand| {
                    let value = strand.evaluate(&variable.value, closure)?;
                    let text = strand.show(&value)?;
                    let mut spot = (*Spot::of(strand)).clone();
                    self.set(&mut spot, &variable.name, &text);
                    Ok(spot)
                })?,
            };
        }
        Ok(spot)
    }
}
