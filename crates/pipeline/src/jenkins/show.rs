//! Folders, jobs, builds and the queue as clients of Jenkins read them. Fields are those of
//! <https://www.jenkins.io/doc/book/using/remote-access-api/> for pipelines.

use std::sync::Arc;

use client::cache::Key;
use kube::ResourceExt;
use serde_json::{Value as Json, json};

use super::{
    Caller, Inner, No, build,
    config::PARAMETERS,
    queue_number,
    shape::{Fields, Shape},
};
use crate::{
    kind::{Concurrency, Given, Parameter, Pipeline, PipelineRun},
    left::{artifacts, serve::escaped},
    trigger::declared,
};

/// Builds that a job lists by itself.
const BUILDS: usize = 100;
/// Artifacts that a build lists.
const ARTIFACTS: usize = 10_000;

fn job_address(caller: &Caller, key: &Key) -> String {
    format!("{}job/{}/job/{}/", caller.base, escaped(&key.namespace), escaped(&key.name))
}

fn build_address(caller: &Caller, key: &Key, number: u64) -> String {
    format!("{}{number}/", job_address(caller, key))
}

pub(super) fn queue_address(caller: &Caller, run: &PipelineRun) -> String {
    format!("{}queue/item/{}/", caller.base, queue_number(&run.uid().unwrap_or_default()))
}

/// Who asks.
pub(super) fn person(caller: &Caller, shape: Shape<'_>) -> Json {
    let mut fields = Fields::new("hudson.model.User", shape);
    fields.full("absoluteUrl", format!("{}user/{}", caller.base, escaped(&caller.user.name)));
    fields.full("description", Json::Null);
    fields.brief("fullName", caller.user.name.as_str());
    fields.brief("id", caller.user.name.as_str());
    // The names that `whoAmI` has.
    fields.full("name", caller.user.name.as_str());
    fields.full("anonymous", false);
    fields.full("authenticated", true);
    fields.full("authorities", caller.user.groups.clone());
    fields.done()
}

pub(super) fn crumb(caller: &Caller) -> Json {
    let crumb = caller.crumb().to_str().unwrap_or_default().to_string();
    json!({ "_class": "hudson.security.csrf.DefaultCrumbIssuer", "crumb": crumb, "crumbRequestField": "Jenkins-Crumb" })
}

/// A mention of a view.
fn view(caller: &Caller, below: &str, name: &str, shape: Shape<'_>) -> Json {
    let mut fields = Fields::new(if name == "all" { "hudson.model.AllView" } else { "hudson.model.ListView" }, shape);
    fields.brief("name", name);
    fields.brief("url", format!("{}{below}view/{}/", caller.base, escaped(name)));
    fields.done()
}

impl Inner {
    /// All of it; or a view: all, or the jobs of one namespace.
    pub(super) async fn root(&self, caller: &Caller, seen_in: Option<&str>, shape: Shape<'_>) -> Result<Json, No> {
        let all = self.visible(caller).await?;
        let mut namespaces: Vec<String> = all.iter().filter_map(|pipeline| pipeline.namespace()).collect();
        namespaces.dedup();
        match seen_in {
            None | Some("all" | "All") => {}
            Some(namespace) if namespaces.iter().any(|known| known == namespace) => {
                let own: Vec<Arc<Pipeline>> =
                    all.into_iter().filter(|pipeline| pipeline.namespace().as_deref() == Some(namespace)).collect();
                return Ok(self.view(caller, namespace, &own, shape));
            }
            Some(other) => return Err(No::missing(format!("view {other}"))),
        }
        let class = if seen_in.is_some() { "hudson.model.AllView" } else { "hudson.model.Hudson" };
        let mut fields = Fields::new(class, shape);
        fields.list("jobs", &namespaces, |namespace, shape| {
            let own: Vec<&Arc<Pipeline>> =
                all.iter().filter(|pipeline| pipeline.namespace().as_deref() == Some(namespace)).collect();
            self.folder_with(caller, namespace, &own, shape)
        });
        if seen_in.is_some() {
            fields.brief("name", "all");
            fields.brief("url", format!("{}view/all/", caller.base));
            return Ok(fields.done());
        }
        fields.full("description", Json::Null);
        fields.full("mode", "NORMAL");
        fields.full("nodeDescription", "");
        fields.full("nodeName", "");
        fields.full("numExecutors", 0);
        fields.full("quietingDown", false);
        fields.full("useCrumbs", true);
        fields.full("useSecurity", true);
        fields.full("url", caller.base.as_str());
        fields.inner("primaryView", |shape| view(caller, "", "all", shape));
        let names = std::iter::once("all".to_string()).chain(namespaces.iter().cloned());
        fields.list("views", names, |name, shape| view(caller, "", &name, shape));
        Ok(fields.done())
    }

