//! The gateway within the role `edge`: its sockets, its loop, and the page of what it counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use counts::{page, page::Page};
use gateway::{
    listen::{Given, Listeners},
    plan::Settings,
    proxy::Proxy,
    run::{self, Gateways},
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use rustls::ServerConfig;
use serve::{Body, Peer, body, http::Limits};
use task::Task;
use tokio::net::TcpListener;

use crate::{config::Config, sockets::Sockets};

/// Names of the sockets, the port of listeners that each stands for, and whether with TLS.
const GIVEN: [(&str, u16, bool); 2] = [("gateway-http", 80, false), ("gateway-https", 443, true)];

/// Who may read what is counted.
const READER: &str = "system:madang:edge";

/// Starts the gateway; tells where it shows what it counts, over TLS to clients with a certificate.
pub async fn start(
    task: &Task,
    config: &Config,
    sockets: &mut Sockets,
    client: kube::Client,
    tls: Arc<ServerConfig>,
) -> Result<SocketAddr> {
    let task = task.child("gateway");
    let proxy = Proxy::new(&task);
    let mut given = Vec::new();
    let mut ports = BTreeMap::new();
    for (name, standing_for, secure) in GIVEN {
        let listener = sockets.tcp(name)?;
        ports.insert(standing_for, listener.local_addr()?.port());
        given.push(Given { listener, secure });
    }
    let listeners = Listeners::new(&task, proxy.clone(), Limits::default(), given)?;
    let settings =
        Settings { address: IpAddr::from(config.node_ip), ports, refused: BTreeSet::new(), doors: BTreeMap::new() };
    run::run(&task, Gateways { client, proxy: proxy.clone(), settings }, listeners);
    let shown = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for the gateway's metrics")?;
    let address = shown.local_addr()?;
    let handler = move |request: Request<Body>| {
        let answer = page_of(&proxy, &request);
        async move { answer }
    };
    let within = task.child("metrics");
    task.spawn("metrics", serve::http::serve(within, shown, Some(tls), Limits::default(), handler));
    Ok(address)
}

fn page_of(proxy: &Proxy, request: &Request<Body>) -> Response<Body> {
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
    proxy.tally.write(&mut written);
    let mut response = Response::new(body::full(written.text()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(page::MEDIA_TYPE));
    response
}
