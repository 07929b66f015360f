//! Git repositories: what a name leads to is asked each time; a commit that is here is not fetched again.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use git::{
    clone::{self, Options, Resolved},
    id::Id,
    remote::{Exchange, Remote, Ways},
    ssh::{Access, Agent, Dial, Patience, Stream, hosts::Known, keys::Key},
};
use oci::Digest;

use super::{
    Fetched, Fetching, KEPT,
    address::{Repository, over_ssh},
    kept::Kept,
};

/// The agent whose keys are shown: that of `--ssh default`, as in BuildKit.
const AGENT: &str = "default";
/// The secret with keys of hosts.
const KNOWN_HOSTS: &str = "GIT_KNOWN_HOSTS";

pub(super) async fn fetch(how: &Fetching, repository: &Repository) -> Result<Fetched> {
    let over_ssh = over_ssh(&repository.url)?;
    let scheme = repository.url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default();
    if !over_ssh && !matches!(scheme.as_str(), "http" | "https") {
        bail!("repositories are not fetched over {scheme}: write its https:// or ssh:// address");
    }
    let checksum = repository.checksum.as_deref();
    let kept = Kept::open(&how.directory)?;
    let matches = |id: &Id| checksum.is_none_or(|checksum| id.to_string().starts_with(&checksum.to_ascii_lowercase()));
    let fixed = match (Id::parse(&repository.reference), checksum.and_then(Id::parse)) {
        (Some(id), _) => Some(id),
        (None, Some(id)) if repository.by_commit => Some(id),
        (None, None) if repository.by_commit => bail!("fetch-by-commit requires a full commit as checksum"),
        _ => None,
    };
    if let Some(id) = &fixed
        && !matches(id)
    {
        bail!("expected checksum to match {}, got {id}", checksum.unwrap_or_default());
    }
    let credentials = if over_ssh { None } else { credentials(how, &repository.url).await? };
    // What a key of somebody's brought is not for others.
    let secret = over_ssh || credentials.is_some() || repository.url.contains('@');
    let key = |commit: &Id| {
        let Repository { url, subdirectory, keep_git_dir, submodules, commit_time, reference, .. } = repository;
        // What is kept of a repository without `.git` is the same wherever it comes from, but for submodules.
        let named = if *keep_git_dir == Some(true) { reference.as_str() } else { "" };
        let text = format!("{url}\n{subdirectory}\n{keep_git_dir:?}\n{submodules:?}\n{commit_time}\n{named}");
        let digest = Digest::sha256(text.as_bytes());
        format!("git-{commit}-{}", &digest.as_str()["sha256:".len()..][..16])
    };
    // A commit is what it is: nobody need be asked.
    if let Some(found) = fixed.filter(|_| !secret).and_then(|id| Some((kept.get(&key(&id))?, id))) {
        let ((directory, guard), id) = found;
        return Ok(Fetched { directory, file: None, identity: key(&id), guard });
    }
    let ways = ways(how).await?;
    let remote = Remote::open(&repository.url, credentials.as_deref(), &ways).await?;
    let resolved = match fixed {
        Some(id) => Resolved { reference: None, id, commit: Some(id) },
        None => clone::resolve(&remote, &repository.reference).await?,
    };
    if !matches(&resolved.id) && !resolved.commit.as_ref().is_some_and(matches) {
        bail!("expected checksum to match {}, got {}", checksum.unwrap_or_default(), resolved.commit());
    }
    if let Some((directory, guard)) = kept.get(&key(resolved.commit())).filter(|_| !secret) {
        return Ok(Fetched { directory, file: None, identity: key(resolved.commit()), guard });
    }
    let under_way = kept.begin()?;
    let options = Options {
        subdirectory: repository.subdirectory.clone(),
        keep: repository.keep_git_dir == Some(true) && repository.subdirectory.is_empty(),
        skip_modules: repository.submodules == Some(false),
        commit_time: repository.commit_time,
        scratch: under_way.scratch().to_owned(),
        ..Options::default()
    };
    let commit = clone::check_out(remote, &resolved, &under_way.tree(), &options, &ways).await?;
    let identity = key(&commit);
    let (directory, guard) = match secret {
        true => under_way.alone(),
        false => kept.put(&identity, under_way, KEPT)?,
    };
    Ok(Fetched { directory, file: None, identity, guard })
}

