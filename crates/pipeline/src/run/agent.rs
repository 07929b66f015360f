//! Agents: opened, used, and given back whatever happens in them.

use groovy::{
    fault::{Outcome, throw},
    interpret::Strand,
    value::{Value, closure::Closure, show},
};
use serde_json::{Map as Object, Value as Json, json};

use super::{
    Runner,
    retry::Conditions,
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
        mut work: impl FnMut(&mut Strand) -> Outcome,
    ) -> Outcome {
        let (kind, mut settings) = match agent {
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
        let reused = settings.remove("reuseNode").is_some_and(|reused| truth(&reused));
        if reused && matches!(kind, "docker" | "dockerfile") && Spot::of(strand).agent.is_some() {
            return self.beside(strand, kind, &settings, work);
        }
        let attempts = settings.remove("retries").as_ref().and_then(number).unwrap_or(1);
        let (settings, wanted) = (Json::Object(settings), checkout && !self.start.scm.is_null());
        self.retry(strand, attempts, Conditions::OUTSIDE, |strand, left| {
            let mut spot = (*Spot::of(strand)).clone();
            spot.retried |= left > 0;
            at(strand, spot, |strand| self.prepared(strand, kind, &settings, wanted, &mut work))
        })
    }

    /// An agent with the sources in it, where they are wanted.
    fn prepared(
        &self,
        strand: &mut Strand,
        kind: &str,
        settings: &Json,
        wanted: bool,
        work: &mut dyn FnMut(&mut Strand) -> Outcome,
    ) -> Outcome {
        let directory = settings.get("customWorkspace").and_then(Json::as_str).map(str::to_string);
        self.on_agent(strand, kind, settings.clone(), false, |strand| {
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

    /// A container beside those of the agent that there is, with its workspace and what is in it.
    fn beside(
        &self,
        strand: &mut Strand,
        kind: &str,
        settings: &Object<String, Json>,
        mut work: impl FnMut(&mut Strand) -> Outcome,
    ) -> Outcome {
        let text = |name: &str| settings.get(name).and_then(Json::as_str).unwrap_or_default();
        let spot = Spot::of(strand);
        let image = match kind {
            "docker" => text("image").to_string(),
            // A name that no other image of the run has.
            _ => format!("agent:{}", spot.key().replace('/', "-")),
        };
        let mut inner = |strand: &mut Strand| {
            if kind == "dockerfile" {
                let directory = Some(text("dir").trim_end_matches('/')).filter(|dir| !dir.is_empty()).unwrap_or(".");
                let file = Some(text("filename")).filter(|file| !file.is_empty()).unwrap_or("Dockerfile");
                let quoted = |word: String| format!("'{}'", word.replace('\'', "'\\''"));
                let (file, directory) = (quoted(format!("{directory}/{file}")), quoted(directory.to_string()));
                let arguments = format!("{} -f {file} {directory}", text("additionalBuildArgs"));
                self.docker_build(strand, &image, &arguments)?;
            }
            self.inside(strand, &image, text("args"), |strand, _| work(strand))
        };
        match text("registryUrl") {
            "" if text("registryCredentialsId").is_empty() => inner(strand),
            url => self.with_registry(strand, url, text("registryCredentialsId"), inner),
        }
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

/// A setting that is a truth value, or says so.
fn truth(value: &Json) -> bool {
    match value {
        Json::Bool(value) => *value,
        Json::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// A setting that is a number, or says one.
fn number(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
