//! Processes in Pods: `sh`.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value as Json;

use super::{Far, at, directory, failed, flag, text};
use crate::{
    book,
    drive::Drive,
    hand::{Done, Step, named},
    run::world::Ask,
};

/// From here on exit codes tell of signals.
const SIGNALS: i32 = 128;
/// How long a process that was ended may take until its last words are heard.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Runs a script; gives its exit code and what it captured.
pub(super) async fn run(drive: &Arc<Drive>, ask: &Ask, script: String, capture: bool) -> Result<Done, super::Failure> {
    let at = at(drive, ask)?;
    let step = Step {
        key: named(&ask.key),
        directory: directory(ask),
        environment: ask.place.environment.iter().filter(|(name, _)| name != "POD_TEMPLATE").cloned().collect(),
        script,
        capture,
        // The runner starts it once, however often it is asked for by this key.
        follow: false,
    };
    let writer = book::of_step(&ask.key, ask.place.stage_id.as_deref());
    let done = drive.inner.hand.run(&at, &step, &drive.book, writer).await?;
    // A Pod that ends takes its processes with it: what such a one ends with is not the script's own word.
    match drive.inner.hand.gone(&at).filter(|_| done.code != 0) {
        Some(gone) => return Err(super::lost(gone)),
        None if done.code < SIGNALS => return Ok(done),
        None => {}
    }
    // Ended by a signal, perhaps before it is heard here that its Pod is to end.
    let api: Api<Pod> = Api::namespaced(drive.inner.client.clone(), &at.pod.namespace);
    match api.get_opt(&at.pod.name).await {
        Ok(Some(pod)) if pod.metadata.deletion_timestamp.is_none() => Ok(done),
        Ok(_) => Err(super::lost(format!("the Pod {} is being deleted", at.pod.name))),
        Err(error) => {
            tracing::debug!(%error, pod = %at.pod, "look whether a step was lost");
            Ok(done)
        }
    }
}

/// `sh`
pub(super) async fn shell(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let (output, status) = (flag(ask, "returnStdout"), flag(ask, "returnStatus"));
    if output && status {
        return Err(failed("sh: cannot use both returnStdout and returnStatus"));
    }
    let encoding = text(ask, "encoding");
    let latin = match encoding.to_ascii_lowercase().as_str() {
        "" | "utf-8" | "utf8" | "us-ascii" | "ascii" => false,
        "iso-8859-1" | "latin1" => true,
        _ => return Err(failed(format!("sh: the encoding {encoding} is not known: utf-8 and iso-8859-1 are"))),
    };
    let done = run(drive, ask, text(ask, "script").to_owned(), output).await?;
    if status {
        return Ok(done.code.into());
    }
    if done.code != 0 {
        return Err(failed(format!("script returned exit code {}", done.code)));
    }
    if !output {
        return Ok(Json::Null);
    }
    Ok(match latin {
        true => done.output.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
        false => String::from_utf8_lossy(&done.output).into_owned().into(),
    })
}

/// Ends the process of an ask that is interrupted, and hears its last words.
pub(super) async fn stop(drive: &Arc<Drive>, ask: &Ask) {
    if ask.name != "sh" {
        return;
    }
    let Ok(at) = at(drive, ask) else { return };
    let key = named(&ask.key);
    let ended = async {
        if let Err(error) = drive.inner.hand.call(&at, &["stop", &key], None).await {
            tracing::debug!(%error, step = ask.key, "end a step");
            return;
        }
        let step = Step { key: key.clone(), follow: true, ..Step::default() };
        let writer = book::of_step(&ask.key, ask.place.stage_id.as_deref());
        if let Err(error) = drive.inner.hand.run(&at, &step, &drive.book, writer).await {
            tracing::debug!(%error, step = ask.key, "hear a step's last words");
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, ended).await;
}
