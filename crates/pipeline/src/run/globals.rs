//! What a script finds without defining it: `env`, `params`, `currentBuild`, `scm`, `docker`.

use std::{any::Any, fmt, sync::Weak};

use super::{Runner, spot::Spot, world::Event};
use crate::result::Result;
use groovy::{
    fault::{Outcome, throw},
    host::Foreign,
    interpret::Strand,
    value::{Value, map::Map, show},
};

/// Which of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Global {
    Env,
    CurrentBuild,
    Docker,
    /// `docker.image(name)`, `docker.build(name)`
    Image(String),
    /// `image.run()`
    Container(String),
}

/// A global in a script's hands. It does not keep the run alive: the run keeps it.
#[derive(Clone)]
pub(super) struct Handle {
    pub what: Global,
    pub runner: Weak<Runner>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(out)
    }
}

impl Foreign for Handle {
    fn class_name(&self) -> String {
        match self.what {
            Global::Env => "EnvActionImpl",
            Global::CurrentBuild => "RunWrapper",
            Global::Docker => "Docker",
            Global::Image(_) => "Image",
            Global::Container(_) => "Container",
        }
        .into()
    }

    fn show(&self) -> String {
        match &self.what {
            Global::Image(name) | Global::Container(name) => name.clone(),
            _ => self.class_name(),
        }
    }

    fn get(&self, strand: &mut Strand, name: &str) -> Outcome<Option<Value>> {
        let Some(runner) = self.runner.upgrade() else { return Ok(None) };
        let spot = Spot::of(strand);
        Ok(Some(match &self.what {
            // A variable that is not set is null.
            Global::Env => runner.environment(&spot, name).map_or(Value::Null, Value::from),
            Global::CurrentBuild => {
                let state = runner.state();
                let variable = |name: &str| {
                    state.environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
                };
                match name {
                    "result" => {
                        if state.result == Result::Success {
                            Value::Null
                        } else {
                            Value::from(state.result.name())
                        }
                    }
                    "currentResult" | "resultIsBetterOrEqualTo" => Value::from(state.result.name()),
                    "number" => variable("BUILD_NUMBER")
                        .and_then(|number| number.parse().ok())
                        .map_or(Value::Null, Value::whole),
                    "id" => variable("BUILD_ID").or_else(|| variable("BUILD_NUMBER")).map_or(Value::Null, Value::from),
                    "displayName" => {
                        let number = variable("BUILD_NUMBER").map(|number| format!("#{number}"));
                        state.display_name.clone().or(number).map_or(Value::Null, Value::from)
                    }
                    "description" => state.description.clone().map_or(Value::Null, Value::from),
                    "projectName" | "fullProjectName" => variable("JOB_NAME").map_or(Value::Null, Value::from),
                    "absoluteUrl" => variable("BUILD_URL").map_or(Value::Null, Value::from),
                    "changeSets" => super::changes::sets(&runner.start.commits),
                    "previousBuild" | "previousCompletedBuild" => match runner.start.before {
                        Some(result) => Value::Map(
                            ["result", "currentResult"]
                                .map(|name| (Value::from(name), Value::from(result.name())))
                                .into_iter()
                                .collect(),
                        ),
                        None => Value::Null,
                    },
                    _ => return Ok(None),
                }
            }
            Global::Image(image) if name == "id" => Value::from(image.as_str()),
            Global::Container(id) if name == "id" => Value::from(id.as_str()),
            _ => return Ok(None),
        }))
    }

    fn set(&self, _strand: &mut Strand, name: &str, value: Value) -> Outcome<bool> {
        let Some(runner) = self.runner.upgrade() else { return Ok(false) };
        match &self.what {
            Global::Env => {
                let mut state = runner.state();
                state.environment.retain(|(known, _)| known != name);
                if !value.is_null() {
                    state.environment.push((name.to_string(), show::text(&value)));
                }
                Ok(true)
            }
            Global::CurrentBuild => match name {
                "result" => {
                    let text = show::text(&value);
                    match Result::named(&text) {
                        Some(result) => runner.worsen(result),
                        None if value.is_null() => {}
                        None => return Err(throw("IllegalArgumentException", format!("{text} is no result"))),
                    }
                    Ok(true)
                }
                "displayName" | "description" => {
                    let text = Some(show::text(&value)).filter(|_| !value.is_null());
                    let mut state = runner.state();
                    if name == "description" {
                        state.description = text
                    } else {
                        state.display_name = text
                    }
                    let event =
                        Event::Described { name: state.display_name.clone(), description: state.description.clone() };
                    drop(state);
                    runner.world.tell(event);
                    Ok(true)
                }
                _ => Ok(false),
            },
            _ => Ok(false),
        }
    }

    fn call(&self, strand: &mut Strand, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
        let Some(runner) = self.runner.upgrade() else { return Ok(None) };
        let text = |index: usize| arguments.get(index).map(show::text).unwrap_or_default();
        match (&self.what, name) {
            (Global::Env, "getEnvironment") => {
                let spot = Spot::of(strand);
                let all = runner.variables(&spot).into_iter().map(|(name, value)| (name.into(), value.into()));
                Ok(Some(Value::Map(all.collect::<Map>())))
            }
            (Global::Env, "getProperty" | "getAt") => self.get(strand, &text(0)),
            (Global::CurrentBuild, "resultIsBetterOrEqualTo" | "resultIsWorseOrEqualTo") => {
                let Some(other) = Result::named(&text(0)) else {
                    return Err(throw("IllegalArgumentException", format!("{} is no result", text(0))));
                };
                let result = runner.state().result;
                Ok(Some(Value::Bool(if name.contains("Better") { result <= other } else { result >= other })))
            }
            (Global::CurrentBuild, "getBuildCauses") => {
                let cause: Map =
                    [(Value::from("shortDescription"), Value::from(runner.start.cause.as_str()))].into_iter().collect();
                Ok(Some(Value::from(vec![Value::Map(cause)])))
            }
            // `currentBuild.getNumber()`
            (Global::CurrentBuild, getter) if arguments.is_empty() && getter.starts_with("get") => {
                let mut letters = getter[3..].chars();
                let name: String =
                    letters.next().map(|c| c.to_lowercase().chain(letters).collect()).unwrap_or_default();
                self.get(strand, &name)
            }
            (Global::Docker | Global::Image(_) | Global::Container(_), name) => {
                self.docker(&runner, strand, name, arguments)
            }
            _ => Ok(None),
        }
    }

    fn any(&self) -> &dyn Any {
        self
    }
}
