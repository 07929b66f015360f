//! `POST /images/NAME/push`.

use std::sync::Arc;

use ::image::push::{Progress, Push, State};
use http::Response;
use oci::Reference;
use serde_json::json;
use serve::Body;

use super::{
    access,
    create::short,
    credentials,
    message::{self, Messages, progress, status},
    reference,
};
use crate::{
    Engine,
    call::Call,
    error::{Error, Result},
};

/// Answers.
pub(crate) async fn answer(engine: &Engine, call: Call, name: &str) -> Result<Response<Body>> {
    let wanted = reference(name)?;
    if wanted.digest().is_some() {
        return Err(Error::invalid("cannot push a digest reference"));
    }
    let repository = wanted.repository();
    let wanted_domain = wanted.domain().to_owned();
    // Without a tag, in the path or beside it, all of them are meant.
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let names: Vec<Reference> = match call.query.filled("tag") {
        Some(tag) => vec![reference(&format!("{repository}:{tag}"))?],
        None if tagged => vec![wanted],
        None => {
            let all = engine.seen_images().into_iter().flat_map(|image| image.names);
            let all = all.filter_map(|name| Reference::parse(&name).ok());
            all.filter(|name| name.repository() == repository).collect()
        }
    };
    let missing = || {
        Error::missing(format!("An image does not exist locally with the tag: {}", familiar_repository(&repository)))
    };
    if names.is_empty() || names.iter().any(|name| engine.seen_image(&name.to_string()).is_none()) {
        return Err(missing());
    }
    let known = engine.credentials(wanted_domain.as_str(), credentials(&call)?).await?;
    let engine = engine.clone();
    let worker = engine.clone();
    message::stream(&engine, "push", move |messages| async move {
        messages.tell(status(format!("The push refers to repository [{repository}]"), "")).await;
        for name in names {
            let how = Push { access: access(&worker, known.clone()), progress: Some(told(&messages)) };
            let image =
                worker.seen_image(&name.to_string()).ok_or_else(|| Error::missing(format!("{name} is gone")))?;
            let pushed = worker.images().push(image.id.as_str(), &name, &how).await;
            let pushed = pushed.map_err(|error| Error::failed(format!("{error:#}")))?;
            let familiar = name.familiar();
            let image = worker.images().get(&name.to_string());
            super::tell(&worker, image.as_ref(), "push", &familiar, super::bare(&familiar));
            let tag = name.tag().unwrap_or("latest");
            let line = format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size);
            messages.tell(status(line, "")).await;
            let about = json!({"Tag": tag, "Digest": pushed.digest, "Size": pushed.size});
            messages.tell(json!({"progressDetail": {}, "aux": about})).await;
        }
        Ok(())
    })
    .await
}

fn familiar_repository(repository: &str) -> String {
    let familiar = Reference::parse(repository).map_or_else(|_| repository.to_owned(), |name| name.familiar());
    familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
}

/// Tells how layers go.
fn told(messages: &Messages) -> Arc<dyn Fn(Progress) + Send + Sync> {
    let messages = messages.clone();
    Arc::new(move |Progress { layer, state }| {
        let id = short(&layer);
        messages.hint(match state {
            State::Preparing => status("Preparing", &id),
            State::Waiting => status("Waiting", &id),
            State::Exists => status("Layer already exists", &id),
            State::Mounted(from) => status(format!("Mounted from {from}"), &id),
            State::Pushing { done, total } => progress("Pushing", &id, done, total),
            State::Pushed => status("Pushed", &id),
        });
    })
}
