//! What clients change: jobs, builds, answers to questions. All of it is written with the caller's own token, so that the API server decides
//! what they may do, and knows who did it.

use client::cache::Key;
use http::{Response, StatusCode, header, request::Parts};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value as Json, json};
use serve::{Body, body};

use super::{
    Answer, Caller, FORM, Inner, No, build, config, form, found,
    route::{Place, Route, Which},
    show,
};
use crate::{
    kind::{Cause, Given, Pipeline, PipelineRun, Spec, begun},
    trigger::{declared, given},
};

type Form = Vec<(String, String)>;

impl Inner {
    pub(super) async fn changed(
        &self,
        caller: &Caller,
        route: &Route,
        query: Form,
        parts: &Parts,
        body: Body,
    ) -> Answer {
        let rest: Vec<&str> = route.rest.iter().map(String::as_str).collect();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let document = matches!(rest.as_slice(), ["config.xml" | "createItem"]);
        let most = if document { config::MOST_BYTES } else { FORM };
        let bytes = body::read(body, most).await.map_err(|error| match error {
            body::ReadError::TooLarge { .. } => No(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            error => No::invalid(error),
        })?;
        let mut fields = query;
        fields.extend(form::of_body(kind, &bytes));
        match (&route.place, rest.as_slice()) {
            (Place::Root, ["createItem"]) => self.create_folder(caller, &fields, &bytes).await,
            (Place::Folder(namespace), ["createItem"]) => self.create_job(caller, namespace, &fields, &bytes).await,
            (Place::Root, ["queue", "cancelItem"]) => self.cancel(caller, &fields).await,
            (Place::Root, ["pipeline-model-converter", "validate" | "validateJenkinsfile"]) => {
                validated(form::value(&fields, "jenkinsfile").unwrap_or_default(), rest[1] == "validate").await
            }
            // What clients read they may post too, as python-jenkins does for some.
            (_, [.., "api", "json"]) => self.shown(caller, route, &fields, parts).await,
            (Place::Job(key), ["config.xml"]) => self.configure(caller, key, &bytes).await,
            (Place::Job(key), ["build" | "buildWithParameters"]) => self.build(caller, key, fields).await,
            (Place::Job(key), ["enable"]) => self.suspend(caller, key, false).await,
            (Place::Job(key), ["disable"]) => self.suspend(caller, key, true).await,
            (Place::Job(key), ["doDelete"]) => self.delete_job(caller, key).await,
            (Place::Build(key, which), rest) => self.change_build(caller, key, which, rest, &fields).await,
            _ => Err(No::missing(format!("action {}", parts.uri.path()))),
        }
    }

    /// A folder is a namespace, which those may make who may make namespaces.
    async fn create_folder(&self, caller: &Caller, fields: &Form, document: &[u8]) -> Answer {
        let name = form::value(fields, "name").unwrap_or_default();
        let folder = form::value(fields, "mode").is_some_and(|mode| mode.ends_with(".Folder"))
            || crate::xml::read(document, 1000).is_ok_and(|root| root.name.ends_with(".Folder"));
        if !folder {
            return Err(No::invalid("a job lies in a folder, which is a namespace: NAMESPACE/NAME"));
        }
        let api: Api<Namespace> = Api::all(caller.client.clone());
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        match api.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                return Err(No::invalid(format!("A job already exists with the name ‘{name}’")));
            }
            made => drop(made?),
        }
        Ok(found(StatusCode::FOUND, &format!("{}job/{name}/", caller.base)))
    }

    async fn create_job(&self, caller: &Caller, namespace: &str, fields: &Form, document: &[u8]) -> Answer {
        let name = form::value(fields, "name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| No::invalid("a job needs a name: createItem?name=NAME"))?;
        let spec = match form::value(fields, "mode") {
            Some("copy") => {
                let from = form::value(fields, "from").unwrap_or_default();
                let from = from.rsplit('/').next().unwrap_or(from);
                self.pipeline(caller, &Key::new(namespace, from)).await?.spec
            }
            _ => config::read(document, namespace, &Spec::default()).map_err(No::invalid)?,
        };
        let metadata =
            ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
        let api: Api<Pipeline> = Api::namespaced(caller.client.clone(), namespace);
        match api.create(&PostParams::default(), &Pipeline { metadata, spec, status: None }).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                return Err(No::invalid(format!("A job already exists with the name ‘{name}’")));
            }
            made => drop(made?),
        }
        self.seen(&self.pipelines, &Key::new(namespace, name), |pipeline| pipeline.is_some()).await;
        Ok(Response::new(body::empty()))
    }

    async fn configure(&self, caller: &Caller, key: &Key, document: &[u8]) -> Answer {
        let api: Api<Pipeline> = Api::namespaced(caller.client.clone(), &key.namespace);
        let mut pipeline = self.pipeline(caller, key).await?;
        pipeline.spec = config::read(document, &key.namespace, &pipeline.spec).map_err(No::invalid)?;
        // The version says that nobody changed it in between.
        let written = api.replace(&key.name, &PostParams::default(), &pipeline).await?;
        self.seen(&self.pipelines, key, |known| known.is_some_and(|known| known.spec == written.spec)).await;
        Ok(Response::new(body::empty()))
    }

    async fn suspend(&self, caller: &Caller, key: &Key, suspend: bool) -> Answer {
        let api: Api<Pipeline> = Api::namespaced(caller.client.clone(), &key.namespace);
        let patch = json!({ "spec": { "suspend": suspend } });
        api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        self.seen(&self.pipelines, key, |known| known.is_some_and(|known| known.spec.suspend == suspend)).await;
        Ok(found(StatusCode::FOUND, &job_page(caller, key)))
    }

    async fn delete_job(&self, caller: &Caller, key: &Key) -> Answer {
        let api: Api<Pipeline> = Api::namespaced(caller.client.clone(), &key.namespace);
        api.delete(&key.name, &DeleteParams::background()).await?;
        self.seen(&self.pipelines, key, |known| known.is_none()).await;
        Ok(found(StatusCode::FOUND, &caller.base))
    }

    /// Starts a run. It is in the queue until it begins.
    async fn build(&self, caller: &Caller, key: &Key, fields: Form) -> Answer {
        let pipeline = self.pipeline(caller, key).await?;
        if pipeline.spec.suspend {
            return Err(No(StatusCode::CONFLICT, format!("{key} is disabled")));
        }
        let status = pipeline.status.clone().unwrap_or_default();
        let known = declared::parameters(&pipeline.spec.parameters, &status.parameters);
        let others = ["token", "delay", "cause", "json", "Submit"];
        let values: Vec<Given> = fields
            .into_iter()
            .filter(|(name, _)| !others.contains(&name.as_str()) || known.iter().any(|one| one.name == *name))
            .map(|(name, value)| Given { name, value: value.into() })
            .collect();
        let mut run =
            begun(&pipeline, Cause { kind: "user".into(), user: Some(caller.user.name.clone()), ..Cause::default() });
        // What the script declares is not known before it ran once: then it sorts out what it has been given.
        run.spec.parameters =
            if known.is_empty() { values } else { given::fill(&known, &values).map_err(No::invalid)? };
        let api: Api<PipelineRun> = Api::namespaced(caller.client.clone(), &key.namespace);
        let made = api.create(&PostParams::default(), &run).await?;
        self.seen(&self.runs, &Key::of(&made), |known| known.is_some()).await;
        Ok(found(StatusCode::CREATED, &show::queue_address(caller, &made)))
    }

    async fn cancel(&self, caller: &Caller, fields: &Form) -> Answer {
        let run = self.queued(caller, form::value(fields, "id").unwrap_or_default()).await?;
        if build::waits(&run) {
            self.abort(caller, &run).await?;
        }
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    fn api_of(caller: &Caller, run: &PipelineRun) -> Api<PipelineRun> {
        Api::namespaced(caller.client.clone(), &run.namespace().unwrap_or_default())
    }

    async fn abort(&self, caller: &Caller, run: &PipelineRun) -> Result<(), No> {
        let patch = json!({ "spec": { "abort": true, "abortedBy": caller.user.name } });
        let api = Self::api_of(caller, run);
        api.patch(&run.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    async fn change_build(&self, caller: &Caller, key: &Key, which: &Which, rest: &[&str], fields: &Form) -> Answer {
        let run = self.run(caller, key, which).await?;
        let page = format!("{}{which}/", job_page(caller, key));
        match rest {
            // Runs that have ended are let be, as in Jenkins.
            ["stop" | "term" | "kill"] => {
                if build::is_building(&run) {
                    self.abort(caller, &run).await?;
                }
            }
            ["doDelete"] => {
                if build::is_building(&run) {
                    return Err(No(StatusCode::CONFLICT, format!("build {which} of {key} is running: stop it first")));
                }
                Self::api_of(caller, &run).delete(&run.name_any(), &DeleteParams::background()).await?;
                self.seen(&self.runs, &Key::of(&*run), |known| known.is_none()).await;
                return Ok(found(StatusCode::FOUND, &job_page(caller, key)));
            }
            ["toggleLogKeep"] => {
                let patch = json!({ "spec": { "keep": !run.spec.keep } });
                let api = Self::api_of(caller, &run);
                api.patch(&run.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
            }
            ["input", id, "proceedEmpty"] => self.reply(caller, &run, id, false, Vec::new()).await?,
            ["input", id, "abort"] => self.reply(caller, &run, id, true, Vec::new()).await?,
            ["input", id, "submit" | "proceed"] => self.reply(caller, &run, id, false, replied(fields)?).await?,
            ["wfapi", "inputSubmit"] => {
                let id = form::value(fields, "inputId").unwrap_or_default();
                self.reply(caller, &run, id, false, replied(fields)?).await?;
            }
            _ => return Err(No::missing(format!("action {} of a build", rest.join("/")))),
        }
        Ok(found(StatusCode::FOUND, &page))
    }

    /// Answers a question of a run; whether the caller may, the run itself looks at.
    async fn reply(
        &self,
        caller: &Caller,
        run: &PipelineRun,
        id: &str,
        abort: bool,
        given: Vec<Given>,
    ) -> Result<(), No> {
        let asked = build::status(run).inputs;
        if !asked.iter().any(|question| question.id == id) {
            return Err(No::missing(format!("question {id} of build {}", build::status(run).number)));
        }
        let reply = json!({ "id": id, "abort": abort, "user": caller.user.name, "parameters": given });
        let mut inputs: Vec<Json> =
            run.spec.inputs.iter().filter(|known| known.id != id).map(|known| json!(known)).collect();
        inputs.push(reply);
        // Another answer at the same time is not overwritten: the version is checked.
        let version = run.resource_version();
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "inputs": inputs } });
        Self::api_of(caller, run).patch(&run.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }
}

fn job_page(caller: &Caller, key: &Key) -> String {
    format!("{}job/{}/job/{}/", caller.base, key.namespace, key.name)
}

/// Values of a form of Jenkins: `json={"parameter": [{"name": ..., "value": ...}]}`, or plain fields.
fn replied(fields: &Form) -> Result<Vec<Given>, No> {
    let Some(text) = form::value(fields, "json") else {
        let plain = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "inputId" | "proceed"));
        return Ok(plain.map(|(name, value)| Given { name: name.clone(), value: value.as_str().into() }).collect());
    };
    let json: Json = serde_json::from_str(text).map_err(|error| No::invalid(format!("the field json: {error}")))?;
    let all = match &json["parameter"] {
        Json::Array(all) => all.clone(),
        Json::Null => Vec::new(),
        one => vec![one.clone()],
    };
    Ok(all
        .into_iter()
        .filter_map(|one| Some(Given { name: one["name"].as_str()?.to_string(), value: one["value"].clone() }))
        .collect())
}

