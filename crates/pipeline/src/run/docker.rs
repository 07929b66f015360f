//! `docker` in scripts: images, containers, registries, as the docker-workflow plugin has them.
//! <https://www.jenkins.io/doc/book/pipeline/docker/>
//!
//! An image that the run has built is known by the name that the script gave it, as a Docker host would know it: what is behind the name
//! is kept here, so that `docker.image('app:1')` after `docker.build('app:1')` is that image.

use groovy::{
    fault::{Outcome, throw},
    interpret::Strand,
    value::{Value, map::Map, show},
};
use serde_json::{Value as Json, json};

use super::{
    Runner,
    globals::{Global, Handle},
    spot::{Registry, Spot, at},
    values,
};
use crate::docker::name::{self, Name};

/// A name of a script's.
fn named(text: &str) -> Outcome<Name> {
    Name::parse(text).map_err(|error| throw("IllegalArgumentException", error))
}

impl Runner {
    /// The registry of the place, as asks have it.
    fn registry(spot: &Spot) -> Json {
        match &spot.registry {
            Some(registry) => json!({"host": registry.host, "credentialsId": registry.credentials}),
            None => Json::Null,
        }
    }

    /// A name as registries know it here.
    fn qualified(spot: &Spot, name: &Name) -> Name {
        match &spot.registry {
            Some(registry) => name.within(&registry.host),
            None => name.clone(),
        }
    }

    /// What an image is taken from: what the run has built of that name, or what a registry has.
    fn image_of(&self, spot: &Spot, text: &str) -> Outcome<String> {
        let name = named(text)?;
        let staged = self.state().images.get(&name.whole().to_string()).cloned();
        Ok(staged.unwrap_or_else(|| Self::qualified(spot, &name).to_string()))
    }

    fn image_is(&self, name: &str, staged: &str) -> Outcome<()> {
        let name = named(name)?.whole().to_string();
        self.state().images.insert(name, staged.to_owned());
        Ok(())
    }

    /// `docker.build(name, arguments)`
    pub(super) fn docker_build(&self, strand: &mut Strand, name: &str, arguments: &str) -> Outcome<()> {
        named(name)?;
        let spot = Spot::of(strand);
        self.needs_agent(&spot, "docker.build")?;
        let asked = json!({"image": name, "arguments": arguments, "registry": Self::registry(&spot)});
        let answer = self.ask(strand, "docker.build", asked)?;
        let Some(staged) = answer.get("image").and_then(Json::as_str) else {
            return Err(throw("IllegalStateException", "docker.build gave no image"));
        };
        self.image_is(name, staged)?;
        for tag in answer.get("tags").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            self.image_is(tag, staged)?;
        }
        Ok(())
    }

    /// `image.push(tag)`
    fn docker_push(&self, strand: &mut Strand, image: &str, tag: Option<&str>) -> Outcome<()> {
        let spot = Spot::of(strand);
        let name = named(image)?;
        let target = match tag {
            Some(tag) => name.tagged(tag),
            None => name.whole(),
        };
        let to = Self::qualified(&spot, &target).to_string();
        let asked = json!({"image": self.image_of(&spot, image)?, "to": to, "registry": Self::registry(&spot)});
        self.ask(strand, "docker.push", asked).map(drop)
    }

    /// `docker.withRegistry(url, credentialsId) { }`
    pub(super) fn with_registry(
        &self,
        strand: &mut Strand,
        url: &str,
        credentials: &str,
        work: impl FnOnce(&mut Strand) -> Outcome,
    ) -> Outcome {
        let host = name::registry(url);
        let mut spot = (*Spot::of(strand)).clone();
        spot.registry = Some(Registry { host, credentials: credentials.to_owned() });
        let login = json!({"registry": Self::registry(&spot)});
        let opened = self.ask(strand, "docker.login", login)?;
        for secret in opened.get("secrets").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            self.world.tell(super::world::Event::Secret(secret.to_owned()));
        }
        for (name, value) in opened.get("variables").and_then(Json::as_object).into_iter().flatten() {
            spot.environment.push((name.clone(), value.as_str().unwrap_or_default().to_owned()));
        }
        let result = at(strand, spot, work);
        let ended = self.ask(strand, "docker.login.end", json!({"directory": opened.get("directory")}));
        let value = result?;
        ended?;
        Ok(value)
    }

    /// A container of an image beside the agent's, in which what is done within it is done.
    pub(super) fn inside(
        &self,
        strand: &mut Strand,
        image: &str,
        args: &str,
        work: impl FnOnce(&mut Strand, Value) -> Outcome,
    ) -> Outcome {
        let mut spot = (*Spot::of(strand)).clone();
        self.needs_agent(&spot, "image.inside")?;
        let opened = self.container(strand, &spot, image, (args, ""), false)?;
        spot.container = opened.get("container").and_then(Json::as_str).map(str::to_owned);
        let given = values::value(&opened);
        let result = at(strand, spot, |strand| work(strand, given));
        let ended = self.ask(strand, "docker.container.end", opened);
        let value = result?;
        ended?;
        Ok(value)
    }

    fn container(
        &self,
        strand: &mut Strand,
        spot: &Spot,
        image: &str,
        (args, command): (&str, &str),
        service: bool,
    ) -> Outcome<Json> {
        let image = self.image_of(spot, image)?;
        let registry = Self::registry(spot);
        let asked = json!({"image": image, "args": args, "command": command, "service": service, "registry": registry});
        self.ask(strand, "docker.container", asked)
    }
}

