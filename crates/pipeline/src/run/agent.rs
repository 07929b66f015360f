//! Agents: opened, used, and given back whatever happens in them.

use groovy::{
    fault::{Outcome, throw},
    interpret::Strand,
    value::{Value, closure::Closure, show},
};
use serde_json::{Map as Object, Value as Json, json};

use super::{
    Runner,
    spot::{Spot, at},
    values,
};
use crate::model::Agent;

impl Runner {
    /// Opens an agent, does something there, and gives it back.
    pub(super) fn on_agent(
        &self,
        strand: &mut Strand,
        kind: &str,
        settings: Json,
        scripted: bool,
        work: impl FnOnce(&mut Strand) -> Outcome,
    ) -> Outcome {
        if kind == "podTemplate" {
            // Describes pods for the nodes within it: the description goes with their label.
            let mut spot = (*Spot::of(strand)).clone();
            spot.environment.push(("POD_TEMPLATE".into(), settings.to_string()));
            return at(strand, spot, work);
        }
        let mut asked = match settings {
            Json::Object(fields) => fields,
            _ => Object::new(),
        };
        asked.insert("kind".into(), kind.into());
        let opened = self.ask(strand, "agent", Json::Object(asked))?;
        let field = |name: &str| opened.get(name).and_then(Json::as_str).map(str::to_string);
        let Some(id) = field("id") else { return Err(throw("IllegalStateException", "the agent has no id")) };
        let mut spot = (*Spot::of(strand)).clone();
        if let Some(workspace) = field("workspace") {
            spot.environment.push(("WORKSPACE".into(), workspace));
        }
        if let Some(name) = field("name") {
            spot.environment.push(("NODE_NAME".into(), name));
        }
        spot.directory.clear();
        spot.container = field("container").filter(|_| !scripted);
        spot.agent = Some(id.clone());
        let result = at(strand, spot, work);
        let ended = self.ask(strand, "agent.end", json!({ "id": id }));
        let value = result?;
        ended?;
        Ok(value)
    }

    /// The same for an agent of a declarative pipeline: with the sources in it, unless they are not wanted.
    pub(super) fn in_agent(
        &self,
        strand: &mut Strand,
        agent: Option<&Agent>,
        checkout: bool,
        closure: &Closure,
        work: impl FnOnce(&mut Strand) -> Outcome,
    ) -> Outcome {
        let (kind, settings) = match agent {
            None | Some(Agent::None) => return work(strand),
            Some(Agent::Any) => ("any", Object::new()),
            Some(Agent::Kind { kind, settings }) => {
                let mut fields = Object::new();
                for (name, value) in settings {
                    let value = strand.evaluate(value, closure)?;
                    fields.insert(name.clone(), values::json(&value));
                }
                (kind.as_str(), fields)
            }
        };
        let directory = settings.get("customWorkspace").and_then(Json::as_str).map(str::to_string);
        let wanted = checkout && !self.start.scm.is_null();
        self.on_agent(strand, kind, Json::Object(settings), false, |strand| {
            let mut spot = (*Spot::of(strand)).clone();
            if let Some(directory) = directory {
                spot.directory = directory;
            }
            at(strand, spot, |strand| {
                if wanted {
                    let answer = self.ask(strand, "checkout", json!({ "scm": self.start.scm }))?;
                    let mut spot = (*Spot::of(strand)).clone();
                    // GIT_COMMIT and its like are known from here on.
                    for (name, value) in answer.as_object().into_iter().flatten() {
                        if let Some(value) = value.as_str() {
                            spot.environment.push((name.clone(), value.to_string()));
                        }
                    }
                    return at(strand, spot, work);
                }
                work(strand)
            })
        })
    }

    /// A value of the model as text.
    pub(super) fn text(
        &self,
        strand: &mut Strand,
        value: &groovy::tree::Expression,
        closure: &Closure,
    ) -> Outcome<String> {
        let value = strand.evaluate(value, closure)?;
        match value {
            Value::Null => Ok("null".into()),
            value => Ok(show::text(&value)),
        }
    }
}