/// Says what is wrong with a script, as upstream's linter does.
async fn validated(script: &str, words: bool) -> Answer {
    let script = script.to_string();
    let read = move || -> Vec<String> {
        let program = match groovy::interpret::Program::read("Jenkinsfile", &script) {
            Ok(program) => program,
            Err(error) => return vec![error.to_string()],
        };
        match crate::read::read(&program) {
            Ok(Some(_)) => Vec::new(),
            Ok(None) => vec!["Jenkinsfile content did not contain the 'pipeline' step".to_string()],
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    };
    // It needs more stack than a task has.
    let (send, receive) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("read".into()).stack_size(groovy::limit::STACK);
    let thread = thread.spawn(move || drop(send.send(read()))).map_err(No::broken)?;
    let errors = receive.await.map_err(|_| No::broken("the script could not be read"))?;
    drop(thread);
    if words {
        return Ok(super::plain(match errors.as_slice() {
            [] => "Jenkinsfile successfully validated.\n".to_string(),
            errors => format!("Errors encountered validating Jenkinsfile:\n{}\n", errors.join("\n")),
        }));
    }
    let data = match errors.as_slice() {
        [] => json!({ "result": "success" }),
        errors => {
            json!({ "result": "failure", "errors": errors.iter().map(|error| json!({ "error": error })).collect::<Vec<_>>() })
        }
    };
    Ok(super::json(&json!({ "status": "ok", "data": data })))
}
