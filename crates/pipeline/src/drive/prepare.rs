//! What a run begins with: its number, its commit, its script, its variables. Found out once, and kept.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use client::cache::Key;
use jiff::Timestamp;
use kube::Api;
use serde_json::{Value as Json, json};

use super::Begun;
use crate::{
    kind::{Change, Phase, Pipeline, PipelineRun, RunStatus},
    operate::Inner,
    record::Record,
    result::Result as Outcome,
    run::{Start, changes::Commit},
    source::{self, Source},
    story::Story,
};

/// Names of those who may have broken a run.
const CULPRITS: usize = 100;
/// Bytes of a script.
const LONGEST: usize = 1 << 20;

/// The record of a run, and what it began with.
pub(super) async fn prepare(inner: &Arc<Inner>, run: &PipelineRun, story: &mut Story) -> Result<(Record, Begun)> {
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let record = inner.records.of(uid).context("the run's UID cannot name a directory")?;
    let path = record.start();
    let read = tokio::task::spawn_blocking(move || match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    });
    if let Some(bytes) = read.await?.context("read what the run began with")? {
        return Ok((record, serde_json::from_slice(&bytes).context("read what the run began with")?));
    }
    let key = Key::new(run.metadata.namespace.as_deref().unwrap_or_default(), &run.spec.pipeline_ref.name);
    let pipeline = match inner.pipelines.get(&key) {
        Some(pipeline) => pipeline,
        // Made a moment ago, perhaps: the run may be known before its pipeline is.
        None => {
            let api: Api<Pipeline> = Api::namespaced(inner.client.clone(), &key.namespace);
            let found = api.get_opt(&key.name).await?;
            Arc::new(found.with_context(|| format!("there is no Pipeline {key}"))?)
        }
    };
    let number = inner.number(&key);
    story.started(Timestamp::now());
    story.status.number = number;
    if run.spec.abort {
        bail!("ended before it began");
    }
    let begun = begin(inner, run, &pipeline, number).await?;
    let (kept, bytes) = (record.clone(), serde_json::to_vec(&begun)?);
    let written = tokio::task::spawn_blocking(move || {
        kept.create()?;
        kept.write(&kept.start(), &bytes)
    });
    written.await?.context("keep what the run begins with")?;
    Ok((record, begun))
}

