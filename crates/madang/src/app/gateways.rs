//! The gateway within the role `edge`: its sockets and its loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Result;
use gateway::{
    listen::{Given, Listeners},
    plan::Settings,
    proxy::Proxy,
    run::{self, Gateways},
};
use rustls::ServerConfig;
use serve::http::Limits;
use task::Task;

use crate::{config::Config, sockets::Sockets};

/// Names of the sockets, the port of listeners that each stands for, and whether with TLS.
const GIVEN: [(&str, u16, bool); 2] = [("gateway-http", 80, false), ("gateway-https", 443, true)];

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
    super::shown::show(&task, tls, move |page| proxy.tally.write(page)).await
}
