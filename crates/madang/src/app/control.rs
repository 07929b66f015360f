//! The role `control`: API server, controllers and scheduler in one unprivileged process.

use std::sync::{Arc, LazyLock, OnceLock};

use anyhow::{Context, Result};
use apiserver::{
    ApiServer, User,
    config::{Pages, WritePage},
};
use counts::{counter::Counts, page::Page, process};
use http_body_util::BodyExt;
use metrics::kube_state::{self, KubeState};
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
    let caches = controllers::caches::Caches::idle();
    let loops = task.child("loops");
    let state = Arc::new(OnceLock::<KubeState>::new());
    let settings = apiserver::Config { pages: pages(&state), ..settings };
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
    scheduler::run(&loops, client("system:kube-scheduler"), sources, &SCHEDULER);
    caches.start(&loops, &client("system:kube-controller-manager"));
    let reader = in_process(&server, "system:madang:control", &["system:masters"]);
    let told = kube_state::Settings::allowing(&config.metric_labels, &config.metric_annotations);
    let told = told.map_err(anyhow::Error::msg)?;
    let _ = state.set(KubeState::new(&loops, reader, told, state_of(&caches)));
    Ok(super::cluster::install(&loops, in_process(&server, "system:madang:control", &["system:masters"]), config))
}

/// What the loops of this process count, under the names of the programs that they are upstream, and what objects say.
fn pages(state: &Arc<OnceLock<KubeState>>) -> Pages {
    let controllers = counted(&CONTROLLERS, &["rest_client_"]);
    // Only controllers work off queues.
    let queues: WritePage = Arc::new(move || {
        let written = controllers();
        Box::pin(async move {
            let mut page = written.await;
            Counts::process().write(&mut page, "workqueue_");
            page
        })
    });
    let state = state.clone();
    let objects: WritePage = Arc::new(move || {
        let state = state.clone();
        Box::pin(async move {
            match state.get() {
                Some(state) => state.page().await,
                None => Page::default(),
            }
        })
    });
    let pages = [
        ("kube-scheduler", counted(&SCHEDULER, &["scheduler_", "rest_client_"])),
        ("kube-controller-manager", queues),
        ("kube-state-metrics", objects),
    ];
    Pages(pages.into_iter().map(|(name, write)| (name.to_owned(), write)).collect())
}

/// The families of `counts` that begin so, and the process.
fn counted(counts: &'static Counts, prefixes: &'static [&'static str]) -> WritePage {
    Arc::new(move || {
        let mut page = Page::default();
        prefixes.iter().for_each(|prefix| counts.write(&mut page, prefix));
        process::write(&mut page);
        Box::pin(async { page })
    })
}

/// What the scheduler counts, and what the other loops do.
static SCHEDULER: LazyLock<Counts> = LazyLock::new(Counts::default);
static CONTROLLERS: LazyLock<Counts> = LazyLock::new(Counts::default);

fn state_of(caches: &controllers::caches::Caches) -> kube_state::Sources {
    kube_state::Sources {
        pods: caches.pods.clone(),
        nodes: caches.nodes.clone(),
        leases: caches.leases.clone(),
        namespaces: caches.namespaces.clone(),
        services: caches.services.clone(),
        slices: caches.slices.clone(),
        endpoints: caches.endpoints.clone(),
        replica_sets: caches.replica_sets.clone(),
        deployments: caches.deployments.clone(),
        replication_controllers: caches.replication_controllers.clone(),
        jobs: caches.jobs.clone(),
        cron_jobs: caches.cron_jobs.clone(),
        daemon_sets: caches.daemon_sets.clone(),
        stateful_sets: caches.stateful_sets.clone(),
        budgets: caches.budgets.clone(),
        claims: caches.claims.clone(),
        volumes: caches.volumes.clone(),
        classes: caches.classes.clone(),
        autoscalers: caches.autoscalers.clone(),
        next_run: controllers::cron_job::next_run,
    }
}

/// A client of the API server in this process, as `user` in `groups`.
fn in_process(server: &ApiServer, user: &str, groups: &[&str]) -> kube::Client {
    let groups = groups.iter().copied().chain(["system:authenticated"]).map(str::to_owned).collect();
    let user = User { name: user.to_owned(), groups, ..User::default() };
    let server = server.clone();
    // Fields are owned under upstream's names, by which tools know what controllers write.
    let (agent, counts) = match user.name.as_str() {
        "system:kube-scheduler" => ("kube-scheduler", &*SCHEDULER),
        _ => ("kube-controller-manager", &*CONTROLLERS),
    };
    client::connection::in_process_counted(counts, move |mut request: http::Request<kube::client::Body>| {
        request.headers_mut().insert(http::header::USER_AGENT, http::HeaderValue::from_static(agent));
        request.extensions_mut().insert(user.clone());
        let (server, request) = (server.clone(), request.map(|body| body.map_err(Into::into).boxed_unsync()));
        async move { server.handle(request).await }
    })
}
