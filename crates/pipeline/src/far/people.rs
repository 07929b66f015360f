//! What is waited for: time, people, other runs, resources.

use std::sync::Arc;

use client::cache::Key;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value as Json, json};

use super::{Failure, Far, failed, flag, text};
use crate::{
    drive::{Drive, Interruption, locks::Passed, sleep_until},
    kind::{
        self, Cause, Given, Named, PIPELINE, Parameter, Pipeline, PipelineRun, Question, RunSpec, UpstreamRun, short,
    },
    record::log::number,
    result::Result as Outcome,
    run::world::Ask,
};

fn milliseconds(ask: &Ask) -> i64 {
    let seconds = ask.arguments.get("seconds").and_then(Json::as_f64).unwrap_or_default();
    (seconds.clamp(0.0, 3e9) * 1000.0) as i64
}

/// `sleep`: until a time that stays the same after a restart.
pub(super) async fn sleep(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let until = match drive.noted(&ask.key).and_then(|note| note.as_i64()) {
        Some(until) => until,
        None => {
            let until = Timestamp::now().as_millisecond() + milliseconds(ask);
            drive.note(ask, until.into()).await?;
            until
        }
    };
    sleep_until(until).await;
    Ok(Json::Null)
}

/// A clock for what is done under it; the drive starts it.
pub(super) fn timer(ask: &Ask) -> Far {
    Ok(json!({"id": ask.key, "at": Timestamp::now().as_millisecond() + milliseconds(ask)}))
}

/// The clock is stopped.
pub(super) fn timer_over(drive: &Arc<Drive>, ask: &Ask) -> Far {
    drive.timer_is_over(text(ask, "id"));
    Ok(Json::Null)
}

/// The id of a question: what the script says, unless an earlier question of the run has it.
fn id_of(drive: &Drive, ask: &Ask) -> String {
    let given = text(ask, "id");
    let own = format!("{:x}", number(&ask.key) & 0xffff_ffff);
    if given.is_empty() {
        return own;
    }
    let given: String = given.chars().take(200).collect();
    // A reply that is there before its question was one to another.
    let taken = drive.object().borrow().spec.inputs.iter().any(|reply| reply.id == given) || drive.is_asked(&given);
    if taken { format!("{given}-{own}") } else { given }
}

/// `input`
pub(super) async fn input(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let id = match drive.noted(&ask.key).and_then(|note| Some(note.get("id")?.as_str()?.to_owned())) {
        Some(id) => id,
        None => {
            let id = id_of(drive, ask);
            drive.note(ask, json!({"id": id})).await?;
            id
        }
    };
    let field = |name: &str| Some(text(ask, name).to_owned()).filter(|text| !text.is_empty());
    let parameters: Vec<Parameter> =
        ask.arguments.get("parameters").and_then(Json::as_array).into_iter().flatten().map(parameter).collect();
    drive.tell(|story, now| {
        story.asks(Question {
            id: id.clone(),
            message: short(text(ask, "message")),
            ok: field("ok"),
            submitter: field("submitter"),
            submitter_parameter: field("submitterParameter"),
            stage: ask.place.stage_id.clone(),
            since: Some(now),
            parameters: parameters.clone(),
        });
    });
    let mut object = drive.object();
    let reply = loop {
        let found = object.borrow_and_update().spec.inputs.iter().find(|reply| reply.id == id).cloned();
        if let Some(reply) = found {
            break reply;
        }
        object.changed().await.map_err(|_| failed("the run is not watched any more"))?;
    };
    drive.tell(|story, _| story.answered(&id));
    let user = reply.user.clone().unwrap_or_else(|| "somebody".to_owned());
    let said = |text: String| drive.book.text(&format!("input {}", ask.key), 1, ask.place.stage_id.as_deref(), &text);
    if reply.abort {
        said(format!("Rejected by {user}\n"))?;
        return Err(Failure { class: "FlowInterruptedException", message: format!("Rejected by {user}") });
    }
    said(format!("Approved by {user}\n"))?;
    let mut values = Map::new();
    for parameter in &parameters {
        let given = reply.parameters.iter().find(|given| given.name == parameter.name).map(|given| given.value.clone());
        let default = match (&parameter.default, parameter.choices.first()) {
            (Json::Null, Some(first)) => first.as_str().into(),
            (default, _) => default.clone(),
        };
        values.insert(parameter.name.clone(), given.unwrap_or(default));
    }
    if let Some(name) = field("submitterParameter") {
        values.insert(name, user.into());
    }
    Ok(match values.len() {
        0 => Json::Null,
        // One answer alone comes without its name.
        1 => values.into_iter().next().map(|(_, value)| value).unwrap_or_default(),
        _ => Json::Object(values),
    })
}

