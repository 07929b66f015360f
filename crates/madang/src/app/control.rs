//! The role `control`: API server, controllers and scheduler in one unprivileged process.

use anyhow::{Context, Result};
use apiserver::{ApiServer, User};
use http_body_util::BodyExt;
use store::Store;
use task::Task;

use super::Ready;
use crate::{config::Config, pki, sockets::Sockets};

/// Prefix length of a node's part of the pods' network.
const NODE_PREFIX: u8 = 22;

/// Starts everything; returns when the API answers.
pub async fn start(task: &Task, config: &Config, mut sockets: Sockets) -> Result<Ready> {
    let files = pki::Files::of(config);
    let store = if config.etcd.is_empty() {
        let dir = config.data_dir.join("store");
        Store::embedded(&dir, store::embedded::Options::default())
            .await
            .with_context(|| format!("open the store in {}", dir.display()))?
    } else {
        Store::etcd(&config.etcd).await.with_context(|| format!("connect to etcd at {}", config.etcd.join(", ")))?
    };
    let backups = store.clone();
    crate::backup::serve(task, config, backups)?;
    let authority = String::from_utf8(files.read("ca.crt")?)?;
    let settings = apiserver::Config {
        encryption_keys: files.path("control/encryption.keys"),
        token_key: files.path("control/service-account.key"),
        token_issuer: format!("https://kubernetes.default.svc.{}", config.cluster_domain),
        client_ca: authority.clone(),
        server_ca: authority.clone(),
        node_tls: Some(serve::tls::client_config(
            authority.as_bytes(),
            Some((&files.read("control/kubelet-client.crt")?, &files.read("control/kubelet-client.key")?)),
            &["http/1.1"],
        )?),
        front_proxy: Some(apiserver::config::FrontProxy {
            authority: String::from_utf8(files.read("front-proxy-ca.crt")?)?,
            certificate: files.read("control/front-proxy-client.crt")?,
            key: files.read("control/front-proxy-client.key")?,
        }),
        advertise: (config.node_ip, config.port("api")),
        service_cidr: (config.service_cidr.address, config.service_cidr.prefix),
        cluster_domain: config.cluster_domain.clone(),
        ..apiserver::Config::in_dir(&files.path("control"))
    };
    let server = ApiServer::start(task.child("api"), settings, store).await.context("start the API server")?;
    let tls = serve::tls::server_config(
        &files.read("control/apiserver.crt")?,
        &files.read("control/apiserver.key")?,
        Some(authority.as_bytes()),
    )?;
    let front = server.clone();
    let listening = task.child("listener");
    task.spawn(
        "listener",
        serve::http::serve(listening, sockets.tcp("api")?, Some(tls), serve::http::Limits::default(), move |request| {
            let front = front.clone();
            async move { front.handle(request).await }
        }),
    );
    let caches = controllers::caches::Caches::idle();
    let loops = task.child("loops");
    let client = |user: &str| in_process(&server, user, &[]);
    let account = |name: &'static str| {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
        in_process(&server, &format!("system:serviceaccount:kube-system:{name}"), &groups)
    };
    let settings = controllers::Config {
        cluster_cidr: (config.cluster_cidr.address, config.cluster_cidr.prefix),
        node_prefix: NODE_PREFIX.max(config.cluster_cidr.prefix),
        authority,
    };
    controllers::run(&loops, account, &caches, &settings);
    let sources = scheduler::Sources {
        pods: caches.pods.clone(),
        nodes: caches.nodes.clone(),
        namespaces: caches.namespaces.clone(),
        claims: caches.claims.clone(),
        volumes: caches.volumes.clone(),
        classes: caches.classes.clone(),
        budgets: caches.budgets.clone(),
    };
    scheduler::run(&loops, client("system:kube-scheduler"), sources);
    caches.start(&loops, &client("system:kube-controller-manager"));
    super::cluster::install(&loops, in_process(&server, "system:madang:control", &["system:masters"]), config);
    let (ready, answered) = tokio::sync::oneshot::channel();
    let _ = ready.send(());
    Ok(answered)
}

/// A client of the API server in this process, as `user` in `groups`.
fn in_process(server: &ApiServer, user: &str, groups: &[&str]) -> kube::Client {
    let groups = groups.iter().copied().chain(["system:authenticated"]).map(str::to_owned).collect();
    let user = User { name: user.to_owned(), groups, ..User::default() };
    let server = server.clone();
    // Fields are owned under upstream's names, by which tools know what controllers write.
    let agent = if user.name == "system:kube-scheduler" { "kube-scheduler" } else { "kube-controller-manager" };
    client::connection::in_process(move |mut request: http::Request<kube::client::Body>| {
        request.headers_mut().insert(http::header::USER_AGENT, http::HeaderValue::from_static(agent));
        request.extensions_mut().insert(user.clone());
        let (server, request) = (server.clone(), request.map(|body| body.map_err(Into::into).boxed_unsync()));
        async move { server.handle(request).await }
    })
}