    fn view(&self, caller: &Caller, namespace: &str, own: &[Arc<Pipeline>], shape: Shape<'_>) -> Json {
        let mut fields = Fields::new("hudson.model.ListView", shape);
        fields.brief("name", namespace);
        fields.brief("url", format!("{}view/{}/", caller.base, escaped(namespace)));
        fields.list("jobs", own, |pipeline, shape| self.job_with(caller, pipeline, shape));
        fields.done()
    }

    /// A namespace.
    pub(super) async fn folder(
        &self,
        caller: &Caller,
        namespace: &str,
        seen_in: Option<&str>,
        shape: Shape<'_>,
    ) -> Result<Json, No> {
        if !self.may_see(caller, namespace).await? {
            return Err(No::missing(format!("folder {namespace}")));
        }
        self.pipelines.ready().await;
        let mut own = self.pipelines.list_in(namespace);
        if own.is_empty() {
            // An empty namespace is a folder too, if it is one at all.
            let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(caller.client.clone());
            api.get(namespace).await.map_err(|_| No::missing(format!("folder {namespace}")))?;
        }
        own.sort_by_key(|pipeline| pipeline.name_any());
        match seen_in {
            None => {}
            Some("all" | "All") => return Ok(self.view(caller, "all", &own, shape)),
            Some(other) => return Err(No::missing(format!("view {other}"))),
        }
        Ok(self.folder_with(caller, namespace, &own.iter().collect::<Vec<_>>(), shape))
    }

    fn folder_with(&self, caller: &Caller, namespace: &str, own: &[&Arc<Pipeline>], shape: Shape<'_>) -> Json {
        let mut fields = Fields::new("com.cloudbees.hudson.plugins.folder.Folder", shape);
        fields.brief("name", namespace);
        fields.brief("url", format!("{}job/{}/", caller.base, escaped(namespace)));
        fields.full("description", Json::Null);
        fields.full("displayName", namespace);
        fields.full("fullDisplayName", namespace);
        fields.full("fullName", namespace);
        fields.list("jobs", own, |pipeline, shape| self.job_with(caller, pipeline, shape));
        let below = format!("job/{}/", escaped(namespace));
        fields.list("views", ["all"], |name, shape| view(caller, &below, name, shape));
        fields.done()
    }

    /// A pipeline.
    pub(super) async fn job(&self, caller: &Caller, key: &Key, shape: Shape<'_>) -> Result<Json, No> {
        let pipeline = self.pipeline(caller, key).await?;
        self.runs.ready().await;
        Ok(self.job_with(caller, &pipeline, shape))
    }