/// A parameter as a script describes it.
fn parameter(described: &Json) -> Parameter {
    let field = |name: &str| described.get(name).and_then(Json::as_str).map(str::to_owned);
    let kind = field("kind").or_else(|| field("$class")).unwrap_or_else(|| "string".to_owned());
    let choices = match described.get("choices") {
        Some(Json::Array(all)) => all.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        Some(Json::String(text)) => text.lines().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    Parameter {
        name: field("name").unwrap_or_default(),
        kind: match kind.as_str() {
            "booleanParam" | "BooleanParameterDefinition" => "boolean",
            "choice" | "ChoiceParameterDefinition" => "choice",
            "password" => "password",
            "text" | "TextParameterDefinition" => "text",
            _ => "string",
        }
        .to_owned(),
        description: field("description").unwrap_or_default(),
        default: described.get("defaultValue").cloned().unwrap_or_default(),
        choices,
    }
}

/// What an interrupted ask leaves with others.
pub(super) fn forget(drive: &Arc<Drive>, ask: &Ask) {
    if &*ask.name == "input"
        && let Some(id) = drive.noted(&ask.key).and_then(|note| Some(note.get("id")?.as_str()?.to_owned()))
    {
        drive.tell(|story, _| story.answered(&id));
    }
}

/// `build`: a run of another pipeline of the namespace.
pub(super) async fn build(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let job = text(ask, "job").trim_start_matches("./").trim_start_matches('/').to_owned();
    let key = Key::new(&drive.key.namespace, &job);
    let pipeline = drive.inner.pipelines.get(&key).ok_or_else(|| failed(format!("No item named {job} found")))?;
    let given = ask.arguments.get("parameters").and_then(Json::as_array).into_iter().flatten();
    let parameters = given.filter_map(|one| {
        let value = one.get("value").or_else(|| one.get("defaultValue")).cloned().unwrap_or_default();
        Some(Given { name: one.get("name")?.as_str()?.to_owned(), value })
    });
    let cut: String = job.chars().take(200).collect();
    let name = format!("{cut}-{:08x}", number(&format!("{}/{}", drive.uid, ask.key)) & 0xffff_ffff);
    let me = drive.object().borrow().clone();
    let cause = Cause {
        kind: "upstream".into(),
        text: Some(format!("Started by {} #{}", me.spec.pipeline_ref.name, drive.begun.number)),
        upstream: Some(UpstreamRun {
            name: drive.key.name.to_string(),
            pipeline: me.spec.pipeline_ref.name.clone(),
            number: drive.begun.number,
        }),
        ..Cause::default()
    };
    let begun = kind::begun(&pipeline, cause.clone());
    let run = PipelineRun {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            generate_name: None,
            labels: Some([(PIPELINE.to_owned(), kind::label(&job))].into()),
            ..begun.metadata
        },
        spec: RunSpec {
            pipeline_ref: Named { name: job.clone() },
            parameters: parameters.collect(),
            cause: Some(cause),
            ..RunSpec::default()
        },
        status: None,
    };
    let key = Key::new(&drive.key.namespace, &name);
    let mut changes = drive.inner.waiters.wait("run", &key);
    let api: Api<PipelineRun> = Api::namespaced(drive.inner.client.clone(), &drive.key.namespace);
    match api.create(&PostParams::default(), &run).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(Failure::from(error)),
    }
    let wait = ask.arguments.get("wait").and_then(Json::as_bool).unwrap_or(true);
    if !wait {
        return Ok(json!({"name": name, "projectName": job}));
    }
    let mut seen = false;
    loop {
        changes.mark_unchanged();
        match drive.inner.runs.get(&key) {
            Some(run) => {
                seen = true;
                if let Some(status) = run.status.as_ref().filter(|status| status.phase.is_final()) {
                    let result = status.result.clone().unwrap_or_default();
                    let propagate = ask.arguments.get("propagate").and_then(Json::as_bool).unwrap_or(true);
                    let outcome = Outcome::named(&result).unwrap_or(Outcome::Failure);
                    if propagate && outcome > Outcome::Unstable {
                        return Err(failed(format!("{job} #{} completed with status {result}", status.number)));
                    }
                    let mut answer = json!({
                        "name": name, "projectName": job, "number": status.number, "currentResult": result,
                    });
                    if propagate {
                        answer["result"] = result.into();
                    }
                    return Ok(answer);
                }
            }
            None if seen => return Err(failed(format!("the run {name} was deleted"))),
            None => {}
        }
        changes.changed().await.map_err(|_| failed("the cluster is not watched any more"))?;
    }
}