impl Handle {
    /// A method of `docker`, of an image, or of a container.
    pub(super) fn docker(
        &self,
        runner: &Runner,
        strand: &mut Strand,
        name: &str,
        arguments: &[Value],
    ) -> Outcome<Option<Value>> {
        let (body, words) = match arguments.split_last() {
            Some((body @ Value::Closure(_), words)) => (Some(body), words),
            _ => (None, arguments),
        };
        let given = |index: usize| words.get(index).filter(|value| !value.is_null()).map(show::text);
        let text = |index: usize| given(index).unwrap_or_default();
        let block = |what: &str| {
            body.cloned().ok_or_else(|| throw("IllegalArgumentException", format!("{what}.{name} needs a block")))
        };
        Ok(Some(match (&self.what, name) {
            (Global::Docker, "image") => self.with(Global::Image(named(&text(0)).map(|_| text(0))?)),
            (Global::Docker, "build") => {
                runner.docker_build(strand, &text(0), given(1).as_deref().unwrap_or("."))?;
                self.with(Global::Image(text(0)))
            }
            (Global::Docker, "withRegistry") => {
                let body = block("docker")?;
                runner.with_registry(strand, &text(0), &text(1), |strand| strand.call_value(&body, Vec::new()))?
            }
            (Global::Docker, "withServer") => {
                let message = "docker.withServer: there is no Docker host to speak to: images are built by the cluster's own engine";
                return Err(throw("AbortException", message));
            }
            (Global::Docker, "withTool") => {
                let body = block("docker")?;
                strand.call_value(&body, Vec::new())?
            }
            (Global::Docker, "node") => {
                let body = block("docker")?;
                let asked = json!({"label": given(0)});
                runner.on_agent(strand, "node", asked, true, |strand| strand.call_value(&body, Vec::new()))?
            }
            (Global::Image(image), "push") => {
                runner.docker_push(strand, image, given(0).as_deref())?;
                Value::Null
            }
            (Global::Image(image), "tag") => {
                let spot = Spot::of(strand);
                let target = match given(0) {
                    Some(tag) => named(image)?.tagged(&tag),
                    None => named(image)?.whole(),
                };
                let source = runner.image_of(&spot, image)?;
                runner.image_is(&target.to_string(), &source)?;
                Value::Null
            }
            (Global::Image(image), "pull") => {
                let spot = Spot::of(strand);
                let name = Runner::qualified(&spot, &named(image)?).to_string();
                runner.ask(strand, "docker.pull", json!({"image": name, "registry": Runner::registry(&spot)}))?;
                Value::Null
            }
            (Global::Image(image), "inside") => {
                let body = block("image")?;
                runner.inside(strand, image, &text(0), |strand, given| strand.call_value(&body, vec![given]))?
            }
            (Global::Image(image), "run" | "withRun") => {
                let spot = Spot::of(strand);
                runner.needs_agent(&spot, "image.withRun")?;
                let opened = runner.container(strand, &spot, image, (&text(0), &text(1)), true)?;
                let id = opened.get("id").and_then(Json::as_str).unwrap_or_default().to_owned();
                let container = self.with(Global::Container(id));
                let Some(body) = body.filter(|_| name == "withRun") else { return Ok(Some(container)) };
                let result = strand.call_value(body, vec![container]);
                let ended = runner.ask(strand, "docker.container.end", opened);
                let value = result?;
                ended?;
                value
            }
            (Global::Image(image), "imageName") => {
                Value::from(Runner::qualified(&Spot::of(strand), &named(image)?).to_string())
            }
            (Global::Image(image), "id") => Value::from(image.as_str()),
            (Global::Container(id), "stop") => {
                runner.ask(strand, "docker.container.end", json!({"id": id, "service": true}))?;
                Value::Null
            }
            // Containers of a Pod have one network.
            (Global::Container(_), "port") => Value::from(format!("127.0.0.1:{}", text(0))),
            _ => return Ok(None),
        }))
    }

    fn with(&self, what: Global) -> Value {
        Value::Foreign(std::sync::Arc::new(Handle { what, runner: self.runner.clone() }))
    }
}

/// Fields of `withDockerRegistry(url: ..., credentialsId: ...)`, which may stand in a map of their own.
pub(super) fn registry_of(arguments: &Map) -> (String, String) {
    let field = |name: &str| {
        let own = arguments.named(name);
        let inner = match arguments.named("registry").or_else(|| arguments.named("value")) {
            Some(Value::Map(map)) => map.named(name),
            _ => None,
        };
        own.or(inner).filter(|value| !value.is_null()).map(|value| show::text(&value)).unwrap_or_default()
    };
    (field("url"), field("credentialsId"))
}
