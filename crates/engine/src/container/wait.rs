//! Waiting for a container: `POST /containers/ID/wait`.
//!
//! The answer's head is sent at once and its body when the condition holds: clients begin to wait before they start.

use std::sync::Arc;

use http::Response;
use serde_json::json;
use serve::{Body, body};

use crate::{
    Engine, answer,
    call::Call,
    container::{Container, Progress},
    error::{Error, Result},
    model::record::Status,
};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

pub(crate) fn answer(engine: &Engine, container: &Arc<Container>, call: &Call) -> Result<Response<Body>> {
    let condition = match call.query.filled("condition") {
        None | Some("not-running") => Condition::NotRunning,
        Some("next-exit") => Condition::NextExit,
        Some("removed") => Condition::Removed,
        Some(other) => return Err(Error::invalid(format!("invalid condition: \"{other}\""))),
    };
    let mut progress = container.progress();
    let begun = progress.borrow_and_update().clone();
    let running = container.look(|record| matches!(record.state.status, Status::Running | Status::Restarting));
    let holds = move |now: &Progress| match condition {
        Condition::NotRunning => !running || now.exits > begun.exits || now.removed,
        Condition::NextExit => now.exits > begun.exits || now.removed,
        Condition::Removed => now.removed,
    };
    let (sender, body) = body::channel(1);
    engine.task().spawn_until_cancelled("wait", async move {
        let end = tokio::select! {
            end = progress.wait_for(holds) => end.map(|progress| progress.clone()),
            () = sender.closed() => return,
        };
        let Ok(end) = end else { return };
        let mut value = json!({"StatusCode": end.code});
        if !end.error.is_empty() {
            value["Error"] = json!({"Message": end.error});
        }
        let _ = sender.send(answer::line(&value)).await;
    });
    Ok(answer::typed(body, "application/json"))
}
