//! Pages of what parts of the role `edge` count that have no listener of their own: on loopback, over TLS, for the process that collects.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use counts::{page, page::Page};
use http::{HeaderValue, Request, Response, StatusCode, header};
use rustls::ServerConfig;
use serve::{Body, Peer, body, http::Limits};
use task::Task;
use tokio::net::TcpListener;

/// Who may read what is counted.
const READER: &str = "system:madang:edge";

/// Serves a page, which `write` writes whenever somebody asks; tells where, over TLS to clients with a certificate.
pub async fn show(
    task: &Task,
    tls: Arc<ServerConfig>,
    write: impl Fn(&mut Page) + Send + Sync + 'static,
) -> Result<SocketAddr> {
    let shown = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for a part's metrics")?;
    let address = shown.local_addr()?;
    let write = Arc::new(write);
    let handler = move |request: Request<Body>| {
        let answer = page_of(&*write, &request);
        async move { answer }
    };
    let within = task.child("metrics");
    task.spawn("metrics", serve::http::serve(within, shown, Some(tls), Limits::default(), handler));
    Ok(address)
}

fn page_of(write: &impl Fn(&mut Page), request: &Request<Body>) -> Response<Body> {
    let asks = request.extensions().get::<Peer>().and_then(access::gate::shown);
    let refused = |status: StatusCode| {
        let mut response = Response::new(body::empty());
        *response.status_mut() = status;
        response
    };
    match asks {
        None => return refused(StatusCode::UNAUTHORIZED),
        Some(user) if user.name != READER => return refused(StatusCode::FORBIDDEN),
        Some(_) => {}
    }
    if request.uri().path() != "/metrics" {
        return refused(StatusCode::NOT_FOUND);
    }
    let mut written = Page::default();
    write(&mut written);
    let mut response = Response::new(body::full(written.text()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(page::MEDIA_TYPE));
    response
}