    fn job_with(&self, caller: &Caller, pipeline: &Pipeline, shape: Shape<'_>) -> Json {
        let key = Key::of(pipeline);
        let runs = self.runs_of(&key);
        let (name, status) = (key.name.to_string(), pipeline.status.clone().unwrap_or_default());
        let mut fields = Fields::new("org.jenkinsci.plugins.workflow.job.WorkflowJob", shape);
        fields.brief("name", name.as_str());
        fields.brief("url", job_address(caller, &key));
        fields.brief("color", build::color(pipeline, &runs));
        fields.full("description", pipeline.spec.description.clone());
        fields.full("displayName", name.as_str());
        fields.full("displayNameOrNull", Json::Null);
        fields.full("fullDisplayName", format!("{} » {name}", key.namespace));
        fields.full("fullName", format!("{}/{name}", key.namespace));
        fields.full("buildable", !pipeline.spec.suspend);
        fields.list("builds", runs.iter().take(BUILDS), |run, shape| self.build_with(caller, &key, run, shape));
        // Only for who asks for it by name: it may be long.
        fields.asked("allBuilds", &runs, |run, shape| self.build_with(caller, &key, run, shape));
        let mut mentioned = |name: &str, run: Option<&Arc<PipelineRun>>| {
            fields.inner(name, |shape| run.map_or(Json::Null, |run| self.build_with(caller, &key, run, shape)));
        };
        mentioned("firstBuild", runs.last());
        for name in build::NAMES {
            mentioned(name, build::named(&runs, name));
        }
        let waiting = self.waiting(&key);
        fields.full("inQueue", !waiting.is_empty());
        fields.inner("queueItem", |shape| {
            waiting.first().map_or(Json::Null, |run| self.queue_item_with(caller, run, shape))
        });
        fields.full("keepDependencies", false);
        fields.full("nextBuildNumber", status.number + 1);
        let concurrency = pipeline.spec.concurrency.or(status.concurrency).unwrap_or_default();
        fields.full("concurrentBuild", concurrency == Concurrency::Allow);
        fields.full("resumeBlocked", false);
        let parameters = declared::parameters(&pipeline.spec.parameters, &status.parameters);
        let properties: &[()] = if parameters.is_empty() { &[] } else { &[()] };
        fields.list("property", properties, |(), shape| {
            let mut fields = Fields::new("hudson.model.ParametersDefinitionProperty", shape);
            fields.within("parameterDefinitions", &parameters, |one, _| parameter(one));
            fields.done()
        });
        fields.full("actions", json!([]));
        fields.full("healthReport", json!([]));
        fields.done()
    }

    /// Runs of a pipeline that wait, the oldest first.
    fn waiting(&self, key: &Key) -> Vec<Arc<PipelineRun>> {
        let mut runs = self.runs.list_in(&key.namespace);
        runs.retain(|run| run.spec.pipeline_ref.name == *key.name && build::waits(run));
        runs.sort_by_key(|run| build::queued_at(run));
        runs
    }

    /// A run.
    pub(super) fn build_with(&self, caller: &Caller, key: &Key, run: &PipelineRun, shape: Shape<'_>) -> Json {
        let status = build::status(run);
        let number = status.number;
        let (began, took) = build::times(run);
        let building = build::is_building(run);
        let name = status.display_name.clone().unwrap_or_else(|| format!("#{number}"));
        let mut fields = Fields::new("org.jenkinsci.plugins.workflow.job.WorkflowRun", shape);
        fields.brief("number", number);
        fields.brief("url", build_address(caller, key, number));
        fields.full("id", number.to_string());
        fields.full("building", building);
        fields.full("inProgress", building);
        fields.full("result", build::result(run).map(|result| result.name()));
        fields.full("timestamp", began);
        fields.full("duration", took);
        fields.full("estimatedDuration", -1);
        fields.full("description", status.description.clone());
        fields.full("displayName", name.as_str());
        fields.full("fullDisplayName", format!("{} » {} {name}", key.namespace, key.name));
        fields.full("keepLog", run.spec.keep);
        fields.full("queueId", queue_number(&run.uid().unwrap_or_default()));
        fields.full("executor", Json::Null);
        fields.full("changeSets", json!([]));
        fields.list("culprits", &status.culprits, |name, _| json!({ "fullName": name }));
        fields.inner("actions", |_| actions(run));
        if fields.wants("artifacts") {
            // What cannot be read is listed as nothing; asking for a file says why.
            let record = self.records.of(&run.uid().unwrap_or_default());
            let all = record.and_then(|record| artifacts::list(&record.artifacts()).ok()).unwrap_or_default();
            fields.list("artifacts", all.iter().take(ARTIFACTS), |(_, entry), shape| {
                let file = entry.path.rsplit('/').next().unwrap_or(&entry.path);
                let mut fields = Fields::new("", shape);
                fields.brief("displayPath", file);
                fields.brief("fileName", file);
                fields.brief("relativePath", entry.path.as_str());
                fields.done()
            });
        }
        if fields.wants("previousBuild") || fields.wants("nextBuild") {
            let runs = self.runs_of(key);
            let at = runs.iter().position(|other| build::number(other) == Some(number));
            let mention = |run: Option<&Arc<PipelineRun>>| {
                run.and_then(|run| build::number(run))
                    .map_or(Json::Null, |number| json!({ "number": number, "url": build_address(caller, key, number) }))
            };
            fields.full("previousBuild", mention(at.and_then(|at| runs.get(at + 1))));
            fields.full("nextBuild", mention(at.and_then(|at| at.checked_sub(1)).and_then(|at| runs.get(at))));
        }
        fields.done()
    }

