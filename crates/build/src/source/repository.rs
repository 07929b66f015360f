//! Git repositories: what a name leads to is asked each time; a commit that is here is not fetched again.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use git::{
    clone::{self, Options, Resolved},
    id::Id,
    remote::{Exchange, Remote},
};
use oci::Digest;

use super::{Fetched, Fetching, KEPT, address::Repository, kept::Kept};

pub(super) async fn fetch(how: &Fetching, repository: &Repository) -> Result<Fetched> {
    let scheme = repository.url.split_once("://").map_or("ssh", |(scheme, _)| scheme).to_ascii_lowercase();
    match scheme.as_str() {
        "http" | "https" => {}
        "ssh" => bail!("repositories are not fetched over SSH yet: write its https:// address"),
        scheme => bail!("repositories are not fetched over {scheme}: write its https:// address"),
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
    let address = repository.url.parse::<http::Uri>().context("its address")?;
    let host = address.host().unwrap_or_default().to_owned();
    let secrets = [
        (format!("GIT_AUTH_HEADER.{host}"), false),
        (format!("GIT_AUTH_TOKEN.{host}"), true),
        ("GIT_AUTH_HEADER".to_owned(), false),
        ("GIT_AUTH_TOKEN".to_owned(), true),
    ];
    let mut given = how.credentials(&secrets).await?;
    if given.is_none() && scheme == "https" && address.port_u16().is_none_or(|port| port == 443) {
        given = how.client.token(&host).await?.map(|token| (token, true));
    }
    let credentials = given.map(|(text, token)| match token {
        true => format!("basic {}", STANDARD.encode(format!("x-access-token:{text}"))),
        false => text,
    });
    let secret = credentials.is_some() || repository.url.contains('@');
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
    let exchange = exchange(how)?;
    let remote = Remote::open(&repository.url, credentials.as_deref(), exchange.clone()).await?;
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
    let commit = clone::check_out(remote, &resolved, &under_way.tree(), &options, &exchange).await?;
    let identity = key(&commit);
    let (directory, guard) = match secret {
        true => under_way.alone(),
        false => kept.put(&identity, under_way, KEPT)?,
    };
    Ok(Fetched { directory, file: None, identity, guard })
}

/// Requests of crate `git` by the connections of crate `image`.
fn exchange(how: &Fetching) -> Result<Exchange> {
    let web = how.web()?;
    Ok(Arc::new(move |request| {
        let web = web.clone();
        Box::pin(async move { web.send(request).await.map_err(|error| std::io::Error::other(format!("{error:#}"))) })
    }))
}
