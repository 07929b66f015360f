//! The socket: every request becomes an answer, errors too.

use http::{HeaderValue, Request, Response, header};
use serve::{Body, http::Limits};
use task::Task;
use tokio::net::UnixListener;

use crate::{Engine, call::Call, rest::Rest, route};

/// Serves `listener` until `task` ends.
pub async fn serve(task: Task, listener: UnixListener, engine: Engine) {
    let server = format!("Madang/{} (linux)", engine.settings().version);
    let server = HeaderValue::from_str(&server).unwrap_or(HeaderValue::from_static("Madang"));
    let handler = move |request| answer(engine.clone(), server.clone(), request);
    serve::http::serve_unix(task, listener, Limits::default(), handler).await;
}

async fn answer(engine: Engine, server: HeaderValue, request: Request<Body>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (parts, body) = request.into_parts();
    let (body, rest) = Rest::of(body);
    let answered = match Call::new(Request::from_parts(parts, body)) {
        Ok(call) => route::answer(&engine, call).await,
        Err(error) => Err(error),
    };
    if answered.is_err() {
        rest.read().await;
    }
    let mut response = answered.unwrap_or_else(|error| {
        if error.status.is_server_error() {
            tracing::warn!(%method, path, %error, "request failed");
        } else {
            tracing::debug!(%method, path, %error, "request refused");
        }
        error.response()
    });
    let headers = response.headers_mut();
    headers.insert("api-version", HeaderValue::from_static(crate::system::API_VERSION));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert(header::SERVER, server);
    response
}