    /// All that waits, of what the caller may see.
    pub(super) async fn queue(&self, caller: &Caller, shape: Shape<'_>) -> Result<Json, No> {
        self.runs.ready().await;
        let visible = self.visible(caller).await?;
        let waiting: Vec<Arc<PipelineRun>> =
            visible.iter().flat_map(|pipeline| self.waiting(&Key::of(&**pipeline))).collect();
        let mut fields = Fields::new("hudson.model.Queue", shape);
        fields.list("items", &waiting, |run, shape| self.queue_item_with(caller, run, shape));
        fields.full("discoverableItems", json!([]));
        Ok(fields.done())
    }

    /// A run by the number that it had in the queue, which it keeps.
    pub(super) async fn queued(&self, caller: &Caller, number: &str) -> Result<Arc<PipelineRun>, No> {
        let none = || No::missing(format!("item {number} in the queue"));
        let wanted: u64 = number.parse().map_err(|_| none())?;
        self.runs.ready().await;
        let run = self.runs.list().into_iter().find(|run| queue_number(&run.uid().unwrap_or_default()) == wanted);
        let run = run.ok_or_else(none)?;
        let namespace = run.namespace().unwrap_or_default();
        if self.may_see(caller, &namespace).await? { Ok(run) } else { Err(none()) }
    }

    pub(super) async fn queue_item(&self, caller: &Caller, number: &str, shape: Shape<'_>) -> Result<Json, No> {
        let run = self.queued(caller, number).await?;
        Ok(self.queue_item_with(caller, &run, shape))
    }

    fn queue_item_with(&self, caller: &Caller, run: &PipelineRun, shape: Shape<'_>) -> Json {
        let key = Key::new(&run.namespace().unwrap_or_default(), &run.spec.pipeline_ref.name);
        let (number, waits) = (build::number(run), build::waits(run));
        let class = if waits { "hudson.model.Queue$WaitingItem" } else { "hudson.model.Queue$LeftItem" };
        let id = queue_number(&run.uid().unwrap_or_default());
        let mut fields = Fields::new(class, shape);
        fields.brief("id", id);
        fields.brief("url", format!("queue/item/{id}/"));
        fields.full("actions", actions(run));
        fields.full("blocked", waits && build::status(run).phase == crate::kind::Phase::Queued);
        fields.full("buildable", false);
        fields.full("stuck", false);
        fields.full("inQueueSince", build::queued_at(run));
        let given = run.spec.parameters.iter().map(|given| format!("\n{}={}", given.name, text(&given.value)));
        fields.full("params", given.collect::<String>());
        let why = build::status(run).message.unwrap_or_else(|| "Waiting to begin".to_string());
        fields.full("why", waits.then_some(why));
        fields.inner("task", |_| {
            json!({
                "_class": "org.jenkinsci.plugins.workflow.job.WorkflowJob",
                "name": &*key.name, "url": job_address(caller, &key),
            })
        });
        if !waits {
            fields.full("cancelled", number.is_none());
            fields.inner("executable", |shape| match number {
                Some(number) => {
                    let mut fields = Fields::new("org.jenkinsci.plugins.workflow.job.WorkflowRun", shape);
                    fields.brief("number", number);
                    fields.brief("url", build_address(caller, &key, number));
                    fields.done()
                }
                None => Json::Null,
            });
        }
        fields.done()
    }

    /// Machines: there is one, since Pods are not machines.
    pub(super) async fn computers(&self, caller: &Caller, shape: Shape<'_>) -> Result<Json, No> {
        let own = self.running(caller).await?;
        let mut fields = Fields::new("hudson.model.ComputerSet", shape);
        fields.full("busyExecutors", own.len());
        fields.full("totalExecutors", own.len());
        fields.full("displayName", "Nodes");
        fields.list("computer", [()], |(), shape| computer_with(caller, &own, shape));
        Ok(fields.done())
    }