/// What is shown to a server of the web: a secret for its host or for all, else a token of the cluster's for its own.
async fn credentials(how: &Fetching, url: &str) -> Result<Option<String>> {
    let address = url.parse::<http::Uri>().context("its address")?;
    let host = address.host().unwrap_or_default().to_owned();
    let secrets = [
        (format!("GIT_AUTH_HEADER.{host}"), false),
        (format!("GIT_AUTH_TOKEN.{host}"), true),
        ("GIT_AUTH_HEADER".to_owned(), false),
        ("GIT_AUTH_TOKEN".to_owned(), true),
    ];
    let mut given = how.credentials(&secrets).await?;
    let secure = address.scheme_str() == Some("https") && address.port_u16().is_none_or(|port| port == 443);
    if given.is_none() && secure {
        given = how.client.token(&host).await?.map(|token| (token, true));
    }
    Ok(given.map(|(text, token)| match token {
        true => format!("basic {}", STANDARD.encode(format!("x-access-token:{text}"))),
        false => text,
    }))
}

/// Requests and connections of crate `git` by the connections of crate `image`. Over SSH with the key of whoever asked, or with their
/// agent's; hosts are known by what came along, by a secret, or to the machine. BuildKit believes whatever key a host shows while the
/// build begins: that is not done here.
async fn ways(how: &Fetching) -> Result<Ways> {
    let web = how.web()?;
    let dialled = web.clone();
    let dial: Dial = Arc::new(move |host, port| {
        let web = dialled.clone();
        Box::pin(async move {
            let stream = web.connect(&host, port).await.map_err(|error| std::io::Error::other(format!("{error:#}")))?;
            Ok(Box::new(stream) as Stream)
        })
    });
    let client = how.client.clone();
    let agent: Agent = Arc::new(move || {
        let client = client.clone();
        Box::pin(async move {
            let has = client.has_agent(AGENT).await.unwrap_or_else(|error| {
                // Clients that forward another one say that there is none of this name, in words alone.
                tracing::debug!(error = format!("{error:#}"), "a repository is fetched without an SSH agent");
                false
            });
            if !has {
                return Ok(None);
            }
            let stream = client.agent(AGENT).await.map_err(|error| std::io::Error::other(format!("{error:#}")))?;
            Ok(stream.map(|agent| Box::new(agent.stream) as Stream))
        })
    });
    let shown = how.client.ssh().await?;
    let mut keys = Vec::new();
    if let Some((text, passphrase)) = shown.key {
        keys.push(Key::read(text, passphrase).await.with_context(|| shown.place.clone())?);
    }
    let given = match shown.known_hosts {
        Some(text) => Some(text),
        None => how.credentials(&[(KNOWN_HOSTS.to_owned(), false)]).await?.map(|(text, _)| text),
    };
    let (place, keyless) = match shown.place.is_empty() {
        true => (format!("the build's --secret id={KNOWN_HOSTS},src=FILE"), "pass --ssh default".to_owned()),
        false => (format!("the key known_hosts of {}", shown.place), format!("{} has no private key", shown.place)),
    };
    let access = Access {
        dial,
        user: shown.user,
        keys,
        agent: Some(agent),
        hosts: Known::given_or_machines(given.as_deref(), &place).await,
        keyless,
        patience: Patience::default(),
    };
    let web: Exchange = Arc::new(move |request| {
        let web = web.clone();
        Box::pin(async move { web.send(request).await.map_err(|error| std::io::Error::other(format!("{error:#}"))) })
    });
    Ok(Ways { web, ssh: Some(Arc::new(access)) })
}