async fn begin(inner: &Arc<Inner>, run: &PipelineRun, pipeline: &Pipeline, number: u64) -> Result<Begun> {
    let namespace = run.metadata.namespace.clone().unwrap_or_default();
    let (spec, name) = (&pipeline.spec, run.spec.pipeline_ref.name.clone());
    let path = spec.script_path.clone().unwrap_or_else(|| "Jenkinsfile".to_owned());
    let source = source::of(inner, &namespace, spec).await?;
    let wanted = run.spec.commit.clone().or_else(|| run.spec.branch.clone()).unwrap_or_default();
    let found = match &source {
        Some(source) => {
            Some(source.resolve(&wanted).await.with_context(|| format!("look for {wanted:?} in {}", source.url))?)
        }
        None => None,
    };
    let inline = run.spec.script.clone().or_else(|| spec.script.clone());
    let script = match (inline, &source, &found) {
        (Some(script), ..) => script,
        (None, Some(source), Some(found)) => {
            let scratch = inner.records.of(run.metadata.uid.as_deref().unwrap_or_default()).context("no record")?;
            source.file(found, &path, &scratch.dir().join("script"), LONGEST).await?
        }
        _ => bail!("the pipeline names neither a repository nor a script"),
    };
    if script.len() > LONGEST {
        bail!("the script has more than {LONGEST} bytes");
    }
    let branch = run.spec.branch.clone().or_else(|| found.as_ref()?.branch.clone());
    let short = branch.as_deref().map(|name| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned());
    let commit = found.as_ref().map(|found| found.commit.clone());
    let own = &run.metadata.name.clone().unwrap_or_default();
    let url = inner.settings.url.trim_end_matches('/');
    let mut environment: Vec<(String, String)> = vec![
        ("BUILD_NUMBER".into(), number.to_string()),
        ("BUILD_ID".into(), number.to_string()),
        ("BUILD_DISPLAY_NAME".into(), format!("#{number}")),
        ("BUILD_TAG".into(), format!("jenkins-{name}-{number}")),
        ("JOB_NAME".into(), name.clone()),
        ("JOB_BASE_NAME".into(), name.clone()),
        ("JENKINS_URL".into(), format!("{url}/jenkins/")),
        ("JOB_URL".into(), format!("{url}/jenkins/job/{namespace}/job/{name}/")),
        ("BUILD_URL".into(), format!("{url}/jenkins/job/{namespace}/job/{name}/{number}/")),
        ("RUN_NAME".into(), own.clone()),
        ("RUN_NAMESPACE".into(), namespace.clone()),
        ("CI".into(), "true".into()),
    ];
    if let Some(branch) = &short {
        match branch.strip_prefix("refs/tags/") {
            Some(tag) => {
                environment
                    .extend([("BRANCH_NAME".to_owned(), tag.to_owned()), ("TAG_NAME".to_owned(), tag.to_owned())]);
            }
            None => match change_request(branch) {
                Some((id, name)) => {
                    environment.push(("BRANCH_NAME".to_owned(), name));
                    // What is known of another change is not said of this one.
                    let known = run.spec.change.clone().filter(|change| change.id == id);
                    environment.extend(known.unwrap_or(Change { id, ..Change::default() }).variables());
                }
                None => environment.push(("BRANCH_NAME".into(), branch.clone())),
            },
        }
    }
    let scm = match (&source, &commit) {
        (Some(source), Some(commit)) => {
            json!({ "url": source.url, "commit": commit, "branch": short, "own": true })
        }
        _ => Json::Null,
    };
    let before = before(inner, &Key::new(&namespace, &name), number, run);
    let since = before.as_ref().and_then(|status| status.commit.as_deref());
    let commits = match (&source, &commit, since) {
        (Some(source), Some(commit), Some(since)) => {
            let scratch = inner.records.of(run.metadata.uid.as_deref().unwrap_or_default()).context("no record")?;
            match source.changes(since, commit, &scratch.dir().join("history")).await {
                Ok(commits) => commits,
                // Thrown away since, perhaps: the run is the first of what there is.
                Err(error) => {
                    tracing::info!(error = format!("{error:#}"), run = ?run.metadata.name, "what a run is the first to have");
                    Vec::new()
                }
            }
        }
        _ => Vec::new(),
    };
    let cause = run.spec.cause.clone().unwrap_or_default();
    let culprits = culprits(&commits, before.as_ref());
    let start = Start {
        name: if run.spec.script.is_some() || spec.script.is_some() { "script".into() } else { path },
        script,
        parameters: parameters(pipeline, run),
        own: Some(spec.parameters.iter().map(|parameter| parameter.name.clone()).collect()),
        environment,
        before: before.as_ref().and_then(|status| Outcome::named(status.result.as_deref()?)),
        scm,
        commits,
        cause: if cause.kind.is_empty() { "user".into() } else { cause.kind },
        ..Start::default()
    };
    Ok(Begun {
        start,
        number,
        branch: short,
        commit,
        url: source.map(|source: Source| source.url),
        account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        agents: spec.agents.clone(),
        deadline: spec.active_deadline_seconds,
        began: Some(Timestamp::now()),
        culprits,
    })
}

/// Who may have broken what: who has committed since the last run that went well.
fn culprits(commits: &[Commit], before: Option<&RunStatus>) -> Vec<String> {
    let carried = before.filter(|status| status.phase != Phase::Succeeded).map(|status| status.culprits.clone());
    let mut all: Vec<String> =
        commits.iter().map(|commit| commit.author.clone()).chain(carried.into_iter().flatten()).collect();
    all.retain(|name| !name.is_empty());
    all.sort();
    all.dedup();
    all.truncate(CULPRITS);
    all
}