    pub(super) async fn computer(&self, caller: &Caller, shape: Shape<'_>) -> Result<Json, No> {
        let own = self.running(caller).await?;
        Ok(computer_with(caller, &own, shape))
    }

    /// Runs under way that the caller may see.
    async fn running(&self, caller: &Caller) -> Result<Vec<(Key, u64)>, No> {
        self.runs.ready().await;
        let visible = self.visible(caller).await?;
        let mut running = Vec::new();
        for key in visible.iter().map(|pipeline| Key::of(&**pipeline)) {
            let runs = self.runs_of(&key);
            let own = runs.iter().filter(|run| build::is_building(run)).filter_map(|run| build::number(run));
            running.extend(own.map(|number| (key.clone(), number)));
        }
        Ok(running)
    }
}

fn computer_with(caller: &Caller, running: &[(Key, u64)], shape: Shape<'_>) -> Json {
    let mut fields = Fields::new("hudson.model.Hudson$MasterComputer", shape);
    fields.brief("displayName", "Built-In Node");
    fields.brief("offline", false);
    fields.full("idle", running.is_empty());
    fields.full("numExecutors", running.len());
    fields.list("executors", running.iter().enumerate(), |(index, (key, number)), shape| {
        let mut fields = Fields::new("", shape);
        fields.brief("number", index);
        fields.brief(
            "currentExecutable",
            json!({
                "_class": "org.jenkinsci.plugins.workflow.job.WorkflowRun",
                "number": number, "url": build_address(caller, key, *number),
            }),
        );
        fields.done()
    });
    fields.full("oneOffExecutors", json!([]));
    fields.done()
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn parameter(parameter: &Parameter) -> Json {
    let kind = PARAMETERS.iter().find(|(kind, _)| *kind == parameter.kind).map_or(PARAMETERS[0].1, |(_, class)| *class);
    let short = kind.rsplit('.').next().unwrap_or(kind);
    let mut shown = json!({
        "_class": kind, "name": parameter.name, "type": short, "description": parameter.description,
        "defaultParameterValue": { "name": parameter.name, "value": parameter.default },
    });
    if parameter.kind == "choice" {
        shown["choices"] = parameter.choices.clone().into();
    }
    shown
}

/// What a build's page tells beside its own fields: causes, parameters, the commit, test results.
fn actions(run: &PipelineRun) -> Json {
    let (class, words) = build::cause(run);
    let cause = run.spec.cause.clone().unwrap_or_default();
    let mut told = json!({ "_class": class, "shortDescription": words });
    if let Some(user) = cause.user {
        told["userId"] = user.as_str().into();
        told["userName"] = user.into();
    }
    if let Some(up) = cause.upstream {
        told["upstreamProject"] = up.pipeline.into();
        told["upstreamBuild"] = up.number.into();
    }
    let mut all = vec![json!({ "_class": "hudson.model.CauseAction", "causes": [told] })];
    if !run.spec.parameters.is_empty() {
        let one = |given: &Given| {
            let class = if given.value.is_boolean() { "Boolean" } else { "String" };
            json!({ "_class": format!("hudson.model.{class}ParameterValue"), "name": given.name, "value": given.value })
        };
        let given: Vec<Json> = run.spec.parameters.iter().map(one).collect();
        all.push(json!({ "_class": "hudson.model.ParametersAction", "parameters": given }));
    }
    let status = build::status(run);
    if let Some(commit) = status.commit {
        let branch = status.branch.unwrap_or_default();
        all.push(json!({
            "_class": "hudson.plugins.git.util.BuildData",
            "lastBuiltRevision": { "SHA1": commit, "branch": [{ "SHA1": commit, "name": branch }] },
        }));
    }
    if let Some(tests) = status.tests {
        all.push(json!({
            "_class": "hudson.tasks.junit.TestResultAction", "urlName": "testReport",
            "totalCount": tests.total, "failCount": tests.failed, "skipCount": tests.skipped,
        }));
    }
    all.into()
}
