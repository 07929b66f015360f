//! What changes or ends something: deleting, snapshots, reloading, quitting. Switched off unless settings say otherwise.

use http::{Response, StatusCode};
use promql::parse;
use serve::{Body, body};

use super::{
    Asked,
    form::Form,
    json,
    parameter::{self, MAX_TIME, MIN_TIME},
    reply::{Answer, Failure, Kind, Reply},
    series::conditions,
};
use crate::{Metrics, storage::Storage};

fn allowed(asked: &Asked<'_>) -> Result<(), Failure> {
    let on = asked.metrics.settings().web.admin;
    if on { Ok(()) } else { Err(Failure::new(Kind::Unavailable, "admin APIs disabled")) }
}

async fn working<T: Send + 'static>(
    asked: &Asked<'_>,
    work: impl FnOnce(&Storage) -> tsdb::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let storage = asked.metrics.storage().clone();
    let done = tokio::task::spawn_blocking(move || work(&storage)).await;
    done.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?.map_err(Failure::from)
}

/// `/api/v1/admin/tsdb/delete_series`
pub async fn delete(asked: &Asked<'_>, form: &Form) -> Answer {
    allowed(asked)?;
    form.checked().map_err(Failure::bad)?;
    if form.all("match[]").is_empty() {
        return Err(Failure::bad("no match[] parameter provided"));
    }
    let start = parameter::time_or(form, "start", MIN_TIME)?;
    let end = parameter::time_or(form, "end", MAX_TIME)?;
    for text in form.all("match[]") {
        let matchers = parse::parse_selector(text).map_err(|error| Failure::parameter("match[]", error))?;
        working(asked, move |storage| storage.db().delete(&conditions(&matchers), start, end)).await?;
    }
    Ok(Reply::nothing())
}

/// `/api/v1/admin/tsdb/clean_tombstones`
pub async fn clean(asked: &Asked<'_>) -> Answer {
    allowed(asked)?;
    working(asked, |storage| storage.db().clean_deleted()).await?;
    Ok(Reply::nothing())
}

/// `/api/v1/admin/tsdb/snapshot`
pub async fn snapshot(asked: &Asked<'_>, form: &Form) -> Answer {
    allowed(asked)?;
    let skip = match form.first("skip_head") {
        "" => false,
        text => parameter::truth(text)
            .map_err(|error| Failure::parameter("skip_head", format!("unable to parse boolean: {error}")))?,
    };
    let path = working(asked, move |storage| storage.db().snapshot(!skip))
        .await
        .map_err(|failure| Failure::new(failure.kind, format!("create snapshot: {}", failure.message)))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut out = b"{\"name\":".to_vec();
    json::text(&mut out, &name);
    out.push(b'}');
    Ok(Reply::new(out))
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(body::full(text.into()));
    *response.status_mut() = status;
    response
}

fn disabled() -> Response<Body> {
    text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled.")
}

/// `/-/quit`
pub fn quit(metrics: &Metrics) -> Response<Body> {
    if !metrics.settings().web.lifecycle {
        return disabled();
    }
    let first = metrics.quit();
    let said = if first { "Requesting termination... Goodbye!" } else { "Termination already in progress." };
    text(StatusCode::OK, said)
}

/// `/-/reload`
pub async fn reload(metrics: &Metrics) -> Response<Body> {
    if !metrics.settings().web.lifecycle {
        return disabled();
    }
    match metrics.reload().await {
        Ok(()) => text(StatusCode::OK, ""),
        Err(error) => super::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error:#}\n")),
    }
}

/// What GET of either says.
pub fn only_post() -> Response<Body> {
    text(StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed")
}