/// Id and Jenkins' name of the change that a reference is of: `refs/pull/7/head` of GitHub and Gitea, `refs/merge-requests/7/head` of
/// GitLab.
fn change_request(reference: &str) -> Option<(String, String)> {
    let rest = reference.strip_prefix("refs/").unwrap_or(reference);
    let (kind, rest) = rest.split_once('/')?;
    let (id, end) = rest.split_once('/')?;
    let prefix = match (kind, end) {
        ("pull", "head" | "merge") => "PR",
        ("merge-requests", "head" | "merge") => "MR",
        _ => return None,
    };
    let plain = !id.is_empty() && id.len() < 20 && id.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| (id.to_owned(), format!("{prefix}-{id}")))
}

/// How the run before of the same branch ended.
fn before(inner: &Inner, pipeline: &Key, number: u64, run: &PipelineRun) -> Option<RunStatus> {
    let runs = inner.runs.list_in(&pipeline.namespace);
    let of_it = runs.iter().filter(|other| *other.spec.pipeline_ref.name == *pipeline.name);
    let ended = of_it.filter(|other| run.spec.branch.is_none() || other.spec.branch == run.spec.branch);
    let ended = ended.filter_map(|other| other.status.clone()).filter(|status| status.phase.is_final());
    ended.filter(|status| status.number < number).max_by_key(|status| status.number)
}

/// Values of parameters: those given, and defaults that the object says. Those of the script are the script's to say.
fn parameters(pipeline: &Pipeline, run: &PipelineRun) -> Vec<(String, Json)> {
    let mut all: Vec<(String, Json)> =
        run.spec.parameters.iter().map(|given| (given.name.clone(), given.value.clone())).collect();
    for parameter in &pipeline.spec.parameters {
        if all.iter().any(|(name, _)| *name == parameter.name) {
            continue;
        }
        let default = match (&parameter.default, &*parameter.kind) {
            (Json::Null, "boolean") => Json::Bool(false),
            (Json::Null, "choice") => parameter.choices.first().map_or(Json::Null, |first| json!(first)),
            (Json::Null, _) => json!(""),
            (default, _) => default.clone(),
        };
        all.push((parameter.name.clone(), default));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Given, Parameter};

    #[test]
    fn references_of_changes_are_known() {
        for (reference, expected) in [
            ("refs/pull/7/head", Some(("7", "PR-7"))),
            ("refs/pull/7/merge", Some(("7", "PR-7"))),
            ("refs/merge-requests/12/head", Some(("12", "MR-12"))),
            ("refs/heads/pull/7/head", None),
            ("pull/x/head", None),
            ("main", None),
        ] {
            let expected = expected.map(|(id, name)| (id.to_owned(), name.to_owned()));
            assert_eq!(change_request(reference), expected, "{reference}");
        }
    }

    #[test]
    fn who_broke_it_is_named_until_it_is_mended() {
        let commits =
            [Commit { author: "b".into(), ..Commit::default() }, Commit { author: "b".into(), ..Commit::default() }];
        let before = |phase: Phase| RunStatus { phase, culprits: vec!["a".into()], ..RunStatus::default() };
        assert_eq!(culprits(&commits, Some(&before(Phase::Failed))), ["a", "b"]);
        assert_eq!(culprits(&commits, Some(&before(Phase::Succeeded))), ["b"]);
        assert_eq!(culprits(&[], None), Vec::<String>::new());
    }

    #[test]
    fn parameters_are_what_is_given_and_else_their_defaults() {
        let parameter = |name: &str, kind: &str, default: Json, choices: &[&str]| Parameter {
            name: name.into(),
            kind: kind.into(),
            default,
            choices: choices.iter().map(ToString::to_string).collect(),
            ..Parameter::default()
        };
        let mut pipeline = Pipeline::default();
        pipeline.spec.parameters = vec![
            parameter("A", "string", json!("x"), &[]),
            parameter("B", "boolean", Json::Null, &[]),
            parameter("C", "choice", Json::Null, &["one", "two"]),
            parameter("D", "string", json!("y"), &[]),
        ];
        let mut run = PipelineRun::default();
        run.spec.parameters = vec![Given { name: "D".into(), value: json!("given") }];
        let found = parameters(&pipeline, &run);
        let value = |name: &str| found.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!(
            [value("A"), value("B"), value("C"), value("D")],
            [json!("x"), json!(false), json!("one"), json!("given")]
        );
    }
}