/// `lock`
pub(super) async fn lock(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let resource = Some(text(ask, "resource")).filter(|name| !name.is_empty()).unwrap_or_else(|| text(ask, "label"));
    if resource.is_empty() {
        return Err(failed("lock needs a resource"));
    }
    let full = format!("{}/{resource}", drive.key.namespace);
    let holder = (drive.uid.clone(), ask.key.clone());
    if flag(ask, "skipIfLocked") {
        if !drive.inner.locks.take_if_free(&full, holder) {
            return Err(Failure { class: "FlowInterruptedException", message: format!("{resource} is locked") });
        }
    } else {
        drive.inner.locks.take(&full, holder).await;
    }
    Ok(json!({"id": ask.key, "resource": resource, "full": full}))
}

/// The block of a `lock` has ended.
pub(super) fn unlock(drive: &Arc<Drive>, ask: &Ask) -> Far {
    drive.inner.locks.give(text(ask, "full"), &(drive.uid.clone(), text(ask, "id").to_owned()));
    Ok(json!({"id": text(ask, "id")}))
}

/// `milestone`
pub(super) async fn milestone(drive: &Arc<Drive>, ask: &Ask) -> Far {
    // Without an ordinal they count in the order of the script, which the key tells.
    let counted = ask.key.split('/').next().and_then(|first| first.parse().ok()).unwrap_or_default();
    let ordinal = ask.arguments.get("ordinal").and_then(Json::as_i64).unwrap_or(counted);
    let name = drive.object().borrow().spec.pipeline_ref.name.clone();
    let key = Key::new(&drive.key.namespace, &name);
    let stands = drive.inner.pipelines.get(&key).and_then(|one| Some(one.status.as_ref()?.milestones.clone()));
    let stands = stands.unwrap_or_default();
    match drive.inner.locks.pass(&key.to_string(), ordinal, (drive.begun.number, &drive.uid), &stands) {
        Ok((kept, older)) => {
            // Known to whoever comes after a restart before anything follows from it.
            passed(drive, &key, &stands, &kept).await?;
            for uid in older {
                drive.inner.supersede(&uid, drive.begun.number);
            }
            Ok(json!({"ordinal": ordinal}))
        }
        Err(newer) => {
            let why = Interruption { message: format!("Superseded by #{newer}"), result: Outcome::NotBuilt };
            drive.interrupt(|key, _| key == ask.key, &why);
            std::future::pending().await
        }
    }
}

/// Writes into the pipeline's status what of its milestones was passed.
async fn passed(drive: &Drive, key: &Key, before: &Passed, now: &Passed) -> Result<(), Failure> {
    let gone =
        before.keys().filter(|ordinal| !now.contains_key(*ordinal)).map(|ordinal| (ordinal.to_string(), Json::Null));
    let kept = now.iter().map(|(ordinal, number)| (ordinal.to_string(), (*number).into()));
    let milestones: Map<String, Json> = gone.chain(kept).collect();
    let api: Api<Pipeline> = Api::namespaced(drive.inner.client.clone(), &key.namespace);
    let patch = Patch::Merge(json!({"status": {"milestones": milestones}}));
    match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        // A pipeline that was deleted has no further runs.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
